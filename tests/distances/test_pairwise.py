"""Each metric against NumPy in 64 bits, the laws it must obey, and every fast form against its definition."""

import itertools
import math

import hypothesis.extra.numpy as arrays
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funcgrad.distances import METRICS, pairwise_distances
from funcgrad.distances.dtypes import search_dtype

P = {"minkowski": 3.0}


def reference(queries: np.ndarray, points: np.ndarray, metric: str) -> np.ndarray:
    """Brute force in float64, or in int64 where both are integers and so is the answer."""
    kind = np.int64 if queries.dtype.kind in "iu" else np.float64
    a, b = queries.astype(kind)[:, None], points.astype(kind)[None, :]
    difference = np.abs(a - b)
    match metric:
        case "l1":
            return difference.sum(-1)
        case "sqeuclidean":
            return (difference**2).sum(-1)
        case "l2":
            return np.sqrt((difference**2).sum(-1).astype(np.float64))
        case "chebyshev":
            return difference.max(-1)
        case "minkowski":
            return (difference.astype(float) ** 3).sum(-1) ** (1 / 3)
        case "hamming":
            return (a != b).mean(-1)
        case "dot":
            return -(a * b).sum(-1)
        case "cosine":
            norms = np.linalg.norm(a.astype(float), axis=-1) * np.linalg.norm(b.astype(float), axis=-1)
            return 1 - (a * b).sum(-1) / np.where(norms > 0, norms, 1)
    raise AssertionError(metric)


def random_bytes(rng: np.random.Generator, shape: tuple[int, int], dtype: type) -> np.ndarray:
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


DTYPES = (np.uint8, np.int8, np.float32, np.float64)
PAIRS = [(metric, dtype, (m + d) % 2) for m, metric in enumerate(METRICS) for d, dtype in enumerate(DTYPES)]


