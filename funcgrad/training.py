"""Training: a step is a pure function, an epoch is one compiled scan of steps, `fit` is a loop over epochs.

    fitted = fit(jax.random.key(0), model, images, labels,
                 loss=make_loss("softmax"), optimizer=optax.adam(1e-3), epochs=10, batch_size=128)
    scores = predict(model, fitted.params, test_images)

Model, loss and optimizer come in as functions. The same key gives the same bits on one machine and one JAX version.
"""

from collections.abc import Callable
from functools import partial
from numbers import Real
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jax.typing import ArrayLike

Params = Any
Loss = Callable[[Array, Array, Params], Array]  # (scores, label, params) → the loss of one example
Augment = Callable[[Array, Array], Array]  # (key, image) → image


class Model(Protocol):
    """What training needs of a model; `funcgrad.models.Model` is one."""

    @property
    def init(self) -> Callable[..., Params]: ...
    @property
    def apply(self) -> Callable[..., Array]: ...


class State(NamedTuple):
    """All that a step changes."""

    params: Params
    opt_state: Any


class Fit(NamedTuple):
    """The outcome of `fit`."""

    params: Params  # after the last epoch
    best_params: Params  # after the epoch of highest validation accuracy; the last ones where nothing was validated
    history: dict[str, list[float]]  # train_loss, train_accuracy[, validation_loss, validation_accuracy], one an epoch
    epochs_done: int
    stopped_by: str  # "epochs", or "diverged" when the loss was no longer finite


class Batch(NamedTuple):
    inputs: Array  # (B, …)
    labels: Array  # (B,)
    weights: Array  # (B,) how much each example counts; 0 is not at all
    keys: Array  # (B,) one a example, for augmentation and dropout


def init_state(key: Array, model: Model, optimizer: optax.GradientTransformation, shape: tuple[int, ...]) -> State:
    params = model.init(key, shape)
    return State(params, optimizer.init(params))


def step(
    state: State,
    batch: Batch,
    *,
    model: Model,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    augment: Augment | None = None,
) -> tuple[State, tuple[Array, Array]]:
    """One update → the new state, and the weighted sums over the batch of (loss, right predictions)."""

    def one_example(params: Params, x: Array, label: Array, key: Array) -> tuple[Array, Array]:
        augment_key, dropout_key = jax.random.split(key)
        x = x if augment is None else augment(augment_key, x)
        scores = model.apply(params, x, key=dropout_key)
        return loss(scores, label, params), jnp.argmax(scores).astype(label.dtype) == label

    def mean_loss(params: Params) -> tuple[Array, tuple[Array, Array]]:
        losses, right = jax.vmap(one_example, (None, 0, 0, 0))(params, batch.inputs, batch.labels, batch.keys)
        total = jnp.sum(batch.weights * losses)
        return total / jnp.maximum(jnp.sum(batch.weights), 1), (
            total,
            jnp.sum(batch.weights * right.astype(total.dtype)),
        )

    gradients, sums = jax.grad(mean_loss, has_aux=True)(state.params)
    with jax.numpy_dtype_promotion(
        "standard"
    ):  # Optax mixes int32 and float32; a caller's strictness is for his own code
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    return State(optax.apply_updates(state.params, updates), opt_state), sums


def epoch(
    state: State,
    key: Array,
    inputs: Array,
    labels: Array,
    weights: Array,
    order: Array,
    *,
    batch_size: int,
    **functions: Any,
) -> tuple[State, tuple[Array, Array]]:
    """One pass over the examples in the given order (see `shuffled`) → the state, and the mean (loss, accuracy).

    The means are taken while the parameters change, dropout and augmentation included, as is usual for training curves.
    """
    batches = order.reshape(-1, batch_size)

    def body(state: State, numbered: tuple[Array, Array]) -> tuple[State, tuple[Array, Array]]:
        number, rows = numbered
        counts = jnp.where(rows < 0, 0, weights[rows])
        keys = jax.random.split(jax.random.fold_in(key, number), batch_size)
        return step(state, Batch(inputs[rows], labels[rows], counts, keys), **functions)

    state, sums = lax.scan(body, state, (jnp.arange(len(batches)), batches))
    counted = jnp.sum(weights)
    return state, (jnp.sum(sums[0]) / counted, jnp.sum(sums[1]) / counted)


def shuffled(key: Array, count: int, batch_size: int) -> Array:
    """A random order of `count` examples, filled up to whole batches with −1, which stands for none."""
    return jnp.pad(jax.random.permutation(key, count), (0, -count % batch_size), constant_values=-1)


@partial(jax.jit, static_argnames=("batch_size", "model", "loss", "optimizer", "augment"), donate_argnums=0)
def run_epoch(
    state: State, key: Array, number: Array, inputs: Array, labels: Array, *, batch_size: int, **functions: Any
) -> tuple[State, tuple[Array, Array]]:
    """Epoch `number` of a training with all examples counting alike. What it draws depends on key and number alone."""
    order_key, step_key = jax.random.split(jax.random.fold_in(key, number))
    order = shuffled(order_key, len(labels), batch_size)
    weights = jnp.ones(len(labels))
    return epoch(state, step_key, inputs, labels, weights, order, batch_size=batch_size, **functions)


