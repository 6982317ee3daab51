"""Contractions: maps to far fewer numbers that never make a distance larger, so that a filter reads a part of the data.

Where features say much the same, as neighbouring pixels do, distances of such images bound those of the vectors from
below, and nearly are them:

- l2, sqeuclidean, and cosine of the directions: coordinates along the first principal axes, and the length of what is
  left. With the projection P and the rest R, |a − b|² = |P(a − b)|² + |R(a − b)|² ≥ |Pa − Pb|² + (|Ra| − |Rb|)².
- l1: sums of features that are alike, since |a₁ − b₁| + |a₂ − b₂| ≥ |(a₁ + a₂) − (b₁ + b₂)|, in ten bits.

Images are rounded, so each has an error: how far it may be, at most, from that of a true contraction. A distance of two
images less their errors is a bound. To search among images and to measure what they cannot exclude is the filter and
refine of Faloutsos et al. (Fast Subsequence Matching in Time-Series Databases, SIGMOD 1994).
"""

import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from funcgrad.distances import LARGEST_SUM, Metric
from funcgrad.neighbors.bounds import Summary, summarize
from funcgrad.neighbors.exact_distances import pair_distances, unit

_DIMENSIONS, _POINTS = 192, 8192  # with fewer of either, all is soon searched
_SHARE, _MOST, _GROUP = 8, 512, 4  # one of so many dimensions, and no more, are kept; so many features are in a group
_SAMPLE, _PROBES = 1024, 16  # points whose principal axes are taken, and that are searched for to see what it brings
_PART, _MOST_KEPT = 16, 1024  # one of so many points may be a candidate, and no more in all
_TYPICAL = 10  # of how many neighbours
_ROUNDS = 30  # of pairing; what is left, such as pixels that are always 0, is paired in order
_ELEMENTS = 2**19  # at a time
_SIZES = 1e-100, 1e100  # between these, squares are far from the ends of float64
_FAR = 1e12  # beyond this, an image has no square in float32
_EPSILON = float(np.finfo(np.float64).eps)


class Contraction(NamedTuple):
    """How vectors (n, D) become images (n, d), and those of the points."""

    images: np.ndarray  # (N, d) float32; of l1 uint16, up to `LARGEST_SUM`
    axes: np.ndarray  # (D, d − 1) float64, orthonormal but for rounding; of l1 (d, 4), the features of each group
    origin: np.ndarray  # float64, what is subtracted first: (D,); of l1 from the sums, (d,)
    scale: float  # of images
    rounding: float  # how far an image may be away, as a share of its length
    error: float  # how far one of the points' may be, before it was scaled
    summary: Summary | None = None  # of the images; None, of l1


def kept(k: int, metric: Metric) -> int:
    """How many candidates a filter of images keeps for a proof of the k nearest."""
    return (16 if metric == "l1" else 8) * (k + 16)


