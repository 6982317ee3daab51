"""Many trainings in one vmapped program: settings × folds × seeds, over shared data in a shared order."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from funcgrad.models import Model
from funcgrad.training import steps
from funcgrad.training import validation as checks
from funcgrad.training.evaluation import evaluate
from funcgrad.training.steps import Examples, ModelState, Recipe, Span, Sums
from funcgrad.training.tuning import TUNING


class Sweep(NamedTuple):
    """What all trainings share."""

    model: Model
    loss: Callable[..., Array]  # (scores, label, params, setting) → the loss of one example
    optimizer: Callable[[Any], Any]  # setting → Optax transformation
    epochs: int
    batch_size: int
    seeds: int
    memory: int  # bytes, of the trainings that run at once

    def recipe(self, setting: Any) -> Recipe:
        def loss(scores: Array, label: Array, params: Any) -> Array:
            return self.loss(scores, label, params, setting)

        return Recipe(self.model, loss, self.optimizer(setting))


class Member(NamedTuple):
    """What distinguishes one training from the others; of several trainings (R, …)."""

    setting: Any
    fold: Any  # int32: the fold that is held out
    seed: Any  # int32


Data = tuple[Examples, Array]  # and the fold of each example, (N,) int32


def train_settings(
    key: Array,
    inputs: Any,
    labels: ArrayLike,
    fold_of: np.ndarray,
    settings: Any,
    sweep: Sweep,
    *,
    weights: ArrayLike | None = None,
    on_epoch: Callable[[int, int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Trains every setting × fold × seed without the examples of its fold and measures it on them.

    Settings are a tree of arrays (S, …); fold_of (N,) int32 is the fold of each example, -1 of those that are in every
    training. Trainings run in groups that fit the memory; on_epoch is called with (epochs done, epochs) of all groups.

    Returns the accuracies (S, folds, seeds), and which trainings diverged: a loss or a parameter was not finite.

    Raises `ValueError` for settings of different lengths, and for what `fit` refuses.
    """
    inputs, labels = checks.checked_examples("", inputs, labels)
    checks.check_counts(epochs=sweep.epochs, batch_size=sweep.batch_size, seeds=sweep.seeds)
    lengths = {
        jax.tree_util.keystr(path, simple=True, separator="."): x.shape[0] if x.ndim else None
        for path, x in jax.tree.leaves_with_path(settings)
    }
    if len(set(lengths.values())) != 1 or None in lengths.values():
        raise ValueError(f"settings: needs arrays of one length; got lengths {lengths}")
    shapes = jax.eval_shape(lambda key: sweep.model.init(key, inputs.shape[1:]), key)
    checks.check_labels("labels", labels, sweep.model, shapes, inputs)
    examples = Examples(*map(jnp.asarray, (inputs, labels, checks.checked_weights(weights, len(labels)))))
    data = examples, jnp.asarray(fold_of)
    shape: Any = next(iter(lengths.values())), int(fold_of.max()) + 1, sweep.seeds
    setting, fold, seed = np.indices(shape).reshape(3, -1).astype(np.int32)
    members = Member(jax.tree.map(lambda x: x[setting], settings), fold, seed)
    results = _train_all(key, data, members, sweep, on_epoch)
    accuracy, finite = (np.concatenate(parts)[: fold.size].reshape(shape) for parts in zip(*results, strict=True))
    return accuracy.astype(float), ~finite


