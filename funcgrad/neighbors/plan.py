"""How large the blocks of a search may be within a memory limit; no answer depends on it."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcgrad.distances import needs_64_bits
from funcgrad.neighbors import block_search
from funcgrad.neighbors.block_search import Plan, PointBlock, Scan, StepSpec, Task
from funcgrad.neighbors.mesh import over_mesh, shares
from funcgrad.neighbors.tuning import Tuning

# What is needed on the host, in bytes: for each of the best k so far their keys and indices, and the step's before; for
# each candidate what `certify` computes (33 to 50 were measured) and its bound; for each number that is measured at a
# time two buffers of up to eight threads, and as much again for one of a formula's own.
_FOUND_BYTES, _PROOF_BYTES, _PAIR_BYTES = 16, 64, 8 * 3 * 8


def plan_scan(task: Task, scan: Scan, count: int) -> Plan:
    """The plan for a scan with `count` of the queries, whose blocks need no more memory than the scan may have.

    They are halved until what the compiler says they need, with a second block on its way, is within the limit. Raises
    `ValueError` if a single query and point need more.
    """
    spec, dtype, limit, tuning = scan.spec, scan.dtype, scan.memory, task.tuning
    points, dimensions = scan.points.shape
    if count < len(task.queries):  # in steps of an eighth: few programs, however many are left
        step = 1 << max(0, count.bit_length() - 3)
        count = -(-count // step) * step
    devices, parts = shares(spec.mesh)
    query_block, max_chains = _query_block_and_chains(spec, dimensions, tuning)
    at_once_per_chain = tuning.query_blocks_at_once
    largest = max(tuning.point_block, min(4 * tuning.point_block, tuning.point_block_elements // dimensions))
    rows, columns = _even(count, query_block, devices), _even(points, largest, parts)
    x64 = jax.config.read("jax_enable_x64") or needs_64_bits(dtype, dimensions)
    of_query = devices * spec.k * (at_once_per_chain * max_chains * _FOUND_BYTES + spec.any_ties * _PROOF_BYTES)
    rows = max(1, min(rows, limit // 2 // of_query))
    while True:
        # Of random points block b has about k / b of the best so far, so in most of many blocks it is less than k / 4.
        shortlist = max(8, spec.k // 4)
        many = columns * parts * tuning.many_blocks <= points and columns >= shortlist
        spec = spec._replace(shortlist=shortlist if many else 0)
        query_blocks = -(-count // (rows * devices))
        chains, at_once = min(max_chains, query_blocks), min(at_once_per_chain * max_chains, query_blocks)
        blocks = (2 * columns + (at_once + 1) * rows) * dimensions * dtype.itemsize
        blocks += rows * devices * spec.k * (at_once * _FOUND_BYTES + spec.any_ties * _PROOF_BYTES)
        blocks += spec.any_ties * tuning.pair_elements * _PAIR_BYTES
        needed = blocks + chains * 2 * 4 * rows * columns  # a first guess, which spares compiling what cannot fit
        if needed <= limit:
            with jax.enable_x64(x64):
                plan, temporary = _compile(spec, rows * devices, columns * parts, dimensions, dtype, x64)
            needed = blocks + chains * temporary
            if needed <= limit:
                return plan._replace(chains=chains, at_once=at_once)
        if rows == columns == at_once == 1:
            given = task.memory + task.prepared.reserved
            raise ValueError(
                f"memory: {given:,} bytes is too little for one query and one point, which need "
                f"{needed + given - limit:,}"
            )
        if rows == columns == 1:
            max_chains = at_once_per_chain = 1
        while needed > limit and (rows, columns) != (1, 1):
            rows, columns = (rows, -(-columns // 2)) if columns >= rows else (-(-rows // 2), columns)
            needed //= 2


def _query_block_and_chains(spec: StepSpec, dimensions: int, tuning: Tuning) -> tuple[int, int]:
    """How many queries a block should have, and how many chains of steps should run side by side: as measured.

    On a CPU one thread selects a step's best, which the other chain's products hide if they are short. Long ones are
    faster alone. l1 is many short loops, each of which waits for the slowest thread. Other devices need more work in a
    step to be busy.
    """
    if jax.default_backend() != "cpu":
        return 4 * tuning.query_block, 1
    if spec.mesh is not None:
        return tuning.query_block, 1
    if spec.metric == "l1":
        return 2 * tuning.query_block, 2
    return (tuning.query_block // 2, 2) if dimensions <= 1024 else (tuning.query_block, 1)


def _even(count: int, largest: int, parts: int) -> int:
    """The rows of a block on one of `parts` devices, when `count` rows are cut into blocks of about the same size."""
    rows = -(-count // (-(-count // largest) * parts))
    return -(-rows // 16) * 16 if rows > 64 else rows  # so that folds of 287 and 288 share one program


@lru_cache(maxsize=128)  # a user's metric is compiled once per function
def _compile(spec: StepSpec, rows: int, columns: int, dimensions: int, dtype: np.dtype, x64: bool) -> tuple[Plan, int]:
    """A plan for blocks of these sizes, and the bytes that a step needs beside its input."""
    shape = jax.ShapeDtypeStruct
    queries, terms = shape((rows, dimensions), dtype), shape((columns,), dtype)
    block = PointBlock(shape((columns, dimensions), dtype), shape((columns,), jnp.int32), terms, terms)
    table = jax.eval_shape(partial(block_search.measure, spec=spec), queries, block.rows)
    if table.shape != (rows, columns):
        raise ValueError(f"metric: must give one number for two vectors, gave shape {table.shape[2:]}")
    lowest = block_search.lowest_distance(spec.metric, dtype, dimensions)
    key_dtype = jax.eval_shape(partial(block_search.sort_keys, lowest=lowest), table).dtype
    width = spec.k * shares(spec.mesh)[1]  # each share of the points has its own best k
    nothing = np.full((rows, width), block_search.last_key(key_dtype)), np.full((rows, width), -1, np.int32)
    step: Callable[..., Any] = partial(block_search.search_step, spec=spec)
    if spec.mesh is not None:
        step = over_mesh(step, spec.mesh)
    jitted = jax.jit(step, donate_argnums=0, keep_unused=True)
    memory: Any = jitted.lower(table, queries, shape((rows,), jnp.int32), *nothing, block).compile().memory_analysis()
    distances = partial(block_search.from_sort_keys, lowest=lowest, dtype=table.dtype)
    plan = Plan(jitted, distances, nothing, table, rows, columns, x64)
    return plan, memory.temp_size_in_bytes + memory.output_size_in_bytes
