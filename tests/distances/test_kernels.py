"""The accelerator kernels: interpreted on the CPU against the definition, and lowered for CUDA."""

from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcgrad.distances import kernels, ranking_distances
from funcgrad.distances.kernels import l1_float32, l1_uint8, tiles
from funcgrad.neighbors import kneighbors
from funcgrad.neighbors.block_search import PointBlock, StepSpec, search_step
from funcgrad.neighbors.mesh import over_mesh
from funcgrad.sharding import make_mesh

pytestmark = pytest.mark.optimized

KERNELS = {"float32": l1_float32, "uint8": l1_uint8}
# One of each; less than a tile; more than one tile both ways; exact tiles, and more chunks than slots.
SHAPES = [(1, 1, 1), (3, 1, 130), (70, 150, 255), (64, 128, 512)]


def vectors(dtype: str, *shape: int, seed: int = 0) -> Any:
    """Bytes, also as floats: their sums are exact in any order."""
    return np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)


def definition(queries: Any, points: Any) -> Any:
    return np.abs(queries[:, None].astype(np.int64) - points[None]).sum(axis=2)


@pytest.mark.exhaustive
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", KERNELS)
def test_kernel_and_plain_form_equal_the_definition(dtype: str, shape: tuple[int, int, int]) -> None:
    q, n, d = shape
    queries, points = vectors(dtype, q, d), vectors(dtype, n, d, seed=1)
    expected = definition(queries, points)
    table = KERNELS[dtype].all_pairs(jnp.asarray(queries), jnp.asarray(points), interpret=True)
    assert table.dtype == {"float32": jnp.float32, "uint8": jnp.int32}[dtype]
    np.testing.assert_array_equal(table, expected)
    np.testing.assert_array_equal(ranking_distances(jnp.asarray(queries), jnp.asarray(points), "l1"), expected)


@pytest.mark.exhaustive
def test_real_numbers_stay_within_the_rounding_of_one_sum() -> None:
    rng = np.random.default_rng(2)
    queries, points = (rng.normal(size=(n, 301)).astype(np.float32) for n in (5, 7))
    expected = np.abs(queries[:, None].astype(np.float64) - points[None]).sum(axis=2)
    table = l1_float32.all_pairs(jnp.asarray(queries), jnp.asarray(points), interpret=True)
    np.testing.assert_allclose(table, expected, rtol=301 * 2**-24)


@pytest.mark.exhaustive
def test_the_farthest_bytes_and_a_point_itself() -> None:
    ends = jnp.asarray(np.stack([np.zeros(257), np.full(257, 255)]).astype(np.uint8))
    expected = [[0, 257 * 255], [257 * 255, 0]]
    np.testing.assert_array_equal(l1_uint8.all_pairs(ends, ends, interpret=True), expected)
    np.testing.assert_array_equal(ranking_distances(ends, ends, "l1"), expected)


@pytest.mark.exhaustive
def test_infinity_is_far_from_all_and_padding_makes_no_nan() -> None:
    points = jnp.asarray([[jnp.inf, 1.0], [2.0, 1.0]])
    table = l1_float32.all_pairs(points[1:], points, interpret=True)
    np.testing.assert_array_equal(table, [[np.inf, 0]])


@pytest.mark.exhaustive
def test_a_word_holds_four_dimensions_and_the_plain_sum_takes_each_once() -> None:
    a, b = vectors("uint8", 3, 6), vectors("uint8", 3, 6, seed=1)
    words_a, words_b = (l1_uint8.words_first(jnp.asarray(x), 3) for x in (a, b))
    assert words_a.shape == (tiles.CHUNK, 3)
    unpacked = np.asarray(words_a).T.copy().view(np.uint8)
    np.testing.assert_array_equal(unpacked[:, :6], a)
    assert not unpacked[:, 6:].any()
    sums = l1_uint8.add_plainly(jnp.int32(7), words_a, words_b)
    np.testing.assert_array_equal(sums[0] - 7, np.abs(a[:, :4].astype(int) - b[:, :4]).sum(axis=1))
    np.testing.assert_array_equal(sums[1] - 7, np.abs(a[:, 4:].astype(int) - b[:, 4:]).sum(axis=1))


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", KERNELS)
def test_a_caller_in_float64_gets_the_same(dtype: str) -> None:
    queries, points = vectors(dtype, 2, 300), vectors(dtype, 3, 300, seed=1)
    with jax.enable_x64(True):
        table = KERNELS[dtype].all_pairs(jnp.asarray(queries), jnp.asarray(points), interpret=True)
        assert lowered(KERNELS[dtype], dtype).count("custom_call @mosaic_gpu") == 1
    np.testing.assert_array_equal(table, definition(queries, points))


