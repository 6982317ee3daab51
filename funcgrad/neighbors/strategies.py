"""Which scans find the nearest points: one, or for floats a filter in stages until every answer is proved."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from funcgrad.distances import Metric, needs_64_bits
from funcgrad.neighbors import bounds, prefilter
from funcgrad.neighbors.block_search import FoundBlock, Plan, Scan, StepSpec, Task, search_blocks, take_rows
from funcgrad.neighbors.certificate import Certified, candidates, certify, lower_bounds
from funcgrad.neighbors.exact_distances import pair_distances
from funcgrad.neighbors.index import Index
from funcgrad.neighbors.plan import plan_scan
from funcgrad.neighbors.validation import check_finite


class Info(NamedTuple):
    """How neighbours were found."""

    metric: Metric
    precision: str
    dtype: str  # in which the vectors were compared
    query_block: int  # queries and points that meet in one step
    point_block: int
    searched_again: int = 0  # queries whose first search could not be proved right, and which were searched again
    brute_forced: int = 0  # of these the ones that were at last compared with every point in float64


class Neighbors(NamedTuple):
    """The k nearest points of each query, nearest first. An index of -1, at distance inf, is no neighbour."""

    distances: np.ndarray  # (Q, k)
    indices: np.ndarray  # (Q, k) int32
    info: Info

    def __repr__(self) -> str:
        return describe(self)


def describe(found: Any) -> str:
    """Neighbours in one short line."""
    shape, dtype, metric = found.indices.shape, found.distances.dtype, found.info.metric
    name = metric if isinstance(metric, str) else getattr(metric, "__name__", "a function")
    return f"{type(found).__name__}({shape[0]:,} queries, {shape[1]:,} nearest each by {name}, {dtype} distances)"


def find_nearest(task: Task) -> Neighbors:
    """The k nearest points of each query, by the strategy that serves the metric, the dtype and the precision."""
    check_finite("queries", task.queries)
    index, elements = task.prepared, max(1, min(task.tuning.pair_elements, task.memory // 2**9))
    task = task._replace(tuning=task.tuning._replace(pair_elements=elements))
    if not prefilter.pays(task.k, index.metric, len(index.points), task.tuning):
        task = task._replace(prepared=replace(index, projection=None))
    in_floats = task.dtype.kind == "f" and not callable(index.metric)
    if task.precision == "exact" and (in_floats or task.prepared.projection is not None):
        return certified_search(task)
    return fast_search(task) if in_floats else plain_search(task)


def plain_search(task: Task, rows: np.ndarray | None = None) -> Neighbors:
    """By the metric's own numbers: exact integers of bytes, and whatever a user's function gives."""
    index = task.prepared
    spec = StepSpec(task.k, index.metric, index.p, False, task.exclude_self, task.mesh)
    scan = Scan(index.points, task.dtype, spec, task.memory, lambda queries: (queries, None))
    plan = plan_scan(task, scan, len(task.queries) if rows is None else len(rows))
    numbers, indices = _concatenated(search_blocks(task, scan, plan, rows))
    if not (numbers[:, 0] > -np.inf).all():
        query = int(np.argmin(numbers[:, 0] > -np.inf))
        raise ValueError(f"metric: gave NaN or −∞ for query {query} and point {indices[query, 0]}")
    if len(missing := np.flatnonzero((indices < 0).any(axis=1))) and numbers.dtype.kind == "f":
        raise ValueError(f"metric: gave infinity for query {missing[0]}")
    for query in map(int, missing):  # the rest is at its dtype's largest integer, which a step takes for no neighbour
        unmet = task.allowed.copy()
        unmet[indices[query, indices[query] >= 0]] = False
        unmet[query : query + task.exclude_self] = False
        last = indices[query] < 0
        indices[query, last] = np.flatnonzero(unmet)[: np.count_nonzero(last)]
    if index.metric == "l2":
        numbers = np.sqrt(numbers.astype(np.float64)).astype(np.float32)  # rounded once, after the root
    return Neighbors(numbers, indices, _info(task, plan))


def fast_search(task: Task) -> Neighbors:
    """The filter's numbers as they are: nothing is proved, and distances small beside the vectors lose digits."""
    scan = _filter_scan(task, task.k, task.dtype, proved=False)
    plan = plan_scan(task, scan, len(task.queries))
    blocks = []
    for block in search_blocks(task, scan, plan):
        if np.isneginf(block.numbers).any() or np.isneginf(block.bounds.offset).any() or (block.indices < 0).any():
            raise _out_of_range(task)
        blocks.append(block._replace(numbers=scan.lower(block)[0]))
    distances, indices = _concatenated(blocks)
    if task.prepared.metric != "dot":
        distances = np.clip(distances, 0, 2.0 if task.prepared.metric == "cosine" else None)
    return Neighbors(distances.astype(task.dtype), indices, _info(task, plan))


