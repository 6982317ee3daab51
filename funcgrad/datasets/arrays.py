"""Arrays as a data set: what is accepted, how it is checked and split; scikit-learn's digits, .npz and .npy files."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from funcgrad.datasets.cache import TUNING, Tuning, blocks, digest
from funcgrad.files import reporting

_DTYPES = {"bool": "uint8", "uint8": "uint8", "float16": "float32", "float32": "float32", "float64": "float64"}


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


def take(split: Split, rows: Any) -> Split:
    """The examples of some rows: a slice, positions or a mask."""
    groups = None if split.groups is None else split.groups[rows]
    return Split(split.images[rows], split.labels[rows], split.ids[rows], groups)


class RawSplit(NamedTuple):
    """A part before it is checked; the names are those of its arrays in messages. ids: positions if None."""

    images_name: str
    images: np.ndarray
    labels_name: str
    labels: np.ndarray
    ids: np.ndarray | None = None


def from_arrays(
    name: str,
    parts: Sequence[RawSplit],
    classes: Sequence[str] | None = None,
    fraction: float = 0.2,
    tuning: Tuning = TUNING,
) -> Dataset:
    """The data set of a training part and perhaps a test part, else the last `fraction` of each class becomes one.

    classes: the names of labels 0, 1, …; None: the labels themselves, in sorted order.
    """
    splits: list[Split] = []
    known = None if classes is None else np.array(classes)
    for part in parts:
        images, labels = _as_images(part.images_name, part.images), _as_labels(part.labels_name, part.labels)
        if len(images) != len(labels):
            lengths = f"{part.images_name} has {len(images)} rows and {part.labels_name} {len(labels)}"
            raise ValueError(f"{lengths}; as many are expected")
        known = np.unique(labels) if known is None else known
        values = known if labels.dtype.kind == known.dtype.kind else np.arange(len(known))
        ids = np.arange(len(labels)) if part.ids is None else part.ids
        splits.append(Split(images, _positions(part.labels_name, labels, values), ids))
    description = f"{Path(parts[-1].images_name).name} is the test part"
    if len(splits) == 1:
        splits, description = divide(name, splits[0], fraction)
    forms = [f"{split.images.dtype} {split.images.shape[1:]}" for split in splits]
    if forms[0] != forms[1]:
        raise ValueError(f"{name}: training and test examples differ, {' and '.join(forms)}; one form is accepted")
    for what, split in zip(("training", "test"), splits, strict=True):
        _require_finite(f"{name}, {what} part", split, tuning)
    names = [] if known is None else map(str, known.tolist())
    return Dataset(name, splits[0], splits[1], tuple(names), fingerprint(splits, tuning), description)


def digits() -> Dataset:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.uint8).reshape(-1, 8, 8)
    rows = np.split(np.arange(len(images)), [1437])
    parts = [RawSplit("digits", images[part], "digits", labels[part], part) for part in rows]
    return from_arrays("digits", parts)._replace(split="the last 360 images are the test part")


def from_npz(path: Path, fraction: float) -> Dataset:
    with reading(path, "a readable .npz file of plain arrays"), path.open("rb") as file, np.load(file) as archive:
        arrays: dict[str, np.ndarray] = {key: archive[key] for key in archive.files}
    keys = ["x_train", "y_train", "x_test", "y_test"] if {*arrays} & {"x_train", "y_train"} else ["x", "y"]
    if not {*keys} <= {*arrays}:
        raise ValueError(f"{path} holds {sorted(arrays)}; x_train, y_train, x_test, y_test, or x, y are accepted")
    classes = _as_labels(f"{path}: classes", np.atleast_1d(arrays["classes"])).tolist() if "classes" in arrays else None
    if repeated := [name for name, count in Counter(classes or ()).items() if count > 1]:
        raise ValueError(f"{path}: classes has {', '.join(map(repr, repeated))} more than once; names must differ")
    return from_arrays(path.name, _pairs([(f"{path}: {key}", arrays[key]) for key in keys]), classes, fraction)


def from_npy(paths: Sequence[Path], fraction: float, tuning: Tuning = TUNING) -> Dataset:
    """Memory-mapped. One path stands for STEM.npy and STEM_labels.npy, and for …test.npy beside …train.npy."""
    if len(paths) == 1:
        stem = paths[0].stem
        stems = [stem, f"{stem.removesuffix('train')}test"] if stem.endswith("train") else [stem]
        pairs = [[paths[0].with_name(f"{stem}{tail}.npy") for tail in ("", "_labels")] for stem in stems]
        paths = pairs[0] + [path for pair in pairs[1:] if all(map(Path.is_file, pair)) for path in pair]
    if len(paths) not in (2, 4):
        raise ValueError(f"{len(paths)} .npy files; (features, labels), or both for train and then test, are accepted")
    arrays = []
    for path in paths:
        with reading(path, "a readable .npy file of a plain array"):
            arrays.append((str(path), np.lib.format.open_memmap(path, mode="r")))
    return from_arrays(" + ".join(path.name for path in paths), _pairs(arrays), None, fraction, tuning)


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """What NumPy and others raise, each their own, becomes a line that names the file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with reporting(f"{path}: not {what}"):
        yield


def _pairs(arrays: Sequence[tuple[str, np.ndarray]]) -> list[RawSplit]:
    """The parts of named arrays: features, labels, and perhaps test features, test labels."""
    return [RawSplit(*x, *y) for x, y in zip(arrays[::2], arrays[1::2], strict=True)]


# Checks


def _as_images(what: str, array: np.ndarray) -> np.ndarray:
    if array.ndim < 2 or 0 in array.shape:
        raise ValueError(f"{what} has shape {array.shape}; (examples, …features) with no empty axis is accepted")
    if array.dtype.kind in "iu" and array.dtype != np.uint8:
        low, high = array.min(), array.max()
        if low < 0 or high > 255:
            raise ValueError(f"{what} has integers from {low} to {high}; 0..255 (pixels) is accepted, else float32")
        array = array.astype(np.uint8)
    if array.dtype.name not in _DTYPES:
        raise ValueError(f"{what} has dtype {array.dtype}; bool, 0..255, float16, float32 and float64 are accepted")
    array = array.astype(_DTYPES[array.dtype.name], copy=False)
    return array[..., None] if array.dtype == np.uint8 and array.ndim == 3 else array


def _as_labels(what: str, array: np.ndarray) -> np.ndarray:
    """Labels (N,), as text or int64."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "biufUS":
        raise ValueError(f"{what} has shape {array.shape} and dtype {array.dtype}; one integer or string a row")
    if array.dtype.kind in "US":
        return array if array.dtype.kind == "U" else np.strings.decode(array, "utf-8", "replace")
    if not (is_whole := np.isfinite(array) & (array == np.trunc(array))).all():
        row = int(np.argmin(is_whole))
        raise ValueError(f"{what}: the label of row {row} is {array[row].item()!r}; whole numbers are accepted")
    return array.astype(np.int64)


def _positions(what: str, labels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Where each label stands among `values`, int32."""
    order = np.argsort(values)
    found = order[np.searchsorted(values, labels, sorter=order).clip(max=len(values) - 1)].astype(np.int32)
    if not (is_known := values[found] == labels).all():
        row = int(np.argmin(is_known))
        known = ", ".join(map(str, values[:10].tolist())) + (", …" if len(values) > 10 else "")
        raise ValueError(f"{what}: the label of row {row} is {labels[row].item()!r}, which is none of {known}")
    return found


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
        raise ValueError(
            f"{name}: too few examples ({len(is_test)}) to take {fraction:.4g} of each class as a test part"
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
