"""The search on data that made others fail: DESIGN.md's guarantees hold, whatever the blocks and the devices."""

from typing import Any

import numpy as np
import pytest
from adversarial_cases import CASES, METRICS, Case, made, sizes, table
from hypothesis import given, settings
from hypothesis import strategies as st

from funcgrad import sharding
from funcgrad.neighbors import Neighbors, kneighbors
from funcgrad.neighbors.plan import Tuning

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


# In blocks and on devices these go the way of l1 or l2, so that a few cases show what is their own.
SIMILAR = ("sqeuclidean", "chebyshev", "minkowski", "hamming")
FEW = ("near duplicates", "k = n", "100,000 dimensions", "small beside large", "subnormal", "extreme bytes")


def combinations(*quick: str, similar: tuple[str, ...] = tuple(CASES)) -> list[Any]:
    """Metric by metric, so that what was compiled for one case serves the next; the others than `quick` are slow."""
    found = []
    for metric in METRICS:
        for name, case in CASES.items():
            if metric in SIMILAR and name not in similar:
                continue
            for dtype in case.dtypes if metric in case.metrics else ():
                slow = [pytest.mark.exhaustive] if case.slow or dtype == "float64" or name not in quick else []
                found.append(pytest.param(name, metric, dtype, marks=slow, id=f"{name}-{metric}-{dtype}"))
    return found


def search(case: Case, queries: np.ndarray, points: np.ndarray, metric: str, **options: Any) -> Neighbors:
    return kneighbors(queries, points, case.k, metric=metric, p=3.0 if metric == "minkowski" else None, **options)


@pytest.mark.parametrize(("name", "metric", "dtype"), combinations(*CASES))
def test_nothing_is_wrong_and_nothing_lost(name: str, metric: str, dtype: str) -> None:
    case, (queries, points) = CASES[name], made(name, dtype)
    found = search(case, queries, points, metric)
    check(queries, points, case.k, metric, found, case.ties)
    if metric in ("l1", "l2", "sqeuclidean", "chebyshev", "minkowski") and (queries[1] == points).all(1).any():
        nearest = found.distances[:, 0]
        itself = (queries[:, None] == points).all(2).any(1)
        assert (nearest[itself] == 0).all()


@pytest.mark.exhaustive
@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize(("name", "dtype"), [(n, d) for n, x in CASES.items() if "l1" in x.metrics for d in x.dtypes])
def test_l1_by_minima_is_right_as_well(name: str, dtype: str, few: bool) -> None:
    """However few the queries, and however far from 0 the points: see `bounds.minima_pay`; in blocks of few rows."""
    case, (queries, points) = CASES[name], made(name, dtype)
    tuning, memory = Tuning(minima_min_queries=1, minima_max_ratio=1e300), "1GiB"
    if few:
        memory = f"{max(30, points.nbytes // 1024)}KiB"
    check(queries, points, case.k, "l1", search(case, queries, points, "l1", memory=memory, tuning=tuning), case.ties)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("name", "metric", "dtype"), combinations("near duplicates", similar=FEW))
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


@pytest.mark.exhaustive
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


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("metric", ["l1", "l2", "cosine"])
def test_nan_and_infinity_are_refused_with_their_rows(metric: str, dtype: str, bad: float) -> None:
    fine = np.ones((9000, 2), dtype)
    odd = fine.copy()
    odd[[0, 4095, 8999], 1] = bad
    for queries, points, name in ((odd, fine, "queries"), (fine, odd, "points")):
        with pytest.raises(ValueError, match=f"^{name}: NaN or infinity in 3 of 9000 rows: 0, 4095, 8999$"):
            kneighbors(queries, points, 1, metric=metric)
