"""Exact k-nearest neighbours: a block of queries meets the points block by block and keeps its best k.

    neighbors = kneighbors(queries, points, k=5, metric="l1")      # .distances (Q, k), .indices (Q, k)
    votes     = vote(neighbors, labels, num_classes, ks=(1, 3, 5)) # (3, Q, num_classes)

Neighbours come in the order of (distance, index), the same whatever the blocks, the memory limit and the number of
devices: bytes are ranked by exact integers, floats by distances that were measured in float64 (see `certificate`).
"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh
from jax.typing import ArrayLike

from funcgrad import sharding
from funcgrad.distances import (
    Metric,
    as_vectors,
    canonical_metric,
    ranking_dtype,
    same_dimensions,
)
from funcgrad.neighbors.bounds import PointStatistics, point_statistics
from funcgrad.neighbors.distributed import Result, shared_search
from funcgrad.neighbors.merge_step import parse_memory
from funcgrad.neighbors.plan import DEFAULTS, Tuning
from funcgrad.neighbors.prefilter import Projection, make_projection, pays
from funcgrad.neighbors.strategies import Found, Task, certified_search, fast_search, plain_search
from funcgrad.neighbors.validation import addressable, allowed_points, check_finite, in_numpy
from funcgrad.neighbors.voting import WEIGHTS, count_votes

PRECISIONS = ("exact", "fast")
Weights = str | Callable[[Array], Array]


class Info(NamedTuple):
    """How neighbours were found."""

    metric: Metric
    precision: str
    dtype: str  # in which the vectors were compared
    query_block: int  # queries and points that meet in one step
    point_block: int
    searched_again: int = 0  # queries whose first search could not be proved right, and which were searched again
    directly: int = 0  # of these the ones that were at last compared with every point in float64


class Neighbors(NamedTuple):
    """The k nearest points of each query, nearest first. An index of -1, at distance inf, is no neighbour."""

    distances: np.ndarray  # (Q, k)
    indices: np.ndarray  # (Q, k) int32
    info: Info


@partial(
    jax.tree_util.register_dataclass, data_fields=["points", "statistics", "projection"], meta_fields=["metric", "p"]
)
@dataclass(frozen=True)
class Index:
    """Points that were checked and measured once and can be searched many times; see `prepare`."""

    points: Any  # (N, D), where and as they came
    metric: Metric
    p: float | None
    statistics: PointStatistics | None = (
        None  # their centre and norms, of floats with a metric that goes through products
    )
    projection: Projection | None = None  # the points projected, where a search gains by them


def prepare(
    points: Any,
    metric: Metric = "euclidean",
    *,
    p: float | None = None,
    mesh: Mesh | None = None,
    queries: int | None = None,
    tuning: Tuning = DEFAULTS,
) -> Index:
    """Checks points (N, …) for one metric and takes their norms, once; a mesh's devices get them, or each its share.

    On a CPU it also tries whether far fewer numbers say nearly as much, as with pictures, and if so keeps those for a
    first filter: see `prefilter`. That takes seconds, and up to 512 MB beside the points. `queries` says how many
    will be searched for in all: where these are few it would not pay, and is left out, as it is over a mesh.

    Over a mesh of several processes the points stay where they are, and each search reads its share of them.

    Raises `ValueError` for an unknown metric, fewer than two axes, or NaN or infinity, naming the rows.
    """
    metric = canonical_metric(metric, p)
    points = as_vectors("points", addressable("points", points))
    dtype = ranking_dtype(metric, points.dtype)
    check_finite("points", points)
    statistics = point_statistics(points, metric, dtype) if dtype.kind == "f" else None
    if mesh is not None and sharding.part_of_process(mesh) is None:
        _, parts = sharding.shares(mesh)
        split = parts > 1 and len(points) % parts == 0
        points = jax.device_put(points, jax.NamedSharding(mesh, jax.P(sharding.POINTS) if split else jax.P()))
    few = queries is not None and queries < tuning.projection_min_queries
    limit = tuning.projection_max_bytes
    projection = None if few or mesh is not None else _projection(points, metric, limit, tuning)
    return Index(points, metric, p, statistics, projection)


def _projection(points: Any, metric: Metric, limit: int, tuning: Tuning) -> Projection | None:
    """Off the CPU, a search waits for the last candidates, of which a projection leaves more."""
    if jax.default_backend() != "cpu":
        return None
    return make_projection(in_numpy(points), metric, limit, min_points=tuning.projection_min_points)


def save_index(path: str | PathLike[str], index: Index) -> None:
    """Writes an index as `.npz`. Raises `ValueError` for a metric that is a function: it has no name to write."""
    if not isinstance(index.metric, str):
        raise ValueError(f"index: only a named metric can be saved, not a function; got {index.metric}")
    p = np.asarray(math.nan if index.p is None else index.p)
    points = np.asarray(index.points)
    if points.dtype.kind == "V":  # bfloat16 and the like, which NumPy's format does not know
        points = points.astype(np.float32)
    known: dict[str, Any] = {"": index.statistics}
    if (projection := index.projection) is not None:
        known |= {_PROJECTION: projection._replace(statistics=None), _IMAGES: projection.statistics}
    arrays = {
        _SAVED_AS.get(prefix + name, prefix + name): x
        for prefix, some in known.items()
        if some is not None
        for name, x in some._asdict().items()
        if x is not None
    }
    aside = f"{os.fspath(path)}.{os.getpid()}"
    try:
        with open(aside, "wb") as file:
            np.savez(file, points=points, metric=np.asarray(index.metric), p=p, **arrays)
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def load_index(path: str | PathLike[str]) -> Index:
    """Reads what `save_index` wrote."""
    with np.load(path, allow_pickle=False) as file:
        known = {name: file[name] for name in file.files}
    points, p = known["points"], None if math.isnan(float(known["p"])) else float(known["p"])
    check_finite("points", points)
    projection = _read(Projection, known, _PROJECTION)
    if projection is not None:
        projection = projection._replace(statistics=_read(PointStatistics, known, _IMAGES))
    return Index(points, canonical_metric(str(known["metric"]), p), p, _read(PointStatistics, known, ""), projection)


_PROJECTION, _IMAGES = "contraction_", "images_"  # before the names of what is saved of each
_SAVED_AS = {"contraction_projected": "contraction_images"}  # the name in files, where it is another


def _read(kind: Any, known: dict[str, np.ndarray], prefix: str) -> Any:
    """A named tuple of what was saved under its fields' names; None, if nothing was."""
    saved = {name: _SAVED_AS.get(prefix + name, prefix + name) for name in kind._fields}
    found = {name: known[key] for name, key in saved.items() if key in known}
    numbers = {name: x if x.ndim else float(x) for name, x in found.items()}
    return kind(**{name: numbers.get(name) for name in kind._fields}) if found else None


