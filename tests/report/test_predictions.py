"""Predictions: measured by class, and written as a table and as arrays."""

import csv
from pathlib import Path

import numpy as np
import pytest

from funcgrad import report

NAMES = ("cat", "dog [young]", "\x1b[31mred")
PROBABILITIES = np.array([[0.75, 0.25, 0], [0.125, 0.25, 0.625], [1, 0, 0], [0.25, 0.5, 0.25]], np.float32)


def predictions(truth: list[int] | None) -> report.Predictions:
    ids = np.array(["a.jpg", "b\udcff.jpg", "c, d.jpg", "e.jpg"])
    labels = PROBABILITIES.argmax(axis=1)
    true_labels = None if truth is None else np.array(truth, np.int32)
    extra = {"ks": np.array([1])}
    return report.Predictions(ids, NAMES, labels, lambda: PROBABILITIES, "title", true_labels, lambda: extra)


def test_the_table_has_the_label_the_second_guess_and_the_truth(tmp_path: Path) -> None:
    written = report.write_predictions(tmp_path, predictions([0, 1, -1, 1]))
    assert sorted(written) == sorted(path.name for path in tmp_path.iterdir())
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["example", "label", "probability", "second_guess", "second_probability", "true_label"]
    assert rows == [
        ["a.jpg", "cat", "0.75", "dog [young]", "0.25", "cat"],
        ["b\\xff.jpg", "\\x1b[31mred", "0.625", "dog [young]", "0.25", "dog [young]"],
        ["c, d.jpg", "cat", "1", "", "", ""],
        ["e.jpg", "dog [young]", "0.5", "cat", "0.25", "dog [young]"],
    ]
    with np.load(tmp_path / "predictions.npz", allow_pickle=False) as arrays:
        assert sorted(arrays) == ["classes", "ids", "ks", "labels", "probabilities", "true_labels"]
        assert tuple(arrays["classes"]) == NAMES
        np.testing.assert_array_equal(arrays["labels"], [0, 2, 0, 1])
        np.testing.assert_array_equal(arrays["probabilities"], PROBABILITIES)


def test_without_labels_there_is_no_column_of_them(tmp_path: Path) -> None:
    report.write_predictions(tmp_path, predictions(None))
    assert (tmp_path / "predictions.csv").read_text(encoding="utf-8").startswith(",".join(report.COLUMNS[:5]) + "\n")
    assert report.confusion_matrix(predictions(None)) is None
    assert report.confusion_matrix(predictions([-1] * 4)) is None


def test_each_class_has_its_accuracy_and_all_have_the_same_weight_in_the_mean() -> None:
    matrix = report.confusion_matrix(predictions([0, 0, 0, 1]))
    assert matrix is not None
    measured = report.by_class(matrix, NAMES)
    assert measured["confusion_matrix"] == [[2, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert measured["class_accuracy"] == {"cat": pytest.approx(2 / 3), "dog [young]": 1, "\x1b[31mred": None}
    assert measured["mean_class_accuracy"] == pytest.approx(5 / 6)
