"""The nearest neighbours of each example outside its own fold, no pair of examples measured twice.

Under a metric with d(a, b) = d(b, a), the table of one block of examples and another holds neighbours of both: of the
first by rows, of the second by columns. A block of queries meets the blocks of points in their order, first those
before it, by columns, and then those from itself on, by rows; so of equal distances the smaller index comes first, as
in `funcgrad.search`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from funcgrad import neighbors
from funcgrad.blocks import PairPlan, Search, block_of, fit_pairs_to_memory, parse_memory
from funcgrad.distances import needs_64_bits, ranking_dtype

SYMMETRIC = ("l1", "l2", "sqeuclidean", "chebyshev", "dot")  # of bytes: exact integers, d(a, b) = d(b, a)


class State(NamedTuple):
    """What a search has found so far: of queries that are not done, the nearest of the points they have met."""

    distances: np.ndarray  # (N, k); sort keys of `funcgrad.blocks`, where pairs are measured once
    indices: np.ndarray  # (N, k) int32
    info: neighbors.Info
    done: int  # queries whose answer is final


Keep = Callable[[State], None]
Progress = Callable[[int, int], None]


def fold_neighbors(
    index: neighbors.Index,
    folds: Sequence[np.ndarray],
    k: int,
    *,
    start: State | None = None,
    keep: Keep | None = None,
    progress: Progress | None = None,
    memory: str | int = "1GiB",
    **options: Any,
) -> neighbors.Neighbors:
    """The k nearest points (N, k) of each point of an index, among those of other folds.

    Pairs of bytes under a symmetric metric are measured once. All else is searched for fold by fold, with the options
    of `funcgrad.neighbors.kneighbors`.

    Args:
      folds: the indices 0 … N − 1 in parts.
      start: what `keep` was given in an earlier call with the same arguments; this one goes on from there.
      keep: called with what is found, after each group of queries or each fold.
      progress: called with (queries done, all queries); where pairs are measured once, the share of pairs counts.

    Raises `ValueError` for a k below 1 or above the number of points outside the largest fold.
    """
    available = len(index.points) - max(map(len, folds))
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= available:
        raise ValueError(f"k: needs an integer from 1 to {available}, the number of points to choose from; got {k}")
    if start is not None:
        start = start._replace(distances=start.distances.copy(), indices=start.indices.copy())
    told = keep or (lambda state: None), progress or (lambda done, total: None)
    dtype = ranking_dtype(index.metric, index.points.dtype)
    if index.metric not in SYMMETRIC or dtype.kind not in "iu" or options.get("mesh") is not None:
        return _fold_by_fold(index, folds, k, start, *told, {**options, "memory": memory})
    with jax.enable_x64(jax.config.read("jax_enable_x64") or needs_64_bits(dtype, index.points.shape[1])):
        return _each_pair_once(index, folds, int(k), start, *told, parse_memory(memory), dtype)


def _fold_by_fold(
    index: neighbors.Index,
    folds: Sequence[np.ndarray],
    k: int,
    state: State | None,
    keep: Keep,
    progress: Progress,
    options: dict[str, Any],
) -> neighbors.Neighbors:
    count, done = len(index.points), 0
    for fold in folds:
        done += len(fold)
        if state is None or state.done < done:
            others = np.ones(count, bool)
            others[fold] = False
            distances, indices, info = neighbors.kneighbors(index.points[fold], index, k, **{**options, "mask": others})
            if state is None:
                nothing = np.zeros((count, k), distances.dtype), np.full((count, k), -1, np.int32)
                state = State(*nothing, info._replace(searched_again=0, directly=0), 0)
            state.distances[fold], state.indices[fold] = distances, indices
            again, directly = state.info.searched_again + info.searched_again, state.info.directly + info.directly
            state = state._replace(info=info._replace(searched_again=again, directly=directly), done=done)
            keep(state)
        progress(done, count)
    assert state is not None
    return neighbors.Neighbors(*state[:3])


# Each pair once.


class _Block(NamedTuple):
    where: slice  # of all points; empty past the end
    rows: Any  # (B, D)
    numbers: np.ndarray  # (B,) int32; -1 past the end, as the folds
    folds: np.ndarray  # (B,) int32


def _each_pair_once(
    index: neighbors.Index,
    folds: Sequence[np.ndarray],
    k: int,
    state: State | None,
    keep: Keep,
    progress: Progress,
    memory: int,
    dtype: Any,
) -> neighbors.Neighbors:
    count, dimensions = index.points.shape
    fold_of = np.empty(count, np.int32)
    for number, fold in enumerate(folds):
        fold_of[fold] = number
    search = Search(k, index.metric, index.p, False, False, None)
    plan = fit_pairs_to_memory(search, count, max(map(len, folds)), dimensions, dtype, memory)
    size = plan.group * plan.block
    if state is None:
        info = neighbors.Info(index.metric, "exact", str(dtype), plan.block, size)
        state = State(np.full((count, k), plan.last), np.full((count, k), -1, np.int32), info, 0)

    def group(start: int) -> list[_Block]:
        return [_block(index.points, fold_of, at, plan.block, dtype) for at in range(start, start + size, plan.block)]

    for first in range(state.done, count, size):
        queries, done = group(first), min(first + size, count)
        for start in range(first, count, size):
            _merge_groups(state, plan, queries, queries if start == first else group(start))
            met = min(start + size, count)
            pairs = count**2 - (count - first) ** 2 + (done - first) * (2 * met - first - done)
            progress(pairs // count, count)
        state = state._replace(done=done)
        keep(state)
    parts = [np.asarray(plan.numbers(state.distances[start : start + size])) for start in range(0, count, size)]
    numbers = np.concatenate(parts)
    if index.metric == "l2":
        numbers = np.sqrt(numbers.astype(np.float64)).astype(np.float32)  # rounded once, after the root
    return neighbors.Neighbors(numbers, state.indices, state.info)


def _block(points: Any, fold_of: np.ndarray, start: int, size: int, dtype: Any) -> _Block:
    where = slice(min(start, len(fold_of)), min(start + size, len(fold_of)))
    missing = 0, start + size - max(start, where.stop)
    numbers = np.pad(np.arange(where.start, where.stop, dtype=np.int32), missing, constant_values=-1)
    folds = np.pad(fold_of[where], missing, constant_values=-1)
    return _Block(where, jax.device_put(block_of(points, start, size, dtype)), numbers, folds)


def _merge_groups(state: State, plan: PairPlan, queries: list[_Block], points: list[_Block]) -> None:
    """Merges later points into the best of the queries, and the queries into the best of these points."""
    nothing = np.full((plan.block, plan.block), plan.last)
    tables = {}
    for i, a in enumerate(queries):
        for j, b in enumerate(points):
            if points is not queries or i <= j:
                table = nothing if _in_one_fold(a, b) else plan.table(a.rows, b.rows, a.folds, b.folds)
                tables[i, j] = jax.block_until_ready(table)

    def turned(i: int, j: int) -> Any:
        return plan.turned(tables[i, j])

    for i, block in enumerate(queries):
        row = [tables[i, j] if (i, j) in tables else turned(j, i) for j in range(len(points))]
        _merge(state, plan, block, row, points)
    if points is not queries:
        for j, block in enumerate(points):
            _merge(state, plan, block, [turned(i, j) for i in range(len(queries))], queries)


def _in_one_fold(a: _Block, b: _Block) -> bool:
    """Whether no pair of the two counts."""
    folds = [block.folds[block.folds >= 0] for block in (a, b)]
    return not all(map(len, folds)) or len(np.unique(np.concatenate(folds))) == 1


def _merge(state: State, plan: PairPlan, block: _Block, tables: list[Any], points: list[_Block]) -> None:
    rows = block.where.stop - block.where.start
    if rows == 0:
        return
    missing = (0, plan.block - rows), (0, 0)
    best = (np.pad(x[block.where], missing) for x in (state.distances, state.indices))
    found = plan.merged(*best, tuple(tables), np.concatenate([other.numbers for other in points]))
    state.distances[block.where], state.indices[block.where] = (np.asarray(x)[:rows] for x in found)