@pytest.mark.parametrize(("metric", "dtype", "dimensions"), [(m, d, 1 if odd else 1025) for m, d, odd in PAIRS])
def test_distances_are_those_of_numpy(metric: str, dtype: type, dimensions: int) -> None:
    rng = np.random.default_rng(dimensions)
    if np.issubdtype(dtype, np.integer):
        queries, points = random_bytes(rng, (40, dimensions), dtype), random_bytes(rng, (37, dimensions), dtype)
    else:
        queries, points = (rng.normal(size=(rows, dimensions)).astype(dtype) for rows in (5, 37))
    found = np.asarray(pairwise_distances(queries, points, metric, p=P.get(metric)))
    expected = reference(queries, points, metric)
    assert found.shape == expected.shape
    if found.dtype.kind == "i":
        np.testing.assert_array_equal(found, expected)
    elif metric == "l2" and dtype in (np.uint8, np.int8):
        np.testing.assert_array_equal(found, expected.astype(np.float32))  # rounded once
    else:
        exact = 1e-13 if dtype == np.float64 else 1e-5
        scale = 1.0 if metric == "cosine" else np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=exact * scale)
    assert (found.dtype == np.float64) == (dtype == np.float64)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("metric", "rows"), [("l1", 3), ("l1", 40), ("sqeuclidean", 3), ("chebyshev", 3), ("dot", 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_the_largest_distances_of_bytes_are_exact_integers(metric: str, dtype: type, rows: int) -> None:
    lowest, highest = np.iinfo(dtype).min, np.iinfo(dtype).max
    for dimensions in (3072, 40_000):  # the second needs more than 31 bits for squares
        queries = np.full((rows, dimensions), highest, dtype)
        points = np.stack([np.full(dimensions, lowest, dtype), np.full(dimensions, highest, dtype)])
        found = np.asarray(pairwise_distances(queries, points, metric))
        assert found.dtype.kind == "i"
        np.testing.assert_array_equal(found, reference(queries, points, metric))


@pytest.mark.exhaustive
@pytest.mark.parametrize("metric", ["l1", "l2", "chebyshev", "minkowski", "hamming"])
@settings(max_examples=25, deadline=None)
@given(
    x=arrays.arrays(np.float32, (6, 5), elements=st.integers(-1000, 1000).map(float)),
    shift=st.integers(-(2**14), 2**14),
)
def test_translation_changes_no_distance_where_the_sum_is_exact(metric: str, x: np.ndarray, shift: int) -> None:
    before = pairwise_distances(x, x, metric, p=P.get(metric))
    after = pairwise_distances(x + np.float32(shift), x + np.float32(shift), metric, p=P.get(metric))
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("metric", ["l1", "l2", "sqeuclidean", "chebyshev", "minkowski", "hamming"])
@settings(max_examples=25, deadline=None)
@given(x=arrays.arrays(np.float32, (6, 5), elements=st.floats(-1e3, 1e3, width=32)))
def test_a_metric_is_zero_on_itself_and_symmetric_and_obeys_the_triangle(metric: str, x: np.ndarray) -> None:
    table = np.asarray(pairwise_distances(x, x, metric, p=P.get(metric)), np.float64)
    np.testing.assert_array_equal(np.diag(table), 0)
    np.testing.assert_array_equal(table, table.T)
    if metric != "sqeuclidean":  # which is no metric: (a − c)² may exceed (a − b)² + (b − c)²
        for a, b, c in itertools.permutations(range(6), 3):
            assert table[a, c] <= (table[a, b] + table[b, c]) * (1 + 1e-5)


def test_minkowski_joins_the_metrics_of_its_limits() -> None:
    rng = np.random.default_rng(3)
    queries, points = (rng.normal(size=(rows, 9)).astype(np.float32) for rows in (4, 6))
    for p, same in ((1.0, "l1"), (2.0, "l2")):
        np.testing.assert_allclose(
            pairwise_distances(queries, points, "minkowski", p=p), pairwise_distances(queries, points, same), rtol=1e-5
        )
    np.testing.assert_allclose(
        pairwise_distances(queries, points, "minkowski", p=1000.0),
        pairwise_distances(queries, points, "chebyshev"),
        rtol=1e-2,
    )


def test_minkowski_and_cosine_do_not_overflow() -> None:
    huge = np.array([[1e30, 0.0], [0.0, 1e30]], np.float32)
    np.testing.assert_allclose(pairwise_distances(huge, huge, "minkowski", p=3.0)[0, 1], 2 ** (1 / 3) * 1e30, rtol=1e-5)
    np.testing.assert_allclose(pairwise_distances(huge, huge, "cosine"), [[0, 1], [1, 0]], atol=1e-6)


def test_a_zero_vector_is_at_cosine_distance_one_from_all() -> None:
    x = np.array([[0, 0], [3, 4]], np.float32)
    np.testing.assert_allclose(pairwise_distances(x, x, "cosine"), [[1, 1], [1, 0]], atol=1e-6)


def test_float64_is_not_rounded_first() -> None:
    x = np.array([[1.0], [1.0 + 1e-12]])
    assert np.asarray(pairwise_distances(x[:1], x, "l1"))[0, 1] == x[1, 0] - 1.0


def test_a_function_of_two_vectors_is_a_metric() -> None:
    rng = np.random.default_rng(4)
    queries, points = (rng.normal(size=(rows, 9)).astype(np.float32) for rows in (4, 6))
    found = pairwise_distances(queries, points, lambda a, b: jnp.sum(jnp.abs(a - b)))
    np.testing.assert_array_equal(found, pairwise_distances(queries, points, "l1"))


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        ((np.uint8, np.uint8), np.uint8),
        ((bool, np.uint8), np.uint8),
        ((np.int8, np.uint8), np.float64),
        ((np.float16, jnp.bfloat16), np.float32),
        ((np.int16, np.uint8), np.float64),
        ((np.uint16, np.uint16), np.float64),
        ((np.uint8, np.float32), np.float32),
        ((np.int32, np.float32), np.float64),
        ((np.uint8, np.float64), np.float64),
    ],
)
def test_vectors_are_compared_in_a_dtype_that_holds_them(dtypes: tuple[type, ...], expected: type) -> None:
    assert search_dtype(*dtypes) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0]], [[1.0]], "l3"), "metric: 'l3' is unknown; choose one of l1, l2"),
        (([[1.0]], [[1.0, 2.0]], "l1"), "queries: have 1 dimensions, the points have 2"),
        (([1.0], [[1.0]], "l1"), "queries: needs shape"),
        (([[1.0]], np.zeros((0, 1)), "l1"), "points: needs shape"),
        (([[1j]], [[1.0]], "l1"), "queries: needs integers or floats, got list of dtype complex128"),
        (([[1.0]], [[1.0]], "minkowski"), "p: needs a finite number from 1 up with metric 'minkowski'"),
        (([[1.0]], [[1.0]], "minkowski", 0.5), "got 0.5"),
        (([[1.0]], [[1.0]], "minkowski", math.inf), "chebyshev"),
        (([[1.0]], [[1.0]], "l1", 2.0), "p: only metric 'minkowski' takes p"),
    ],
)
def test_errors_name_the_argument(arguments: tuple, message: str) -> None:
    *positional, p = arguments if len(arguments) == 4 else (*arguments, None)
    with pytest.raises((ValueError, TypeError), match=message.replace("(", r"\(")):
        pairwise_distances(*positional, p=p)
