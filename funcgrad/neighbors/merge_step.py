"""Blocks: the compiled step in which a block of queries meets a block of points, and how large the blocks may be."""

import re
from collections.abc import Callable
from functools import lru_cache, partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh

from funcgrad import sharding
from funcgrad.distances import Metric, fastest_ranking_distances, minima, products


class Search(NamedTuple):
    """What a step is compiled for, beside its shapes."""

    k: int  # how many are kept
    metric: Metric
    p: float | None
    products: bool  # the numbers are offset − factor · product (of l1: sum of minima), not the metric's own
    exclude_self: bool
    mesh: Mesh | None
    proved: bool = False  # a proof follows, for which it is all one which of equals are kept
    few: int = 0  # how many of a block, at most, are expected among the best once many blocks came before; 0: any


class Points(NamedTuple):
    """A block of points and what is known of each."""

    rows: Any  # (Nb, D)
    numbers: Any  # (Nb,) int32; -1 is no neighbour of anyone
    factors: Any  # (Nb,), used if `Search.products`, as are the offsets
    offsets: Any


def search_step(
    table: Array, queries: Array, numbers: Array, keys: Array, indices: Array, points: Points, *, search: Search
) -> tuple[Array, Array, Array]:
    """Merges a block of points into the best k.

    Args:
      table: (Qb, Nb), whose memory is written over, and given back: the system is slow to hand out so much anew.
      queries: (Qb, D), and their numbers (Qb,).
      keys, indices: (Qb, k), the best so far: the sort keys of their distances, and which points they are.
      points: the block; those of earlier blocks have smaller numbers.
      search: what is searched for.
    """
    del table
    measured = lax.optimization_barrier(_measured(queries, points.rows, search))  # once, not in each of its uses
    lowest, columns = _lowest(search.metric, queries.dtype, queries.shape[1]), len(points.numbers)

    def some(part: slice) -> Array:  # the sort keys of some columns, so that those of all need no memory
        return _keys_of(measured[:, part], numbers, Points(None, *(x[part] for x in points[1:])), search, lowest)

    def best_of_all() -> tuple[Array, Array]:
        k = min(search.k, columns)
        best = _smallest_of_strides(some, columns, k) if search.proved else _smallest_of_many(some(slice(columns)), k)
        return _merged(keys, indices, best, points.numbers)

    if not search.few:
        return measured, *best_of_all()
    # Where the first few of the block end at the k-th so far or beyond, for each query, no other can be among the best.
    few = _smallest_of_strides(some, columns, search.few)
    enough = jnp.all(few[0][:, -1] >= keys[:, -1])
    return measured, *lax.cond(enough, lambda: _merged(keys, indices, few, points.numbers), best_of_all)


def _measured(queries: Array, rows: Array, search: Search) -> Array:
    if search.products:
        return minima(queries, rows) if search.metric == "l1" else products(queries, rows)
    table = fastest_ranking_distances(queries, rows, search.metric, search.p)
    if not jnp.issubdtype(table.dtype, jnp.floating):
        return table
    odd = jnp.isnan(table) if callable(search.metric) else ~jnp.isfinite(table)
    return jnp.where(odd, -jnp.inf, table)  # comes first, and so is noticed


def _keys_of(measured: Array, numbers: Array, points: Points, search: Search, lowest: int | None) -> Array:
    """Sort keys (Qb, n) of what was measured (Qb, n) between queries, whose numbers are (Qb,), and n points."""
    here = jnp.expand_dims(points.numbers, 0)
    if search.products:  # finite, or the query has no bound: see `bounds.query_bounds`
        offsets = jnp.where(here >= 0, jnp.expand_dims(points.offsets, 0), jnp.inf)
        table = offsets - jnp.expand_dims(points.factors, 0) * measured
    else:
        table = _sort_keys(measured, lowest)
        table = jnp.where(here >= 0, table, _last(table.dtype))
    if search.exclude_self:
        table = jnp.where(jnp.expand_dims(numbers, 1) == here, _last(table.dtype), table)
    return table


