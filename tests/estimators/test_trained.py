"""The trained scikit-learn estimators: scikit-learn's own checks, its answers, and what issue 5 asks of them."""

import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from calls import calls_of
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from funcgrad import training
from funcgrad.estimators import LinearClassifier, MLPClassifier
from funcgrad.training.steps import run_steps

BOTH = [LinearClassifier(max_iter=30, learning_rate=0.1), MLPClassifier((8,), max_iter=30, learning_rate=0.03)]
NAMES = np.array(["ant", "bee", "cat"])
both = pytest.mark.parametrize("model", BOTH, ids=["linear", "mlp"])


CHECKS = parametrize_with_checks([LinearClassifier(), MLPClassifier()])


@pytest.mark.exhaustive
@pytest.mark.parametrize(CHECKS.args[0], list(CHECKS.args[1]), **CHECKS.kwargs)  # a list: new pytest wants no generator
def test_they_pass_every_check_of_scikit_learn(
    estimator: Any, check: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # else the check of array-API input skips itself
    check(estimator)


def clusters(dtype: Any = np.float64, count: int = 60, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping clusters: points (count, 4) and labels; always the same."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, count)
    return (rng.normal(size=(count, 4)) + labels[:, None]).astype(dtype), labels


def parameters(model: Any) -> list[np.ndarray]:
    if isinstance(model, LinearClassifier):
        return [model.coef_, model.intercept_]
    return [*model.coefs_, *model.intercepts_]


def assert_same(one: Any, other: Any, **tolerance: float) -> None:
    for a, b in zip(parameters(one), parameters(other), strict=True):
        np.testing.assert_allclose(a, b, **({"rtol": 0, "atol": 0} | tolerance))


# The answers.


@pytest.mark.exhaustive
@pytest.mark.parametrize("classes", [2, 3])
def test_the_linear_one_finds_what_logistic_regression_finds(classes: int) -> None:
    """A column of weights for each class has twice the penalty for the same difference, if there are two classes."""
    points, labels = clusters(classes=classes)
    l2 = 0.01
    ours = LinearClassifier(l2=l2, learning_rate=0.1, max_iter=1500).fit(points, labels)
    strength = l2 if classes > 2 else l2 / 2
    theirs = LogisticRegression(C=1 / (2 * strength * len(points)), solver="newton-cg", tol=1e-8, max_iter=1000).fit(
        points, labels
    )
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5)
    np.testing.assert_allclose(ours.predict_proba(points), theirs.predict_proba(points), atol=1e-5)
    free = ours.intercept_ - theirs.intercept_  # one number added to all scores changes nothing
    np.testing.assert_allclose(free - (free.mean() if classes > 2 else 0), 0, atol=1e-5)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("model", "floor"),
    [(LinearClassifier(l2=0.1), 0.900), (MLPClassifier((256, 128), dropout=0.3, l2=1e-3, max_iter=100), 0.919)],
)
def test_digits_are_read_at_least_as_well_as_by_scikit_learn(model: Any, floor: float) -> None:
    """On pixels as they are. The floors are scikit-learn's LogisticRegression and MLPClassifier.

    l2, dropout and sizes were chosen in five folds of the training images (0.946, 0.952); here they give 0.906, 0.942.
    """
    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.float32)
    assert model.fit(images[:1437], labels[:1437]).score(images[1437:], labels[1437:]) >= floor


@pytest.mark.exhaustive
def test_a_hidden_layer_separates_what_a_line_cannot() -> None:
    points = np.random.default_rng(0).uniform(-1, 1, (200, 2))
    labels = (points[:, 0] * points[:, 1] > 0).astype(int)
    assert LinearClassifier().fit(points, labels).score(points, labels) < 0.7
    assert MLPClassifier((32, 16), learning_rate=0.02).fit(points, labels).score(points, labels) > 0.97


