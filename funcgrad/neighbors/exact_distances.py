"""Distances of single pairs in float64, by NumPy on the host: the same bits whatever device and blocks a filter had."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from funcgrad.neighbors.tuning import DEFAULTS, Tuning

Pairs = tuple[np.ndarray, np.ndarray]  # rows of the queries, and of the points, (n,) each

_THREADS = min(8, os.cpu_count() or 1)  # more wait for one another between NumPy's loops, and are slower in all


def pair_distances(
    queries: Any, points: Any, pairs: Pairs, metric: str, p: float | None, tuning: Tuning = DEFAULTS
) -> np.ndarray:
    """The distances (n,) float64 of queries[pairs[0]] and points[pairs[1]]."""
    count, dimensions = len(pairs[0]), points.shape[1]
    if not (isinstance(queries, np.ndarray) and isinstance(points, np.ndarray)):
        return _fetched_pair_distances(queries, points, pairs, metric, p, tuning)
    formula = _FORMULAS[metric] if metric != "minkowski" else lambda a, b: _p_norm(_difference(a, b), p)
    size, dtype = max(1, tuning.pair_elements // dimensions), "float64"  # pairs at a time
    if metric == "l1" and queries.dtype == points.dtype == np.uint8:
        formula, size, dtype = _l1_of_bytes, 3 * size, "uint8"
    distances = np.empty(count)

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")  # each thread has its own
    def measure(starts: range) -> None:
        a, b = np.empty((2, size, dimensions), dtype)  # reused: page-faulting fresh buffers would dominate
        for start in starts:
            first, second = (np.asarray(index[start : start + size]) for index in pairs)
            a[: len(first)], b[: len(first)] = queries[first], points[second]
            distances[start : start + size] = formula(a[: len(first)], b[: len(first)])

    starts = range(0, count, size)
    if len(starts) <= 1:
        measure(starts)
        return distances
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(measure, (starts[thread::_THREADS] for thread in range(_THREADS))))
    return distances


def neighbor_distances(
    queries: Any, points: Any, indices: np.ndarray, metric: str, p: float | None, tuning: Tuning = DEFAULTS
) -> np.ndarray:
    """The distances (Q, k) float64 of each query and the points at `indices` (Q, k)."""
    distances, (count, k) = np.empty(indices.shape), indices.shape
    rows = max(1, tuning.fetched // k)
    for start in range(0, count, rows):
        part = indices[start : start + rows]
        pairs = np.repeat(np.arange(start, start + len(part)), k), part.ravel()
        distances[start : start + rows] = pair_distances(queries, points, pairs, metric, p, tuning).reshape(part.shape)
    return distances


def _fetched_pair_distances(
    queries: Any, points: Any, pairs: Pairs, metric: str, p: float | None, tuning: Tuning
) -> np.ndarray:
    """`pair_distances` of vectors on a device, a chunk at a time."""
    most = max(1, tuning.fetched // points.shape[1])
    distances, size = np.empty(len(pairs[0])), 1 << (most.bit_length() - 1)  # a power of 2: see `_rows_of`
    for start in range(0, len(distances), size):
        first, second = (numbers[start : start + size] for numbers in pairs)
        places = np.arange(len(first))
        rows = _rows_of(queries, first), _rows_of(points, second)
        distances[start : start + size] = pair_distances(*rows, (places, places), metric, p, tuning)
    return distances


def _rows_of(x: Any, numbers: np.ndarray) -> np.ndarray:
    if isinstance(x, np.ndarray):
        return x[numbers]
    missing = (1 << (len(numbers) - 1).bit_length()) - len(numbers)  # each number of rows needs a program of its own
    return np.asarray(x[np.pad(numbers, (0, missing))])[: len(numbers)]


# The metrics' formulas, which may overwrite their arguments (n, D) float64.


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.subtract(a, b, out=a)


def _l1_of_bytes(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """For uint8, without conversion to float64: an eighth of the memory to read."""
    return (np.maximum(a, b) - np.minimum(a, b)).sum(axis=1, dtype=np.uint64)


def _p_norm(difference: np.ndarray, p: Any) -> np.ndarray:
    difference = np.abs(difference)
    largest = difference.max(axis=1, keepdims=True)
    scale = np.where(largest > 0, largest, 1)
    return scale[:, 0] * ((difference / scale) ** p).sum(axis=1) ** (1 / p)


def _sqeuclidean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    difference = _difference(a, b)
    return np.vecdot(difference, difference)


def _in_range(squares: np.ndarray) -> np.ndarray:
    """Which sums of squares neither overflowed nor lost digits to underflow: float64 is 2.2e-308 … 1.8e308."""
    return (squares > 1e-280) & (squares < 1e300)


def _l2(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squares = _sqeuclidean(a, b)  # and a is the difference
    root = np.sqrt(squares)
    if len(odd := np.flatnonzero(~_in_range(squares))):
        root[odd] = _p_norm(a[odd], 2.0)
    return root


def directions(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, D) divided by their lengths, and these lengths (n,); zeros stay zeros."""
    largest = np.abs(a).max(axis=1, keepdims=True)
    largest = np.where(largest > 0, largest, 1)
    a = a / largest
    norms = np.sqrt((a * a).sum(axis=1, keepdims=True))
    return a / np.where(norms > 0, norms, 1), (largest * norms)[:, 0]


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """1 − cos = |â − b̂|² / 2, which is 0 of equal directions, whatever was rounded; 1 where a vector is zero."""
    squares = np.vecdot(a, a), np.vecdot(b, b)
    odd = np.flatnonzero(~(_in_range(squares[0]) & _in_range(squares[1])))
    odd_a, odd_b = a[odd], b[odd]
    b *= (np.sqrt(squares[0]) / np.sqrt(squares[1]))[:, None]  # as long as a
    distances = np.minimum(_sqeuclidean(a, b) / (2 * squares[0]), 2.0)
    if len(odd):
        zero = ~(odd_a.any(axis=1) & odd_b.any(axis=1))
        squares_of_odd = _sqeuclidean(directions(odd_a)[0], directions(odd_b)[0])
        distances[odd] = np.where(zero, 1.0, np.minimum(squares_of_odd / 2, 2.0))
    return distances


_FORMULAS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "l1": lambda a, b: np.abs(_difference(a, b), out=a).sum(axis=1),
    "l2": _l2,
    "sqeuclidean": _sqeuclidean,
    "chebyshev": lambda a, b: np.abs(_difference(a, b), out=a).max(axis=1),
    "hamming": lambda a, b: (a != b).mean(axis=1),
    "cosine": _cosine,
    "dot": lambda a, b: -np.vecdot(a, b),
}
