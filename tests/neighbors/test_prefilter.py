"""Contractions: no bound is above a distance, and searches that start with their images give the same as all others."""

from pathlib import Path
from typing import Any

import adversarial_cases as cases
import jax
import numpy as np
import pytest

from funcgrad import datasets, neighbors, sharding
from funcgrad.neighbors import bounds as certified
from funcgrad.neighbors import kneighbors, prepare
from funcgrad.neighbors import merge_step as blocks
from funcgrad.neighbors import prefilter as contractions
from funcgrad.neighbors import strategies as search
from funcgrad.neighbors.prefilter import Contraction

METRICS = ("l1", "l2", "sqeuclidean", "cosine")
DIMENSIONS = 256
slow = pytest.mark.exhaustive


def pictures(count: int, dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    """Smooth rows (count, 256): sums of a few waves, as photographs nearly are, and some noise."""
    rng = np.random.default_rng(seed)
    places = np.arange(DIMENSIONS) / DIMENSIONS
    waves = np.stack([np.cos(np.pi * (number + 1) * places) / (number + 1) for number in range(10)])
    smooth = rng.normal(size=(count, 10)) @ waves
    rows = 128 + 45 * (smooth + 0.03 * rng.normal(size=smooth.shape))
    return np.clip(rows, 0, 255).astype(dtype)


def contract(points: Any, metric: str) -> Contraction | None:
    return contractions.contract(points, metric, 2**29)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Makes sizes of tests large enough for a contraction; the metrics of the searches that began with one."""
    monkeypatch.setattr(contractions, "_POINTS", 512)
    monkeypatch.setattr(contractions, "_PART", 2)
    monkeypatch.setattr("funcgrad.neighbors.search._MANY_QUERIES", 1)
    began, contracted_filter = [], search._contracted_filter

    def noted(task: search.Task, *others: Any) -> Any:
        began.append(str(task.metric))
        return contracted_filter(task, *others)

    monkeypatch.setattr(search, "_contracted_filter", noted)
    return began


def plain(points: np.ndarray, metric: str) -> neighbors.Index:
    return prepare(points, metric, queries=0)


FEW = [("l1", "uint8"), ("l2", "float32")]
ALL = [(metric, dtype) for dtype in ("uint8", "int8", "float32", "float64") for metric in METRICS]


@pytest.mark.parametrize(("metric", "dtype"), [pytest.param(*x, marks=[] if x in FEW else [slow]) for x in ALL])
def test_no_bound_is_above_a_distance_and_most_are_near(small: list[str], metric: str, dtype: str) -> None:
    shift = 128 if dtype == "int8" else 0
    points, queries = (
        (pictures(count, np.float64, seed) - shift).astype(dtype) for count, seed in ((1500, 0), (20, 1))
    )
    made = contract(points, metric)
    assert made is not None
    images, errors = contractions.images_of(queries, metric, made)
    exact, wide = images.astype(np.longdouble), made.images.astype(np.longdouble)
    numbers = np.stack([np.abs(a - wide).sum(1) if metric == "l1" else ((a - wide) ** 2).sum(1) for a in exact])
    bounds = contractions.lower_distances(numbers.astype(np.float64), errors, metric, made)
    distances = cases.table(queries, points, metric)
    assert (bounds <= distances * (1 + 1e-15) + (1e-16 if metric == "cosine" else 0)).all()
    assert np.median(bounds / distances) > 0.8


@slow
@pytest.mark.parametrize(("metric", "dtype"), ALL)
def test_the_same_neighbors_are_found(small: list[str], metric: str, dtype: str) -> None:
    points, queries = (pictures(count, seed=seed) for count, seed in ((4000, 0), (200, 1)))
    points[3000:3100] = points[:100]  # equal distances: the smaller index comes first
    queries[:50] = points[:50]
    points, queries = (((x.astype(np.int16) - 128) if dtype == "int8" else x).astype(dtype) for x in (points, queries))
    index = prepare(points, metric)
    assert index.contraction is not None
    found, expected = (
        kneighbors(queries, index, 5, metric=metric),
        kneighbors(queries, plain(points, metric), 5, metric=metric),
    )
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.distances, expected.distances)
    assert found.distances.dtype == expected.distances.dtype
    assert small == [metric]
    assert found.info.searched_again < 100


@slow
@pytest.mark.parametrize("metric", METRICS)
def test_masks_and_the_points_themselves(small: list[str], metric: str) -> None:
    points = pictures(2000)
    index, other = prepare(points, metric), plain(points, metric)
    mask = np.random.default_rng(2).random(len(points)) < 0.5
    options: list[dict[str, Any]] = [{"exclude_self": True}, {"mask": mask, "exclude_self": True}]
    for some in options:
        found, expected = (kneighbors(points, x, 3, metric=metric, **some) for x in (index, other))
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_array_equal(found.distances, expected.distances)
    few = np.zeros(len(points), bool)
    few[::500] = True  # fewer than are kept
    assert kneighbors(points[1:3], index, 4, metric=metric, mask=few).info.searched_again == 0
    assert small == 3 * [metric]


@slow
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("odd", ["noise", "far", "zeros", "tiny"])
def test_queries_unlike_the_points_are_found_all_the_same(small: list[str], metric: str, odd: str) -> None:
    points, rng = pictures(2000, np.float64), np.random.default_rng(5)
    queries = {
        "noise": 255 * rng.random((100, DIMENSIONS)),
        "far": points[:100] * 1e150,
        "zeros": np.zeros((100, DIMENSIONS)),
        "tiny": points[:100] * 1e-300,
    }[odd]
    index = prepare(points, metric)
    assert index.contraction is not None
    done: list[tuple[int, int]] = []
    found = kneighbors(queries, index, 3, metric=metric, progress=lambda *some: done.append(some))
    expected = kneighbors(queries, plain(points, metric), 3, metric=metric)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.distances, expected.distances)
    assert done == sorted(set(done))
    assert done[-1] == (100, 100)
    assert small == [metric]


@slow
def test_a_filter_that_proves_little_is_left(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    points, queries = pictures(2000, np.float64), 1e150 * pictures(100, np.float64, seed=1)  # that have no images
    index = prepare(points, "l2")
    searched: list[int] = []
    images_of = contractions.images_of

    def counted(x: np.ndarray, *others: Any) -> Any:
        searched.append(len(x))
        return images_of(x, *others)

    monkeypatch.setattr(contractions, "images_of", counted)
    monkeypatch.setattr(blocks, "_QUERY_BLOCK", 32)
    monkeypatch.setattr(blocks, "_TOGETHER", 1)
    found = kneighbors(queries, index, 3)
    assert 0 < sum(searched) < 50
    assert found.info.searched_again == len(queries)


@slow
@pytest.mark.parametrize("metric", METRICS)
def test_what_is_not_like_pictures_has_no_contraction(small: list[str], metric: str) -> None:
    rng = np.random.default_rng(0)
    assert contract(rng.random((2000, DIMENSIONS)), metric) is None
    assert contract(np.ones((2000, DIMENSIONS)), metric) is None
    for scale in (1e200, 1e-200):
        assert (contract(pictures(2000, np.float64) * scale, metric) is None) == (metric != "cosine")
    assert contract(pictures(400), metric) is None
    assert contract(pictures(2000)[:, ::2], metric) is None
    assert contract(pictures(2000), "dot") is None
    assert contract(jax.numpy.asarray(pictures(2000)), metric) is None  # on a device, as far as can be told


@slow
@pytest.mark.parametrize("metric", ["l1", "l2"])
def test_one_far_point_would_spoil_all_bounds(small: list[str], metric: str) -> None:
    points = pictures(4000, np.float64)
    for far in (1e170, 1e6):
        points[1234] = far
        assert contract(points, metric) is None
    points[1234] = 250
    index = prepare(points, metric)
    found, expected = (kneighbors(points[1230:1240], x, 3, metric=metric) for x in (index, plain(points, metric)))
    np.testing.assert_array_equal(found.indices, expected.indices)
    assert small == [metric]


@slow
def test_scales_far_from_one(small: list[str]) -> None:
    for scale in (1e60, 1e-60):
        points = pictures(2000, np.float64) * scale
        index = prepare(points, "l2")
        found, expected = (kneighbors(points[:10], x, 3) for x in (index, plain(points, "l2")))
        np.testing.assert_array_equal(found.indices, expected.indices)
    assert small == ["l2", "l2"]
    points = pictures(2000, np.float64)
    points[::2, 3], points[1::2, 3] = 1.7e308, -1.7e308
    assert contract(points, "l2") is None


@slow
def test_few_are_allowed_and_the_query_is_far(small: list[str]) -> None:
    points = pictures(2000, np.float64)
    mask = np.zeros(len(points), bool)
    mask[100:110] = True
    found = kneighbors(1e150 * points[:2], prepare(points, "l2"), 10, mask=mask)
    assert sorted(found.indices[0]) == list(range(100, 110))
    assert small == ["l2"]


def test_constant_and_paired_features(small: list[str]) -> None:
    columns = np.random.default_rng(0).normal(size=(100, 4))
    both = np.concatenate([columns, columns + 1e-6], axis=1)
    pairs = contractions._pairs(both)
    assert sorted(tuple(sorted(pair)) for pair in pairs.tolist()) == [(i, i + 4) for i in range(4)]
    constant = contractions._pairs(np.zeros((10, 201)))
    assert len(np.unique(constant)) == 200  # the odd one is left


@slow
def test_where_it_would_not_pay(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    points = pictures(2000)
    assert prepare(points, "l1").contraction is not None
    assert prepare(points, "l1", mesh=sharding.make_mesh(points=2)).contraction is None
    monkeypatch.setattr("funcgrad.neighbors.search._MANY_QUERIES", 100)
    assert prepare(points, "l1", queries=99).contraction is None
    assert prepare(points, "l1", queries=100).contraction is not None
    needed = contractions._bytes(2000, DIMENSIONS, "l1")
    monkeypatch.setattr("funcgrad.neighbors.search._MOST_BYTES", needed - 1)
    assert prepare(points, "l1").contraction is None


@slow
def test_it_counts_to_the_memory_of_a_search(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    points, limits = pictures(2000), []
    images_of_points = prepare(points, "l2").contraction
    assert images_of_points is not None
    fit_to_memory = search.fit_to_memory

    def fitted(*arguments: Any) -> Any:
        limits.append(arguments[-1])
        return fit_to_memory(*arguments)

    monkeypatch.setattr(search, "fit_to_memory", fitted)
    kneighbors(points[:10], points, 3, memory="64MiB")
    left = 64 * 2**20 - images_of_points.images.nbytes
    assert left / 2 < limits[0] < left - left // 4  # the quarter is for candidates
    needed = contractions._bytes(2000, DIMENSIONS, "l2")
    kneighbors(points[:10], points, 3, memory=2 * needed - 2)  # less than half is for a contraction
    assert limits[-1] == 2 * needed - 2
    index, left = neighbors.index_for(points, "l2", None, k=200, queries=10, memory="1MiB")
    assert index.contraction is None
    assert left == 2**20


@slow
def test_too_many_neighbors_for_it(small: list[str]) -> None:
    points = pictures(2000)
    index = prepare(points, "l2")
    found, expected = (kneighbors(points[:20], x, 500) for x in (index, plain(points, "l2")))
    np.testing.assert_array_equal(found.indices, expected.indices)
    assert found.info == expected.info
    assert not small


@slow
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_it_is_saved_with_its_index(small: list[str], tmp_path: Path, metric: str, dtype: type) -> None:
    points, queries = pictures(2000, dtype), pictures(20, dtype, seed=1)
    index = prepare(points, metric)
    neighbors.save_index(tmp_path / "index.npz", index)
    read = neighbors.load_index(tmp_path / "index.npz")
    for a, b in zip(jax.tree.leaves(index), jax.tree.leaves(read), strict=True):
        np.testing.assert_array_equal(a, b)
    assert jax.tree.structure(index) == jax.tree.structure(read)
    found, expected = (kneighbors(queries, x, 3, metric=metric) for x in (read, index))
    assert found.info == expected.info
    np.testing.assert_array_equal(found.indices, expected.indices)
    placed = jax.tree.map(jax.numpy.asarray, index) if dtype is np.float32 else index
    np.testing.assert_array_equal(kneighbors(queries, placed, 3, metric=metric).indices, expected.indices)
    assert small == (3 if placed is index else 2) * [metric]  # JAX has rounded what bounds were proved with


@slow
@pytest.mark.parametrize(("metric", "dtype"), [("l1", np.uint8), ("l2", np.uint8), ("cosine", np.float32)])
def test_photographs(image_data: Path, metric: str, dtype: type) -> None:
    data = datasets.load("cifar10", data_dir=image_data, limit_train=8_192, limit_test=100)
    points, queries = (x.images.reshape(len(x.images), -1).astype(dtype) for x in (data.train, data.test))
    index = prepare(points, metric)
    assert index.contraction is not None
    found, expected = (kneighbors(queries, x, 10, metric=metric) for x in (index, plain(points, metric)))
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.distances, expected.distances)
    assert found.info.searched_again < 30


def test_first_rounds_measure_few() -> None:
    """Where bounds are as good as distances, no more than the k nearest and the next round are measured."""
    points, queries = np.arange(100.0)[:, None], np.zeros((1, 1))
    lower, indices = np.arange(64.0)[None], np.arange(64, dtype=np.int32)[None]
    measured: list[int] = []

    def counted(a: Any, b: Any, pairs: Any, *others: Any) -> Any:
        measured.extend(pairs[1].tolist())
        return np.abs(a[pairs[0]] - b[pairs[1]])[:, 0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certified, "pair_distances", counted)
        found = certified.certify(queries, points, lower, indices, np.zeros(1), 3, "l1", None, 100)
    assert found.proved.all()
    assert sorted(measured) == [0, 1, 2]
