"""What can be tuned in a search; no value changes an answer."""

from typing import NamedTuple

from funcgrad.neighbors.exact_distances import ELEMENTS, FETCHED
from funcgrad.neighbors.prefilter import MIN_POINTS


class Tuning(NamedTuple):
    """Thresholds and sizes of a search, measured on a two-core CPU; tests pass others."""

    fetched: int = FETCHED  # numbers at a time from a device
    pair_elements: int = ELEMENTS  # numbers at a time in a thread that measures pairs
    minima_min_queries: int = 256  # l1 on a CPU sums minima for so many queries or more,
    minima_max_ratio: float = 8  # and points whose numbers are at most so much larger than their spread
    projection_min_queries: int = 1500  # for so many a projection saves as much time as it takes to make
    projection_max_bytes: int = 2**29  # of it, and of what it is made by
    projection_min_points: int = MIN_POINTS
    min_points_per_candidate: int = 16  # of a search by projection


DEFAULTS = Tuning()
