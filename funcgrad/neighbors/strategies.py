"""The search: query blocks meet point blocks; for floats a filter in stages, until every answer is proved."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import cycle
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from funcgrad.distances import Metric, needs_64_bits
from funcgrad.neighbors import prefilter
from funcgrad.neighbors.bounds import (
    Bounds,
    PointStatistics,
    filter_error,
    minima_bounds,
    minima_pay,
    minima_terms,
    point_statistics,
    point_terms,
    query_bounds,
    sums_of_points,
)
from funcgrad.neighbors.certificate import candidates, certify, lower_bounds
from funcgrad.neighbors.exact_distances import pair_distances
from funcgrad.neighbors.merge_step import Plan, Points, Search, block_of, fit_to_memory
from funcgrad.neighbors.plan import DEFAULTS, Tuning

_ALIGNMENT = 64  # bytes, of what XLA reads in place


class Found(NamedTuple):
    distances: np.ndarray  # (Q, k)
    indices: np.ndarray  # (Q, k) int32
    plan: Plan  # of the first search
    searched_again: int = 0
    directly: int = 0


class Task(NamedTuple):
    """What is to be found, however it is."""

    queries: Any  # (Q, D)
    points: Any  # (N, D)
    metric: Metric
    p: float | None
    statistics: PointStatistics | None  # what is known of the points
    allowed: np.ndarray  # (N,) bool
    exclude_self: bool
    memory: int  # bytes
    mesh: Mesh | None
    progress: Callable[[int, int], None] | None
    projection: prefilter.Projection | None = None
    tuning: Tuning = DEFAULTS


def _search(
    task: Task,
    search: Search,
    dtype: Any,
    keep: Callable[[np.ndarray, tuple[np.ndarray, np.ndarray]], bool | None],
    *,
    which: np.ndarray | None = None,
    prepared: Callable[[Any], Any] = lambda queries: queries,
    terms: tuple[np.ndarray, np.ndarray] | None = None,
) -> Plan:
    """Gives `keep` (their rows, (numbers, indices)) of a block of queries after the other, until it says False.

    which: the rows (R,) of the queries to search, all if None; prepared: makes queries what the filter takes;
    terms: the points' factors and offsets (N,).
    """
    points, queries = task.points, task.queries
    few = which is not None and len(which) < len(queries)
    which = np.arange(len(queries), dtype=np.int32) if which is None else which
    rounded = 1 << max(0, len(which).bit_length() - 3)
    count = -(-len(which) // rounded) * rounded if few else len(which)  # few programs, whatever is left
    terms = terms or (np.zeros(len(points), dtype),) * 2
    own = np.where(task.allowed, np.arange(len(points), dtype=np.int32), np.int32(-1))
    wide = jax.config.read("jax_enable_x64") or needs_64_bits(dtype, points.shape[1])
    with jax.enable_x64(wide), ExitStack() as stack:
        plan = fit_to_memory(search, count, len(points), points.shape[1], dtype, task.memory)
        chains = [_chain(plan, wide, stack) for _ in range(plan.chains)]
        together, buffers = plan.together * plan.query_block, _two_buffers(points, plan.point_block, dtype)
        place = jax.device_put if task.mesh is None else (lambda x: x)  # once, however often it is used
        for start in range(0, len(which), together):
            cut = range(start, min(start + together, len(which)), plan.query_block)
            parts = [which[first : first + plan.query_block] for first in cut]
            blocks = [place(block_of(prepared(_rows(queries, rows)), 0, plan.query_block, dtype)) for rows in parts]
            numbers = [np.pad(rows, (0, plan.query_block - len(rows)), constant_values=-2) for rows in parts]
            best: list[Any] = [plan.no_neighbors] * len(parts)
            for first in range(0, len(points), plan.point_block):
                size = first, plan.point_block
                marked = block_of(own + 1, *size, np.dtype(np.int32)) - 1  # past the end: -1
                rows_of_block = _block_in(next(buffers), points, first) if buffers else block_of(points, *size, dtype)
                members = place(Points(rows_of_block, marked, *(block_of(x, *size, dtype) for x in terms)))
                previous, best = best, []
                for step, *these, so_far in zip(cycle(chains), blocks, numbers, previous, strict=False):
                    best.append(step(*these, *so_far, members))
                jax.block_until_ready(previous)  # one block computes while the next is fetched, and no more
            for rows, (keys, indices) in zip(parts, best, strict=True):
                if keep(rows, _nearest(plan.numbers(keys), indices, len(rows), search.k)) is False:
                    return plan
            if task.progress is not None:
                task.progress(len(queries) - len(which) + min(start + together, len(which)), len(queries))
    return plan


def _chain(plan: Plan, wide: bool, stack: ExitStack) -> Callable[..., list[Array]]:
    """`plan.step` on a table of its own and, where there are more such chains, dispatched by a thread of its own.

    JAX runs what one thread dispatches to a CPU in that order, and what two threads dispatch side by side.
    """
    device, table = jax.config.jax_default_device, jnp.empty(plan.table.shape, plan.table.dtype)

    def dispatch(*inputs: Any) -> list[Array]:
        nonlocal table
        with jax.enable_x64(wide), jax.default_device(device):  # each thread has its own settings
            table, *merged = plan.step(table, *inputs)
        return merged

    if plan.chains == 1:
        return dispatch
    thread = stack.enter_context(ThreadPoolExecutor(1))
    return lambda *inputs: thread.submit(dispatch, *inputs).result()


def _two_buffers(points: Any, size: int, dtype: Any) -> Iterator[np.ndarray] | None:
    """Two (size, D) in turn, which a CPU's `device_put` takes as they are; None, where blocks are copied in any case.

    A fresh copy of every block would take five times as long: the system hands out its memory page by page.
    """
    if isinstance(points, Array) or jax.default_backend() != "cpu":
        return None
    length = size * points.shape[1] * np.dtype(dtype).itemsize
    raw = [np.empty(length + _ALIGNMENT, np.uint8) for _ in range(2)]
    starts = [-x.ctypes.data % _ALIGNMENT for x in raw]
    return cycle([x[i : i + length].view(dtype).reshape(size, -1) for x, i in zip(raw, starts, strict=True)])


def _block_in(buffer: np.ndarray, points: Any, start: int) -> np.ndarray:
    """The buffer, with points from `start` on, and zeros past the end."""
    block = points[start : start + len(buffer)]
    np.copyto(buffer[: len(block)], block, casting="unsafe")
    buffer[len(block) :] = 0
    return buffer


def _nearest(numbers: Array, indices: Array, rows: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the best k of each share of the points the best k of all."""
    few, places = np.asarray(numbers)[:rows], np.asarray(indices)[:rows]
    if few.shape[1] == k:
        return few, places
    order = np.lexsort((places, places < 0, few), axis=1)[:, :k]
    return np.take_along_axis(few, order, axis=1), np.take_along_axis(places, order, axis=1)


