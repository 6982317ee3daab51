"""Labels of every kind become numbers of classes in one way; what is no label is refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from funcgrad.datasets.labels import number_labels


def numbered(labels: Any, names: list[str] | None = None) -> tuple[list[int], list[str]]:
    found = number_labels({"train": ("y", np.array(labels))}, names)
    return found.labels["train"].tolist(), [*found.classes]


@pytest.mark.parametrize(
    ("labels", "numbers", "classes"),
    [
        (["b", "a", "b"], [1, 0, 1], ["a", "b"]),
        ([b"b", b"\xc3\xa4", b"b"], [0, 1, 0], ["b", "ä"]),
        (["10", "9", "10"], [1, 0, 1], ["9", "10"]),  # numbers by size, also as text
        (["010", "9", "010"], [0, 1, 0], ["010", "9"]),  # names that are no numbers
        ([2_000_000_000, -5, 2_000_000_000], [1, 0, 1], ["-5", "2000000000"]),
        ([3.0, 1.0, 3.0], [1, 0, 1], ["1", "3"]),
        ([[3], [1], [3]], [1, 0, 1], ["1", "3"]),
        ([True, False, True], [1, 0, 1], ["0", "1"]),
        (np.array([7, 1, 7], ">u2"), [1, 0, 1], ["1", "7"]),
        ([[0, 0, 1], [1, 0, 0], [0, 0, 1]], [1, 0, 1], ["0", "2"]),
        (np.array([2**63 - 1, 2**63 - 2], np.uint64), [1, 0], ["9223372036854775806", "9223372036854775807"]),
    ],
)
def test_labels_of_every_kind_are_numbered_in_sorted_order(labels: Any, numbers: list[int], classes: list[str]) -> None:
    assert numbered(labels) == (numbers, classes)


def test_named_classes_are_counted_from_0_or_1_or_called_by_name() -> None:
    names = ["dog", "cat", "ant"]
    assert numbered([0, 2, 1], names) == ([0, 2, 1], names)
    assert numbered([0, 2], names) == ([0, 2], names)
    assert numbered([1, 3, 2], names) == ([0, 2, 1], names)
    assert numbered(["cat", "dog"], names) == ([1, 0], names)
    with pytest.raises(ValueError, match="y: the label of row 1 is 4; the classes are 0, 1, 2"):
        numbered([0, 4], names)


def test_what_was_assumed_is_said_and_the_mapping_recorded() -> None:
    plain = number_labels({"train": ("y", np.array([1, 0, 2]))})
    assert (plain.notes, plain.details) == ([], {})
    gaps = number_labels({"train": ("y", np.array([1, 5, 3]))})
    assert gaps.notes == ["labels 1, 3, 5 are the classes 0 … 2, in this order"]
    assert gaps.details == {"labels": {"mapping": {"1": 0, "3": 1, "5": 2}}}
    one_hot = number_labels({"train": ("y", np.eye(3))})
    assert one_hot.notes == ["y: one-hot rows of 3; a label is the column of the 1"]


def test_all_parts_are_numbered_by_the_training_part_or_by_all() -> None:
    parts = {"train": ("y_train", np.array([4, 9])), "test": ("y_test", np.array([9, 7]))}
    with pytest.raises(ValueError, match="y_test: the label of row 1 is 7; the classes are 4, 9"):
        number_labels(parts)
    found = number_labels(parts, pooled=True)
    assert (found.classes, found.labels["test"].tolist()) == (["4", "7", "9"], [2, 1])
    as_text = number_labels({"train": ("a", np.array([4, 10])), "test": ("b", np.array(["10", "4"]))})
    assert (as_text.classes, as_text.labels["test"].tolist()) == (["4", "10"], [1, 0])
    mixed = number_labels({"train": ("a", np.array([4, 10])), "test": ("b", np.array(["x", "4"]))}, pooled=True)
    assert mixed.labels["train"].tolist() == [mixed.classes.index("4"), mixed.classes.index("10")]


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=30))
def test_a_number_leads_back_to_its_label(labels: list[int]) -> None:
    numbers, classes = numbered(np.array(labels, np.int64))
    assert [int(classes[number]) for number in numbers] == labels
    assert sorted(map(int, classes)) == sorted({*labels})
