"""L1 distances of float32 vectors on an NVIDIA GPU, Hopper or later: queries (Q, D), points (N, D) → (Q, N).

On an H100 all pairs of 50,000 points and 10,000 queries of 3,072 dimensions take 105 ms; XLA takes 6.6 times as long
for the definition (experiments/knn_gpu.py). Other tiles, slots and chunks were tried, and none was faster. The
tests interpret the kernel on the CPU and lower it for CUDA.

A program of 128 threads owns a tile of 64 queries × 128 points and keeps its sums in registers, 8 × 8 a thread. The
dimensions lie outermost and come 32 at a time through shared memory, into one of two slots while the other is read.
They are added up one after the other, so that the relative error is at most about D · 2⁻²⁴.

The bound: each pair and dimension costs two instructions, a subtraction and an addition that takes the absolute value
on the way (in the compiled loop, 1,024 FADD beside 32 loads from shared memory). 50,000 points × 10,000 queries × 3,072
dimensions × 2 are 3.1 · 10¹² of them, and an H100 or H200 (132 processors × 128 lanes × 1.98 GHz) issues 3.3 · 10¹³ a
second: 92 ms at least.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

QUERIES, POINTS = 64, 128  # the tile of a program
CHUNK = 32  # dimensions in a slot of shared memory
SLOTS = 2
UNROLLED = 8  # dimensions in the innermost loop's body


def reference(queries: Array, points: Array) -> Array:
    """The same by definition: (Q, D) and (N, D) → (Q, N)."""

    def pair(a: Array, b: Array) -> Array:
        return jnp.sum(jnp.abs(a - b))

    return jax.vmap(jax.vmap(pair, in_axes=(None, 0)), in_axes=(0, None))(queries, points)


def all_pairs(queries: Array, points: Array, *, interpret: bool = False) -> Array:
    """L1 distances between queries (Q, D) and points (N, D), both float32 → (Q, N) float32.

    `interpret` runs the kernel step by step on the CPU, which is slow and for tests. Raises `TypeError` for another
    dtype and `ValueError` for another shape.
    """
    for name, x in (("queries", queries), ("points", points)):
        if x.dtype != jnp.float32:
            raise TypeError(f"{name}: this kernel takes float32, got {x.dtype}")
        if x.ndim != 2 or 0 in x.shape:
            raise ValueError(f"{name}: needs shape (number of vectors, dimensions), none of them 0; got {x.shape}")
    if queries.shape[1] != points.shape[1]:
        raise ValueError(f"queries: have {queries.shape[1]} dimensions, the points have {points.shape[1]}")
    with jax.enable_x64(False):  # the kernel's indices are int32, whatever numbers the caller works in
        return _all_pairs(queries, points, interpret)


@partial(jax.jit, static_argnums=2)
def _all_pairs(queries: Array, points: Array, interpret: bool) -> Array:
    from jax.experimental import pallas as pl  # here, since importing the package must stay quick
    from jax.experimental.pallas import mosaic_gpu as plgpu

    a, b = _dimensions_first(queries, QUERIES), _dimensions_first(points, POINTS)
    chunks = a.shape[0] // CHUNK
    # Which thread holds what: 4 × 4 neighbours each, a warp's lanes 4 × 8 of these, 2 × 2 warps: 32 × 64. Four times.
    tile = plgpu.Layout.TILED(
        plgpu.Tiling(((32, 64), (16, 32), (4, 4))), warp_dims=(-6, -5), lane_dims=(-4, -3), vector_dim=-1
    )
    placed: Callable[[Array, Any], Array] = (lambda x, layout: x) if interpret else plgpu.layout_cast

    def spread(vector: Array, axis: int) -> Array:
        vector = placed(vector, tile.reduce(1 - axis))
        return placed(lax.broadcast_in_dim(vector, (QUERIES, POINTS), (axis,)), tile)

    def kernel(a: Any, b: Any, out: Any, a_slots: Any, b_slots: Any, arrived: Any) -> None:
        rows = pl.ds(lax.axis_index("queries") * QUERIES, QUERIES)
        columns = pl.ds(lax.axis_index("points") * POINTS, POINTS)

        def fetch(number: Any, slot: Any) -> None:
            dimensions = pl.ds(number * CHUNK, CHUNK)
            plgpu.copy_gmem_to_smem(a.at[dimensions, rows], a_slots.at[slot], arrived.at[slot])
            plgpu.copy_gmem_to_smem(b.at[dimensions, columns], b_slots.at[slot], arrived.at[slot])

        def add_chunk(number: Array, sums: Array) -> Array:
            slot = lax.rem(number, jnp.int32(SLOTS))
            plgpu.barrier_wait(arrived.at[slot])

            def add_some(step: Array, sums: Array) -> Array:
                for d in range(UNROLLED):
                    d_in_slot = step * UNROLLED + d
                    sums = sums + jnp.abs(spread(a_slots[slot, d_in_slot], 0) - spread(b_slots[slot, d_in_slot], 1))
                return sums

            sums = lax.fori_loop(0, CHUNK // UNROLLED, add_some, sums)
            plgpu.commit_smem()  # all threads have read the slot before it is filled again

            @pl.when(number + SLOTS < chunks)
            def _() -> None:
                fetch(number + SLOTS, slot)

            return sums

        for number in range(min(SLOTS, chunks)):
            fetch(number, number)
        zeros = placed(jnp.zeros((QUERIES, POINTS), jnp.float32), tile)
        out[rows, columns] = lax.fori_loop(0, chunks, add_chunk, zeros)

    run = plgpu.kernel(
        kernel,
        out_type=jax.ShapeDtypeStruct((a.shape[1], b.shape[1]), jnp.float32),
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
    return run(a, b)[: len(queries), : len(points)]


def _dimensions_first(x: Array, tile: int) -> Array:
    """(N, D) → (D, N), with zeros up to whole chunks and tiles: they add nothing to a distance."""
    return jnp.pad(x, ((0, -len(x) % tile), (0, -x.shape[1] % CHUNK))).T


def _interpreter() -> Any:
    from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams  # public from JAX 0.12 on

    return InterpretGPUParams()
