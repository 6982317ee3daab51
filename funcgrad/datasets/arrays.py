"""Data sets of arrays: what is accepted, how it is checked and divided; scikit-learn's digits, .npz and .npy files."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from funcgrad.datasets import images as decoded
from funcgrad.datasets.images import one_line

_FEW_CLASSES = 1_000  # without class names a higher label than this and the rows is taken for a mistake, such as an id


class Split(NamedTuple):
    """Examples in their original order: images (N, …) uint8, float32 or float64; labels (N,) int32; ids (N,).

    An id is the text that the source gives (TFDS's `id`, a relative path), else the position in the source, an int64.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray


class Dataset(NamedTuple):
    """Both parts, the class that each label stands for, and a hash of the content before any selection.

    `split` says in words how the test part was taken where the source had none, and is empty where it had one.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    fingerprint: str
    split: str = ""


def _as_images(what: str, array: np.ndarray) -> np.ndarray:
    if array.ndim < 2 or 0 in array.shape:
        raise ValueError(f"{what} has shape {array.shape}; (examples, …features) with no empty axis is accepted")
    if array.dtype.kind in "iu" and array.dtype != np.uint8:
        low, high = array.min(), array.max()
        if low < 0 or high > 255:
            raise ValueError(f"{what} has integers from {low} to {high}; 0..255 (pixels) is accepted, else float32")
        array = array.astype(np.uint8)
    narrow = {"bool": np.uint8, "uint8": np.uint8, "float16": np.float32, "float32": np.float32, "float64": np.float64}
    if array.dtype.name not in narrow:
        raise ValueError(f"{what} has dtype {array.dtype}; bool, 0..255, float16, float32 and float64 are accepted")
    array = array.astype(narrow[array.dtype.name], copy=False)
    return array[..., None] if array.dtype == np.uint8 and array.ndim == 3 else array


def _as_labels(what: str, array: np.ndarray, names: Sequence[str] | None) -> tuple[np.ndarray, Sequence[str]]:
    """Labels as int32, with the names of the classes, which are read off the labels where `names` is None."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "biufUS":
        raise ValueError(f"{what} has shape {array.shape} and dtype {array.dtype}; one whole number or string a row")
    if array.dtype.kind in "US":
        array = np.strings.decode(array, "utf-8", "replace") if array.dtype.kind == "S" else array
        names = [str(name) for name in np.unique(array)] if names is None else names
        number = {name: label for label, name in enumerate(names)}
        labels = np.array([number.get(name, -1) for name in array.tolist()], np.int64)
    else:
        limit = max(_FEW_CLASSES, len(array)) if names is None else len(names)
        whole = (array >= 0) & (array < limit) & (array == np.trunc(array))  # NaN is not
        labels = np.where(whole, array, -1).astype(np.int64)
    if (labels < 0).any():
        row = int(np.argmax(labels < 0))
        listed = ", ".join(names[:10] if names else ())
        accepted = (
            f"0..{limit - 1:,}, by {len(array):,} rows without class names,"
            if names is None
            else f"the {len(names)} training classes ({listed}, …)"
        )
        raise ValueError(f"{what}: the label of row {row} is {array[row].item()!r}; {accepted} are accepted")
    return labels.astype(np.int32), [
        str(label) for label in range(max(labels, default=-1) + 1)
    ] if names is None else names


def _require_finite(what: str, split: Split) -> None:
    if split.images.dtype.kind != "f":
        return
    bad = [
        start + np.flatnonzero(~np.isfinite(block.reshape(len(block), -1)).all(axis=1))
        for start, block in decoded.blocks(split.images)
    ]
    if count := sum(map(len, bad)):
        first = ", ".join(map(str, split.ids[np.concatenate(bad)[:5]]))
        more = ", …" if count > 5 else ""
        raise ValueError(f"{what}: {count} of {len(split.ids)} rows hold NaN or infinity: {first}{more}")


def _dataset(name: str, train: Split, test: Split | None, classes: Sequence[str], fraction: float) -> Dataset:
    """Checks that both parts fit together, takes the test part from the training part if there is none, and hashes."""
    words = ""
    if test is None:
        train, test = _divide(name, train, fraction)
        words = f"the last {fraction:.4g} of each class, in the original order, is the test part"
    elif train.images.shape[1:] != test.images.shape[1:] or train.images.dtype != test.images.dtype:
        forms = " and ".join(f"{split.images.dtype} {split.images.shape[1:]}" for split in (train, test))
        raise ValueError(f"{name}: training and test examples differ, {forms}; one shape and dtype is accepted")
    _require_finite(f"{name}, training part", train)
    _require_finite(f"{name}, test part", test)
    digests = "".join(decoded.digest(array) for split in (train, test) for array in split[:2])
    return Dataset(name, train, test, tuple(classes), hashlib.sha256(digests.encode()).hexdigest()[:16], words)


def _divide(name: str, whole: Split, fraction: float) -> tuple[Split, Split]:
    """The last `fraction` of each class, to the nearest example, against the rest; the rest keeps one of each class."""
    counts = np.bincount(whole.labels)
    kept = np.maximum(counts - np.floor(counts * fraction + 0.5).astype(int), 1)
    order = np.argsort(whole.labels, kind="stable")
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    is_test = np.empty(len(order), bool)
    is_test[order] = rank >= np.repeat(kept, counts)
    if not is_test.any():
        raise ValueError(f"{name}: too few examples ({len(order)}) to take {fraction:.4g} of each class as a test part")
    train, test = (Split(*(array[rows] for array in whole)) for rows in (~is_test, is_test))
    return train, test


# Embedded digits, and arrays in files


def digits() -> Dataset:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.uint8).reshape(-1, 8, 8)
    rows = np.split(np.arange(len(images)), [1437])
    arrays = [("digits", array[part]) for part in rows for array in (images, labels)]
    return from_arrays("digits", arrays, None, 0.2, rows)


