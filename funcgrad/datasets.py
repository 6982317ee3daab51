"""Data sets: scikit-learn's digits, arrays in files, folders of images, and what TFDS has prepared on disk.

`load` gives every one of them the same form: it checks, divides and selects. What has to be decoded comes from
`funcgrad.decoded`. TensorFlow is never imported.
"""

import difflib
import hashlib
import operator
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from funcgrad import decoded
from funcgrad.decoded import Progress, one_line

PREPARABLE = ("cifar10", "mnist", "fashion_mnist")  # what `funcgrad data prepare` can write

_FEW_CLASSES = 1_000  # without class names a higher label than this and the rows is taken for a mistake, such as an id

Paths = str | Path | Sequence[str | Path]


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
        dataset = _digits()
    elif kinds == {".npz"} and len(paths) == 1:
        dataset = _from_npz(paths[0], test_fraction)
    elif kinds == {".npy"}:
        dataset = _from_npy(paths, test_fraction)
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


# Arrays: their form, their checks


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


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.uint8).reshape(-1, 8, 8)
    rows = np.split(np.arange(len(images)), [1437])
    arrays = [("digits", array[part]) for part in rows for array in (images, labels)]
    return _from_arrays("digits", arrays, None, 0.2, rows)


def _from_arrays(
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


def _from_npz(path: Path, fraction: float) -> Dataset:
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
    return _from_arrays(path.name, [(f"{path}: {key}", arrays[key]) for key in keys], names, fraction)


def _from_npy(paths: Sequence[Path], fraction: float) -> Dataset:
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
    return _from_arrays(" + ".join(path.name for path in paths), arrays, None, fraction)


# Images that are decoded


def _from_images(
    name: str, source: decoded.Source, size: tuple[int, int] | None, fraction: float, progress: Progress | None
) -> Dataset:
    """The data set of a TFDS directory or a folder. What is cached is the finished one, so that all of it is mapped."""

    def make() -> dict[str, np.ndarray]:
        parts, classes = source.decode(size, progress)
        arrays = [(part.what, array) for part in parts for array in (part.images, part.labels)]
        made = _from_arrays(name, arrays, classes, fraction, [part.ids for part in parts])
        texts = {"classes": made.classes, "fingerprint": [made.fingerprint], "split": [made.split]}
        kept = {key: np.array(value) for key, value in texts.items()}
        kept |= {f"train_{field}": array for field, array in made.train._asdict().items()}
        return kept | {f"test_{field}": array for field, array in made.test._asdict().items()}

    kept = decoded.cached(source, (size, fraction), make)
    train, test = (Split(*(kept[f"{part}_{field}"] for field in Split._fields)) for part in ("train", "test"))
    classes, fingerprint, split = (kept[key].tolist() for key in ("classes", "fingerprint", "split"))
    return Dataset(name, train, test, tuple(classes), fingerprint[0], split[0])
