"""The nearest neighbours of each example outside its own fold, no pair of examples measured twice.

Under a metric with d(a, b) = d(b, a), the table of one block of examples and another holds neighbours of both: of the
first by rows, of the second by columns. A block of queries meets the blocks of points in their order, first those
before it, by columns, and then those from itself on, by rows; so of equal distances the smaller index comes first, as
in `strategies`. Of floats these numbers are lower bounds (`bounds.pair_bounds`): the candidates that they leave
are measured again and proved, and a query without a proof is searched for alone.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from funcgrad.distances import needs_64_bits, ranking_dtype
from funcgrad.neighbors import search as neighbors
from funcgrad.neighbors.bounds import (
    Bounds,
    PointStatistics,
    filter_error,
    pair_bounds,
    pairs_are_bounded,
    point_statistics,
)
from funcgrad.neighbors.certificate import candidates, certify, lower_bounds
from funcgrad.neighbors.exact_distances import pair_distances
from funcgrad.neighbors.merge_step import PairPlan, Search, block_of, fit_pairs_to_memory, parse_memory


class State(NamedTuple):
    """What a search has found so far: of queries that are not done, the nearest of the points they have met."""

    distances: np.ndarray  # (N, k or more); sort keys of `funcgrad.neighbors.merge_step`, where pairs are measured once
    indices: np.ndarray  # int32; more than k are candidates
    info: neighbors.Info
    done: int  # queries that have met all points


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

    Each pair is measured once, under any metric with a name. A function, and floats with precision "fast", are searched
    for fold by fold, as is all with other options of `funcgrad.neighbors.kneighbors`, such as a mesh.

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
    precisions = {"exact"} if dtype.kind == "f" else set(neighbors.PRECISIONS)  # bytes are exact either way
    usual = options.get("precision", "exact") in precisions and options.get("mesh") is None
    if callable(index.metric) or not usual or options.keys() - {"precision", "mesh"}:
        return _fold_by_fold(index, folds, k, start, *told, {**options, "memory": memory})
    statistics = point_statistics(index.points, index.metric, dtype, index.statistics) if dtype.kind == "f" else None
    if not pairs_are_bounded(statistics):
        return _fold_by_fold(index, folds, k, start, *told, {"memory": memory})
    with jax.enable_x64(jax.config.read("jax_enable_x64") or needs_64_bits(dtype, index.points.shape[1])):
        examples = _Examples(index, np.dtype(dtype), statistics)
        return _each_pair_once(examples, folds, int(k), start, *told, parse_memory(memory))


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


class _Examples(NamedTuple):
    """What is searched, and what a filter of floats needs; of bytes the numbers are the metric's own integers."""

    prepared: neighbors.Index
    dtype: np.dtype[Any]
    statistics: PointStatistics | None

    def bounds(self, rows: Any) -> tuple[Bounds, np.ndarray]:
        error = filter_error(self.prepared.metric, rows.shape[1], self.dtype)
        return pair_bounds(rows, self.prepared.metric, self.dtype, self.statistics, error)


class _Block(NamedTuple):
    where: slice  # of all points; empty past the end
    rows: Any  # (B, D)
    terms: Any  # (B,)
    numbers: np.ndarray  # (B,) int32; -1 past the end, as the folds
    folds: np.ndarray  # (B,) int32


