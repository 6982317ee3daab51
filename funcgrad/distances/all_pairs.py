"""Tables of all pairs: each metric's own formula under `jax.vmap`, and faster forms of the same beside it.

Bytes (uint8, int8) give exact integers: float32 holds every integer up to 2²⁴, so the dimensions are summed in chunks
whose sums stay within that, and the chunks are added as integers.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from funcgrad.distances import kernels
from funcgrad.distances.dtypes import BYTES, needs_64_bits
from funcgrad.distances.metrics import HIGHEST, METRICS, Metric, PairDistance, l1

Table = Callable[[Array, Array], Array]  # (Q, D), (N, D) → (Q, N)


def vmap_pairs(pair: PairDistance) -> Table:
    """From a distance of two vectors to the (Q, N) table for (Q, D) queries and (N, D) points."""
    return jax.vmap(jax.vmap(pair, in_axes=(None, 0)), in_axes=(0, None))


def ranking_distances(queries: Array, points: Array, metric: Metric, p: float | None = None) -> Array:
    """The (Q, N) numbers that put neighbours in order: the distances, but for l2 their squares (see `finish`)."""
    ranked = "sqeuclidean" if metric == "l2" else metric
    is_byte = queries.dtype in BYTES
    if ranked == "l1":
        return _l1(queries, points)
    if is_byte and ranked in _OF_BYTES:
        return _OF_BYTES[ranked](queries, points)
    pair: Callable[..., Array] = _traced(ranked) if callable(ranked) else METRICS[ranked]
    if ranked == "minkowski":
        pair = partial(pair, p=p)
    if is_byte:
        queries, points = queries.astype(jnp.float32), points.astype(jnp.float32)
    table = vmap_pairs(pair)(queries, points)
    is_integer = table.dtype == jnp.bool or (is_byte and ranked == "chebyshev")
    return table.astype(jnp.int32) if is_integer else table


def _traced(metric: PairDistance) -> PairDistance:
    """A user's metric, which says in one line that JAX cannot trace it."""

    def pair(a: Array, b: Array) -> Array:
        try:
            return metric(a, b)
        except jax.errors.JAXTypeError as error:
            raise TypeError(
                f"metric: {getattr(metric, '__name__', metric)} must be written with jax.numpy: NumPy, and Python's if "
                f"and float() on values, cannot be compiled ({type(error).__name__}; jnp.where takes the place of if)"
            ) from None

    return pair


def fastest_ranking_distances(queries: Array, points: Array, metric: Metric, p: float | None = None) -> Array:
    """`ranking_distances`, by a kernel where one is faster: the same integers; floats may round otherwise."""
    by_xla = partial(ranking_distances, metric=metric, p=p)
    kernel = kernels.l1(queries.dtype, queries.shape[1]) if metric == "l1" else None
    if kernel is None:
        return by_xla(queries, points)
    dtype = jax.eval_shape(by_xla, queries, points).dtype

    def by_kernel(queries: Array, points: Array) -> Array:
        return kernel(queries, points).astype(dtype)

    return lax.platform_dependent(queries, points, cuda=by_kernel, default=by_xla)


def finish(ranked: Array, metric: Metric) -> Array:
    """From what `ranking_distances` returned to the distances themselves."""
    if metric != "l2":
        return ranked
    if not jnp.issubdtype(ranked.dtype, jnp.integer):
        return jnp.sqrt(ranked)
    with jax.enable_x64(True):  # an int32 has more digits than float32: rounding once, after the root, needs float64
        return lax.sqrt(ranked.astype(jnp.float64)).astype(jnp.float32)


# l1


_TILE = 288  # points at a time: rows of an odd number of cache lines, so that they share no cache set
_UNROLLED = 8  # dimensions at a time: a query's values of so many fit in registers beside the sums
LARGEST_SUM = 1023  # the largest number that a uint16 vector may have: ten bits, for sums of four bytes (≤ 1,020)
_LARGEST_DIFFERENCE = {np.dtype(np.uint8): 255, np.dtype(np.int8): 255, np.dtype(np.uint16): LARGEST_SUM}


