"""Data sets: scikit-learn's digits, arrays in files, folders of images, and what TFDS has prepared on disk.

`load` gives every one of them the same form and selects. Arrays are checked and divided by `funcgrad.datasets.arrays`;
what has to be decoded comes from `funcgrad.datasets.images`. TensorFlow is never imported.
"""

import difflib
import operator
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from funcgrad.datasets import arrays
from funcgrad.datasets import images as decoded
from funcgrad.datasets.arrays import Dataset as Dataset
from funcgrad.datasets.arrays import Split as Split
from funcgrad.datasets.images import Progress

PREPARABLE = ("cifar10", "mnist", "fashion_mnist")  # what `funcgrad data prepare` can write

Paths = str | Path | Sequence[str | Path]


class Description(NamedTuple):
    """What is known of a data set without decoding it: counts and `shape` (of one image) are None where unknown."""

    name: str
    where: str
    prepared: bool
    train: int | None = None
    test: int | None = None
    classes: tuple[str, ...] = ()
    shape: tuple[int | None, ...] | None = None
    dtype: str = ""
    note: str = ""


def load(
    name: Paths,
    *,
    data_dir: str | Path | None = None,
    limit_train: int | None = None,
    limit_test: int | None = None,
    classes: Sequence[str | int] | None = None,
    size: int | tuple[int, int] | None = None,
    test_fraction: float = 0.2,
    progress: Progress | None = None,
) -> Dataset:
    """Loads images or feature vectors with their labels, in the source's original order.

    Args:
      name: one of
        "digits": scikit-learn's 1,797 images (8, 8, 1) of 0..16, the first 1,437 to train, the last 360 to test;
        a TFDS name, "name[/config][:version]", prepared as array_record, sorted by its text `id` if it has one;
        "FILE.npz" holding x_train, y_train, x_test, y_test, or x, y, and perhaps the class names `classes`;
        two .npy files (features, labels) or four (x_train, y_train, x_test, y_test), which are memory-mapped, or one,
        STEM.npy, whose labels are STEM_labels.npy; …train.npy takes …test.npy and its labels, where there are any;
        a folder of class folders of PNG or JPEG images, or of train/ and test/ made of these, sorted by path: grey
        (H, W, 1) if every image is, else RGB.
      data_dir: where TFDS data lies; $TFDS_DATA_DIR, else ~/tensorflow_datasets, if None.
      limit_train, limit_test: the first so many of what `classes` keeps.
      classes: names or indices of the classes to keep, relabelled 0, 1, … in this order.
      size: decoded images are resized to (H, W), or (size, size), bilinearly with antialiasing.
      test_fraction: of a source without a test part (nor a TFDS "validation"), the last such fraction of each class in
        the original order is the test part. This copies memory-mapped arrays.
      progress: called as progress(done, total) while images are decoded.

    uint8, float32 and float64 are kept, uint8 (N, H, W) gets a channel axis; bool, and integers within 0..255, become
    uint8, float16 becomes float32. Labels are whole numbers from 0, or strings, numbered in sorted order.

    Raises ValueError, or FileNotFoundError, in one line that names the file or argument and what is wrong with it.
    """
    limits = [_limit("limit_train", limit_train), _limit("limit_test", limit_test)]
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction is {test_fraction!r}; a number between 0 and 1 is accepted")
    shape = _size(size)
    given = list(name) if isinstance(name, Sequence) and not isinstance(name, str) else [name]
    if not all(isinstance(one, str | Path) for one in given):
        raise ValueError(f"name is {name!r}; a name, a path, or paths of .npy files are accepted")
    paths = [Path(one).expanduser() for one in given]
    kinds = {path.suffix for path in paths}
    source = None
    if given == ["digits"]:
        dataset = arrays.digits()
    elif kinds == {".npz"} and len(paths) == 1:
        dataset = arrays.from_npz(paths[0], test_fraction)
    elif kinds == {".npy"}:
        dataset = arrays.from_npy(paths, test_fraction)
    elif len(paths) != 1 or not str(given[0]):
        raise ValueError(f"name is {', '.join(map(str, given)) or 'empty'}; only .npy files are accepted together")
    else:
        called, source = _find_images(given[0], _data_dir(data_dir))
        dataset = _from_images(called, source, shape, test_fraction, progress)
    if shape and source is None:
        raise ValueError(f"size resizes images of TFDS and of folders; it does not apply to {dataset.name}")
    return _select(dataset, classes, limits)


def describe(name: Paths, data_dir: str | Path | None = None) -> Description:
    """What `name` holds: TFDS data from its metadata, files and folders by loading them. Raises what `load` raises."""
    root = _data_dir(data_dir)
    if name != "digits" and isinstance(name, str | Path):
        if (place := decoded.find_tfds(name, root)) is not None:
            said = decoded.open_tfds(place)
            train, *tests = said.counts.values()
            note = "" if tests else "no test part: a fraction of each class is taken as one"
            classes = tuple(said.classes)
            return Description(str(name), str(place), True, train, sum(tests), classes, said.shape, "uint8", note)
        if name in PREPARABLE and not Path(name).is_dir():
            return Description(str(name), str(root), prepared=False, note=_how_to_prepare(str(name)))
    dataset = load(name, data_dir=data_dir)
    where = "embedded in scikit-learn" if name == "digits" else str(name)
    train, test = (len(split.labels) for split in dataset[1:3])
    shape, dtype = dataset.train.images.shape[1:], str(dataset.train.images.dtype)
    return Description(dataset.name, where, True, train, test, dataset.classes, shape, dtype, dataset.split)


