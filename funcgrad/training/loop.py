"""Training: `fit` is a loop over epochs, an epoch a compiled loop of steps (`funcgrad.training.steps`).

    fitted = fit(jax.random.key(0), model, images, labels,
                 loss=make_loss("softmax"), optimizer=make_optimizer("adamw", 1e-3), epochs=10, batch_size=128)
    scores = predict(model, fitted.params, test_images)

Model, loss and optimizer come in as functions. The same key gives the same bits on one machine, one JAX version and one
mesh, whether a training is interrupted and resumed or not, and whether its programs are compiled or come from JAX's
persistent cache (measured on a CPU with JAX 0.10.2 and 0.12).
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh
from jax.typing import ArrayLike

from funcgrad.losses import Loss
from funcgrad.models import Model, Params
from funcgrad.sharding import min_across_processes
from funcgrad.training import checkpoint as checkpoints
from funcgrad.training import steps
from funcgrad.training import validation as checks
from funcgrad.training.augment import Augment
from funcgrad.training.batches import Source, chunks, make_source
from funcgrad.training.checkpoint import Checkpoint
from funcgrad.training.evaluation import mean_metrics
from funcgrad.training.placement import batch_size_for, on_host, placed_like, replicate
from funcgrad.training.steps import Examples, Mix, ModelState, Recipe, Span, Sums
from funcgrad.training.tuning import TUNING, Tuning


class Fit(NamedTuple):
    """The outcome of `fit`."""

    params: Params  # after the last step
    best_params: Params  # after the epoch of highest validation accuracy; the last ones without validation
    history: dict[str, list[float]]  # train_loss, train_accuracy[, validation_loss, validation_accuracy] by epoch
    epochs_done: int
    stopped_by: str  # "epochs", "patience", "interrupt", or "diverged": a loss or a gradient was not finite
    notes: tuple[str, ...] = ()  # what a user should know: a damaged checkpoint, where numbers were not finite

    def __repr__(self) -> str:
        last = "".join(f", {name} {values[-1]:.4g}" for name, values in self.history.items())
        count = sum(np.size(x) for x in jax.tree.leaves(self.params))
        return f"Fit({self.epochs_done} epochs, stopped_by={self.stopped_by!r}{last}, {count:,} parameters)"


class TrainState(NamedTuple):
    """All that a training is at one moment, and what a checkpoint holds."""

    model: ModelState
    best_params: Params  # None: no validation
    key_data: Any  # (2,) uint32
    epochs: int  # finished epochs
    step: int  # steps done of the current epoch,
    sums: Sums  # and their totals
    best_accuracy: float  # highest validation accuracy; -1: none yet
    epochs_since_best: int
    history: dict[str, list[float]]


class _Run(NamedTuple):
    """What stays the same during a training."""

    recipe: Recipe
    source: Source
    held_out: tuple[Array, Array] | None  # validation inputs and labels
    epochs: int
    steps: int  # per epoch
    patience: int | None
    skip_nonfinite: bool
    mesh: Mesh | None
    poll_seconds: float
    on_epoch: Callable[[int, dict[str, float]], None] | None
    on_steps: Callable[[int, int, dict[str, float]], None] | None
    should_stop: Callable[[], bool]


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
    tuning: Tuning = TUNING,
) -> Fit:
    """Trains a model, with all computation on the device.

    Args:
      key: `jax.random.key`; initialisation, order, augmentation and dropout come from it.
      model: `init(key, shape) → params`, `apply(params, x, *, key=None) → scores (num_classes,)`, for one example.
      inputs, labels: (N, …) and (N,) integers 0 … num_classes - 1.
      loss: (scores, label, params) → the loss of one example; see `funcgrad.losses.make_loss`.
      optimizer: any Optax transformation; see `make_optimizer`.
      epochs, batch_size: passes over all examples, and examples a step (N if there are fewer). The last step of an
        epoch takes the examples that are left.
      augment: (key, input) → input, for one example; see `funcgrad.training.augment`.
      mix: (key, input, other) → (mixed, weight of the first), which also weights the two losses: `augment.mixup`.
      weights: (N,) how much each example counts; 1 by default.
      validation: inputs and labels to evaluate after each epoch.
      patience: ends the training after so many epochs without a rise of the validation accuracy.
      skip_nonfinite: skips a step whose loss or gradients are not finite instead of ending the training; the inputs
        may then be so, too.
      checkpoint: where the training is saved, and whether it is resumed from there.
      mesh: devices that share each batch; see `funcgrad.sharding.make_mesh`. All processes of a run call `fit` alike.
      stream: whether the inputs stay on the host and are transferred in chunks, each while the one before is trained
        on. By default NumPy arrays and memory maps above 4 GiB are. The result is the same to the bit.
      on_epoch: called after each epoch with its number from 1 and its metrics.
      on_steps: called about every second with the steps done, the steps of all epochs, and this epoch's means so far.
      should_stop: called as often; once it returns true, the training is saved (see `checkpoint`) and ends.
      tuning: how often those are called, and the size of streamed chunks.

    Raises:
      ValueError: counts below 1, lengths that differ, inputs that are not finite (the row is named), labels out of the
        model's range, a checkpoint of another
        training (`files.DifferentRun`), and other arguments that do not fit together.
      OSError: a checkpoint could not be written; earlier ones are intact.
    """
    finite = not skip_nonfinite
    inputs, labels = checks.checked_examples("", inputs, labels, finite=finite)
    checks.check_counts(epochs=epochs, batch_size=batch_size, patience=patience)
    if patience is not None and validation is None:
        raise ValueError("patience: needs validation inputs and labels to watch")
    examples = Examples(inputs, labels, checks.checked_weights(weights, len(labels)))
    size = batch_size_for(mesh, min(batch_size, len(labels)), len(labels))
    init_key, epochs_key = jax.random.split(key)
    model_state = replicate(mesh, _init_state(init_key, model=model, optimizer=optimizer, shape=inputs.shape[1:]))
    checks.check_labels("labels", labels, model, model_state.params, inputs)
    held_out = validation
    if held_out is not None:
        held_out = checks.checked_validation(held_out, inputs, model, model_state.params, finite=finite)
    run = _Run(
        recipe=Recipe(model, loss, optimizer, augment, mix),
        source=make_source(examples, size, mesh=mesh, stream=stream, tuning=tuning),
        held_out=replicate(mesh, held_out),
        epochs=epochs,
        steps=steps.steps_per_epoch(len(labels), size),
        patience=patience,
        skip_nonfinite=skip_nonfinite,
        mesh=mesh,
        poll_seconds=tuning.poll_seconds,
        on_epoch=on_epoch,
        on_steps=on_steps,
        should_stop=should_stop,
    )
    best_params = None if validation is None else _copied(model_state.params)
    sums = _zero_sums(run, examples.weights.dtype)
    state = TrainState(model_state, best_params, np.asarray(jax.random.key_data(epochs_key)), 0, 0, sums, -1.0, 0, {})
    checkpoint = checkpoint or Checkpoint()
    config = {**checkpoint.config, "epochs": epochs, "batch_size": size, "examples": len(labels)}
    state, notes = _resumed(state, checkpoint, config, run)
    with checkpoints.saver(checkpoint.folder, config=config, keep=checkpoint.keep) as save:
        saved_at = time.perf_counter()
        stopped_by = _end_of_training(run, state)
        while not stopped_by:
            state, interrupted = _run_epoch(run, state)
            state, stopped_by, note = _after_steps(run, state, interrupted)
            notes += [note] if note else []
            seconds = time.perf_counter() - saved_at
            if stopped_by != "diverged" and (stopped_by or _due(run, state, checkpoint, seconds)):
                save(state.epochs * run.steps + state.step, on_host(state))
                saved_at = time.perf_counter()
    min_across_processes(mesh, 0)  # no process leaves before the first has written its last checkpoint
    best = state.model.params if state.best_params is None or state.best_accuracy < 0 else state.best_params
    params, best = on_host((state.model.params, best))
    return Fit(params, best, state.history, state.epochs, stopped_by, tuple(notes))


_init_state = jax.jit(steps.init_state, static_argnames=("model", "optimizer", "shape"))
_zeros = jax.jit(steps.zero_sums, static_argnames="dtype")


@jax.jit
def _copied(params: Params) -> Params:
    return jax.tree.map(jnp.copy, params)  # the next step consumes the state


# Checkpoints


def _resumed(
    fresh: TrainState, checkpoint: Checkpoint, config: Mapping[str, Any], run: _Run
) -> tuple[TrainState, list[str]]:
    """The state to begin with: the saved one if there is one to resume from; and what a user should know about it.

    Raises `ValueError` in all processes unless they all have the same step.
    """
    checks.check_counts(every=checkpoint.every)
    _, state, notes = checkpoints.resumed(checkpoint, fresh, config)
    step = state.epochs * run.steps + state.step
    lowest, highest = min_across_processes(run.mesh, step, -step)
    if lowest != -highest:
        raise ValueError(
            f"checkpoint: the processes found steps {lowest} to {-highest}; all of them have to see the same folder"
        )
    return state, list(notes)


def _due(run: _Run, state: TrainState, checkpoint: Checkpoint, seconds: float) -> bool:
    """Whether to save after an epoch, so many seconds after the last time: in all processes, or in none."""
    if checkpoint.folder is None or state.epochs % checkpoint.every:
        return False
    return min_across_processes(run.mesh, seconds >= checkpoint.seconds) == [True]


# Epochs


def _run_epoch(run: _Run, state: TrainState) -> tuple[TrainState, bool]:
    """The state after the steps that are left of the epoch, and whether `should_stop` ended it.

    It also ends after a step that is not finite, unless such steps are skipped.
    """
    pace = 1  # steps between two polls: as many as take `poll_seconds`, once that is known
    epoch_key = state.key_data, np.int32(state.epochs + 1)
    options: dict[str, Any] = {"recipe": run.recipe, "nonfinite": "skip" if run.skip_nonfinite else "stop"}
    for chunk in chunks(run.source, state.key_data, state.epochs + 1, state.step):
        while state.step < chunk.stop:
            began, stop = time.perf_counter(), min(state.step + pace, chunk.stop)
            span = Span(*(np.int32(x) for x in (chunk.first, state.step - chunk.first, stop - chunk.first)))
            model, sums = steps.run_steps(
                state.model, state.sums, epoch_key, chunk.examples, chunk.order, span, **options
            )
            failed = int(sums.bad_step) >= 0 and not run.skip_nonfinite  # waits for the steps
            pace = max(1, int(run.poll_seconds * (stop - state.step) / (time.perf_counter() - began)))
            state = state._replace(model=placed_like(model, state.model), sums=sums, step=stop)
            if failed:
                return state, False
            if run.on_steps is not None:
                done = state.epochs * run.steps + stop
                run.on_steps(done, run.epochs * run.steps, _train_metrics(sums))
            pace, goes_on = min_across_processes(run.mesh, pace, not run.should_stop())  # alike in all processes
            if not goes_on:
                return state, True
    return state, False


def _after_steps(run: _Run, state: TrainState, interrupted: bool) -> tuple[TrainState, str, str]:
    """What follows from the steps just done: the state to go on from, why the training ends ("" if it goes on), a note.

    After the last step of an epoch its metrics are measured, and its parameters may be the best so far.
    """
    problem = _first_problem(state)
    if problem and not run.skip_nonfinite:
        return state, "diverged", problem
    if state.step < run.steps:
        return state, "interrupt", ""
    if name := _nonfinite_parameter(state.model.params):
        return state, "diverged", f"epoch {state.epochs + 1}, after its last step: {name} is not finite"
    note = f"{problem}; skipped {int(state.sums.skipped)} of the {run.steps} steps of this epoch" if problem else ""
    measured = _train_metrics(state.sums)
    state = state._replace(epochs=state.epochs + 1, step=0, sums=_zero_sums(run, state.sums.loss.dtype))
    if run.held_out is not None:
        loss, accuracy = mean_metrics(state.model.params, *run.held_out, model=run.recipe.model, loss=run.recipe.loss)
        measured |= {"validation_loss": float(loss), "validation_accuracy": float(accuracy)}
        state = state._replace(epochs_since_best=state.epochs_since_best + 1)
        if measured["validation_accuracy"] > state.best_accuracy and np.isfinite(measured["validation_loss"]):
            best = _copied(state.model.params)
            state = state._replace(best_params=best, best_accuracy=measured["validation_accuracy"], epochs_since_best=0)
    history = {name: [*state.history.get(name, []), value] for name, value in measured.items()}
    state = state._replace(history=history)
    if run.on_epoch is not None:
        run.on_epoch(state.epochs, measured)
    return state, "interrupt" if interrupted else _end_of_training(run, state), note


def _end_of_training(run: _Run, state: TrainState) -> str:
    """Why no other epoch follows; "" if one does."""
    if run.patience is not None and state.epochs_since_best >= run.patience:
        return "patience"
    return "epochs" if state.epochs == run.epochs else ""


def _zero_sums(run: _Run, dtype: Any) -> Sums:
    return replicate(run.mesh, _zeros(dtype=dtype))


def _train_metrics(sums: Sums) -> dict[str, float]:
    loss, accuracy = sums.means
    return {"train_loss": float(loss), "train_accuracy": float(accuracy)}


def _names(params: Params) -> list[str]:
    paths = [path for path, _ in jax.tree.leaves_with_path(params)]
    return [jax.tree_util.keystr(path, simple=True, separator=".") or "the parameters" for path in paths]


def _first_problem(state: TrainState) -> str:
    """The first step of an epoch whose loss or gradients were not finite, in words; "" if there is none."""
    step, array = int(state.sums.bad_step), int(state.sums.bad_array)
    if step < 0:
        return ""
    what = "the loss" if array == 0 else f"the gradient of {_names(state.model.params)[array - 1]}"
    return f"epoch {state.epochs + 1}, step {step + 1}: {what} is not finite"


def _nonfinite_parameter(params: Params) -> str:
    """The first array of the parameters that is not finite; "" if all are."""
    finite = np.asarray(_finite(params))
    return "" if finite.all() else _names(params)[int(np.argmin(finite))]


@jax.jit
def _finite(params: Params) -> Array:
    return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(params)])


def run_epoch(
    key: Array, number: int, state: ModelState, examples: Examples, batch_size: int, recipe: Recipe
) -> tuple[ModelState, float, bool]:
    """One epoch → the new state, its mean loss, and whether all numbers stayed finite. Consumes the state."""
    epoch_key = jax.random.key_data(key), np.int32(number)
    order = steps.order_of(*epoch_key, len(examples.labels), min(batch_size, len(examples.labels)))
    span = Span(*map(np.int32, (0, 0, len(order))))
    sums = _zeros(dtype=examples.weights.dtype)
    state, sums = steps.run_steps(state, sums, epoch_key, examples, order, span, recipe=recipe, nonfinite="stop")
    return state, float(sums.means[0]), int(sums.bad_step) < 0 and not _nonfinite_parameter(state.params)
