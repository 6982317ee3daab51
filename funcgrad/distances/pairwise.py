"""Distances: each metric is written for ONE pair of vectors, and `jax.vmap` makes it a table of all pairs.

The formula for one pair is the definition. Where a faster all-pairs form exists it stands beside it (`_ALL_PAIRS`), and
a test holds the two equal. Bytes (uint8, int8) give exact integers: every partial sum below 2²⁴ is exact in float32, so
the dimensions are summed in stretches short enough for that, and the stretches are added as integers.
"""

import math
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

Metric = str | Callable[[Array, Array], Array]
PairDistance = Callable[[Array, Array], Array]

HIGHEST = lax.Precision.HIGHEST  # float32 products as float32, also where the hardware would rather round them first


# The definitions: two vectors of shape (D,) in, one number out.


def l1(a: Array, b: Array) -> Array:
    """Sum of absolute differences, also called Manhattan or city-block distance."""
    return jnp.sum(jnp.abs(a - b))


def sqeuclidean(a: Array, b: Array) -> Array:
    """Sum of squared differences."""
    return jnp.sum(jnp.square(a - b))


def l2(a: Array, b: Array) -> Array:
    """Euclidean distance."""
    return jnp.sqrt(sqeuclidean(a, b))


def chebyshev(a: Array, b: Array) -> Array:
    """Largest absolute difference."""
    return jnp.max(jnp.abs(a - b))


def minkowski(a: Array, b: Array, p: float) -> Array:
    """The p-norm of the difference, p ≥ 1: p = 1 is `l1`, p = 2 is `l2`."""
    difference = jnp.abs(a - b)
    largest = jnp.max(difference)
    scale = jnp.where(largest > 0, largest, 1)  # so that no power overflows or vanishes
    return scale * jnp.sum((difference / scale) ** p) ** (1 / p)


def hamming(a: Array, b: Array) -> Array:
    """Share of the places in which two vectors differ, from 0 to 1."""
    return jnp.sum(jnp.where(a == b, 0, 1).astype(a.dtype)) / a.size


def dot(a: Array, b: Array) -> Array:
    """Minus the inner product, so that the largest product is the nearest."""
    return -jnp.dot(a, b, precision=HIGHEST)


def cosine(a: Array, b: Array) -> Array:
    """One minus the cosine of the angle, from 0 to 2. A zero vector has no direction: its distance to all is 1."""
    return jnp.clip(1 - jnp.dot(_unit(a), _unit(b), precision=HIGHEST), 0, 2)


def _unit(a: Array) -> Array:
    largest = jnp.max(jnp.abs(a))
    a = a / jnp.where(largest > 0, largest, 1)  # the squares of very large or very small numbers have no float
    norm = jnp.sqrt(jnp.sum(jnp.square(a)))
    return a / jnp.where(norm > 0, norm, 1)


METRICS: dict[str, Callable[..., Array]] = {
    "l1": l1,
    "l2": l2,
    "sqeuclidean": sqeuclidean,
    "cosine": cosine,
    "dot": dot,
    "chebyshev": chebyshev,
    "minkowski": minkowski,
    "hamming": hamming,
}
ALIASES = {"manhattan": "l1", "euclidean": "l2"}


def canonical_metric(metric: Metric, p: float | None = None) -> Metric:
    """The metric's own name, or the function as it came.

    Raises `ValueError` for an unknown name, for "minkowski" without p ≥ 1, and for p beside any other metric;
    `TypeError` for what is neither a name nor a hashable function.
    """
    name = ALIASES.get(metric, metric) if isinstance(metric, str) else metric
    if not isinstance(name, Hashable):
        raise TypeError(f"metric: needs a name, or a function that is hashable, got {type(metric).__name__}")
    if not callable(name) and name not in METRICS:
        known = ", ".join([*METRICS, *ALIASES])
        raise ValueError(f"metric: {metric!r} is unknown; choose one of {known}, or pass a function of two vectors")
    if name == "minkowski" and (p is None or not p >= 1 or math.isinf(p)):
        raise ValueError(f"p: metric 'minkowski' needs a finite p ≥ 1, got {p} (p = ∞ is 'chebyshev')")
    if name != "minkowski" and p is not None:
        raise ValueError(f"p: only metric 'minkowski' takes p, got p={p} with metric {metric!r}")
    return name


def all_pairs(pair: PairDistance) -> Callable[[Array, Array], Array]:
    """From a distance of two vectors to the (Q, N) table for (Q, D) queries and (N, D) points."""
    return jax.vmap(jax.vmap(pair, in_axes=(None, 0)), in_axes=(0, None))


