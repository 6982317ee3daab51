"""Projection: a lower-bounding prefilter, which reads far fewer numbers than the vectors have.

Where features are alike, as neighbouring pixels are, a few numbers bound the distances of the vectors from below, and
bound them well:

- l2, sqeuclidean, and cosine of the directions: coordinates along the first principal axes, and the length of what is
  left. With the projection P and the rest R, |a − b|² = |P(a − b)|² + |R(a − b)|² ≥ |Pa − Pb|² + (|Ra| − |Rb|)².
- l1: sums of features that are alike, since |a₁ − b₁| + |a₂ − b₂| ≥ |(a₁ + a₂) − (b₁ + b₂)|, in ten bits.

Projected vectors are rounded, so each has an error: how far it may be, at most, from where an exact map, which makes no
distance larger, would put it. The distance of two of them, less their errors, is a lower bound. Searching among these
and measuring what the bounds cannot exclude is the filter and refine of Faloutsos et al. (Fast Subsequence Matching in
Time-Series Databases, SIGMOD 1994).
"""

import math
from typing import Any, NamedTuple

import numpy as np

from funcgrad.distances import LARGEST_SUM, Metric
from funcgrad.neighbors.bounds import PointStatistics, in_threads, point_statistics
from funcgrad.neighbors.exact_distances import directions, pair_distances
from funcgrad.neighbors.tuning import DEFAULTS, Tuning

_MIN_DIMENSIONS = 192  # with fewer, a search of all numbers is fast enough
_SHARE, _MOST_AXES, _GROUP = 8, 512, 4  # an eighth of the dimensions is kept, 512 at most; l1 sums groups of four
_SAMPLE, _PROBES = 1024, 16  # points whose principal axes are taken, and points that are searched for as a trial
_MAX_CANDIDATES, _TYPICAL_K = 1024, 10
_ROUNDS = 30  # of pairing; what is left, such as pixels that are always 0, is paired in order
_ELEMENTS = 2**19  # at a time
_SIZES = 1e-100, 1e100  # between these, squares, and sums of 10⁸ of them, are far from the ends of float64, 10^±308
_FAR = (
    1e12  # beyond this, a projected vector is left out: its square, 10²⁴, stays far below float32's largest, 3 · 10³⁸
)
_EPSILON = float(np.finfo(np.float64).eps)


class Projection(NamedTuple):
    """How vectors (n, D) are mapped to fewer numbers (n, d), and the points mapped."""

    projected: np.ndarray  # (N, d) float32; for l1 uint16, up to `LARGEST_SUM`
    axes: np.ndarray  # (D, d − 1) float64, orthonormal but for rounding; for l1 (d, 4), the features of each group
    origin: np.ndarray  # float64, what is subtracted first: (D,); for l1 from the sums, (d,)
    scale: float  # of what is projected
    rounding: float  # the error of a projected vector, as a share of its length
    error: float  # the largest error of the points', before it is scaled
    statistics: PointStatistics | None = None  # of `projected`; None for l1


def num_candidates(k: int, metric: Metric) -> int:
    """How many candidates the prefilter keeps for a proof of the k nearest: bounds are loose, for l1 the loosest."""
    return (16 if metric == "l1" else 8) * (k + 16)