def _each_pair_once(
    examples: _Examples,
    folds: Sequence[np.ndarray],
    k: int,
    state: State | None,
    keep: Keep,
    progress: Progress,
    memory: int,
) -> neighbors.Neighbors:
    index, dtype, statistics = examples
    count, dimensions = index.points.shape
    fold_of = np.empty(count, np.int32)
    for number, fold in enumerate(folds):
        fold_of[fold] = number
    kept = min(candidates(k), count) if dtype.kind == "f" else k
    search = Search(kept, index.metric, index.p, statistics is not None, False, None)
    plan = fit_pairs_to_memory(search, count, max(map(len, folds)), dimensions, dtype, memory)
    size = plan.group * plan.block
    if state is None or state.indices.shape != (count, kept):
        info = neighbors.Info(index.metric, "exact", str(dtype), plan.block, size)
        state = State(np.full((count, kept), plan.last), np.full((count, kept), -1, np.int32), info, 0)

    def group(start: int) -> list[_Block]:
        return [_block(examples, fold_of, at, plan.block) for at in range(start, start + size, plan.block)]

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
    if dtype.kind == "f":
        return _proved(examples, folds, k, numbers, state, memory)
    if index.metric == "l2":
        numbers = np.sqrt(numbers.astype(np.float64)).astype(np.float32)  # rounded once, after the root
    return neighbors.Neighbors(numbers, state.indices, state.info)


def _proved(
    examples: _Examples, folds: Sequence[np.ndarray], k: int, numbers: np.ndarray, state: State, memory: int
) -> neighbors.Neighbors:
    """The k nearest of the candidates, and of all points of other folds where that is not proved."""
    index, points, metric = examples.prepared, examples.prepared.points, str(examples.prepared.metric)
    distances, indices = np.empty((len(points), k)), np.empty((len(points), k), np.int32)
    again = directly = 0
    for fold in folds:
        others = np.ones(len(points), bool)
        others[fold] = False
        unproved = []
        for rows in np.array_split(fold, -(-len(fold) // state.info.query_block)):
            queries, bounds = points[rows], examples.bounds(points[rows])[0]
            lower = lower_bounds(numbers[rows], bounds, metric)
            found = lower, state.indices[rows], bounds.size
            measure = partial(pair_distances, queries, points, metric=metric, p=index.p)
            sizes = {"dimensions": points.shape[1], "available": int(others.sum())}
            certified = certify(measure, *found, k, **sizes)
            distances[rows], indices[rows] = certified.distances, certified.indices
            unproved.append(rows[~certified.proved])
        if len(left := np.concatenate(unproved)):
            near = neighbors.kneighbors(points[left], index, k, mask=others, memory=memory)
            distances[left], indices[left] = near.distances, near.indices
            again, directly = again + len(left), directly + near.info.directly
    with np.errstate(over="ignore"):
        distances = distances.astype(examples.dtype)
    if not np.isfinite(distances).all():
        raise ValueError(f"points: distances beyond the range of {examples.dtype}; scale the vectors, or pass float64")
    info = state.info._replace(searched_again=again, directly=directly)
    return neighbors.Neighbors(distances, indices, info)


def _block(examples: _Examples, fold_of: np.ndarray, start: int, size: int) -> _Block:
    where = slice(min(start, len(fold_of)), min(start + size, len(fold_of)))
    missing = 0, start + size - max(start, where.stop)
    numbers = np.pad(np.arange(where.start, where.stop, dtype=np.int32), missing, constant_values=-1)
    folds = np.pad(fold_of[where], missing, constant_values=-1)
    rows, dtype = examples.prepared.points[where], examples.dtype
    terms = np.zeros(len(rows), dtype)
    if examples.statistics is not None and len(rows):
        bounds, terms = examples.bounds(rows)
        rows = bounds.queries
    rows, terms = jax.device_put((block_of(rows, 0, size, dtype), block_of(terms, 0, size, dtype)))
    return _Block(where, rows, terms, numbers, folds)


def _merge_groups(state: State, plan: PairPlan, queries: list[_Block], points: list[_Block]) -> None:
    """Merges later points into the best of the queries, and the queries into the best of these points."""
    nothing = np.full((plan.block, plan.block), plan.last)
    tables = {}
    for i, a in enumerate(queries):
        for j, b in enumerate(points):
            if points is not queries or i <= j:
                table = (
                    nothing if _in_one_fold(a, b) else plan.table(a.rows, b.rows, a.terms, b.terms, a.folds, b.folds)
                )
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
