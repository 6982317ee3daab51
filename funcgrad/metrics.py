"""How good predictions are: accuracy, top-k accuracy, the confusion matrix. Counted in NumPy, exactly."""

import numpy as np
from jax.typing import ArrayLike


def accuracy(predictions: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """The share of predicted labels (…, N) that equal the labels (N,) → (…) float64.

    >>> float(accuracy([0, 1, 1, 2], [0, 1, 2, 2]))
    0.75
    """
    return np.mean(np.asarray(predictions) == np.asarray(labels), axis=-1)


def top_k_accuracy(scores: ArrayLike, labels: ArrayLike, k: int = 5) -> np.ndarray:
    """The share of examples whose label is among the k highest of the scores (…, N, C) → (…) float64.

    Ties go to the smaller label; a label whose score is NaN is not among them. Raises `ValueError` for a k below 1 or
    above the number of classes.

    >>> float(top_k_accuracy([[0.1, 0.6, 0.3], [0.5, 0.5, 0.0]], [2, 1], k=2))
    1.0
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    classes = scores.shape[-1]
    if not 1 <= k <= classes:
        raise ValueError(f"k: needs an integer from 1 to {classes}, the number of classes; got {k}")
    own = scores[..., np.arange(len(labels)), labels][..., None]
    ahead = (scores > own) | ((scores == own) & (np.arange(classes) < labels[:, None]))
    return np.mean((ahead.sum(axis=-1) < k) & ~np.isnan(own[..., 0]), axis=-1)


def confusion_matrix(predictions: ArrayLike, labels: ArrayLike, num_classes: int) -> np.ndarray:
    """Counts (num_classes, num_classes): the row is the true label, the column the predicted one."""
    matrix = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(matrix, (np.asarray(labels), np.asarray(predictions)), 1)
    return matrix
