"""The compiled step in which a block of queries meets a block of points and keeps its best k."""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh

from funcgrad.distances import Metric, fastest_ranking_distances, minima, products


class StepSpec(NamedTuple):
    """What a step is compiled for, beside its shapes."""

    k: int  # how many points are kept for each query
    metric: Metric
    p: float | None
    products: bool  # the numbers are offset − factor · product (of l1: sum of minima), not the metric's own
    exclude_self: bool
    mesh: Mesh | None
    any_ties: bool = False  # a proof follows, so equal distances at the k-th may be kept in any choice
    shortlist: int = 0  # of a block's points, looked at first where few are expected among the best; 0: no such list


class PointBlock(NamedTuple):
    """A block of points and the terms of each."""

    rows: Any  # (Nb, D)
    numbers: Any  # (Nb,) int32, their indices; -1: no neighbour of any query
    factors: Any  # (Nb,), used if `StepSpec.products`, as are the offsets
    offsets: Any


def search_step(
    table: Array, queries: Array, numbers: Array, keys: Array, indices: Array, points: PointBlock, *, spec: StepSpec
) -> tuple[Array, Array, Array]:
    """Merges a block of points into the best k.

    Args:
      table: (Qb, Nb), a donated buffer, returned for the next step: page-faulting a fresh one would dominate.
      queries: (Qb, D), and their numbers (Qb,).
      keys, indices: (Qb, k), the best so far: the sort keys of their distances, and which points they are.
      points: the block; those of earlier blocks have smaller numbers.
    """
    del table
    measured = lax.optimization_barrier(measure(queries, points.rows, spec))  # once, not in each of its uses
    lowest, columns = lowest_distance(spec.metric, queries.dtype, queries.shape[1]), len(points.numbers)

    def keys_of(part: slice) -> Array:  # of some columns, so that the keys of all need no memory
        return _sort_keys_of(measured[:, part], numbers, PointBlock(None, *(x[part] for x in points[1:])), spec, lowest)

    def merge_all() -> tuple[Array, Array]:
        k = min(spec.k, columns)
        whole = slice(columns)
        best = _smallest_any_ties(keys_of, columns, k) if spec.any_ties else _smallest_in_groups(keys_of(whole), k)
        return _merge(keys, indices, best, points.numbers)

    if not spec.shortlist:
        return measured, *merge_all()
    # If each query's short list ends at its k-th so far or beyond, no other point of the block can be among the best.
    first = _smallest_any_ties(keys_of, columns, spec.shortlist)
    enough = jnp.all(first[0][:, -1] >= keys[:, -1])
    return measured, *lax.cond(enough, lambda: _merge(keys, indices, first, points.numbers), merge_all)


def measure(queries: Array, rows: Array, spec: StepSpec) -> Array:
    """The table (Qb, Nb) of distances, or of products; −∞, which comes first and so is noticed, where there is none."""
    if spec.products:
        return minima(queries, rows) if spec.metric == "l1" else products(queries, rows)
    table = fastest_ranking_distances(queries, rows, spec.metric, spec.p)
    if not jnp.issubdtype(table.dtype, jnp.floating):
        return table
    odd = jnp.isnan(table) if callable(spec.metric) else ~jnp.isfinite(table)
    return jnp.where(odd, -jnp.inf, table)


def _sort_keys_of(measured: Array, numbers: Array, points: PointBlock, spec: StepSpec, lowest: int | None) -> Array:
    """Sort keys (Qb, n) from a table (Qb, n) of queries, whose numbers are (Qb,), and n points."""
    here = jnp.expand_dims(points.numbers, 0)
    if spec.products:  # finite, or the query has no bound: see `bounds.query_bounds`
        offsets = jnp.where(here >= 0, jnp.expand_dims(points.offsets, 0), jnp.inf)
        table = offsets - jnp.expand_dims(points.factors, 0) * measured
    else:
        table = sort_keys(measured, lowest)
        table = jnp.where(here >= 0, table, last_key(table.dtype))
    if spec.exclude_self:
        table = jnp.where(jnp.expand_dims(numbers, 1) == here, last_key(table.dtype), table)
    return table