def from_arrays(
    name: str,
    arrays: Sequence[tuple[str, np.ndarray]],
    names: Sequence[str] | None,
    fraction: float,
    ids: Sequence[np.ndarray] | None = None,
) -> Dataset:
    """A data set from features, labels and perhaps test features, test labels, each with what messages call it.

    ids: of the training part and of the test part, in place of the positions in each.
    """
    splits, named = [], names is not None
    for i, ((x_what, x), (y_what, y)) in enumerate(zip(arrays[::2], arrays[1::2], strict=True)):
        images = _as_images(x_what, x)
        labels, names = _as_labels(y_what, y, names)
        if len(images) != len(labels):
            raise ValueError(f"{x_what} has {len(images)} rows and {y_what} {len(labels)}; they have to be as many")
        splits.append(Split(images, labels, np.arange(len(labels)) if ids is None else ids[i]))
    if all(array.dtype.kind not in "US" for _, array in arrays[1::2]) and not named:
        splits, names = _without_gaps(splits)
    return _dataset(name, splits[0], splits[1] if len(splits) > 1 else None, names or (), fraction)


def _without_gaps(splits: Sequence[Split]) -> tuple[list[Split], list[str]]:
    """Labels 0 … C − 1 for the C numbers that occur, which become the names of the classes."""
    numbers = np.unique(np.concatenate([split.labels for split in splits]))
    mapped = [split._replace(labels=np.searchsorted(numbers, split.labels).astype(np.int32)) for split in splits]
    return mapped, [str(number) for number in numbers]


def from_npz(path: Path, fraction: float) -> Dataset:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays: dict[str, np.ndarray] = {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except Exception as error:  # zipfile, zlib, struct and NumPy each raise their own
        raise ValueError(f"{path}: not a readable .npz file of plain arrays ({one_line(error)})") from error
    keys = ["x_train", "y_train", "x_test", "y_test"] if {*arrays} & {"x_train", "y_train"} else ["x", "y"]
    if not {*keys} <= {*arrays}:
        raise ValueError(f"{path} holds {sorted(arrays)}; x_train, y_train, x_test, y_test, or x, y are accepted")
    names = (
        [one.decode() if isinstance(one, bytes) else str(one) for one in np.atleast_1d(arrays["classes"])]
        if "classes" in arrays
        else None
    )
    if twice := [one for one, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{path}: classes has {', '.join(map(repr, twice))} more than once; each needs its own name")
    return from_arrays(path.name, [(f"{path}: {key}", arrays[key]) for key in keys], names, fraction)


def from_npy(paths: Sequence[Path], fraction: float) -> Dataset:
    if len(paths) == 1:
        stems = [stem := paths[0].stem] + ([stem.removesuffix("train") + "test"] if stem.endswith("train") else [])
        pairs = [[paths[0].with_name(f"{stem}{tail}.npy") for tail in ("", "_labels")] for stem in stems]
        paths = [path for i, pair in enumerate(pairs) if i == 0 or all(map(Path.is_file, pair)) for path in pair]
    if len(paths) not in (2, 4):
        raise ValueError(f"{len(paths)} .npy files; (features, labels), or both for train and then test, are accepted")
    arrays = []
    for path in paths:
        try:
            arrays.append((str(path), np.lib.format.open_memmap(path, mode="r")))
        except FileNotFoundError:
            raise FileNotFoundError(f"{path}: no such file") from None
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{path}: not a readable .npy file of a plain array ({one_line(error)})") from error
    return from_arrays(" + ".join(path.name for path in paths), arrays, None, fraction)
