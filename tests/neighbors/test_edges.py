"""The edges of the search: what comes in, the radius, the votes, equal distances, memory and messages."""

import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

from funcgrad.distances import METRICS, pairwise_distances
from funcgrad.neighbors import Neighbors, classify, kneighbors, load_index, prepare, radius_neighbors, save_index, vote
from funcgrad.neighbors.strategies import Info

POINTS = np.arange(12, dtype=np.float32).reshape(6, 2) ** 2


# What comes in.


def test_lists_and_data_frames_keep_their_digits() -> None:
    pandas = pytest.importorskip("pandas")
    queries, points = [[16777217.0]], [[16777216.0], [16777217.0]]
    for searched in (points, pandas.DataFrame(points)):
        assert kneighbors(queries, searched, 1).indices.tolist() == [[1]]
    assert float(pairwise_distances(queries, points)[0, 0]) == 1
    assert kneighbors([[16777217]], [[16777216], [16777217]], 1).indices.tolist() == [[1]]


@pytest.mark.parametrize(
    ("points", "error", "message"),
    [
        (np.array([[2**53 + 1], [0]]), ValueError, "points: integers beyond 2⁵³ cannot be told apart"),
        (np.array([[2**64 - 1], [0]], np.uint64), ValueError, "points: integers beyond 2⁵³"),
        (np.ma.masked_equal([[1.0], [2.0]], 2.0), ValueError, "points: 1 values are masked; fill them first"),
        (sparse.eye(3, format="csr"), TypeError, "points: needs a dense array, got csr_matrix, which is sparse"),
        (np.array([[1], [None]]), TypeError, "points: needs integers or floats, got ndarray of dtype object"),
        ([["a"], ["b"]], TypeError, "points: needs integers or floats, got list of dtype <U1"),
        (np.array([[1j], [0]]), TypeError, "points: needs integers or floats, got ndarray of dtype complex128"),
        ([[1.0], [2.0, 3.0]], TypeError, "points: needs an array of numbers, got list"),
        (np.array([["2020"], ["2021"]], "datetime64[Y]"), TypeError, "points: .* of dtype datetime64"),
    ],
)
def test_what_is_no_dense_array_of_numbers_is_refused_in_one_line(points: Any, error: type, message: str) -> None:
    for search in (prepare, lambda points: kneighbors([[1.0]], points, 1)):
        with pytest.raises(error, match=message) as raised:
            search(points)
        assert "\n" not in str(raised.value)


def test_a_masked_array_of_which_nothing_is_masked_is_an_array() -> None:
    assert kneighbors([[2.1]], np.ma.masked_equal([[1.0], [2.0]], 7.0), 1).indices.tolist() == [[1]]


def test_integers_up_to_2_to_the_53_are_told_apart() -> None:
    assert kneighbors([[2**53]], [[2**53 - 1], [2**53]], 1).indices.tolist() == [[1]]


# The radius.


@pytest.mark.parametrize("kind", [float, np.float32, np.float64, int])
def test_the_boundary_belongs_to_the_radius_whatever_its_type(kind: type) -> None:
    steps = np.array([[3, 4], [6, 8], [0, 5], [5, 1]])
    for dtype in (np.uint8, np.float32, np.float64):
        found = radius_neighbors(np.zeros((1, 2), dtype), steps.astype(dtype), kind(5), max_neighbors=4)
        assert found.indices.tolist() == [[0, 2, -1, -1]]
        assert found.distances.tolist() == [[5, 5, math.inf, math.inf]]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_distances_are_compared_with_the_radius_before_they_are_rounded(dtype: type) -> None:
    """√2 in float32 is 1.41421354, below √2 itself and below 1.414213561, which √2 is above."""
    queries, points = np.zeros((1, 2), dtype), np.ones((1, 2), dtype)
    for radius, inside in ((math.sqrt(2), True), (1.414213561, False), (np.float32(math.sqrt(2)), False)):
        found = radius_neighbors(queries, points, radius, max_neighbors=1)
        assert (found.indices[0, 0] == 0) == inside, radius
    assert radius_neighbors(queries, points, math.sqrt(2), max_neighbors=1).distances.dtype == np.float32


