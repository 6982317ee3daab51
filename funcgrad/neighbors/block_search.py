"""A search, block by block: each block of queries meets all blocks of points, and is yielded with what was found.

Read `search_blocks` first, then `search_step`, the compiled step in which two blocks meet.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial, reduce
from itertools import cycle
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh

from funcgrad.distances import Metric, fastest_ranking_distances, minima, products
from funcgrad.neighbors.index import Index
from funcgrad.neighbors.tuning import Tuning

_ALIGNMENT = 64  # bytes, of arrays that XLA reads in place


class Task(NamedTuple):
    """What is to be found, by whatever strategy."""

    queries: Any  # (Q, D)
    prepared: Index
    k: int
    precision: str
    dtype: np.dtype  # in which the vectors are compared
    allowed: np.ndarray  # (N,) bool, which points may be neighbours
    exclude_self: bool
    memory: int  # bytes
    mesh: Mesh | None
    progress: Callable[[int, int], None] | None
    tuning: Tuning


class FoundBlock(NamedTuple):
    """The best k of a block of queries."""

    rows: np.ndarray  # (Qb,), which queries
    bounds: Any  # what `Scan.prepare` gave beside them
    numbers: np.ndarray  # (Qb, k), ascending
    indices: np.ndarray  # (Qb, k) int32; -1 is no point


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


class Plan(NamedTuple):
    """A compiled step and the sizes it was compiled for."""

    step: Callable[..., Any]
    distances: Callable[[Array], Array]  # from sort keys
    no_neighbors: tuple[np.ndarray, np.ndarray]  # the best k before any point was met
    table: jax.ShapeDtypeStruct
    query_block: int
    point_block: int
    x64: bool  # whether it needs 64-bit types
    chains: int = 1  # of steps that run side by side
    at_once: int = 1  # query blocks that meet a block of points while it is there


class Scan(NamedTuple):
    """One scan of all points: what is compared, and how its numbers bound distances.

    `prepare` makes of a block of queries the vectors (Qb, d) for the step, and what their bounds need; `lower` makes of
    what was found lower bounds (Qb, k), and their `Bounds.size`.
    """

    points: Any  # (N, d)
    dtype: np.dtype
    spec: StepSpec
    memory: int  # bytes
    prepare: Callable[[Any], tuple[Any, Any]]
    lower: Callable[[FoundBlock], tuple[np.ndarray, np.ndarray]] = lambda block: (block.numbers, np.empty(0))
    terms: tuple[np.ndarray, np.ndarray] | None = None  # the points' factors and offsets, (N,)
    may_give_up: bool = False  # where it proves little


def search_blocks(task: Task, scan: Scan, plan: Plan, rows: np.ndarray | None = None) -> Iterator[FoundBlock]:
    """Searches for the queries `rows` (R,), all by default, and yields one block of them after the other."""
    total, size = len(task.queries), plan.query_block
    rows = np.arange(total, dtype=np.int32) if rows is None else rows
    numbers = np.where(task.allowed, np.arange(len(scan.points), dtype=np.int32), np.int32(-1))
    buffers = _two_buffers(scan.points, plan.point_block, scan.dtype)
    with ExitStack() as stack:
        chains = [_chain(plan, stack) for _ in range(plan.chains)]
        for start in range(0, len(rows), plan.at_once * size):
            stop = min(start + plan.at_once * size, len(rows))
            parts = [rows[first : min(first + size, stop)] for first in range(start, stop, size)]
            prepared = [scan.prepare(take_rows(task.queries, part)) for part in parts]
            best: list[Any] = [plan.no_neighbors] * len(parts)
            with jax.enable_x64(plan.x64):
                place = jax.device_put if task.mesh is None else lambda x: x  # once, however often it is used
                blocks = [place(_block_of(queries, 0, size, scan.dtype)) for queries, _ in prepared]
                own = [np.pad(part, (0, size - len(part)), constant_values=-2) for part in parts]
                for points in _point_blocks(scan, plan, numbers, buffers):
                    members = place(points)
                    previous, best = best, []
                    for step, queries, names, so_far in zip(cycle(chains), blocks, own, previous, strict=False):
                        best.append(step(queries, names, *so_far, members))
                    jax.block_until_ready(previous)  # one block computes while the next is fetched, and no more
            for part, (_, bounds), (keys, indices) in zip(parts, prepared, best, strict=True):
                yield FoundBlock(part, bounds, *_nearest(plan, keys, indices, len(part), scan.spec.k))
            if task.progress is not None:
                task.progress(total - len(rows) + stop, total)


def _chain(plan: Plan, stack: ExitStack) -> Callable[..., list[Array]]:
    """`plan.step` on a table of its own and, where there are more such chains, dispatched by a thread of its own.

    JAX runs what one thread dispatches to a CPU in that order, and what two threads dispatch side by side.
    """
    device = jax.config.jax_default_device
    with jax.enable_x64(plan.x64):
        table = jnp.empty(plan.table.shape, plan.table.dtype)

    def dispatch(*inputs: Any) -> list[Array]:
        nonlocal table
        with jax.enable_x64(plan.x64), jax.default_device(device):  # each thread has its own settings
            table, *merged = plan.step(table, *inputs)
        return merged

    if plan.chains == 1:
        return dispatch
    thread = stack.enter_context(ThreadPoolExecutor(1))
    return lambda *inputs: thread.submit(dispatch, *inputs).result()


def _point_blocks(
    scan: Scan, plan: Plan, numbers: np.ndarray, buffers: list[np.ndarray] | None
) -> Iterator[PointBlock]:
    """All points, a block at a time; a block's rows are overwritten by the next but one."""
    size, dtype = plan.point_block, scan.dtype
    terms = scan.terms or (np.zeros(len(scan.points), dtype),) * 2
    for number, start in enumerate(range(0, len(scan.points), size)):
        if buffers is None:
            rows = _block_of(scan.points, start, size, dtype)
        else:
            rows = _fill(buffers[number % 2], scan.points, start)
        marked = _block_of(numbers + 1, start, size, np.dtype(np.int32)) - 1  # past the end: -1
        yield PointBlock(rows, marked, *(_block_of(x, start, size, dtype) for x in terms))


