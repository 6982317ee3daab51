"""Lower bounds from a fast filter: numbers that are never above the true distance, whatever was rounded on the way.

A search in floats cannot miss a neighbour: the filter ranks points by such a number, the candidates that it keeps are
measured again in float64, and a certificate (`certificate`) says whether any other point can belong to the k nearest.

For metrics that are inner products at heart the number is one matrix product, offset_b − factor_b · (A·b), in which A
is the prepared query. u = eps / 2 is the unit roundoff of the filter's dtype; an inner product of n terms, summed in
any order, errs by at most n·u / (1 − n·u) · |a|·|b| (Higham, Accuracy and Stability of Numerical Algorithms, 2002,
section 3.1). That leaves out underflow, which `_UNDERFLOW` allows for; where this would not do, the bound is −∞.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from funcgrad.distances import Metric
from funcgrad.neighbors.exact_distances import directions
from funcgrad.neighbors.tuning import DEFAULTS, Tuning

PRODUCTS = ("l2", "sqeuclidean", "cosine", "dot")  # metrics that are inner products at heart

# A processor may flush what is below `tiny`, the smallest normal number, to zero, on the way in and on the way out
# (XLA's CPU does). In a dimension that changes |a − b| by 3 tiny and a partial sum by 1; 2·min(a, b) by 2 and its sum
# by 2; 2s·(A·b) by 2s·(|A| + |b|) and its sum by 4s. Of an offset and the last difference it is 3 in all. So all is
# within 8·D·tiny, of products times (1 + s|b|)(1 + s)(1 + |A|), since 4D + 3 ≤ 8D.
_UNDERFLOW = 8
# Within these limits of a scale s its square, by which the bounds of squared distances are divided, is far from the
# ends of float64, 2^±1022, and so are the squares themselves.
_SCALES = 2.0**-400, 2.0**400


class PointStatistics(NamedTuple):
    """Precomputed statistics of the points, in one precision: see `point_statistics`."""

    scale: float  # a power of two that brings the points near 1, so that no square overflows or underflows
    centre: np.ndarray | None  # (D,), for l2 and sqeuclidean
    norms: np.ndarray  # (N,), of scale · points
    centred: np.ndarray | None = None  # (N,), the norms of scale · (points − centre)


class Bounds(NamedTuple):
    """How a filter's numbers bound distances: distance ≥ offset + factor · number, for each query."""

    queries: np.ndarray  # (Q, D), prepared for the filter, in its dtype
    offset: np.ndarray  # (Q,) float64
    factor: np.ndarray  # (Q,) float64
    size: np.ndarray  # (Q,) float64, of what is added up where terms cancel: |a|·|b| at most; 0 where none do