def kneighbors(
    queries: Any,
    index_or_points: Any,
    k: int,
    *,
    metric: Metric = "euclidean",
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
      index_or_points: what `prepare` gave, with its metric, or points (N, …).
      k: how many, at most as many as there are points to choose from.
      metric, p: a name from `funcgrad.distances`, or a function of two vectors written with `jax.numpy`.
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
      progress: called with (queries done, all queries) after each block.
      tuning: thresholds and sizes, which change no answer.

    Raises:
      ValueError: shapes that do not fit, NaN or infinity in either (the rows are named), k below 1 or above the number
        of points to choose from, a memory limit too small for one query and one point, a metric that gave NaN; a JAX
        array of which this process has only a part.

    >>> kneighbors([[0.0]], [[3.0], [1.0], [-1.0]], k=2, metric="l1").indices
    array([[1, 2]], dtype=int32)
    """
    part = sharding.part_of_process(mesh)
    queries = as_vectors("queries", addressable("queries", queries))
    if precision not in PRECISIONS:
        raise ValueError(f"precision: {precision!r} is unknown; choose one of {', '.join(PRECISIONS)}")
    limits: dict[str, Any] = {"memory": memory, "mesh": mesh, "precision": precision, "tuning": tuning}
    index, limit = index_for(index_or_points, metric, p, k=k, queries=len(queries), **limits)
    points, queries = in_numpy(addressable("points", index.points)), in_numpy(queries)
    same_dimensions(queries, points)
    allowed = allowed_points(mask, len(points), k, exclude_self, len(queries))
    dtype = ranking_dtype(index.metric, queries.dtype, points.dtype)
    projection = None
    if index.projection is not None and mesh is None and isinstance(points, np.ndarray):
        of_float64 = index.projection.origin.dtype == np.float64  # which JAX may have rounded
        projection = _as_numpy(index.projection) if of_float64 and jax.default_backend() == "cpu" else None
    searched = queries, points, index.metric, index.p, _as_numpy(index.statistics)
    task = Task(*searched, allowed, exclude_self, limit, mesh, progress, projection, tuning)
    find: Callable[[Task, int, Any], Found] = plain_search
    if dtype.kind == "f" and isinstance(index.metric, str):
        find = certified_search if precision == "exact" else fast_search
    elif projection is not None and precision == "exact":
        find = certified_search

    def search(task: Task, k: int) -> Result:
        check_finite("queries", task.queries)
        if part is not None and task.statistics is None:
            task = task._replace(
                statistics=prepare(task.points, task.metric, p=task.p, queries=0).statistics
            )  # of its share
        found = find(task, k, dtype)
        return found.distances, found.indices, (found.plan.query_block, found.plan.point_block, *found[3:])

    if part is None:
        distances, indices, counts = search(task, k)
    else:
        rounded = isinstance(index.metric, str) and find is not fast_search
        distances, indices, counts = shared_search(task, part, k, search, rounded=rounded)
    return Neighbors(distances, indices, Info(index.metric, precision, str(dtype), *counts))


def _as_numpy(known: Any) -> Any:
    """The arrays of a `PointStatistics` or a `Projection` as NumPy, and its numbers as floats."""
    return jax.tree.map(lambda x: np.asarray(x) if np.ndim(x) else float(x), known)


def radius_neighbors(
    queries: Any,
    index_or_points: Any,
    radius: float,
    *,
    max_neighbors: int,
    metric: Metric = "euclidean",
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
    queries = as_vectors("queries", addressable("queries", queries))
    index, memory = index_for(index_or_points, metric, p, k=max_neighbors, queries=len(queries), **options)
    if not radius >= 0 and not (index.metric == "dot" and radius < 0):
        raise ValueError(f"radius: must be at least 0, got {radius}")
    if not max_neighbors >= 1:
        raise ValueError(f"max_neighbors: must be at least 1, got {max_neighbors}")
    available = (len(index.points) if mask is None else int(np.sum(np.asarray(mask)))) - bool(exclude_self)
    k = max(1, min(max_neighbors, available))
    options |= {"mask": mask, "exclude_self": exclude_self, "memory": memory}
    distances, indices, info = kneighbors(queries, index, k, **options)
    inside = distances <= radius
    floats = distances if distances.dtype.kind == "f" else distances.astype(np.float64)
    missing = (0, 0), (0, max_neighbors - k)
    return Neighbors(
        np.pad(np.where(inside, floats, np.inf), missing, constant_values=np.inf),
        np.pad(np.where(inside, indices, np.int32(-1)), missing, constant_values=-1),
        info,
    )


def index_for(
    index_or_points: Any,
    metric: Metric,
    p: float | None,
    *,
    k: int,
    queries: int,
    memory: str | int = "1GiB",
    mesh: Mesh | None = None,
    precision: str = "exact",
    tuning: Tuning = DEFAULTS,
    **_: Any,
) -> tuple[Index, int]:
    """What was given, or an index that pays for so many queries and neighbours; and the memory that it leaves."""
    left = parse_memory(memory)
    if not isinstance(index_or_points, Index):
        if sharding.part_of_process(mesh) is not None:  # each process checks and measures its share, when it searches
            points = as_vectors("points", addressable("points", index_or_points))
            return Index(points, canonical_metric(metric, p), p), left
        index = prepare(index_or_points, metric, p=p, queries=0)
        per_candidate = tuning.min_points_per_candidate
        count = len(index.points)
        served = isinstance(k, int | np.integer) and pays(
            int(k), index.metric, count, min_points_per_candidate=per_candidate
        )
        if queries >= tuning.projection_min_queries and served and mesh is None and precision == "exact":
            limit = min(left // 2, tuning.projection_max_bytes)
            index = replace(index, projection=_projection(index.points, index.metric, limit, tuning))
            left -= sum(np.asarray(x).nbytes for x in jax.tree.leaves(index.projection))
        return index, left
    index = index_or_points
    asked = canonical_metric(metric, p)
    if asked != "l2" and (asked, p) != (index.metric, index.p):  # "l2" is what is asked by saying nothing
        raise ValueError(f"metric: the index was prepared for {index.metric!r}, got {metric!r}")
    return index, left


# From neighbours to labels.


def vote(
    neighbors: Neighbors,
    labels: ArrayLike,
    num_classes: int,
    *,
    ks: Sequence[int] = (1, 3, 5),
    weights: Weights = "uniform",
    temperature: float = 0.07,
) -> np.ndarray:
    """The votes of the first k neighbours for each class, for several k in one pass → (len(ks), Q, num_classes).

    The winner is `np.argmax(votes, axis=-1)`, which gives a tie to the smaller label. Votes are float32 where the
    distances are, else float64.

    Args:
      labels: (N,) the points' labels, 0 … num_classes − 1.
      weights: "uniform": one vote each. "distance": 1 / distance, and exact matches outvote all others. "softmax":
        exp(−distance / temperature), which with metric "cosine" is the protocol of Wu et al. 2018 (arXiv:1805.01978)
        and DINO (Caron et al. 2021, arXiv:2104.14294); each query's are scaled so that the nearest has 1.
        A function: from distances (k,) to weights (k,).

    Raises:
      ValueError: an unknown weight, a k above the number of neighbours, labels that are no integers in range.
    """
    available = neighbors.indices.shape[1]
    ks = tuple(ks)
    if not ks or not all(isinstance(k, int | np.integer) and 1 <= k <= available for k in ks):
        raise ValueError(f"ks: needs integers from 1 to {available}, the number of neighbours found; got {ks}")
    if not callable(weights) and weights not in WEIGHTS:
        raise ValueError(f"weights: {weights!r} is unknown; choose one of {', '.join(WEIGHTS)}, or pass a function")
    if not temperature > 0:
        raise ValueError(f"temperature: must be above 0, got {temperature}")
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"labels: needs integers (N,) from 0 to {num_classes - 1}, got {labels.dtype} {labels.shape}")
    distances, indices = np.asarray(neighbors.distances), np.asarray(neighbors.indices)
    if indices.max() >= len(labels):
        raise ValueError(f"labels: needs one for each point, got {len(labels)}, and point {indices.max()} has none")
    if weights == "distance" and (distances < 0).any():
        raise ValueError(
            "weights: 'distance' needs distances from 0 up, and these go below; use 'uniform' or 'softmax'"
        )
    function: Callable[..., Array] = weights if callable(weights) else WEIGHTS[weights]
    distances = distances if distances.dtype == np.float32 else distances.astype(np.float64)
    with jax.enable_x64(jax.config.read("jax_enable_x64") or distances.dtype == np.float64):
        scaled = np.asarray(temperature, distances.dtype) if weights == "softmax" else None
        return np.asarray(count_votes(distances, indices, labels, scaled, function, ks, num_classes), distances.dtype)


def classify(
    queries: Any,
    index_or_points: Any,
    labels: ArrayLike,
    k: int,
    *,
    weights: Weights = "uniform",
    temperature: float = 0.07,
    metric: Metric = "euclidean",
    p: float | None = None,
    **options: Any,
) -> np.ndarray:
    """The labels (Q,) int32 that the k nearest points vote for; takes the options of `kneighbors` and `vote`.

    >>> classify([[0.2]], [[0.0], [1.0], [1.1]], [0, 1, 1], k=1)
    array([0], dtype=int32)
    """
    queries = as_vectors("queries", addressable("queries", queries))
    index, memory = index_for(index_or_points, metric, p, k=k, queries=len(queries), **options)
    labels = np.asarray(labels)
    if labels.shape != (len(index.points),) or labels.dtype.kind not in "iu" or labels.min() < 0:
        got = f"{labels.dtype} {labels.shape}: {labels.ravel()[:3].tolist()}, …"
        raise ValueError(f"labels: needs a whole number from 0 for each of the {len(index.points)} points, got {got}")
    neighbors = kneighbors(queries, index, k, **{**options, "memory": memory})
    votes = vote(neighbors, labels, int(labels.max()) + 1, ks=(k,), weights=weights, temperature=temperature)
    return np.argmax(votes[0], axis=-1).astype(np.int32)
