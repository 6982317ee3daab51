"""Exact k-nearest neighbours: a block of queries meets the points block by block and keeps its best k.

    neighbors = kneighbors(queries, points, k=5, metric="l1")      # .distances (Q, k), .indices (Q, k)

Neighbours come in the order of (distance, index), the same whatever the blocks, the memory limit and the number of
devices: bytes are ranked by exact integers, floats by distances measured in float64 (see `certificate`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from funcgrad.distances import Metric, as_vectors, canonical_metric, ranking_dtype, same_dimensions
from funcgrad.neighbors.block_search import Task
from funcgrad.neighbors.distributed import shared_search
from funcgrad.neighbors.index import Index, as_index
from funcgrad.neighbors.mesh import part_of_process
from funcgrad.neighbors.prefilter import Projection
from funcgrad.neighbors.strategies import find_nearest
from funcgrad.neighbors.tuning import DEFAULTS, Tuning
from funcgrad.neighbors.validation import addressable, allowed_points, in_numpy

PRECISIONS = ("exact", "fast")


class Info(NamedTuple):
    """How neighbours were found."""

    metric: Metric
    precision: str
    dtype: str  # in which the vectors were compared
    query_block: int  # queries and points that meet in one step
    point_block: int
    searched_again: int = 0  # queries whose first search could not be proved right, and which were searched again
    brute_forced: int = 0  # of these the ones that were at last compared with every point in float64


class Neighbors(NamedTuple):
    """The k nearest points of each query, nearest first. An index of -1, at distance inf, is no neighbour."""

    distances: np.ndarray  # (Q, k)
    indices: np.ndarray  # (Q, k) int32
    info: Info


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
    points = in_numpy(index.points)
    same_dimensions(queries, points)
    dtype = ranking_dtype(index.metric, queries.dtype, points.dtype)
    task = Task(
        queries,
        points,
        index.metric,
        index.p,
        dtype,
        precision,
        _on_host(index.statistics),
        _usable(index.projection) if mesh is None and isinstance(points, np.ndarray) else None,
        allowed_points(mask, len(points), k, exclude_self, len(queries)),
        exclude_self,
        limit,
        mesh,
        progress,
        tuning,
    )
    found = find_nearest(task, k) if part is None else shared_search(task, part, k)
    return Neighbors(found.distances, found.indices, Info(index.metric, precision, str(dtype), *found.counts))


def _on_host(arrays: Any) -> Any:
    """The arrays of `PointStatistics` or a `Projection` as NumPy, and its numbers as floats."""
    return jax.tree.map(lambda x: np.asarray(x) if np.ndim(x) else float(x), arrays)


def _usable(projection: Projection | None) -> Projection | None:
    """The projection, on a CPU and unless JAX has rounded what its bounds are proved by."""
    if projection is None or projection.origin.dtype != np.float64 or jax.default_backend() != "cpu":
        return None
    return _on_host(projection)


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