def evaluate(model: Model, params: Params, inputs: Array, labels: Array, loss: Loss) -> tuple[Array, Array]:
    """Each example's loss and whether it is predicted right, (N,) each."""

    def one_example(example: tuple[Array, Array]) -> tuple[Array, Array]:
        scores = model.apply(params, example[0])
        return loss(scores, example[1], params), jnp.argmax(scores).astype(example[1].dtype) == example[1]

    return lax.map(one_example, (inputs, labels), batch_size=1024)


@partial(jax.jit, static_argnames=("model", "loss"))
def _validate(params: Params, inputs: Array, labels: Array, *, model: Model, loss: Loss) -> tuple[Array, Array]:
    losses, right = evaluate(model, params, inputs, labels, loss)
    return jnp.mean(losses), jnp.mean(right.astype(losses.dtype))


def fit(
    key: Array,
    model: Model,
    inputs: ArrayLike,
    labels: ArrayLike,
    *,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch_size: int,
    augment: Augment | None = None,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> Fit:
    """Trains a model; each epoch is one compiled program on the device.

    Args:
      key: `jax.random.key`; initialisation, order, augmentation and dropout come from it.
      model: `init(key, shape) → params`, `apply(params, x, *, key=None) → scores (num_classes,)`, for one example.
      inputs, labels: (N, …) and (N,) integers 0 … num_classes − 1.
      loss: (scores, label, params) → the loss of one example; see `funcgrad.losses.make_loss`.
      optimizer: any Optax transformation; see `make_optimizer`.
      epochs, batch_size: how often over all examples, how many a step (N if there are fewer). The last step of an
        epoch takes what is left.
      augment: (key, input) → input, for one example.
      validation: inputs and labels to measure after each epoch.
      on_epoch: called after each epoch with its number from 1 and its metrics.

    Raises:
      ValueError: epochs or batch_size below 1, lengths that differ, labels out of the model's range.
    """
    inputs, labels = checked_examples("", inputs, labels)
    check_counts(epochs=epochs, batch_size=batch_size)
    init_key, epochs_key = jax.random.split(key)
    state = jax.jit(partial(init_state, model=model, optimizer=optimizer, shape=inputs.shape[1:]))(init_key)
    check_range("labels", labels, model, state.params, inputs)
    held_out = None
    if validation is not None:
        if not isinstance(validation, tuple | list) or len(validation) != 2:
            raise ValueError(f"validation: needs a pair (inputs, labels), got {type(validation).__name__}")
        held_out = checked_examples("validation ", *validation)
        if held_out[0].shape[1:] != inputs.shape[1:]:
            raise ValueError(f"validation inputs: have shape {held_out[0].shape[1:]}, the inputs {inputs.shape[1:]}")
        check_range("validation labels", held_out[1], model, state.params, inputs)

    functions = {"model": model, "loss": loss, "optimizer": optimizer, "augment": augment}
    batch_size = min(batch_size, len(labels))
    history: dict[str, list[float]] = {}
    best_params, best = None, -np.inf

    def outcome(epochs_done: int, stopped_by: str) -> Fit:
        return Fit(state.params, state.params if best_params is None else best_params, history, epochs_done, stopped_by)

    for number in range(1, epochs + 1):
        state, (train_loss, train_accuracy) = run_epoch(
            state, epochs_key, np.int32(number), inputs, labels, batch_size=batch_size, **functions
        )
        measured = {"train_loss": float(train_loss), "train_accuracy": float(train_accuracy)}
        if held_out is not None:
            validation_loss, validation_accuracy = _validate(state.params, *held_out, model=model, loss=loss)
            measured |= {"validation_loss": float(validation_loss), "validation_accuracy": float(validation_accuracy)}
        for name, value in measured.items():
            history.setdefault(name, []).append(value)
        if on_epoch is not None:
            on_epoch(number, measured)
        if not np.isfinite(measured["train_loss"]):
            return outcome(number, "diverged")
        if held_out is not None and measured["validation_accuracy"] > best:
            best = measured["validation_accuracy"]
            best_params = jax.tree.map(jnp.copy, state.params)  # the next epoch consumes the state
    return outcome(epochs, "epochs")


def checked_examples(name: str, inputs: ArrayLike, labels: ArrayLike) -> tuple[Array, Array]:
    """Both as arrays, labels int32. Raises `ValueError` unless there is an integer label for each input."""
    wide = isinstance(labels, np.ndarray) and labels.dtype.kind in "iu" and labels.size > 0
    if wide and not -(2**31) <= np.min(labels) <= np.max(labels) < 2**31:  # JAX would wrap them around
        raise ValueError(f"{name}labels: go from {np.min(labels)} to {np.max(labels)}, beyond any number of classes")
    inputs, labels = jnp.asarray(inputs), jnp.asarray(labels)
    if labels.ndim != 1 or len(inputs) != len(labels) or not len(labels):
        raise ValueError(f"{name}labels: needs one for each of the {len(inputs)} inputs, got shape {labels.shape}")
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"{name}labels: needs integers, got {labels.dtype}")
    return inputs, labels.astype(jnp.int32)