def _rows(x: Any, rows: np.ndarray) -> Any:
    consecutive = rows[-1] - rows[0] + 1 == len(rows)
    return x[rows[0] : rows[-1] + 1] if consecutive else x[rows]  # a slice is not copied


def _filter(
    task: Task,
    kept: int,
    dtype: Any,
    error: float,
    found: Callable[[np.ndarray, Bounds, Any], bool | None],
    *,
    by_minima: bool = False,
    prepared: Callable[[Any], Any] = lambda queries: queries,
    which: np.ndarray | None = None,
) -> Plan:
    """Searches in `dtype`, by bounds that allow for `error`: gives `found` each block's rows, bounds and result."""
    metric = str(task.metric)
    bounds: list[Bounds] = []  # of the blocks that are searched together, in their order
    if by_minima:
        sums = sums_of_points(task.points)
        terms: Any = minima_terms(sums, dtype, error)
        bounds_of = partial(minima_bounds, dtype=dtype, sums=sums, error=error)
    else:
        statistics = point_statistics(task.points, metric, dtype, task.statistics, fetched=task.tuning.fetched)
        terms = None if statistics is None else point_terms(metric, statistics, error)
        bounds_of = partial(query_bounds, metric=metric, dtype=dtype, statistics=statistics, error=error)

    def bounded(queries: Any) -> np.ndarray:
        bounds.append(bounds_of(prepared(queries)))
        return bounds[-1].queries

    search = Search(kept, metric, task.p, terms is not None, task.exclude_self, task.mesh, proved=error > 0)
    return _search(
        task,
        search,
        np.dtype(dtype),
        lambda rows, result: found(rows, bounds.pop(0), result),
        which=which,
        prepared=bounded,
        terms=terms,
    )