def _l1(queries: Array, points: Array) -> Array:
    """Off the CPU the definition: a GPU would launch a kernel for each step of the loop over dimensions."""
    if min(len(queries), len(points)) < 32:  # too few to amortize transposing the points
        return _l1_by_definition(queries, points)
    return lax.platform_dependent(queries, points, cpu=_l1_by_dimensions, default=_l1_by_definition)


def _l1_by_definition(queries: Array, points: Array) -> Array:
    if queries.dtype not in _LARGEST_DIFFERENCE:
        return vmap_pairs(l1)(queries, points)
    width = 2**24 // _LARGEST_DIFFERENCE[queries.dtype]
    return _sum_chunks(vmap_pairs(l1), queries.astype(jnp.float32), points.astype(jnp.float32), width)


def _l1_by_dimensions(queries: Array, points: Array) -> Array:
    """Integers exactly: |a − b| = a + b − 2·min(a, b), where the sums of a and of b are taken once."""
    if queries.dtype not in _LARGEST_DIFFERENCE:
        return _sum_by_dimensions(queries, points, lambda a, b: jnp.abs(a - b), queries.dtype)
    width = 2**16 // (_LARGEST_DIFFERENCE[queries.dtype] + 1)  # so many minima add up to less than 2¹⁶
    total_dtype = jnp.int64 if needs_64_bits(queries.dtype, queries.shape[1]) else jnp.int32
    queries, points = _unsigned(queries), _unsigned(points)
    sums = [jnp.sum(x, axis=1, dtype=total_dtype) for x in (queries, points)]
    table = _sum_by_dimensions(queries, points, jnp.minimum, total_dtype, width)
    return jnp.expand_dims(sums[0], 1) + jnp.expand_dims(sums[1], 0) - 2 * table


def minima(queries: Array, points: Array) -> Array:
    """Σ min(a, b) of floats (Q, N): l1 without the sums of a and of b, and without one of its three operations."""

    def minimum(a: Array, b: Array) -> Array:
        return jnp.where(a < b, a, b)  # one instruction, where `jnp.minimum` would also propagate NaN

    if min(len(queries), len(points)) >= 32:
        return _sum_by_dimensions(queries, points, minimum, queries.dtype)
    return vmap_pairs(lambda a, b: jnp.sum(minimum(a, b)))(queries, points)


