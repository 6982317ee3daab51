"""The search on data that made others fail: DESIGN.md's guarantees hold, whatever the blocks and the devices."""

from typing import Any

import numpy as np
import pytest
from adversarial_cases import CASES, FLOATS, METRICS, Case, made, sizes, table
from hypothesis import given, settings
from hypothesis import strategies as st

from funcgrad import sharding
from funcgrad.neighbors import Neighbors, kneighbors
from funcgrad.neighbors.tuning import Tuning

pytestmark = pytest.mark.optimized


def check(queries: np.ndarray, points: np.ndarray, k: int, metric: str, found: Neighbors, ties: bool = False) -> None:
    """Raises unless these are the k nearest, in order, at their distances."""
    exact = table(queries, points, metric)
    indices, distances = found.indices.astype(int), found.distances.astype(np.float64)
    inner = metric in ("cosine", "dot")
    size = sizes(queries, points, metric) if inner else np.abs(exact)
    of_floats = found.distances.dtype.kind == "f"
    vanishing = 4 * points.shape[1] * float(np.finfo(found.distances.dtype).smallest_subnormal) if of_floats else 0
    assert found.indices.shape == found.distances.shape == (len(queries), k)
    assert all(len(set(row)) == k for row in indices.tolist())
    # The order: by distance, equal ones by index.
    assert (np.diff(distances, axis=1) >= 0).all()
    if found.distances.dtype != np.float32:  # which was rounded after the order was settled
        assert (np.lexsort((indices, distances), axis=1) == np.arange(k)).all()
    # The distances.
    relative = 1e-10 if found.distances.dtype == np.float64 else 1e-6
    theirs, their_size = (np.take_along_axis(x, indices, axis=1) for x in (exact, size))
    assert (np.abs(distances - theirs) <= relative * their_size + vanishing).all()
    # The neighbours, wherever the next point is farther by more than a millionth.
    order = np.argsort(exact, axis=1, kind="stable")
    if ties:
        np.testing.assert_array_equal(indices, order[:, :k])
    if k == len(points):
        return
    last, following = (np.take_along_axis(exact, order[:, i : i + 1], axis=1)[:, 0] for i in (k - 1, k))
    scale = size.max(axis=1) if inner else np.abs(following)
    settled = following - last > 1e-6 * scale + 4 * points.shape[1] * np.finfo(np.float64).smallest_subnormal
    same = np.sort(indices, axis=1) == np.sort(order[:, :k], axis=1)
    assert same[settled].all()


slow = pytest.mark.exhaustive


def combinations() -> list[Any]:
    """Each case under each metric, in float32 and float64 by turns, and in any other dtype.

    By default each case once, and each metric in each dtype. By metric and dtype, so that what was compiled for one
    case serves the next.
    """
    found = []
    for m, metric in enumerate(METRICS):
        for c, (name, case) in enumerate(CASES.items()):
            floats = [dtype for dtype in case.dtypes if dtype in FLOATS]
            dtypes = floats if name == "normal" else floats[(m + c) % 2 : (m + c) % 2 + 1] or floats[:1]
            dtypes = [*dtypes, *(dtype for dtype in case.dtypes if dtype not in FLOATS)]
            for dtype in dtypes if metric in case.metrics else ():
                turn = case.metrics[c % len(case.metrics)] == metric and not case.slow
                is_default = turn or name == "normal" or dtype == "uint8"
                found.append((metric, dtype, case.k, name, [] if is_default else [slow]))
    return [pytest.param(n, m, d, marks=marks, id=f"{n}-{m}-{d}") for m, d, _, n, marks in sorted(found)]


def some_combinations() -> list[Any]:
    """Each case under two metrics that are not alike, once in each dtype of floats; each metric in both."""
    found = []
    for c, (name, case) in enumerate(CASES.items()):
        for turn, dtype in enumerate(case.dtypes if len(case.dtypes) > 1 else 2 * case.dtypes):
            found.append((case.metrics[(c + 3 * turn) % len(case.metrics)], dtype, case.k, name))
    return [pytest.param(n, m, d, id=f"{n}-{m}-{d}") for m, d, _, n in sorted(found)]


def search(case: Case, queries: np.ndarray, points: np.ndarray, metric: str, **options: Any) -> Neighbors:
    return kneighbors(queries, points, case.k, metric=metric, p=3.0 if metric == "minkowski" else None, **options)