def plain_search(task: Task, k: int, dtype: Any, which: np.ndarray | None = None) -> Found:
    """By the metric's own numbers: exact integers of bytes, and whatever a user's function gives."""
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    search = Search(k, task.metric, task.p, False, task.exclude_self, task.mesh)
    plan = _search(task, search, dtype, lambda rows, found: parts.append(found), which=which)
    numbers, indices = (np.concatenate(part) for part in zip(*parts, strict=True))
    if not (numbers[:, 0] > -np.inf).all():
        query = int(np.argmin(numbers[:, 0] > -np.inf))
        raise ValueError(f"metric: gave NaN or −∞ for query {query} and point {indices[query, 0]}")
    if (indices < 0).any():
        raise ValueError(f"metric: gave infinity for query {int(np.argmax((indices < 0).any(axis=1)))}")
    if task.metric == "l2":
        numbers = np.sqrt(numbers.astype(np.float64)).astype(np.float32)  # rounded once, after the root
    return Found(numbers, indices, plan)


def fast_search(task: Task, k: int, dtype: Any) -> Found:
    """The filter's numbers as they are: nothing is proved, and distances small beside the vectors lose digits."""
    parts = []
    metric = str(task.metric)

    def found(rows: np.ndarray, bounds: Bounds, result: Any) -> None:
        numbers, indices = result
        if np.isneginf(numbers).any() or np.isneginf(bounds.offset).any() or (indices < 0).any():
            raise ValueError(f"points: distances beyond the range of {dtype}; scale the vectors, or pass float64")
        parts.append((bounds.offset[:, None] + bounds.factor[:, None] * numbers.astype(np.float64), indices))

    plan = _filter(task, k, dtype, 0.0, found)
    distances, indices = (np.concatenate(part) for part in zip(*parts, strict=True))
    if metric != "dot":
        distances = np.clip(distances, 0, 2.0 if metric == "cosine" else None)
    distances = (np.sqrt(distances) if metric == "l2" else distances).astype(dtype)
    return Found(distances, indices, plan)


