"""Distances of single pairs in float64: the metrics' definitions, wherever the vectors lie."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcgrad import distances
from funcgrad.neighbors import bounds as certified
from funcgrad.neighbors import exact_distances as formulas
from funcgrad.neighbors import kneighbors, prepare
from funcgrad.sharding import make_mesh

METRICS = ("l1", "l2", "sqeuclidean", "cosine", "dot", "chebyshev", "minkowski", "hamming")


def vectors(seed: int, count: int, dimensions: int = 30, dtype: str = "float32") -> Any:
    return np.round(np.random.default_rng(seed).normal(size=(count, dimensions)), 1).astype(dtype)


def all_pairs(queries: Any, points: Any, metric: str) -> Any:
    pairs = tuple(x.ravel() for x in np.meshgrid(np.arange(len(queries)), np.arange(len(points)), indexing="ij"))
    return formulas.pair_distances(queries, points, pairs, metric, 3.0 if metric == "minkowski" else None)


@pytest.mark.parametrize("metric", METRICS)
def test_each_is_the_definition_in_float64(metric: str) -> None:
    queries, points = vectors(0, 5), vectors(1, 7)
    with jax.enable_x64(True):
        wide = (jnp.asarray(x, jnp.float64) for x in (queries, points))
        expected = distances.pairwise_distances(*wide, metric, p=3.0 if metric == "minkowski" else None)
        np.testing.assert_allclose(all_pairs(queries, points, metric), np.ravel(expected), rtol=1e-13, atol=1e-14)


@pytest.mark.exhaustive
@pytest.mark.parametrize("metric", METRICS)
def test_what_lies_on_a_device_is_fetched_in_pieces_and_gives_the_same_bits(
    metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, points = vectors(0, 5), vectors(1, 7)
    expected = all_pairs(queries, points, metric)
    for numbers in (1, 90, 10_000):  # less than a vector, three vectors, all
        monkeypatch.setattr(formulas, "FETCHED", numbers)
        for a, b in (
            (queries, jnp.asarray(points)),
            (jnp.asarray(queries), points),
            map(jnp.asarray, (queries, points)),
        ):
            np.testing.assert_array_equal(all_pairs(a, b, metric), expected)


@pytest.mark.parametrize("metric", ["l2", "cosine", "dot", "l1"])
def test_bounds_of_many_queries_are_those_of_each(metric: str) -> None:
    queries, points = vectors(0, 11, 40_000), vectors(1, 9, 40_000)  # three queries at a time
    summary = certified.summarize(points, metric, np.float32)
    bounds = certified.query_bounds(queries, metric, np.float32, summary, 1e-6)
    for row in range(len(queries)):
        alone = certified.query_bounds(queries[row : row + 1], metric, np.float32, summary, 1e-6)
        for together, single in zip(bounds, alone, strict=True):
            np.testing.assert_allclose(together[row], single[0], rtol=1e-12)


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("metric", ["l1", "l2", "cosine"])
def test_the_ways_of_an_accelerator_give_the_same_answers(
    metric: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, points = (np.abs(vectors(seed, count, 24) * 50).astype(dtype) for seed, count in ((0, 70), (1, 300)))
    expected = kneighbors(queries, points, 5, metric=metric)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(formulas, "FETCHED", 24 * 50)
    mesh = make_mesh(4, points=2)
    placed = jax.device_put(queries, jax.NamedSharding(mesh, jax.P()))
    for found in (
        kneighbors(queries, points, 5, metric=metric),
        kneighbors(placed, prepare(points, metric, mesh=mesh), 5, mesh=mesh),
    ):
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_array_equal(found.distances, expected.distances)


@pytest.mark.parametrize("metric", ["l2", "cosine", "dot"])
def test_points_on_a_device_are_measured_in_pieces(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points = vectors(0, 300)
    expected = certified.summarize(points, metric, np.float32)
    monkeypatch.setattr(certified, "FETCHED", 30 * 50)
    in_pieces = certified.summarize(jnp.asarray(points), metric, np.float32)
    assert in_pieces is not None
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7), in_pieces, expected)


@pytest.mark.parametrize("metric", METRICS)
def test_threads_that_share_the_pairs_give_the_same_bits(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, points = vectors(0, 5), vectors(1, 7)
    expected = all_pairs(queries, points, metric)
    monkeypatch.setattr(formulas, "_ELEMENTS", 60)  # two pairs at a time
    np.testing.assert_array_equal(all_pairs(queries, points, metric), expected)
