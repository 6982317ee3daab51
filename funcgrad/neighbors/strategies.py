"""Which scans find the nearest points: one, or for floats a filter in stages until every answer is proved."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from funcgrad.distances import needs_64_bits
from funcgrad.neighbors import prefilter
from funcgrad.neighbors.block_search import FoundBlock, Scan, Task, plan_scan, search_blocks, take_rows
from funcgrad.neighbors.bounds import (
    Bounds,
    filter_error,
    minima_bounds,
    minima_pay,
    minima_terms,
    point_statistics,
    point_terms,
    query_bounds,
    sums_of_points,
)
from funcgrad.neighbors.certificate import Certified, candidates, certify, lower_bounds
from funcgrad.neighbors.exact_distances import pair_distances
from funcgrad.neighbors.merge_step import StepSpec
from funcgrad.neighbors.plan import Plan
from funcgrad.neighbors.validation import check_finite


class Counts(NamedTuple):
    """How a search went; see `Info`."""

    query_block: int
    point_block: int
    searched_again: int = 0
    brute_forced: int = 0


class Result(NamedTuple):
    distances: np.ndarray  # (Q, k)
    indices: np.ndarray  # (Q, k) int32
    counts: Counts


def find_nearest(task: Task, k: int) -> Result:
    """The k nearest points of each query, by the strategy that serves the metric, the dtype and the precision."""
    check_finite("queries", task.queries)
    if not prefilter.pays(k, task.metric, len(task.points), task.tuning):
        task = task._replace(projection=None)
    in_floats = task.dtype.kind == "f" and not callable(task.metric)
    if task.precision == "exact" and (in_floats or task.projection is not None):
        return certified_search(task, k)
    return fast_search(task, k) if in_floats else plain_search(task, k)


def plain_search(task: Task, k: int, rows: np.ndarray | None = None) -> Result:
    """By the metric's own numbers: exact integers of bytes, and whatever a user's function gives."""
    spec = StepSpec(k, task.metric, task.p, False, task.exclude_self, task.mesh)
    scan = Scan(task.points, task.dtype, spec, task.memory, lambda queries: (queries, None))
    plan = plan_scan(task, scan, len(task.queries) if rows is None else len(rows))
    numbers, indices = _concatenated(search_blocks(task, scan, plan, rows))
    if not (numbers[:, 0] > -np.inf).all():
        query = int(np.argmin(numbers[:, 0] > -np.inf))
        raise ValueError(f"metric: gave NaN or −∞ for query {query} and point {indices[query, 0]}")
    if (indices < 0).any():
        raise ValueError(f"metric: gave infinity for query {int(np.argmax((indices < 0).any(axis=1)))}")
    if task.metric == "l2":
        numbers = np.sqrt(numbers.astype(np.float64)).astype(np.float32)  # rounded once, after the root
    return Result(numbers, indices, Counts(plan.query_block, plan.point_block))


def fast_search(task: Task, k: int) -> Result:
    """The filter's numbers as they are: nothing is proved, and distances small beside the vectors lose digits."""
    metric = str(task.metric)
    scan = _filter_scan(task, k, task.dtype, proved=False)
    plan = plan_scan(task, scan, len(task.queries))
    blocks = []
    for block in search_blocks(task, scan, plan):
        bounds = block.bounds
        if np.isneginf(block.numbers).any() or np.isneginf(bounds.offset).any() or (block.indices < 0).any():
            raise _out_of_range(task)
        numbers = bounds.offset[:, None] + bounds.factor[:, None] * block.numbers.astype(np.float64)
        blocks.append(block._replace(numbers=numbers))
    distances, indices = _concatenated(blocks)
    if metric != "dot":
        distances = np.clip(distances, 0, 2.0 if metric == "cosine" else None)
    distances = (np.sqrt(distances) if metric == "l2" else distances).astype(task.dtype)
    return Result(distances, indices, Counts(plan.query_block, plan.point_block))


def certified_search(task: Task, k: int) -> Result:
    """A filter, its candidates in float64, and a proof; queries without one get more candidates, and at last all.

    The first filter is a projection, if there is one. The queries that it leaves are, for bytes, searched plainly.
    """
    task, count = task._replace(progress=_only_forwards(task.progress)), len(task.queries)
    best = Certified(np.empty((count, k)), np.empty((count, k), np.int32), np.zeros(count, bool))
    plans: list[Plan] = []
    unproved: list[int] = []  # queries, after each scan
    for make_scan in _stages(task, k):
        rows = np.flatnonzero(~best.proved).astype(np.int32)
        scan = make_scan(len(rows))
        plans.append(plan_scan(task, scan, len(rows)))
        for block in search_blocks(task, scan, plans[-1], rows):
            found = _certify_block(task, scan, block, k)
            for whole, part in zip(best, found, strict=True):
                whole[block.rows] = part
            if scan.may_give_up and 2 * int(np.count_nonzero(found.proved)) < len(block.rows):
                break
        unproved.append(int(np.count_nonzero(~best.proved)))
        if not unproved[-1]:
            break
    counts = Counts(plans[0].query_block, plans[0].point_block, unproved[0])
    distances, indices, proved = best
    rows = np.flatnonzero(~proved).astype(np.int32)
    if task.dtype.kind != "f":
        if len(rows):
            distances[rows], indices[rows], _ = plain_search(task, k, rows)
        integer = np.int64 if needs_64_bits(task.dtype, task.points.shape[1]) else np.int32
        return Result(distances.astype(np.float32 if task.metric == "l2" else integer), indices, counts)
    for query in rows:
        distances[query], indices[query] = _brute_force(task, query, k)
    with np.errstate(over="ignore"):
        distances = distances.astype(task.dtype)
    if not np.isfinite(distances).all():
        raise _out_of_range(task)
    return Result(distances, indices, counts._replace(brute_forced=len(rows)))


