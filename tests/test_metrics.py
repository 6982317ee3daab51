"""Metrics are counts, exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funcgrad.metrics import accuracy, confusion_matrix, in_top_k, top_k_accuracy

CLASSES = 4
PAIRS = st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=50)
SCORES = st.lists(st.lists(st.integers(-2, 2), min_size=CLASSES, max_size=CLASSES), min_size=1, max_size=20)
unhurried = settings(deadline=None)


@unhurried
@given(PAIRS)
def test_accuracy_is_the_share_of_equal_pairs(pairs: list[tuple[int, int]]) -> None:
    predictions, labels = zip(*pairs, strict=True)
    assert float(accuracy(predictions, labels)) == sum(p == y for p, y in pairs) / len(pairs)


def test_accuracy_of_stacked_predictions_is_that_of_each() -> None:
    labels = np.array([0, 1, 2, 1])
    predictions = np.array([[0, 1, 2, 1], [0, 0, 0, 0], [1, 1, 2, 0]])
    np.testing.assert_array_equal(accuracy(predictions, labels), [1, 0.25, 0.5])


def test_accuracy_is_counted_beyond_the_range_of_float32() -> None:
    labels = np.zeros(2**24 + 3, np.uint8)
    predictions = labels.copy()
    predictions[-1] = 1
    assert float(accuracy(predictions, labels)) == (2**24 + 2) / (2**24 + 3)


@unhurried
@given(PAIRS)
def test_confusion_matrix_counts_each_pair_once(pairs: list[tuple[int, int]]) -> None:
    predictions, labels = (np.array(x) for x in zip(*pairs, strict=True))
    matrix = confusion_matrix(predictions, labels, CLASSES)
    by_hand = [[pairs.count((p, y)) for p in range(CLASSES)] for y in range(CLASSES)]
    np.testing.assert_array_equal(matrix, by_hand)
    np.testing.assert_array_equal(matrix.sum(axis=1), np.bincount(labels, minlength=CLASSES))
    np.testing.assert_array_equal(matrix.sum(axis=0), np.bincount(predictions, minlength=CLASSES))
    assert matrix.trace() / matrix.sum() == float(accuracy(predictions, labels))


@unhurried
@given(SCORES, st.integers(1, CLASSES), st.integers(0, 2**32 - 1))
def test_top_k_accuracy_looks_at_the_first_k_of_the_sorted_classes(scores: list[list[int]], k: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, CLASSES, len(scores))
    ranked = [sorted(range(CLASSES), key=lambda j: (-row[j], j)) for row in scores]  # ties to the smaller label
    right = sum(label in order[:k] for label, order in zip(labels, ranked, strict=True))
    assert top_k_accuracy(np.array(scores, float), labels, k) == right / len(scores)


@unhurried
@given(SCORES)
def test_top_1_is_the_accuracy_of_argmax_and_top_all_is_1(scores: list[list[int]]) -> None:
    labels = np.arange(len(scores)) % CLASSES
    table = np.array(scores, float)
    assert top_k_accuracy(table, labels, 1) == float(accuracy(table.argmax(axis=1), labels))
    assert top_k_accuracy(table, labels, CLASSES) == 1


def test_top_k_accuracy_of_stacked_scores_is_that_of_each() -> None:
    scores = np.random.default_rng(0).integers(0, 3, (4, 50, 8)).astype(np.float32)
    labels = np.arange(50) % 8
    np.testing.assert_array_equal(top_k_accuracy(scores, labels), [top_k_accuracy(one, labels) for one in scores])


def test_a_score_that_is_nan_is_not_among_the_highest() -> None:
    assert top_k_accuracy([[np.nan, 1.0, 0.0], [np.nan, 1.0, 0.0]], [0, 1], 2) == 0.5


@pytest.mark.parametrize("k", [0, 4])
def test_a_k_outside_the_classes_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=f"k: needs an integer from 1 to 3, the number of classes; got {k}"):
        top_k_accuracy(np.zeros((2, 3)), [0, 1], k)


@unhurried
@given(SCORES, st.integers(1, CLASSES), st.integers(0, 2**32 - 1))
def test_a_class_without_a_vote_is_no_guess(counts: list[list[int]], k: int, seed: int) -> None:
    votes = np.abs(np.array(counts, float))
    labels = np.random.default_rng(seed).integers(0, CLASSES, len(votes))
    guesses = [[j for j in sorted(range(CLASSES), key=lambda j: (-row[j], j))[:k] if row[j] > 0] for row in votes]
    right = [label in guess for label, guess in zip(labels, guesses, strict=True)]
    np.testing.assert_array_equal(in_top_k(votes, labels, k, votes=True), right)
    assert top_k_accuracy(votes, labels, k, votes=True) == np.mean(right)


def test_one_random_vote_among_ten_classes_is_right_once_in_ten() -> None:
    labels = np.repeat(np.arange(10), 10)
    votes = np.eye(10)[np.tile(np.arange(10), 10)]
    assert top_k_accuracy(votes, labels, 5, votes=True) == 0.1
    assert top_k_accuracy(votes, labels, 5) > 0.4  # of a model's scores, where 0 may be a small number


def test_an_infinite_vote_is_one() -> None:
    assert top_k_accuracy([[0, np.inf, 0]], [1], 2, votes=True) == 1
