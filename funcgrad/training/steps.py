"""Steps of training: one is a pure function of (state, batch); many are one compiled loop.

Model, loss, optimizer and augmentations come in as functions, each for ONE example.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

Params = Any
Loss = Callable[[Array, Array, Params], Array]  # (scores, label, params) → the loss of one example
Augment = Callable[[Array, Array], Array]  # (key, input) → input
Mix = Callable[[Array, Array, Array], tuple[Array, Array]]  # (key, input, other) → (mixed, share of the first)


class Model(Protocol):
    """What training needs of a model; `funcgrad.models.Model` is one, and may also have an `apply_turned`."""

    @property
    def init(self) -> Callable[..., Params]: ...
    @property
    def apply(self) -> Callable[..., Array]: ...


class State(NamedTuple):
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
    keys: Array  # (B,) one a example, for augmentation and dropout


class Sums(NamedTuple):
    """What is known of the steps of an epoch so far."""

    loss: Array  # the weighted sums over the examples,
    right: Array
    weight: Array  # and of their weights
    skipped: Array  # how many steps were left out, their numbers not being finite
    bad_step: Array  # the first of which the loss or a gradient was not finite; -1: none
    bad_array: Array  # 0: it was the loss; 1 …: the gradient of that leaf of the parameters

    @property
    def means(self) -> tuple[Array, Array]:
        """Mean loss, and the share of right predictions."""
        return self.loss / self.weight, self.right / self.weight


def no_sums(dtype: Any = jnp.float32) -> Sums:
    zeros = (jnp.zeros((), dtype) for _ in range(3))  # arrays of their own: a step consumes each
    skipped, none = jnp.zeros((), jnp.int32), (jnp.full((), -1, jnp.int32) for _ in range(2))
    return Sums(next(zeros), next(zeros), next(zeros), skipped, next(none), next(none))


def init_state(key: Array, model: Model, optimizer: optax.GradientTransformation, shape: tuple[int, ...]) -> State:
    params = model.init(key, shape)
    return State(params, optimizer.init(params))


# While it is trained, a model holds its matrices as (outputs, inputs): the gradient of each is then one product with
# the batch of inputs as it lies, where (inputs, outputs) has XLA's CPU transpose that batch first, in every step.


def turned(tree: Any) -> Any:
    """The tree with its matrices transposed."""
    return jax.tree.map(lambda x: x.T if x.ndim == 2 else x, tree)


class Turned(NamedTuple):
    """A model of turned parameters."""

    init: Callable[..., Params]
    apply: Callable[..., Array]


def turned_model(model: Model) -> Turned:
    return _turned_model(model.init, model.apply, getattr(model, "apply_turned", None))


@lru_cache(maxsize=256)  # programs are compiled for functions by their identity
def _turned_model(
    init: Callable[..., Params], apply: Callable[..., Array], apply_turned: Callable[..., Array] | None
) -> Turned:
    def turned_init(key: Array, shape: tuple[int, ...]) -> Params:
        return turned(init(key, shape))

    def turned_apply(params: Params, x: Array, *, key: Array | None = None) -> Array:
        return apply(turned(params), x, key=key)

    return Turned(turned_init, apply_turned or turned_apply)


@lru_cache(maxsize=256)
def turned_loss(loss: Loss) -> Loss:
    return lambda scores, label, params: loss(scores, label, turned(params))


def gradients(
    params: Params, batch: Batch, *, model: Model, loss: Loss, augment: Augment | None = None, mix: Mix | None = None
) -> tuple[Params, tuple[Array, Array]]:
    """The gradient of the batch's mean loss, and the weighted sums of (loss, right predictions)."""

    def one_example(params: Params, x: Array, label: Array, other: Array, its_label: Array, key: Array) -> Any:
        augment_key, dropout_key = jax.random.split(key)
        share = None
        if augment is not None:
            x = augment(augment_key, x)
        if mix is not None:
            x, share = mix(jax.random.fold_in(augment_key, 1), x, other)
        scores = model.apply(params, x, key=dropout_key)
        value = loss(scores, label, params)
        if share is not None:
            value = share * value + (1 - share) * loss(scores, its_label, params)
        return value, jnp.argmax(scores).astype(label.dtype) == label

    def mean_loss(params: Params) -> tuple[Array, tuple[Array, Array]]:
        others = (batch.inputs, batch.labels) if mix is None else (jnp.roll(x, 1, 0) for x in batch[:2])
        examples = batch.inputs, batch.labels, *others, batch.keys
        losses, right = jax.vmap(one_example, (None, 0, 0, 0, 0, 0))(params, *examples)
        total = jnp.sum(batch.weights * losses)
        counted = jnp.sum(batch.weights)
        sums = total, jnp.sum(batch.weights * right.astype(total.dtype))
        return total / jnp.where(counted > 0, counted, 1), sums

    return jax.grad(mean_loss, has_aux=True)(params)