def certified_search(task: Task) -> Neighbors:
    """A filter, its candidates in float64, and a proof; queries without one get more candidates, and at last all.

    The first filter is a projection, if there is one. The queries that it leaves are, for bytes, searched plainly.
    """
    report, task, shape = task.progress, task._replace(progress=None), (len(task.queries), task.k)
    distances, indices, proved = best = Certified(np.empty(shape), np.empty(shape, np.int32), np.zeros(shape[0], bool))
    plans: list[Plan] = []
    unproved: list[int] = []  # queries, after each scan
    for make_scan in _stages(task):
        rows = np.flatnonzero(~proved).astype(np.int32)
        scan = make_scan(len(rows))
        plans.append(plan_scan(task, scan, len(rows)))
        for block in search_blocks(task, scan, plans[-1], rows):
            found = _certify(task, scan, block)
            for whole, part in zip(best, found, strict=True):
                whole[block.rows] = part
            if report is not None:
                report(int(np.count_nonzero(proved)), len(proved))
            if scan.may_give_up and 2 * int(np.count_nonzero(found.proved)) < len(block.rows):
                break
        unproved.append(int(np.count_nonzero(~proved)))
        if not unproved[-1]:
            break
    info = _info(task, plans[0])._replace(searched_again=unproved[0])
    rows = np.flatnonzero(~proved).astype(np.int32)
    if task.dtype.kind != "f":
        if len(rows):
            distances[rows], indices[rows], _ = plain_search(task._replace(progress=report), rows)
        integer = np.int64 if needs_64_bits(task.dtype, task.queries.shape[1]) else np.int32
        return Neighbors(distances.astype(np.float32 if info.metric == "l2" else integer), indices, info)
    for query in rows:
        distances[query], indices[query] = _brute_force(task, query)
        proved[query] = True
        if report is not None:
            report(int(np.count_nonzero(proved)), len(proved))
    with np.errstate(over="ignore"):
        distances = distances.astype(task.dtype)
    if not np.isfinite(distances).all():
        raise _out_of_range(task)
    return Neighbors(distances, indices, info._replace(brute_forced=len(rows)))


def _stages(task: Task) -> list[Callable[[int], Scan]]:
    """What makes each scan, given the number of queries that are left: of the cheapest filter first."""
    stages: list[Callable[[int], Scan]] = []
    if task.prepared.projection is not None:
        stages.append(lambda queries: _projection_scan(task))
    if task.dtype.kind == "f":
        few, many, wide = candidates(task.k), 4 * (task.k + 16), np.dtype(np.float64)
        stages.append(lambda queries: _filter_scan(task, few, task.dtype, queries=queries))
        stages.append(lambda queries: _filter_scan(task, many, task.dtype))
        stages.append(lambda queries: _filter_scan(task, many, wide))
    return stages


