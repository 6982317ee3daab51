"""Projections: no bound is above a distance, and searches that begin with one give the same as all others."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import adversarial_cases as cases
import jax
import numpy as np
import pytest

from funcgrad import datasets, neighbors, sharding
from funcgrad.neighbors import kneighbors, prefilter, prepare
from funcgrad.neighbors.prefilter import Projection, bytes_needed, make_projection, pair_columns
from funcgrad.neighbors.tuning import Tuning

METRICS = ("l1", "l2", "sqeuclidean", "cosine")
DIMENSIONS = 256
SMALL = Tuning(
    projection_min_points=512, min_points_per_candidate=2, projection_min_queries=1
)  # sizes of tests will do
slow = pytest.mark.exhaustive


def pictures(count: int, dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    """Smooth rows (count, 256): sums of a few waves, as photographs nearly are, and some noise."""
    rng = np.random.default_rng(seed)
    places = np.arange(DIMENSIONS) / DIMENSIONS
    waves = np.stack([np.cos(np.pi * (number + 1) * places) / (number + 1) for number in range(10)])
    smooth = rng.normal(size=(count, 10)) @ waves
    rows = 128 + 45 * (smooth + 0.03 * rng.normal(size=smooth.shape))
    return np.clip(rows, 0, 255).astype(dtype)


def projection_of(points: Any, metric: str) -> Projection | None:
    return make_projection(points, metric, 2**29, SMALL)


def prepared(points: np.ndarray, metric: str) -> neighbors.Index:
    index = prepare(points, metric, tuning=SMALL)
    assert index.projection is not None
    return index


def plain(points: np.ndarray, metric: str) -> neighbors.Index:
    return prepare(points, metric, queries=0)


def begins_with_projection(queries: Any, index: neighbors.Index, k: int, **options: Any) -> bool:
    """With errors without limit, a projection proves nothing: if it is used, all queries are searched again."""
    assert index.projection is not None
    useless = replace(index, projection=index.projection._replace(error=np.inf))
    again = kneighbors(queries, useless, k, metric=index.metric, tuning=SMALL, **options).info.searched_again
    assert again in (0, len(queries))
    return again > 0


def check_same(queries: Any, index: neighbors.Index, k: int, **options: Any) -> neighbors.Neighbors:
    """Raises unless a search by projection finds what one without does."""
    metric = index.metric
    found = kneighbors(queries, index, k, metric=metric, tuning=SMALL, **options)
    expected = kneighbors(queries, plain(np.asarray(index.points), metric), k, metric=metric, **options)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.distances, expected.distances)
    assert found.distances.dtype == expected.distances.dtype
    return found


# Each metric and each dtype twice.
PAIRS = [
    *(("l1", "uint8"), ("l1", "float64"), ("l2", "float32"), ("l2", "int8")),
    *(("sqeuclidean", "uint8"), ("sqeuclidean", "float32"), ("cosine", "int8"), ("cosine", "float64")),
]
DEFAULT = PAIRS[0], PAIRS[2]


@pytest.mark.parametrize(("metric", "dtype"), [pytest.param(*x, marks=[] if x in DEFAULT else [slow]) for x in PAIRS])
def test_no_bound_is_above_a_distance_and_most_are_near(metric: str, dtype: str) -> None:
    shift = 128 if dtype == "int8" else 0
    points, queries = (
        (pictures(count, np.float64, seed) - shift).astype(dtype) for count, seed in ((1500, 0), (20, 1))
    )
    projection = projection_of(points, metric)
    assert projection is not None
    projected, errors = prefilter.project(queries, metric, projection)
    exact, wide = projected.astype(np.longdouble), projection.projected.astype(np.longdouble)
    numbers = np.stack([np.abs(a - wide).sum(1) if metric == "l1" else ((a - wide) ** 2).sum(1) for a in exact])
    bounds = prefilter.lower_distances(numbers.astype(np.float64), errors, metric, projection)
    distances = cases.table(queries, points, metric)
    assert (bounds <= distances * (1 + 1e-15) + (1e-16 if metric == "cosine" else 0)).all()
    assert np.median(bounds / distances) > 0.8


@pytest.mark.parametrize(("metric", "dtype"), [pytest.param(*x, marks=[] if x == PAIRS[0] else [slow]) for x in PAIRS])
def test_the_same_neighbors_are_found(metric: str, dtype: str) -> None:
    points, queries = (pictures(count, seed=seed) for count, seed in ((4000, 0), (200, 1)))
    points[3000:3100] = points[:100]  # equal distances: the smaller index comes first
    queries[:50] = points[:50]
    points, queries = (((x.astype(np.int16) - 128) if dtype == "int8" else x).astype(dtype) for x in (points, queries))
    index = prepared(points, metric)
    assert check_same(queries, index, 5).info.searched_again < 100
    assert begins_with_projection(queries, index, 5)


@slow
@pytest.mark.parametrize("metric", METRICS)
def test_masks_and_the_points_themselves(metric: str) -> None:
    points = pictures(2000)
    index = prepared(points, metric)
    mask = np.random.default_rng(2).random(len(points)) < 0.5
    check_same(points, index, 3, exclude_self=True)
    check_same(points, index, 3, mask=mask, exclude_self=True)
    few = np.zeros(len(points), bool)
    few[::500] = True  # fewer than there are candidates
    assert kneighbors(points[1:3], index, 4, metric=metric, mask=few, tuning=SMALL).info.searched_again == 0
    assert begins_with_projection(points, index, 3, mask=mask, exclude_self=True)


ODD = {
    "noise": lambda points, rng: 255 * rng.random((100, DIMENSIONS)),
    "far": lambda points, rng: points[:100] * 1e150,
    "zeros": lambda points, rng: np.zeros((100, DIMENSIONS)),
    "tiny": lambda points, rng: points[:100] * 1e-300,
}


@slow
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("odd", ODD)
def test_queries_unlike_the_points_are_found_all_the_same(metric: str, odd: str) -> None:
    points = pictures(2000, np.float64)
    queries = ODD[odd](points, np.random.default_rng(5))
    index = prepared(points, metric)
    done: list[tuple[int, int]] = []
    kneighbors(queries, index, 3, metric=metric, tuning=SMALL, progress=lambda *numbers: done.append(numbers))
    assert done == sorted(done)
    assert done[-1] == (100, 100)
    check_same(queries, index, 3)
    assert begins_with_projection(queries, index, 3)


class Counted(np.ndarray):
    """An array that counts how often each of its rows is read."""

    reads = np.zeros(0, int)

    def __getitem__(self, key: Any) -> np.ndarray:
        self.reads[key] += 1
        return np.asarray(self)[key]


@slow
def test_a_filter_that_proves_little_is_left() -> None:
    points, queries = (
        pictures(2000, np.float64),
        1e150 * pictures(100, np.float64, seed=1),
    )  # far out of range
    index = prepared(points, "l2")
    Counted.reads = np.zeros(len(queries), int)
    found = kneighbors(queries.view(Counted), index, 3, memory="256KiB", tuning=SMALL)
    assert found.info.query_block < 50
    assert found.info.searched_again == len(queries)
    assert Counted.reads[0] > Counted.reads[50] == Counted.reads[-1] > 0  # the first block is tried, and no other


@slow
@pytest.mark.parametrize("metric", METRICS)
def test_vectors_unlike_pictures_have_no_projection(metric: str) -> None:
    rng = np.random.default_rng(0)
    assert projection_of(rng.random((2000, DIMENSIONS)), metric) is None
    assert projection_of(np.ones((2000, DIMENSIONS)), metric) is None
    for scale in (1e200, 1e-200):
        assert (projection_of(pictures(2000, np.float64) * scale, metric) is None) == (metric != "cosine")
    assert projection_of(pictures(400), metric) is None
    assert projection_of(pictures(2000)[:, ::2], metric) is None
    assert projection_of(pictures(2000), "dot") is None
    assert projection_of(jax.numpy.asarray(pictures(2000)), metric) is None  # on a device, as far as can be told


@slow
@pytest.mark.parametrize("metric", ["l1", "l2"])
def test_one_far_point_would_spoil_all_bounds(metric: str) -> None:
    points = pictures(4000, np.float64)
    for far in (1e170, 1e6):
        points[1234] = far
        assert projection_of(points, metric) is None
    points[1234] = 250
    index = prepared(points, metric)
    check_same(points[1230:1240], index, 3)
    assert begins_with_projection(points[1230:1240], index, 3)


@slow
def test_scales_far_from_one() -> None:
    for scale in (1e60, 1e-60):
        points = pictures(2000, np.float64) * scale
        index = prepared(points, "l2")
        check_same(points[:10], index, 3)
        assert begins_with_projection(points[:10], index, 3)
    points = pictures(2000, np.float64)
    points[::2, 3], points[1::2, 3] = 1.7e308, -1.7e308
    assert projection_of(points, "l2") is None


@slow
def test_few_are_allowed_and_the_query_is_far() -> None:
    points = pictures(2000, np.float64)
    mask = np.zeros(len(points), bool)
    mask[100:110] = True
    found = kneighbors(1e150 * points[:2], prepared(points, "l2"), 10, mask=mask, tuning=SMALL)
    assert sorted(found.indices[0]) == list(range(100, 110))


def test_constant_and_paired_features() -> None:
    columns = np.random.default_rng(0).normal(size=(100, 4))
    both = np.concatenate([columns, columns + 1e-6], axis=1)
    assert sorted(tuple(sorted(pair)) for pair in pair_columns(both).tolist()) == [(i, i + 4) for i in range(4)]
    constant = pair_columns(np.zeros((10, 201)))
    assert len(np.unique(constant)) == 200  # the odd one is left


@slow
def test_where_it_would_not_pay() -> None:
    points = pictures(2000)
    assert prepare(points, "l1", tuning=SMALL).projection is not None
    assert prepare(points, "l1", mesh=sharding.make_mesh(points=2), tuning=SMALL).projection is None
    hundred = SMALL._replace(projection_min_queries=100)
    assert prepare(points, "l1", queries=99, tuning=hundred).projection is None
    assert prepare(points, "l1", queries=100, tuning=hundred).projection is not None
    needed = bytes_needed(2000, DIMENSIONS, "l1")
    assert prepare(points, "l1", tuning=SMALL._replace(projection_max_bytes=needed - 1)).projection is None


@slow
def test_it_counts_to_the_memory_of_a_search() -> None:
    points = pictures(2000)
    index = neighbors.as_index(points, "l2", None, k=3, queries=10, memory="64MiB", tuning=SMALL)
    assert index.projection is not None
    assert index.reserved == sum(np.asarray(x).nbytes for x in jax.tree.leaves(index.projection))
    needed = bytes_needed(2000, DIMENSIONS, "l2")
    for memory, k in ((2 * needed - 2, 3), ("1MiB", 200)):  # less than half is for a projection; too many neighbours
        index = neighbors.as_index(points, "l2", None, k=k, queries=10, memory=memory, tuning=SMALL)
        assert index.projection is None
        assert index.reserved == 0
    with pytest.raises(ValueError, match=r"^memory: 400 bytes is too little"):
        kneighbors(points[:10], prepared(points, "l2"), 3, memory=400, tuning=SMALL)


@slow
def test_too_many_neighbors_for_it() -> None:
    points = pictures(2000)
    index = prepared(points, "l2")
    found = check_same(points[:20], index, 500)
    assert found.info == kneighbors(points[:20], plain(points, "l2"), 500).info
    assert not begins_with_projection(points[:20], index, 500)


@slow
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_it_is_saved_with_its_index(tmp_path: Path, metric: str, dtype: type) -> None:
    points, queries = pictures(2000, dtype), pictures(20, dtype, seed=1)
    index = prepared(points, metric)
    neighbors.save_index(tmp_path / "index.npz", index)
    read = neighbors.load_index(tmp_path / "index.npz")
    for a, b in zip(jax.tree.leaves(index), jax.tree.leaves(read), strict=True):
        np.testing.assert_array_equal(a, b)
    assert jax.tree.structure(index) == jax.tree.structure(read)
    found, expected = (kneighbors(queries, x, 3, metric=metric, tuning=SMALL) for x in (read, index))
    assert found.info == expected.info
    np.testing.assert_array_equal(found.indices, expected.indices)
    if dtype is np.float32:
        placed = jax.tree.map(jax.numpy.asarray, index)
        np.testing.assert_array_equal(
            kneighbors(queries, placed, 3, metric=metric, tuning=SMALL).indices, expected.indices
        )
        assert not begins_with_projection(queries, placed, 3)  # JAX has rounded what bounds were proved with


@slow
@pytest.mark.parametrize(("metric", "dtype"), [("l1", np.uint8), ("l2", np.uint8), ("cosine", np.float32)])
def test_photographs(image_data: Path, metric: str, dtype: type) -> None:
    data = datasets.load("cifar10", data_dir=image_data, limit_train=8_192, limit_test=100)
    points, queries = (x.images.reshape(len(x.images), -1).astype(dtype) for x in (data.train, data.test))
    index = prepare(points, metric)
    assert index.projection is not None
    found, expected = (kneighbors(queries, x, 10, metric=metric) for x in (index, plain(points, metric)))
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.distances, expected.distances)
    assert found.info.searched_again < 30
