"""Arrays as a data set: how parts of one form are made of what was found, checked and split; scikit-learn's digits."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from funcgrad.datasets.cache import TUNING, Tuning, blocks, digest
from funcgrad.datasets.features import read_features
from funcgrad.datasets.labels import Numbered, number_labels
from funcgrad.files import listed

PARTS = {  # of a data set, in names of arrays, folders and values of a column
    "train": ("train", "training", "tr"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "te"),
}


def part_of(name: str) -> str | None:
    """The part of a data set that a name stands for: "Training" is "train"."""
    return next((part for part, names in PARTS.items() if name.lower() in names), None)


class Split(NamedTuple):
    """Examples in their original order: images (N, …) uint8, float32 or float64; labels (N,) int32; ids (N,).

    An id is the text that the source gives (TFDS's `id`, a relative path), else the position in the source, an int64.
    groups (N,), where the source has them: what must stay together when examples are divided, such as a person.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    groups: np.ndarray | None = None

    def __repr__(self) -> str:
        return f"Split({len(self.labels):,} examples of {self.images.dtype} {self.images.shape[1:]})"


class Dataset(NamedTuple):
    """All parts, the name of the class that each label stands for, and a hash of the content.

    fingerprint: of training and test part before any selection; of images that are decoded, as they were selected.
    split: how the test part was taken.
    validation: the part on which training is watched, where the source has one beside the test part.
    notes: sentences for whoever reads the result: what was assumed, converted, left out.
    details: the same for result.json, as plain JSON.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    fingerprint: str
    split: str = ""
    validation: Split | None = None
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = MappingProxyType({})

    def __repr__(self) -> str:
        counts = f"{len(self.train.labels):,} train, {len(self.test.labels):,} test, {len(self.classes)} classes"
        return f"Dataset({self.name!r}: {counts}, {self.train.images.dtype} {self.train.images.shape[1:]})"


class Examples(NamedTuple):
    """What is to be predicted: images (N, …) and ids (N,), as in a `Split`; labels (N,) int32 if the source has them.

    classes: what the labels stand for; empty where there are none. notes, details: as in a `Dataset`.
    """

    name: str
    images: np.ndarray
    ids: np.ndarray
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = MappingProxyType({})

    def __repr__(self) -> str:
        labelled = f"{len(self.classes)} classes" if self.labels is not None else "no labels"
        return f"Examples({self.name!r}: {len(self.ids):,}, {labelled}, {self.images.dtype} {self.images.shape[1:]})"


def take(split: Split, rows: Any) -> Split:
    """The examples of some rows: a slice, positions or a mask."""
    groups = None if split.groups is None else split.groups[rows]
    return Split(split.images[rows], split.labels[rows], split.ids[rows], groups)


class RawSplit(NamedTuple):
    """A part before it is checked; the names are those of its arrays in messages.

    labels: None if it has none; then labels_name says where they would be. ids: positions if None.
    """

    images_name: str
    images: np.ndarray
    labels_name: str = "labels"
    labels: np.ndarray | None = None
    ids: np.ndarray | None = None
    groups: np.ndarray | None = None


class Found(NamedTuple):
    """What a source holds before it is checked: its parts "train", and perhaps "validation" and "test".

    classes: the names of labels 0, 1, …, or of the labels 1, 2, …; None: the labels themselves, in sorted order.
    split: how the test part was taken, if another name than that of its array says it. notes, details: as in a
    `Dataset`.
    """

    name: str
    parts: Mapping[str, RawSplit]
    classes: Sequence[str] | None = None
    split: str = ""
    notes: Sequence[str] = ()
    details: Mapping[str, Any] = MappingProxyType({})


def from_arrays(found: Found, fraction: float = 0.2, tuning: Tuning = TUNING) -> Dataset:
    """The data set of what was found: validation is the test part where there is no other.

    Where there is neither, the last `fraction` of each class of the training part becomes the test part. Raises
    ValueError.
    """
    notes, parts = [*found.notes], {**found.parts}
    for part in [part for part, raw in parts.items() if raw.labels is None]:
        if part == "train":
            raise ValueError(f"{parts[part].images_name} has no labels ({parts[part].labels_name})")
        notes.append(f"{parts.pop(part).images_name} has no labels and is left out")
    if "train" not in parts:
        raise ValueError(f"{found.name} has no training part, only {listed(parts)}")
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
    splits, about = _checked(found.name, parts, found.classes, tuning)
    if "test" in splits:
        split = found.split or f"{Path(parts['test'].images_name).name} is the test part"
    else:
        (splits["train"], splits["test"]), split = divide(found.name, splits["train"], fraction)
    content = fingerprint((splits["train"], splits["test"]), tuning)
    shared = (
        tuple(about.classes),
        content,
        split,
        splits.get("validation"),
        (*notes, *about.notes),
        {**found.details, **about.details},
    )
    return Dataset(found.name, splits["train"], splits["test"], *shared)


def examples_from_arrays(found: Found, tuning: Tuning = TUNING) -> Examples:
    """All that was found, part after part; labels where every part has them."""
    parts = {part: found.parts[part] for part in ("train", "validation", "test") if part in found.parts}
    several = len(parts) > 1
    for part, raw in parts.items():
        if raw.ids is None and several:
            parts[part] = raw._replace(ids=np.array([f"{part}:{row}" for row in range(len(raw.images))]))
    labelled = all(raw.labels is not None for raw in parts.values())
    if not labelled:
        parts = {part: raw._replace(labels=None) for part, raw in parts.items()}
    splits, about = _checked(found.name, parts, found.classes, tuning, pooled=True)
    fields = zip(*(split[:3] for split in splits.values()), strict=True)
    images, labels, ids = (np.concatenate(arrays) if several else arrays[0] for arrays in fields)
    known = labels if labelled else None
    recorded = (*found.notes, *about.notes), {**found.details, **about.details}
    return Examples(found.name, images, ids, known, tuple(about.classes), *recorded)


def digits() -> Found:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.uint8).reshape(-1, 8, 8)
    rows = {"train": np.arange(1437), "test": np.arange(1437, len(images))}
    parts = {part: RawSplit("digits", images[of], "digits", labels[of], of) for part, of in rows.items()}
    return Found("digits", parts, split="the last 360 images are the test part")


# Checks


def _checked(
    name: str, parts: Mapping[str, RawSplit], classes: Sequence[str] | None, tuning: Tuning, pooled: bool = False
) -> tuple[dict[str, Split], Numbered]:
    """The parts with features of one form, and labels as numbers, which are zeros where there are none."""
    images, notes = read_features({part: (raw.images_name, raw.images) for part, raw in parts.items()})
    labels = {part: (raw.labels_name, raw.labels) for part, raw in parts.items() if raw.labels is not None}
    numbered = number_labels(labels, classes, pooled) if labels else Numbered({}, (), (), {})
    splits = {}
    for part, raw in parts.items():
        count = len(images[part])
        numbers = numbered.labels.get(part, np.zeros(count, np.int32))
        if len(numbers) != count:
            lengths = f"{raw.images_name} has {count} rows and {raw.labels_name} {len(numbers)}"
            raise ValueError(f"{lengths}; as many are expected")
        splits[part] = Split(images[part], numbers, np.arange(count) if raw.ids is None else raw.ids, raw.groups)
        _require_finite(f"{name}, {part} part" if len(parts) > 1 else name, splits[part], tuning)
    return splits, numbered._replace(notes=(*notes, *numbered.notes))


def _require_finite(what: str, split: Split, tuning: Tuning) -> None:
    if split.images.dtype.kind != "f":
        return
    bad = [
        start + np.flatnonzero(~np.isfinite(block.reshape(len(block), -1)).all(axis=1))
        for start, block in blocks(split.images, tuning)
    ]
    if count := sum(map(len, bad)):
        first = ", ".join(map(str, split.ids[np.concatenate(bad)[:5]]))
        more = ", …" if count > 5 else ""
        raise ValueError(f"{what}: {count} of {len(split.ids)} rows hold NaN or infinity: {first}{more}")


def divide(name: str, split: Split, fraction: float) -> tuple[list[Split], str]:
    """The last `fraction` of each class, to the nearest example, is split off; at least one of each class remains.

    Returns both parts, and how the second was taken.
    """
    counts = np.bincount(split.labels)
    train_counts = np.maximum(counts - np.floor(counts * fraction + 0.5).astype(int), 1)
    is_test = rank_in_class(split.labels) >= train_counts[split.labels]
    if not is_test.any():
        hint = "; each label occurs once, as an id does" if (counts <= 1).all() else ""
        raise ValueError(
            f"{name}: too few examples ({len(is_test)}) to take {fraction:.4g} of each class as a test part{hint}"
        )
    how = f"the last {fraction:.4g} of each class, in the original order, is the test part"
    return [take(split, rows) for rows in (~is_test, is_test)], how


def rank_in_class(labels: np.ndarray) -> np.ndarray:
    """Of each example, how many of its class come before it."""
    counts = np.bincount(labels)
    rank = np.empty(len(labels), int)
    rank[np.argsort(labels, kind="stable")] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank


def fingerprint(splits: Iterable[Split], tuning: Tuning = TUNING) -> str:
    """A hash of images and labels."""
    digests = "".join(digest(array, tuning) for split in splits for array in split[:2])
    return hashlib.sha256(digests.encode()).hexdigest()[:16]