def update(state: State, gradient: Params, optimizer: optax.GradientTransformation) -> State:
    with jax.numpy_dtype_promotion("standard"):  # Optax mixes int32 and float32; a caller's strictness is his own
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    return State(optax.apply_updates(state.params, updates), opt_state)


def step(
    state: State, batch: Batch, *, optimizer: optax.GradientTransformation, **functions: Any
) -> tuple[State, tuple[Array, Array]]:
    """One update → the new state, and the weighted sums over the batch of (loss, right predictions)."""
    gradient, sums = gradients(state.params, batch, **functions)
    return update(state, gradient, optimizer), sums


def shuffled(key: Array, count: int, batch_size: int) -> Array:
    """A random order of `count` examples in batches (S, B), filled up with −1, which stands for none."""
    order = jnp.pad(jax.random.permutation(key, count), (0, -count % batch_size), constant_values=-1)
    return order.reshape(-1, batch_size)


def batch_of(examples: Examples, rows: Array, key: Array) -> Batch:
    """The examples of these rows (B,); a negative one counts nothing."""
    weights = jnp.where(rows < 0, 0, examples.weights[rows])
    return Batch(examples.inputs[rows], examples.labels[rows], weights, jax.random.split(key, len(rows)))


def epoch(
    state: State,
    key: Array,
    examples: Examples,
    order: Array,
    *,
    optimizer: optax.GradientTransformation,
    **functions: Any,
) -> tuple[State, tuple[Array, Array]]:
    """One pass over the examples in the order (S, B) → the state, and the mean (loss, accuracy).

    The means are taken while the parameters change, dropout and augmentation included, as is usual for training curves.
    """
    sums = no_sums(examples.weights.dtype)
    span = 0, 0, len(order)
    state, sums = many_steps(state, sums, key, examples, order, *span, finite=None, optimizer=optimizer, **functions)
    return state, sums.means


def many_steps(
    state: State,
    sums: Sums,
    key: Array,
    examples: Examples,
    order: Array,
    offset: Any,
    first: Any,
    stop: Any,
    *,
    finite: str | None,
    optimizer: optax.GradientTransformation,
    **functions: Any,
) -> tuple[State, Sums]:
    """The steps first … stop − 1 of the order (S, B); what they draw depends on the key and their number in the epoch.

    offset: that number for the first row of the order. finite: what is done with the first step whose loss or gradients
    are not: "stop" after it, "skip" it and all like it, or None, which does not look.
    """

    def body(carry: tuple[Array, State, Sums]) -> tuple[Array, State, Sums]:
        number, state, sums = carry
        batch = batch_of(examples, order[number], jax.random.fold_in(key, offset + number))
        gradient, (loss, right) = gradients(state.params, batch, **functions)
        after = update(state, gradient, optimizer)
        if finite is None:
            return number + 1, after, _added(sums, loss, right, batch)
        array = _first_not_finite(loss, gradient, jnp.minimum(number, 0))
        ok = array < 0
        earlier = sums.bad_step >= 0
        said = sums._replace(
            skipped=sums.skipped + (~ok).astype(jnp.int32),
            bad_step=jnp.where(earlier | ok, sums.bad_step, offset + number),
            bad_array=jnp.where(earlier | ok, sums.bad_array, array),
        )
        if finite == "skip":
            after = jax.tree.map(partial(jnp.where, ok), after, state)
        sums = jax.tree.map(partial(jnp.where, ok), _added(sums, loss, right, batch), said)
        return number + 1, after, sums

    def more(carry: tuple[Array, State, Sums]) -> Array:
        number, _, sums = carry
        return (number < stop) & (sums.bad_step < 0) if finite == "stop" else number < stop

    _, state, sums = lax.while_loop(more, body, (jnp.asarray(first, jnp.int32), state, sums))
    return state, sums


