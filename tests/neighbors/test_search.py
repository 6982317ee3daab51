"""The search against a brute force: the same order and ties, whatever the blocks, the memory limit and the devices."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

from funcgrad import neighbors, sharding
from funcgrad.distances import METRICS, pairwise_distances
from funcgrad.neighbors import Neighbors, classify, kneighbors, parse_memory, prepare, radius_neighbors, vote
from funcgrad.neighbors.block_search import PointBlock, StepSpec, search_step


def brute_force(queries: np.ndarray, points: np.ndarray, k: int, metric: Any = "l2", **options: Any) -> Any:
    """The k smallest of the whole table, ties to the smaller index."""
    table = np.asarray(pairwise_distances(queries, points, metric, **options))
    order = np.argsort(table, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(table, order, axis=1), order


def few_values(shape: tuple[int, int], dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    """Vectors with so few values that distances tie often."""
    return np.random.default_rng(seed).integers(0, 3, shape).astype(dtype)


@pytest.mark.exhaustive
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_neighbors_are_the_first_by_distance_then_index(metric: str, dtype: type) -> None:
    queries, points = few_values((50, 40), dtype), few_values((333, 40), dtype, seed=1)
    p = 3.0 if metric == "minkowski" else None
    wide = np.float64 if dtype is np.float32 else dtype
    distances, indices = brute_force(queries.astype(wide), points.astype(wide), 20, metric, p=p)
    found = kneighbors(queries, points, 20, metric=metric, p=p, memory="64KiB")
    assert found.info.point_block < len(points)  # several blocks were merged
    integers = dtype is np.uint8 and metric not in ("cosine", "minkowski", "hamming")
    if not integers:
        tolerance = 1e-14 if dtype is np.float64 else 6e-8 if dtype is np.float32 else 1e-6  # float32: rounded once
        np.testing.assert_allclose(found.distances, distances, rtol=tolerance, atol=tolerance)
    if metric not in ("cosine", "minkowski"):  # the ties of these two are broken by what rounding made of them
        np.testing.assert_array_equal(found.indices, indices)
    if integers:
        np.testing.assert_array_equal(found.distances, distances)


@pytest.mark.exhaustive
@pytest.mark.parametrize("order", ["nearest first", "nearest last", "as they come", "all alike"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("memory", "least", "count"), [("60KiB", 16, 4096), ("150KiB", 512, 40_960)])
def test_many_blocks_find_the_same_whatever_each_brings(
    order: str, dtype: type, memory: str, least: int, count: int
) -> None:
    """Only where the last blocks bring little is a part of each enough: see `search_step`."""
    queries, points = few_values((7, 3), dtype), few_values((count, 3), dtype, seed=1)
    points = points + np.arange(3, dtype=dtype) * (np.arange(count) % 40 < 20)[:, None].astype(dtype)
    if order == "all alike":
        points = np.repeat(points[:1], count, axis=0)
    elif order != "as they come":
        nearest = np.argsort(brute_force(queries[:1], points, count)[1][0])
        points = points[nearest if order == "nearest first" else nearest[::-1]]
    found = kneighbors(queries, points, 40, memory=memory)
    assert least <= found.info.point_block <= len(points) // 16
    distances, indices = brute_force(queries, points, 40)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-6)


@pytest.mark.exhaustive
@settings(max_examples=12, deadline=None)
@given(
    queries=st.integers(1, 9),
    points=st.integers(1, 40),
    share=st.floats(0.01, 1),
    memory=st.sampled_from(["700B", "5KiB", "1MiB"]),
    metric=st.sampled_from(["l1", "sqeuclidean"]),
)
@example(queries=7, points=6, share=0.25, memory="700B", metric="sqeuclidean")  # too little for two at a time
def test_no_memory_limit_changes_the_answer(queries: int, points: int, share: float, memory: str, metric: str) -> None:
    a, b = few_values((queries, 3), seed=queries), few_values((points, 3), seed=points)
    k = max(1, int(share * points))
    distances, indices = brute_force(a, b, k, metric)
    found = kneighbors(a, b, k, metric=metric, memory=memory if k == 1 else "1MiB")
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_array_equal(found.distances, distances)


@pytest.mark.exhaustive
@pytest.mark.parametrize("metric", ["l1", "l2"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_any_number_of_devices_gives_the_same_answer(metric: str, dtype: type) -> None:
    queries, points = few_values((51, 40), dtype), few_values((333, 40), dtype, seed=1)
    one = kneighbors(queries, points, 9, metric=metric)
    mesh = sharding.make_mesh(2)
    for index in (points, prepare(points, metric, mesh=mesh)):
        two = kneighbors(queries, index, 9, metric=metric, mesh=mesh, memory="100KiB")
        np.testing.assert_array_equal(one.indices, two.indices)
        np.testing.assert_array_equal(one.distances, two.distances)


@pytest.mark.exhaustive
def test_numpy_memory_mapped_and_device_arrays_give_the_same_answer(tmp_path: Path) -> None:
    queries, points = few_values((20, 40)), few_values((333, 40), seed=1)
    np.save(tmp_path / "points.npy", points)
    mapped = np.load(tmp_path / "points.npy", mmap_mode="r")
    expected = kneighbors(queries, points, 9)
    for a, b in ((queries, mapped), (jnp.asarray(queries), jnp.asarray(points)), (queries, jnp.asarray(points))):
        found = kneighbors(a, b, 9, memory="50KiB")
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_array_equal(found.distances, expected.distances)


def test_images_are_flattened() -> None:
    images = few_values((30, 48)).reshape(30, 4, 4, 3)
    expected = kneighbors(images.reshape(30, -1), images.reshape(30, -1), 3)
    np.testing.assert_array_equal(kneighbors(images, images, 3).indices, expected.indices)


@pytest.mark.exhaustive
def test_images_too_large_for_31_bits_are_ranked_by_exact_integers() -> None:
    dimensions = 40_000
    points = np.full((3, dimensions), 255, np.uint8)
    points[0, 0], points[1, :2] = 253, 254  # at squared distances 4, 2 and 0 less than the largest from zero … nearly
    found = kneighbors(np.zeros((1, dimensions), np.uint8), points, 3, metric="sqeuclidean")
    squares = (points.astype(np.int64) ** 2).sum(axis=1)
    np.testing.assert_array_equal(found.distances[0], np.sort(squares))
    np.testing.assert_array_equal(found.indices[0], np.argsort(squares, kind="stable"))


def test_digits_neighbors_are_those_of_scikit_learn_except_where_distances_tie() -> None:
    images = load_digits().data.astype(np.uint8)
    train, test = images[:1437], images[1437:]
    for metric, peer in (("l1", "manhattan"), ("l2", "euclidean")):
        found = kneighbors(test, train, 11, metric=metric)
        brute = NearestNeighbors(n_neighbors=10, metric=peer, algorithm="brute").fit(train.astype(float))
        expected = brute.kneighbors(test.astype(float), return_distance=False)
        for k in (1, 3, 5, 10):
            settled = found.distances[:, k - 1] < found.distances[:, k]
            assert settled.mean() > 0.5
            same = np.sort(found.indices[:, :k], axis=1) == np.sort(expected[:, :k], axis=1)
            assert same[settled].all()


@pytest.mark.exhaustive
@pytest.mark.parametrize(("metric", "right"), [("l1", [340, 343, 343, 338]), ("l2", [344, 348, 347, 342])])
def test_digits_accuracy(metric: str, right: list[int]) -> None:
    digits = load_digits()
    images = digits.data.astype(np.uint8)
    found = kneighbors(images[1437:], images[:1437], 10, metric=metric)
    votes = vote(found, digits.target[:1437], 10, ks=(1, 3, 5, 10))
    assert (np.argmax(np.asarray(votes), axis=-1) == digits.target[1437:]).sum(axis=1).tolist() == right


def _exact_l2(queries: np.ndarray, points: np.ndarray, k: int) -> np.ndarray:
    a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (queries, points))  # products of bytes: exact
    table = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return np.argsort(table, axis=1, kind="stable")[:, :k]


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_real_images_have_the_neighbors_of_an_integer_brute_force(name: str, image_data: Path) -> None:
    from funcgrad import datasets

    data = datasets.load(name, data_dir=image_data)
    queries, points = data.test.images[:64], data.train.images[:8000]
    np.testing.assert_array_equal(kneighbors(queries, points, 10).indices, _exact_l2(queries, points, 10))
    first = queries[:4].astype(np.int64)[:, None]
    expected = np.abs(first - points[None, :2000]).reshape(4, 2000, -1).sum(-1)
    found = kneighbors(queries, points[:2000], 10, metric="l1")
    np.testing.assert_array_equal(found.indices[:4], np.argsort(expected, axis=1, kind="stable")[:, :10])


@pytest.mark.exhaustive
def test_a_users_metric_is_compiled_once_and_kept_within_memory() -> None:
    traced = []

    def metric(a: jax.Array, b: jax.Array) -> jax.Array:
        traced.append(1)
        return jnp.sum(jnp.sort(jnp.abs(a - b))[:5])  # cannot be fused: the whole (Qb, Nb, D) block is made

    queries, points = (np.random.default_rng(i).normal(size=(60, 64)).astype(np.float32) for i in range(2))
    expected = brute_force(queries, points, 5, metric)
    found = kneighbors(queries, points, 5, metric=metric, memory="300KiB")
    np.testing.assert_array_equal(found.indices, expected[1])
    assert found.info.query_block * found.info.point_block * 64 * 4 < 300 * 1024
    before = len(traced)
    kneighbors(queries, points, 5, metric=metric, memory="300KiB")
    assert len(traced) == before


@pytest.mark.exhaustive
@pytest.mark.parametrize("few", [18, 19, 20])
def test_oneself_is_no_candidate_where_the_mask_excludes_it_already(few: int) -> None:
    """Among equals a filter keeps any, so a proof that all were kept must count them right: 18 are kept for k = 10."""
    points = np.random.default_rng(0).normal(size=(8192, 4)).astype(np.float32)
    points[511 : 511 + few] = 1
    mask = np.zeros(len(points), bool)
    mask[511 : 511 + few] = True
    found = kneighbors(points, points, 10, mask=mask, exclude_self=True)
    np.testing.assert_array_equal(found.indices[:511], np.tile(np.arange(511, 521), (511, 1)))
    assert 511 not in found.indices[511]


@pytest.mark.exhaustive
def test_the_mask_and_oneself_are_left_out() -> None:
    points = few_values((40, 6))
    mask = np.arange(40) % 3 == 0
    found = kneighbors(points, points, 5, metric="l1", mask=mask, memory="2KiB")
    distances, indices = brute_force(points, points[mask], 5, "l1")
    np.testing.assert_array_equal(found.indices, np.flatnonzero(mask)[indices])
    np.testing.assert_array_equal(found.distances, distances)

    table = np.asarray(pairwise_distances(points, points, "l1")).astype(float)
    np.fill_diagonal(table, np.inf)
    found = kneighbors(points, points, 39, metric="l1", exclude_self=True, memory="8KiB")
    np.testing.assert_array_equal(found.indices, np.argsort(table, axis=1, kind="stable")[:, :39])


def test_radius_neighbors_are_all_within_the_radius() -> None:
    queries, points = few_values((10, 6)), few_values((40, 6), seed=1)
    table = np.asarray(pairwise_distances(queries, points, "l1"))
    found = radius_neighbors(queries, points, 4, max_neighbors=40, metric="l1")
    for query in range(10):
        inside = found.indices[query] >= 0
        assert set(found.indices[query, inside]) == set(np.flatnonzero(table[query] <= 4))
        assert np.isinf(found.distances[query, ~inside]).all()
    few = radius_neighbors(queries, points, 4, max_neighbors=2, metric="l1")
    np.testing.assert_array_equal(few.indices, found.indices[:, :2])
    many = radius_neighbors(queries, points, 4, max_neighbors=50, metric="l1")
    np.testing.assert_array_equal(many.indices, np.pad(found.indices, ((0, 0), (0, 10)), constant_values=-1))
    assert np.isinf(many.distances[:, 40:]).all()


def test_an_index_is_saved_loaded_and_a_pytree(tmp_path: Path) -> None:
    points = few_values((40, 6))
    index = prepare(points, "minkowski", p=3.0)
    neighbors.save_index(tmp_path / "index.npz", index)
    loaded = neighbors.load_index(tmp_path / "index.npz")
    assert (loaded.metric, loaded.p) == ("minkowski", 3.0)
    expected = kneighbors(points, points, 4, metric="minkowski", p=3.0)
    for one in (index, loaded, jax.tree.map(jnp.asarray, index)):
        np.testing.assert_array_equal(kneighbors(points, one, 4).indices, expected.indices)
    with pytest.raises(ValueError, match="only a named metric can be saved"):
        neighbors.save_index(tmp_path / "other.npz", prepare(points, lambda a, b: jnp.sum(a - b)))
    assert not (tmp_path / "other.npz").exists()


@pytest.mark.exhaustive
def test_progress_counts_the_queries() -> None:
    seen: list[tuple[int, int]] = []
    kneighbors(few_values((50, 40)), few_values((9, 40)), 1, memory="4KiB", progress=lambda *done: seen.append(done))
    assert seen[-1] == (50, 50)
    assert len(seen) > 1
    assert seen == sorted(seen)


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_products_of_many_bytes_keep_their_order(dtype: type) -> None:
    limits = np.iinfo(dtype)
    query = np.full((1, 30_000), limits.max, dtype)
    points = np.stack([np.full(30_000, x, dtype) for x in (limits.min, 1, limits.max, 0)])
    found = kneighbors(query, points, 4, metric="dot")
    products = query.astype(int) @ points.astype(int).T
    np.testing.assert_array_equal(found.indices[0], np.argsort(-products[0], kind="stable"))
    np.testing.assert_array_equal(found.distances[0], np.sort(-products[0]))


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.uint32, np.int32])
def test_a_users_metric_may_give_any_integer(dtype: type) -> None:
    """Extremes among them, which have no negative, or no float32 of their own."""
    few = np.array([0, 1], bool) if dtype is bool else np.array([np.iinfo(dtype).min, 3, np.iinfo(dtype).max - 1])
    values = jnp.asarray(few.astype(dtype))
    points = np.array([[2.0], [1.0], [0.0], [1.0]], np.float32) % len(few)
    found = kneighbors(np.zeros((1, 1)), points, 4, metric=lambda a, b: values[b[0].astype(int)])
    expected = few[points[:, 0].astype(int)]
    np.testing.assert_array_equal(found.indices[0], np.argsort(expected, kind="stable"))
    np.testing.assert_array_equal(found.distances[0], np.sort(expected))


def test_integers_of_16_bits_and_mixed_bytes_are_ranked_exactly() -> None:
    query = np.zeros((1, 3072), np.uint16)
    points = np.full((2, 3072), 200, np.uint16)
    points[:, 0] = 2, 1  # their squared distances differ by 3 of 10⁸
    assert kneighbors(query, points, 2, metric="sqeuclidean").indices.tolist() == [[1, 0]]
    assert kneighbors(query.astype("u1"), (points // 2).astype("i1"), 2).indices.tolist() == [[1, 0]]


def test_the_index_decides_the_metric_and_any_other_is_refused() -> None:
    rng = np.random.default_rng(0)
    points, queries, labels = rng.normal(size=(50, 3)), rng.normal(size=(9, 3)), np.arange(50) % 4
    index, third = prepare(points, "l1"), prepare(points, "minkowski", p=3)
    expected = kneighbors(queries, points, 1, metric="l1")
    assert (kneighbors(queries, points, 1).distances != expected.distances).any()  # euclidean, where nothing is said
    for metric in (None, "l1", "manhattan"):
        np.testing.assert_array_equal(kneighbors(queries, index, 1, metric=metric).distances, expected.distances)
    assert kneighbors(queries, third, 1).info.metric == "minkowski"
    assert kneighbors(queries, third, 1, metric="minkowski", p=3).info.metric == "minkowski"
    searches: list[Callable[..., Any]] = [
        lambda index, **options: kneighbors(queries, index, 1, **options),
        lambda index, **options: radius_neighbors(queries, index, 1.0, max_neighbors=2, **options),
        lambda index, **options: classify(queries, index, labels, 1, **options),
    ]
    for search in searches:
        for metric in ("l2", "euclidean", "cosine"):
            with pytest.raises(ValueError, match=f"^metric: the index was prepared for 'l1', got '{metric}'$"):
                search(index, metric=metric)
        with pytest.raises(ValueError, match=r"^p: the index was prepared with p=3, got p=4$"):
            search(third, metric="minkowski", p=4)
        with pytest.raises(TypeError, match="unexpected keyword argument 'devices'"):
            search(index, devices=2)


def test_an_index_of_half_precision_is_saved(tmp_path: Path) -> None:
    index = prepare(jnp.ones((3, 2), jnp.bfloat16))
    neighbors.save_index(tmp_path / "index.npz", index)
    np.testing.assert_array_equal(neighbors.load_index(tmp_path / "index.npz").points, np.ones((3, 2)))


# Floats: the certificate. What data it withstands is in test_adversarial.py.


def two_clusters(rng: np.random.Generator) -> np.ndarray:
    return np.where(np.arange(400)[:, None] % 2, 3000.0, -3000.0) + rng.normal(size=(400, 24))


def test_what_cannot_be_proved_is_searched_again_and_info_says_so() -> None:
    easy = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
    assert kneighbors(easy, easy, 3).info[-2:] == (0, 0)
    apart = two_clusters(np.random.default_rng(0)).astype(np.float32)
    found = kneighbors(apart, apart, 3)
    assert found.info.searched_again > 0  # float32 is not enough
    assert found.info.brute_forced == 0  # and float64 is
    same = np.zeros((500, 8), np.float32)
    found = kneighbors(same[:5], same, 3)
    assert found.info.brute_forced == 5
    assert (found.indices == [0, 1, 2]).all()


@pytest.mark.exhaustive
def test_fast_finds_the_same_where_nothing_is_close() -> None:
    points = np.random.default_rng(0).normal(size=(300, 16)).astype(np.float32)
    for metric in ("l1", "l2", "sqeuclidean", "cosine", "dot"):
        exact, fast = (kneighbors(points[:20], points, 5, metric=metric, precision=p) for p in ("exact", "fast"))
        assert (exact.indices == fast.indices).mean() > 0.99
        np.testing.assert_allclose(exact.distances[:, 1:], fast.distances[:, 1:], rtol=1e-3, atol=1e-5)


# Votes.


def neighbors_at(distances: list[list[float]]) -> Neighbors:
    array = np.array(distances, np.float32)
    indices = np.broadcast_to(np.arange(array.shape[1], dtype=np.int32), array.shape)
    return Neighbors(array, indices, neighbors.Info("l2", "exact", "float32", 1, 1))


def test_votes_by_distance_need_more_digits_than_a_float32_has() -> None:
    far = neighbors_at([[0, 0, 0]])._replace(distances=np.array([[10**8, 10**8 + 1, 10**8 + 2]]))
    assert int(jnp.argmax(vote(far, [1, 0, 0], 2, ks=(3,), weights="softmax"))) == 1
    near = neighbors_at([[0, 0, 0]])._replace(distances=np.array([[0.0, 1e-50, 1e-50]]))
    assert int(jnp.argmax(vote(near, [1, 0, 0], 2, ks=(3,), weights="distance"))) == 1


@pytest.mark.parametrize("weights", ["uniform", "distance", "softmax", lambda distances: 1 + distances])
@pytest.mark.parametrize(("dtype", "of_votes"), [("float32", "float32"), ("float64", "float64"), ("int32", "float64")])
def test_votes_have_the_digits_of_the_distances(weights: Any, dtype: str, of_votes: str) -> None:
    found = neighbors_at([[3, 7, 11]])._replace(distances=np.array([[3, 7, 11]], dtype))
    votes = vote(found, [0, 1, 1], 2, ks=(3,), weights=weights)
    assert votes.dtype == of_votes
    function = {"uniform": np.ones_like, "distance": np.reciprocal, "softmax": lambda d: np.exp((3 - d) / 0.07)}
    expected = (function[weights] if isinstance(weights, str) else weights)(np.array([3.0, 7.0, 11.0]))
    np.testing.assert_allclose(
        votes[0, 0], [expected[0], expected[1:].sum()], rtol=float(np.finfo(of_votes).eps) * 1000
    )


def test_a_tie_goes_to_the_smaller_label() -> None:
    votes = vote(neighbors_at([[1, 2, 3, 4]]), [2, 1, 1, 2], 3, ks=(1, 2, 4))
    np.testing.assert_array_equal(votes[:, 0], [[0, 0, 1], [0, 1, 1], [0, 2, 2]])
    np.testing.assert_array_equal(np.argmax(votes, axis=-1)[:, 0], [2, 1, 1])


def test_exact_matches_outvote_all_others() -> None:
    found = neighbors_at([[0, 1e-9, 1e-9, 1e-9], [0.5, 1, 1, 2]])
    votes = vote(found, [1, 0, 0, 0], 2, ks=(1, 4), weights="distance")
    np.testing.assert_array_equal(votes[:, 0], [[0, 1], [0, 1]])
    np.testing.assert_allclose(votes[1, 1], [2.5, 2.0])


def test_softmax_votes_are_the_exponentials_of_the_similarities() -> None:
    distances = np.array([[0.1, 0.15, 0.3]])
    votes = np.asarray(
        vote(neighbors_at(distances.tolist()), [0, 1, 1], 2, ks=(3,), weights="softmax", temperature=0.07)
    )
    similarity = np.exp((1 - distances[0]) / 0.07)
    expected = np.array([similarity[0], similarity[1:].sum()])
    np.testing.assert_allclose(votes[0, 0] / votes[0, 0].sum(), expected / expected.sum(), rtol=1e-5)


def test_weights_may_be_a_function_and_no_neighbor_has_no_vote() -> None:
    found = neighbors_at([[1, 2, np.inf]])._replace(indices=np.array([[0, 1, -1]], np.int32))
    votes = vote(found, [0, 1, 1], 2, ks=(3,), weights=lambda distances: 10 - distances)
    np.testing.assert_array_equal(votes[0, 0], [9, 8])


@pytest.mark.exhaustive
@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_classify_agrees_with_scikit_learn(weights: str) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    rng = np.random.default_rng(0)
    points, queries = rng.normal(size=(200, 5)).astype(np.float32), rng.normal(size=(50, 5)).astype(np.float32)
    labels = rng.integers(0, 4, 200)
    peer = KNeighborsClassifier(7, weights=weights, algorithm="brute").fit(points, labels)
    np.testing.assert_array_equal(classify(queries, points, labels, 7, weights=weights), peer.predict(queries))


# What is refused.

POINTS = np.zeros((5, 2), np.float32)


def not_a_number(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.sum(a) / jnp.sum(b)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kneighbors(POINTS, POINTS, 0), "k: needs an integer from 1 to 5, .* got 0"),
        (lambda: kneighbors(POINTS, POINTS, 6), "got 6"),
        (lambda: kneighbors(POINTS, POINTS, 5, exclude_self=True), "from 1 to 4"),
        (lambda: kneighbors(POINTS, POINTS, 3, mask=np.arange(5) < 2), "from 1 to 2"),
        (lambda: kneighbors(POINTS, POINTS, 2.0), "k: needs an integer"),
        (lambda: kneighbors(POINTS[:2], POINTS, 1, exclude_self=True), "exclude_self: the queries must be the points"),
        (lambda: kneighbors(POINTS, POINTS, 1, mask=np.ones(5)), "mask: needs shape .5,. and dtype bool"),
        (lambda: kneighbors(POINTS, POINTS[:, :1], 1), "queries: have 2 dimensions, the points have 1"),
        (
            lambda: kneighbors(POINTS, POINTS, 1, precision="best"),
            "precision: 'best' is unknown; choose one of exact, fast",
        ),
        (lambda: kneighbors(POINTS, POINTS, 1, memory="some"), "memory: 'some' is no size"),
        (
            lambda: kneighbors(POINTS, POINTS, 1, memory=10),
            "memory: 10 bytes is too little for one query and one point",
        ),
        (lambda: kneighbors(POINTS * np.nan, POINTS, 1), "queries: NaN or infinity in 5 of 5 rows: 0, 1, 2, 3, 4"),
        (lambda: kneighbors(POINTS, POINTS + np.inf, 1), "points: NaN or infinity in 5 of 5 rows"),
        (lambda: kneighbors(POINTS, POINTS, 1, metric=not_a_number), "metric: gave NaN or −∞ for query 0 and point 0"),
        (lambda: kneighbors(POINTS, POINTS, 1, metric=lambda a, b: a - b), "metric: must give one number"),
        (
            lambda: kneighbors(POINTS, POINTS + 1e30, 1, metric="sqeuclidean"),
            "points: distances beyond the range of float32",
        ),
        (
            lambda: kneighbors(POINTS + 3e38, POINTS - 3e38, 1, precision="fast", metric="l1"),
            "points: distances beyond the range of float32",
        ),
        (lambda: radius_neighbors(POINTS, POINTS, -1, max_neighbors=2), "radius: needs a number from 0 up, got -1"),
        (lambda: vote(neighbors_at([[1, 2]]), [0, 1], 2, ks=(3,)), "ks: needs integers from 1 to 2"),
        (lambda: vote(neighbors_at([[1, 2]]), [0, 1], 2, ks=(1,), weights="best"), "weights: 'best' is unknown"),
        (lambda: vote(neighbors_at([[1, 2]]), [0, 2], 2, ks=(1,)), "labels: needs integers .* from 0 to 1"),
        (
            lambda: vote(neighbors_at([[1, 2]]), [0, 1], 2, ks=(1,), temperature=0),
            "temperature: needs a number above 0, got 0",
        ),
        (lambda: vote(neighbors_at([[1, 2]]), [0, 1], 2, ks=(1.5,)), "ks: needs integers"),
        (lambda: vote(neighbors_at([[1, 2]]), [0], 2, ks=(1,)), "labels: needs one for each point, got 1"),
        (lambda: vote(neighbors_at([[-1, 2]]), [0, 1], 2, ks=(1,), weights="distance"), "distances from 0 up"),
        (lambda: kneighbors(POINTS, POINTS, 1, metric=lambda a, b: jnp.inf + a[0]), "metric: gave infinity"),
        (
            lambda: radius_neighbors(POINTS, POINTS, 1, max_neighbors=0),
            "max_neighbors: needs an integer from 1 up, got 0",
        ),
        (
            lambda: classify(POINTS, POINTS, [0, 1], 1),
            "labels: needs a whole number from 0 for each of the 5 points, got int64 .2,.: .0, 1.",
        ),
        (
            lambda: classify(POINTS, POINTS, list("abcde"), 1),
            "labels: needs a whole .* got <U1 .5,.: .'a', 'b', 'c'., …",
        ),
        (lambda: classify(POINTS, POINTS, [0, 1, 2, -1, 0], 1), "labels: needs a whole number from 0"),
        (lambda: classify(POINTS, POINTS, 0, 1), r"labels: needs a whole .* got int64 \(\): .0., …"),
    ],
)
def test_errors_name_the_argument(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("text", "size"), [("1GiB", 2**30), ("2 GB", 2 * 10**9), (1000, 1000), ("1.5KiB", 1536)])
def test_memory_sizes(text: str | int, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("metric", "dtype"), [("l1", np.uint8), ("l2", np.uint8), ("l2", np.float32), ("cosine", np.float32)]
)
def test_the_search_lowers_for_every_platform(metric: str, dtype: type) -> None:
    products = metric in ("l2", "cosine") and dtype == np.float32
    spec = StepSpec(5, metric, None, products, True, None, shortlist=2)
    shape = jax.ShapeDtypeStruct
    best = shape((40, 5), np.float32), shape((40, 5), np.int32)
    terms = shape((96,), dtype)
    points = PointBlock(shape((96, 64), dtype), shape((96,), np.int32), terms, terms)
    step = jax.jit(lambda *x: search_step(*x, spec=spec))
    exported = jax.export.export(step, platforms=("cpu", "cuda", "tpu"))(
        shape((40, 96), np.float32), shape((40, 64), dtype), shape((40,), np.int32), *best, points
    )
    assert exported.platforms == ("cpu", "cuda", "tpu")