def _stages(task: Task, k: int) -> list[Callable[[int], Scan]]:
    """What makes each scan, given the number of queries that are left: of the cheapest filter first."""
    stages: list[Callable[[int], Scan]] = []
    if task.projection is not None:
        stages.append(lambda count: _projection_scan(task, k))
    if task.dtype.kind == "f":
        few, many, wide = candidates(k), 4 * (k + 16), np.dtype(np.float64)
        stages.append(lambda count: _filter_scan(task, few, task.dtype, by_minima=_minima_pay(task, count)))
        stages.append(lambda count: _filter_scan(task, many, task.dtype))
        stages.append(lambda count: _filter_scan(task, many, wide))
    return stages


def _minima_pay(task: Task, count: int) -> bool:
    on_cpu = jax.default_backend() == "cpu"
    return on_cpu and task.metric == "l1" and minima_pay(count, task.points, task.tuning)


def _filter_scan(
    task: Task, num_candidates: int, dtype: np.dtype, *, proved: bool = True, by_minima: bool = False
) -> Scan:
    """A scan in `dtype`, whose bounds allow for its error if something is to be proved by them."""
    metric, points = str(task.metric), task.points
    error = filter_error(metric, points.shape[1], dtype) if proved else 0.0
    if by_minima:
        sums = sums_of_points(points)
        terms: Any = minima_terms(sums, dtype, error)
        bounds_of = partial(minima_bounds, dtype=dtype, sums=sums, error=error)
    else:
        statistics = point_statistics(points, metric, dtype, task.statistics, task.tuning)
        terms = None if statistics is None else point_terms(metric, statistics, error)
        bounds_of = partial(query_bounds, metric=metric, dtype=dtype, statistics=statistics, error=error)

    def prepare(queries: Any) -> tuple[np.ndarray, Bounds]:
        bounds = bounds_of(queries)
        return bounds.queries, bounds

    def lower(block: FoundBlock) -> tuple[np.ndarray, np.ndarray]:
        return lower_bounds(block.numbers, block.bounds, metric), block.bounds.size

    kept = min(num_candidates, len(points))
    spec = StepSpec(kept, metric, task.p, terms is not None, task.exclude_self, task.mesh, any_ties=proved)
    return Scan(points, dtype, spec, task.memory, prepare, lower, terms)


def _projection_scan(task: Task, k: int) -> Scan:
    """A scan of the projected points; it ends where it proves too little to pay."""
    projection, metric = task.projection, str(task.metric)
    assert projection is not None
    num_candidates = prefilter.num_candidates(k, metric)
    # The candidates of the queries that are searched together, and what is measured of them, need memory, too.
    memory = task.memory - min(task.memory // 4, 2**18 * num_candidates)
    if metric == "l1":
        spec = StepSpec(num_candidates, "l1", None, False, task.exclude_self, None, any_ties=True)
        scan = Scan(projection.projected, np.dtype(np.uint16), spec, memory, lambda x: (x, None))
    else:
        squares = task._replace(
            points=projection.projected, metric="sqeuclidean", statistics=projection.statistics, memory=memory
        )
        scan = _filter_scan(squares, num_candidates, np.dtype(np.float32))

    def prepare(queries: Any) -> tuple[np.ndarray, Any]:
        vectors, errors = prefilter.project(np.asarray(queries), metric, projection)
        rows, bounds = scan.prepare(vectors)
        return rows, (bounds, errors)

    def lower(block: FoundBlock) -> tuple[np.ndarray, np.ndarray]:
        bounds, errors = block.bounds
        numbers = block.numbers if scan.lower is None else scan.lower(block._replace(bounds=bounds))[0]
        size = np.full(len(errors), float(metric == "cosine"))
        return prefilter.lower_distances(numbers, errors, metric, projection), size

    return scan._replace(prepare=prepare, lower=lower, may_give_up=True)


def _certify_block(task: Task, scan: Scan, block: FoundBlock, k: int) -> Certified:
    assert scan.lower is not None
    lower, size = scan.lower(block)
    available: Any = int(task.allowed.sum())
    if task.exclude_self:  # a query that the mask excludes is no candidate anyway
        available = available - task.allowed[block.rows]
    measure = partial(_measure, task, np.asarray(take_rows(task.queries, block.rows)))
    dimensions = task.points.shape[1]
    return certify(measure, lower, block.indices, size, k, dimensions=dimensions, available=available)


def _brute_force(task: Task, query: np.integer, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of all points, in float64."""
    others = np.flatnonzero(task.allowed)
    others = others[others != query] if task.exclude_self else others
    exact = _measure(task, task.queries[query : query + 1], (np.zeros(len(others), int), others))
    nearest = np.argsort(exact, kind="stable")[:k]
    return exact[nearest], others[nearest]


def _measure(task: Task, queries: Any, pairs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return pair_distances(queries, task.points, pairs, str(task.metric), task.p, task.tuning)


def _concatenated(blocks: Iterable[FoundBlock]) -> tuple[np.ndarray, np.ndarray]:
    parts = [(block.numbers, block.indices) for block in blocks]
    numbers, indices = (np.concatenate(part) for part in zip(*parts, strict=True))
    return numbers, indices


def _out_of_range(task: Task) -> ValueError:
    return ValueError(f"points: distances beyond the range of {task.dtype}; scale the vectors, or pass float64")


def _only_forwards(progress: Callable[[int, int], None] | None) -> Callable[[int, int], None] | None:
    """`progress` without counts that an earlier scan has reported."""
    reported = 0

    def report(done: int, total: int) -> None:
        nonlocal reported
        if done > reported and progress is not None:
            reported = done
            progress(done, total)

    return report