def point_statistics(
    points: Any, metric: Metric, dtype: Any, earlier: PointStatistics | None = None, tuning: Tuning = DEFAULTS
) -> PointStatistics | None:
    """Two passes over the points (three for l2), a block at a time; None for a metric that needs none.

    The norms are computed in `dtype`, with an error of at most what `filter_error` allows for. `earlier` are those in
    another precision, whose centre and scale are kept.
    """
    if metric not in PRODUCTS:
        return None
    dtype = np.dtype(dtype)
    if earlier is not None and earlier.norms.dtype == dtype:
        return earlier
    rows = max(1, (2**20 if isinstance(points, np.ndarray) else tuning.fetched) // points.shape[1])
    if earlier is not None:
        scale, centre = earlier.scale, earlier.centre
    else:
        blocks = [slice(start, start + rows) for start in range(0, len(points), rows)]
        with np.errstate(over="ignore", invalid="ignore"):
            centre = _mean(points, blocks, dtype) if metric in ("l2", "sqeuclidean") else None
            shift = 0 if centre is None else centre
            largest = max(float(np.abs(np.asarray(points[block]) - shift).max()) for block in blocks)
        widest = min(
            np.finfo(dtype).maxexp - 2, 500
        )  # such a scale is a number of `dtype`, and has a square in float64
        scale = 2.0 ** float(np.clip(-np.frexp(largest)[1], -widest, widest)) if 0 < largest < np.inf else 1.0

    def norms(part: slice) -> tuple[np.ndarray, ...]:
        block = np.asarray(points[part]).astype(dtype, copy=False)
        return tuple(_norms(x, scale) for x in ((block,) if centre is None else (block, block - centre)))

    return PointStatistics(scale, centre, *in_threads(norms, len(points), rows))


def _mean(points: Any, blocks: list[slice], dtype: np.dtype) -> np.ndarray:
    sums = [np.asarray(points[block]).sum(axis=0, dtype=np.float64) / len(points) for block in blocks]
    mean = np.sum(sums, axis=0).astype(dtype)
    return np.where(np.isfinite(mean), mean, dtype.type(0))


def _norms(x: np.ndarray, scale: float) -> np.ndarray:
    """scale · |row|, above 0 wherever a row is not zero."""
    scaled = x * x.dtype.type(scale)
    norms, limits = np.sqrt(np.einsum("ij,ij->i", scaled, scaled)), np.finfo(x.dtype)
    small = np.flatnonzero(norms <= np.sqrt(x.shape[1] * limits.tiny / limits.eps))  # D squares below tiny: over eps
    if len(small) and (rows := x[small]).any():
        largest = np.abs(rows).max(axis=1)
        ratios = rows / np.where(largest > 0, largest, 1)[:, None]
        again = largest.astype(np.float64) * scale * np.sqrt((ratios**2).sum(axis=1))
        norms[small] = np.where(largest > 0, np.maximum(again.astype(x.dtype), limits.smallest_subnormal), 0)
    return norms


def in_threads(function: Callable[[slice], tuple[np.ndarray, ...]], count: int, rows: int) -> list[np.ndarray]:
    """The arrays that `function` gives of 0 … count, a block of `rows` at a time, one after the other."""

    @np.errstate(all="ignore")  # each thread has its own; where something overflows, there is no bound
    def of_part(start: int) -> tuple[np.ndarray, ...]:
        return function(slice(start, start + rows))

    first = of_part(0)
    if count <= rows:
        return list(first)
    whole = [np.empty((count, *x.shape[1:]), x.dtype) for x in first]

    def fill(start: int) -> None:
        for array, part in zip(whole, of_part(start) if start else first, strict=True):
            array[start : start + rows] = part

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(fill, range(0, count, rows)))
    return whole


def filter_error(metric: Metric, dimensions: int, dtype: Any) -> float:
    """The relative error of a filter in `dtype`: of sums of positive terms, or of a product beside |a|·|b|.

    In units of u: D differences that are added up err by D. In offset − factor · (A·b), the product errs by D, A by 1
    and their difference by 1, beside |A||b|; the offset, a square of a norm (D + 4), rounded, by D + 6 of itself; a
    float64 query's own terms by D + 3. So D + 32 holds each. Cosine divides by norms (D / 2 + 3, a query's too):
    2D + 11, within twice that. Chebyshev's difference, or hamming's quotient, rounds once, and twice when a bound is
    formed: 4. Minkowski's powers may be exp(p · log x), x ≤ 1, whose relative error grows by 16 |log xᵖ|; but y |log y|
    ≤ 1 / e, so that D of them, beside a sum of at least 1, add 16 D / e < 6 D, and their root 16 log D: 8D + 64.

    1 / (1 − n·u) is below 1.05 as long as n·u ≤ 1 / 21: up to 798,000 dimensions in float32.
    """
    terms = {"chebyshev": 4, "hamming": 4, "minkowski": 8 * dimensions + 64}.get(str(metric), dimensions + 32)
    error = terms * float(np.finfo(dtype).eps) / 2
    return max(1.05, 1 / (1 - min(error, 0.9))) * error


