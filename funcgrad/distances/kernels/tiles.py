"""What the L1 kernels share: a tile of pairs whose sums stay in registers, while the dimensions pass through.

A program of 128 threads owns a tile of 64 queries × 128 points, 8 × 8 sums a thread. The dimensions (of bytes, words of
four) lie outermost and come 32 at a time through shared memory, into one of two slots while the other is read.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from funcgrad.distances.dtypes import as_vectors, same_dimensions

QUERIES, POINTS = 64, 128  # the tile of a program
CHUNK = 32  # rows (dimensions, or words) in a slot of shared memory
SLOTS = 2
UNROLLED = 8  # rows in the innermost loop's body


def check(queries: Array, points: Array, dtype: str) -> None:
    """Raises `TypeError` for another dtype and `ValueError` for shapes other than (Q, D) and (N, D)."""
    for name, x in (("queries", queries), ("points", points)):
        if x.dtype != dtype:
            raise TypeError(f"{name}: this kernel takes {dtype}, got {x.dtype}")
        if as_vectors(name, x).ndim != x.ndim:
            raise ValueError(f"{name}: needs two axes, got {x.shape}")
    same_dimensions(queries, points)


def padded(x: Array, tile: int, width: int) -> Array:
    """Zeros up to whole tiles of vectors and `width` dimensions: they add nothing to a distance."""
    return jnp.pad(x, ((0, -len(x) % tile), (0, -x.shape[1] % width)))


def layout() -> Any:
    """Which thread holds what: 4 × 4 pairs each, a warp's lanes 4 × 8 of these, 2 × 2 warps: 32 × 64, four times."""
    from jax.experimental.pallas import mosaic_gpu as plgpu  # here, since importing the package must stay quick

    tiling = plgpu.Tiling(((32, 64), (16, 32), (4, 4)))
    return plgpu.Layout.TILED(tiling, warp_dims=(-6, -5), lane_dims=(-4, -3), vector_dim=-1)


def sum_over_rows(a: Array, b: Array, add: Callable[[Array, Array, Array], Array], interpret: bool) -> Array:
    """Σ over rows of a term of a (D, Q) and b (D, N), whole chunks and tiles, → (Q, N) in their dtype.

    `add(sums, a, b)` adds one row's terms to the sums of a tile; all three have the tile's shape and layout.
    """
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import mosaic_gpu as plgpu

    chunks, tile = a.shape[0] // CHUNK, layout()
    placed: Callable[[Array, Any], Array] = (lambda x, layout: x) if interpret else plgpu.layout_cast

    def spread(vector: Array, axis: int) -> Array:
        vector = placed(vector, tile.reduce(1 - axis))
        return placed(lax.broadcast_in_dim(vector, (QUERIES, POINTS), (axis,)), tile)

    def kernel(a: Any, b: Any, out: Any, a_slots: Any, b_slots: Any, arrived: Any) -> None:
        queries = pl.ds(lax.axis_index("queries") * QUERIES, QUERIES)
        points = pl.ds(lax.axis_index("points") * POINTS, POINTS)

        def fetch(number: Any, slot: Any) -> None:
            rows = pl.ds(number * CHUNK, CHUNK)
            plgpu.copy_gmem_to_smem(a.at[rows, queries], a_slots.at[slot], arrived.at[slot])
            plgpu.copy_gmem_to_smem(b.at[rows, points], b_slots.at[slot], arrived.at[slot])

        def add_chunk(number: Array, sums: Array) -> Array:
            slot = lax.rem(number, jnp.int32(SLOTS))
            plgpu.barrier_wait(arrived.at[slot])

            def add_unrolled(step: Array, sums: Array) -> Array:
                for i in range(UNROLLED):
                    row = step * UNROLLED + i
                    sums = add(sums, spread(a_slots[slot, row], 0), spread(b_slots[slot, row], 1))
                return sums

            sums = lax.fori_loop(0, CHUNK // UNROLLED, add_unrolled, sums)
            plgpu.commit_smem()  # all threads have read the slot before it is filled again

            @pl.when(number + SLOTS < chunks)
            def _() -> None:
                fetch(number + SLOTS, slot)

            return sums

        for number in range(min(SLOTS, chunks)):
            fetch(number, number)
        zeros = placed(jnp.zeros((QUERIES, POINTS), out.dtype), tile)
        out[queries, points] = lax.fori_loop(0, chunks, add_chunk, zeros)

    run = plgpu.kernel(
        kernel,
        out_type=jax.ShapeDtypeStruct((a.shape[1], b.shape[1]), a.dtype),
        scratch_types=[
            plgpu.SMEM((SLOTS, CHUNK, QUERIES), a.dtype),
            plgpu.SMEM((SLOTS, CHUNK, POINTS), b.dtype),
            plgpu.Barrier(num_arrivals=2, num_barriers=SLOTS),
        ],
        # The queries vary fastest: tiles that run together share points, which are the longer list.
        grid=(b.shape[1] // POINTS, a.shape[1] // QUERIES),
        grid_names=("points", "queries"),
        # Only async copies write what threads read, and `commit_smem` stands between: no other barrier is needed.
        compiler_params=plgpu.CompilerParams(
            lowering_semantics=plgpu.LoweringSemantics.Warpgroup, unsafe_no_auto_barriers=True
        ),
        interpret=_interpreter() if interpret else False,
    )
    return run(a, b)


def _interpreter() -> Any:
    from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams  # public from JAX 0.12 on

    return InterpretGPUParams()
