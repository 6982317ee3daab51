"""How good predictions are: accuracy, top-k accuracy, the confusion matrix. Counted in NumPy, exactly."""

import numpy as np
from jax.typing import ArrayLike


def accuracy(predictions: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """The share of predicted labels (…, N) that equal the labels (N,) → (…) float64.

    >>> float(accuracy([0, 1, 1, 2], [0, 1, 2, 2]))
    0.75
    """
    return np.mean(np.asarray(predictions) == np.asarray(labels), axis=-1)


def top_k_accuracy(scores: ArrayLike, labels: ArrayLike, k: int = 5) -> float:
    """The share of examples whose label is among the k highest of the scores (N, C); ties go to the smaller label.

    Raises `ValueError` for a k below 1 or above the number of classes.
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    if not 1 <= k <= scores.shape[-1]:
        raise ValueError(f"k: needs an integer from 1 to {scores.shape[-1]}, the number of classes; got {k}")
    highest = np.argsort(-scores, axis=-1, kind="stable")[:, :k]
    return float(np.mean(np.any(highest == labels[:, None], axis=1)))


def confusion_matrix(predictions: ArrayLike, labels: ArrayLike, num_classes: int) -> np.ndarray:
    """Counts (num_classes, num_classes): the row is the true label, the column the predicted one."""
    matrix = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(matrix, (np.asarray(labels), np.asarray(predictions)), 1)
    return matrix