def _two_buffers(points: Any, size: int, dtype: np.dtype) -> list[np.ndarray] | None:
    """Two (size, D) in turn, which a CPU's `device_put` takes as they are; None where blocks are copied in any case.

    A fresh copy of every block would take five times as long: page-faulting its memory dominates.
    """
    if isinstance(points, Array) or jax.default_backend() != "cpu":
        return None
    length = size * points.shape[1] * dtype.itemsize
    raw = [np.empty(length + _ALIGNMENT, np.uint8) for _ in range(2)]
    starts = [-x.ctypes.data % _ALIGNMENT for x in raw]
    return [x[i : i + length].view(dtype).reshape(size, -1) for x, i in zip(raw, starts, strict=True)]


def _fill(buffer: np.ndarray, points: Any, start: int) -> np.ndarray:
    """The buffer, with points from `start` on, and zeros past the end."""
    block = points[start : start + len(buffer)]
    np.copyto(buffer[: len(block)], block, casting="unsafe")
    buffer[len(block) :] = 0
    return buffer


def _block_of(x: Any, start: int, size: int, dtype: np.dtype) -> Any:
    """Rows start … start + size in `dtype`, filled up with zeros past the end."""
    block = x[start : start + size].astype(dtype, copy=False)
    missing = [(0, size - len(block))] + [(0, 0)] * (block.ndim - 1)
    if len(block) == size:
        return block
    return jnp.pad(block, missing) if isinstance(block, Array) else np.pad(block, missing)


def _nearest(plan: Plan, keys: Array, indices: Array, rows: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the best k of each share of the points the best k of all, for the first `rows` queries."""
    with jax.enable_x64(plan.x64):
        numbers, numbered = np.asarray(plan.distances(keys))[:rows], np.asarray(indices)[:rows]
    if numbers.shape[1] == k:
        return numbers, numbered
    order = np.lexsort((numbered, numbered < 0, numbers), axis=1)[:, :k]
    return np.take_along_axis(numbers, order, axis=1), np.take_along_axis(numbered, order, axis=1)


def take_rows(x: Any, rows: np.ndarray) -> Any:
    consecutive = rows[-1] - rows[0] + 1 == len(rows)
    return x[rows[0] : rows[-1] + 1] if consecutive else x[rows]  # a slice is not copied


# The step.


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
    if not spec.any_ties and jnp.issubdtype(table.dtype, jnp.floating):
        table = jnp.where(table == 0, jnp.zeros_like(table), table)  # −0 would come before 0
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
