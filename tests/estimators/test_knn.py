"""The scikit-learn estimators: scikit-learn's own checks, and its own classifier's answers where both are exact."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from calls import calls_of
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier as Reference
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from funcgrad.estimators import KNeighborsClassifier
from funcgrad.neighbors import classify, kneighbors

METRICS = [("manhattan", None), ("euclidean", None), ("cosine", None), ("chebyshev", None), ("minkowski", 3.0)]


CHECKS = parametrize_with_checks([KNeighborsClassifier()])


@pytest.mark.parametrize(CHECKS.args[0], list(CHECKS.args[1]), **CHECKS.kwargs)  # a list: new pytest wants no generator
def test_it_passes_every_check_of_scikit_learn(
    estimator: Any, check: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # else the check of array-API input skips itself
    check(estimator)


def clusters(dtype: Any, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Overlapping clusters: points (300, 6), their labels, queries (100, 6)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, 300)
    points = rng.normal(size=(300, 6)) + labels[:, None]
    return points.astype(dtype), labels, rng.normal(1.5, 1.5, size=(100, 6)).astype(dtype)


def reference(weights: str, metric: str, p: float | None, **options: Any) -> Any:
    return Reference(weights=weights, metric=metric, algorithm="brute", **({"p": p} if p else {}), **options)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("metric", "p"), METRICS)
@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_it_answers_as_scikit_learn_does(dtype: type, weights: Any, metric: str, p: float | None) -> None:
    points, labels, queries = clusters(dtype)
    ours = KNeighborsClassifier(7, weights=weights, metric=metric, p=p).fit(points, labels)
    theirs = reference(weights, metric, p, n_neighbors=7).fit(points.astype(np.float64), labels)
    wide = queries.astype(np.float64)
    np.testing.assert_array_equal(ours.predict(queries), theirs.predict(wide))
    np.testing.assert_allclose(ours.predict_proba(queries), theirs.predict_proba(wide), rtol=1e-5, atol=1e-6)
    assert ours.score(queries, theirs.predict(wide)) == 1
    distances, indices = ours.kneighbors(queries)
    expected_distances, expected_indices = theirs.kneighbors(wide)
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-6)
    assert distances.dtype == dtype
    assert indices.dtype == expected_indices.dtype


@pytest.mark.exhaustive
@pytest.mark.parametrize("metric", ["manhattan", "euclidean", "cosine"])
@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("dtype", [np.float64, np.uint8])
def test_it_reads_digits_as_scikit_learn_does(dtype: type, weights: Any, metric: str) -> None:
    """Where the fifth neighbor is nearer than the sixth: of equals the two may take another."""
    images, labels = load_digits(return_X_y=True)
    theirs = reference(weights, metric, None).fit(images[:1437], labels[:1437])
    distances, _ = theirs.kneighbors(images[1437:], 6)
    clear = distances[:, 5] > distances[:, 4] * (1 + 1e-9)
    assert clear.mean() > 0.75
    ours = KNeighborsClassifier(weights=weights, metric=metric).fit(images[:1437].astype(dtype), labels[:1437])
    found = ours.predict(images[1437:].astype(dtype))
    np.testing.assert_array_equal(found[clear], theirs.predict(images[1437:])[clear])
    assert np.mean(found == labels[1437:]) > 0.94


@pytest.mark.exhaustive
def test_without_queries_the_training_points_vote_for_one_another() -> None:
    points, labels, _ = clusters(np.float64)
    ours, theirs = KNeighborsClassifier().fit(points, labels), reference("uniform", "euclidean", None)
    theirs.fit(points, labels)
    for found, expected in zip(ours.kneighbors(), theirs.kneighbors(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_array_equal(
        ours.kneighbors(n_neighbors=2, return_distance=False), theirs.kneighbors(n_neighbors=2, return_distance=False)
    )
    twice = KNeighborsClassifier(1).fit(np.repeat(points, 2, axis=0), np.repeat(labels, 2))
    assert (twice.predict(None) == np.repeat(labels, 2)).all()


@pytest.mark.exhaustive
def test_float64_is_not_rounded_and_bytes_are_counted() -> None:
    near = 1 + np.array([[0.0], [3e-12], [1e-12]])  # one and the same number in float32
    assert KNeighborsClassifier(1).fit(near, ["a", "b", "c"]).predict(near).tolist() == ["a", "b", "c"]
    bytes_ = np.random.default_rng(0).integers(0, 256, (60, 50)).astype(np.uint8)
    distances, indices = KNeighborsClassifier(3, metric="manhattan").fit(bytes_, np.arange(60) % 3).kneighbors(bytes_)
    assert distances.dtype.kind == "i"
    exact = np.abs(bytes_[:, None].astype(int) - bytes_[None]).sum(axis=2)
    np.testing.assert_array_equal(distances, np.take_along_axis(exact, indices, axis=1))


def test_equal_votes_go_to_the_smaller_class() -> None:
    model = KNeighborsClassifier(2).fit([[1.0], [-1.0]], ["smaller", "larger"])
    assert model.predict([[0.0]]) == ["larger"]  # in the order of the alphabet
    np.testing.assert_array_equal(model.predict_proba([[0.0]]), [[0.5, 0.5]])


@pytest.mark.exhaustive
def test_softmax_weights_and_functions() -> None:
    points, labels, queries = clusters(np.float32)
    softmax = KNeighborsClassifier(20, weights="softmax", metric="cosine", temperature=0.1).fit(points, labels)
    by_hand = KNeighborsClassifier(20, weights=lambda d: jnp.exp(-d / 0.1), metric="cosine").fit(points, labels)
    np.testing.assert_allclose(softmax.predict_proba(queries), by_hand.predict_proba(queries), rtol=1e-5, atol=1e-7)
    options: dict[str, Any] = {"weights": "softmax", "metric": "cosine", "temperature": 0.1}
    np.testing.assert_array_equal(softmax.predict(queries), classify(queries, points, labels, 20, **options))
    by_rank = KNeighborsClassifier(3, weights=lambda d: jnp.asarray([1.0, 0.0, 0.0])).fit(points, labels)
    np.testing.assert_array_equal(by_rank.predict(queries), classify(queries, points, labels, 1))
    nobody = KNeighborsClassifier(3, weights=jnp.zeros_like).fit(points, labels)
    with pytest.raises(ValueError, match="weights: must be finite, from 0 up and not all 0; query 0"):
        nobody.predict(queries)


def test_one_prediction_is_one_search() -> None:
    points, labels, queries = clusters(np.float32)
    with calls_of(kneighbors) as calls:
        model = KNeighborsClassifier().fit(points, labels)
        assert calls == []
        model.predict(queries)
    assert [len(arguments["queries"]) for arguments in calls] == [100]


@pytest.mark.exhaustive
def test_it_works_in_a_grid_search_of_a_pipeline() -> None:
    points, labels, queries = clusters(np.float64)
    names = np.array(["ant", "bee", "cat", "dog"])[labels]
    grid = {"kneighborsclassifier__n_neighbors": [1, 9], "kneighborsclassifier__metric": ["manhattan", "euclidean"]}
    KNeighborsClassifier().fit(points, names).predict(queries)  # JAX has started, and other processes start it anew
    model = make_pipeline(StandardScaler(), KNeighborsClassifier())
    search = GridSearchCV(model, grid, cv=3, error_score="raise", n_jobs=2).fit(points, names)
    theirs = GridSearchCV(make_pipeline(StandardScaler(), Reference()), grid, cv=3, error_score="raise")
    theirs.fit(points, names)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"])
    assert search.best_params_ == theirs.best_params_
    np.testing.assert_array_equal(search.predict(queries), theirs.predict(queries))
    assert search.classes_.tolist() == ["ant", "bee", "cat", "dog"]


@pytest.mark.exhaustive
def test_cross_val_score_and_clone() -> None:
    points, labels, _ = clusters(np.float32)
    model = KNeighborsClassifier(3, weights="distance", metric="minkowski", p=1.5, memory="1MiB")
    assert clone(model).get_params() == model.get_params()
    scores = cross_val_score(model, points, labels, cv=3)
    np.testing.assert_array_equal(
        scores, cross_val_score(reference("distance", "minkowski", 1.5, n_neighbors=3), points, labels, cv=3)
    )
    with pytest.raises(NotFittedError):
        model.kneighbors()


def test_columns_of_a_data_frame_keep_their_names() -> None:
    pandas = pytest.importorskip("pandas")
    points, labels, _ = clusters(np.float32)
    frame = pandas.DataFrame(points, columns=list("abcdef"))
    model = KNeighborsClassifier().fit(frame, pandas.Series(labels))
    assert model.feature_names_in_.tolist() == list("abcdef")
    assert model.n_features_in_ == 6
    np.testing.assert_array_equal(model.predict(frame), KNeighborsClassifier().fit(points, labels).predict(points))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[list("fedcba")])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_neighbors": 0}, "n_neighbors: needs an integer of at least 1, got 0"),
        ({"n_neighbors": 2.0}, "n_neighbors: needs an integer of at least 1, got 2.0"),
        ({"n_neighbors": True}, "n_neighbors: needs an integer of at least 1, got True"),
        ({"weights": "closeness"}, "weights: 'closeness' is unknown; choose one of"),
        ({"weights": "softmax", "temperature": 0}, "temperature: needs a number above 0, got 0"),
        ({"metric": "euclid"}, "metric: 'euclid' is unknown; choose one of"),
        ({"metric": "minkowski"}, "p: needs a finite number from 1 up"),
        ({"p": 2.0}, "p: only metric 'minkowski' takes p"),
    ],
)
def test_wrong_parameters_are_named_in_fit(options: dict[str, Any], message: str) -> None:
    points, labels, _ = clusters(np.float32)
    with pytest.raises(ValueError, match=message):
        KNeighborsClassifier(**options).fit(points, labels)


@pytest.mark.parametrize("option", ["memory", "precision"])
def test_options_of_the_search_are_passed_on(option: str) -> None:
    points, labels, queries = clusters(np.float32)
    with pytest.raises(ValueError, match=f"{option}: 'plenty' is"):
        KNeighborsClassifier(**{option: "plenty"}).fit(points, labels).predict(queries)


def test_more_neighbors_than_points() -> None:
    model = KNeighborsClassifier(4).fit([[0.0], [1.0], [2.0]], [0, 1, 0])
    with pytest.raises(ValueError, match="n_neighbors: 4 is more than the 3 training points"):
        model.predict([[0.0]])
    with pytest.raises(ValueError, match="n_neighbors: 3 is more than the 2 training points"):
        model.kneighbors(n_neighbors=3)


def test_sparse_matrices_are_refused_with_the_way_out() -> None:
    points, labels, _ = clusters(np.float32)
    with pytest.raises(TypeError, match=r"dense.*toarray\(\)"):
        KNeighborsClassifier().fit(csr_array(points), labels)
    with pytest.raises(TypeError, match=r"dense.*toarray\(\)"):
        KNeighborsClassifier().fit(points, labels).predict(csr_array(points))
