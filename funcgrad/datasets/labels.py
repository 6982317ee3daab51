"""Labels of any kind as numbers of classes: text, bytes, whole numbers with gaps, one-hot rows."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from funcgrad.files import listed

_WHOLE = re.compile(r"-?(0|[1-9]\d*)")

Named = tuple[str, np.ndarray]  # an array, and its name in messages


class Numbered(NamedTuple):
    """Labels (N,) int32 of each part, the names of their classes, what is to be said, and what is to be recorded."""

    labels: Mapping[str, np.ndarray]
    classes: Sequence[str]
    notes: Sequence[str]
    details: Mapping[str, Any]


def number_labels(parts: Mapping[str, Named], names: Sequence[str] | None = None, pooled: bool = False) -> Numbered:
    """Numbers the labels of all parts in one way.

    Args:
      parts: the labels of each: text, bytes, whole numbers of any dtype and size, (N, 1), or one-hot rows (N, C).
      names: of the labels 0 … C − 1 or 1 … C; text has to be one of them. None: the labels of the first part are the
        classes, in sorted order, numbers by size.
      pooled: the classes are the labels of all parts.

    Raises ValueError for what is no label, and for one that is none of the classes.
    """
    read = {part: _one_label_a_row(*named) for part, named in parts.items()}
    notes = [note for _, note in read.values() if note]
    first, *others = (labels for labels, _ in read.values())
    known = _sorted([first, *others] if pooled else [first])
    classes, values = list(map(str, known.tolist())), known
    if names is not None:
        counted_from_1 = first.dtype.kind != "U" and first.min() == 1 and first.max() == len(names)
        classes, values = list(names), np.arange(len(names)) + counted_from_1
    details: dict[str, Any] = {}
    if first.dtype.kind != "U" and (values != np.arange(len(values))).any():
        notes.append(f"labels {listed(values.tolist(), 5)} are the classes 0 … {len(values) - 1}, in this order")
        details["labels"] = {"mapping": {str(value): number for number, value in enumerate(values.tolist())}}
    numbers = {}
    for part, (labels, _) in read.items():
        if "U" in (labels.dtype.kind, values.dtype.kind):
            numbers[part] = _positions(parts[part][0], labels.astype(str), np.array(classes))
        else:
            numbers[part] = _positions(parts[part][0], labels, values)
    return Numbered(numbers, classes, notes, details)


def _one_label_a_row(what: str, array: np.ndarray) -> tuple[np.ndarray, str]:
    """Labels (N,) as text or int64; how they were recognised, where there was more than one way to read them."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.dtype.kind in "biuf" and len(array):
        if not (((array == 0) | (array == 1)).all() and (array.sum(axis=1) == 1).all()):
            remedy = "one label a row is accepted: y.argmax(axis=1) takes the column of the largest value"
            raise ValueError(f"{what} has shape {array.shape}, and its rows are not one-hot; {remedy}")
        return array.argmax(axis=1), f"{what}: one-hot rows of {array.shape[1]}; a label is the column of the 1"
    if array.ndim != 1 or not len(array) or array.dtype.kind not in "biufUS":
        raise ValueError(f"{what} has shape {array.shape} and dtype {array.dtype}; one integer or string a row")
    if array.dtype.kind in "US":
        text = array if array.dtype.kind == "U" else np.strings.decode(array, "utf-8", "replace")
        _require(what, text, np.strings.strip(text) != "", "each row needs one")
        return text, ""
    _require(what, array, array == np.trunc(array), "whole numbers and text are accepted")  # NaN is not, nor is 0.5
    fits = abs(array) < 2.0**63 if array.dtype.kind == "f" else array <= np.iinfo(np.int64).max
    _require(what, array, fits, "64-bit integers are accepted")
    return array.astype(np.int64), ""


def _sorted(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The labels that occur, in sorted order: numbers by size, also where they are written as text."""
    is_text = any(array.dtype.kind == "U" for array in arrays)
    values = np.unique(np.concatenate([array.astype(str) if is_text else array for array in arrays]))
    if values.dtype.kind == "U" and all(map(_WHOLE.fullmatch, values.tolist())):
        return np.array(sorted(values.tolist(), key=int))
    return values


def _positions(what: str, labels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Where each label stands among the values, int32."""
    order = np.argsort(values)
    found = order[np.searchsorted(values, labels, sorter=order).clip(max=len(values) - 1)].astype(np.int32)
    _require(what, labels, values[found] == labels, f"the classes are {listed(values.tolist())}")
    return found


def _require(what: str, labels: np.ndarray, valid: np.ndarray, accepted: str) -> None:
    if not valid.all():
        rows = np.flatnonzero(~valid)
        more = f" ({len(rows):,} such rows)" if len(rows) > 1 else ""
        raise ValueError(f"{what}: the label of row {rows[0]} is {labels[rows[0]].item()!r}; {accepted}{more}")
