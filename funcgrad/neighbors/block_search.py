"""A search, block by block: each block of queries meets all blocks of points, and is yielded with what was found."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import cycle
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from funcgrad.neighbors.index import Index
from funcgrad.neighbors.merge_step import PointBlock, StepSpec
from funcgrad.neighbors.plan import Plan, fit_to_memory
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


def plan_scan(task: Task, scan: Scan, count: int) -> Plan:
    """The plan for a scan with `count` of the queries."""
    if count < len(task.queries):  # in steps of an eighth: few programs, however many are left
        step = 1 << max(0, count.bit_length() - 3)
        count = -(-count // step) * step
    counts = count, len(scan.points)
    return fit_to_memory(scan.spec, counts, scan.points.shape[1], scan.dtype, scan.memory, task.tuning)


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
                place = jax.device_put if task.mesh is None else _leave  # once, however often it is used
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


def _leave(x: Any) -> Any:
    return x


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
