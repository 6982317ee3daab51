"""Why a float search cannot miss a neighbour: a fast filter with lower bounds, the last candidates in float64, a proof.

The filter ranks points by a number that is never above the true distance, whatever was rounded on the way. What it
keeps is measured again in float64 by the metric's own formula. If the k-th of these distances is below the largest
bound that was kept, then no other point can belong to the k nearest: that is the certificate of a query.

For metrics that are inner products at heart the bound is one matrix product, −factorᵦ · (A·b) + offsetᵦ, in which A is
the prepared query. With u half a unit in the last place, n·u·|a|·|b| bounds the error of an inner product of n terms in
any order of summation (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1). That leaves out what
vanishes: processors may take numbers below the smallest normal one for zero, on the way in and on the way out (XLA's
CPU does), so a bound also gives way by a few times that number (`_VANISHING`), or is −∞ where this would not do.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from funcgrad.distances import Metric
from funcgrad.neighbors.exact_distances import FETCHED, pair_distances, unit

PRODUCTS = ("l2", "sqeuclidean", "cosine", "dot")  # metrics that are inner products at heart

_VANISHING = 8  # times D and the smallest normal number: what all sums and products of one distance may lose
_SCALES = 2.0**-400, 2.0**400  # between these, squares of what is scaled are far from the ends of float64


class Summary(NamedTuple):
    """What is known of the points beforehand, in one precision: see `summarize`."""

    scale: float  # a power of two that brings the points near 1, so that no square overflows or vanishes
    centre: np.ndarray | None  # (D,), of l2 and sqeuclidean
    norms: np.ndarray  # (N,), of scale · points
    centred: np.ndarray | None  # (N,), of scale · (points − centre)


class Bounds(NamedTuple):
    """How a filter's numbers bound distances: distance ≥ query_offset + query_factor · number, for each query."""

    queries: np.ndarray  # (Q, D), prepared for the filter, in its dtype
    offset: np.ndarray  # (Q,) float64
    factor: np.ndarray  # (Q,) float64
    size: np.ndarray  # (Q,) float64, of what is added up where terms cancel: |a|·|b| at most; 0 where none do