@pytest.mark.exhaustive
@both
def test_scores_are_those_of_the_public_parameters(model: Any) -> None:
    points, labels = clusters()
    fitted = clone(model).fit(points, labels)
    if isinstance(model, LinearClassifier):
        scores = points @ fitted.coef_.T + fitted.intercept_
    else:
        first, last = fitted.coefs_
        scores = np.maximum(points @ first + fitted.intercepts_[0], 0) @ last + fitted.intercepts_[1]
    np.testing.assert_allclose(fitted.decision_function(points), scores, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(fitted.predict(points), np.argmax(scores, axis=1))
    exponentials = np.exp(scores)
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(fitted.predict_proba(points), probabilities, rtol=1e-10)
    np.testing.assert_allclose(fitted.predict_log_proba(points), np.log(probabilities), rtol=1e-8)


@pytest.mark.exhaustive
@both
def test_with_two_classes_scores_are_one_number(model: Any) -> None:
    points, labels = clusters(classes=2)
    fitted = clone(model).fit(points, NAMES[labels])
    scores = fitted.decision_function(points)
    assert scores.shape == (60,)
    np.testing.assert_array_equal(fitted.predict(points), NAMES[(scores > 0).astype(int)])
    np.testing.assert_allclose(fitted.predict_proba(points)[:, 1], 1 / (1 + np.exp(-scores)), rtol=1e-9)
    if isinstance(model, LinearClassifier):
        assert fitted.coef_.shape == (1, 4)
        np.testing.assert_allclose(points @ fitted.coef_[0] + fitted.intercept_, scores, rtol=1e-9, atol=1e-12)


@pytest.mark.exhaustive
@both
@pytest.mark.parametrize("loss", ["svm", "squared_svm", "crammer_singer"])
def test_hinge_losses_score_and_give_no_probabilities(model: Any, loss: str) -> None:
    points, labels = clusters()
    fitted = clone(model).set_params(loss=loss).fit(points, labels)
    assert fitted.score(points, labels) > 0.7
    assert fitted.decision_function(points).shape == (60, 3)
    assert not hasattr(fitted, "predict_proba")
    assert not hasattr(fitted, "predict_log_proba")
    with pytest.raises(AttributeError):
        fitted.predict_proba(points)


# Numbers and repetition.


@pytest.mark.exhaustive
@both
@pytest.mark.parametrize(("dtype", "computed"), [(np.float64, np.float64), (np.float32, np.float32), (int, np.float64)])
def test_float64_is_computed_in_float64(model: Any, dtype: Any, computed: Any) -> None:
    points, labels = clusters(dtype)
    fitted = clone(model).fit(points, labels)
    assert {array.dtype for array in parameters(fitted)} == {np.dtype(computed)}
    assert fitted.decision_function(points).dtype == computed
    assert not jax.config.read("jax_enable_x64")


@pytest.mark.exhaustive
@both
def test_float64_and_float32_agree(model: Any) -> None:
    points, labels = clusters(np.float32, count=59)
    narrow, wide = clone(model), clone(model)
    if isinstance(model, LinearClassifier):  # an MLP begins with other random numbers
        narrow.fit(points, labels)
        assert_same(narrow, wide.fit(points.astype(np.float64), labels), rtol=1e-3, atol=1e-4)
    fitted = clone(model).fit(points, labels)
    scores = fitted.decision_function(points)
    np.testing.assert_allclose(fitted.decision_function(points.astype(np.float64)), scores, rtol=1e-6, atol=1e-6)


@pytest.mark.exhaustive
def test_bytes_stay_bytes_until_they_are_trained_on() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 6)).astype(np.uint8)
    labels = (images[:, 0] > 127).astype(int)
    with calls_of(training.fit) as calls:
        model = LinearClassifier(max_iter=5).fit(images, labels)
    assert [arguments["inputs"].dtype for arguments in calls] == [np.uint8]
    assert_same(model, LinearClassifier(max_iter=5).fit(images.astype(np.float32), labels))
    assert model.coef_.dtype == np.float32


@pytest.mark.exhaustive
@both
def test_the_same_training_gives_the_same_bits(model: Any) -> None:
    points, labels = clusters(np.float32)
    model = clone(model).set_params(batch_size=16)
    one, again = clone(model).fit(points, labels), clone(model).fit(points, labels)
    assert_same(one, again)
    assert one.loss_curve_ == again.loss_curve_
    other = clone(model).set_params(random_state=1).fit(points, labels)
    assert any((a != b).any() for a, b in zip(parameters(one), parameters(other), strict=True))
    drawn = [clone(model).set_params(random_state=np.random.RandomState(1)).fit(points, labels) for _ in range(2)]
    assert_same(drawn[0], drawn[1])


@pytest.mark.exhaustive
@both
def test_equal_settings_share_one_compiled_program(model: Any) -> None:
    points, labels = clusters()
    clone(model).set_params(l2=0.02).fit(points, labels)
    before = run_steps._cache_size()
    clone(model).set_params(l2=0.02).fit(points + 1, NAMES[labels])
    assert run_steps._cache_size() == before


# Weights.