def _merged(keys: Array, indices: Array, block: tuple[Array, Array], numbers: Array) -> tuple[Array, Array]:
    """The best (Qb, k) of those so far and of a block's best and their places, whose numbers (Nb,) ascend."""
    block_keys, places = block
    k = keys.shape[1]
    # The best so far stand first: they have the smaller indices, and the first of equals is kept.
    keys = jnp.concatenate([keys, block_keys], axis=1)
    indices = jnp.concatenate([indices, jnp.where(block_keys == _last(keys.dtype), -1, numbers[places])], axis=1)
    keys, places = _smallest(keys, k)
    return keys, jnp.take_along_axis(indices, places, axis=1)


def _smallest(keys: Array, k: int) -> tuple[Array, Array]:
    reverse = jnp.negative if jnp.issubdtype(keys.dtype, jnp.floating) else jnp.invert  # −x of an integer may overflow
    values, places = lax.top_k(reverse(keys), k)  # of equal values the one with the smaller place
    return reverse(values), places


_GROUP = 16


def _smallest_of_many(keys: Array, k: int) -> tuple[Array, Array]:
    """`_smallest` in two stages: the k smallest are in the k groups of columns whose own smallest come first.

    For were one in another group, then k groups would have an element that comes before it. With the groups in the
    order of their columns, equals come in that order too.
    """
    rows, columns = keys.shape
    if columns < 2 * _GROUP * k or columns % _GROUP:
        return _smallest(keys, k)
    groups = keys.reshape(rows, columns // _GROUP, _GROUP)
    _, chosen = _smallest(jnp.min(groups, axis=2), k)
    chosen = jnp.sort(chosen, axis=1)
    few = jnp.take_along_axis(groups, jnp.expand_dims(chosen, 2), axis=1).reshape(rows, k * _GROUP)
    values, places = _smallest(few, k)
    return values, jnp.take_along_axis(chosen, places // _GROUP, axis=1) * _GROUP + places % _GROUP


def _smallest_of_strides(some: Callable[[slice], Array], columns: int, k: int) -> tuple[Array, Array]:
    """The same of the keys that `some` gives of a slice of all columns, but of those that equal the last, any.

    A group is every n-th column, so that the smallest of each are those of whole slices, which are computed and
    compared in one pass over memory.
    """
    if columns < 2 * _GROUP * k or columns % _GROUP:
        return _smallest(some(slice(columns)), k)
    n = columns // _GROUP
    slices = [some(slice(start, start + n)) for start in range(0, columns, n)]
    _, chosen = _smallest(reduce(jnp.minimum, slices), k)
    chosen = jnp.sort(chosen, axis=1)
    groups = some(slice(columns)).reshape(-1, _GROUP, n)
    few = jnp.take_along_axis(groups, jnp.expand_dims(chosen, 1), axis=2).reshape(-1, _GROUP * k)
    values, places = _smallest(few, k)
    return values, places // k * n + jnp.take_along_axis(chosen, places % k, axis=1)


# Sort keys: numbers in the order of the distances, of a dtype for which `lax.top_k` is fast: XLA's CPU sorts int32 ten
# to eighty times as slowly as float32. Positive floats are ordered as the integers with the same bits, so an int32 is
# moved above the bit patterns of zero and the subnormals and read as a float32.

_SMALLEST_NORMAL = 2**23  # the bits of the smallest normal float32


def _sort_keys(distances: Array, lowest: int | None) -> Array:
    if lowest is None or distances.dtype != jnp.int32:
        return distances
    return lax.bitcast_convert_type(distances + (_SMALLEST_NORMAL - lowest), jnp.float32)


@partial(jax.jit, static_argnames=("lowest", "dtype"))
def _from_sort_keys(keys: Array, lowest: int | None, dtype: Any) -> Array:
    if lowest is None or dtype != jnp.int32:
        return keys
    return lax.bitcast_convert_type(keys, jnp.int32) - (_SMALLEST_NORMAL - lowest)


def _last(dtype: Any) -> np.ndarray:
    """The sort key of what is no neighbour."""
    return np.array(np.inf if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo(dtype).max, dtype)


def _lowest(metric: Metric, dtype: Any, dimensions: int) -> int | None:
    """The smallest integer that a metric gives on bytes: only minus a product is below 0. None, of a function."""
    if callable(metric):
        return None
    largest_product = {"uint8": 255**2, "int8": 2**14}.get(str(dtype), 0)
    return -largest_product * dimensions if metric == "dot" else 0


# Blocks that fit into the memory limit.


class Plan(NamedTuple):
    """A compiled step and the sizes it was compiled for."""

    step: Callable[..., Any]
    numbers: Callable[..., Array]  # from sort keys
    no_neighbors: tuple[np.ndarray, np.ndarray]
    table: jax.ShapeDtypeStruct
    query_block: int
    point_block: int
    chains: int = 1  # of steps that run side by side
    together: int = 1  # query blocks that meet a block of points while it is there


_QUERY_BLOCK, _POINT_BLOCK = 1024, 8192  # large enough for matrix products at full speed
_ELEMENTS = 2**25  # of a block of points: the fewer blocks, the less often are the best of each chosen
_MANY = 16  # blocks of points, after which a few of each will do
_TOGETHER = 4  # query blocks of each chain that meet a block of points while it is there


def fit_to_memory(search: Search, queries: int, points: int, dimensions: int, dtype: Any, limit: int) -> Plan:
    """Halves the blocks until what the compiler says it needs, with a second block on its way, is within the limit."""
    devices, parts = sharding.shares(search.mesh)
    query_block, most = _query_block_and_chains(search, dimensions)
    at_once = _TOGETHER
    largest = max(_POINT_BLOCK, min(4 * _POINT_BLOCK, _ELEMENTS // dimensions))
    rows, columns = _even(queries, query_block, devices), _even(points, largest, parts)
    while True:
        # Of random points block b has about k / b of the best so far, so in most of many blocks it is less than k / 4.
        many = columns * parts * _MANY <= points and columns >= max(8, search.k // 4)
        search = search._replace(few=max(8, search.k // 4) if many else 0)
        query_blocks = -(-queries // (rows * devices))
        chains, together = min(most, query_blocks), min(at_once * most, query_blocks)
        blocks = (2 * columns + (together + 1) * rows) * dimensions * dtype.itemsize
        needed = blocks + chains * 2 * 4 * rows * columns  # a first guess, which spares compiling what cannot fit
        if needed <= limit:
            plan, temporary = _compile(search, rows * devices, columns * parts, dimensions, dtype)
            needed = blocks + chains * temporary
            if needed <= limit:
                return plan._replace(chains=chains, together=together)
        if rows == columns == together == 1:
            raise ValueError(
                f"memory: {limit:,} bytes is too little for one query and one point, which need {needed:,}"
            )
        if rows == columns == 1:
            most = at_once = 1
        while needed > limit and (rows, columns) != (1, 1):
            rows, columns = (rows, -(-columns // 2)) if columns >= rows else (-(-rows // 2), columns)
            needed //= 2


def _query_block_and_chains(search: Search, dimensions: int) -> tuple[int, int]:
    """How many queries a block should have, and how many chains of steps should run side by side: as measured.

    On a CPU a step's best are chosen by one thread, which the other chain's products hide where they are short. Long
    ones are faster alone. l1 is many short loops, each of which waits for the slowest thread. Other devices need more
    work in a step to be busy.
    """
    if jax.default_backend() != "cpu":
        return 4 * _QUERY_BLOCK, 1
    if search.mesh is not None:
        return _QUERY_BLOCK, 1
    if search.metric == "l1":
        return 2 * _QUERY_BLOCK, 2
    return (_QUERY_BLOCK // 2, 2) if dimensions <= 1024 else (_QUERY_BLOCK, 1)


def _even(count: int, largest: int, parts: int) -> int:
    """The rows of a block on one of `parts` devices, when `count` rows are cut into blocks of about the same size."""
    rows = -(-count // (-(-count // largest) * parts))
    return -(-rows // 16) * 16 if rows > 64 else rows  # so that folds of 287 and 288 share one program


@lru_cache(maxsize=128)  # a user's metric is compiled once per function
def _compile(search: Search, rows: int, columns: int, dimensions: int, dtype: Any) -> tuple[Plan, int]:
    shape = jax.ShapeDtypeStruct
    queries, terms = shape((rows, dimensions), dtype), shape((columns,), dtype)
    block = Points(shape((columns, dimensions), dtype), shape((columns,), jnp.int32), terms, terms)
    table = jax.eval_shape(partial(_measured, search=search), queries, block.rows)
    if table.shape != (rows, columns):
        raise ValueError(f"metric: must give one number for two vectors, gave shape {table.shape[2:]}")
    lowest = _lowest(search.metric, dtype, dimensions)
    key_dtype = jax.eval_shape(partial(_sort_keys, lowest=lowest), table).dtype
    width = search.k * sharding.shares(search.mesh)[1]  # each share of the points has its own best k
    nothing = np.full((rows, width), _last(key_dtype)), np.full((rows, width), -1, np.int32)
    step: Callable[..., Any] = partial(search_step, search=search)
    if search.mesh is not None:
        step = sharding.over_pairs(step, search.mesh)
    jitted = jax.jit(step, donate_argnums=0, keep_unused=True)
    memory: Any = jitted.lower(table, queries, shape((rows,), jnp.int32), *nothing, block).compile().memory_analysis()
    numbers = partial(_from_sort_keys, lowest=lowest, dtype=table.dtype)
    plan = Plan(jitted, numbers, nothing, table, rows, columns)
    return plan, memory.temp_size_in_bytes + memory.output_size_in_bytes


# Examples that are queries and points at once, under a metric with d(a, b) = d(b, a): a table of two blocks, turned
# over, is the table of the second and the first. See `folds`, which runs these.

_PAIR_BLOCK, _GROUP_ROWS = 1152, 9216  # of one table; of the tables that are there when the best are chosen


class PairPlan(NamedTuple):
    """Compiled functions, and the sizes they were compiled for."""

    table: Callable[..., Array]  # see `fold_table`
    turned: Callable[[Any], Array]  # a table's transpose
    merged: Callable[..., tuple[Array, Array]]  # see `merge_tables`
    numbers: Callable[[Any], Array]  # from sort keys
    last: np.ndarray  # the sort key of what is no neighbour
    block: int  # B
    group: int  # blocks of points that are merged at once


def fold_table(
    a: Array, b: Array, term_a: Array, term_b: Array, fold_a: Array, fold_b: Array, *, search: Search
) -> Array:
    """Sort keys (B, B) of two blocks (B, D), whose folds are (B,); no neighbours are pairs of one fold, and fold -1.

    The terms (B,) are used if `Search.products`: see `bounds.pair_bounds`.
    """
    keys = _measured(a, b, search)
    if search.products:
        keys = jnp.expand_dims(term_a, 1) + jnp.expand_dims(term_b, 0) - keys
    else:
        keys = _sort_keys(keys, _lowest(search.metric, a.dtype, a.shape[1]))
    fold_a, fold_b = jnp.expand_dims(fold_a, 1), jnp.expand_dims(fold_b, 0)
    return jnp.where((fold_a == fold_b) | (fold_a < 0) | (fold_b < 0), _last(keys.dtype), keys)


def merge_tables(keys: Array, indices: Array, tables: tuple[Array, ...], numbers: Array) -> tuple[Array, Array]:
    """Merges tables (B, B), of points with ascending numbers, into the best k (B, k) of a block of queries."""
    missing = -sum(table.shape[1] for table in tables) % _GROUP
    filling = jnp.full((len(keys), missing), _last(keys.dtype))
    table = jnp.concatenate([*tables, filling], axis=1)
    block = _smallest_of_many(table, min(keys.shape[1], table.shape[1]))
    return _merged(keys, indices, block, jnp.pad(numbers, (0, missing), constant_values=-1))


def fit_pairs_to_memory(search: Search, count: int, fold: int, dimensions: int, dtype: Any, limit: int) -> PairPlan:
    """Halves first the group, then the blocks, until what is needed is within the limit.

    fold: examples in the largest; it is cut evenly, so that few blocks lie in two folds.
    """
    whole = fold if fold > _PAIR_BLOCK // 4 else count
    block = -(-whole // -(-whole // _PAIR_BLOCK))
    group = max(1, _GROUP_ROWS // block)
    while True:
        group = min(group, -(-count // block))
        group = -(-count // (block * -(-count // (block * group))))  # all groups of about the same size
        needed = 2 * group * block * dimensions * dtype.itemsize + (group + 4) * group * block**2 * 4
        if needed <= limit:
            plan, needed = _compile_pairs(search, block, group, dimensions, dtype)
            if needed <= limit:
                return plan
        if block == group == 1:
            raise ValueError(
                f"memory: {limit:,} bytes is too little for one query and one point, which need {needed:,}"
            )
        group, block = (-(-group // 2), block) if group > 1 else (1, -(-block // 2))


@lru_cache(maxsize=128)
def _compile_pairs(search: Search, block: int, group: int, dimensions: int, dtype: Any) -> tuple[PairPlan, int]:
    shape = jax.ShapeDtypeStruct
    lowest = _lowest(search.metric, dtype, dimensions)
    rows, terms, ints = shape((block, dimensions), dtype), shape((block,), dtype), partial(shape, dtype=jnp.int32)
    ranked = jax.eval_shape(partial(_measured, search=search), rows, rows)

    numbers = partial(_from_sort_keys, lowest=lowest, dtype=ranked.dtype)
    table, merged = jax.jit(partial(fold_table, search=search)), jax.jit(merge_tables)
    blocks = rows, rows, terms, terms, ints((block,)), ints((block,))
    keys = jax.eval_shape(table, *blocks)
    best = shape((block, search.k), keys.dtype), ints((block, search.k))
    compiled: tuple[Any, Any] = (
        table.lower(*blocks).compile().memory_analysis(),
        merged.lower(*best, (keys,) * group, ints((group * block,))).compile().memory_analysis(),
    )
    temporary = max(memory.temp_size_in_bytes + memory.output_size_in_bytes for memory in compiled)
    plan = PairPlan(table, jax.jit(jnp.transpose), merged, numbers, _last(keys.dtype), block, group)
    # The blocks of two groups, all their tables, and those that are turned over for one merge.
    held = 2 * group * block * dimensions * dtype.itemsize + (group + 1) * group * block**2 * keys.dtype.itemsize
    held += search.products * 4 * 8 * block * dimensions  # of a block, while its rows are prepared in float64
    return plan, held + temporary


def parse_memory(memory: str | int) -> int:
    """Bytes from a number or from "500MiB", "1GiB", "2GB". Raises `ValueError` for anything else."""
    units = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
    units |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(memory).lower())
    if found is None or found[2] not in units or float(found[1]) == 0:
        raise ValueError(f"memory: {memory!r} is no size; write a number of bytes, or like '500MiB' or '2GB'")
    return int(float(found[1]) * units[found[2]])


def block_of(x: Any, start: int, size: int, dtype: Any) -> Any:
    """Rows start … start + size in `dtype`, filled up with zeros past the end."""
    block = x[start : start + size].astype(dtype, copy=False)
    missing = [(0, size - len(block))] + [(0, 0)] * (block.ndim - 1)
    if len(block) == size:
        return block
    return jnp.pad(block, missing) if isinstance(block, Array) else np.pad(block, missing)