def lowered(kernel: ModuleType, dtype: str) -> str:
    shapes = (jax.ShapeDtypeStruct((n, 3072), jnp.dtype(dtype)) for n in (1000, 5000))
    return jax.export.export(jax.jit(kernel.all_pairs), platforms=["cuda"])(*shapes).mlir_module()


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", KERNELS)
def test_lowers_for_cuda_without_one(dtype: str) -> None:
    module = lowered(KERNELS[dtype], dtype)
    assert module.count("custom_call @mosaic_gpu") == 1
    instruction = "vabsdiff4.u32.u32.u32.add $0, $1, $2, $3;"
    assert (instruction in module) == (dtype == "uint8")


@pytest.mark.parametrize("dtype", KERNELS)
def test_what_does_not_fit_is_named_in_one_line(dtype: str) -> None:
    all_pairs = KERNELS[dtype].all_pairs
    good = jnp.asarray(vectors(dtype, 2, 3))
    other = "uint8" if dtype == "float32" else "float32"
    with pytest.raises(TypeError, match=f"^queries: this kernel takes {dtype}, got {other}$"):
        all_pairs(good.astype(other), good)
    with pytest.raises(TypeError, match=f"^points: this kernel takes {dtype}, got int32$"):
        all_pairs(good, good.astype(jnp.int32))
    for name, arguments in (("queries", (good[0], good)), ("points", (good, good[:0]))):
        with pytest.raises(
            ValueError, match=rf"^{name}: needs shape \(number of vectors, dimensions\), .*; got \(.*\)$"
        ):
            all_pairs(*arguments)
    with pytest.raises(ValueError, match=r"^queries: have 2 dimensions, the points have 3$"):
        all_pairs(good[:, :2], good)


def test_more_dimensions_than_an_int32_holds_are_refused() -> None:
    too_many = jax.ShapeDtypeStruct((1, 2**31 // 255 + 1), jnp.uint8)
    with pytest.raises(ValueError, match=r"^queries: at most 8421504 dimensions fit an int32 distance, got 8421505"):
        jax.eval_shape(l1_uint8.all_pairs, too_many, too_many)


class H100(NamedTuple):
    compute_capability: str = "9.0"


@pytest.fixture
def hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "local_devices", lambda: [H100()])


def test_a_kernel_is_chosen_only_where_it_was_measured_to_win(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels.l1("uint8", 3072) is None
    for capability, chosen in (("9.0", True), ("8.0", False), ("12.0", False), ("gfx942", False)):
        monkeypatch.setattr(jax, "local_devices", lambda capability=capability: [H100(capability)])
        for dtype, kernel in KERNELS.items():
            assert kernels.l1(dtype, 3072) is (kernel.all_pairs if chosen else None)
        assert kernels.l1("float64", 3072) is None
        assert kernels.l1("int8", 3072) is None
        assert kernels.l1("uint8", l1_uint8.MAX_DIMENSIONS + 1) is None
    monkeypatch.setattr(jax, "local_devices", lambda: [H100(), H100("8.0")])
    assert kernels.l1("uint8", 3072) is None


@pytest.mark.exhaustive
@pytest.mark.usefixtures("hopper")
@pytest.mark.parametrize("metric", ["l1", "l2"])
@pytest.mark.parametrize("dtype", KERNELS)
@pytest.mark.parametrize("devices", [1, 4])
def test_a_search_takes_it_on_such_a_gpu_and_there_alone(metric: str, dtype: str, devices: int) -> None:
    mesh = make_mesh(4, points=2) if devices == 4 else None
    step: Any = partial(search_step, spec=StepSpec(3, metric, None, False, False, mesh))
    if mesh is not None:
        step = over_mesh(step, mesh)
    ranked = jnp.int32 if dtype == "uint8" else jnp.float32
    shape = jax.ShapeDtypeStruct
    block = PointBlock(shape((256, 40), dtype), shape((256,), jnp.int32), *[shape((256,), dtype)] * 2)
    best = shape((128, 3 * (2 if mesh else 1)), jnp.float32), shape((128, 3 * (2 if mesh else 1)), jnp.int32)
    arguments = shape((128, 256), ranked), shape((128, 40), dtype), shape((128,), jnp.int32), *best, block
    for platform in ("cuda", "cpu"):
        lowered = jax.jit(step).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
        assert ("mosaic_gpu" in lowered) == (metric == "l1" and platform == "cuda")


@pytest.mark.exhaustive
@pytest.mark.usefixtures("hopper")
@pytest.mark.parametrize("dtype", KERNELS)
def test_on_the_cpu_beside_such_a_gpu_the_definition_serves(dtype: str) -> None:
    queries, points = vectors(dtype, 40, 33), vectors(dtype, 50, 33, seed=1)
    found = kneighbors(queries, points, 3, metric="l1")
    np.testing.assert_array_equal(found.indices, np.argsort(definition(queries, points), kind="stable")[:, :3])
