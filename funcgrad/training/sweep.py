"""Many trainings in one vmapped program: settings × folds × seeds, over shared data in a shared order."""

import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from funcgrad.models import Model
from funcgrad.training import checkpoint as checkpoints
from funcgrad.training import steps
from funcgrad.training import validation as checks
from funcgrad.training.checkpoint import Checkpoint
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


class Hooks(NamedTuple):
    """How a sweep is saved and watched; see `funcgrad.crossval.sweep`."""

    checkpoint: Checkpoint = Checkpoint()
    on_epoch: Callable[[int, int], None] | None = None
    should_stop: Callable[[], bool] = lambda: False


class Member(NamedTuple):
    """What distinguishes one training from the others; of several trainings (R, …)."""

    setting: Any
    fold: Any  # int32: the fold that is held out
    seed: Any  # int32


Data = tuple[Examples, Array]  # and the fold of each example, (N,) int32
State = tuple[ModelState, Sums]  # of several trainings


def train_settings(
    key: Array,
    inputs: Any,
    labels: ArrayLike,
    fold_of: np.ndarray,
    settings: Any,
    sweep: Sweep,
    *,
    weights: ArrayLike | None = None,
    hooks: Hooks = Hooks(),  # noqa: B008, it is a constant
) -> tuple[np.ndarray, np.ndarray]:
    """Trains every setting × fold × seed without the examples of its fold and measures it on them.

    Settings are a tree of arrays (S, …); fold_of (N,) int32 is the fold of each example, -1 of those that are in every
    training. Trainings run in rounds that fit the memory; see `funcgrad.crossval.sweep`.

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
    shape: Any = next(iter(lengths.values())), int(fold_of.max()) + 1, sweep.seeds
    setting, fold, seed = np.indices(shape).reshape(3, -1).astype(np.int32)
    members = Member(jax.tree.map(lambda x: x[setting], settings), fold, seed)
    size = _round_size(len(fold), sweep, examples, jax.tree.map(lambda x: x[0], members.setting))
    seed_key, order_key = jax.random.split(key)
    plan = _Plan(seed_key, order_key, (examples, jnp.asarray(fold_of)), members, sweep, size)
    numbers = {"epochs": sweep.epochs, "batch_size": sweep.batch_size, "examples": len(labels)}
    made = {"trainings": shape, "trainings_at_once": size, "fold assignment": zlib.crc32(fold_of)}
    config = {**hooks.checkpoint.config, **numbers, **made, "key": jax.random.key_data(key).tolist()}
    results = _train_all(plan, hooks, config)
    accuracy, finite = (np.concatenate(parts)[: fold.size].reshape(shape) for parts in zip(*results, strict=True))
    return accuracy.astype(float), ~finite


class _Plan(NamedTuple):
    """What stays the same during a sweep. All rounds have `size` members, so that they share their programs."""

    seed_key: Array
    order_key: Array
    data: Data
    members: Member  # (R, …)
    sweep: Sweep
    size: int

    @property
    def rounds(self) -> int:
        return -(-len(self.members.fold) // self.size)

    @property
    def epoch_steps(self) -> int:
        return steps.steps_per_epoch(len(self.data[1]), self.sweep.batch_size)

    @property
    def round_steps(self) -> int:
        return self.sweep.epochs * self.epoch_steps

    def round(self, number: int) -> Member:
        rows = np.arange(number * self.size, (number + 1) * self.size) % len(self.members.fold)  # the last wraps around
        return jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[rows]), self.members)

    def start(self, members: Member) -> State:
        return _start(self.seed_key, members, sweep=self.sweep, shape=self.data[0].inputs.shape[1:])


def _train_all(plan: _Plan, hooks: Hooks, config: Mapping[str, Any]) -> list[list[list[Any]]]:
    """Accuracies, and whether all numbers stayed finite, round after round.

    Saved are the steps done in all rounds, the state of the round at hand, and the results of those before it.
    """
    checkpoint, on_epoch, should_stop = hooks
    fresh = {"state": plan.start(plan.round(0)), "results": list[Any]()}
    done, saved, _ = checkpoints.resumed(checkpoint, fresh, config)
    state, results = saved["state"], saved["results"]
    epochs, saved_at = plan.sweep.epochs, time.perf_counter()
    with checkpoints.saver(checkpoint.folder, config=config, keep=checkpoint.keep) as save:
        for number in range(done // plan.round_steps, plan.rounds):
            members, first = plan.round(number), max(0, done - number * plan.round_steps)
            state = plan.start(members) if number and not first else state
            training = _train_round(plan, members, state, first)
            for epoch, step, state in training:
                finished, stop = step == plan.round_steps, should_stop()
                if finished:
                    results = [*results, _measured(plan, members, state)]
                if epoch and on_epoch is not None:
                    on_epoch(number * epochs + epoch, plan.rounds * epochs)
                due = epoch and epoch % checkpoint.every == 0 and time.perf_counter() - saved_at >= checkpoint.seconds
                if finished or stop or due:
                    save(number * plan.round_steps + step, {"state": state, "results": results})
                    saved_at = time.perf_counter()
                if stop:
                    raise KeyboardInterrupt
    return results


def _train_round(plan: _Plan, members: Member, state: State, step: int) -> Iterator[tuple[int, int, State]]:
    """After every second or so: the number of the epoch that has ended (or 0), the steps done, and the state."""
    pace = 1  # steps in a call, which nothing can interrupt
    while step < plan.round_steps:
        epoch, first = divmod(step, plan.epoch_steps)
        began, stop = time.perf_counter(), min(first + pace, plan.epoch_steps)
        epoch_key, span = jax.random.fold_in(plan.order_key, epoch + 1), Span(*map(np.int32, (0, first, stop)))
        state = _run_steps(*state, epoch_key, span, plan.data, members, sweep=plan.sweep)
        jax.block_until_ready(state[1])
        pace = max(1, int(TUNING.poll_seconds * (stop - first) / (time.perf_counter() - began)))
        step += stop - first
        yield epoch + 1 if stop == plan.epoch_steps else 0, step, state


def _measured(plan: _Plan, members: Member, state: State) -> list[list[Any]]:
    accuracy, finite = _measure(state[0].params, plan.data, members, sweep=plan.sweep)
    return [np.asarray(accuracy).tolist(), (np.asarray(finite) & np.isfinite(state[1].loss)).tolist()]


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


def _round_size(count: int, sweep: Sweep, examples: Examples, setting: Any) -> int:
    """How many trainings are in memory at a time: as many as fit, in rounds of nearly equal size."""
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
    rounds = -(-count // max(1, min(count, fitting)))
    return -(-count // rounds)
