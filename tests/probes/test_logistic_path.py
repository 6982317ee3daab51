"""`logistic` against scikit-learn's LogisticRegression, and what it refuses."""

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from funcgrad import probes

X, Y = load_digits(return_X_y=True)
X, TEST, Y, TEST_Y = X[:600], X[600:], Y[:600], Y[600:]
MEAN, SCALE = X.mean(axis=0), np.where(X.std(axis=0) > 0, X.std(axis=0), 1)
CS = [1.0, 1e-3, 0.03]


def reference(y: np.ndarray, C: float, **options: Any) -> LogisticRegression:
    model = LogisticRegression(C=C, tol=1e-12, max_iter=10_000, solver="newton-cholesky", **options)
    return model.fit((X - MEAN) / SCALE, y)


@pytest.fixture(scope="module")
def fitted() -> probes.Probes:
    return probes.logistic(X, Y, CS, certify=TEST)


def test_it_predicts_what_scikit_learn_does_and_is_certain_of_it(fitted: probes.Probes) -> None:
    assert fitted.certified.tolist() == [len(TEST)] * 3
    for i, C in enumerate(CS):
        other = reference(Y, C)
        np.testing.assert_allclose(fitted.coef[i] * SCALE, other.coef_, atol=fitted.radius[i] + 1e-7)
        assert fitted.classes[fitted.predictions[i]].tolist() == other.predict((TEST - MEAN) / SCALE).tolist()
        scores = TEST @ fitted.coef[i].T + fitted.intercept[i]
        assert scores.argmax(axis=1).tolist() == fitted.predictions[i].tolist()


def test_the_objective_is_at_most_so_far_above_the_optimum_as_the_gap_says() -> None:
    fitted = probes.logistic(X, Y, [0.03], tolerance=1e-12)
    other = reference(Y, 0.03)
    losses = -other.predict_log_proba((X - MEAN) / SCALE)[np.arange(len(Y)), Y]
    value = 0.03 * losses.sum() + np.sum(other.coef_**2) / 2
    assert fitted.gap[0] <= 1e-12 * fitted.objective[0]
    assert fitted.objective[0] - fitted.gap[0] <= value
    assert fitted.objective[0] <= value * (1 + 1e-9)


def test_two_classes_have_one_vector_of_weights_and_classes_may_be_weighted() -> None:
    odd = np.where(Y % 2 == 1, "odd", "even")
    weights = {"odd": 3.0}
    fitted = probes.logistic(X, odd, [0.1], class_weight=weights, certify=TEST)
    other = reference(odd, 0.1, class_weight=weights)
    assert fitted.coef.shape == (1, 1, 64)
    assert fitted.certified[0] == len(TEST)
    # The standardisation is weighted, too, as if examples stood there so many times.
    assert np.mean(fitted.classes[fitted.predictions[0]] == other.predict((TEST - MEAN) / SCALE)) > 0.98
    twice = np.concatenate([X, X[odd == "odd"], X[odd == "odd"]]), np.concatenate([odd, *[odd[odd == "odd"]] * 2])
    again = probes.logistic(*twice, [0.1], certify=TEST)
    np.testing.assert_allclose(again.coef, fitted.coef, atol=1e-4)
    assert again.predictions.tolist() == fitted.predictions.tolist()


def test_columns_of_labels_are_problems_of_their_own() -> None:
    labels = np.stack([Y % 2, Y > 4], axis=1).astype(int)
    both = probes.logistic(X, labels, [0.1, 0.01], certify=TEST)
    assert both.coef.shape == (2, 2, 64)
    assert both.predictions.shape == (2, len(TEST), 2)
    one = probes.logistic(X, Y > 4, [0.1], certify=TEST)
    np.testing.assert_allclose(both.coef[0, 1], one.coef[0, 0], atol=1e-4)
    assert both.predictions[0, :, 1].tolist() == one.predictions[0].tolist()
    assert both.certified[0] == len(TEST)


def test_without_intercept_and_without_standardisation() -> None:
    fitted = probes.logistic(X / 16, Y, [0.1], intercept=False, standardize=False)
    other = LogisticRegression(C=0.1, tol=1e-12, solver="newton-cholesky", fit_intercept=False).fit(X / 16, Y)
    assert not fitted.intercept.any()
    np.testing.assert_allclose(fitted.coef[0], other.coef_, atol=1e-4)


def test_what_max_passes_leaves_is_reported_as_not_certified() -> None:
    fitted = probes.logistic(X, Y, [1e6], certify=TEST, max_passes=5)
    assert fitted.passes[0] >= 5
    assert fitted.certified[0] < len(TEST)
    assert fitted.gap[0] > 0


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((X, Y, [0.0]), {}, "Cs: needs finite numbers above 0, got"),
        ((X, Y[:-1], [1.0]), {}, "labels: needs one row for each of 600 examples, got shape"),
        ((X, np.zeros(600), [1.0]), {}, "labels: needs two classes or more, got only"),
        ((X, Y, [1.0]), {"weights": np.where(Y == 3, 0.0, 1.0)}, "class 3 has no weight"),
        ((X, Y, [1.0]), {"class_weight": {11: 2.0}}, "class_weight: 11 is none of the classes"),
        ((X[:, 0], Y, [1.0]), {}, "features: needs numbers"),
        ((np.where(X == 3, np.nan, X), Y, [1.0]), {}, "features: row 0 holds NaN or infinity"),
        ((X, Y, [1.0]), {"certify": TEST[:, 1:]}, "certify: has 63 columns, the features have 64"),
        ((X, np.stack([Y, Y], axis=1), [1.0]), {}, "labels: of shape .* each has to be 0 or 1"),
    ],
)
def test_what_is_wrong_is_named(arguments: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        probes.logistic(*arguments, **options)
