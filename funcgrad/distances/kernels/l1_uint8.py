"""L1 distances of uint8 vectors on an NVIDIA GPU, Hopper or later: queries (Q, D), points (N, D) → (Q, N) int32, exact.

On an H100 all pairs of 50,000 points and 10,000 queries of 3,072 dimensions take 26 ms; XLA takes 19 times as long for
the definition (experiments/knn_gpu.py). Other tiles, slots and chunks were tried, and none was faster by more than 1 %.
The tests interpret the kernel on the CPU and lower it for CUDA. The interpreter cannot run inline PTX: there the one
instruction is replaced by plain arithmetic (`_added_plainly`), and all the rest, the packing, the tile, the slots, is
what the GPU runs.

Four dimensions make a 32-bit word. A program of 128 threads owns a tile of 64 queries × 128 points and keeps its sums
in registers, 8 × 8 a thread. The words lie outermost and come 32 at a time through shared memory, into one of two slots
while the other is read.

The bound: each pair and word costs one instruction, PTX `vabsdiff4`, which adds the absolute differences of four bytes
to a sum. ptxas makes it one VABSDIFF4 on sm_80, 90, 100 and 110, but not on sm_120; in the compiled loop there are 512
of them beside 32 loads from shared memory. 50,000 points × 10,000 queries × 768 words (3,072 dimensions) are 3.8 · 10¹¹
instructions: 11.5 ms on an H100 or H200 if they issued at the full rate of 128 lanes a processor and cycle, and 23 ms
at half of it, which the time above says is the rate they have.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

QUERIES, POINTS = 64, 128  # the tile of a program
BYTES = 4  # dimensions in a word
CHUNK = 32  # words in a slot of shared memory
SLOTS = 2
UNROLLED = 8  # words in the innermost loop's body
MAX_DIMENSIONS = (2**31 - 1) // 255  # the largest distance is an int32


def reference(queries: Array, points: Array) -> Array:
    """The same by definition: (Q, D) and (N, D) → (Q, N)."""

    def pair(a: Array, b: Array) -> Array:
        return jnp.sum(jnp.abs(a.astype(jnp.int32) - b.astype(jnp.int32)), dtype=jnp.int32)

    return jax.vmap(jax.vmap(pair, in_axes=(None, 0)), in_axes=(0, None))(queries, points)


def all_pairs(queries: Array, points: Array, *, interpret: bool = False) -> Array:
    """L1 distances between queries (Q, D) and points (N, D), both uint8 → (Q, N) int32.

    `interpret` runs the kernel step by step on the CPU, which is slow and for tests. Raises `TypeError` for another
    dtype and `ValueError` for another shape.
    """
    for name, x in (("queries", queries), ("points", points)):
        if x.dtype != jnp.uint8:
            raise TypeError(f"{name}: this kernel takes uint8, got {x.dtype}")
        if x.ndim != 2 or 0 in x.shape:
            raise ValueError(f"{name}: needs shape (number of vectors, dimensions), none of them 0; got {x.shape}")
        if x.shape[1] > MAX_DIMENSIONS:
            raise ValueError(f"{name}: at most {MAX_DIMENSIONS} dimensions fit an int32 distance, got {x.shape[1]}")
    if queries.shape[1] != points.shape[1]:
        raise ValueError(f"queries: have {queries.shape[1]} dimensions, the points have {points.shape[1]}")
    with jax.enable_x64(False):  # the kernel's indices are int32, whatever numbers the caller works in
        return _all_pairs(queries, points, interpret)


@partial(jax.jit, static_argnums=2)
def _all_pairs(queries: Array, points: Array, interpret: bool) -> Array:
    from jax.experimental import pallas as pl  # here, since importing the package must stay quick
    from jax.experimental.pallas import mosaic_gpu as plgpu

    a, b = _words_first(queries, QUERIES), _words_first(points, POINTS)
    chunks = a.shape[0] // CHUNK
    # Which thread holds what: 4 × 4 neighbours each, a warp's lanes 4 × 8 of these, 2 × 2 warps: 32 × 64. Four times.
    tile = plgpu.Layout.TILED(
        plgpu.Tiling(((32, 64), (16, 32), (4, 4))), warp_dims=(-6, -5), lane_dims=(-4, -3), vector_dim=-1
    )
    placed: Callable[[Array, Any], Array] = (lambda x, layout: x) if interpret else plgpu.layout_cast
    added = _added_plainly if interpret else _added_in_ptx(tile)

    def spread(vector: Array, axis: int) -> Array:
        vector = placed(vector, tile.reduce(1 - axis))
        return placed(lax.broadcast_in_dim(vector, (QUERIES, POINTS), (axis,)), tile)

    def kernel(a: Any, b: Any, out: Any, a_slots: Any, b_slots: Any, arrived: Any) -> None:
        rows = pl.ds(lax.axis_index("queries") * QUERIES, QUERIES)
        columns = pl.ds(lax.axis_index("points") * POINTS, POINTS)

        def fetch(number: Any, slot: Any) -> None:
            words = pl.ds(number * CHUNK, CHUNK)
            plgpu.copy_gmem_to_smem(a.at[words, rows], a_slots.at[slot], arrived.at[slot])
            plgpu.copy_gmem_to_smem(b.at[words, columns], b_slots.at[slot], arrived.at[slot])

        def add_chunk(number: Array, sums: Array) -> Array:
            slot = lax.rem(number, jnp.int32(SLOTS))
            plgpu.barrier_wait(arrived.at[slot])

            def add_some(step: Array, sums: Array) -> Array:
                for word in range(UNROLLED):
                    in_slot = step * UNROLLED + word
                    sums = added(sums, spread(a_slots[slot, in_slot], 0), spread(b_slots[slot, in_slot], 1))
                return sums

            sums = lax.fori_loop(0, CHUNK // UNROLLED, add_some, sums)
            plgpu.commit_smem()  # all threads have read the slot before it is filled again

            @pl.when(number + SLOTS < chunks)
            def _() -> None:
                fetch(number + SLOTS, slot)

            return sums

        for number in range(min(SLOTS, chunks)):
            fetch(number, number)
        zeros = placed(jnp.zeros((QUERIES, POINTS), jnp.int32), tile)
        out[rows, columns] = lax.fori_loop(0, chunks, add_chunk, zeros)

    run = plgpu.kernel(
        kernel,
        out_type=jax.ShapeDtypeStruct((a.shape[1], b.shape[1]), jnp.int32),
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


def _words_first(x: Array, tile: int) -> Array:
    """(N, D) bytes → (D / 4, N) words, with zeros up to whole chunks and tiles: they add nothing to a distance."""
    x = jnp.pad(x, ((0, -len(x) % tile), (0, -x.shape[1] % (BYTES * CHUNK))))
    return lax.bitcast_convert_type(x.reshape(len(x), -1, BYTES), jnp.int32).T


def _added_plainly(sums: Array, a: Array, b: Array) -> Array:
    """`sums` plus, for each pair of words, the absolute differences of its four bytes."""
    for shift in range(0, 8 * BYTES, 8):
        sums = sums + jnp.abs((a >> shift & 255) - (b >> shift & 255))
    return sums


def _added_in_ptx(tile: Any) -> Callable[[Array, Array, Array], Array]:
    """The same in one instruction, for arrays that lie in registers as `tile` says."""
    from jax.experimental.mosaic import gpu as mgpu
    from jax.experimental.pallas import mosaic_gpu as plgpu
    from jaxlib.mlir import ir
    from jaxlib.mlir.dialects import llvm, vector

    assembly = "vabsdiff4.u32.u32.u32.add $0, $1, $2, $3;"

    def added(context: Any, sums: Any, a: Any, b: Any) -> Any:
        word = ir.IntegerType.get_signless(32)
        registers = sums.registers.copy()
        for place, register in enumerate(registers.flat):
            vectors = (a.registers.flat[place], b.registers.flat[place], register)
            lanes = [
                llvm.inline_asm(word, [vector.extract(v, [], [i]) for v in vectors], assembly, "=r,r,r,r")
                for i in range(ir.VectorType(register.type).shape[0])
            ]
            registers.flat[place] = vector.from_elements(register.type, lanes)
        return mgpu.FragmentedArray(_registers=registers, _layout=sums.layout, _is_signed=sums.is_signed)

    result = plgpu.ShapeDtypeStruct((QUERIES, POINTS), np.dtype(np.int32), layout=tile)
    return plgpu.inline_mgpu(arg_types=(tile, tile, tile), return_type=result)(added)


def _interpreter() -> Any:
    from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams  # public from JAX 0.12 on

    return InterpretGPUParams()