def pays(k: int, metric: Metric, count: int, tuning: Tuning = DEFAULTS) -> bool:
    """Whether a search of `count` points for the k nearest is faster with a prefilter.

    Without one a query takes count · D multiply-adds; with one count · D / 8, and D for each candidate that is fetched
    and measured in float64, which take 20 to 70 times as long each (on two CPU cores). So it pays if fewer are measured
    than about one in 25 to 80 points. Those are the candidates with a bound below the k-th distance, a part of all.
    """
    return num_candidates(k, metric) <= min(_MAX_CANDIDATES, count // tuning.min_points_per_candidate)


def make_projection(points: Any, metric: Metric, max_bytes: int, tuning: Tuning = DEFAULTS) -> Projection | None:
    """A projection of points (N, D), or None where a search would gain little, or it needs more than `max_bytes`."""
    if metric not in ("l1", "l2", "sqeuclidean", "cosine") or not isinstance(points, np.ndarray):
        return None
    count, dimensions = points.shape
    is_small = dimensions < _MIN_DIMENSIONS or count < tuning.projection_min_points
    if is_small or bytes_needed(count, dimensions, metric) > max_bytes:
        return None
    sample = _exact(points[:: -(-count // _SAMPLE)], metric)
    vectors = sample if metric == "cosine" else points
    lowest, highest = np.min(vectors, axis=0).astype(np.float64), np.max(vectors, axis=0).astype(np.float64)
    if not np.max(np.maximum(-lowest, highest)) < _SIZES[1] or not np.max(highest - lowest) > _SIZES[0]:
        return None
    projection = _groups(sample, lowest, highest) if metric == "l1" else _principal_axes(sample)
    largest_error = _try(points[:: -(-count // tuning.projection_min_points)], count, metric, projection)
    if largest_error is None:
        return None
    projected, errors = project(points, metric, projection)
    # The largest error loosens all bounds: where a few points lie far from the others, the trial did not see it.
    if not (error := float(errors.max())) <= 4 * largest_error:
        return None
    statistics = None if metric == "l1" else point_statistics(projected, "sqeuclidean", projected.dtype)
    return projection._replace(projected=projected, error=error, statistics=statistics)


def bytes_needed(count: int, dimensions: int, metric: Metric) -> int:
    """For the projected points, for the axes or what the groups are chosen by, for the sample and its copies."""
    projected, axes = (2 * (dimensions // _GROUP), 16 * dimensions**2)
    if metric != "l1":
        projected, axes = 4 * _size(dimensions), 16 * dimensions * _size(dimensions)
    return count * projected + axes + 24 * _SAMPLE * dimensions


def project(x: np.ndarray, metric: Metric, projection: Projection) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (n, D) projected, (n, d), and their errors (n,), infinite where a vector is out of range."""
    of_part = _sums if metric == "l1" else _coordinates
    rows = max(1, _ELEMENTS // x.shape[1])
    projected, errors = in_threads(lambda part: of_part(_exact(x[part], metric), projection), len(x), rows)
    return projected, errors


@np.errstate(invalid="ignore")  # infinity − infinity, where there is neither a candidate nor a projected vector
def lower_distances(numbers: np.ndarray, errors: np.ndarray, metric: Metric, projection: Projection) -> np.ndarray:
    """Lower bounds of the distances (Q, m) of vectors, from those of the projected ones (but for l1, their squares)."""
    distances = numbers.astype(np.float64) if metric == "l1" else np.sqrt(np.maximum(numbers, 0))
    lower = np.maximum(distances / projection.scale - (errors + projection.error)[:, None], 0)
    return lower if metric in ("l1", "l2") else lower**2 / (2 if metric == "cosine" else 1)


def _exact(x: np.ndarray, metric: Metric) -> np.ndarray:
    """Vectors in float64; for cosine, directions: |â − b̂|² / 2 is the distance, or less where one is zero."""
    exact = x.astype(np.float64)
    return directions(exact)[0] if metric == "cosine" else exact


# l2, sqeuclidean, cosine.


def _size(dimensions: int) -> int:
    return min(dimensions // _SHARE, _MOST_AXES)


def _principal_axes(sample: np.ndarray) -> Projection:
    """Those of a sample (m, D): of m points in D dimensions, eigenvectors of m × m products have all of them."""
    origin, (_, dimensions) = sample.mean(axis=0), sample.shape
    centred = sample - origin
    size = _size(dimensions)
    _, vectors = np.linalg.eigh(centred @ centred.T)  # the largest come last
    axes, _ = np.linalg.qr(centred.T @ vectors[:, :-size:-1])
    # Axes with |QᵀQ − I| ≤ δ lie within δ of orthonormal ones, their polar factor (Higham, Functions of Matrices, 2008,
    # section 8): the coordinates of x are off by δ|x|, and |x|² − |Qᵀx|² by δ|x|². Sums of n terms err by n·u, so
    # with `defect`, δ + 4·size·(D + 32)·u, both hold for what is computed, the square within 2·defect. Its root, the
    # length of the rest, is off by √(2·defect)|x|, as |√p − √q| ≤ √|p − q|. With the coordinates, √(defect² +
    # 2·defect) ≤ √(3·defect). The factor 2 leaves as much again for centring, and for rounding the bounds themselves.
    error = (dimensions + 32) * _EPSILON
    defect = float(np.linalg.norm(axes.T @ axes - np.eye(size - 1))) + 2 * size * error
    rounding = 2 * math.sqrt(3 * defect) + float(np.finfo(np.float32).eps)
    longest = math.sqrt(np.max((centred**2).sum(axis=1)))
    scale = 0.5 ** math.frexp(longest)[1]
    return Projection(np.empty((0, size), np.float32), axes, origin, scale, rounding, 0.0)


def _coordinates(exact: np.ndarray, projection: Projection) -> tuple[np.ndarray, np.ndarray]:
    centred, scale = exact - projection.origin, projection.scale
    squares, along = np.einsum("ij,ij->i", centred, centred), centred @ projection.axes
    rest = np.sqrt(np.maximum(squares - np.einsum("ij,ij->i", along, along), 0))
    lengths = np.sqrt(squares)
    safe = (lengths < _SIZES[1]) & (lengths * scale < _FAR)
    projected = np.where(safe[:, None], np.column_stack([along, rest]) * scale, 0).astype(np.float32)
    # Directions were rounded before; and below float32's normal numbers, digits are lost.
    before = (exact.shape[1] + 32) * _EPSILON * np.sqrt(np.einsum("ij,ij->i", exact, exact))
    underflow = projected.shape[1] * float(np.finfo(np.float32).tiny) / scale
    return projected, np.where(safe, lengths * projection.rounding + before + underflow, np.inf)


# l1.


def _groups(sample: np.ndarray, lowest: np.ndarray, highest: np.ndarray) -> Projection:
    """Features are paired twice, by a sample (m, D); lowest, highest: (D,), of all points."""
    groups = np.arange(sample.shape[1])[:, None]
    while groups.shape[1] < _GROUP:
        pairs = pair_columns(sample[:, groups].sum(axis=2))
        groups = np.concatenate([groups[pairs[:, 0]], groups[pairs[:, 1]]], axis=1)
    origin, end = (x[groups].sum(axis=1) for x in (lowest, highest))
    widest = max(float(np.max(end - origin)), _SIZES[0])
    whole = widest <= LARGEST_SUM and (sample == np.rint(sample)).all()  # sums of integers are exact
    scale = 1.0 if whole else LARGEST_SUM / widest
    return Projection(np.empty((0, len(groups)), np.uint16), groups, origin, scale, 0.0, 0.0)


def pair_columns(columns: np.ndarray) -> np.ndarray:
    """Pairs (n // 2, 2) of the columns (m, n): repeatedly those that are nearest to each other."""
    centred = columns - columns.mean(axis=0)
    products, count = centred.T @ centred, columns.shape[1]
    apart = np.diag(products)[:, None] + np.diag(products) - 2 * products
    np.fill_diagonal(apart, np.inf)
    pairs, left = [], np.arange(count)
    for _ in range(_ROUNDS):
        nearest = apart[np.ix_(left, left)].argmin(axis=1)
        first = np.flatnonzero((nearest[nearest] == np.arange(len(left))) & (np.arange(len(left)) < nearest))
        pairs.append(left[np.column_stack([first, nearest[first]])])
        left = np.delete(left, np.concatenate([first, nearest[first]]))
        if len(left) < 2:
            break
    return np.concatenate([*pairs, left[: len(left) // 2 * 2].reshape(-1, 2)])


def _sums(exact: np.ndarray, projection: Projection) -> tuple[np.ndarray, np.ndarray]:
    sums = exact[:, projection.axes].sum(axis=2) - projection.origin
    projected = np.clip(np.rint(sums * projection.scale), 0, LARGEST_SUM)
    rounded = projected / projection.scale
    size = np.abs(exact).sum(axis=1) + np.abs(projection.origin).sum() + rounded.sum(axis=1)
    # What rounding and clipping did is measured; measuring it, and dividing by the scale, rounds once more.
    errors = np.abs(sums - rounded).sum(axis=1) + (exact.shape[1] + 32) * _EPSILON * size
    safe = size < _SIZES[1]
    return np.where(safe[:, None], projected, 0).astype(np.uint16), np.where(safe, errors, np.inf)


def _try(sample: np.ndarray, count: int, metric: Metric, projection: Projection) -> float | None:
    """The largest error in a sample of `count` points, projected; None unless half of a few trial queries are proved.

    A query would be proved if its candidates include all points whose bound is not above the k-th distance. Of these
    there are about as many as in the sample, divided by the sample's share of the points; so k is scaled by the share.
    """
    share = len(sample) / count
    projected, errors = project(sample, metric, projection)
    projection = projection._replace(error=float(errors.max()))
    projected, k, undecided = projected.astype(np.float32), max(1, round(_TYPICAL_K * share)), []
    for query in range(0, len(sample), -(-len(sample) // _PROBES)):
        apart = projected - projected[query]
        numbers = np.abs(apart).sum(axis=1) if metric == "l1" else np.vecdot(apart, apart)
        lower = lower_distances(numbers[None].astype(float), errors[query : query + 1], metric, projection)[0]
        first = np.argpartition(lower, 4 * k)[: 4 * k]
        distances = pair_distances(sample, sample, (np.full_like(first, query), first), str(metric), None)
        undecided.append(np.count_nonzero(lower <= np.sort(distances)[k]) / share)  # the nearest is the query itself
    return projection.error if np.median(undecided) <= num_candidates(_TYPICAL_K, metric) else None
