"""Exact k-nearest neighbours: a block of queries meets the points block by block and keeps its best k.

    neighbors = kneighbors(queries, points, k=5, metric="l1")      # .distances (Q, k), .indices (Q, k)

Neighbours come in the order of (distance, index), the same whatever the blocks, the memory limit and the number of
devices: bytes are ranked by exact integers, floats by distances measured in float64 (see `certificate`).
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from funcgrad.distances import Metric, as_vectors, canonical_metric, ranking_dtype, same_dimensions
from funcgrad.neighbors.block_search import Task
from funcgrad.neighbors.distributed import shared_search
from funcgrad.neighbors.index import Index, as_index
from funcgrad.neighbors.mesh import part_of_process
from funcgrad.neighbors.saved_chunks import SavedChunks
from funcgrad.neighbors.strategies import Info, Neighbors, find_nearest
from funcgrad.neighbors.tuning import DEFAULTS, Tuning
from funcgrad.neighbors.validation import addressable, allowed_points, in_numpy

PRECISIONS = ("exact", "fast")
_UNIT = 1024  # queries; whole units share one compiled program


def kneighbors(
    queries: Any,
    index_or_points: Any,
    k: int,
    *,
    metric: Metric | None = None,
    p: float | None = None,
    precision: str = "exact",
    memory: str | int = "1GiB",
    mesh: Mesh | None = None,
    mask: ArrayLike | None = None,
    exclude_self: bool = False,
    progress: Callable[[int, int], None] | None = None,
    tuning: Tuning = DEFAULTS,
) -> Neighbors:
    """The k points nearest to each query, in the order of (distance, index).

    Args:
      queries: (Q, …), NumPy (memory-mapped too) or JAX arrays; further axes are flattened.
      index_or_points: what `prepare` returned, or points (N, …).
      k: how many, at most as many as there are points to choose from.
      metric, p: a name from `funcgrad.distances`, or a function of two vectors written with `jax.numpy`. None is the
        index's own, else euclidean.
      precision: "exact" measures the last candidates of floats in float64 and proves that no other point belongs;
        "fast" does neither, and loses digits where a distance is small beside the vectors. Bytes are exact integers
        either way, and a function is taken as it is.
      memory: a limit in bytes, or as "500MiB", for what is needed beside queries, points and result.
      mesh: devices that share the queries, the points or both (`funcgrad.sharding.make_mesh`); the answer is the same
        for any number. They may be those of several processes (`funcgrad.sharding.start`): each then calls this with
        the same arguments, reads its share of the points, and gets the whole answer; `progress` and `memory` are its
        own, `info` has the sums. With precision "fast" the last digits may differ there.
      mask: (N,) bool, which points may be neighbours.
      exclude_self: the queries are the points, and none is its own neighbour (leave-one-out).
      progress: called with (queries done, all queries) as the search goes on.
      tuning: thresholds and sizes, which change no answer.

    Raises:
      ValueError: shapes that do not fit, NaN or infinity in either (the rows are named), k below 1 or above the number
        of points to choose from, a memory limit too small for one query and one point, another metric than the
        index's, a metric that gave NaN; a JAX array of which this process has only a part.

    >>> kneighbors([[0.0]], [[3.0], [1.0], [-1.0]], k=2, metric="l1").indices
    array([[1, 2]], dtype=int32)
    """
    part = part_of_process(mesh)
    queries = in_numpy(as_vectors("queries", addressable("queries", queries)))
    if precision not in PRECISIONS:
        raise ValueError(f"precision: {precision!r} is unknown; choose one of {', '.join(PRECISIONS)}")
    count = len(queries) if precision == "exact" else 0
    index, limit = as_index(index_or_points, metric, p, k=k, queries=count, memory=memory, mesh=mesh, tuning=tuning)
    index = _on_host(index, by_projection=mesh is None)
    same_dimensions(queries, index.points)
    dtype = ranking_dtype(index.metric, queries.dtype, index.points.dtype)
    allowed = allowed_points(mask, len(index.points), k, exclude_self, len(queries))
    limits = limit, mesh, progress, tuning
    task = Task(queries, index, k, precision, dtype, allowed, exclude_self, *limits)
    return find_nearest(task) if part is None else shared_search(task, part)


def _on_host(index: Index, *, by_projection: bool) -> Index:
    """The index with NumPy arrays, points on a device apart, and with a projection only where it serves a search."""
    points, projection = in_numpy(index.points), index.projection
    # JAX may have rounded what a projection's bounds are proved by.
    if projection is None or projection.origin.dtype != np.float64 or jax.default_backend() != "cpu":
        by_projection = False
    by_projection = by_projection and isinstance(points, np.ndarray)
    known = index.statistics, projection if by_projection else None
    arrays = jax.tree.map(lambda x: np.asarray(x) if np.ndim(x) else float(x), known)
    return Index(points, index.metric, index.p, *arrays)


def resumable_kneighbors(
    queries: Any,
    index: Index,
    k: int,
    saved: SavedChunks,
    *,
    start: int = 0,
    progress: Callable[[int, int], None] | None = None,
    tuning: Tuning = DEFAULTS,
    **options: Any,
) -> Neighbors:
    """What `kneighbors` returns, chunk by chunk, each taken from what is saved, or saved when it is found.

    The chunks depend on the sizes alone and never on the clock, so that the same queries always meet in one block, and
    a resumed run gives the same bits as one that was never interrupted. The last chunk of the queries takes the rest.

    Args:
      queries (Q, …), index, k, tuning, options: as there; the index is that of `as_index` or `prepare`.
      saved: what `open_saved` returned.
      start: the number of the first query among all that are saved.
      progress: called with how many of these are done.
    """
    report = None if progress is None else lambda done, _: progress(saved.done + done, saved.total)
    size = saved.chunk or queries_in_chunk(len(index.points), index.points.shape[1], tuning)
    count = len(queries)
    options |= {"progress": report, "tuning": tuning}
    parts = []
    for first, stop in pairwise([*range(0, max(1, count - size + 1), size), count]):
        part = saved.chunks.get((start + first, start + stop))
        if part is None:
            part = kneighbors(queries[first:stop], index, k, **options)
            saved.save(start + first, start + stop, part)
        parts.append(part)
    counts = {name: sum(getattr(part.info, name) for part in parts) for name in Info._field_defaults}
    distances, indices = (np.concatenate([part[i] for part in parts]) for i in range(2))
    return Neighbors(distances, indices, parts[0].info._replace(**counts))


def queries_in_chunk(points: int, dimensions: int, tuning: Tuning) -> int:
    """Queries for about `tuning.chunk_seconds` under a fast metric, in whole units."""
    per_second = 5e10 if jax.devices()[0].platform == "cpu" else 5e12  # multiplications and additions
    return _UNIT * max(1, int(tuning.chunk_seconds * per_second / (_UNIT * points * dimensions)))


def radius_neighbors(
    queries: Any,
    index_or_points: Any,
    radius: float,
    *,
    max_neighbors: int,
    metric: Metric | None = None,
    p: float | None = None,
    mask: ArrayLike | None = None,
    exclude_self: bool = False,
    **options: Any,
) -> Neighbors:
    """The points within `radius` of each query, nearest first: `max_neighbors` at most; none is index -1, distance inf.

    Takes the options of `kneighbors`, and gives (Q, max_neighbors), however many points there are. Distances come as
    floats, since no integer is infinite. Raises `ValueError` for a radius below 0 (unless the metric is "dot", whose
    distances go below 0 too) and for max_neighbors below 1.
    """
    is_index = isinstance(index_or_points, Index)
    count = len(index_or_points.points if is_index else index_or_points)
    searched = index_or_points.metric if is_index else canonical_metric("euclidean" if metric is None else metric, p)
    if not radius >= 0 and not (searched == "dot" and radius < 0):
        raise ValueError(f"radius: must be at least 0, got {radius}")
    if not max_neighbors >= 1:
        raise ValueError(f"max_neighbors: must be at least 1, got {max_neighbors}")
    available = (count if mask is None else int(np.sum(np.asarray(mask)))) - bool(exclude_self)
    k = max(1, min(max_neighbors, available))
    options |= {"metric": metric, "p": p, "mask": mask, "exclude_self": exclude_self}
    distances, indices, info = kneighbors(queries, index_or_points, k, **options)
    inside = distances <= radius
    floats = distances if distances.dtype.kind == "f" else distances.astype(np.float64)
    missing = (0, 0), (0, max_neighbors - k)
    return Neighbors(
        np.pad(np.where(inside, floats, np.inf), missing, constant_values=np.inf),
        np.pad(np.where(inside, indices, np.int32(-1)), missing, constant_values=-1),
        info,
    )
