"""Steps of training: one is a pure function of (state, batch); `run_steps` compiles many of them as one loop.

Model, loss, optimizer and augmentations come in as functions, each for ONE example.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from funcgrad.losses import Loss
from funcgrad.models import Model, Params
from funcgrad.training.augment import Augment

Mix = Callable[[Array, Array, Array], tuple[Array, Array]]  # (key, input, other) → (mixed, weight of the first)


class Recipe(NamedTuple):
    """The functions of a training. Programs are compiled for them by their identity."""

    model: Model
    loss: Loss
    optimizer: optax.GradientTransformation
    augment: Augment | None = None
    mix: Mix | None = None


class ModelState(NamedTuple):
    """All that a step changes."""

    params: Params
    opt_state: Any


class Examples(NamedTuple):
    inputs: Any  # (N, …)
    labels: Any  # (N,) int32
    weights: Any  # (N,) how much each example counts; 0 is not at all


class Batch(NamedTuple):
    inputs: Array  # (B, …)
    labels: Array  # (B,)
    weights: Array  # (B,)
    keys: Array  # (B,) one per example, for augmentation and dropout


class Sums(NamedTuple):
    """Totals over the steps of an epoch so far."""

    loss: Array  # sum of the weighted losses,
    correct: Array  # of the weights of correctly predicted examples,
    weight: Array  # and of all weights
    skipped: Array  # steps skipped because their loss or gradients were not finite
    bad_step: Array  # the first step whose loss or gradients were not finite; -1: none
    bad_array: Array  # what was not finite in it: 0 is the loss, i the gradient of leaf i - 1 of the parameters

    @property
    def means(self) -> tuple[Array, Array]:
        """Mean loss and accuracy."""
        return self.loss / self.weight, self.correct / self.weight


class Span(NamedTuple):
    """Which rows of an order to run: first … stop - 1; `offset` is the number in the epoch of the order's row 0."""

    offset: Any  # int32, all three
    first: Any
    stop: Any


def zero_sums(dtype: Any = jnp.float32) -> Sums:
    def full(value: int, dtype: Any) -> Array:
        return jnp.full((), value, dtype)  # each an array of its own, since a step consumes them

    return Sums(full(0, dtype), full(0, dtype), full(0, dtype), full(0, "int32"), full(-1, "int32"), full(-1, "int32"))


def init_state(key: Array, model: Model, optimizer: optax.GradientTransformation, shape: tuple[int, ...]) -> ModelState:
    params = model.init(key, shape)
    return ModelState(params, optimizer.init(params))


def gradients(params: Params, batch: Batch, recipe: Recipe) -> tuple[Params, tuple[Array, Array]]:
    """The gradient of the batch's mean loss, and the weighted sums of (loss, correct predictions)."""
    model, loss, _, augment, mix = recipe

    def one_example(params: Params, x: Array, label: Array, other: Array, other_label: Array, key: Array) -> Any:
        augment_key, dropout_key = jax.random.split(key)
        if augment is not None:
            x = augment(augment_key, x)
        if mix is not None:
            x, share = mix(jax.random.fold_in(augment_key, 1), x, other)
        scores = model.apply(params, x, key=dropout_key)
        value = loss(scores, label, params)
        if mix is not None:
            value = share * value + (1 - share) * loss(scores, other_label, params)
        return value, jnp.argmax(scores).astype(label.dtype) == label

    def mean_loss(params: Params) -> tuple[Array, tuple[Array, Array]]:
        others = (batch.inputs, batch.labels) if mix is None else (jnp.roll(x, 1, 0) for x in batch[:2])
        examples = batch.inputs, batch.labels, *others, batch.keys
        losses, correct = jax.vmap(one_example, (None, 0, 0, 0, 0, 0))(params, *examples)
        total = jnp.sum(batch.weights * losses)
        weight = jnp.sum(batch.weights)
        sums = total, jnp.sum(batch.weights * correct.astype(total.dtype))
        return total / jnp.where(weight > 0, weight, 1), sums

    return jax.grad(mean_loss, has_aux=True)(params)


def update(state: ModelState, gradient: Params, optimizer: optax.GradientTransformation) -> ModelState:
    with jax.numpy_dtype_promotion("standard"):  # Optax mixes int32 and float32, whatever the caller allows
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    return ModelState(optax.apply_updates(state.params, updates), opt_state)