def _train_all(
    key: Array, data: Data, members: Member, sweep: Sweep, on_epoch: Callable[[int, int], None] | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Accuracies, and whether all numbers stayed finite, group after group."""
    seed_key, order_key = jax.random.split(key)
    count, results, pace = len(members.fold), [], 1  # steps in a call, which nothing can interrupt
    size = _group_size(count, sweep, data[0], jax.tree.map(lambda x: x[0], members.setting))
    groups, epoch_steps = -(-count // size), steps.steps_per_epoch(len(data[1]), sweep.batch_size)
    for group in range(groups):
        rows = np.arange(group * size, (group + 1) * size) % count  # the last group wraps around: one program for all
        chosen = jax.tree.map(lambda x, rows=rows: jnp.asarray(np.asarray(x)[rows]), members)
        states, sums = _start(seed_key, chosen, sweep=sweep, shape=data[0].inputs.shape[1:])
        for number in range(1, sweep.epochs + 1):
            epoch_key, first = jax.random.fold_in(order_key, number), 0
            while first < epoch_steps:
                began, stop = time.perf_counter(), min(first + pace, epoch_steps)
                span = Span(*map(np.int32, (0, first, stop)))
                states, sums = _run_steps(states, sums, epoch_key, span, data, chosen, sweep=sweep)
                jax.block_until_ready(sums)
                pace, first = max(1, int(TUNING.poll_seconds * (stop - first) / (time.perf_counter() - began))), stop
            if on_epoch is not None:
                on_epoch(group * sweep.epochs + number, groups * sweep.epochs)
        accuracy, finite = _measure(states.params, data, chosen, sweep=sweep)
        results.append((np.asarray(accuracy), np.asarray(finite) & np.isfinite(sums.loss)))
    return results


@partial(jax.jit, static_argnames=("sweep", "shape"))
def _start(seed_key: Array, members: Member, *, sweep: Sweep, shape: tuple[int, ...]) -> tuple[ModelState, Sums]:
    def one(member: Member) -> tuple[ModelState, Sums]:
        key = jax.random.fold_in(seed_key, member.seed)
        state = steps.init_state(key, sweep.model, sweep.optimizer(member.setting), shape)
        return state, steps.zero_sums(jnp.result_type(float))

    return _vmapped(one, members)


@partial(jax.jit, static_argnames="sweep", donate_argnames=("states", "sums"))
def _run_steps(
    states: ModelState, sums: Sums, epoch_key: Array, span: Span, data: Data, members: Member, *, sweep: Sweep
) -> tuple[ModelState, Sums]:
    examples, fold_of = data
    order = steps.shuffled(epoch_key, len(fold_of), min(sweep.batch_size, len(fold_of)))

    def one(state: ModelState, sums: Sums, member: Member) -> tuple[ModelState, Sums]:
        others = examples._replace(weights=examples.weights * (fold_of != member.fold).astype(examples.weights.dtype))
        own_key = jax.random.fold_in(jax.random.fold_in(epoch_key, 1), member.seed)
        return steps.many_steps(state, sums, own_key, others, order, span, sweep.recipe(member.setting), nonfinite=None)

    return _vmapped(one, states, sums, members)


@partial(jax.jit, static_argnames="sweep")
def _measure(params: Any, data: Data, members: Member, *, sweep: Sweep) -> tuple[Array, Array]:
    examples, fold_of = data

    def one(params: Any, member: Member) -> tuple[Array, Array]:
        model, loss, *_ = sweep.recipe(member.setting)
        _, correct = evaluate(model, params, examples.inputs, examples.labels, loss)
        held_out = fold_of == member.fold
        finite = jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(params)]).all()
        return jnp.sum(held_out & correct) / jnp.sum(held_out), finite

    return _vmapped(one, params, members)


def _vmapped(fun: Callable[..., Any], *trees: Any) -> Any:
    """`jax.vmap(fun)(*trees)`; of one training, without an axis of length 1 in every matrix product."""
    if len(jax.tree.leaves(trees)[0]) > 1:
        return jax.vmap(fun)(*trees)
    return jax.tree.map(lambda x: jnp.expand_dims(x, 0), fun(*jax.tree.map(lambda x: x[0], trees)))


def _group_size(count: int, sweep: Sweep, examples: Examples, setting: Any) -> int:
    """How many trainings are in memory at a time: as many as fit, in groups of nearly equal size."""
    init = partial(
        steps.init_state, model=sweep.model, optimizer=sweep.optimizer(setting), shape=examples.inputs.shape[1:]
    )
    state = jax.eval_shape(init, jax.random.key(0))
    state_bytes, param_bytes = (sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(y)) for y in (state, state[0]))
    unit_bytes = sum(x.shape[0] * x.dtype.itemsize for x in jax.tree.leaves(state.params) if x.ndim)
    # The state before and after a step; gradients and updates; each layer's outputs, forward and backward.
    each = 2 * state_bytes + 2 * param_bytes + 4 * max(min(sweep.batch_size, len(examples.labels)), 1024) * unit_bytes
    fitting = sweep.memory // each
    if param_bytes > TUNING.vmapped_bytes and jax.default_backend() == "cpu":  # one fills the cores by itself
        fitting = 1
    groups = -(-count // max(1, min(count, fitting)))
    return -(-count // groups)
