"""What can be tuned in a search; no value changes an answer."""

import os
from typing import NamedTuple


class Tuning(NamedTuple):
    """Thresholds and sizes of a search, measured on a two-core CPU; tests pass others."""

    query_block: int = 1024  # queries and points that meet in one step: enough for matrix products at full speed
    point_block: int = 8192
    point_block_elements: int = 2**25  # up to which a block of points is enlarged: fewer blocks, fewer selections
    many_blocks: int = 16  # of points, from which on a step looks first at a short list of each: see `search_step`
    query_blocks_at_once: int = 4  # of each chain, that meet a block of points while it is there
    chunk_seconds: float = 5  # of work between two savings of a search that can be resumed
    fetched: int = 2**22  # numbers at a time from a device, which sends a few large pieces sooner than many small ones
    # Numbers at a time in a thread that measures pairs: few stay in its cache, and many keep many threads apart.
    pair_elements: int = 2**17 if (os.cpu_count() or 1) < 4 else 2**18
    minima_min_queries: int = 256  # l1 on a CPU sums minima for so many queries or more,
    minima_max_ratio: float = 8  # and points whose numbers are at most so much larger than their spread
    projection_min_queries: int = 1500  # for so many a projection saves as much time as it takes to make
    projection_max_bytes: int = 2**29  # of it, and of what it is made by
    projection_min_points: int = 8192  # with fewer, a search of all numbers is fast enough
    min_points_per_candidate: int = 16  # of a search by projection: see `prefilter.pays`


DEFAULTS = Tuning()