@pytest.mark.exhaustive
@both
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 3.0, 2: 0.5}])
def test_a_weight_of_two_is_an_example_twice_and_zero_is_none(model: Any, class_weight: Any) -> None:
    points, labels = clusters()
    counts = np.random.default_rng(1).integers(0, 4, 60)
    weighted, repeated = (clone(model).set_params(class_weight=class_weight) for _ in range(2))
    weighted.fit(points, labels, sample_weight=counts)
    rows = np.random.default_rng(2).permutation(np.repeat(np.arange(60), counts))
    repeated.fit(points[rows], labels[rows])
    assert_same(weighted, repeated, rtol=1e-6, atol=1e-8)
    unweighted = clone(model).set_params(class_weight=class_weight).fit(points, labels)
    assert any((abs(a - b) > 1e-4).any() for a, b in zip(parameters(weighted), parameters(unweighted), strict=True))


@both
def test_class_weights_are_weights_of_the_examples(model: Any) -> None:
    points, labels = clusters()
    names = NAMES[labels]
    by_class = clone(model).set_params(class_weight={"ant": 3.0, "cat": 0.5}).fit(points, names)
    assert_same(by_class, clone(model).fit(points, names, sample_weight=np.array([3.0, 1.0, 0.5])[labels]), rtol=1e-7)
    balanced = clone(model).set_params(class_weight="balanced").fit(points, names)
    shares = 60 / (3 * np.bincount(labels))
    assert_same(balanced, clone(model).fit(points, names, sample_weight=shares[labels]), rtol=1e-7)


@pytest.mark.exhaustive
def test_a_class_without_weight_is_not_there() -> None:
    points, labels = clusters()
    model = LinearClassifier(max_iter=5).fit(points, NAMES[labels], sample_weight=labels != 1)
    assert model.classes_.tolist() == ["ant", "cat"]


def test_score_takes_weights() -> None:
    points, labels = clusters()
    model = BOTH[0].fit(points, labels)
    right = model.predict(points) == labels
    assert 0 < right.sum() < 60
    assert model.score(points, labels, sample_weight=right) == 1
    assert model.score(points, labels, sample_weight=~right) == 0


# The course of a training.


@both
def test_the_loss_curve_has_a_number_an_epoch_and_falls(model: Any) -> None:
    points, labels = clusters()
    fitted = clone(model).fit(points, labels)
    assert len(fitted.loss_curve_) == fitted.n_iter_ == 30
    assert fitted.loss_curve_[-1] < 0.7 * fitted.loss_curve_[0]
    if isinstance(model, LinearClassifier):
        np.testing.assert_allclose(fitted.loss_curve_[0], np.log(3))


@pytest.mark.exhaustive
@both
def test_early_stopping_takes_the_best_epoch(model: Any) -> None:
    points, labels = clusters(count=120)
    stopping = clone(model).set_params(early_stopping=True, n_iter_no_change=3, validation_fraction=0.25)
    stopping.set_params(max_iter=200, schedule="constant").fit(points, labels)
    scores = stopping.validation_scores_
    best = int(np.argmax(scores)) + 1
    assert len(scores) == stopping.n_iter_ == best + 3 < 200
    until_then = clone(stopping).set_params(max_iter=best).fit(points, labels)
    assert_same(stopping, until_then)