def test_a_query_that_may_not_be_a_neighbor_keeps_all_of_its_own() -> None:
    points = np.array([[0.0], [1.0], [2.0]])
    found = radius_neighbors(points, points, 9, max_neighbors=3, mask=np.array([True, True, False]), exclude_self=True)
    assert found.indices.tolist() == [[1, -1, -1], [0, -1, -1], [1, 0, -1]]
    same = np.zeros((4, 1))  # each is one of four at distance 0
    found = radius_neighbors(same, same, 0, max_neighbors=2, exclude_self=True)
    assert found.indices.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1]]
    assert found.truncated.tolist() == [True] * 4


def test_nothing_allowed_is_an_empty_result() -> None:
    points = np.array([[0.0], [1.0]])
    alone = np.array([True, False])
    for options in ({"mask": np.zeros(2, bool)}, {"mask": np.zeros(2, bool), "exclude_self": True}):
        found = radius_neighbors(points, points, 9, max_neighbors=3, **options)  # type: ignore[arg-type]
        assert found.indices.tolist() == [[-1] * 3] * 2
        assert np.isinf(found.distances).all()
    found = radius_neighbors(points, points, 9, max_neighbors=2, mask=alone, exclude_self=True)
    assert found.indices.tolist() == [[-1, -1], [0, -1]]


def test_where_more_are_within_the_radius_is_said() -> None:
    queries, points = np.array([[0.0], [9.0]]), np.array([[0.0], [1.0], [2.0], [8.5]])
    found = radius_neighbors(queries, points, 2, max_neighbors=2)
    assert found.indices.tolist() == [[0, 1], [3, -1]]
    assert found.truncated.tolist() == [True, False]
    assert found.num_truncated == 1
    assert repr(found) == "RadiusNeighbors(2 queries, 2 nearest each by l2, float64 distances, 1 truncated)"
    assert not radius_neighbors(queries, points, 2, max_neighbors=3).truncated.any()


# Votes.


def neighbors_at(distances: Any, dtype: Any = np.float32) -> Neighbors:
    array = np.array(distances, dtype)
    indices = np.broadcast_to(np.arange(array.shape[1], dtype=np.int32), array.shape)
    return Neighbors(array, indices, Info("l2", "exact", str(array.dtype), 1, 1))


@pytest.mark.parametrize(
    ("distances", "dtype"),
    [
        ([1e-44, 4e-44, 4e-44], np.float32),
        ([1e38, 3e38, 3e38], np.float32),
        ([5e-324, 2e-323, 2e-323], np.float64),
        ([4e307, 1.6e308, 1.6e308], np.float64),
    ],
)
def test_inverse_distances_are_right_at_the_ends_of_the_range(distances: list[float], dtype: type) -> None:
    found = neighbors_at([distances], dtype)
    votes = vote(found, [0, 1, 1], 2, ks=(3,), weights="distance")[0, 0]
    exact = found.distances[0].astype(np.float64)
    assert votes[0] / votes[1] == pytest.approx(1 / (exact[0] / exact[1] + exact[0] / exact[2]), rel=1e-6)


