"""The whole table of distances between two sets of vectors."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from funcgrad.distances.all_pairs import finish, ranking_distances
from funcgrad.distances.dtypes import as_vectors, needs_64_bits, same_dimensions, search_dtype
from funcgrad.distances.metrics import Metric, canonical_metric


def pairwise_distances(queries: Any, points: Any, metric: Metric = "euclidean", *, p: float | None = None) -> Array:
    """All distances between queries (Q, …) and points (N, …) → (Q, N); further axes are flattened.

    Bytes (uint8, int8) give exact integers for l1, sqeuclidean, chebyshev and dot, and the correctly rounded float32
    root for l2. float64 is computed in float64, everything else in float32. The whole table is built: for the nearest
    few of many points use `funcgrad.neighbors.kneighbors`, which never does.

    Raises `ValueError` for an unknown metric or shapes that do not fit, `TypeError` for what is no array of numbers.

    >>> pairwise_distances([[0.0, 0.0]], [[3.0, 4.0], [1.0, 0.0]], "euclidean")
    Array([[5., 1.]], dtype=float64)
    """
    name = canonical_metric(metric, p)
    queries, points = as_vectors("queries", queries), as_vectors("points", points)
    same_dimensions(queries, points)
    dtype = search_dtype(queries.dtype, points.dtype)
    with jax.enable_x64(jax.config.read("jax_enable_x64") or needs_64_bits(dtype, queries.shape[1])):
        return _pairwise(jnp.asarray(queries, dtype), jnp.asarray(points, dtype), name, p)


@partial(jax.jit, static_argnums=(2, 3))
def _pairwise(queries: Array, points: Array, metric: Metric, p: float | None) -> Array:
    return finish(ranking_distances(queries, points, metric, p), metric)