def certified_search(task: Task, k: int, dtype: Any) -> Found:
    """A filter, its candidates in float64, and a proof; queries without one get more candidates, and at last all.

    The first filter is a projection's, if there is one. What it leaves of bytes is searched as they are.
    """
    queries, points, metric, tuning = task.queries, task.points, str(task.metric), task.tuning
    sizes: dict[str, Any] = {"fetched": tuning.fetched, "elements": tuning.pair_elements}
    task = task._replace(progress=_rising(task.progress))
    distances, indices = np.empty((len(queries), k)), np.empty((len(queries), k), np.int32)
    proved, available = np.zeros(len(queries), bool), int(task.allowed.sum())

    def found(rows: np.ndarray, lower: np.ndarray, candidates: np.ndarray, size: np.ndarray) -> bool:
        block = np.asarray(_rows(queries, rows))
        others = available - task.allowed[rows] if task.exclude_self else available
        measure = partial(pair_distances, block, points, metric=metric, p=task.p, **sizes)
        certified = certify(measure, lower, candidates, size, k, dimensions=points.shape[1], available=others)
        distances[rows], indices[rows], proved[rows] = certified
        return 2 * int(np.count_nonzero(certified.proved)) >= len(rows)  # or going on will hardly pay

    def projected(which: np.ndarray) -> Plan:
        return _projected_filter(task, prefilter.num_candidates(k, metric), found)

    def filtered(which: np.ndarray, kept: int, dtype: Any, try_minima: bool = False) -> Plan:
        def bounded(rows: np.ndarray, bounds: Bounds, result: Any) -> None:
            found(rows, lower_bounds(result[0], bounds, metric), result[1], bounds.size)

        by_minima = try_minima and metric == "l1" and jax.default_backend() == "cpu"
        thresholds: dict[str, Any] = {"min_queries": tuning.minima_min_queries, "max_ratio": tuning.minima_max_ratio}
        by_minima = by_minima and minima_pay(len(which), points, **thresholds)
        error = filter_error(metric, points.shape[1], dtype)
        return _filter(task, min(kept, len(points)), dtype, error, bounded, by_minima=by_minima, which=which)

    def plain(which: np.ndarray) -> Plan:
        distances[which], indices[which], plan, *_ = plain_search(task, k, dtype, which)
        proved[which] = True
        return plan

    least = tuning.min_points_per_candidate
    projected_pays = prefilter.pays(k, metric, len(points), min_points_per_candidate=least)
    by_projection = task.projection is not None and projected_pays
    stages: list[Callable[[np.ndarray], Plan]] = [projected] if by_projection else []
    if dtype.kind == "f":
        few, many, wide = candidates(k), 4 * (k + 16), np.dtype(np.float64)
        stages += [partial(filtered, kept=few, dtype=dtype, try_minima=True)]
        stages += [partial(filtered, kept=many, dtype=some) for some in (dtype, wide)]
    else:
        stages.append(plain)
    plans, lefts = [], []
    for stage in stages:
        plans.append(stage(np.flatnonzero(~proved).astype(np.int32)))
        lefts.append(int(np.count_nonzero(~proved)))
        if proved.all():
            break
    for query in np.flatnonzero(~proved):
        others = np.flatnonzero(task.allowed)
        others = others[others != query] if task.exclude_self else others
        row = queries[query : query + 1]
        exact = pair_distances(row, points, (np.zeros(len(others), int), others), metric, task.p, **sizes)
        nearest = np.argsort(exact, kind="stable")[:k]
        distances[query], indices[query] = exact[nearest], others[nearest]
    if dtype.kind != "f":
        integer = np.int64 if needs_64_bits(dtype, points.shape[1]) else np.int32
        return Found(distances.astype(np.float32 if metric == "l2" else integer), indices, plans[0], lefts[0])
    with np.errstate(over="ignore"):
        distances = distances.astype(dtype)
    if not np.isfinite(distances).all():
        raise ValueError(f"points: distances beyond the range of {dtype}; scale the vectors, or pass float64")
    return Found(distances, indices, plans[0], lefts[0], lefts[-1])


def _rising(progress: Callable[[int, int], None] | None) -> Callable[[int, int], None] | None:
    """`progress` without what an earlier stage has reported."""
    most = 0

    def rising(done: int, total: int) -> None:
        nonlocal most
        if done > most and progress is not None:
            most = done
            progress(done, total)

    return rising


def _projected_filter(task: Task, kept: int, found: Callable[..., bool]) -> Plan:
    """Searches among a projection's points: gives `found` each block's rows, lower bounds and candidates."""
    projection, metric = task.projection, str(task.metric)
    assert projection is not None
    # So many candidates, of the queries that are searched together, and what is measured of them need memory, too.
    task = task._replace(memory=task.memory - min(task.memory // 4, 2**18 * kept))
    errors: list[np.ndarray] = []  # of the blocks that are searched together, in their order

    def prepared(queries: Any) -> np.ndarray:
        images, errors_of_block = prefilter.project(np.asarray(queries), metric, projection)
        errors.append(errors_of_block)
        return images

    def bounded(rows: np.ndarray, numbers: np.ndarray, candidates: np.ndarray) -> bool:
        lower = prefilter.lower_distances(numbers, errors.pop(0), metric, projection)
        return found(rows, lower, candidates, np.full(len(rows), float(metric == "cosine")))

    if metric == "l1":
        search = Search(kept, "l1", None, False, task.exclude_self, None, proved=True)
        images = task._replace(points=projection.projected)
        return _search(
            images, search, np.dtype(np.uint16), lambda rows, result: bounded(rows, *result), prepared=prepared
        )
    images = task._replace(points=projection.projected, metric="sqeuclidean", statistics=projection.statistics)
    error = filter_error("sqeuclidean", projection.projected.shape[1], np.float32)

    def squares(rows: np.ndarray, bounds: Bounds, result: Any) -> bool:
        return bounded(rows, lower_bounds(result[0], bounds, "sqeuclidean"), result[1])

    return _filter(images, kept, np.dtype(np.float32), error, squares, prepared=prepared)