@np.errstate(over="ignore", invalid="ignore")  # where a norm is beyond the dtype, there is no bound
def summarize(points: Any, metric: Metric, dtype: Any, known: Summary | None = None) -> Summary | None:
    """One pass over the points (two, of l2), a block at a time; None for a metric that needs none.

    The norms are computed in `dtype`, with at most as large an error as `filter_error` allows for.
    """
    if metric not in PRODUCTS:
        return None
    dtype = np.dtype(dtype)
    if known is not None and known.norms.dtype == dtype:
        return known
    centre, scale = (known.centre, known.scale) if known is not None else (None, 1.0)
    elements = 2**20 if isinstance(points, np.ndarray) else FETCHED
    blocks = range(0, len(points), rows := max(1, elements // points.shape[1]))
    if known is None and metric in ("l2", "sqeuclidean"):
        sums = [np.asarray(points[i : i + rows]).sum(axis=0, dtype=np.float64) / len(points) for i in blocks]
        centre = np.sum(sums, axis=0).astype(dtype)
        centre = np.where(np.isfinite(centre), centre, dtype.type(0))
    if known is None:
        shifted = 0 if centre is None else centre
        largest = max(float(np.abs(np.asarray(points[i : i + rows]) - shifted).max()) for i in blocks)
        widest = min(np.finfo(dtype).maxexp - 2, 500)  # such a scale has a square in float64
        scale = 2.0 ** float(np.clip(-np.frexp(largest)[1], -widest, widest)) if 0 < largest < np.inf else 1.0

    def norms(i: int) -> tuple[np.ndarray, np.ndarray | None]:
        block = np.asarray(points[i : i + rows]).astype(dtype, copy=False)
        with np.errstate(over="ignore", invalid="ignore"):  # again: each thread has its own
            return _norms(block, scale), None if centre is None else _norms(block - centre, scale)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        plain, centred = zip(*pool.map(norms, blocks), strict=True)
    return Summary(scale, centre, np.concatenate(plain), None if centre is None else np.concatenate(centred))


def _norms(x: np.ndarray, scale: float) -> np.ndarray:
    """scale · |row|, above 0 wherever a row is not zero."""
    scaled = x * x.dtype.type(scale)
    norms, limits = np.sqrt(np.einsum("ij,ij->i", scaled, scaled)), np.finfo(x.dtype)
    small = np.flatnonzero(norms <= np.sqrt(x.shape[1] * limits.tiny / limits.eps))  # squares may have vanished
    if len(small) and (few := x[small]).any():
        largest = np.abs(few).max(axis=1)
        ratios = few / np.where(largest > 0, largest, 1)[:, None]
        again = largest.astype(np.float64) * scale * np.sqrt((ratios**2).sum(axis=1))
        norms[small] = np.where(largest > 0, np.maximum(again.astype(x.dtype), limits.smallest_subnormal), 0)
    return norms


def filter_error(metric: Metric, dimensions: int, dtype: Any) -> float:
    """The relative error of a filter in `dtype`: of sums of positive terms, or of a product beside |a|·|b|.

    A few terms more than there are: what is added to a product rounds, and may round otherwise where it is added again.
    """
    terms = {"chebyshev": 4, "hamming": 4, "minkowski": 8 * dimensions + 64}.get(str(metric), dimensions + 32)
    return 1.05 * terms * float(np.finfo(dtype).eps) / 2


def query_bounds(queries: Any, metric: Metric, dtype: Any, summary: Summary | None, error: float) -> Bounds:
    """Queries as the filter takes them, and what turns its numbers into lower bounds; −∞ where there is none.

    An error of 0 leaves out what may vanish, too.
    """
    queries, dtype = np.asarray(queries), np.dtype(dtype)
    if summary is None:  # the number is the distance itself
        ones, zeros = np.ones(len(queries)), np.zeros(len(queries))
        vanishing = _VANISHING * queries.shape[1] * float(np.finfo(dtype).tiny) if error else 0.0
        return Bounds(queries.astype(dtype, copy=False), zeros - vanishing, ones * (1 - error), zeros)
    rows = max(1, 2**17 // queries.shape[1])  # as many as stay in a cache
    parts = [queries[i : i + rows] for i in range(0, len(queries), rows)]
    ratio, widest = 0.0 if summary.centre is None else _ratio(summary), float(summary.norms.max())
    known = {"metric": metric, "dtype": dtype, "summary": summary, "error": error, "ratio": ratio, "widest": widest}
    bounds: Callable[[np.ndarray], Bounds] = partial(_product_bounds, **known)
    if len(parts) == 1:
        return bounds(queries)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return Bounds(*(np.concatenate(x) for x in zip(*pool.map(bounds, parts), strict=True)))


@np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore")  # each thread has its own
def _product_bounds(
    queries: np.ndarray,
    *,
    metric: Metric,
    dtype: np.dtype,
    summary: Summary,
    error: float,
    ratio: float,
    widest: float,
) -> Bounds:
    """`query_bounds` of a metric that goes through products; ratio: see `_ratio`; widest: the largest norm."""
    exact, scale, limits = queries.astype(np.float64), summary.scale, np.finfo(dtype)
    ones, zeros = np.ones(len(exact)), np.zeros(len(exact))
    vanishing = _VANISHING * exact.shape[1] * float(limits.tiny) if error else 0.0
    if summary.centre is not None:  # with A = a − c, |a − b|² = |A|² + 2 A·c − 2 A·b + |b − c|²
        centre = summary.centre.astype(np.float64)
        prepared = (exact - centre) * scale
        squares = (prepared**2).sum(axis=1)
        offset = squares * (1 - error - error * ratio) + 2 * scale * (prepared @ centre)
        bounds = Bounds(prepared, offset / scale**2, ones / scale**2, zeros)
        norms = np.sqrt(squares)
    else:
        largest = np.abs(exact).max(axis=1, keepdims=True)
        largest = np.where(largest > 0, largest, 1)
        lengths = np.sqrt(((exact / largest) ** 2).sum(axis=1, keepdims=True))
        prepared, norms = exact / largest / np.where(lengths > 0, lengths, 1), ones
        bounds = Bounds(prepared, ones - 2 * error, ones, ones)
        if metric == "dot":
            factor = (largest * lengths)[:, 0] / scale
            bounds = Bounds(prepared, zeros, factor, factor * widest)
    offset = bounds.offset - bounds.factor * vanishing * (1 + widest) * (1 + scale) * (1 + norms)
    # Where something might overflow or vanish, there is no bound: the query is left to a wider dtype, or to none.
    terms = max(widest, 1.0) * (norms + 1) * max(1 / scale, 1.0), np.full(len(norms), widest) ** 2
    safe = np.isfinite(terms).all(axis=0) & (np.max(terms, axis=0) < float(limits.max) / 64) & np.isfinite(offset)
    safe &= _SCALES[0] < scale < min(2.0 ** (0.7 * limits.maxexp), _SCALES[1])
    rows = np.where(safe[:, None], prepared, 0).astype(dtype)
    return bounds._replace(queries=rows, offset=np.where(safe, offset, -np.inf))


def pairs_are_bounded(summary: Summary | None) -> bool:
    """Whether `pair_bounds` may be used: nothing overflows, and the scale lies where it would not vanish."""
    if summary is None:
        return True
    norms, limits = summary.norms if summary.centred is None else summary.centred, np.finfo(summary.norms.dtype)
    inside = _SCALES[0] < summary.scale < min(2.0 ** (0.7 * limits.maxexp), _SCALES[1])
    return inside and bool(np.isfinite(norms).all() and float(norms.max()) ** 2 < float(limits.max) / 64)


@np.errstate(under="ignore")
def pair_bounds(
    rows: Any, metric: Metric, dtype: Any, summary: Summary | None, error: float
) -> tuple[Bounds, np.ndarray]:
    """`query_bounds` of examples that are queries and points at once, and a term (n,) of each.

    The filter's number is the sum of both terms − the product of the rows as `Bounds.queries` has them; so it holds for
    both. Without a summary it is the distance itself. Both rows and their squares are rounded, so twice the error of a
    product is allowed for.
    """
    zeros = np.zeros(len(rows))
    if summary is None:
        return query_bounds(rows, metric, dtype, None, error), zeros.astype(dtype)
    exact, limits, error = np.asarray(rows).astype(np.float64), np.finfo(dtype), 2 * error
    if metric == "cosine":
        prepared, factor, size = unit(exact), 1.0, zeros + 1
        terms, widest = zeros + (1 - error) / 2, 1.0
    else:
        centre = 0.0 if summary.centre is None else summary.centre.astype(np.float64)
        prepared = (exact - centre) * summary.scale
        squares = (prepared**2).sum(axis=1)
        norms = summary.norms if summary.centred is None else summary.centred
        widest = float(norms.max())
        if metric == "dot":
            terms, factor = -error * squares / 2, 1 / summary.scale**2
            size = np.sqrt(squares) * widest * factor
        else:  # |a − b|² / 2 = |A|² / 2 + |B|² / 2 − A·B
            terms, factor, size = squares * (1 - error) / 2, 2 / summary.scale**2, zeros
    vanishing = _VANISHING * exact.shape[1] * float(limits.tiny) * (1 + widest) ** 2 * (1 + summary.scale)
    bounds = Bounds(prepared.astype(dtype), zeros - factor * vanishing, zeros + factor, size)
    return bounds, terms.astype(dtype)


def _ratio(summary: Summary) -> float:
    """√(mean |b|² / mean |b − centre|²): how 2|A||b| is split into a part of the query and a part of the point."""
    assert summary.centred is not None
    mean = float(np.mean(summary.centred.astype(np.float64) ** 2))
    return max(1.0, float(np.sqrt(np.mean(summary.norms.astype(np.float64) ** 2) / mean))) if mean > 0 else 1.0


def point_terms(metric: Metric, summary: Summary, error: float) -> tuple[np.ndarray, np.ndarray]:
    """(factors, offsets), (N,) each: the filter's number is offset − factor · (A·b)."""
    norms, dtype = summary.norms.astype(np.float64), summary.norms.dtype
    with np.errstate(over="ignore"):
        if summary.centred is not None:
            centred = summary.centred.astype(np.float64) ** 2
            offsets = centred * (1 - error) - error * norms**2 / _ratio(summary)
            return np.full(len(norms), 2 * summary.scale, dtype), offsets.astype(dtype)
        if metric == "cosine":  # products with a vector that is almost zero vanish: it has no bound
            least = 16 * max(1.0, summary.scale) * float(np.finfo(dtype).tiny / np.finfo(dtype).eps)
            factors = summary.scale / np.where(norms >= least, norms, np.inf)
            return factors.astype(dtype), np.where((norms > 0) & (norms < least), -np.inf, 0).astype(dtype)
        return np.full(len(norms), summary.scale, dtype), (-error * norms).astype(dtype)


# The l1 of a CPU: |a − b| = a + b − 2·min(a, b), of which only the minima are summed for each pair. Their sum is off
# by at most n·u·Σ|min(a, b)|, and no |min(a, b)| is above |a| + |b|: where the vectors are large beside their
# distances, there is no proof, and the next stage's plain |a − b|, whose error is relative, must find it.

_FEW_QUERIES, _LARGE = 256, 8  # below the one, and above the other, the plain sum is faster in all


def minima_pay(queries: int, points: Any) -> bool:
    """Whether summing minima is worth the try: there are many queries, and the points are not far from 0."""
    if queries < _FEW_QUERIES:
        return False
    count = min(256, max(16, 2**20 // points.shape[1]))
    some = np.asarray(points[:: -(-len(points) // count)]).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.abs(some).sum() <= _LARGE * np.abs(some - some.mean(axis=0)).sum() < np.inf)


def sums_of_points(points: Any) -> np.ndarray:
    """(2, N) float64: the sum of each point's numbers, and of their absolute values."""
    blocks = range(0, len(points), rows := max(1, 2**18 // points.shape[1]))

    @np.errstate(over="ignore", invalid="ignore")
    def sums(i: int) -> np.ndarray:
        return _sums(np.asarray(points[i : i + rows]))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.concatenate(list(pool.map(sums, blocks)), axis=1)


def _sums(x: np.ndarray) -> np.ndarray:
    x = np.ascontiguousarray(x, dtype=np.float64)  # then NumPy adds in pairs, with hardly an error
    return np.stack([x.sum(axis=1), np.abs(x).sum(axis=1)])


@np.errstate(over="ignore", invalid="ignore")
def minima_terms(sums: np.ndarray, dtype: Any, error: float) -> tuple[np.ndarray, np.ndarray]:
    """`point_terms` of sums of minima: the filter's number is offset − 2 · Σ min(a, b)."""
    return np.full(sums.shape[1], 2, dtype), (sums[0] - 2 * error * sums[1]).astype(dtype)


@np.errstate(over="ignore", invalid="ignore")
def minima_bounds(queries: Any, dtype: Any, sums: np.ndarray, error: float) -> Bounds:
    """`query_bounds` of sums of minima, with points of which `sums_of_points` is known."""
    limits, (own, norms) = np.finfo(dtype), _sums(np.asarray(queries))
    offset = own - 2 * error * norms - _VANISHING * queries.shape[1] * float(limits.tiny)
    safe = norms + sums[1].max() < float(limits.max) / 64
    zeros = np.zeros(len(norms))
    rows = np.where(safe[:, None], queries, 0).astype(dtype)
    return Bounds(rows, np.where(safe, offset, -np.inf), zeros + 1, zeros)


def candidates(k: int) -> int:
    """How many a filter keeps at first, for a proof of the k nearest."""
    return k + max(8, k // 4)


def lower_bounds(numbers: np.ndarray, bounds: Bounds, metric: str) -> np.ndarray:
    """What distances are not below, from a filter's numbers (Q, m); −∞ where that is not known."""
    with np.errstate(over="ignore", invalid="ignore"):
        lower = bounds.offset[:, None] + bounds.factor[:, None] * numbers.astype(np.float64)
    lower[np.isneginf(numbers) | np.isnan(lower)] = -np.inf
    return np.sqrt(np.maximum(lower, 0)) if metric == "l2" else lower  # whose bounds are those of the squares


class Certified(NamedTuple):
    distances: np.ndarray  # (Q, k) float64, as `pair_distances` gives them
    indices: np.ndarray  # (Q, k) int32
    proved: np.ndarray  # (Q,) bool


def certify(
    queries: Any,
    points: Any,
    lower: np.ndarray,
    indices: np.ndarray,
    size: np.ndarray,
    k: int,
    metric: str,
    p: float | None,
    available: int | np.ndarray,
) -> Certified:
    """The k nearest of each query's candidates, and whether no other point can be among them.

    lower, indices: (Q, m), m ≥ k, what the candidates' distances are not below, ascending; of all other points they are
    not below the last. An index of -1 is no candidate. size: as in `Bounds`; available: how many points there are to
    choose from, in all or for each query (Q,).
    """
    distances, (_, count) = np.full(indices.shape, np.inf), indices.shape
    # float64 rounds, too: what may be the k-th distance is taken a little larger.
    slack = 4 * (points.shape[1] + 16) * float(np.finfo(np.float64).eps)
    margin = slack * size
    worst, done = np.full(len(indices), np.inf), 0  # the k-th distance so far, which the more are measured falls
    for some in (k, *(count >> i for i in (4, 3, 2, 1, 0))):
        if some > done:
            rows, places = np.nonzero((lower[:, done:some] <= worst[:, None]) & (indices[:, done:some] >= 0))
            places += done
            distances[rows, places] = pair_distances(queries, points, (rows, indices[rows, places]), metric, p)
            worst = np.partition(distances[:, :some], k - 1, axis=1)[:, k - 1] * (1 + slack) + margin
            done = some
    order = np.lexsort((indices, distances), axis=1)[:, :k]
    best = np.take_along_axis(distances, order, axis=1)
    everyone = (indices >= 0).sum(axis=1) >= available
    proved = everyone | (best[:, -1] * (1 + slack) + margin < lower[:, -1])
    return Certified(best, np.take_along_axis(indices, order, axis=1), proved)
