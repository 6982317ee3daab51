"""How good predictions are: accuracy, top-k accuracy, the confusion matrix. Counted in NumPy, exactly."""

import numpy as np
from jax.typing import ArrayLike


def accuracy(predictions: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """The share of predicted labels (…, N) that equal the labels (N,) → (…) float64.

    >>> float(accuracy([0, 1, 1, 2], [0, 1, 2, 2]))
    0.75
    """
    return np.mean(np.asarray(predictions) == np.asarray(labels), axis=-1)


def in_top_k(scores: ArrayLike, labels: ArrayLike, k: int = 5, *, votes: bool = False) -> np.ndarray:
    """Whether each label (N,) is among the k highest of its scores (…, N, C) → (…, N) bool.

    Ties go to the smaller label; a label whose score is NaN is not among them. With `votes` the scores are votes of
    neighbours, and a class without any is not among them either. Raises `ValueError` for a k below 1 or above the
    number of classes.
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    classes = scores.shape[-1]
    if not 1 <= k <= classes:
        raise ValueError(f"k: needs an integer from 1 to {classes}, the number of classes; got {k}")
    own = scores[..., np.arange(len(labels)), labels]
    ahead = (scores > own[..., None]) | ((scores == own[..., None]) & (np.arange(classes) < labels[:, None]))
    return (ahead.sum(axis=-1) < k) & (own > 0 if votes else ~np.isnan(own))


def top_k_accuracy(scores: ArrayLike, labels: ArrayLike, k: int = 5, *, votes: bool = False) -> np.ndarray:
    """The share of examples whose label is among the k highest of the scores (…, N, C) → (…) float64; see `in_top_k`.

    >>> float(top_k_accuracy([[0.1, 0.6, 0.3], [0.5, 0.5, 0.0]], [2, 1], k=2))
    1.0
    >>> float(top_k_accuracy([[0, 1, 0], [0, 2, 1]], [0, 2], k=2, votes=True))
    0.5
    """
    return np.mean(in_top_k(scores, labels, k, votes=votes), axis=-1)


def confusion_matrix(predictions: ArrayLike, labels: ArrayLike, num_classes: int) -> np.ndarray:
    """Counts (num_classes, num_classes): the row is the true label, the column the predicted one."""
    matrix = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(matrix, (np.asarray(labels), np.asarray(predictions)), 1)
    return matrix