def shuffled(key: Array, count: int, batch_size: int) -> Array:
    """A random order of `count` examples in batches (S, B), padded with -1, which stands for no example."""
    order = jnp.pad(jax.random.permutation(key, count), (0, -count % batch_size), constant_values=-1)
    return order.reshape(-1, batch_size)


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """How many steps `fit` takes in an epoch; the last one takes the examples that are left."""
    return -(-examples // min(batch_size, examples))


def batch_of(examples: Examples, rows: Array, key: Array) -> Batch:
    """The examples of these rows (B,); a negative row has weight 0."""
    weights = jnp.where(rows < 0, 0, examples.weights[rows])
    return Batch(examples.inputs[rows], examples.labels[rows], weights, jax.random.split(key, len(rows)))


def many_steps(
    state: ModelState,
    sums: Sums,
    key: Array,
    examples: Examples,
    order: Array,
    span: Span,
    recipe: Recipe,
    *,
    nonfinite: str | None,
) -> tuple[ModelState, Sums]:
    """The steps of this span of the order (S, B); what they draw depends on the key and their number in the epoch.

    nonfinite: what to do with a step whose loss or gradients are not finite: "stop" after it, "skip" it, or None, which
    does not check.
    """

    def body(carry: tuple[Array, ModelState, Sums]) -> tuple[Array, ModelState, Sums]:
        row, state, sums = carry
        number = span.offset + row
        batch = batch_of(examples, order[row], jax.random.fold_in(key, number))
        gradient, totals = gradients(state.params, batch, recipe)
        updated = update(state, gradient, recipe.optimizer)
        added = _added(sums, (*totals, jnp.sum(batch.weights)))
        if nonfinite is None:
            return row + 1, updated, added
        array = first_nonfinite(totals[0], gradient)
        ok, first = array < 0, sums.bad_step < 0
        failed = sums._replace(
            skipped=sums.skipped + 1,
            bad_step=jnp.where(first, number, sums.bad_step),
            bad_array=jnp.where(first, array, sums.bad_array),
        )
        if nonfinite == "skip":
            updated = jax.tree.map(partial(jnp.where, ok), updated, state)
        return row + 1, updated, jax.tree.map(partial(jnp.where, ok), added, failed)

    def unfinished(carry: tuple[Array, ModelState, Sums]) -> Array:
        row, _, sums = carry
        return (row < span.stop) & (sums.bad_step < 0) if nonfinite == "stop" else row < span.stop

    _, state, sums = lax.while_loop(unfinished, body, (jnp.asarray(span.first, jnp.int32), state, sums))
    return state, sums


def _added(sums: Sums, totals: tuple[Array, Array, Array]) -> Sums:
    loss, correct, weight = (old + new.astype(old.dtype) for old, new in zip(sums[:3], totals, strict=True))
    return sums._replace(loss=loss, correct=correct, weight=weight)


def _all_finite(x: Array, zero: Array) -> Array:
    """Whether all of x is finite; `zero` is a 0 that the compiler cannot fold."""
    if x.ndim < 2 or jax.default_backend() != "cpu":
        return jnp.isfinite(x).all()
    # 0 · x is NaN for what is not finite, else 0; XLA's CPU multiplies matrices faster than it reduces them. A plain
    # `isfinite` makes a step of the linear classifier 6 % slower.
    return jnp.isfinite(x @ jnp.full(x.shape[-1], zero, x.dtype)).all()


def first_nonfinite(loss: Array, gradient: Params) -> Array:
    """0 if the loss is not finite, i if leaf i - 1 of the gradient is the first that is not, -1 if all are."""
    zero = 0 * loss  # NaN if the loss is not finite, which then is the first in any case
    finite = jnp.stack([_all_finite(x, zero) for x in (loss, *jax.tree.leaves(gradient))])
    return jnp.where(finite.all(), -1, jnp.argmin(finite)).astype(jnp.int32)


@partial(jax.jit, static_argnames=("recipe", "nonfinite"), donate_argnames=("state", "sums"))
def run_steps(
    state: ModelState,
    sums: Sums,
    epoch_key: tuple[Any, Any],
    examples: Examples,
    order: Array,
    span: Span,
    *,
    recipe: Recipe,
    nonfinite: str,
) -> tuple[ModelState, Sums]:
    """`many_steps` of an epoch, compiled: one program for all spans. Consumes state and sums.

    epoch_key: the data (2,) uint32 of the training's key, and the number of the epoch.
    """
    step_key = epoch_keys(*epoch_key)[1]
    return many_steps(state, sums, step_key, examples, order, span, recipe, nonfinite=nonfinite)


@partial(jax.jit, static_argnames=("count", "batch_size"))
def order_of(key_data: Array, number: Array, count: int, batch_size: int) -> Array:
    """The order (S, B) of epoch `number`."""
    return shuffled(epoch_keys(key_data, number)[0], count, batch_size)


def epoch_keys(key_data: Array, number: Array) -> tuple[Array, Array]:
    """The keys of an epoch's order and of its steps, a function of the training's key and the epoch's number alone."""
    order_key, step_key = jax.random.split(jax.random.fold_in(jax.random.wrap_key_data(key_data), number))
    return order_key, step_key
