"""Losses are the formulas of the course, their gradients are those of the formulas, and they stay finite."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from funcgrad import autograd as ag
from funcgrad import models
from funcgrad.autograd import ops
from funcgrad.losses import (
    LOSSES,
    crammer_singer,
    l1_penalty,
    l2_penalty,
    make_loss,
    multiclass_hinge,
    softmax_cross_entropy,
    squared_hinge,
)

CLASSES = 4
SCORES = arrays(np.float32, CLASSES, elements=st.floats(-30, 30, width=32))
LABELS = st.integers(0, CLASSES - 1)
few_examples = settings(deadline=None, max_examples=30)


def plain_softmax(scores: np.ndarray, label: int) -> float:
    scores = scores.astype(np.float64)
    return float(-np.log(np.exp(scores[label]) / np.exp(scores).sum()))


def plain_hinge(scores: np.ndarray, label: int, margin: float = 1.0) -> float:
    scores = scores.astype(np.float64)
    return sum(max(0.0, scores[j] - scores[label] + margin) for j in range(len(scores)) if j != label)


def plain_squared_hinge(scores: np.ndarray, label: int) -> float:
    scores = scores.astype(np.float64)
    return sum(max(0.0, scores[j] - scores[label] + 1) ** 2 for j in range(len(scores)) if j != label)


def plain_crammer_singer(scores: np.ndarray, label: int) -> float:
    return max(0.0, np.delete(scores.astype(np.float64), label).max() - scores[label] + 1)


PLAIN = {
    "softmax": plain_softmax,
    "svm": plain_hinge,
    "squared_svm": plain_squared_hinge,
    "crammer_singer": plain_crammer_singer,
}


def violations(scores: Any, label: int) -> list[Any]:
    return [ops.relu(score - scores[label] + 1) for j, score in enumerate(scores) if j != label]


def smoothed(scores: Any, label: int, smoothing: float = 0.25) -> Any:
    losses = [ops.logsumexp(scores) - score for score in scores]
    return (1 - smoothing) * losses[label] + smoothing * ops.mean(losses)


# The same formula for funcgrad.autograd, which takes floats, and for JAX: `ops` take either.
FORMULAS = {
    "softmax": lambda scores, label: ops.logsumexp(scores) - scores[label],
    "smoothed softmax": smoothed,
    "svm": lambda scores, label: ops.sum(violations(scores, label)),
    "squared_svm": lambda scores, label: ops.sum([ops.square(x) for x in violations(scores, label)]),
    "crammer_singer": lambda scores, label: ops.max(violations(scores, label)),
}
CHOICES = {name: {"name": name} for name in LOSSES} | {"smoothed softmax": {"name": "softmax", "smoothing": 0.25}}


@pytest.mark.exhaustive
@few_examples
@given(SCORES, LABELS)
@pytest.mark.parametrize("name", FORMULAS)
def test_losses_and_gradients_are_those_of_the_plain_formula_in_both_systems(
    name: str, scores: np.ndarray, label: int
) -> None:
    others = np.delete(scores, label)
    assume(np.abs(others - scores[label] + 1).min() > 1e-3)  # at a kink there is more than one subgradient
    assume(np.ptp(np.sort(others)[-2:]) > 1e-3)  # likewise where two wrong classes are the worst
    loss = make_loss(**CHOICES[name])
    value, gradient = jax.value_and_grad(loss)(jnp.asarray(scores), label, {})
    floats = [float(x) for x in scores]
    by_autograd = ag.value_and_grad(lambda s: FORMULAS[name](s, label))(floats)
    np.testing.assert_allclose(value, by_autograd[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradient, by_autograd[1], rtol=1e-5, atol=1e-5)
    by_jax = jax.grad(lambda s: FORMULAS[name](s, label))([jnp.asarray(x) for x in floats])
    np.testing.assert_allclose(gradient, by_jax, rtol=1e-5, atol=1e-5)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_the_parameters_with_both_penalties_are_those_of_autograd(name: str) -> None:
    """A linear classifier of three numbers, its loss and penalties written out in floats."""
    rng = np.random.default_rng(4)
    params = {"weights": rng.normal(size=(CLASSES, 3)).tolist(), "bias": rng.normal(size=CLASSES).tolist()}
    x, label = rng.normal(size=3).tolist(), 2

    def in_floats(params: dict) -> Any:
        scores = [ops.dot(row, x) + bias for row, bias in zip(params["weights"], params["bias"], strict=True)]
        weights = [w for row in params["weights"] for w in row]
        penalties = 0.25 * ops.sum([abs(w) for w in weights]) + 0.5 * ops.sum([w * w for w in weights])
        return FORMULAS[name](scores, label) + penalties

    def in_arrays(params: Any) -> jax.Array:
        scores = models.linear(CLASSES).apply(params, jnp.asarray(x))
        return make_loss(name, l1=0.25, l2=0.5)(scores, jnp.asarray(label), params)

    value, gradient = jax.value_and_grad(in_arrays)({key: jnp.asarray(p) for key, p in params.items()})
    by_hand, slopes = ag.value_and_grad(in_floats)(params)
    np.testing.assert_allclose(value, by_hand, rtol=1e-5)
    for key in params:
        np.testing.assert_allclose(gradient[key], slopes[key], rtol=1e-4, atol=1e-6)


@few_examples
@given(SCORES, LABELS)
def test_softmax_cross_entropy_is_minus_the_log_of_the_labels_probability(scores: np.ndarray, label: int) -> None:
    np.testing.assert_allclose(softmax_cross_entropy(scores, label), plain_softmax(scores, label), rtol=1e-5, atol=1e-5)


@pytest.mark.exhaustive
@few_examples
@given(SCORES, LABELS)
def test_softmax_gradient_is_the_probabilities_less_the_one_hot_label(scores: np.ndarray, label: int) -> None:
    wide = scores.astype(np.float64)
    by_hand = np.exp(wide) / np.exp(wide).sum() - np.eye(CLASSES)[label]
    by_another_formula = jax.grad(lambda s: jnp.log(jnp.sum(jnp.exp(s - s[label]))))(jnp.asarray(scores))
    gradient = jax.grad(softmax_cross_entropy)(jnp.asarray(scores), label)
    np.testing.assert_allclose(gradient, by_hand, atol=1e-5)
    if np.ptp(scores) < 30:  # beyond it, the other formula overflows and this one does not
        np.testing.assert_allclose(gradient, by_another_formula, atol=1e-5)


@few_examples
@given(SCORES, LABELS, st.sampled_from([0.5, 1.0, 10.0]))
def test_hinge_is_the_sum_over_wrong_classes(scores: np.ndarray, label: int, margin: float) -> None:
    expected = plain_hinge(scores, label, margin)
    np.testing.assert_allclose(multiclass_hinge(scores, label, margin=margin), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.exhaustive
@few_examples
@given(SCORES, LABELS)
def test_hinge_gradient_counts_the_violated_margins(scores: np.ndarray, label: int) -> None:
    wide = scores.astype(np.float64)
    margins = wide - wide[label] + 1
    assume(np.abs(margins).min() > 1e-3)  # at the kink there is more than one subgradient

    def course_loop(s: jax.Array) -> jax.Array:
        return sum((jnp.maximum(0, s[j] - s[label] + 1) for j in range(CLASSES) if j != label), jnp.zeros(()))

    violated = (margins > 0).astype(float)
    violated[label] = 0
    violated[label] = -violated.sum()
    gradient = jax.grad(multiclass_hinge)(jnp.asarray(scores), label)
    np.testing.assert_array_equal(gradient, violated)
    np.testing.assert_array_equal(gradient, jax.grad(course_loop)(jnp.asarray(scores)))


@pytest.mark.exhaustive
@pytest.mark.parametrize("label", range(3))
def test_hinge_gradient_at_the_kink_is_zero(label: int) -> None:
    scores = jnp.full(3, 2.0).at[label].set(3.0)  # every wrong class is exactly one margin behind
    np.testing.assert_array_equal(jax.grad(multiclass_hinge)(scores, label), np.zeros(3))


def test_hinge_of_the_course_notes() -> None:
    """CS231n, notes on linear classification: scores [13, -7, 11], the first is right, margin 10."""
    assert float(multiclass_hinge(jnp.array([13.0, -7.0, 11.0]), 0, margin=10.0)) == 8


@pytest.mark.parametrize(
    ("scores", "label", "expected"), [([3.2, 5.1, -1.7], 0, 2.9), ([1.3, 4.9, 2.0], 1, 0), ([2.2, 2.5, -3.1], 2, 12.9)]
)
def test_hinge_of_the_course_slides(scores: list[float], label: int, expected: float) -> None:
    """CS231n, lecture 3: the cat, the car and the frog."""
    np.testing.assert_allclose(multiclass_hinge(jnp.array(scores), label), expected, atol=1e-5)


def test_the_three_hinges_of_one_example() -> None:
    scores, label = jnp.array([0.5, 0.75, 0.0]), 2
    assert float(multiclass_hinge(scores, label)) == 1.5 + 1.75
    assert float(squared_hinge(scores, label)) == 1.5**2 + 1.75**2
    assert float(crammer_singer(scores, label)) == 1.75


@few_examples
@given(SCORES, LABELS)
def test_crammer_and_singers_is_what_optax_has(scores: np.ndarray, label: int) -> None:
    theirs = optax.losses.multiclass_hinge_loss(jnp.asarray(scores), jnp.array(label))
    np.testing.assert_allclose(crammer_singer(scores, label), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("loss", [multiclass_hinge, squared_hinge, crammer_singer])
def test_a_hinge_is_zero_and_flat_where_no_class_comes_close(loss: Callable[..., jax.Array]) -> None:
    value, gradient = jax.value_and_grad(loss)(jnp.array([-2.0, 3.0, 1.5]), 1)
    assert float(value) == 0
    np.testing.assert_array_equal(gradient, np.zeros(3))


@pytest.mark.exhaustive
@few_examples
@given(arrays(np.float32, 2, elements=st.floats(-30, 30, width=32)), st.integers(0, 1))
def test_hinge_of_two_classes_is_crammer_and_singers(scores: np.ndarray, label: int) -> None:
    theirs = optax.losses.multiclass_hinge_loss(jnp.asarray(scores), jnp.array(label))
    np.testing.assert_allclose(multiclass_hinge(scores, label), theirs, rtol=1e-5, atol=1e-5)


@few_examples
@given(SCORES, LABELS, st.floats(0, 1))
def test_label_smoothing_is_a_mixture_with_the_uniform_distribution(
    scores: np.ndarray, label: int, smoothing: float
) -> None:
    losses = np.array([plain_softmax(scores, j) for j in range(CLASSES)])
    target = (1 - smoothing) * np.eye(CLASSES)[label] + smoothing / CLASSES
    smoothed = softmax_cross_entropy(scores, label, smoothing=smoothing)
    np.testing.assert_allclose(smoothed, target @ losses, rtol=1e-5, atol=1e-5)


@pytest.mark.exhaustive
@few_examples
@given(SCORES, LABELS, st.integers(-64, 64))
@pytest.mark.parametrize("name", LOSSES)
def test_a_constant_added_to_all_scores_changes_no_loss(
    name: str, scores: np.ndarray, label: int, constant: int
) -> None:
    moved = LOSSES[name](scores + np.float32(constant), label)
    np.testing.assert_allclose(moved, LOSSES[name](scores, label), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "smoothing"),
    [("softmax", 0.0), ("softmax", 0.1), ("svm", 0.0), ("squared_svm", 0.0), ("crammer_singer", 0.0)],
)
def test_extreme_scores_give_finite_losses_and_gradients(name: str, smoothing: float) -> None:
    loss = make_loss(name, smoothing=smoothing)
    for label in range(3):
        scores = jnp.array([1e4, -1e4, 0.0])
        value, gradient = jax.value_and_grad(loss)(scores, label, {})
        wide = np.array([1e4, -1e4, 0.0])
        distance = wide.max() - wide  # log-sum-exp is the largest score here
        expected = (1 - smoothing) * distance[label] + smoothing * distance.mean()
        if name != "softmax":
            expected = PLAIN[name](wide, label)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        assert np.isfinite(gradient).all()


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_of_losses_is_the_losses_of_its_examples(name: str) -> None:
    scores = np.random.default_rng(0).normal(0, 3, (20, CLASSES)).astype(np.float32)
    labels = np.arange(20) % CLASSES
    batch = jax.vmap(make_loss(name), (0, 0, None))(scores, jnp.asarray(labels), {})
    expected = [PLAIN[name](row, label) for row, label in zip(scores, labels, strict=True)]
    np.testing.assert_allclose(batch, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "model",
    [models.linear(3), models.mlp((5, 4), 3, layer_norm=True), models.mlp((4, 4), 3, residual=True)],
    ids=["linear", "mlp with layer norm", "residual"],
)
def test_penalties_are_sums_over_the_weights_and_touch_nothing_else(model: models.Model) -> None:
    init = jax.jit(lambda key: model.init(key, (6,)))
    params = jax.tree.map(lambda x: x + 1, init(jax.random.key(0)))  # biases too are no longer 0
    named = jax.tree.leaves_with_path(params)
    weights = [np.asarray(x, np.float64) for path, x in named if path[-1].key == "weights"]
    assert len(weights) < len(named)
    for penalty, term, slope_of in ((l2_penalty, np.square, lambda x: 2 * x), (l1_penalty, np.abs, np.sign)):
        np.testing.assert_allclose(penalty(params), sum(np.sum(term(w)) for w in weights), rtol=1e-5)
        gradient = jax.tree.leaves_with_path(jax.grad(penalty)(params))
        for (path, slope), (_, x) in zip(gradient, named, strict=True):
            np.testing.assert_allclose(slope, slope_of(x) if path[-1].key == "weights" else np.zeros_like(x))


def test_a_weight_of_zero_is_not_moved_by_the_l1_penalty() -> None:
    weights = jnp.array([[0.0, -2.0], [3.0, 0.0]])
    np.testing.assert_array_equal(jax.grad(l1_penalty)({"weights": weights})["weights"], [[0, -1], [1, 0]])


@pytest.mark.parametrize("penalty", [l1_penalty, l2_penalty])
def test_parameters_without_weights_have_no_penalty(penalty: Callable[..., jax.Array]) -> None:
    assert float(penalty({"bias": jnp.ones(3)})) == 0
    assert float(penalty({})) == 0


@pytest.mark.exhaustive
@pytest.mark.parametrize(("penalty", "share"), [("l1", 3.0), ("l2", 1.5)])
@pytest.mark.parametrize("name", LOSSES)
def test_a_penalty_is_added_in_proportion_and_can_be_swept(name: str, penalty: str, share: float) -> None:
    scores, label, params = jnp.array([1.0, 2.0, -1.0]), 0, {"weights": jnp.full((2, 3), -0.5), "bias": jnp.ones(3)}
    strengths = jnp.array([0.0, 0.1, 2.0])
    swept = jax.vmap(lambda x: make_loss(name, **{penalty: x})(scores, label, params))(strengths)
    alone = [make_loss(name, **{penalty: float(x)})(scores, label, params) for x in strengths]
    expected = PLAIN[name](np.asarray(scores), label) + share * np.asarray(strengths)
    np.testing.assert_allclose(swept, expected, rtol=1e-6)
    np.testing.assert_allclose(alone, expected, rtol=1e-6)


def test_smoothing_can_be_swept() -> None:
    scores, smoothings = jnp.array([1.0, 2.0, -1.0]), jnp.array([0.0, 0.1, 1.0])
    swept = jax.vmap(lambda x: make_loss("softmax", smoothing=x)(scores, 0, {}))(smoothings)
    losses = np.array([plain_softmax(np.asarray(scores), label) for label in range(3)])
    np.testing.assert_allclose(swept, [(1 - x) * losses[0] + x * losses.mean() for x in (0, 0.1, 1)], rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "hinge"}, "loss: 'hinge' is unknown; choose one of softmax, svm, squared_svm, crammer_singer"),
        ({"name": "svm", "smoothing": 0.1}, "smoothing: only loss 'softmax' has labels to smooth, got 0.1"),
        ({"name": "softmax", "smoothing": -0.1}, "smoothing: needs a share from 0 to 1, got -0.1"),
        ({"name": "softmax", "smoothing": 1.1}, "smoothing: needs a share from 0 to 1, got 1.1"),
        ({"name": "softmax", "l2": -1.0}, "l2: must be at least 0 and finite, got -1.0"),
        ({"name": "svm", "l2": float("nan")}, "l2: must be at least 0 and finite, got nan"),
        ({"name": "svm", "l1": -0.5}, "l1: must be at least 0 and finite, got -0.5"),
        ({"name": "softmax", "smoothing": float("nan")}, "smoothing: needs a share from 0 to 1, got nan"),
    ],
)
def test_a_wrong_argument_is_named_with_what_would_be_accepted(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_loss(**arguments)
