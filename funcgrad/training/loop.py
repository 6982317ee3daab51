"""Training: `fit` is a loop over epochs, an epoch a compiled loop of steps (`funcgrad.training.steps`).

    fitted = fit(jax.random.key(0), model, images, labels,
                 loss=make_loss("softmax"), optimizer=make_optimizer("adamw", 1e-3), epochs=10, batch_size=128)
    scores = predict(model, fitted.params, test_images)

Model, loss and optimizer come in as functions. The same key gives the same bits on one machine, one JAX version and one
mesh, whether a training runs through or is stopped and goes on. (With JAX 0.10, leave its persistent compilation
cache off for that: on a CPU, a program that it gives back may round otherwise than one that has just been compiled.)
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh
from jax.typing import ArrayLike

from funcgrad import sharding
from funcgrad.training import checkpoint as checkpoints
from funcgrad.training.batches import Feed, make_feed
from funcgrad.training.optimizers import OPTIMIZERS as OPTIMIZERS
from funcgrad.training.optimizers import SCHEDULES as SCHEDULES
from funcgrad.training.optimizers import make_optimizer as make_optimizer
from funcgrad.training.optimizers import make_schedule as make_schedule
from funcgrad.training.steps import (
    Augment,
    Loss,
    Mix,
    Model,
    Params,
    State,
    Sums,
    evaluate,
    no_sums,
    run_steps,
    turned,
    turned_loss,
    turned_model,
)
from funcgrad.training.validation import (
    check_counts,
    check_range,
    checked_examples,
    checked_validation,
    checked_weights,
)

_LOOK = 1.0  # seconds of training between two looks at whether to go on


class Checkpoint(NamedTuple):
    """Where and how often a training is kept, so that it can go on after it was stopped."""

    folder: str | Path
    every: int = 1  # epochs,
    seconds: float = 0.0  # and not before so many have passed
    keep: int | None = 3  # how many of the last stay; None: all
    resume: bool = False  # go on from the last one that is whole
    config: Mapping[str, Any] = MappingProxyType({})  # what else has to be the same when it goes on


class Fit(NamedTuple):
    """The outcome of `fit`."""

    params: Params  # after the last step
    best_params: Params  # after the epoch of highest validation accuracy; the last ones where nothing was validated
    history: dict[str, list[float]]  # train_loss, train_accuracy[, validation_loss, validation_accuracy], one an epoch
    epochs_done: int
    stopped_by: str  # "epochs", "patience", "interrupt", or "diverged": a loss or a gradient was not finite
    notes: tuple[str, ...] = ()  # what a user should know: a damaged checkpoint, where numbers were not finite


class Progress(NamedTuple):
    """All that a training is at one moment, and what a checkpoint holds."""

    state: State
    best_params: Params  # None: nothing was validated
    key_data: Any  # (2,) uint32
    epochs: int  # finished
    step: int  # steps done of the epoch after these,
    sums: Sums  # and what they gave
    best: float  # highest validation accuracy
    waited: int  # epochs since then
    history: dict[str, list[float]]


def fit(
    key: Array,
    model: Model,
    inputs: Any,
    labels: ArrayLike,
    *,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch_size: int,
    augment: Augment | None = None,
    mix: Mix | None = None,
    weights: ArrayLike | None = None,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
    patience: int | None = None,
    skip_nonfinite: bool = False,
    checkpoint: Checkpoint | None = None,
    mesh: Mesh | None = None,
    stream: bool | None = None,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
    on_steps: Callable[[int, int, dict[str, float]], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Fit:
    """Trains a model, all of it on the device.

    Args:
      key: `jax.random.key`; initialisation, order, augmentation and dropout come from it.
      model: `init(key, shape) → params`, `apply(params, x, *, key=None) → scores (num_classes,)`, for one example.
      inputs, labels: (N, …) and (N,) integers 0 … num_classes − 1.
      loss: (scores, label, params) → the loss of one example; see `funcgrad.losses.make_loss`.
      optimizer: any Optax transformation; see `make_optimizer`.
      epochs, batch_size: how often over all examples, how many a step (N if there are fewer). The last step of an
        epoch takes what is left.
      augment: (key, input) → input, for one example; see `funcgrad.training.augment`.
      mix: (key, input, other) → (mixed, share of the first), by which the loss is shared too: `augment.mixup`.
      weights: (N,) how much each example counts; 1 by default.
      validation: inputs and labels to measure after each epoch.
      patience: ends the training after so many epochs in which the validation accuracy did not rise.
      skip_nonfinite: leaves out a step whose loss or gradients are not finite, in place of ending the training.
      checkpoint: where the training is kept, and whether it goes on from there.
      mesh: devices that share each batch; see `funcgrad.sharding.make_mesh`. All processes of a run call `fit` alike.
      stream: whether the inputs stay on the host, a part being transferred while the one before trains. By default
        NumPy arrays and memory maps larger than 4 GiB do. The result is the same to the bit.
      on_epoch: called after each epoch with its number from 1 and its metrics.
      on_steps: called every second or so with the steps done, the steps of all epochs, and this epoch's means so far.
      should_stop: asked as often; once it says so, the training is kept (see `checkpoint`) and ends.

    Raises:
      ValueError: counts below 1, lengths that differ, labels out of the model's range, a checkpoint of another
        training (`checkpoint.Differs`), and whatever else does not fit together.
      OSError: a checkpoint could not be written; those before it are whole.
    """
    inputs, labels = checked_examples("", inputs, labels)
    check_counts(epochs=epochs, batch_size=batch_size, patience=patience)
    if patience is not None and validation is None:
        raise ValueError("patience: needs validation inputs and labels to watch")
    counted = checked_weights(weights, len(labels))
    size = sharding.batch_size_for(mesh, min(batch_size, len(labels)), len(labels))
    init_key, epochs_key = jax.random.split(key)
    model, loss = turned_model(model), turned_loss(loss)
    params = _init_params(init_key, model=model, shape=inputs.shape[1:])
    state = sharding.place_state(mesh, State(params, _init_optimizer(params, optimizer=optimizer)))
    check_range("labels", labels, model, state.params, inputs)
    measure = None
    if validation is not None:
        held_out = sharding.replicate(mesh, checked_validation(validation, inputs, model, state.params))
        measure = partial(_validate, inputs=held_out[0], labels=held_out[1], model=model, loss=loss)

    steps = -(-len(labels) // size)
    feed = make_feed(inputs, labels, counted, size, mesh=mesh, stream=stream)
    functions = {"model": model, "loss": loss, "optimizer": optimizer, "augment": augment, "mix": mix}
    functions["finite"] = "skip" if skip_nonfinite else "stop"

    def no_steps() -> Sums:
        return sharding.replicate(mesh, _no_sums(counted.dtype))

    best_params = None if measure is None else _copied(state.params)
    now = Progress(state, best_params, np.asarray(jax.random.key_data(epochs_key)), 0, 0, no_steps(), -1.0, 0, {})
    notes: list[str] = []
    with _kept(checkpoint, {"epochs": epochs, "batch_size": size, "examples": len(labels)}) as (restore, save):
        now, notes = restore(now)
        _check_alike(mesh, now.epochs * steps + now.step)
        saved, at = (now.epochs, now.step), time.perf_counter()
        stopped_by = ""
        while not stopped_by:
            if patience is not None and now.waited >= patience:
                stopped_by = "patience"
            elif now.epochs == epochs:
                stopped_by = "epochs"
            else:
                told = _of_all(on_steps, now.epochs * steps, epochs * steps)
                now, stopped_by = _run_epoch(now, feed, functions, told, should_stop, mesh)
                if stopped_by == "diverged":
                    notes.append(_not_finite(now))
                elif now.step == steps and (lost := _lost(now.state.params)):
                    stopped_by = "diverged"  # by the last step's update
                    notes.append(f"epoch {now.epochs + 1}, after its last step: {lost} is not finite")
            if now.step == steps and stopped_by != "diverged":
                if (skipped := int(now.sums.skipped)) > 0:
                    notes.append(f"{_not_finite(now)}; left out {skipped} of the {steps} steps of this epoch")
                now, measured = _finish(now._replace(sums=no_steps()), now.sums, measure)
                if on_epoch is not None:
                    on_epoch(now.epochs, measured)
            due = checkpoint is not None and now.step == 0 and now.epochs % checkpoint.every == 0
            if due and checkpoint is not None:  # all processes keep it, or none
                due = sharding.least(mesh, time.perf_counter() - at >= checkpoint.seconds) == [True]
            if (due or stopped_by) and stopped_by != "diverged" and saved != (now.epochs, now.step):
                saved, at = (now.epochs, now.step), time.perf_counter()
                save(now.epochs * steps + now.step, now)
    sharding.least(mesh, 0)  # no process leaves before the first has written what it kept
    best = now.state.params if now.best_params is None or now.best < 0 else now.best_params
    params, best = sharding.gathered((now.state.params, best))
    return Fit(turned(params), turned(best), now.history, now.epochs, stopped_by, tuple(notes))


@contextlib.contextmanager
def _kept(checkpoint: Checkpoint | None, config: Mapping[str, Any]) -> Iterator[tuple[Callable, Callable]]:
    """Two functions: what was kept instead of a fresh `Progress`, with notes; and keeping one, with its step."""
    if checkpoint is None:
        yield lambda now: (now, []), lambda step, now: None
        return
    folder, config = checkpoint.folder, {**checkpoint.config, **config}

    def restore(now: Progress) -> tuple[Progress, list[str]]:
        found = checkpoints.restore(folder, now, config=config) if checkpoint.resume else None
        if found is not None:
            return found.tree, list(found.notes)
        damaged = checkpoint.resume and checkpoints.steps(folder)
        return now, [f"every checkpoint in {folder} is damaged; the training starts anew"] if damaged else []

    check_counts(every=checkpoint.every)
    if not checkpoint.resume and jax.process_index() == 0:
        checkpoints.remove(folder)
    with checkpoints.saver(folder, config=config, keep=checkpoint.keep) as save:
        yield restore, lambda step, now: save(step, sharding.gathered(now))


def _run_epoch(
    now: Progress,
    feed: Feed,
    functions: Mapping[str, Any],
    told: Callable[[int, dict[str, float]], None] | None,
    should_stop: Callable[[], bool],
    mesh: Mesh | None,
) -> tuple[Progress, str]:
    """What is left of the epoch, and why it ended early: "interrupt", "diverged", or nothing."""
    pace = 1  # steps between two looks: as many as take a second, once we know
    number = np.int32(now.epochs + 1)
    for part in feed(now.key_data, now.epochs + 1, now.step):
        while now.step < part.stop:
            began, stop = time.perf_counter(), min(now.step + pace, part.stop)
            span = (np.int32(x) for x in (part.first, now.step - part.first, stop - part.first))
            state, sums = run_steps(
                now.state, now.sums, now.key_data, number, part.examples, part.order, *span, **functions
            )
            diverged = int(sums.bad_step) >= 0 and functions["finite"] == "stop"  # waits for the steps
            pace = max(1, int(_LOOK * (stop - now.step) / (time.perf_counter() - began)))
            now = now._replace(state=sharding.placed_like(state, now.state), sums=sums, step=stop)
            if diverged:
                return now, "diverged"
            if told is not None:
                loss, accuracy = sums.means
                told(stop, {"train_loss": float(loss), "train_accuracy": float(accuracy)})
            pace, goes_on = sharding.least(mesh, pace, not should_stop())  # all processes do the same steps
            if not goes_on:
                return now, "interrupt"
    return now, ""


def _of_all(
    on_steps: Callable[[int, int, dict[str, float]], None] | None, before: int, total: int
) -> Callable[[int, dict[str, float]], None] | None:
    return None if on_steps is None else lambda step, means: on_steps(before + step, total, means)


def _finish(now: Progress, sums: Sums, measure: Callable[[Params], Any] | None) -> tuple[Progress, dict[str, float]]:
    """The end of an epoch: what it gave goes into the history, and its parameters may be the best so far."""
    measured = dict(zip(("train_loss", "train_accuracy"), map(float, sums.means), strict=True))
    now = now._replace(epochs=now.epochs + 1, step=0)
    if measure is not None:
        loss, accuracy = map(float, measure(now.state.params))
        measured |= {"validation_loss": loss, "validation_accuracy": accuracy}
        now = now._replace(waited=now.waited + 1)
        if accuracy > now.best and np.isfinite(loss):
            now = now._replace(best=accuracy, waited=0, best_params=_copied(now.state.params))
    history = {name: [*now.history.get(name, []), value] for name, value in measured.items()}
    return now._replace(history=history), measured


def _check_alike(mesh: Mesh | None, step: int) -> None:
    """Raises `ValueError` in all processes unless all of them go on from the same step."""
    lowest, highest = sharding.least(mesh, step, -step)
    if lowest != -highest:
        raise ValueError(
            f"checkpoint: the processes found steps {lowest} to {-highest}; all of them have to see the same folder"
        )


@partial(jax.jit, static_argnames=("model", "shape"))
def _init_params(key: Array, *, model: Model, shape: tuple[int, ...]) -> Params:
    return model.init(key, shape)


@partial(jax.jit, static_argnames="optimizer")
def _init_optimizer(params: Params, *, optimizer: optax.GradientTransformation) -> Any:
    return optimizer.init(params)  # compiled, it holds arrays of its own: a step consumes each once


_no_sums = jax.jit(no_sums, static_argnums=0)


def _copied(params: Params) -> Params:
    return jax.tree.map(jnp.copy, params)  # the next step consumes the state


def _names(params: Params) -> list[str]:
    paths = [path for path, _ in jax.tree.leaves_with_path(params)]
    return [jax.tree_util.keystr(path, simple=True, separator=".") or "the parameters" for path in paths]


def _not_finite(now: Progress) -> str:
    """Which step of an epoch was the first whose numbers went wrong, in words."""
    array = int(now.sums.bad_array)
    what = "the loss" if array == 0 else f"the gradient of {_names(now.state.params)[array - 1]}"
    return f"epoch {now.epochs + 1}, step {int(now.sums.bad_step) + 1}: {what} is not finite"


def _lost(params: Params) -> str:
    """The first array of the parameters that is not finite."""
    finite = np.asarray(_finite(params))
    return "" if finite.all() else _names(params)[int(np.argmin(finite))]


@jax.jit
def _finite(params: Params) -> Array:
    return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(params)])


@partial(jax.jit, static_argnames=("model", "loss"))
def _validate(params: Params, inputs: Array, labels: Array, *, model: Model, loss: Loss) -> tuple[Array, Array]:
    losses, right = evaluate(model, params, inputs, labels, loss)
    return jnp.mean(losses), jnp.mean(right.astype(losses.dtype))


def predict(model: Model, params: Params, inputs: Any, *, batch_size: int = 4096) -> np.ndarray:
    """Scores (N, num_classes) of inputs (N, …), in batches: NumPy arrays may exceed the device's memory.

    Raises `ValueError` for inputs of a shape or number that the model cannot take.
    """
    inputs = inputs if hasattr(inputs, "dtype") else np.asarray(inputs)
    if inputs.ndim == 0 or not len(inputs):
        raise ValueError(f"inputs: needs (N, …) with N at least 1, got shape {inputs.shape}")
    model, params = turned_model(model), turned(params)
    batches = (jnp.asarray(inputs[i : i + batch_size]) for i in range(0, len(inputs), batch_size))
    return np.concatenate([np.asarray(_predict(params, batch, model=model)) for batch in batches])


@partial(jax.jit, static_argnames="model")
def _predict(params: Params, inputs: Array, *, model: Model) -> Array:
    return jax.vmap(model.apply, (None, 0))(params, inputs)