def available(data_dir: str | Path | None = None) -> list[Description]:
    """The digits, what lies prepared in `data_dir` (the highest version of each), and what could be prepared there."""
    root = _data_dir(data_dir)
    found = [describe("digits")]
    for name in (names := decoded.prepared(root)):
        try:
            found.append(describe(name, root))
        except ValueError as error:  # one unreadable directory does not hide the others
            found.append(Description(name, str(root / name), prepared=False, note=str(error)))
    return found + [describe(name, root) for name in PREPARABLE if name not in names and not Path(name).is_dir()]


# Arguments


def _limit(what: str, value: int | None) -> int | None:
    if value is not None and (isinstance(value, bool) or not hasattr(value, "__index__") or value < 1):
        raise ValueError(f"{what} is {value!r}; a whole number from 1 is accepted")
    return None if value is None else operator.index(value)


def _size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    pair = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(pair) != 2 or not all(hasattr(side, "__index__") and side > 0 for side in pair):
        raise ValueError(f"size is {size!r}; (height, width) or one whole number from 1 is accepted")
    return operator.index(pair[0]), operator.index(pair[1])


def _select(dataset: Dataset, classes: Sequence[str | int] | None, limits: Sequence[int | None]) -> Dataset:
    """Keeps `classes`, relabelled, and then the first examples; a mapped array is only sliced if `classes` is None."""
    known = dataset.classes
    label = np.arange(len(known), dtype=np.int32)
    if classes is not None:
        wanted: list[int] = []
        for one in [classes] if isinstance(classes, str) else classes:
            number = known.index(one) if one in known else int(one) if str(one).isdecimal() else -1
            if not 0 <= number < len(known) or number in wanted:
                why = "is named twice" if number in wanted else "is unknown"
                listed = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
                raise ValueError(f"classes: {one!r} {why}; {dataset.name} has {listed} (or 0..{len(known) - 1})")
            wanted.append(number)
        label = np.full(len(known), -1, np.int32)
        label[wanted] = np.arange(len(wanted), dtype=np.int32)
        dataset = dataset._replace(classes=tuple(known[number] for number in wanted))
    parts = []
    for part, split, limit in zip(("training", "test"), dataset[1:3], limits, strict=True):
        rows = slice(limit) if classes is None else np.flatnonzero(label[split.labels] >= 0)[:limit]
        parts.append(Split(split.images[rows], label[split.labels[rows]], split.ids[rows]))
        if not len(parts[-1].labels):
            raise ValueError(f"classes: {dataset.name} has no {part} example of {list(classes or ())!r}")
    return dataset._replace(train=parts[0], test=parts[1])


def _data_dir(data_dir: str | Path | None) -> Path:
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def _how_to_prepare(name: str) -> str:
    return f"`funcgrad data prepare {name}` writes it"


def _find_images(name: str | Path, root: Path) -> tuple[str, decoded.Source]:
    """What TFDS prepared under this name in `root`, else the folder; and what the data set is called."""
    if (place := decoded.find_tfds(name, root)) is not None:
        return str(name), decoded.tfds_source(place)
    if (folder := Path(name).expanduser()).is_dir():
        return folder.absolute().name, decoded.folder_source(folder)
    raise _unknown(name, root)


def _unknown(name: str | Path, root: Path) -> Exception:
    """The error for a name that nothing answers to."""
    known = dict.fromkeys(["digits", *decoded.prepared(root), *PREPARABLE])
    text = str(name).partition(":")[0]
    if Path(name).is_file():
        return ValueError(f"{name}: a .npz file, .npy files or a folder of class folders are accepted")
    if isinstance(name, Path) or Path(text).suffix or text.startswith(("/", ".", "~")):
        return FileNotFoundError(f"{name}: no such file or folder")
    if text in PREPARABLE:
        return ValueError(f"{name} is not in {root}: {_how_to_prepare(text)}, and --data-dir says where else it lies")
    close = difflib.get_close_matches(text, known, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known here are {', '.join(known)};"
    return ValueError(f"unknown data set {name!r}: {hint} --data-dir says where other TFDS data than {root} lies")


# Images that are decoded


def _from_images(
    name: str, source: decoded.Source, size: tuple[int, int] | None, fraction: float, progress: Progress | None
) -> Dataset:
    """The data set of a TFDS directory or a folder. What is cached is the finished one, so that all of it is mapped."""

    def make() -> dict[str, np.ndarray]:
        parts, classes = source.decode(size, progress)
        named = [(part.what, array) for part in parts for array in (part.images, part.labels)]
        made = arrays.from_arrays(name, named, classes, fraction, [part.ids for part in parts])
        texts = {"classes": made.classes, "fingerprint": [made.fingerprint], "split": [made.split]}
        kept = {key: np.array(value) for key, value in texts.items()}
        kept |= {f"train_{field}": array for field, array in made.train._asdict().items()}
        return kept | {f"test_{field}": array for field, array in made.test._asdict().items()}

    kept = decoded.cached(source, (size, fraction), make)
    train, test = (Split(*(kept[f"{part}_{field}"] for field in Split._fields)) for part in ("train", "test"))
    classes, fingerprint, split = (kept[key].tolist() for key in ("classes", "fingerprint", "split"))
    return Dataset(name, train, test, tuple(classes), fingerprint[0], split[0])
