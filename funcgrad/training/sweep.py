"""Many trainings in one vmapped program: settings × folds × seeds, over shared data in a shared order."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from funcgrad.training import steps

_CACHE = 2**21  # bytes of weights beyond which a training on a CPU gains nothing from being one of many
_LOOK = 1.0  # seconds between two calls of a program, within which nothing can interrupt


class Runs(NamedTuple):
    """What tells each training from the others, (R, …)."""

    setting: Any
    fold: Any  # int32: the one that is held out
    seed: Any  # int32


class Trained(NamedTuple):
    """What came of each training, (R,)."""

    accuracy: np.ndarray  # on its held-out fold
    diverged: np.ndarray  # bool: a loss, or what it learned, is not finite


def train_all(
    key: Array,
    model: steps.Model,
    examples: steps.Examples,
    fold_of: np.ndarray,
    runs: Runs,
    *,
    loss: Callable[..., Array],
    optimizer: Callable[[Any], Any],
    epochs: int,
    batch_size: int,
    memory: int,
    progress: Callable[[int, int], None] | None = None,
) -> Trained:
    """Trains every run without the examples of its fold, in groups that fit the memory, and measures it on them.

    fold_of: (N,) int32; memory: bytes; progress: called with (epochs done, epochs), of all groups.
    """
    count = len(runs.fold)
    one_setting = jax.tree.map(lambda x: x[0], runs.setting)
    size = _group_size(count, memory, model, examples, optimizer(one_setting), batch_size)
    groups = -(-count // size)
    over_runs = jax.vmap if size > 1 else _of_one
    programs = _compiled(key, model, loss, optimizer, examples.inputs.shape[1:], batch_size, over_runs)
    data = examples, jnp.asarray(fold_of)
    found = []
    for group in range(groups):
        rows = np.arange(group * size, (group + 1) * size) % count  # the last is filled up: one program for all
        some = jax.tree.map(lambda x, rows=rows: jnp.asarray(np.asarray(x)[rows]), runs)
        told = None if progress is None else partial(_tell, progress, group * epochs, groups * epochs)
        found.append(_train_group(programs, data, some, epochs, -(-len(fold_of) // batch_size), told))
    return Trained(*(np.concatenate(parts)[:count] for parts in zip(*found, strict=True)))


def _tell(progress: Callable[[int, int], None], before: int, total: int, done: int) -> None:
    progress(before + done, total)


class Programs(NamedTuple):
    """Compiled once for all groups."""

    start: Callable[..., Any]  # runs → states and sums
    run_steps: Callable[..., Any]  # states, sums, epoch, first, stop, data, runs → states and sums
    measure: Callable[..., Any]  # parameters, data, runs → accuracies, and whether all is finite


def _compiled(
    key: Array,
    model: steps.Model,
    loss: Callable[..., Array],
    optimizer: Callable[[Any], Any],
    shape: tuple[int, ...],
    batch_size: int,
    over_runs: Callable[..., Callable[..., Any]],
) -> Programs:
    seed_key, order_key = jax.random.split(key)
    model = steps.turned_model(model)

    def functions(setting: Any) -> dict[str, Any]:
        return {"model": model, "loss": partial(_bound, loss, setting), "optimizer": optimizer(setting)}

    @jax.jit
    def start(runs: Runs) -> tuple[steps.State, steps.Sums]:
        def one_run(run: Runs) -> tuple[steps.State, steps.Sums]:
            state = steps.init_state(jax.random.fold_in(seed_key, run.seed), model, optimizer(run.setting), shape)
            return state, steps.no_sums(jnp.result_type(float))

        return over_runs(one_run)(runs)

    @partial(jax.jit, donate_argnums=(0, 1))
    def run_steps(states: Any, sums: Any, number: Array, first: Array, stop: Array, data: Any, runs: Runs) -> Any:
        examples, fold_of = data
        key = jax.random.fold_in(order_key, number)
        order = steps.shuffled(key, len(fold_of), batch_size)

        def one_run(state: steps.State, sums: steps.Sums, run: Runs) -> tuple[steps.State, steps.Sums]:
            others = examples._replace(weights=examples.weights * (fold_of != run.fold).astype(examples.weights.dtype))
            own_key = jax.random.fold_in(jax.random.fold_in(key, 1), run.seed)
            span = 0, first, stop
            return steps.many_steps(state, sums, own_key, others, order, *span, finite=None, **functions(run.setting))

        return over_runs(one_run)(states, sums, runs)

    @jax.jit
    def measure(params: Any, data: Any, runs: Runs) -> tuple[Array, Array]:
        examples, fold_of = data

        def one_run(params: Any, run: Runs) -> tuple[Array, Array]:
            its_loss = functions(run.setting)["loss"]
            _, right = steps.evaluate(model, params, examples.inputs, examples.labels, its_loss)
            held_out = fold_of == run.fold
            finite = jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(params)]).all()
            return jnp.sum(held_out & right) / jnp.sum(held_out), finite

        return over_runs(one_run)(params, runs)

    return Programs(start, run_steps, measure)


def _of_one(fun: Callable[..., Any]) -> Callable[..., Any]:
    """What `jax.vmap` does where there is one of each: without an axis of length 1 in every product."""

    def of_one(*trees: Any) -> Any:
        outcome = fun(*jax.tree.map(lambda x: x[0], trees))
        return jax.tree.map(lambda x: jnp.expand_dims(x, 0), outcome)

    return of_one


def _train_group(
    programs: Programs, data: Any, runs: Runs, epochs: int, in_an_epoch: int, told: Callable[[int], None] | None
) -> Trained:
    states, sums = programs.start(runs)
    finite = np.ones(len(runs.fold), bool)
    pace = 1
    for number in range(1, epochs + 1):
        first = 0
        while first < in_an_epoch:
            began, stop = time.perf_counter(), min(first + pace, in_an_epoch)
            span = (np.int32(x) for x in (number, first, stop))
            states, sums = programs.run_steps(states, sums, *span, data, runs)
            finite &= np.isfinite(sums.loss)  # waits for the steps
            pace, first = max(1, int(_LOOK * (stop - first) / (time.perf_counter() - began))), stop
        if told is not None:
            told(number)
    accuracy, whole = programs.measure(states.params, data, runs)
    return Trained(np.asarray(accuracy, float), ~(finite & np.asarray(whole)))


def _bound(loss: Callable[..., Array], setting: Any, scores: Array, label: Array, params: Any) -> Array:
    return loss(scores, label, steps.turned(params), setting)


def _group_size(
    count: int, memory: int, model: steps.Model, examples: steps.Examples, optimizer: Any, batch_size: int
) -> int:
    """How many trainings are in memory at a time: as many as fit, in groups that are as even as can be."""
    init = partial(steps.init_state, model=model, optimizer=optimizer, shape=examples.inputs.shape[1:])
    state = jax.eval_shape(init, jax.random.key(0))
    held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    learned = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state.params))
    units = sum(x.shape[-1] * x.dtype.itemsize for x in jax.tree.leaves(state.params) if x.ndim)
    # The state twice, as it is and as it becomes; gradients and updates; what each layer gives, forward and backward.
    each = 2 * held + 2 * learned + 4 * max(batch_size, 1024) * units
    most = memory // each
    if learned > _CACHE and jax.default_backend() == "cpu":  # its products are as fast as they can be
        most = 1
    groups = -(-count // max(1, min(count, most)))
    return -(-count // groups)