def pairwise_distances(queries: Any, points: Any, metric: Metric = "euclidean", *, p: float | None = None) -> Array:
    """All distances between queries (Q, …) and points (N, …) → (Q, N); further axes are flattened.

    Bytes (uint8, int8) give exact integers for l1, sqeuclidean, chebyshev and dot, and the correctly rounded float32
    root for l2. float64 is computed in float64, everything else in float32. The whole table is built: for the nearest
    few of many points use `funcgrad.neighbors.kneighbors`, which never does.

    >>> pairwise_distances([[0.0, 0.0]], [[3.0, 4.0], [1.0, 0.0]], "euclidean")
    Array([[5., 1.]], dtype=float32)
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


def ranking_distances(queries: Array, points: Array, metric: Metric, p: float | None = None) -> Array:
    """The (Q, N) numbers that put neighbours in order: the distances, but for l2 their squares (see `finish`)."""
    ranked = "sqeuclidean" if metric == "l2" else metric
    byte = queries.dtype in (jnp.uint8, jnp.int8)
    if ranked in _ALL_PAIRS and byte:
        return _ALL_PAIRS[ranked](queries, points)
    pair: Callable[..., Array] = ranked if callable(ranked) else METRICS[ranked]
    pair = partial(pair, p=p) if ranked == "minkowski" else pair
    if ranked == "l1":
        return _l1_all_pairs(queries, points)
    if not byte:
        table = all_pairs(pair)(queries, points)
        return table.astype(jnp.int32) if table.dtype == jnp.bool else table
    table = all_pairs(pair)(queries.astype(jnp.float32), points.astype(jnp.float32))
    return table.astype(jnp.int32) if ranked == "chebyshev" else table


def finish(ranked: Array, metric: Metric) -> Array:
    """From the numbers that `ranking_distances` gave to the distances themselves."""
    if metric != "l2":
        return ranked
    if not jnp.issubdtype(ranked.dtype, jnp.integer):
        return jnp.sqrt(ranked)
    with jax.enable_x64(True):  # an int32 has more digits than float32: rounding once, after the root, needs float64
        return lax.sqrt(ranked.astype(jnp.float64)).astype(jnp.float32)


# The faster all-pairs forms: l1 of bytes adds up in 16 bits, and what is inner products at heart is a matrix product.


_TILE = 288  # points at a time: rows of an odd number of cache lines, so that they share no cache set
LARGEST_SUM = 1023  # what stands in a uint16 is no larger: a sum of four bytes
_FARTHEST = {np.dtype(np.uint8): 255, np.dtype(np.int8): 255, np.dtype(np.uint16): LARGEST_SUM}  # two numbers apart
_UNROLLED = 8  # dimensions at a time: a query's values of so many fit in registers beside the sums


def _l1_all_pairs(queries: Array, points: Array) -> Array:
    """Off the CPU the definition: a GPU starts each step of a loop over dimensions anew."""
    if min(len(queries), len(points)) < 32:  # too few to share the points' new layout
        return _l1_by_definition(queries, points)
    return lax.platform_dependent(queries, points, cpu=_l1_by_dimensions, default=_l1_by_definition)


def _l1_by_definition(queries: Array, points: Array) -> Array:
    if queries.dtype not in _FARTHEST:
        return all_pairs(l1)(queries, points)
    width = 2**24 // _FARTHEST[queries.dtype]
    queries, points = queries.astype(jnp.float32), points.astype(jnp.float32)
    return _sum_in_stretches(all_pairs(l1), queries, points, width)


def _l1_by_dimensions(queries: Array, points: Array) -> Array:
    """Of integers exactly: |a − b| = a + b − 2·min(a, b), where the sums of a and of b are taken once."""
    if queries.dtype not in _FARTHEST:
        return _summed_by_dimensions(queries, points, lambda a, b: jnp.abs(a - b), queries.dtype)
    width = 2**16 // (_FARTHEST[queries.dtype] + 1)  # so many minima can be added up in 16 bits
    total_dtype = jnp.int64 if needs_64_bits(queries.dtype, queries.shape[1]) else jnp.int32
    queries, points = (_unsigned(x) for x in (queries, points))
    sums = (jnp.sum(x, axis=1, dtype=total_dtype) for x in (queries, points))
    table = _summed_by_dimensions(queries, points, jnp.minimum, total_dtype, width)
    return jnp.expand_dims(next(sums), 1) + jnp.expand_dims(next(sums), 0) - 2 * table


def minima(queries: Array, points: Array) -> Array:
    """Σ min(a, b) of floats (Q, N): l1 but for the sums of a and of b, and without one of its three operations."""

    def smaller(a: Array, b: Array) -> Array:
        return jnp.where(a < b, a, b)  # one instruction, where `jnp.minimum` would also see to NaN

    if min(len(queries), len(points)) >= 32:
        return _summed_by_dimensions(queries, points, smaller, queries.dtype)
    return all_pairs(lambda a, b: jnp.sum(smaller(a, b)))(queries, points)


def _summed_by_dimensions(
    queries: Array, points: Array, term: Callable[[Array, Array], Array], total_dtype: Any, width: int = 0
) -> Array:
    """Σ term(a, b) with the dimensions in the outer loop, so that neighbouring points are neighbours in memory.

    Terms are added up in their own dtype, and those of stretches `width` dimensions wide, if given, in `total_dtype`.
    """
    few, many = _UNROLLED, width or _UNROLLED
    count = len(points)
    a = _padded(queries, 0, many).T
    tiles = _padded(points, -count % _TILE, many).reshape(-1, _TILE, len(a)).swapaxes(1, 2)

    def one_tile(b: Array) -> Array:
        def some(start: Array, sums: Array) -> Array:
            for d in range(few):  # each row is read by itself: LLVM does not inline what XLA reads twice
                row_a, row_b = (lax.dynamic_index_in_dim(x, start + d, keepdims=False) for x in (a, b))
                sums = sums + term(jnp.expand_dims(row_a, 1), jnp.expand_dims(row_b, 0))
            return sums

        def stretch(number: Array, total: Array) -> Array:
            zeros = jnp.zeros(total.shape, a.dtype)
            sums = lax.fori_loop(0, many // few, lambda i, sums: some(number * many + i * few, sums), zeros)
            return total + sums.astype(total_dtype)

        zeros = jnp.zeros((a.shape[1], _TILE), total_dtype)
        if width:
            return lax.fori_loop(0, len(a) // many, stretch, zeros)
        return lax.fori_loop(0, len(a) // few, lambda i, total: some(i * few, total), zeros)

    return jnp.moveaxis(lax.map(one_tile, tiles), 0, 1).reshape(len(queries), -1)[:, :count]


def _unsigned(x: Array) -> Array:
    """Bytes as uint16 from 0 to 255, by adding 128 where they have a sign."""
    return (x.astype(jnp.int16) + (128 if x.dtype == jnp.int8 else 0)).astype(jnp.uint16)


def _padded(x: Array, rows: int, width: int) -> Array:
    return jnp.pad(x, ((0, rows), (0, -x.shape[1] % width)))


_ALIGNED = 128  # dimensions: what tiles of a matrix product are cut into


def products(queries: Array, points: Array) -> Array:
    """Inner products (Q, N); of bytes in [-128, 127] the exact integers, by what each platform multiplies fastest."""
    if queries.dtype not in (jnp.uint8, jnp.int8):
        return _multiply(queries, points, precision=HIGHEST)
    return lax.platform_dependent(
        queries, points, cuda=products_in_int8, tpu=products_in_bfloat16, default=products_in_float32
    )


_multiply = partial(lax.dot_general, dimension_numbers=(((1,), (1,)), ((), ())))


def products_in_float32(queries: Array, points: Array) -> Array:
    """Of bytes. |product| ≤ 2¹⁴, so 1,024 of them stay within 2²⁴, and no sum is rounded."""
    table = partial(_multiply, precision=HIGHEST)
    return _sum_in_stretches(table, _centred(queries), _centred(points), 1024)


def products_in_bfloat16(queries: Array, points: Array) -> Array:
    """The same: bfloat16 holds −128 … 127 exactly, and the sums are float32."""
    table = partial(_multiply, preferred_element_type=jnp.float32)
    a, b = (_centred(x).astype(jnp.bfloat16) for x in (queries, points))
    return _sum_in_stretches(table, a, b, 1024)


def products_in_int8(queries: Array, points: Array) -> Array:
    """The same in integers: 2¹⁶ products stay within an int32.

    Zeros fill up the dimensions: without them, products of 2 to 9 came out wrong on an H100 with JAX 0.11.2.
    """
    table = partial(_multiply, preferred_element_type=jnp.int32)
    a, b = (x if x.dtype == jnp.int8 else (x.astype(jnp.int16) - 128).astype(jnp.int8) for x in (queries, points))
    return _sum_in_stretches(table, _padded(a, 0, _ALIGNED), _padded(b, 0, _ALIGNED), 2**16)


def _centred(x: Array) -> Array:
    """Bytes as float32 in [-128, 127]: differences stay the same, and the products become small."""
    return x.astype(jnp.float32) - (128.0 if x.dtype == jnp.uint8 else 0.0)


def _square_norms(x: Array) -> Array:
    if x.dtype not in (jnp.uint8, jnp.int8):
        return jnp.sum(jnp.square(x), axis=1)
    return _sum_in_stretches(lambda a, b: jnp.sum(a * b, axis=1), _centred(x), _centred(x), 1024)


def _sum_in_stretches(table: Callable[[Array, Array], Array], queries: Array, points: Array, width: int) -> Array:
    """Adds up table(queries, points) over stretches of `width` dimensions: exact in float32, integers together."""
    integer = jnp.int64 if needs_64_bits(jnp.uint8, queries.shape[1]) else jnp.int32
    stretches = range(0, queries.shape[1], width)
    parts = (table(queries[:, i : i + width], points[:, i : i + width]).astype(integer) for i in stretches)
    return sum(parts, start=jnp.zeros((), integer))


def _sqeuclidean_all_pairs(queries: Array, points: Array) -> Array:
    norms = jnp.expand_dims(_square_norms(queries), 1) + jnp.expand_dims(_square_norms(points), 0)
    return jnp.maximum(norms - 2 * products(queries, points), 0)


def _dot_all_pairs(queries: Array, points: Array) -> Array:
    table = products(queries, points)
    if queries.dtype != jnp.uint8:
        return -table
    ones = jnp.zeros((1, queries.shape[1]), jnp.uint8) + jnp.uint8(129)  # 129 − 128 = 1: products with it are sums
    sums = products(queries, ones) + products(ones, points)
    return -(table + 128 * sums + 128 * 128 * queries.shape[1])


_ALL_PAIRS: dict[Any, Callable[[Array, Array], Array]] = {
    "sqeuclidean": _sqeuclidean_all_pairs,
    "dot": _dot_all_pairs,
}


# What comes in.


def as_vectors(name: str, x: Any) -> Any:
    """`x` (N, …) as (N, D), not copied where it is contiguous; lists become float32, as in `jax.numpy`."""
    if not (hasattr(x, "dtype") and hasattr(x, "reshape")):
        try:
            x = np.asarray(jnp.asarray(x))
        except (TypeError, ValueError):
            raise TypeError(f"{name}: needs an array of numbers, got {type(x).__name__}") from None
    if x.ndim < 2 or 0 in x.shape:
        raise ValueError(f"{name}: needs shape (number of vectors, dimensions), none of them 0; got {x.shape}")
    return x.reshape(x.shape[0], -1)


def same_dimensions(queries: Any, points: Any) -> None:
    if queries.shape[1] != points.shape[1]:
        raise ValueError(f"queries: have {queries.shape[1]} dimensions, the points have {points.shape[1]}")


def search_dtype(*dtypes: Any) -> Any:
    """The dtype in which vectors of these dtypes are compared: uint8, int8, float32 or float64; nothing is rounded.

    bool is uint8; half precision is float32; wider integers, and uint8 beside int8, are float64, whose sums of them are
    exact up to 2⁵³.
    """
    found = {_search_dtype(np.dtype(dtype)) for dtype in dtypes}
    if len(found) == 1:
        return found.pop()
    single = np.dtype(np.float32) in found and np.dtype(np.float64) not in found
    return np.dtype(np.float32 if single else np.float64)


def ranking_dtype(metric: Metric, *dtypes: Any) -> Any:
    """`search_dtype`, but float32 for bytes under a metric that gives no integers."""
    dtype = search_dtype(*dtypes)
    byte = dtype in (jnp.uint8, jnp.int8)
    return np.dtype(np.float32) if byte and metric in ("cosine", "minkowski", "hamming") else dtype


def _search_dtype(dtype: Any) -> Any:
    if dtype == np.bool_:
        return np.dtype(np.uint8)
    if dtype in (np.uint8, np.int8, np.float32, np.float64):
        return dtype
    if jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer):
        half = jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize <= 2
        return np.dtype(np.float32 if half else np.float64)
    raise TypeError(f"dtype: vectors are integers or floats, got {dtype}")


def needs_64_bits(dtype: Any, dimensions: int) -> bool:
    """Whether distances need `jax.enable_x64`: float64, or bytes whose squares may add up to 2³¹ or nearly so."""
    byte = dtype in (jnp.uint8, jnp.int8)
    return dtype == jnp.float64 or (byte and dimensions * 255**2 >= 2**31 - 2**24)
