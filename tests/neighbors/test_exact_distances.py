"""Distances of single pairs in float64: the metrics' definitions, wherever the vectors lie."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcgrad import distances
from funcgrad.neighbors import kneighbors, prepare
from funcgrad.neighbors.exact_distances import pair_distances
from funcgrad.neighbors.tuning import DEFAULTS, Tuning
from funcgrad.sharding import make_mesh

METRICS = ("l1", "l2", "sqeuclidean", "cosine", "dot", "chebyshev", "minkowski", "hamming")


def vectors(seed: int, count: int, dimensions: int = 30, dtype: str = "float32") -> Any:
    return np.round(np.random.default_rng(seed).normal(size=(count, dimensions)), 1).astype(dtype)


def all_pairs(queries: Any, points: Any, metric: str, tuning: Tuning = DEFAULTS) -> Any:
    pairs = tuple(x.ravel() for x in np.meshgrid(np.arange(len(queries)), np.arange(len(points)), indexing="ij"))
    return pair_distances(queries, points, pairs, metric, 3.0 if metric == "minkowski" else None, tuning)


@pytest.mark.parametrize("metric", METRICS)
def test_each_is_the_definition_in_float64(metric: str) -> None:
    queries, points = vectors(0, 5), vectors(1, 7)
    with jax.enable_x64(True):
        wide = (jnp.asarray(x, jnp.float64) for x in (queries, points))
        expected = distances.pairwise_distances(*wide, metric, p=3.0 if metric == "minkowski" else None)
        np.testing.assert_allclose(all_pairs(queries, points, metric), np.ravel(expected), rtol=1e-13, atol=1e-14)


@pytest.mark.exhaustive
@pytest.mark.parametrize("metric", METRICS)
def test_vectors_on_a_device_are_fetched_in_pieces_and_give_the_same_bits(metric: str) -> None:
    queries, points = vectors(0, 5), vectors(1, 7)
    expected = all_pairs(queries, points, metric)
    for numbers in (1, 90, 10_000):  # less than a vector, three vectors, all
        for a, b in (
            (queries, jnp.asarray(points)),
            (jnp.asarray(queries), points),
            map(jnp.asarray, (queries, points)),
        ):
            np.testing.assert_array_equal(all_pairs(a, b, metric, Tuning(fetched=numbers)), expected)


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("metric", ["l1", "l2", "cosine"])
def test_the_ways_of_an_accelerator_give_the_same_answers(
    metric: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, points = (np.abs(vectors(seed, count, 24) * 50).astype(dtype) for seed, count in ((0, 70), (1, 300)))
    expected = kneighbors(queries, points, 5, metric=metric)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    tuning = Tuning(fetched=24 * 50)
    mesh = make_mesh(4, points=2)
    placed = jax.device_put(queries, jax.NamedSharding(mesh, jax.P()))
    for found in (
        kneighbors(queries, points, 5, metric=metric, tuning=tuning),
        kneighbors(placed, prepare(points, metric, mesh=mesh), 5, mesh=mesh, tuning=tuning),
    ):
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_array_equal(found.distances, expected.distances)


@pytest.mark.parametrize("metric", METRICS)
def test_threads_that_share_the_pairs_give_the_same_bits(metric: str) -> None:
    queries, points = vectors(0, 5), vectors(1, 7)
    expected = all_pairs(queries, points, metric)
    two_at_a_time = all_pairs(queries, points, metric, Tuning(pair_elements=60))
    np.testing.assert_array_equal(two_at_a_time, expected)