def query_bounds(queries: Any, metric: Metric, dtype: Any, statistics: PointStatistics | None, error: float) -> Bounds:
    """Queries as the filter takes them, and what turns its numbers into lower bounds; −∞ where there is none.

    An error of 0 leaves out underflow, too.
    """
    queries, dtype = np.asarray(queries), np.dtype(dtype)
    underflow = _UNDERFLOW * queries.shape[1] * float(np.finfo(dtype).tiny) if error else 0.0
    if statistics is None:  # the number is the distance itself
        ones, zeros = np.ones(len(queries)), np.zeros(len(queries))
        return Bounds(queries.astype(dtype, copy=False), zeros - underflow, ones * (1 - error), zeros)
    ratio = 0.0 if statistics.centre is None else _ratio(statistics)
    widest = float(statistics.norms.max())

    def bounds(part: slice) -> Bounds:
        exact = queries[part].astype(np.float64)
        if statistics.centre is not None:
            found, norms = _centred_bounds(exact, statistics, error, ratio)
        else:
            found, norms = _direction_bounds(exact, metric, statistics.scale, error, widest), np.ones(len(exact))
        return _bounds_in_range(found, norms, dtype, statistics.scale, widest, underflow)

    return Bounds(*in_threads(bounds, len(queries), max(1, 2**17 // queries.shape[1])))  # what stays in a cache


def _centred_bounds(
    exact: np.ndarray, statistics: PointStatistics, error: float, ratio: float
) -> tuple[Bounds, np.ndarray]:
    """For l2: with A = s (a − c), s² |a − b|² = |A|² + 2s A·c − 2s A·b + s² |b − c|². Returns the norms |A| too."""
    scale, centre = statistics.scale, statistics.centre.astype(np.float64)  # type: ignore[union-attr]
    prepared = (exact - centre) * scale
    squares = (prepared**2).sum(axis=1)
    norms = np.sqrt(squares)
    offset = squares * (1 - error - error * ratio) + 2 * scale * (prepared @ centre)
    if error:  # A·c rounds, too, and in float64 as much as the filter may
        offset -= 2 * filter_error("l2", len(centre), np.float64) * norms * np.linalg.norm(scale * centre)
    ones = np.ones(len(exact))
    return Bounds(prepared, offset / scale**2, ones / scale**2, 0 * ones), norms


def _direction_bounds(exact: np.ndarray, metric: Metric, scale: float, error: float, widest: float) -> Bounds:
    """For cosine and dot, whose queries are divided by their lengths."""
    (prepared, lengths), ones = directions(exact), np.ones(len(exact))
    if metric == "cosine":
        return Bounds(prepared, ones - 2 * error, ones, ones)
    return Bounds(prepared, 0 * ones, lengths / scale, lengths / scale * widest)


def _bounds_in_range(
    bounds: Bounds, norms: np.ndarray, dtype: np.dtype, scale: float, widest: float, underflow: float
) -> Bounds:
    """Bounds that allow for underflow, and are −∞ where anything might overflow: such a query needs a wider dtype."""
    limits = np.finfo(dtype)
    offset = bounds.offset - bounds.factor * underflow * (1 + widest) * (1 + scale) * (1 + norms)
    # |A·b| ≤ |A| widest / s and s² |b − c|² ≤ 4 widest², so no step of the filter is above 8 times the larger of these
    # two; another factor of 8 is for good measure.
    terms = max(widest, 1.0) * (norms + 1) * max(1 / scale, 1.0), np.full(len(norms), widest) ** 2
    safe = np.isfinite(terms).all(axis=0) & (np.max(terms, axis=0) < float(limits.max) / 64) & np.isfinite(offset)
    # Below 2^(0.7 maxexp), s · tiny is below 2^(2 − 0.3 maxexp), 2⁻³⁶ in float32: underflow stays small beside u.
    safe &= _SCALES[0] < scale < min(2.0 ** (0.7 * limits.maxexp), _SCALES[1])
    rows = np.where(safe[:, None], bounds.queries, 0).astype(dtype)
    return bounds._replace(queries=rows, offset=np.where(safe, offset, -np.inf))


def _ratio(statistics: PointStatistics) -> float:
    """r = √(mean |b|² / mean |b − c|²), by which an error beside 2|A||b| is split between a query and a point.

    (√r |A| − |b| / √r)² ≥ 0, so 2|A||b| ≤ r|A|² + |b|² / r, with equality at r = |b| / |A|; |A| is of |b − c|'s size.
    """
    assert statistics.centred is not None
    mean = float(np.mean(statistics.centred.astype(np.float64) ** 2))
    return max(1.0, float(np.sqrt(np.mean(statistics.norms.astype(np.float64) ** 2) / mean))) if mean > 0 else 1.0


def point_terms(metric: Metric, statistics: PointStatistics, error: float) -> tuple[np.ndarray, np.ndarray]:
    """(factors, offsets), (N,) each: the filter's number is offset − factor · (A·b)."""
    norms, scale, limits = statistics.norms.astype(np.float64), statistics.scale, np.finfo(statistics.norms.dtype)
    factors, offsets = np.full(len(norms), scale), -error * norms
    with np.errstate(over="ignore"):
        if statistics.centred is not None:
            centred = statistics.centred.astype(np.float64) ** 2
            factors, offsets = 2 * factors, centred * (1 - error) - error * norms**2 / _ratio(statistics)
        elif metric == "cosine":
            # Underflow changes Â·b by at most (2D + √D) tiny; divided by |b| that is below (D / 16) u, which twice the
            # error has room for. A vector that is shorter than this has no bound.
            least = 64 * max(1.0, scale) * float(limits.tiny / limits.eps)
            factors = scale / np.where(norms >= least, norms, np.inf)
            offsets = np.where((norms > 0) & (norms < least), -np.inf, 0)
        return factors.astype(limits.dtype), offsets.astype(limits.dtype)


# The l1 of a CPU: |a − b| = a + b − 2·min(a, b), of which only the minima are summed for each pair. Their sum errs by
# D·u·Σ|min(a, b)|, and no |min(a, b)| is above |a| + |b|. Twice the filter's error beside Σ|a| + Σ|b| allows for twice
# that, and for 3 u in rounding the offset and the difference. Where the vectors are large beside their distances,
# there is no proof, and the next stage's plain |a − b|, whose error is relative, must find it.


def minima_pay(queries: int, points: Any, tuning: Tuning = DEFAULTS) -> bool:
    """Whether summing minima is faster: for enough queries, and points that are not far from 0 beside their spread."""
    if queries < tuning.minima_min_queries:
        return False
    count = min(256, max(16, 2**20 // points.shape[1]))
    sample = np.asarray(points[:: -(-len(points) // count)]).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(
            np.abs(sample).sum() <= tuning.minima_max_ratio * np.abs(sample - sample.mean(axis=0)).sum() < np.inf
        )


def sums_of_points(points: Any) -> np.ndarray:
    """(2, N) float64: the sum of each point's numbers, and of their absolute values."""
    rows = max(1, 2**18 // points.shape[1])
    return np.stack(in_threads(lambda part: _sums(np.asarray(points[part])), len(points), rows))


def _sums(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = np.ascontiguousarray(x, dtype=np.float64)  # then NumPy sums pairwise, with hardly an error
    return x.sum(axis=1), np.abs(x).sum(axis=1)


@np.errstate(over="ignore", invalid="ignore")
def minima_terms(sums: np.ndarray, dtype: Any, error: float) -> tuple[np.ndarray, np.ndarray]:
    """`point_terms` of sums of minima: the filter's number is offset − 2 · Σ min(a, b)."""
    return np.full(sums.shape[1], 2, dtype), (sums[0] - 2 * error * sums[1]).astype(dtype)


@np.errstate(over="ignore", invalid="ignore")
def minima_bounds(queries: Any, dtype: Any, sums: np.ndarray, error: float) -> Bounds:
    """`query_bounds` of sums of minima, for points whose `sums_of_points` are given."""
    limits, (own, norms) = np.finfo(dtype), _sums(np.asarray(queries))
    offset = own - 2 * error * norms - _UNDERFLOW * queries.shape[1] * float(limits.tiny)
    safe = norms + sums[1].max() < float(limits.max) / 64  # no step is above 5 times this
    zeros = np.zeros(len(norms))
    rows = np.where(safe[:, None], queries, 0).astype(dtype)
    return Bounds(rows, np.where(safe, offset, -np.inf), zeros + 1, zeros)