@pytest.mark.parametrize("temperature", [1e-40, 5e-324, 1e300])
def test_a_temperature_at_the_end_of_the_range_gives_no_nan(temperature: float) -> None:
    votes = vote(neighbors_at([[1, 1, 2]]), [0, 1, 1], 2, ks=(3,), weights="softmax", temperature=temperature)
    assert votes[0, 0].tolist() == ([1, 1] if temperature < 1 else [1, 2])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            lambda distances: 0 * distances,
            "weights: must be finite, from 0 up and not all 0; query 0 got 0.0, 0.0, 0.0$",
        ),
        (lambda distances: distances * jnp.nan, "weights: must be finite, .* query 0 got nan"),
        (lambda distances: -distances, "weights: must be finite, from 0 up"),
        (
            lambda distances: jnp.where(distances == 1, 0, distances),
            "not all 0; query 0 got 0.0, 2.0, 3.0$",
        ),  # of k = 1
        (lambda distances: distances[:2], r"one weight for each distance, of shape \(3,\), it gave \(2,\)"),
        (lambda distances: distances[0], r"one weight for each distance, of shape \(3,\), it gave \(\)"),
    ],
)
def test_weights_that_say_nothing_are_refused(weights: Callable[..., Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vote(neighbors_at([[1, 2, 3]]), [0, 1, 1], 2, ks=(1, 3), weights=weights)
    with pytest.raises(ValueError, match="weights: "):
        classify(POINTS[:1] + 1, POINTS, [5] * 6, 3, weights=lambda d: 0 * d)


def test_no_label_is_given_that_was_not_there() -> None:
    labels = np.array([7, 2_000_000_000, 7, 2_000_000_000, 7, 7])
    found = classify(POINTS, POINTS, labels, 1)
    np.testing.assert_array_equal(found, labels)
    assert classify(POINTS, POINTS, labels.clip(max=9), 1).dtype == np.int32
    assert set(classify(1e6 + POINTS, POINTS, labels, 6, weights="distance").tolist()) == {7}


# Equal distances, and integers.


def test_minus_zero_and_zero_tie() -> None:
    """The second point gives −0 where the first gives 0; the first comes first, whatever the metric."""
    queries, points = np.array([[1.0, -0.0]], np.float32), np.array([[-0.0, 1.0], [0.0, 1.0], [0.0, 0.0]], np.float32)
    for precision in ("exact", "fast"):
        assert kneighbors(queries, points, 3, metric="dot", precision=precision).indices.tolist() == [[0, 1, 2]]
    signed = kneighbors(queries, points, 3, metric=lambda a, b: jnp.where(b[1] == 1, 0.0, -0.0) * jnp.sum(a))
    assert signed.indices.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("dtype", [np.int32, np.uint8])
def test_an_integer_metric_may_give_the_largest_value_of_its_dtype(dtype: type) -> None:
    points = np.array([[3], [0], [3], [1], [3], [3]], np.float32)
    largest = np.iinfo(dtype).max
    metric = lambda a, b: jnp.where(b[0] == 3, largest, b[0] + a[0]).astype(dtype)  # noqa: E731
    found = kneighbors(np.zeros((6, 1), np.float32), points, 4, metric=metric, exclude_self=True)
    assert found.indices[0].tolist() == [1, 3, 2, 4]
    assert found.indices[2].tolist() == [1, 3, 0, 4]
    assert found.distances[0].tolist() == [0, 1, largest, largest]
    allowed = np.array([False, True, True, True, False, True])
    assert kneighbors(np.zeros((1, 1)), points, 4, metric=metric, mask=allowed).indices.tolist() == [[1, 3, 2, 5]]


# Memory.


def test_what_the_proof_needs_counts_to_the_memory() -> None:
    random = np.random.default_rng(0)
    queries, points = (random.normal(size=(count, 4)).astype(np.float32) for count in (200, 20_000))
    index, limit, k = prepare(points), 20 * 2**20, 4000
    kneighbors(queries[:1], index, k, memory=limit)  # Python's own
    tracemalloc.start()
    found = kneighbors(queries, index, k, memory=limit)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    result = found.distances.nbytes + found.indices.nbytes
    assert peak - 3 * result < limit, f"{peak / 2**20:.1f} MiB with {result / 2**20:.1f} MiB of the result"
    np.testing.assert_array_equal(found.indices[0], kneighbors(queries[:1], index, k).indices[0])


# Messages.


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kneighbors(POINTS, POINTS, "5"), "k: needs an integer from 1 to 6, .* got '5'"),
        (lambda: kneighbors(POINTS, POINTS, True), "k: .* got True"),
        (lambda: kneighbors(POINTS, POINTS, None), "k: .* got None"),
        (lambda: kneighbors(POINTS, POINTS, 1, metric="minkowski", p="3"), "p: needs a finite number .* got '3'"),
        (lambda: kneighbors(POINTS, POINTS, 1, metric="minkowski", p=math.nan), "p: needs .* got nan"),
        (lambda: kneighbors(POINTS, POINTS, 1, metric=None, p=2), "p: only metric 'minkowski' takes p, got p=2"),
        (lambda: kneighbors(POINTS, POINTS, 1, metric=3), "metric: 3 is unknown; choose one of"),
        (lambda: radius_neighbors(POINTS, POINTS, "5", max_neighbors=1), "radius: needs a number from 0 up, got '5'"),
        (lambda: radius_neighbors(POINTS, POINTS, math.nan, max_neighbors=1), "radius: .* got nan"),
        (lambda: radius_neighbors(POINTS, POINTS, [1, 2], max_neighbors=1), r"radius: .* got \[1, 2\]"),
        (lambda: radius_neighbors(POINTS, POINTS, 1, max_neighbors=2.5), "max_neighbors: needs an integer .* got 2.5"),
        (lambda: vote(neighbors_at([[1, 2]]), [0, 1], 2, ks="12"), "ks: needs integers from 1 to 2, .* got '12'"),
        (lambda: vote(neighbors_at([[1, 2]]), [0, 1], 2, ks=1), "ks: needs integers from 1 to 2, .* got 1"),
        (lambda: vote(neighbors_at([[1, 2]]), [0, 1], 2, ks=()), r"ks: needs integers from 1 to 2, .* got \(\)"),
        (
            lambda: vote(neighbors_at([[1, 2]]), [0, 1], "2", ks=(1,)),
            "num_classes: needs an integer from 1 up, got '2'",
        ),
        (lambda: vote(neighbors_at([[1, 2]]), [0, 1], 2.0, ks=(1,)), "num_classes: .* got 2.0"),
        (lambda: vote(neighbors_at([[1, 2]]), [0, 5], 2, ks=(1,)), r"labels: .* from 0 to 1, got int64 \(2,\) with 5"),
        (lambda: vote(neighbors_at([[1, 2]]), [0.5, 1], 2, ks=(1,)), r"labels: .* got float64 \(2,\)"),
        (lambda: vote(neighbors_at([[1, 2]]), [], 2, ks=(1,)), r"labels: .* got float64 \(0,\)"),
        (
            lambda: vote(neighbors_at([[1, 2]]), [0, 1], 2, ks=(1,), weights="softmax", temperature="warm"),
            "temperature: needs a number above 0, got 'warm'",
        ),
        (lambda: vote(neighbors_at([[1, 2]]), [0, 1], 2, ks=(1,), temperature=math.nan), "temperature: .* got nan"),
        (lambda: kneighbors(POINTS, POINTS, 1, metric=lambda a, b: np.linalg.norm(a - b)), "metric: <lambda> must be"),
        (
            lambda: kneighbors(POINTS, POINTS, 1, metric=lambda a, b: 1.0 if a[0] > b[0] else 0.0),
            "metric: <lambda> must",
        ),
        (lambda: pairwise_distances(POINTS, POINTS, lambda a, b: jnp.float32(float(a[0]))), "metric: <lambda> must be"),
    ],
)
def test_messages_say_which_argument_what_came_and_what_is_accepted(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^{message}") as raised:
        call()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scale", [1e-320, 1e-160, 1e154, 1e300])
def test_no_warning_comes_out_at_the_ends_of_the_range(metric: str, scale: float) -> None:
    """A warning is an error here."""
    p = 3.0 if metric == "minkowski" else None
    points = scale * POINTS.astype(np.float64)
    for searched in (points, points.astype(np.float64) + scale):
        if metric in ("sqeuclidean", "dot") and scale > 1e100:
            with pytest.raises(ValueError, match="distances beyond the range of float64"):
                kneighbors(searched[:2], searched, 2, metric=metric)
        else:
            assert np.isfinite(kneighbors(searched[:2], searched, 2, metric=metric, p=p).distances).all()


def test_what_is_found_is_shown_in_one_line() -> None:
    assert repr(kneighbors(POINTS, POINTS, 3)) == "Neighbors(6 queries, 3 nearest each by l2, float32 distances)"
    assert repr(kneighbors(POINTS, POINTS, 1, metric=lambda a, b: jnp.sum(a - b))).startswith(
        "Neighbors(6 queries, 1 nearest each by <lambda>, float32"
    )


def test_an_index_of_the_first_version_is_read(tmp_path: Any) -> None:
    """Its projection was called a contraction, and what is projected its images."""
    random = np.random.default_rng(0)
    points = (random.normal(size=(9000, 4)) @ random.normal(size=(4, 256))).astype(np.float32)
    index = prepare(points)
    assert index.projection is not None
    save_index(tmp_path / "index.npz", index)
    with np.load(tmp_path / "index.npz") as file:
        arrays = dict(file)
    old = {"projection_projected": "contraction_images", "projection_": "contraction_", "projected_": "images_"}
    renamed = {}
    for name, array in arrays.items():
        prefix = next((prefix for prefix in old if name.startswith(prefix)), "")
        renamed[old.get(prefix, "") + name.removeprefix(prefix)] = array
    assert {"contraction_images", "contraction_axes", "images_norms"} <= renamed.keys()
    np.savez(tmp_path / "old.npz", **renamed)
    loaded = load_index(tmp_path / "old.npz")
    assert loaded.projection is not None
    for name, array in loaded.projection._asdict().items():
        if name != "statistics":
            np.testing.assert_array_equal(array, getattr(index.projection, name))
    np.testing.assert_array_equal(loaded.projection.statistics.norms, index.projection.statistics.norms)
