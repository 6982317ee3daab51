"""Which examples are taken, and that a limit which leaves out classes says so."""

from pathlib import Path

import numpy as np
import pytest
from dataset_files import save_npz

from funcgrad import datasets


@pytest.fixture
def sorted_data(tmp_path: Path) -> Path:
    """60 examples of three classes, one after the other, with as many to test."""
    labels = np.repeat(["ant", "bee", "cat"], [30, 20, 10])
    x = np.arange(60, dtype=np.float32)[:, None]
    return save_npz(tmp_path / "sorted.npz", {"x_train": x, "y_train": labels, "x_test": x, "y_test": labels})


def test_a_limit_on_sorted_data_names_the_classes_that_it_leaves_out(sorted_data: Path) -> None:
    data = datasets.load(sorted_data, limit_train=40, limit_test=5)
    assert data.notes == (
        "--limit-train 40 takes the first examples and leaves out 1 of 3 classes (cat); --per-class N takes N of each",
        "--limit-test 5 takes the first examples and leaves out 2 of 3 classes (bee, cat)",
    )
    assert datasets.load(sorted_data, limit_train=51, limit_test=60).notes == ()
    assert datasets.load(sorted_data, limit_train=40, classes=["ant", "bee"]).notes == ()


def test_per_class_takes_the_first_of_each_and_says_where_there_are_fewer(sorted_data: Path) -> None:
    data = datasets.load(sorted_data, per_class=4)
    assert data.train.images[:, 0].tolist() == [0, 1, 2, 3, 30, 31, 32, 33, 50, 51, 52, 53]
    assert (len(data.test.labels), data.notes) == (60, ())
    few = datasets.load(sorted_data, per_class=15, classes=["cat", "ant"], limit_train=20)
    assert few.train.labels.tolist() == [1] * 15 + [0] * 5
    assert few.notes == ("fewer than 15 training examples of some classes: cat 10",)
    for value in (0, 2.5, True):
        with pytest.raises(ValueError, match=f"per_class is {value!r}; an integer of at least 1 is accepted"):
            datasets.load(sorted_data, per_class=value)  # type: ignore[arg-type]