def _filter_scan(task: Task, k: int, dtype: np.dtype, *, proved: bool = True, queries: int = 0) -> Scan:
    """A scan for k candidates, whose bounds allow for the error of `dtype` if something is to be proved by them.

    For so many queries l1 may be computed from sums of minima.
    """
    index, metric, points = task.prepared, str(task.prepared.metric), task.prepared.points
    error = bounds.filter_error(metric, points.shape[1], dtype) if proved else 0.0
    on_cpu = jax.default_backend() == "cpu"
    if metric == "l1" and on_cpu and queries and bounds.minima_pay(queries, points, task.tuning):
        sums = bounds.sums_of_points(points)
        terms: Any = bounds.minima_terms(sums, dtype, error)
        bounds_of = partial(bounds.minima_bounds, dtype=dtype, sums=sums, error=error)
    else:
        statistics = bounds.point_statistics(points, metric, dtype, index.statistics, task.tuning)
        terms = None if statistics is None else bounds.point_terms(metric, statistics, error)
        bounds_of = partial(bounds.query_bounds, metric=metric, dtype=dtype, statistics=statistics, error=error)

    def prepare(queries: Any) -> tuple[np.ndarray, bounds.Bounds]:
        found = bounds_of(queries)
        return found.queries, found

    def lower(block: FoundBlock) -> tuple[np.ndarray, np.ndarray]:
        return lower_bounds(block.numbers, block.bounds, metric), block.bounds.size

    k = min(k, len(points))
    spec = StepSpec(k, metric, index.p, terms is not None, task.exclude_self, task.mesh, any_ties=proved)
    return Scan(points, dtype, spec, task.memory, prepare, lower, terms)


def _projection_scan(task: Task) -> Scan:
    """A scan of the projected points; it ends where it proves too little to pay."""
    projection, metric = task.prepared.projection, str(task.prepared.metric)
    assert projection is not None
    k = prefilter.num_candidates(task.k, metric)
    if metric == "l1":
        spec = StepSpec(k, "l1", None, False, task.exclude_self, None, any_ties=True)
        scan = Scan(projection.projected, np.dtype(np.uint16), spec, task.memory, lambda x: (x, None))
    else:
        index = Index(projection.projected, "sqeuclidean", None, projection.statistics)
        scan = _filter_scan(task._replace(prepared=index), k, np.dtype(np.float32))

    def prepare(queries: Any) -> tuple[np.ndarray, Any]:
        vectors, errors = prefilter.project(np.asarray(queries), metric, projection)
        rows, bounds_of_projected = scan.prepare(vectors)
        return rows, (bounds_of_projected, errors)

    def lower(block: FoundBlock) -> tuple[np.ndarray, np.ndarray]:
        bounds_of_projected, errors = block.bounds
        numbers, _ = scan.lower(block._replace(bounds=bounds_of_projected))
        size = np.full(len(errors), float(metric == "cosine"))
        return prefilter.lower_distances(numbers, errors, metric, projection), size

    return scan._replace(prepare=prepare, lower=lower, may_give_up=True)


def _certify(task: Task, scan: Scan, block: FoundBlock) -> Certified:
    """The k nearest of a block's candidates, and whether that is proved."""
    lower, size = scan.lower(block)
    available: Any = int(task.allowed.sum())
    if task.exclude_self:  # a query that the mask excludes is no candidate anyway
        available = available - task.allowed[block.rows]
    measure = partial(_measure, task, np.asarray(take_rows(task.queries, block.rows)))
    dimensions = task.queries.shape[1]
    return certify(measure, lower, block.indices, size, task.k, dimensions=dimensions, available=available)


def _brute_force(task: Task, query: np.integer) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of all points, in float64, a part of them at a time."""
    others = np.flatnonzero(task.allowed)
    others = others[others != query] if task.exclude_self else others
    nearest, size = others[:0], max(task.k, task.memory // 64)
    for start in range(0, len(others), size):
        nearest = np.concatenate([nearest, others[start : start + size]])
        exact = _measure(task, task.queries[query : query + 1], (np.zeros(len(nearest), int), nearest))
        order = np.argsort(exact, kind="stable")[: task.k]
        nearest, exact = nearest[order], exact[order]
    return exact, nearest


def _measure(task: Task, queries: Any, pairs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    index = task.prepared
    return pair_distances(queries, index.points, pairs, str(index.metric), index.p, task.tuning)


def _info(task: Task, plan: Plan) -> Info:
    return Info(task.prepared.metric, task.precision, str(task.dtype), plan.query_block, plan.point_block)


def _concatenated(blocks: Iterable[FoundBlock]) -> tuple[np.ndarray, np.ndarray]:
    numbers, indices = zip(*((block.numbers, block.indices) for block in blocks), strict=True)
    return np.concatenate(numbers), np.concatenate(indices)


def _out_of_range(task: Task) -> ValueError:
    return ValueError(f"points: distances beyond the range of {task.dtype}; scale the vectors, or pass float64")
