"""Lower bounds: a filter's numbers never go above the distance, and are near it."""

from functools import partial
from typing import Any

import adversarial_cases as cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcgrad import sharding
from funcgrad.distances import minima, pairwise_distances
from funcgrad.neighbors import bounds, kneighbors
from funcgrad.neighbors.tuning import Tuning


def vectors(seed: int, count: int, dimensions: int = 30, dtype: str = "float32") -> Any:
    return np.round(np.random.default_rng(seed).normal(size=(count, dimensions)), 1).astype(dtype)


@pytest.mark.parametrize("metric", ["l1", "l2", "cosine", "dot", "minkowski", "chebyshev", "hamming"])
@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.exhaustive)])
def test_a_filter_never_goes_above_the_distance(metric: str, dtype: type) -> None:
    """Else a certificate would prove nothing; near the bound, so that it is not just a huge margin."""
    rng = np.random.default_rng(0)
    points = (rng.normal(size=(300, 700)) + 2).astype(dtype)
    queries = (points[:40] + rng.normal(size=(40, 700)) * 1e-3).astype(dtype)
    statistics = bounds.point_statistics(points, metric, dtype)
    error = bounds.filter_error(metric, 700, dtype)
    found = bounds.query_bounds(queries, metric, dtype, statistics, error)
    if statistics is None:
        numbers = np.asarray(pairwise_distances(queries, points, metric, p=3.0 if metric == "minkowski" else None))
    else:
        factors, offsets = bounds.point_terms(metric, statistics, error)
        numbers = offsets - factors * (found.queries @ points.T)
    lower = found.offset[:, None] + found.factor[:, None] * numbers.astype(np.float64)
    exact = cases.table(queries, points, metric) ** (2 if metric == "l2" else 1)
    assert (lower <= exact).all()
    sizes = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(points, axis=1) if metric != "cosine" else 1
    assert (exact - lower <= 1e-3 * (np.abs(exact) if statistics is None else sizes)).all()


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-37, 1.0, 1e30])
def test_sums_of_minima_never_go_above_the_distance(dtype: type, scale: float) -> None:
    rng = np.random.default_rng(0)
    points = (scale * rng.normal(size=(300, 700))).astype(dtype)
    points[1::2] = np.abs(points[1::2])
    queries = (points[:40] * (1 + 1e-4 * rng.normal(size=(40, 700)))).astype(dtype)
    error, sums = bounds.filter_error("l1", 700, dtype), bounds.sums_of_points(points)
    factors, offsets = bounds.minima_terms(sums, dtype, error)
    found = bounds.minima_bounds(queries, dtype, sums, error)
    with jax.enable_x64(True):
        numbers = offsets - factors * np.asarray(minima(jnp.asarray(found.queries), jnp.asarray(points)))
    lower = found.offset[:, None] + found.factor[:, None] * numbers.astype(np.float64)
    exact = cases.table(queries, points, "l1")
    assert (lower <= exact).all()
    largest = np.abs(queries).sum(axis=1)[:, None] + np.abs(points).sum(axis=1)
    loose = 1e4 * 700 * float(np.finfo(dtype).tiny)
    assert (exact - lower <= 5000 * float(np.finfo(dtype).eps) * largest + loose).all()


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_l1_by_minima_finds_the_same_and_leaves_to_others_what_it_cannot_prove(dtype: type) -> None:
    rng = np.random.default_rng(0)
    points, queries = rng.normal(size=(900, 33)).astype(dtype), rng.normal(size=(300, 33)).astype(dtype)
    assert bounds.minima_pay(300, points)
    assert not bounds.minima_pay(300, points + 100)
    assert not bounds.minima_pay(255, points)
    found = kneighbors(queries, points, 7, metric="l1")
    assert found.info.searched_again == 0
    few = kneighbors(queries[:200], points, 7, metric="l1")  # too few to sum minima
    np.testing.assert_array_equal(found.indices[:200], few.indices)
    np.testing.assert_array_equal(found.distances[:200], few.distances)
    for options in ({"memory": "100KiB"}, {"mesh": sharding.make_mesh(2, points=2)}):
        same = kneighbors(queries, points, 7, metric="l1", **options)
        np.testing.assert_array_equal(same.indices, found.indices)
        np.testing.assert_array_equal(same.distances, found.distances)
    far, far_queries = points + dtype(2**20), queries + dtype(2**20)
    plain = kneighbors(far_queries, far, 7, metric="l1")
    tried = kneighbors(far_queries, far, 7, metric="l1", tuning=Tuning(minima_max_ratio=1e300))
    assert plain.info.searched_again == 0
    assert (tried.info.searched_again == 300) == (dtype is np.float32)
    np.testing.assert_array_equal(tried.indices, plain.indices)
    np.testing.assert_array_equal(tried.distances, plain.distances)


@pytest.mark.parametrize("metric", ["l2", "cosine", "dot", "l1"])
def test_bounds_of_many_queries_are_those_of_each(metric: str) -> None:
    queries, points = vectors(0, 11, 40_000), vectors(1, 9, 40_000)  # three queries at a time
    statistics = bounds.point_statistics(points, metric, np.float32)
    found = bounds.query_bounds(queries, metric, np.float32, statistics, 1e-6)
    for row in range(len(queries)):
        alone = bounds.query_bounds(queries[row : row + 1], metric, np.float32, statistics, 1e-6)
        for together, single in zip(found, alone, strict=True):
            np.testing.assert_allclose(together[row], single[0], rtol=1e-12)


@pytest.mark.parametrize("metric", ["l2", "cosine", "dot"])
def test_points_on_a_device_are_measured_in_pieces(metric: str) -> None:
    points = vectors(0, 300)
    expected = bounds.point_statistics(points, metric, np.float32)
    in_pieces = bounds.point_statistics(jnp.asarray(points), metric, np.float32, tuning=Tuning(fetched=30 * 50))
    assert in_pieces is not None
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7), in_pieces, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_second_order_terms_are_allowed_for_in_any_number_of_dimensions(dtype: type) -> None:
    """An error is at least γ = n·u / (1 − n·u), Higham's bound for n roundings, wherever it is below 1."""
    unit = float(np.finfo(dtype).eps) / 2
    for dimensions in (1, 3072, 700_000, 2_000_000, 7_000_000):
        error = bounds.filter_error("l2", dimensions, dtype)
        assert error >= dimensions * unit / (1 - dimensions * unit)
        assert error <= 1.05 * (dimensions + 32) * unit or dimensions > 700_000