@pytest.mark.exhaustive
@both
def test_parts_of_the_data_one_after_the_other(model: Any) -> None:
    """A part is a step here: three calls are three epochs of constant rate, and what lies between changes nothing."""
    points, labels = clusters()
    whole = clone(model).set_params(max_iter=3, schedule="constant").fit(points, NAMES[labels])
    parts = clone(model)
    for call in range(3):
        parts.partial_fit(points, NAMES[labels], classes=NAMES if call == 0 else None)
        parts = pickle.loads(pickle.dumps(parts))
    if isinstance(model, LinearClassifier):  # an MLP begins with other random numbers
        assert_same(parts, whole, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(parts.loss_curve_, whole.loss_curve_, rtol=1e-9)
    assert parts.loss_curve_[2] < parts.loss_curve_[1] < parts.loss_curve_[0]
    assert parts.n_iter_ == 3
    assert parts.classes_.tolist() == NAMES.tolist()


@pytest.mark.exhaustive
@both
def test_parts_may_lack_classes_and_go_on_after_fit(model: Any) -> None:
    points, labels = clusters()
    parts = clone(model)
    order = np.argsort(labels, kind="stable")
    for _ in range(40):
        for rows in np.split(order, 3):
            parts.partial_fit(points[rows], labels[rows], classes=[0, 1, 2])
    assert parts.score(points, labels) > 0.6
    fitted = clone(model).fit(points, labels)
    before = fitted.loss_curve_
    fitted.partial_fit(points, labels)
    assert fitted.n_iter_ == 31
    assert fitted.loss_curve_[:-1] == before
    assert fitted.loss_curve_[-1] < before[0]


@pytest.mark.exhaustive
def test_another_optimizer_begins_anew() -> None:
    points, labels = clusters()
    model = LinearClassifier().partial_fit(points, labels, classes=[0, 1, 2])
    before, errors = model.coef_, model.predict_proba(points) - np.eye(3)[labels]
    model.set_params(optimizer="sgd", learning_rate=0.5, l2=0.0).partial_fit(points, labels)
    np.testing.assert_allclose(model.coef_, before - 0.5 * errors.T @ points / 60, rtol=1e-9)


def test_weights_of_a_part_count() -> None:
    points, labels = clusters()
    weights = np.random.default_rng(1).integers(0, 3, 60)
    weighted = LinearClassifier(class_weight={2: 5}).partial_fit(points, labels, [0, 1, 2], sample_weight=weights)
    total = weights * np.where(labels == 2, 5.0, 1.0)
    assert_same(weighted, LinearClassifier().partial_fit(points, labels, [0, 1, 2], sample_weight=total), rtol=1e-9)
    targets, expected = np.eye(3)[labels], np.full((60, 3), 1 / 3)
    gradient = points.T @ (total[:, None] * (expected - targets)) / total.sum()
    np.testing.assert_array_equal(np.sign(weighted.coef_.T), -np.sign(gradient))  # Adam's first step
    np.testing.assert_allclose(np.abs(weighted.coef_), 0.01, rtol=1e-4)


# In scikit-learn's company.


@pytest.mark.exhaustive
@both
def test_in_a_grid_search_of_a_pipeline(model: Any) -> None:
    points, labels = clusters()
    name = type(model).__name__.lower()
    grid = {f"{name}__l2": [1e-4, 1e3], f"{name}__batch_size": np.array([128])}
    search = GridSearchCV(make_pipeline(StandardScaler(), clone(model)), grid, cv=3, n_jobs=1, error_score="raise")
    search.fit(points, NAMES[labels])
    assert search.best_params_[f"{name}__l2"] == 1e-4
    assert search.score(points, NAMES[labels]) > 0.7
    assert cross_val_score(clone(model), points, NAMES[labels], cv=3).mean() > 0.5


@pytest.mark.exhaustive
def test_a_clone_is_not_fitted_and_a_number_is_one_hidden_layer() -> None:
    points, labels = clusters()
    model = MLPClassifier([5, 4], activation="tanh", dropout=0.1, max_iter=3).fit(points, labels)
    assert [coef.shape for coef in model.coefs_] == [(4, 5), (5, 4), (4, 3)]
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    for call in (copy.predict, copy.predict_proba, copy.decision_function):
        with pytest.raises(NotFittedError):
            call(points)


@pytest.mark.exhaustive
def test_a_number_is_one_hidden_layer() -> None:
    points, labels = clusters()
    assert_same(MLPClassifier(5, max_iter=2).fit(points, labels), MLPClassifier((5,), max_iter=2).fit(points, labels))


@pytest.mark.exhaustive
def test_parameters_are_numpy_arrays_that_pickle() -> None:
    points, labels = clusters()
    model = MLPClassifier((5,), max_iter=2).partial_fit(points, labels, classes=[0, 1, 2])
    leaves = jax.tree.leaves(vars(model))
    assert not any(isinstance(leaf, jnp.ndarray) for leaf in leaves)
    assert any(isinstance(leaf, np.ndarray) for leaf in leaves)
    copy = pickle.loads(pickle.dumps(model))
    assert_same(copy.partial_fit(points, labels), model.partial_fit(points, labels))


# What is refused.


@both
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "hinge"}, "loss: 'hinge' is unknown; choose one of softmax, svm"),
        ({"optimizer": "adamm"}, "optimizer: 'adamm' is unknown; choose one of"),
        ({"schedule": "cos"}, "schedule: 'cos' is unknown; choose one of"),
        ({"learning_rate": -0.1}, "learning_rate: must be above 0 and finite, got -0.1"),
        ({"learning_rate": "fast"}, "learning_rate: needs a number, got 'fast'"),
        ({"l2": -1}, "l2: must be at least 0 and finite, got -1"),
        ({"l2": None}, "l2: needs a number, got None"),
        ({"batch_size": 0}, "batch_size: needs an integer of at least 1, got 0"),
        ({"max_iter": 1.5}, "max_iter: needs an integer of at least 1, got 1.5"),
        ({"max_iter": True}, "max_iter: needs an integer of at least 1, got True"),
        ({"n_iter_no_change": 0}, "n_iter_no_change: needs an integer of at least 1, got 0"),
        ({"validation_fraction": 1.0}, "validation_fraction: needs a share between 0 and 1, got 1.0"),
        ({"class_weight": "even"}, "class_weight: needs None, 'balanced' or a dict, got 'even'"),
        ({"class_weight": {0: -1.0}}, "class_weight: needs finite numbers of at least 0"),
        ({"class_weight": {7: 2.0}}, "class_weight: has classes that are not in y: 7"),
    ],
)
def test_wrong_parameters_are_named_in_fit(model: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        clone(model).set_params(**options).fit(*clusters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_layer_sizes": (5, 0)}, "hidden_layer_sizes: needs an integer of at least 1, got 0"),
        ({"hidden_layer_sizes": "wide"}, "hidden_layer_sizes: needs an integer of at least 1, got 'w'"),
        ({"hidden_layer_sizes": ()}, "hidden_layer_sizes: needs one size or more"),
        ({"activation": "step"}, "activation: 'step' is unknown; choose one of relu"),
        ({"dropout": 1.0}, "dropout: needs a share from 0 to below 1, got 1.0"),
    ],
)
def test_wrong_parameters_of_the_mlp_are_named_in_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLPClassifier(**options).fit(*clusters())


