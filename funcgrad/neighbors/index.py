"""Points that were checked and measured once, in memory or in a file, to be searched many times."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from funcgrad.distances import Metric, as_vectors, canonical_metric, ranking_dtype
from funcgrad.files import replacing
from funcgrad.neighbors.bounds import PointStatistics, point_statistics
from funcgrad.neighbors.mesh import part_of_process, place_points
from funcgrad.neighbors.prefilter import Projection, make_projection, pays
from funcgrad.neighbors.tuning import DEFAULTS, Tuning
from funcgrad.neighbors.validation import addressable, check_finite, in_numpy, parse_memory


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["points", "statistics", "projection"],
    meta_fields=["metric", "p", "reserved"],
)
@dataclass(frozen=True)
class Index:
    """Points that were checked and measured once and can be searched many times; see `prepare`."""

    points: Any  # (N, D), where and as they came
    metric: Metric
    p: float | None
    statistics: PointStatistics | None = None  # of floats with a metric that is computed from products
    projection: Projection | None = None  # where a search gains by it
    reserved: int = 0  # bytes of the projection that count towards a search's memory limit


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

    On a CPU it also tries whether a projection to far fewer numbers bounds the distances well, as it does with
    pictures, and if so keeps it for a first filter: see `prefilter`. That takes seconds, and up to 512 MB beside the
    points. `queries` is how many will be searched for in all: if few, a projection would not pay and is left out, as it
    is over a mesh.

    The points are not copied, unless they come as lists or the like: pass a copy of an array that will be changed, as
    searches take its norms for granted. Over a mesh of several processes the points stay where they are, and each
    search reads its share of them.

    Raises `ValueError` for an unknown metric, fewer than two axes, or NaN or infinity, naming the rows.
    """
    metric = canonical_metric(metric, p)
    points = as_vectors("points", addressable("points", points))
    dtype = ranking_dtype(metric, points.dtype)
    check_finite("points", points)
    statistics = point_statistics(points, metric, dtype) if dtype.kind == "f" else None
    if mesh is not None and part_of_process(mesh) is None:
        points = place_points(points, mesh)
    index = Index(points, metric, p, statistics)
    if mesh is not None or (queries is not None and queries < tuning.projection_min_queries):
        return index
    return _with_projection(index, tuning.projection_max_bytes, tuning)


def _with_projection(index: Index, max_bytes: int, tuning: Tuning) -> Index:
    """Off the CPU, a search waits for measuring the last candidates, of which a projection leaves more."""
    if jax.default_backend() != "cpu":
        return index
    return replace(index, projection=make_projection(in_numpy(index.points), index.metric, max_bytes, tuning))


def as_index(
    index_or_points: Any,
    metric: Metric | None,
    p: float | None,
    *,
    k: int,
    queries: int,
    memory: str | int,
    mesh: Mesh | None = None,
    tuning: Tuning = DEFAULTS,
) -> Index:
    """The index that came, or one of the points for `queries` exact searches within a memory limit.

    metric: None is the index's own, else euclidean. Raises `ValueError` for any other than the index's.
    """
    if isinstance(index_or_points, Index):
        refuse_other_metric(index_or_points, metric, p)
        return index_or_points
    metric = canonical_metric("euclidean" if metric is None else metric, p)
    if part_of_process(mesh) is not None:  # each process checks and measures its share, when it searches
        return Index(as_vectors("points", addressable("points", index_or_points)), metric, p)
    index = prepare(index_or_points, metric, p=p, queries=0)
    served = isinstance(k, int | np.integer) and pays(int(k), metric, len(index.points), tuning)
    if served and queries >= tuning.projection_min_queries and mesh is None:
        index = _with_projection(index, min(parse_memory(memory) // 2, tuning.projection_max_bytes), tuning)
        reserved = sum(np.asarray(x).nbytes for x in jax.tree.leaves(index.projection))
        index = replace(index, reserved=reserved)
    return index


def refuse_other_metric(index: Index, metric: Metric | None, p: float | None) -> None:
    asked = index.metric if metric is None else canonical_metric(metric, p)
    if asked != index.metric:
        raise ValueError(f"metric: the index was prepared for {index.metric!r}, got {metric!r}")
    if p != index.p and not (metric is None and p is None):
        raise ValueError(f"p: the index was prepared with p={index.p}, got p={p}")


# Files. The statistics lie there under the names of their fields, a projection's with these prefixes.

_PROJECTION, _OF_PROJECTED = "projection_", "projected_"
_FORMER = {"contraction_images": "projection_projected", "contraction_": _PROJECTION, "images_": _OF_PROJECTED}


def save_index(path: str | PathLike[str], index: Index) -> None:
    """Writes an index as `.npz`. Raises `ValueError` for a metric that is a function: it has no name to write."""
    if not isinstance(index.metric, str):
        raise ValueError(f"index: only a named metric can be saved, not a function; got {index.metric}")
    points = np.asarray(index.points)
    if points.dtype.kind == "V":  # bfloat16 and the like, which NumPy's format does not know
        points = points.astype(np.float32)
    arrays = _arrays(index.statistics, "")
    if (projection := index.projection) is not None:
        arrays |= _arrays(projection._replace(statistics=None), _PROJECTION)
        arrays |= _arrays(projection.statistics, _OF_PROJECTED)
    p = np.asarray(math.nan if index.p is None else index.p)
    with replacing(path) as temporary_path, open(temporary_path, "wb") as file:
        np.savez(file, points=points, metric=np.asarray(index.metric), p=p, **arrays)


def _arrays(part: Any, prefix: str) -> dict[str, Any]:
    """The fields of a named tuple under their names in the file; none of None."""
    return {prefix + name: x for name, x in (part._asdict() if part else {}).items() if x is not None}


def load_index(path: str | PathLike[str]) -> Index:
    """Reads what `save_index` wrote."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {_current(name): file[name] for name in file.files}
    points, p = arrays["points"], None if math.isnan(float(arrays["p"])) else float(arrays["p"])
    check_finite("points", points)
    projection = _read(Projection, arrays, _PROJECTION)
    if projection is not None:
        projection = projection._replace(statistics=_read(PointStatistics, arrays, _OF_PROJECTED))
    return Index(points, canonical_metric(str(arrays["metric"]), p), p, _read(PointStatistics, arrays, ""), projection)


def _current(name: str) -> str:
    """The name under which an array is saved now, where version 0.1 had another."""
    prefix = next((prefix for prefix in _FORMER if name.startswith(prefix)), "")
    return _FORMER.get(prefix, "") + name.removeprefix(prefix)


def _read(kind: Any, arrays: Mapping[str, np.ndarray], prefix: str) -> Any:
    """A named tuple of the arrays saved under its fields' names; None if there are none."""
    found = {name: arrays[prefix + name] for name in kind._fields if prefix + name in arrays}
    values = {name: x if x.ndim else float(x) for name, x in found.items()}
    return kind(**{name: values.get(name) for name in kind._fields}) if found else None