def _added(sums: Sums, loss: Array, right: Array, batch: Batch) -> Sums:
    more = loss, right, jnp.sum(batch.weights)
    return sums._replace(
        **{name: old + new.astype(old.dtype) for name, old, new in zip(sums._fields, sums, more, strict=False)}
    )


def _all_finite(x: Array, zero: Array) -> Array:
    """Whether all of x is finite; zero: a 0 that the compiler does not know."""
    if x.ndim < 2 or jax.default_backend() != "cpu":
        return jnp.isfinite(x).all()
    # 0 · x is 0, and only of what is not finite it is NaN; XLA's CPU multiplies matrices faster than it reduces them.
    return jnp.isfinite(x @ jnp.full(x.shape[-1], zero, x.dtype)).all()


def _first_not_finite(loss: Array, gradient: Params, zero: Array) -> Array:
    """0 if the loss is not finite, i if leaf i − 1 of the gradient is the first that is not, −1 if all are."""
    finite = jnp.stack([jnp.isfinite(loss), *(_all_finite(x, zero) for x in jax.tree.leaves(gradient))])
    return jnp.where(finite.all(), -1, jnp.argmin(finite)).astype(jnp.int32)


@partial(
    jax.jit,
    static_argnames=("finite", "model", "loss", "optimizer", "augment", "mix"),
    donate_argnames=("state", "sums"),
)
def run_steps(
    state: State,
    sums: Sums,
    key_data: Array,
    number: Array,
    examples: Examples,
    order: Array,
    offset: Array,
    first: Array,
    stop: Array,
    **options: Any,
) -> tuple[State, Sums]:
    """`many_steps` of epoch `number`, compiled: one program for any first and stop. Consumes state and sums."""
    key = epoch_keys(key_data, number)[1]
    return many_steps(state, sums, key, examples, order, offset, first, stop, **options)


@partial(jax.jit, static_argnames=("count", "batch_size"))
def order_of(key_data: Array, number: Array, count: int, batch_size: int) -> Array:
    """The order (S, B) of epoch `number`."""
    return shuffled(epoch_keys(key_data, number)[0], count, batch_size)


def epoch_keys(key_data: Array, number: Array) -> tuple[Array, Array]:
    """The keys of an epoch: of its order, and of its steps. They depend on the training's key and the number alone."""
    order_key, step_key = jax.random.split(jax.random.fold_in(jax.random.wrap_key_data(key_data), number))
    return order_key, step_key


def evaluate(model: Model, params: Params, inputs: Array, labels: Array, loss: Loss) -> tuple[Array, Array]:
    """Each example's loss and whether it is predicted right, (N,) each."""

    def one_example(example: tuple[Array, Array]) -> tuple[Array, Array]:
        scores = model.apply(params, example[0])
        return loss(scores, example[1], params), jnp.argmax(scores).astype(example[1].dtype) == example[1]

    return lax.map(one_example, (inputs, labels), batch_size=1024)
