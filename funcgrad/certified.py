"""Why a float search cannot miss a neighbour: a fast filter with lower bounds, the last candidates in float64, a proof.

The filter ranks points by a number that is never above the true distance, whatever was rounded on the way. What it
keeps is measured again in float64 by the metric's own formula. If the k-th of these distances is below the largest
bound that was kept, then no other point can belong to the k nearest: that is the certificate of a query.

For metrics that are inner products at heart the bound is one matrix product, −factorᵦ · (A·b) + offsetᵦ, in which A is
the prepared query. With u half a unit in the last place, n·u·|a|·|b| bounds the error of an inner product of n terms in
any order of summation (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1).
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from funcgrad.distances import Metric

PRODUCTS = ("l2", "sqeuclidean", "cosine", "dot")  # metrics that are inner products at heart


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
    blocks = range(0, len(points), rows := max(1, 2**20 // points.shape[1]))
    if known is None and metric in ("l2", "sqeuclidean"):
        sums = [np.asarray(points[i : i + rows]).sum(axis=0, dtype=np.float64) / len(points) for i in blocks]
        centre = np.sum(sums, axis=0).astype(dtype)
    if known is None:
        shifted = 0 if centre is None else centre
        largest = max(float(np.abs(np.asarray(points[i : i + rows]) - shifted).max()) for i in blocks)
        scale = float(2.0 ** -np.frexp(largest)[1]) if 0 < largest < np.inf else 1.0

    def norms(i: int) -> tuple[np.ndarray, np.ndarray | None]:
        block = np.asarray(points[i : i + rows]).astype(dtype, copy=False)
        plain = np.sqrt(_squares(block * dtype.type(scale)))
        return plain, None if centre is None else np.sqrt(_squares((block - centre) * dtype.type(scale)))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        plain, centred = zip(*pool.map(norms, blocks), strict=True)
    return Summary(scale, centre, np.concatenate(plain), None if centre is None else np.concatenate(centred))


def _squares(x: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", x, x)


def filter_error(metric: Metric, dimensions: int, dtype: Any) -> float:
    """The relative error of a filter in `dtype`: of sums of positive terms, or of a product beside |a|·|b|."""
    terms = {"chebyshev": 4, "hamming": 4, "minkowski": 8 * dimensions + 64}.get(str(metric), dimensions + 32)
    return 1.05 * terms * float(np.finfo(dtype).eps) / 2


def query_bounds(queries: Any, metric: Metric, dtype: Any, summary: Summary | None, error: float) -> Bounds:
    """Queries as the filter takes them, and what turns its numbers into lower bounds; −∞ where there is none."""
    dtype, exact = np.dtype(dtype), np.asarray(queries).astype(np.float64)
    ones, zeros = np.ones(len(exact)), np.zeros(len(exact))
    if summary is None:  # the number is the distance itself
        return Bounds(np.asarray(queries).astype(dtype, copy=False), zeros, ones * (1 - error), zeros)
    if summary.centre is not None:  # with A = a − c, |a − b|² = |A|² + 2 A·c − 2 A·b + |b − c|²
        centre = summary.centre.astype(np.float64)
        prepared = (exact - centre) * summary.scale
        squares = (prepared**2).sum(axis=1)
        offset = squares * (1 - error - error * _ratio(summary)) + 2 * summary.scale * (prepared @ centre)
        bounds = Bounds(prepared, offset / summary.scale**2, ones / summary.scale**2, zeros)
        norms = np.sqrt(squares)
    else:
        largest = np.abs(exact).max(axis=1, keepdims=True)
        largest = np.ldexp(1.0, np.frexp(np.where(largest > 0, largest, 1))[1])
        lengths = np.sqrt(((exact / largest) ** 2).sum(axis=1, keepdims=True))
        prepared, norms = exact / largest / np.where(lengths > 0, lengths, 1), ones
        bounds = Bounds(prepared, ones - 2 * error, ones, ones)
        if metric == "dot":
            factor = (largest * lengths)[:, 0] / summary.scale
            bounds = Bounds(prepared, zeros, factor, factor * float(summary.norms.max()))
    # Where something might overflow or vanish, there is no bound: the query is left to a wider dtype, or to none.
    range_, widest = np.finfo(dtype), float(summary.norms.max())
    with np.errstate(over="ignore"):
        terms = max(widest, 1.0) * (norms + 1) * max(1 / summary.scale, 1.0), np.full(len(norms), widest) ** 2
    safe = np.isfinite(terms).all(axis=0) & (np.max(terms, axis=0) < float(range_.max) / 64)
    safe &= summary.scale < 2.0 ** (0.7 * range_.maxexp)
    rows = np.where(safe[:, None], prepared, 0).astype(dtype)
    return bounds._replace(queries=rows, offset=np.where(safe, bounds.offset, -np.inf))


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
        if metric == "cosine":
            return (summary.scale / np.where(norms > 0, norms, np.inf)).astype(dtype), np.zeros(len(norms), dtype)
        return np.full(len(norms), summary.scale, dtype), (-error * norms).astype(dtype)


# The candidates, again, in float64 by NumPy on the host: the same bits whatever device and blocks the filter had.


def pair_distances(
    queries: Any, points: Any, pairs: tuple[np.ndarray, np.ndarray], metric: str, p: float | None
) -> Any:
    """The distances (len(pairs[0]),) float64 of queries[pairs[0]] and points[pairs[1]]; of l2 their squares."""
    size = max(1, 2**18 // points.shape[1])  # pairs at a time: what stays in a cache

    def some(start: int) -> np.ndarray:
        first, second = (np.asarray(index[start : start + size]) for index in pairs)
        a, b = (np.asarray(x[index]).astype(np.float64) for x, index in ((queries, first), (points, second)))
        with np.errstate(over="ignore", invalid="ignore"):
            return _FORMULAS[metric](a, b) if metric != "minkowski" else _minkowski(a, b, p)

    starts = range(0, len(pairs[0]), size)
    if len(starts) <= 1:
        return some(0)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.concatenate(list(pool.map(some, starts)))


def _minkowski(a: np.ndarray, b: np.ndarray, p: Any) -> np.ndarray:
    difference = np.abs(a - b)
    largest = difference.max(axis=1, keepdims=True)
    scale = np.where(largest > 0, largest, 1)
    return scale[:, 0] * ((difference / scale) ** p).sum(axis=1) ** (1 / p)


def _unit(a: np.ndarray) -> np.ndarray:
    a = a / np.where((largest := np.abs(a).max(axis=1, keepdims=True)) > 0, largest, 1)
    return a / np.where((norm := np.sqrt((a * a).sum(axis=1, keepdims=True))) > 0, norm, 1)


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """1 − cos = |â − b̂|² / 2, which is 0 of equal directions, whatever was rounded; 1 where a vector is zero."""
    zero = ~(a.any(axis=1) & b.any(axis=1))
    return np.where(zero, 1.0, np.minimum(((_unit(a) - _unit(b)) ** 2).sum(axis=1) / 2, 2.0))


_FORMULAS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "l1": lambda a, b: np.abs(a - b).sum(axis=1),
    "l2": lambda a, b: ((a - b) ** 2).sum(axis=1),
    "sqeuclidean": lambda a, b: ((a - b) ** 2).sum(axis=1),
    "chebyshev": lambda a, b: np.abs(a - b).max(axis=1),
    "hamming": lambda a, b: (a != b).mean(axis=1),
    "cosine": _cosine,
    "dot": lambda a, b: -(a * b).sum(axis=1),
}


class Certified(NamedTuple):
    distances: np.ndarray  # (Q, k) float64, as `pair_distances` gives them
    indices: np.ndarray  # (Q, k) int32
    proved: np.ndarray  # (Q,) bool


def certify(
    queries: Any,
    points: Any,
    numbers: np.ndarray,
    indices: np.ndarray,
    bounds: Bounds,
    k: int,
    metric: str,
    p: float | None,
    available: int,
) -> Certified:
    """The k nearest of each query's candidates, and whether no other point can be among them.

    numbers, indices: (Q, m), m ≥ k, from the filter in ascending order; -1 is no candidate. available: how many points
    there are to choose from.
    """
    with np.errstate(invalid="ignore"):
        lower = np.where(
            np.isneginf(numbers), -np.inf, bounds.offset[:, None] + bounds.factor[:, None] * numbers.astype(np.float64)
        )
    distances = np.full(indices.shape, np.inf)

    def measure(which: np.ndarray) -> None:
        rows, places = np.nonzero(which & (indices >= 0))
        distances[rows, places] = pair_distances(queries, points, (rows, indices[rows, places]), metric, p)

    first = np.zeros(indices.shape, bool)
    first[:, :k] = True
    measure(first)
    # float64 rounds, too: what may be the k-th distance is taken a little larger.
    slack = 4 * (points.shape[1] + 16) * float(np.finfo(np.float64).eps)
    margin = slack * bounds.size
    worst = distances[:, :k].max(axis=1) * (1 + slack) + margin
    measure(~first & (lower <= worst[:, None]))
    order = np.lexsort((indices, distances), axis=1)[:, :k]
    best = np.take_along_axis(distances, order, axis=1)
    everyone = (indices >= 0).sum(axis=1) >= available
    proved = everyone | (best[:, -1] * (1 + slack) + margin < lower[:, -1])
    return Certified(best, np.take_along_axis(indices, order, axis=1), proved)
