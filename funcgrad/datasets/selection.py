"""Which examples of a data set are taken: of some classes, so many of each, the first so many."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from funcgrad.datasets.arrays import Dataset, rank_in_class, take
from funcgrad.files import listed


class Selection(NamedTuple):
    """See `load`."""

    classes: Sequence[str | int] | None = None
    per_class: int | None = None
    limit_train: int | None = None
    limit_test: int | None = None


def select(dataset: Dataset, selection: Selection) -> Dataset:
    """The examples of the classes, relabelled, up to the limits; a mapped array is only sliced if that is enough.

    The notes name the classes that a limit leaves out. The validation part is selected by its classes only.
    """
    known = dataset.classes
    labels = _labels(dataset, selection.classes)
    new_label = np.full(len(known), -1, np.int32)
    new_label[labels] = np.arange(len(labels), dtype=np.int32)
    classes = tuple(known[label] for label in labels)
    notes, parts = [*dataset.notes], {}
    for part, limit in (("train", selection.limit_train), ("test", selection.limit_test), ("validation", None)):
        if (split := getattr(dataset, part)) is None:
            continue
        rows = None if selection.classes is None else np.flatnonzero(new_label[split.labels] >= 0)
        split = split if rows is None else take(split, rows)
        split = split._replace(labels=new_label[split.labels])
        if part == "train" and selection.per_class is not None:
            counts = np.bincount(split.labels, minlength=len(classes))
            split = take(split, np.flatnonzero(rank_in_class(split.labels) < selection.per_class))
            if lacking := [f"{classes[i]} {counts[i]:,}" for i in np.flatnonzero(counts < selection.per_class)]:
                notes.append(f"fewer than {selection.per_class:,} training examples of some classes: {listed(lacking)}")
        parts[part] = split if limit is None else take(split, slice(limit))
        if missing := sorted({*np.unique(split.labels)} - {*np.unique(parts[part].labels)}):
            some = f"{len(missing):,} of {len(classes):,} classes ({listed((classes[label] for label in missing), 5)})"
            remedy = "; --per-class N takes N of each" if part == "train" else ""
            notes.append(f"--limit-{part} {limit:,} takes the first examples and leaves out {some}{remedy}")
        if part != "validation" and not len(parts[part].labels):
            what = "training" if part == "train" else "test"
            raise ValueError(f"classes: {dataset.name} has no {what} example of {list(selection.classes or ())!r}")
    train, test, validation = parts["train"], parts["test"], parts.get("validation")
    return dataset._replace(train=train, test=test, validation=validation, classes=classes, notes=tuple(notes))


def _labels(dataset: Dataset, classes: Sequence[str | int] | None) -> list[int]:
    """The labels of the classes, each of which is given by its name or number."""
    known = dataset.classes
    given = known if classes is None else [classes] if isinstance(classes, str) else classes
    numbers = {**{str(label): label for label in range(len(known))}, **{name: i for i, name in enumerate(known)}}
    labels = [numbers.get(str(one), -1) for one in given]
    for one, label in zip(given, labels, strict=True):
        if label < 0 or labels.count(label) > 1:
            why = "is unknown" if label < 0 else "is named twice"
            raise ValueError(f"classes: {one!r} {why}; {dataset.name} has {listed(known, 20)} (or 0..{len(known) - 1})")
    return labels