@pytest.mark.parametrize(("name", "metric", "dtype"), combinations())
def test_nothing_is_wrong_and_nothing_lost(name: str, metric: str, dtype: str) -> None:
    case, (queries, points) = CASES[name], made(name, dtype)
    found = search(case, queries, points, metric)
    check(queries, points, case.k, metric, found, case.ties)
    if metric in ("l1", "l2", "sqeuclidean", "chebyshev", "minkowski") and (queries[1] == points).all(1).any():
        nearest = found.distances[:, 0]
        itself = (queries[:, None] == points).all(2).any(1)
        assert (nearest[itself] == 0).all()


L1_CASES = [
    (name, dtype, (c + d) % 2 == 0)
    for c, (name, case) in enumerate(CASES.items())
    for d, dtype in enumerate(case.dtypes if "l1" in case.metrics else ())
]


@slow
@pytest.mark.parametrize(("name", "dtype", "small_blocks"), L1_CASES)
def test_l1_by_minima_is_right_as_well(name: str, dtype: str, small_blocks: bool) -> None:
    """However few the queries, and however far from 0 the points: see `bounds.minima_pay`."""
    case, (queries, points) = CASES[name], made(name, dtype)
    tuning, memory = Tuning(minima_min_queries=1, minima_max_ratio=1e300), "1GiB"
    if small_blocks:
        memory = f"{max(30, points.nbytes // 1024)}KiB"
    check(queries, points, case.k, "l1", search(case, queries, points, "l1", memory=memory, tuning=tuning), case.ties)


@slow
@pytest.mark.parametrize(("name", "metric", "dtype"), some_combinations())
def test_no_block_and_no_device_changes_a_bit(name: str, metric: str, dtype: str) -> None:
    case, (queries, points) = CASES[name], made(name, dtype)
    whole = search(case, queries, points, metric)
    ways: list[dict[str, Any]] = [
        {"memory": f"{max(30, points.nbytes // 1024)}KiB"},
        {"mesh": sharding.make_mesh(4, points=2)},
    ]
    for options in ways:
        found = search(case, queries, points, metric, **options)
        np.testing.assert_array_equal(found.indices, whole.indices)
        np.testing.assert_array_equal(found.distances, whole.distances)


@slow
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    metric=st.sampled_from(METRICS),
    dtype=st.sampled_from([np.float32, np.float64]),
    dimensions=st.sampled_from([1, 2, 5]),
    count=st.sampled_from([1, 7, 60]),
    powers=st.tuples(st.integers(-40, 8), st.integers(0, 12)),
    offset=st.sampled_from([0.0, 1.0, -1e5]),
    everyone=st.booleans(),
)
def test_random_scales_offsets_and_duplicates(
    seed: int,
    metric: str,
    dtype: type,
    dimensions: int,
    count: int,
    powers: tuple[int, int],
    offset: float,
    everyone: bool,
) -> None:
    rng = np.random.default_rng(seed)
    least, span = powers
    points = rng.normal(size=(count, dimensions)) * 10.0 ** rng.integers(least, least + span + 1, (count, 1)) + offset
    points = np.resize(points[: max(1, count - count // 4)], points.shape).astype(dtype)  # some twice
    queries = points[rng.integers(0, count, 8)] * rng.choice([1, -1, 3]).astype(dtype)
    k = count if everyone else min(3, count)
    found = kneighbors(queries, points, k, metric=metric, p=3.0 if metric == "minkowski" else None)
    check(queries, points, k, metric, found)


@pytest.mark.parametrize(
    ("metric", "dtype", "bad"),
    [("l1", "float32", np.nan), ("l2", "float64", np.inf), ("cosine", "float16", -np.inf), ("l2", "float32", np.nan)],
)
def test_nan_and_infinity_are_refused_with_their_rows(metric: str, dtype: str, bad: float) -> None:
    fine = np.ones((9000, 2), dtype)
    odd = fine.copy()
    odd[[0, 4095, 8999], 1] = bad
    for queries, points, name in ((odd, fine, "queries"), (fine, odd, "points")):
        with pytest.raises(ValueError, match=f"^{name}: NaN or infinity in 3 of 9000 rows: 0, 4095, 8999$"):
            kneighbors(queries, points, 1, metric=metric)
