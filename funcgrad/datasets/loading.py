"""`load`: any source as a `Dataset`, and a selection from it; `describe` and `available`: what there is to load."""

import difflib
import operator
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from funcgrad.datasets import arrays
from funcgrad.datasets.arrays import Dataset, Split
from funcgrad.datasets.cache import cached
from funcgrad.datasets.images import Progress, Size, Source, decode, folder_source
from funcgrad.datasets.tfds_reader import find_tfds, open_tfds, prepared, tfds_root, tfds_source
from funcgrad.datasets.tfds_writer import RECIPES
from funcgrad.files import listed

PREPARABLE = tuple(RECIPES)  # what `funcgrad data prepare` can write

Paths = str | Path | Sequence[str | Path]


class Description(NamedTuple):
    """A data set without its examples: counts and `shape` (of one image) are None if only decoding shows them."""

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
      data_dir: where TFDS data is; $TFDS_DATA_DIR, else ~/tensorflow_datasets, if None.
      limit_train, limit_test: take the first N of the examples that `classes` selects.
      classes: names or indices of the classes to select, relabelled 0, 1, … in this order.
      size: decoded images are resized to (H, W), or (size, size), bilinearly with antialiasing.
      test_fraction: of a source without a test part (nor a TFDS "validation"), the last such fraction of each class in
        the original order is the test part. This copies memory-mapped arrays.
      progress: called as progress(done, total) while images are decoded.

    uint8, float32 and float64 stay, uint8 (N, H, W) gets a channel axis; bool, and integers within 0..255, become
    uint8, float16 becomes float32. Labels are integers from 0, or strings, numbered in sorted order.

    Raises ValueError, or FileNotFoundError, in one line that names the file or argument and what is wrong with it.
    """
    limits = {"limit_train": limit_train, "limit_test": limit_test}
    for what, limit in limits.items():
        if limit is not None and not _is_count(limit):
            raise ValueError(f"{what} is {limit!r}; an integer of at least 1 is accepted")
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction is {test_fraction!r}; a number between 0 and 1 is accepted")
    shape = _size(size)
    given = list(name) if isinstance(name, Sequence) and not isinstance(name, str) else [name]
    if not all(isinstance(one, str | Path) for one in given):
        raise ValueError(f"name is {name!r}; a name, a path, or paths of .npy files are accepted")
    if (dataset := _load_arrays(given, test_fraction)) is None:
        dataset = _load_images(given[0], tfds_root(data_dir), shape, test_fraction, progress)
    elif shape:
        raise ValueError(f"size resizes images of TFDS and of folders; it does not apply to {dataset.name}")
    return _select(dataset, classes, limits.values())


def describe(name: Paths, data_dir: str | Path | None = None) -> Description:
    """Describes TFDS data from its metadata, files and folders by loading them. Raises what `load` raises."""
    root = tfds_root(data_dir)
    if name != "digits" and isinstance(name, str | Path):
        if (directory := find_tfds(name, root)) is not None:
            metadata = open_tfds(directory)
            train, *tests = metadata.counts.values()
            note = "" if tests else "no test part: a fraction of each class is taken as one"
            known = train, sum(tests), tuple(metadata.classes), metadata.shape
            return Description(str(name), str(directory), True, *known, "uint8", note)
        if name in PREPARABLE and not Path(name).is_dir():
            return Description(str(name), str(root), prepared=False, note=_how_to_prepare(str(name)))
    dataset = load(name, data_dir=data_dir)
    where = "embedded in scikit-learn" if name == "digits" else str(name)
    train, test = (len(split.labels) for split in dataset[1:3])
    shape, dtype = dataset.train.images.shape[1:], str(dataset.train.images.dtype)
    return Description(dataset.name, where, True, train, test, dataset.classes, shape, dtype, dataset.split)


def available(data_dir: str | Path | None = None) -> list[Description]:
    """The digits, what is prepared in `data_dir` (the highest version of each), and what could be prepared there."""
    root = tfds_root(data_dir)
    found = [describe("digits")]
    for name in (names := prepared(root)):
        try:
            found.append(describe(name, root))
        except ValueError as error:  # one unreadable directory does not hide the others
            found.append(Description(name, str(root / name), prepared=False, note=str(error)))
    return found + [describe(name, root) for name in PREPARABLE if name not in names and not Path(name).is_dir()]


# Arguments


def _is_count(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool) and value >= 1


def _size(size: int | tuple[int, int] | None) -> Size:
    if size is None:
        return None
    pair = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(pair) != 2 or not all(map(_is_count, pair)):
        raise ValueError(f"size is {size!r}; (height, width) or one integer of at least 1 is accepted")
    return operator.index(pair[0]), operator.index(pair[1])


# Sources


def _load_arrays(given: Sequence[str | Path], fraction: float) -> Dataset | None:
    """The digits, or what is in .npz and .npy files; None if `given` is the name of something else."""
    paths = [Path(one).expanduser() for one in given]
    kinds = {path.suffix for path in paths}
    if given == ["digits"]:
        return arrays.digits()
    if kinds == {".npy"}:
        return arrays.from_npy(paths, fraction)
    if len(paths) != 1 or not str(given[0]):
        raise ValueError(f"name is {', '.join(map(str, given)) or 'empty'}; only .npy files are accepted together")
    return arrays.from_npz(paths[0], fraction) if kinds == {".npz"} else None


def _load_images(name: str | Path, root: Path, size: Size, fraction: float, progress: Progress | None) -> Dataset:
    """What TFDS prepared under this name, else a folder; cached as a finished data set, so that all of it is mapped."""
    title, source = _find_images(name, root)

    def make() -> tuple[dict[str, np.ndarray], Sequence[Any]]:
        encoded = source.read()
        made = arrays.from_arrays(title, decode(encoded, size, progress), encoded.classes, fraction)
        parts = {"train": made.train, "test": made.test}.items()
        return {f"{part}_{field}": array for part, split in parts for field, array in split._asdict().items()}, made[3:]

    found, (classes, fingerprint, split) = cached(source.directory, source.files, (size, fraction), make)
    fields = [*found.values()]
    return Dataset(title, Split(*fields[:3]), Split(*fields[3:]), tuple(classes), fingerprint, split)


def _find_images(name: str | Path, root: Path) -> tuple[str, Source]:
    """The title of the data set, and where its images are."""
    if (directory := find_tfds(name, root)) is not None:
        return str(name), tfds_source(directory)
    if (folder := Path(name).expanduser()).is_dir():
        return folder.absolute().name, folder_source(folder)
    if folder.is_file():
        raise ValueError(f"{name}: a .npz file, .npy files or a folder of class folders are accepted")
    text = str(name).partition(":")[0]
    if isinstance(name, Path) or Path(text).suffix or text.startswith(("/", ".", "~")):
        raise FileNotFoundError(f"{name}: no such file or folder")
    if text in PREPARABLE:
        raise ValueError(f"{name} is not in {root}: {_how_to_prepare(text)}, and --data-dir gives another directory")
    known = dict.fromkeys(["digits", *prepared(root), *PREPARABLE])
    close = difflib.get_close_matches(text, known, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known here are {', '.join(known)};"
    raise ValueError(f"unknown data set {name!r}: {hint} --data-dir gives another directory of TFDS data than {root}")


def _how_to_prepare(name: str) -> str:
    return f"`funcgrad data prepare {name}` writes it"


# Selection


def _select(dataset: Dataset, classes: Sequence[str | int] | None, limits: Iterable[int | None]) -> Dataset:
    """The examples of `classes`, relabelled, up to the limits; a mapped array is only sliced if `classes` is None."""
    known = dataset.classes
    given = known if classes is None else [classes] if isinstance(classes, str) else classes
    numbers = {**{str(label): label for label in range(len(known))}, **{name: i for i, name in enumerate(known)}}
    wanted = [numbers.get(str(one), -1) for one in given]
    for one, label in zip(given, wanted, strict=True):
        if label < 0 or wanted.count(label) > 1:
            why = "is unknown" if label < 0 else "is named twice"
            raise ValueError(f"classes: {one!r} {why}; {dataset.name} has {listed(known, 20)} (or 0..{len(known) - 1})")
    new_label = np.full(len(known), -1, np.int32)
    new_label[wanted] = np.arange(len(wanted), dtype=np.int32)
    parts = []
    for part, split, limit in zip(("training", "test"), dataset[1:3], limits, strict=True):
        rows = slice(limit) if classes is None else np.flatnonzero(new_label[split.labels] >= 0)[:limit]
        parts.append(Split(split.images[rows], new_label[split.labels[rows]], split.ids[rows]))
        if not len(parts[-1].labels):
            raise ValueError(f"classes: {dataset.name} has no {part} example of {list(classes or ())!r}")
    return dataset._replace(train=parts[0], test=parts[1], classes=tuple(known[label] for label in wanted))
