"""The neighbours of each example outside its fold are those of one search for each fold, though pairs are shared."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funcgrad import neighbors
from funcgrad.folds import split_folds
from funcgrad.neighbors import cross_fold as folds
from funcgrad.neighbors import merge_step as blocks

RANDOM = np.random.default_rng(0)
KEY = jax.random.key(0)


def one_search_a_fold(points: Any, parts: Sequence[np.ndarray], k: int, metric: Any) -> tuple[np.ndarray, np.ndarray]:
    """The reference: each fold asks all points, and its own are masked."""
    index = neighbors.prepare(points, metric)
    found = []
    for fold in parts:
        others = np.ones(len(points), bool)
        others[fold] = False
        found.append(neighbors.kneighbors(points[fold], index, k, mask=others))
    order = np.argsort(np.concatenate(parts))
    distances, indices = (np.concatenate([part[i] for part in found])[order] for i in range(2))
    return distances, indices


def assert_same(found: neighbors.Neighbors, expected: tuple[np.ndarray, np.ndarray]) -> None:
    assert found.distances.dtype == expected[0].dtype
    np.testing.assert_array_equal(found.distances, expected[0])
    np.testing.assert_array_equal(found.indices, expected[1])


def bytes_with_ties(count: int, dtype: Any = np.uint8) -> np.ndarray:
    return RANDOM.integers(0, 4, (count, 5)).astype(dtype)


@pytest.mark.exhaustive
@pytest.mark.parametrize("memory", ["1GiB", "100kB", "7kB"])
@pytest.mark.parametrize("metric", ["l1", "l2", "sqeuclidean", "chebyshev", "dot"])
@pytest.mark.parametrize("how", ["in order", "shuffled", "stratified"])
def test_each_pair_once_is_one_search_a_fold(how: str, metric: str, memory: str) -> None:
    points, labels = bytes_with_ties(101), RANDOM.integers(0, 3, 101)
    parts = split_folds(101, 4, shuffle=KEY if how == "shuffled" else None, stratify=labels if how[1] == "t" else None)
    found = folds.fold_neighbors(neighbors.prepare(points, metric), parts, 9, memory=memory)
    assert_same(found, one_search_a_fold(points, parts, 9, metric))
    assert found.info.query_block <= {"1GiB": 101, "100kB": 101, "7kB": 26}[memory]


@pytest.mark.exhaustive
@pytest.mark.parametrize(("block", "group"), [(7, 21), (8, 8), (16, 48), (26, 52), (1, 3)])
def test_blocks_and_groups_change_nothing(monkeypatch: pytest.MonkeyPatch, block: int, group: int) -> None:
    """Groups that lie in several folds, blocks that do, blocks past the end."""
    monkeypatch.setattr(blocks, "_PAIR_BLOCK", block)
    monkeypatch.setattr(blocks, "_GROUP_ROWS", group)
    points, parts = bytes_with_ties(77), split_folds(77, 3)
    found = folds.fold_neighbors(neighbors.prepare(points, "l1"), parts, 20)
    assert found.info.query_block <= block
    assert_same(found, one_search_a_fold(points, parts, 20, "l1"))


@pytest.mark.exhaustive
@settings(deadline=None, max_examples=25)
@given(st.sampled_from([2, 3, 17, 40]), st.data())  # each is other programs
def test_any_number_of_folds_down_to_one_example_each(count: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(2, count))
    parts = split_folds(count, number)
    k = data.draw(st.sampled_from([1, count - len(parts[0])]))
    points = bytes_with_ties(count)
    found = folds.fold_neighbors(neighbors.prepare(points, "sqeuclidean"), parts, k)
    assert_same(found, one_search_a_fold(points, parts, k, "sqeuclidean"))


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", [np.int8, np.bool_])
def test_other_bytes_are_measured_once_too(dtype: Any) -> None:
    points, parts = bytes_with_ties(60, dtype), split_folds(60, 3)
    found = folds.fold_neighbors(neighbors.prepare(points, "l2"), parts, 5)
    assert_same(found, one_search_a_fold(points, parts, 5, "l2"))


@pytest.mark.exhaustive
def test_squares_beyond_32_bits_stay_exact() -> None:
    points, parts = RANDOM.integers(0, 2, (10, 40_000)).astype(np.uint8) * 255, split_folds(10, 2)
    found = folds.fold_neighbors(neighbors.prepare(points, "sqeuclidean"), parts, 3)
    assert found.distances.dtype == np.int64
    assert_same(found, one_search_a_fold(points, parts, 3, "sqeuclidean"))


def taxicab(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.sum(jnp.abs(a - b))


def test_a_function_is_searched_for_fold_by_fold() -> None:
    points, parts = RANDOM.normal(size=(60, 5)).astype(np.float32), split_folds(60, 3)
    told: list[tuple[int, int]] = []
    found = folds.fold_neighbors(
        neighbors.prepare(points, taxicab), parts, 4, progress=lambda done, total: told.append((done, total))
    )
    assert_same(found, one_search_a_fold(points, parts, 4, taxicab))
    assert told == [(20, 60), (40, 60), (60, 60)]


FLOATS = ["l1", "l2", "sqeuclidean", "chebyshev", "dot", "cosine", "hamming"]


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("dtype", "memory"),
    [(np.float32, "1GiB"), (np.float32, "80kB"), (np.float64, "1GiB"), (np.float16, "1GiB")],
)
@pytest.mark.parametrize("metric", FLOATS)
def test_each_pair_of_floats_once_is_one_search_a_fold(metric: str, dtype: Any, memory: str) -> None:
    """Near and far, alike and alone, and some of length zero."""
    points = RANDOM.normal(size=(120, 6)) * 10.0 ** RANDOM.integers(-2, 3, (120, 1)) + 100 * (RANDOM.random() > 0.5)
    points[::7] = points[3]
    points[::11] = 0
    points, parts = points.astype(dtype), split_folds(120, 4, shuffle=KEY)
    found = folds.fold_neighbors(neighbors.prepare(points, metric), parts, 9, memory=memory)
    assert_same(found, one_search_a_fold(points, parts, 9, metric))


@pytest.mark.exhaustive
@pytest.mark.parametrize("metric", ["l2", "cosine", "dot"])
@pytest.mark.parametrize("scale", [1e-36, 1e-20, 1.0, 1e16])
def test_pairs_of_floats_far_from_one(metric: str, scale: float) -> None:
    points, parts = (RANDOM.normal(size=(90, 6)) * scale).astype(np.float32), split_folds(90, 3)
    points[::5] *= np.float32(1e-3)
    points[1::9] = points[0] * (1 + np.float32(2**-20))
    found = folds.fold_neighbors(neighbors.prepare(points, metric), parts, 5)
    assert_same(found, one_search_a_fold(points, parts, 5, metric))


@pytest.mark.exhaustive
def test_what_is_not_proved_at_first_is_searched_for_again() -> None:
    """Many at the same distance: no few candidates can be proved the nearest."""
    points, parts = np.eye(80, dtype=np.float32), split_folds(80, 4)
    found = folds.fold_neighbors(neighbors.prepare(points, "l2"), parts, 3)
    assert found.info.searched_again == 80
    assert_same(found, one_search_a_fold(points, parts, 3, "l2"))


@pytest.mark.exhaustive
@pytest.mark.parametrize("metric", ["cosine", "hamming"])
def test_bytes_under_a_metric_of_floats(metric: str) -> None:
    points, parts = bytes_with_ties(90), split_folds(90, 3)
    found = folds.fold_neighbors(neighbors.prepare(points, metric), parts, 5)
    assert_same(found, one_search_a_fold(points, parts, 5, metric))


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_every_pair_of_two_folds_is_measured_once_and_none_of_one(monkeypatch: pytest.MonkeyPatch, dtype: Any) -> None:
    monkeypatch.setattr(blocks, "_PAIR_BLOCK", 10)
    monkeypatch.setattr(blocks, "_GROUP_ROWS", 30)
    points = np.arange(100, dtype=dtype)[:, None]  # each says which it is
    compiled, measured = blocks.fit_pairs_to_memory, np.zeros((100, 100), int)

    def counting(*sizes: Any) -> blocks.PairPlan:
        plan = compiled(*sizes)

        def table(a: jax.Array, b: jax.Array, *others: Any) -> jax.Array:
            measured[np.ix_(*(np.ravel(x).astype(int) for x in (a, b)))] += 1
            return plan.table(a, b, *others)

        return plan._replace(table=table)

    monkeypatch.setattr(folds, "fit_pairs_to_memory", counting)
    folds.fold_neighbors(neighbors.prepare(points, "l1"), split_folds(100, 5), 3)
    fold = np.arange(100) // 20
    other = fold[:, None] != fold[None]
    assert (measured + measured.T == other).all()


@pytest.mark.exhaustive
@pytest.mark.parametrize("metric", ["l1", "cosine"])
@pytest.mark.parametrize("parts", [split_folds(50, 5), split_folds(50, 5, shuffle=KEY)], ids=["in order", "shuffled"])
def test_a_search_goes_on_from_any_of_its_states(
    monkeypatch: pytest.MonkeyPatch, metric: str, parts: list[np.ndarray]
) -> None:
    monkeypatch.setattr(blocks, "_PAIR_BLOCK", 5)
    monkeypatch.setattr(blocks, "_GROUP_ROWS", 10)
    index = neighbors.prepare(bytes_with_ties(50), metric)
    states: list[folds.State] = []

    def keep(state: folds.State) -> None:
        states.append(state._replace(distances=state.distances.copy(), indices=state.indices.copy()))

    whole = folds.fold_neighbors(index, parts, 6, keep=keep)
    assert [state.done for state in states] == [10, 20, 30, 40, 50]
    monkeypatch.setattr(blocks, "_PAIR_BLOCK", 7)  # whatever the blocks are then
    for state in states:
        before = state.distances.tobytes(), state.indices.tobytes()
        again = folds.fold_neighbors(index, parts, 6, start=state)
        assert_same(again, whole[:2])
        assert again.info == whole.info
        assert before == (state.distances.tobytes(), state.indices.tobytes())


def test_progress_never_goes_back_and_ends_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_PAIR_BLOCK", 10)
    monkeypatch.setattr(blocks, "_GROUP_ROWS", 20)
    told: list[int] = []
    index = neighbors.prepare(bytes_with_ties(90), "l1")
    folds.fold_neighbors(index, split_folds(90, 3), 2, progress=lambda done, total: told.append(done))
    assert told == sorted(told)
    assert 0 < told[0] < told[-1] == 90


def test_what_is_asked_has_to_be_possible() -> None:
    index = neighbors.prepare(bytes_with_ties(20), "l1")
    with pytest.raises(ValueError, match="memory: 10 bytes is too little for one query and one point, which need "):
        folds.fold_neighbors(index, split_folds(20, 2), 3, memory=10)
    for k in (0, 14, 1.5, True):
        with pytest.raises(ValueError, match=f"k: needs an integer from 1 to 13, .* got {k}"):
            folds.fold_neighbors(index, split_folds(20, 3), k)  # type: ignore[arg-type]


@pytest.mark.exhaustive
@pytest.mark.parametrize(("metric", "dtype"), [("l1", np.uint8), ("cosine", np.float32)])
def test_it_lowers_for_every_platform(metric: str, dtype: Any) -> None:
    search = blocks.Search(3, metric, None, metric == "cosine", False, None)
    plan = blocks.fit_pairs_to_memory(search, 40, 10, 8, np.dtype(dtype), 10**8)
    rows, terms = jax.ShapeDtypeStruct((plan.block, 8), dtype), jax.ShapeDtypeStruct((plan.block,), dtype)
    ints, platforms = jax.ShapeDtypeStruct((plan.block,), np.int32), ("cpu", "cuda", "tpu")
    exported = jax.export.export(plan.table, platforms=platforms)(rows, rows, terms, terms, ints, ints)
    assert exported.platforms == platforms
    table = jax.ShapeDtypeStruct((plan.block, plan.block), np.float32)
    best = (jax.ShapeDtypeStruct((plan.block, 3), dtype) for dtype in (np.float32, np.int32))
    exported = jax.export.export(plan.merged, platforms=platforms)(*best, (table,), ints)
    assert exported.platforms == platforms