def _sum_by_dimensions(
    queries: Array, points: Array, term: Callable[[Array, Array], Array], total_dtype: Any, width: int = 0
) -> Array:
    """Σ term(a, b) with the dimensions in the outer loop, so that neighbouring points are neighbours in memory.

    Terms are added up in their own dtype, and the sums of `width` dimensions each, if given, in `total_dtype`.
    """
    chunk, count = width or _UNROLLED, len(points)
    a = _padded(queries, 0, chunk).T
    tiles = _padded(points, -count % _TILE, chunk).reshape(-1, _TILE, len(a)).swapaxes(1, 2)

    def one_tile(b: Array) -> Array:
        def add_unrolled(start: Array, sums: Array) -> Array:
            for d in range(_UNROLLED):  # each row is sliced by itself: LLVM does not inline what XLA reads twice
                row_a, row_b = (lax.dynamic_index_in_dim(x, start + d, keepdims=False) for x in (a, b))
                sums = sums + term(jnp.expand_dims(row_a, 1), jnp.expand_dims(row_b, 0))
            return sums

        def add_chunk(number: Array, total: Array) -> Array:
            def add(i: Array, sums: Array) -> Array:
                return add_unrolled(number * chunk + i * _UNROLLED, sums)

            sums = lax.fori_loop(0, chunk // _UNROLLED, add, jnp.zeros(total.shape, a.dtype))
            return total + sums.astype(total_dtype)

        zeros = jnp.zeros((a.shape[1], _TILE), total_dtype)
        if width:
            return lax.fori_loop(0, len(a) // chunk, add_chunk, zeros)
        return lax.fori_loop(0, len(a) // _UNROLLED, lambda i, total: add_unrolled(i * _UNROLLED, total), zeros)

    return jnp.moveaxis(lax.map(one_tile, tiles), 0, 1).reshape(len(queries), -1)[:, :count]


def _unsigned(x: Array) -> Array:
    """Bytes as uint16 from 0 to 255, by adding 128 where they have a sign."""
    return (x.astype(jnp.int16) + (128 if x.dtype == jnp.int8 else 0)).astype(jnp.uint16)


def _padded(x: Array, rows: int, width: int) -> Array:
    return jnp.pad(x, ((0, rows), (0, -x.shape[1] % width)))


# Matrix products, and the metrics that are made of them


_ALIGNED = 128  # dimensions: what tiles of a matrix product are cut into
_EXACT = 1024  # products of two numbers in [-128, 127], each at most 2¹⁴, whose sums stay within 2²⁴


def products(queries: Array, points: Array) -> Array:
    """Inner products (Q, N); of bytes, shifted to [-128, 127], the exact integers, as each platform is fastest."""
    if queries.dtype not in BYTES:
        return _multiply(queries, points, precision=HIGHEST)
    return lax.platform_dependent(
        queries, points, cuda=products_in_int8, tpu=products_in_bfloat16, default=products_in_float32
    )


_multiply = partial(lax.dot_general, dimension_numbers=(((1,), (1,)), ((), ())))


def products_in_float32(queries: Array, points: Array) -> Array:
    """Exact products of bytes."""
    return _sum_chunks(partial(_multiply, precision=HIGHEST), _centred(queries), _centred(points), _EXACT)


def products_in_bfloat16(queries: Array, points: Array) -> Array:
    """The same: bfloat16 holds −128 … 127 exactly, and the sums are float32."""
    table = partial(_multiply, preferred_element_type=jnp.float32)
    return _sum_chunks(table, _centred(queries).astype(jnp.bfloat16), _centred(points).astype(jnp.bfloat16), _EXACT)


def products_in_int8(queries: Array, points: Array) -> Array:
    """The same in integers: 2¹⁶ products of at most 2¹⁴ stay within an int32.

    Zeros fill up the dimensions: without them, products of 2 to 9 came out wrong on an H100 with JAX 0.11.2.
    """
    table = partial(_multiply, preferred_element_type=jnp.int32)
    a, b = (x if x.dtype == jnp.int8 else (x.astype(jnp.int16) - 128).astype(jnp.int8) for x in (queries, points))
    return _sum_chunks(table, _padded(a, 0, _ALIGNED), _padded(b, 0, _ALIGNED), 2**16)


def _centred(x: Array) -> Array:
    """Bytes as float32 in [-128, 127]: differences stay the same, and the products become small."""
    return x.astype(jnp.float32) - (128.0 if x.dtype == jnp.uint8 else 0.0)


def _sum_chunks(table: Table, queries: Array, points: Array, width: int) -> Array:
    """Σ table(queries, points) over chunks of `width` dimensions, each exact in its own dtype, added as integers."""
    integer = jnp.int64 if needs_64_bits(jnp.uint8, queries.shape[1]) else jnp.int32
    chunks = range(0, queries.shape[1], width)
    parts = (table(queries[:, i : i + width], points[:, i : i + width]).astype(integer) for i in chunks)
    return sum(parts, start=jnp.zeros((), integer))


def _sqeuclidean_of_bytes(queries: Array, points: Array) -> Array:
    def norms(x: Array) -> Array:
        return _sum_chunks(lambda a, b: jnp.sum(a * b, axis=1), _centred(x), _centred(x), _EXACT)

    sums = jnp.expand_dims(norms(queries), 1) + jnp.expand_dims(norms(points), 0)
    return jnp.maximum(sums - 2 * products(queries, points), 0)


def _dot_of_bytes(queries: Array, points: Array) -> Array:
    """−a·b; of uint8, with A = a − 128 and B = b − 128, a·b = A·B + 128·(ΣA + ΣB) + 128²·D."""
    table = products(queries, points)
    if queries.dtype == jnp.int8:
        return -table
    ones = jnp.zeros((1, queries.shape[1]), jnp.uint8) + jnp.uint8(129)  # 129 − 128 = 1: products with it are sums
    sums = products(queries, ones) + products(ones, points)
    return -(table + 128 * sums + 128 * 128 * queries.shape[1])


_OF_BYTES: dict[Any, Table] = {"sqeuclidean": _sqeuclidean_of_bytes, "dot": _dot_of_bytes}
