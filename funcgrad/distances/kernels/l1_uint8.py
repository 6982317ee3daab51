"""L1 distances of uint8 vectors on an NVIDIA GPU, Hopper or later: queries (Q, D), points (N, D) → (Q, N) int32, exact.

On an H100 all pairs of 50,000 points and 10,000 queries of 3,072 dimensions take 26 ms; XLA takes 19 times as long for
the definition (experiments/knn_gpu.py). Other tiles, slots and chunks were tried, and none was faster by more than 1 %.
The tests interpret the kernel on the CPU and lower it for CUDA. The interpreter cannot run inline PTX: there the one
instruction is replaced by plain arithmetic (`add_plainly`), and all the rest, the packing, the tile, the slots, is
what the GPU runs. Four dimensions make a 32-bit word.

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

from funcgrad.distances.kernels import tiles

BYTES = 4  # dimensions in a word
MAX_DIMENSIONS = (2**31 - 1) // 255  # the largest distance is an int32


def all_pairs(queries: Array, points: Array, *, interpret: bool = False) -> Array:
    """L1 distances between queries (Q, D) and points (N, D), both uint8 → (Q, N) int32.

    `interpret` runs the kernel step by step on the CPU, which is slow and for tests. Raises `TypeError` for another
    dtype and `ValueError` for another shape.
    """
    tiles.check(queries, points, "uint8")
    if queries.shape[1] > MAX_DIMENSIONS:
        raise ValueError(f"queries: at most {MAX_DIMENSIONS} dimensions fit an int32 distance, got {queries.shape[1]}")
    with jax.enable_x64(False):  # the kernel's indices are int32, whatever numbers the caller works in
        return _all_pairs(queries, points, interpret)


@partial(jax.jit, static_argnums=2)
def _all_pairs(queries: Array, points: Array, interpret: bool) -> Array:
    a, b = words_first(queries, tiles.QUERIES), words_first(points, tiles.POINTS)
    add = add_plainly if interpret else _add_in_ptx()
    return tiles.sum_over_rows(a, b, add, interpret)[: len(queries), : len(points)]


def words_first(x: Array, tile: int) -> Array:
    """(N, D) bytes → (D / 4, N) words, with zeros up to whole chunks and tiles: they add nothing to a distance."""
    x = tiles.padded(x, tile, BYTES * tiles.CHUNK)
    return lax.bitcast_convert_type(x.reshape(len(x), -1, BYTES), jnp.int32).T


def add_plainly(sums: Array, a: Array, b: Array) -> Array:
    """`sums` plus, for each pair of words, the absolute differences of its four bytes."""
    for shift in range(0, 8 * BYTES, 8):
        sums = sums + jnp.abs((a >> shift & 255) - (b >> shift & 255))
    return sums


def _add_in_ptx() -> Callable[[Array, Array, Array], Array]:
    """The same in one instruction, for arrays that lie in registers in the tile's layout."""
    from jax.experimental.mosaic import gpu as mgpu
    from jax.experimental.pallas import mosaic_gpu as plgpu
    from jaxlib.mlir import ir
    from jaxlib.mlir.dialects import llvm, vector

    tile = tiles.layout()
    assembly = "vabsdiff4.u32.u32.u32.add $0, $1, $2, $3;"

    def add(context: Any, sums: Any, a: Any, b: Any) -> Any:
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

    result = plgpu.ShapeDtypeStruct((tiles.QUERIES, tiles.POINTS), np.dtype(np.int32), layout=tile)
    return plgpu.inline_mgpu(arg_types=(tile, tile, tile), return_type=result)(add)