def serves(k: int, metric: Metric, count: int) -> bool:
    """Whether so many candidates are soon chosen, and a small part of the points."""
    return kept(k, metric) <= min(_MOST_KEPT, count // _PART)


def contract(points: Any, metric: Metric, limit: int) -> Contraction | None:
    """A contraction of points (N, D), or None where a search would gain little by it, or it needs more than `limit`."""
    if metric not in ("l1", "l2", "sqeuclidean", "cosine") or not isinstance(points, np.ndarray):
        return None
    count, dimensions = points.shape
    if dimensions < _DIMENSIONS or count < _POINTS or _bytes(count, dimensions, metric) > limit:
        return None
    sample = _exact(points[:: -(-count // _SAMPLE)], metric)
    all_of = sample if metric == "cosine" else points
    lowest, highest = np.min(all_of, axis=0).astype(np.float64), np.max(all_of, axis=0).astype(np.float64)
    if not np.max(np.maximum(-lowest, highest)) < _SIZES[1] or not np.max(highest - lowest) > _SIZES[0]:
        return None
    made = _groups(sample, lowest, highest) if metric == "l1" else _principal_axes(sample)
    tried = _pays(points, metric, made)
    if tried is None:
        return None
    images, errors = images_of(points, metric, made)
    if not (error := float(errors.max())) <= 4 * tried:  # some lie far from the others, and so would all bounds
        return None
    summary = None if metric == "l1" else summarize(images, "sqeuclidean", images.dtype)
    return made._replace(images=images, error=error, summary=summary)


def _bytes(count: int, dimensions: int, metric: Metric) -> int:
    """Of the images, of the axes or of what the groups are chosen by, of the sample and its copies."""
    images, made = (2 * (dimensions // _GROUP), 16 * dimensions**2)
    if metric != "l1":
        images, made = 4 * _size(dimensions), 16 * dimensions * _size(dimensions)
    return count * images + made + 24 * _SAMPLE * dimensions


def images_of(x: np.ndarray, metric: Metric, contraction: Contraction) -> tuple[np.ndarray, np.ndarray]:
    """The images (n, d) of vectors (n, D), and their errors (n,), infinite where a vector has none."""
    of_part = _sums if metric == "l1" else _coordinates
    images = np.empty((len(x), contraction.images.shape[1]), contraction.images.dtype)
    errors, rows = np.empty(len(x)), max(1, _ELEMENTS // x.shape[1])

    @np.errstate(over="ignore", invalid="ignore")  # each thread has its own
    def fill(start: int) -> None:
        part = slice(start, start + rows)
        images[part], errors[part] = of_part(_exact(x[part], metric), contraction)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(fill, range(0, len(x), rows)))
    return images, errors


@np.errstate(invalid="ignore")  # where neither a candidate nor an image is known
def lower_distances(numbers: np.ndarray, errors: np.ndarray, metric: Metric, contraction: Contraction) -> np.ndarray:
    """What the vectors' distances (Q, m) are not below, from the images' (of l1; of all else, from their squares)."""
    distances = numbers.astype(np.float64) if metric == "l1" else np.sqrt(np.maximum(numbers, 0))
    lower = np.maximum(distances / contraction.scale - (errors + contraction.error)[:, None], 0)
    return lower if metric in ("l1", "l2") else lower**2 / (2 if metric == "cosine" else 1)


def _exact(x: np.ndarray, metric: Metric) -> np.ndarray:
    exact = x.astype(np.float64)
    return unit(exact) if metric == "cosine" else exact  # |â − b̂|² / 2 is the distance, or less where one is zero


# l2, sqeuclidean, cosine.


def _size(dimensions: int) -> int:
    return min(dimensions // _SHARE, _MOST)


def _principal_axes(sample: np.ndarray) -> Contraction:
    """Those of a sample (m, D): of m points in D dimensions, eigenvectors of m × m products have all of them."""
    origin, (_, dimensions) = sample.mean(axis=0), sample.shape
    centred = sample - origin
    size = _size(dimensions)
    _, vectors = np.linalg.eigh(centred @ centred.T)  # the largest come last
    axes, _ = np.linalg.qr(centred.T @ vectors[:, :-size:-1])
    # A basis that is orthonormal but for `defect` is so close to one that is. Sums of n terms err by n·u; of squares
    # that cancel, the root is what the length of the rest may be off.
    error = (dimensions + 32) * _EPSILON
    defect = float(np.linalg.norm(axes.T @ axes - np.eye(size - 1))) + 2 * size * error
    rounding = 2 * math.sqrt(3 * defect) + float(np.finfo(np.float32).eps)
    longest = math.sqrt(np.max((centred**2).sum(axis=1)))
    scale = 0.5 ** math.frexp(longest)[1]
    return Contraction(np.empty((0, size), np.float32), axes, origin, scale, rounding, 0.0)


def _coordinates(exact: np.ndarray, contraction: Contraction) -> tuple[np.ndarray, np.ndarray]:
    centred, scale = exact - contraction.origin, contraction.scale
    squares, along = np.einsum("ij,ij->i", centred, centred), centred @ contraction.axes
    rest = np.sqrt(np.maximum(squares - np.einsum("ij,ij->i", along, along), 0))
    lengths = np.sqrt(squares)
    safe = (lengths < _SIZES[1]) & (lengths * scale < _FAR)
    images = np.where(safe[:, None], np.column_stack([along, rest]) * scale, 0).astype(np.float32)
    # Directions were rounded before; and below float32's normal numbers, digits are lost.
    before = (exact.shape[1] + 32) * _EPSILON * np.sqrt(np.einsum("ij,ij->i", exact, exact))
    vanished = images.shape[1] * float(np.finfo(np.float32).tiny) / scale
    return images, np.where(safe, lengths * contraction.rounding + before + vanished, np.inf)


# l1.


def _groups(sample: np.ndarray, lowest: np.ndarray, highest: np.ndarray) -> Contraction:
    """Features are paired twice, by a sample (m, D); lowest, highest: (D,), of all points."""
    groups = np.arange(sample.shape[1])[:, None]
    while groups.shape[1] < _GROUP:
        pairs = _pairs(sample[:, groups].sum(axis=2))
        groups = np.concatenate([groups[pairs[:, 0]], groups[pairs[:, 1]]], axis=1)
    origin, end = (x[groups].sum(axis=1) for x in (lowest, highest))
    widest = max(float(np.max(end - origin)), _SIZES[0])
    whole = widest <= LARGEST_SUM and (sample == np.rint(sample)).all()  # of integers, such sums are exact
    scale = 1.0 if whole else LARGEST_SUM / widest
    return Contraction(np.empty((0, len(groups)), np.uint16), groups, origin, scale, 0.0, 0.0)


def _pairs(columns: np.ndarray) -> np.ndarray:
    """Pairs (n // 2, 2) of the columns (m, n): again and again those that are nearest to each other."""
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


def _sums(exact: np.ndarray, contraction: Contraction) -> tuple[np.ndarray, np.ndarray]:
    sums = exact[:, contraction.axes].sum(axis=2) - contraction.origin
    images = np.clip(np.rint(sums * contraction.scale), 0, LARGEST_SUM)
    rounded = images / contraction.scale
    size = np.abs(exact).sum(axis=1) + np.abs(contraction.origin).sum() + rounded.sum(axis=1)
    errors = np.abs(sums - rounded).sum(axis=1) + (exact.shape[1] + 32) * _EPSILON * size
    safe = size < _SIZES[1]
    return np.where(safe[:, None], images, 0).astype(np.uint16), np.where(safe, errors, np.inf)


# Whether it pays.


def _pays(points: np.ndarray, metric: Metric, contraction: Contraction) -> float | None:
    """The largest error of some points' images, if a filter would prove half of the queries right, tried with a few."""
    some = points[:: -(-len(points) // _POINTS)]
    share = len(some) / len(points)
    images, errors = images_of(some, metric, contraction)
    contraction = contraction._replace(error=float(errors.max()))
    images, k, undecided = images.astype(np.float32), max(1, round(_TYPICAL * share)), []
    for query in range(0, len(some), -(-len(some) // _PROBES)):
        apart = images - images[query]
        numbers = np.abs(apart).sum(axis=1) if metric == "l1" else np.vecdot(apart, apart)
        lower = lower_distances(numbers[None].astype(float), errors[query : query + 1], metric, contraction)[0]
        first = np.argpartition(lower, 4 * k)[: 4 * k]
        distances = pair_distances(some, some, (np.full_like(first, query), first), str(metric), None)
        undecided.append(np.count_nonzero(lower <= np.sort(distances)[k]) / share)  # the nearest is the query itself
    return contraction.error if np.median(undecided) <= kept(_TYPICAL, metric) else None