def check_counts(**counts: int) -> None:
    """Raises `ValueError` for a count below 1."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name}: must be at least 1, got {count}")


def check_range(name: str, labels: Array, model: Model, params: Params, inputs: Array) -> None:
    """Raises `ValueError` for labels that are no class of the model."""
    num_classes = jax.eval_shape(model.apply, params, inputs[0]).shape[-1]
    if int(labels.min()) < 0 or int(labels.max()) >= num_classes:
        raise ValueError(
            f"{name}: go from {labels.min()} to {labels.max()}, the model has classes 0 … {num_classes - 1}"
        )


def predict(model: Model, params: Params, inputs: Any, *, batch_size: int = 4096) -> np.ndarray:
    """Scores (N, num_classes) of inputs (N, …), in batches: NumPy arrays may exceed the device's memory."""
    batches = (jnp.asarray(inputs[i : i + batch_size]) for i in range(0, len(inputs), batch_size))
    return np.concatenate([np.asarray(_predict(params, batch, model=model)) for batch in batches])


@partial(jax.jit, static_argnames="model")
def _predict(params: Params, inputs: Array, *, model: Model) -> Array:
    return jax.vmap(model.apply, (None, 0))(params, inputs)


# Optimizers and schedules, by their Optax names.

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adabelief": optax.adabelief,
    "adadelta": optax.adadelta,
    "adafactor": optax.adafactor,
    "adagrad": optax.adagrad,
    "adam": optax.adam,
    "adamax": optax.adamax,
    "adamaxw": optax.adamaxw,
    "adamw": optax.adamw,
    "adan": optax.adan,
    "amsgrad": optax.amsgrad,
    "fromage": optax.fromage,
    "lamb": optax.lamb,
    "lars": optax.lars,
    "lion": optax.lion,
    "momentum": partial(optax.sgd, momentum=0.9),
    "nadam": optax.nadam,
    "nadamw": optax.nadamw,
    "nesterov": partial(optax.sgd, momentum=0.9, nesterov=True),
    "novograd": optax.novograd,
    "radam": optax.radam,
    "rmsprop": optax.rmsprop,
    "sgd": optax.sgd,
    "sign_sgd": optax.sign_sgd,
    "yogi": optax.yogi,
}
_DECAY_MASK = {  # those that decay weights themselves, and what they call the choice of which weights
    "adamaxw": "mask",
    "adamw": "mask",
    "adan": "mask",
    "lamb": "mask",
    "lars": "weight_decay_mask",
    "lion": "mask",
    "nadamw": "mask",
}
SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {
    "constant": lambda rate, steps: optax.constant_schedule(rate),
    "cosine": optax.cosine_decay_schedule,
    "linear": lambda rate, steps: optax.linear_schedule(rate, 0.0, steps),
}


def make_optimizer(
    name: str,
    learning_rate: float | Array,
    *,
    schedule: str = "constant",
    steps: int = 1,
    warmup_steps: int = 0,
    weight_decay: float | Array = 0.0,
) -> optax.GradientTransformation:
    """An Optax optimizer by name, its learning rate following a schedule over so many steps.

    The schedule ("constant", "cosine" or "linear", the latter two down to 0 at `steps`) begins after `warmup_steps` of
    linear rise from 0. `weight_decay` is decoupled (Loshchilov and Hutter 2019, arXiv:1711.05101) and touches weights
    only, not biases; only the optimizers that have it take it.

    Raises `ValueError` for unknown names, a learning rate that is not above 0, a negative weight decay, or one for an
    optimizer without it.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer: {name!r} is unknown; choose one of {', '.join(OPTIMIZERS)}")
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule: {schedule!r} is unknown; choose one of {', '.join(SCHEDULES)}")
    given = isinstance(learning_rate, Real), isinstance(weight_decay, Real)  # else swept, and traced
    if given[0] and not (0 < learning_rate < float("inf")):
        raise ValueError(f"learning_rate: must be above 0 and finite, got {learning_rate}")
    if given[1] and not (0 <= weight_decay < float("inf")):
        raise ValueError(f"weight_decay: must be at least 0 and finite, got {weight_decay}")
    decays = name in _DECAY_MASK
    if not decays and not (given[1] and weight_decay == 0):
        raise ValueError(f"weight_decay: {name!r} has none; use an L2 penalty, or one of {', '.join(_DECAY_MASK)}")
    if not 0 <= warmup_steps < steps and warmup_steps:
        raise ValueError(f"warmup_steps: needs 0 … {steps - 1}, fewer than all steps; got {warmup_steps}")
    rate = SCHEDULES[schedule](learning_rate, steps - warmup_steps)
    if warmup_steps:
        rate = optax.join_schedules([optax.linear_schedule(0.0, learning_rate, warmup_steps), rate], [warmup_steps])
    options = {"weight_decay": weight_decay, _DECAY_MASK[name]: _weights_only} if decays else {}
    return OPTIMIZERS[name](rate, **options)


def _weights_only(params: Params) -> Params:
    return jax.tree.map(lambda x: x.ndim > 1, params)
