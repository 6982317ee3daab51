"""Adversarial sets for an exact search, each with its origin, and the brute force that says what is right.

Where the origin says "see", the issue there is the occasion: the data is ours, made after the kind of failure. Most are
of one kind: |a|² + |b|² − 2 a·b loses in rounding what a distance small beside the vectors consists of.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

QUERIES, POINTS, DIMENSIONS = 12, 120, 6  # of most cases: one shape, so that one compiled step serves them all
LP = ("l1", "l2", "sqeuclidean", "chebyshev", "minkowski")
METRICS = (*LP, "cosine", "dot", "hamming")
ROOTS = tuple(metric for metric in METRICS if metric not in ("sqeuclidean", "dot"))  # their numbers are no squares
FLOATS = ("float32", "float64")

Pair = tuple[np.ndarray, np.ndarray]


class Case(NamedTuple):
    """Queries and points that some exact search got wrong, or might."""

    origin: str
    make: Callable[[np.random.Generator, np.finfo], Pair]  # (Q, D), (N, D) float64, to be cast to the dtype in question
    metrics: tuple[str, ...] = METRICS
    dtypes: tuple[str, ...] = FLOATS
    k: int = 10
    ties: bool = False  # distances are equal or far apart: all indices are settled
    slow: bool = False


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(size=shape or (POINTS, DIMENSIONS))


def themselves(points: np.ndarray) -> Pair:
    """Every tenth point as a query: it is at distance 0 from itself."""
    return points[:: len(points) // QUERIES], points


def far_outlier(rng: np.random.Generator, limits: np.finfo) -> Pair:
    points = normal(rng)
    points[0], points[1] = 1e9, -1e9  # the centre stays where it is, the norms do not
    return themselves(points)


def zeros_among(rng: np.random.Generator, limits: np.finfo) -> Pair:
    points = normal(rng) * (np.arange(POINTS)[:, None] % 3 > 0)
    return np.concatenate([np.zeros((1, DIMENSIONS)), points[1:QUERIES]]), points


def one_among_many(rng: np.random.Generator, limits: np.finfo) -> Pair:
    return normal(rng, QUERIES, DIMENSIONS), normal(rng, 1, DIMENSIONS)


def last_digits(rng: np.random.Generator, limits: np.finfo) -> Pair:
    points = np.repeat(normal(rng, 8, DIMENSIONS), POINTS // 8, axis=0)
    return themselves(points * (1 + rng.integers(-4, 5, points.shape) * float(limits.eps)))


def few_subnormals(rng: np.random.Generator, limits: np.finfo) -> Pair:
    """Multiples of the smallest number there is."""
    return themselves(rng.integers(-20, 20, (POINTS, DIMENSIONS)) * float(limits.smallest_subnormal))


def around_the_smallest_normal(rng: np.random.Generator, limits: np.finfo) -> Pair:
    """Taken for zero one by one, they make differences larger than they are."""
    return themselves(rng.integers(-30, 30, (POINTS, DIMENSIONS)) / 8 * float(limits.smallest_normal))


def small_beside_large(rng: np.random.Generator, limits: np.finfo) -> Pair:
    """Rows so far apart that next to the largest the squares of the smallest are zero."""
    return themselves(normal(rng) * 10.0 ** rng.integers(-30, 15, (POINTS, 1)))


def scales_apart(rng: np.random.Generator, limits: np.finfo) -> Pair:
    return themselves(normal(rng) * 10.0 ** rng.integers(-8, 8, (POINTS, 1)))


def mixed_columns(rng: np.random.Generator, limits: np.finfo) -> Pair:
    return themselves(normal(rng) * 10.0 ** np.array([-12, -6, 0, 3, 6, 9]))


def signed_zeros(rng: np.random.Generator, limits: np.finfo) -> Pair:
    points = np.where(rng.random((POINTS, DIMENSIONS)) < 0.5, 0.0, -0.0)
    points[::4] = 1.0
    return themselves(points)


def grid(rng: np.random.Generator, limits: np.finfo) -> Pair:
    return np.zeros((QUERIES, DIMENSIONS)), rng.choice([-1.0, 1.0], (POINTS, DIMENSIONS))


def constant_columns(rng: np.random.Generator, limits: np.finfo) -> Pair:
    points = normal(rng)
    points[:, 1:] = 1e6  # all that distinguishes points is a millionth of their norm
    return themselves(points)


def extremes(rng: np.random.Generator, limits: np.finfo) -> Pair:
    return themselves(rng.choice([0.0, 1.0, 254.0, 255.0], (POINTS, DIMENSIONS)))


ALL_DTYPES = (*FLOATS, "float16", "uint8")
OURS = "our own"
SEARCHED = "our own: found by random search, wrong until then"
CASES: dict[str, Case] = {
    "normal": Case(OURS, lambda rng, limits: themselves(normal(rng))),
    "large offset": Case("see faiss#297, scikit-learn#9354", lambda rng, limits: themselves(1e4 + normal(rng) / 100)),
    "two clusters": Case(
        "see faiss#1086", lambda rng, limits: themselves(normal(rng) + np.resize([[3e3], [-3e3]], (POINTS, 1)))
    ),
    "constant columns": Case("issue 4", constant_columns),
    "far outlier": Case("see cuvs#1632", far_outlier),
    "near duplicates": Case(
        "see faiss#3245",
        lambda rng, limits: themselves(
            np.repeat(normal(rng, 8, DIMENSIONS), POINTS // 8, axis=0) + 1e-6 * normal(rng, POINTS, DIMENSIONS)
        ),
    ),
    "last digits": Case("see faiss#5285", last_digits),
    "duplicates": Case(
        "issue 4", lambda rng, limits: themselves(np.repeat(normal(rng, 8, DIMENSIONS), POINTS // 8, axis=0)), ties=True
    ),
    "all points the same": Case(
        "issue 4", lambda rng, limits: (np.ones((QUERIES, DIMENSIONS)), np.full((POINTS, DIMENSIONS), 3.0)), ties=True
    ),
    "equal distances": Case("issue 4", grid, ties=True),
    "zero vectors": Case("issue 4", zeros_among),
    "signed zeros": Case(OURS, signed_zeros, ties=True),
    "one point": Case("issue 4", one_among_many, k=1),
    "k = n": Case("issue 4", lambda rng, limits: themselves(normal(rng)), k=POINTS),
    "one dimension": Case("issue 4", lambda rng, limits: themselves(normal(rng, POINTS, 1))),
    "100,000 dimensions": Case("issue 4", lambda rng, limits: themselves(normal(rng, 24, 100_000)), k=5, slow=True),
    "mixed columns": Case(OURS, mixed_columns),
    "tiny": Case(OURS, lambda rng, limits: themselves(normal(rng) * 1e-25)),
    "huge": Case(OURS, lambda rng, limits: themselves(normal(rng) * 1e25), metrics=ROOTS),
    "scales apart": Case(OURS, scales_apart),
    "small beside large": Case(SEARCHED, small_beside_large),
    "subnormal": Case(SEARCHED, few_subnormals),
    "around the smallest normal": Case(SEARCHED, around_the_smallest_normal),
    "squares below float64": Case(SEARCHED, lambda rng, _: themselves(normal(rng) * 1e-200), dtypes=("float64",)),
    "squares above float64": Case(
        SEARCHED, lambda rng, _: themselves(normal(rng) * 1e200), metrics=ROOTS, dtypes=("float64",)
    ),
    "half precision": Case(OURS, lambda rng, limits: themselves(normal(rng) + 100), dtypes=("float16",)),
    "extreme bytes": Case("issue 4", extremes, metrics=(*LP, "dot", "hamming"), dtypes=ALL_DTYPES),
}


def made(name: str, dtype: Any) -> Pair:
    """The queries and the points of a case."""
    limits = np.finfo(dtype if np.dtype(dtype).kind == "f" else np.float32)
    queries, points = CASES[name].make(np.random.default_rng(3), limits)
    return queries.astype(dtype), points.astype(dtype)


def table(queries: np.ndarray, points: np.ndarray, metric: str) -> np.ndarray:
    """All distances (Q, N) by the plain formulas in longdouble, rounded to float64; minkowski is of p = 3."""
    rows = [_row(query, points.astype(np.longdouble), metric) for query in queries.astype(np.longdouble)]
    with np.errstate(under="ignore"):
        return np.stack(rows).astype(np.float64)


def _row(a: np.ndarray, b: np.ndarray, metric: str) -> np.ndarray:
    difference = np.abs(a - b)
    if metric in ("l2", "sqeuclidean"):
        squares = (difference**2).sum(1)
        return np.sqrt(squares) if metric == "l2" else squares
    if metric == "minkowski":
        return (difference**3).sum(1) ** (np.longdouble(1) / 3)
    if metric in ("l1", "chebyshev", "hamming"):
        return {"l1": difference.sum, "chebyshev": difference.max, "hamming": (difference > 0).mean}[metric](axis=1)
    products = (a * b).sum(1)
    if metric == "dot":
        return -products
    norms = np.sqrt((a**2).sum() * (b**2).sum(1))
    return np.where(norms > 0, 1 - products / np.where(norms > 0, norms, 1), 1)


def sizes(queries: np.ndarray, points: np.ndarray, metric: str) -> np.ndarray:
    """What the errors of cosine and dot are measured by: 1, or |a||b|, (Q, N)."""
    if metric == "cosine":
        return np.ones((len(queries), len(points)))
    a, b = (np.sqrt((x.astype(np.longdouble) ** 2).sum(1)) for x in (queries, points))
    return np.outer(a, b).astype(np.float64)