@pytest.mark.exhaustive
@both
def test_examples_that_do_not_do(model: Any) -> None:
    points, labels = clusters()
    model = clone(model)
    with pytest.raises(TypeError, match=r"dense.*toarray\(\)"):
        model.fit(csr_array(points), labels)
    with pytest.raises(ValueError, match="y: needs two classes or more, got 1 class"):
        model.fit(points, np.zeros(60, int))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        model.fit(points, labels[:-1])
    with pytest.raises(ValueError, match="sample_weight: needs finite numbers of at least 0"):
        model.fit(points, labels, sample_weight=-np.ones(60))
    with pytest.raises(ValueError, match="sample_weight"):
        model.fit(points, labels, sample_weight=np.ones(59))
    assert not hasattr(model, "classes_")
    model.fit(points, labels)
    with pytest.raises(ValueError, match="3 features"):
        model.predict(points[:, :3])
    with pytest.raises(TypeError, match=r"dense.*toarray\(\)"):
        model.predict(csr_array(points))


@pytest.mark.exhaustive
def test_parts_that_do_not_do() -> None:
    points, labels = clusters()
    with pytest.raises(ValueError, match="classes: the first call of partial_fit needs all classes"):
        LinearClassifier().partial_fit(points, labels)
    with pytest.raises(ValueError, match="classes: needs two classes or more, got"):
        LinearClassifier().partial_fit(points, labels, classes=[1])
    with pytest.raises(ValueError, match=r"y: has classes \[2\] that are not among \[0, 1\]"):
        LinearClassifier().partial_fit(points, labels, classes=[0, 1])
    with pytest.raises(ValueError, match="class_weight: 'balanced' needs all of the data"):
        LinearClassifier(class_weight="balanced").partial_fit(points, labels, classes=[0, 1, 2])
    model = LinearClassifier().partial_fit(points, labels, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"classes: must not change from \[0, 1, 2\], got \[0, 1\]"):
        model.partial_fit(points, labels, classes=[0, 1])
    with pytest.raises(ValueError, match="4 features"):
        model.partial_fit(points[:, :3], labels)
    assert model.n_iter_ == 1


@pytest.mark.exhaustive
@both
def test_a_training_that_diverges_says_so_and_keeps_what_was(model: Any) -> None:
    points, labels = clusters()
    wild = clone(model).set_params(loss="squared_svm", optimizer="sgd", learning_rate=1e200)
    with pytest.raises(ValueError, match=r"learning_rate: training diverged \(epoch \d+, .* is not finite\); lower it"):
        wild.fit(points, labels)
    assert not hasattr(wild, "classes_")
    parts = clone(model).partial_fit(points, labels, classes=[0, 1, 2])
    before = parameters(parts)
    parts.set_params(loss="squared_svm", learning_rate=1e200, batch_size=16)
    with pytest.raises(ValueError, match=r"learning_rate: training diverged \(call 2 of partial_fit"):
        parts.partial_fit(points, labels)
    for array, kept in zip(parameters(parts), before, strict=True):
        np.testing.assert_array_equal(array, kept)
    assert parts.n_iter_ == 1
