"""Exact k-nearest neighbours: a block of queries meets the points block by block and keeps its best k.

    neighbors = kneighbors(queries, points, k=5, metric="l1")      # .distances (Q, k), .indices (Q, k)

Neighbours come in the order of (distance, index), the same whatever the blocks, the memory limit and the number of
devices: bytes are ranked by exact integers, floats by distances measured in float64 (see `certificate`).
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from funcgrad.distances import (
    Metric,
    as_vectors,
    canonical_metric,
    ranking_dtype,
    real_number,
    same_dimensions,
    whole_number,
)
from funcgrad.neighbors.block_search import Task
from funcgrad.neighbors.bounds import PRODUCTS
from funcgrad.neighbors.distributed import shared_search
from funcgrad.neighbors.exact_distances import neighbor_distances
from funcgrad.neighbors.index import Index, as_index, refuse_other_metric
from funcgrad.neighbors.mesh import part_of_process
from funcgrad.neighbors.saved_chunks import SavedChunks
from funcgrad.neighbors.strategies import Info, Neighbors, describe, find_nearest
from funcgrad.neighbors.tuning import DEFAULTS, Tuning
from funcgrad.neighbors.validation import addressable, allowed_points, in_numpy, parse_memory

PRECISIONS = ("exact", "fast")
_UNIT = 1024  # queries; whole units share one compiled program
_COSTS = {"l1": 3, "chebyshev": 16}  # of a number of two vectors, beside a product's; of others that are no product:
_COSTLY = 128


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
    index = as_index(index_or_points, metric, p, k=k, queries=count, memory=memory, mesh=mesh, tuning=tuning)
    index = _on_host(index, by_projection=mesh is None)
    same_dimensions(queries, index.points)
    dtype = ranking_dtype(index.metric, queries.dtype, index.points.dtype)
    allowed = allowed_points(mask, exclude_self, queries, index.points)
    k = whole_number("k", k, 1, int(allowed.sum()) - bool(exclude_self), "the number of points to choose from")
    limits = parse_memory(memory) - index.reserved, mesh, progress, tuning
    task = Task(queries, index, k, precision, dtype, allowed, bool(exclude_self), *limits)
    return find_nearest(task) if part is None else shared_search(task, part)


def _on_host(index: Index, *, by_projection: bool) -> Index:
    """The index with NumPy arrays, points on a device apart, and with a projection only where it serves a search."""
    points, projection = in_numpy(index.points), index.projection
    # JAX may have rounded what a projection's bounds are proved by.
    if projection is None or projection.origin.dtype != np.float64 or jax.default_backend() != "cpu":
        by_projection = False
    by_projection = by_projection and isinstance(points, np.ndarray)
    known = index.statistics, projection if by_projection else None
    statistics, projection = jax.tree.map(lambda x: np.asarray(x) if np.ndim(x) else float(x), known)
    return replace(index, points=points, statistics=statistics, projection=projection)


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
    size = saved.chunk or queries_in_chunk(index, tuning)
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


def queries_in_chunk(index: Index, tuning: Tuning) -> int:
    """Queries for about `tuning.chunk_seconds`: whole units, or less than one as a power of two, 16 at least."""
    count, dimensions = index.points.shape
    per_second = 5e10 if jax.devices()[0].platform == "cpu" else 5e12  # multiplications and additions
    is_product = index.metric in PRODUCTS or (index.metric == "l1" and index.points.dtype.itemsize == 1)
    cost = 1 if is_product else _COSTS.get(str(index.metric), _COSTLY)
    queries = int(tuning.chunk_seconds * per_second / (cost * count * dimensions))
    return queries // _UNIT * _UNIT or max(16, 1 << max(0, queries.bit_length() - 1))


class RadiusNeighbors(NamedTuple):
    """The points within a radius of each query, nearest first. An index of -1, at distance inf, is no neighbour."""

    distances: np.ndarray  # (Q, max_neighbors)
    indices: np.ndarray  # (Q, max_neighbors) int32
    info: Info
    truncated: np.ndarray  # (Q,) bool, where there are more than max_neighbors

    @property
    def num_truncated(self) -> int:
        return int(np.count_nonzero(self.truncated))

    def __repr__(self) -> str:
        return f"{describe(self)[:-1]}, {self.num_truncated:,} truncated)"


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
) -> RadiusNeighbors:
    """The points within `radius` of each query, nearest first: `max_neighbors` at most; none is index -1, distance inf.

    Takes the options of `kneighbors`, and gives (Q, max_neighbors), however many points there are. A point is within
    the radius if its exact integer or its distance in float64 is at most the radius, whatever is rounded afterwards;
    with precision "fast", and of a function, its distance as it is returned. Distances come as floats, since no integer
    is infinite.

    Raises `ValueError` for a radius below 0 (unless the metric is "dot", whose distances go below 0 too) and for
    max_neighbors below 1.
    """
    is_index = isinstance(index_or_points, Index)
    queries = in_numpy(as_vectors("queries", addressable("queries", queries)))
    points = index_or_points.points if is_index else as_vectors("points", addressable("points", index_or_points))
    if is_index:
        refuse_other_metric(index_or_points, metric, p)
        metric, p = index_or_points.metric, index_or_points.p
    metric = canonical_metric("euclidean" if metric is None else metric, p)
    accepted = "a number" if metric == "dot" else "a number from 0 up"
    radius = real_number("radius", radius, accepted, lambda r: r >= 0 or metric == "dot")
    max_neighbors = whole_number("max_neighbors", max_neighbors, 1)
    allowed = allowed_points(mask, exclude_self, queries, points)
    # One more says whether there are more, and one may be the query itself, which is left out afterwards.
    k = min(max_neighbors + 1 + bool(exclude_self), int(allowed.sum()))
    if k == 0:
        dtype, shape = ranking_dtype(metric, queries.dtype, points.dtype), (len(queries), 0)
        info = Info(metric, options.get("precision", "exact"), str(dtype), 0, 0)
        nobody = Neighbors(np.empty(shape, np.float32), np.empty(shape, np.int32), info)
        return _first_within(nobody, np.empty(shape, bool), max_neighbors)
    options |= {"metric": metric, "p": p, "mask": allowed}
    found = kneighbors(queries, index_or_points if is_index else points, k, **options)
    exact, is_exact = found.distances, found.info.precision == "exact" or found.info.dtype in ("uint8", "int8")
    if exact.dtype.kind == "f" and not callable(metric) and is_exact:
        exact = neighbor_distances(queries, in_numpy(points), found.indices, metric, p)
    inside = exact.astype(np.float64) <= radius
    if exclude_self:
        inside &= found.indices != np.arange(len(queries))[:, None]
    return _first_within(found, inside, max_neighbors)


def _first_within(found: Neighbors, inside: np.ndarray, max_neighbors: int) -> RadiusNeighbors:
    """Of what is found (Q, k), the first neighbours that are inside, (Q, k) bool."""
    order = np.argsort(~inside, axis=1, kind="stable")[:, :max_neighbors]  # those inside first, as they come
    is_first = np.take_along_axis(inside, order, axis=1)
    missing = (0, 0), (0, max_neighbors - order.shape[1])
    floats = found.distances if found.distances.dtype.kind == "f" else found.distances.astype(np.float64)
    distances = np.where(is_first, np.take_along_axis(floats, order, axis=1), np.inf)
    indices = np.where(is_first, np.take_along_axis(found.indices, order, axis=1), np.int32(-1))
    return RadiusNeighbors(
        np.pad(distances, missing, constant_values=np.inf),
        np.pad(indices, missing, constant_values=-1),
        found.info,
        inside.sum(axis=1) > max_neighbors,
    )
