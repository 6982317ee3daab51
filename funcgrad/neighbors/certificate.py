"""The proof that a query's neighbours are right: its candidates are measured in float64, all other points are bounded.

If the k-th of these distances is below the largest lower bound that a filter kept, then no other point can belong to
the k nearest: that is the certificate of a query.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from funcgrad.neighbors.bounds import Bounds

Measure = Callable[
    [tuple[np.ndarray, np.ndarray]], np.ndarray
]  # (queries' rows, points' rows), (n,) each → (n,) float64


def candidates(k: int) -> int:
    """How many candidates a filter keeps at first, for a proof of the k nearest."""
    return k + max(8, k // 4)


def lower_bounds(numbers: np.ndarray, bounds: Bounds, metric: str) -> np.ndarray:
    """Lower bounds of distances from a filter's numbers (Q, m); −∞ where there is none."""
    with np.errstate(over="ignore", invalid="ignore"):
        lower = bounds.offset[:, None] + bounds.factor[:, None] * numbers.astype(np.float64)
    lower[np.isneginf(numbers) | np.isnan(lower)] = -np.inf
    return np.sqrt(np.maximum(lower, 0)) if metric == "l2" else lower  # the filter's numbers bound the squares of l2


class Certified(NamedTuple):
    distances: np.ndarray  # (Q, k) float64, as measured
    indices: np.ndarray  # (Q, k) int32
    proved: np.ndarray  # (Q,) bool


@np.errstate(over="ignore", invalid="ignore")  # where distances overflow, nothing is proved
def certify(
    measure: Measure,
    lower: np.ndarray,
    indices: np.ndarray,
    size: np.ndarray,
    k: int,
    *,
    dimensions: int,
    available: int | np.ndarray,
) -> Certified:
    """The k nearest of each query's candidates, and whether no other point can be among them.

    Args:
      measure: gives the distances of pairs, see `pair_distances`.
      lower, indices: (Q, m), m ≥ k, the candidates and lower bounds of their distances, ascending; the last bounds all
        other points too. An index of -1 is no candidate.
      size: (Q,), as in `Bounds`.
      available: how many points there are to choose from, in all or for each query (Q,).
    """
    # The error of a measured distance is, in units of u = eps / 2, at most D + 8 of itself under the Lp metrics, D of
    # |a||b| for dot, and for cosine, |a − |a|b̂|² / 2|a|², 3D + 6 of itself (two sums of squares, and their quotient
    # as a factor of b) and 2 beside (rounding |a|b̂). Both a k-th distance and one that is excluded by its bound would
    # be measured: twice that is within 8 (D + 16) u = 4 (D + 16) eps.
    slack = 4 * (dimensions + 16) * float(np.finfo(np.float64).eps)
    margin = slack * size
    distances, (_, count) = np.full(indices.shape, np.inf), indices.shape
    worst, start = np.full(len(indices), np.inf), 0  # the k-th distance so far, above which no candidate is measured
    for stop in (k, *(count >> i for i in (4, 3, 2, 1, 0))):
        if stop > start:
            rows, places = np.nonzero((lower[:, start:stop] <= worst[:, None]) & (indices[:, start:stop] >= 0))
            places += start
            distances[rows, places] = measure((rows, indices[rows, places]))
            worst = np.partition(distances[:, :stop], k - 1, axis=1)[:, k - 1] * (1 + slack) + margin
            worst = np.fmin(worst, np.inf)  # infinity for NaN
            start = stop
    order = np.lexsort((indices, distances), axis=1)[:, :k]
    best = np.take_along_axis(distances, order, axis=1)
    everyone = (indices >= 0).sum(axis=1) >= available
    proved = everyone | (best[:, -1] * (1 + slack) + margin < lower[:, -1])
    return Certified(best, np.take_along_axis(indices, order, axis=1), proved)