def _merge(keys: Array, indices: Array, block: tuple[Array, Array], numbers: Array) -> tuple[Array, Array]:
    """The best (Qb, k) of those so far and of a block's best and their columns, whose numbers (Nb,) ascend."""
    block_keys, places = block
    k = keys.shape[1]
    # The best so far stand first: they have the smaller indices, and of equal keys the first is kept.
    keys = jnp.concatenate([keys, block_keys], axis=1)
    indices = jnp.concatenate([indices, jnp.where(block_keys == last_key(keys.dtype), -1, numbers[places])], axis=1)
    keys, places = _smallest(keys, k)
    return keys, jnp.take_along_axis(indices, places, axis=1)


def _smallest(keys: Array, k: int) -> tuple[Array, Array]:
    reverse = jnp.negative if jnp.issubdtype(keys.dtype, jnp.floating) else jnp.invert  # −x of an integer may overflow
    values, places = lax.top_k(reverse(keys), k)  # of equal values the first
    return reverse(values), places


_GROUP = 16  # columns


def _smallest_in_groups(keys: Array, k: int) -> tuple[Array, Array]:
    """`_smallest` in two stages: the k smallest are in the k groups of columns whose own smallest come first.

    For if one were in another group, then k groups would have an element that comes before it. With the groups in the
    order of their columns, equal keys come in that order too.
    """
    rows, columns = keys.shape
    if columns < 2 * _GROUP * k or columns % _GROUP:
        return _smallest(keys, k)
    groups = keys.reshape(rows, columns // _GROUP, _GROUP)
    _, chosen = _smallest(jnp.min(groups, axis=2), k)
    chosen = jnp.sort(chosen, axis=1)
    candidates = jnp.take_along_axis(groups, jnp.expand_dims(chosen, 2), axis=1).reshape(rows, k * _GROUP)
    values, places = _smallest(candidates, k)
    return values, jnp.take_along_axis(chosen, places // _GROUP, axis=1) * _GROUP + places % _GROUP


def _smallest_any_ties(keys_of: Callable[[slice], Array], columns: int, k: int) -> tuple[Array, Array]:
    """The same of the keys that `keys_of` gives of a slice of all columns; ties at the k-th may break arbitrarily.

    A group is every n-th column, so that the smallest of each come from comparing whole slices, which are computed and
    compared in one pass over memory.
    """
    if columns < 2 * _GROUP * k or columns % _GROUP:
        return _smallest(keys_of(slice(columns)), k)
    n = columns // _GROUP
    slices = [keys_of(slice(start, start + n)) for start in range(0, columns, n)]
    _, chosen = _smallest(reduce(jnp.minimum, slices), k)
    chosen = jnp.sort(chosen, axis=1)
    groups = keys_of(slice(columns)).reshape(-1, _GROUP, n)
    candidates = jnp.take_along_axis(groups, jnp.expand_dims(chosen, 1), axis=2).reshape(-1, _GROUP * k)
    values, places = _smallest(candidates, k)
    return values, places // k * n + jnp.take_along_axis(chosen, places % k, axis=1)


# Sort keys: numbers in the order of the distances, of a dtype for which `lax.top_k` is fast: XLA's CPU sorts int32 ten
# to eighty times as slowly as float32. Positive floats are ordered as the integers with the same bits, so an int32 is
# moved above the bit patterns of zero and the subnormals and read as a float32.

_SMALLEST_NORMAL = 2**23  # the bits of the smallest normal float32


def sort_keys(distances: Array, lowest: int | None) -> Array:
    if lowest is None or distances.dtype != jnp.int32:
        return distances
    return lax.bitcast_convert_type(distances + (_SMALLEST_NORMAL - lowest), jnp.float32)


@partial(jax.jit, static_argnames=("lowest", "dtype"))
def from_sort_keys(keys: Array, lowest: int | None, dtype: Any) -> Array:
    if lowest is None or dtype != jnp.int32:
        return keys
    return lax.bitcast_convert_type(keys, jnp.int32) - (_SMALLEST_NORMAL - lowest)


def last_key(dtype: Any) -> np.ndarray:
    """The sort key of a point that is no neighbour."""
    return np.array(np.inf if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo(dtype).max, dtype)


def lowest_distance(metric: Metric, dtype: Any, dimensions: int) -> int | None:
    """The smallest integer that a metric gives on bytes: only minus a product is below 0. None for a function."""
    if callable(metric):
        return None
    largest_product = {"uint8": 255**2, "int8": 2**14}.get(str(dtype), 0)
    return -largest_product * dimensions if metric == "dot" else 0
