"""Every fast form of a table of all pairs against its definition, on this machine and lowered for others."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcgrad.distances import (
    METRICS,
    all_pairs,
    minkowski,
    needs_64_bits,
    pairwise_distances,
    ranking_distances,
)
from funcgrad.distances.all_pairs import finish

P = {"minkowski": 3.0}


def random_bytes(rng: np.random.Generator, shape: tuple[int, int], dtype: type) -> np.ndarray:
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def test_the_root_of_a_large_integer_is_rounded_once() -> None:
    """sqrt(float32(n)) rounds twice and is off by one unit in the last place for about one integer in eight."""
    squares = np.random.default_rng(0).integers(2**24, 2**31 - 2**24, 10_000, dtype=np.int32)
    found = np.asarray(finish(jnp.asarray(squares), "l2"))
    np.testing.assert_array_equal(found, np.sqrt(squares.astype(np.float64)).astype(np.float32))
    assert (np.asarray(jnp.sqrt(squares.astype(np.float32))) != found).any()


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("metric", METRICS)
def test_the_fast_forms_equal_the_definition_for_one_pair(metric: str, dtype: type) -> None:
    rng = np.random.default_rng(1)
    queries, points = random_bytes(rng, (33, 130), dtype), random_bytes(rng, (64, 130), dtype)
    pair = METRICS[metric] if metric != "minkowski" else lambda a, b: minkowski(a, b, 3.0)
    with jax.enable_x64(True):
        wide = (x.astype(np.float64) for x in (queries, points))
        expected = np.asarray(all_pairs.vmap_pairs(pair)(*map(jnp.asarray, wide)))
    np.testing.assert_allclose(
        pairwise_distances(queries, points, metric, p=P.get(metric)), expected, atol=2e-6, rtol=2e-6
    )


@pytest.mark.exhaustive
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_distances_lower_for_every_platform(metric: str, dtype: type) -> None:
    jitted = jax.jit(lambda a, b: finish(ranking_distances(a, b, metric, P.get(metric)), metric))
    shapes = (jax.ShapeDtypeStruct((40, 64), dtype), jax.ShapeDtypeStruct((33, 64), dtype))
    exported = jax.export.export(jitted, platforms=("cpu", "cuda", "tpu"))(*shapes)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert exported.out_avals[0].shape == (40, 33)


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.float32])
@pytest.mark.parametrize(
    ("queries", "points", "dimensions"), [(32, 32, 1), (33, 288, 255), (40, 300, 257), (64, 600, 530)]
)
def test_l1_in_tiles_equals_the_definition(queries: int, points: int, dimensions: int, dtype: type) -> None:
    """At and beside the sizes of a tile and of a stretch, with the extremes of bytes among the values."""
    rng = np.random.default_rng(dimensions)
    low, high = (-1000, 1000) if dtype is np.float32 else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    a, b = (rng.choice([low, low + 1, 0, high], (rows, dimensions)).astype(dtype) for rows in (queries, points))
    table = ranking_distances(jnp.asarray(a), jnp.asarray(b), "l1")
    expected = np.abs(a.astype(int)[:, None] - b.astype(int)[None]).sum(-1)
    np.testing.assert_array_equal(table, expected)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("form", "dtype", "dimensions"),  # 140,000 need 64 bits
    [
        (all_pairs.products_in_int8, np.uint8, 1),
        (all_pairs.products_in_int8, np.int8, 1025),
        (all_pairs.products_in_int8, np.uint8, 140_000),
        (all_pairs.products_in_bfloat16, np.int8, 1),
        (all_pairs.products_in_bfloat16, np.uint8, 1025),
        (all_pairs.products_in_bfloat16, np.int8, 140_000),
    ],
)
def test_products_of_bytes_are_the_same_on_every_platform(form: Callable, dtype: type, dimensions: int) -> None:
    info = np.iinfo(dtype)
    rng = np.random.default_rng(0)
    queries, points = (rng.integers(info.min, info.max + 1, (5, dimensions)).astype(dtype) for _ in range(2))
    queries[0], points[0] = info.min, info.min  # the largest product there is, all along
    centre = 128 if dtype == np.uint8 else 0
    expected = (queries.astype(np.int64) - centre) @ (points.astype(np.int64) - centre).T
    with jax.enable_x64(needs_64_bits(dtype, dimensions)):
        np.testing.assert_array_equal(jax.jit(form)(queries, points), expected)
        np.testing.assert_array_equal(jax.jit(all_pairs.products_in_float32)(queries, points), expected)


def test_each_platform_multiplies_bytes_in_its_own_way() -> None:
    shape = jax.ShapeDtypeStruct((8, 5), np.uint8)
    for platform, says in (("cpu", "8x5xf32>"), ("cuda", "8x128xi8>"), ("tpu", "8x5xbf16>")):
        text = str(jax.export.export(jax.jit(all_pairs.products), platforms=(platform,))(shape, shape).mlir_module())
        (line,) = (line for line in text.splitlines() if "stablehlo.dot_general" in line)
        assert says in line
