"""What a classifier says of each example: how good it is, and predictions.csv and predictions.npz."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from funcgrad.files import shown

if TYPE_CHECKING:
    import numpy as np

COLUMNS = ("example", "label", "probability", "second_guess", "second_probability", "true_label")


class Predictions(NamedTuple):
    """Predicted labels, and all that is written of them.

    ids: (N,), a path, a row, or what else the data set has. labels: (N,) int, of the classes.
    probabilities: computes (N, C), when they are written. title: of the classifier, for its confusion matrix.
    true_labels: (N,) int, -1 where unknown; None where all are. arrays: computes what else belongs into the .npz.
    """

    ids: np.ndarray
    classes: Sequence[str]
    labels: np.ndarray
    probabilities: Callable[[], Any]
    title: str
    true_labels: np.ndarray | None = None
    arrays: Callable[[], Mapping[str, Any]] = dict


def confusion_matrix(predictions: Predictions) -> np.ndarray | None:
    """Counts (C, C), the true label in rows, of the examples whose label is known; None if there are none."""
    from funcgrad import metrics

    truth = predictions.true_labels
    if truth is None or not (truth >= 0).any():
        return None
    return metrics.confusion_matrix(predictions.labels[truth >= 0], truth[truth >= 0], len(predictions.classes))


def by_class(matrix: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """The accuracy on each class (None where there is no example), their mean, and the counts they come from."""
    shares = {
        name: int(matrix[i, i]) / total if (total := int(matrix[i].sum())) else None for i, name in enumerate(classes)
    }
    present = [share for share in shares.values() if share is not None]
    return {
        "class_accuracy": shares,
        "mean_class_accuracy": sum(present) / len(present),
        "confusion_matrix": matrix.tolist(),
    }


def write_predictions(folder: Path, predictions: Predictions) -> list[str]:
    """Writes predictions.csv (see `COLUMNS`) and predictions.npz into a folder and returns these names.

    The .npz has ids, classes, labels, probabilities, and true_labels where they are known; no pickle. A second guess is
    the most probable other class, and empty if that has probability 0.
    """
    import numpy as np

    probabilities, truth = np.asarray(predictions.probabilities()), predictions.true_labels
    rows, classes = np.arange(len(predictions.labels)), [shown(name) for name in predictions.classes]
    others = np.where(np.arange(len(classes)) == predictions.labels[:, None], -1.0, probabilities)
    second = others.argmax(axis=1)
    columns: dict[str, list[str]] = {
        "example": [shown(one) for one in predictions.ids],
        "label": [classes[label] for label in predictions.labels],
        "probability": [f"{share:.6g}" for share in probabilities[rows, predictions.labels]],
        "second_guess": [classes[label] if others[row, label] > 0 else "" for row, label in enumerate(second)],
        "second_probability": [f"{share:.6g}" if share > 0 else "" for share in others[rows, second]],
    }
    arrays = {
        "ids": np.asarray(predictions.ids),
        "classes": np.array(predictions.classes),
        "labels": predictions.labels,
        "probabilities": probabilities,
    }
    if truth is not None:
        columns["true_label"] = [classes[label] if label >= 0 else "" for label in truth]
        arrays["true_labels"] = truth
    with (folder / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    np.savez_compressed(folder / "predictions.npz", **{**arrays, **predictions.arrays()})
    return ["predictions.csv", "predictions.npz"]
