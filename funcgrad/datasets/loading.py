"""`load`: any source as a `Dataset`, or a selection from it; `load_examples`: all that it has, to be predicted."""

import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from funcgrad.datasets.arrays import Dataset, Examples, Found, divide, examples_from_arrays, from_arrays
from funcgrad.datasets.decoded import Chosen, decode_chosen, rows_of
from funcgrad.datasets.images import Decoding, Encoded, Progress
from funcgrad.datasets.selection import Selection, select
from funcgrad.datasets.sources import Choices, find_source
from funcgrad.datasets.tables import Columns

Paths = str | Path | Sequence[str | Path]


def load(
    name: Paths,
    *,
    data_dir: str | Path | None = None,
    limit_train: int | None = None,
    limit_test: int | None = None,
    per_class: int | None = None,
    classes: Sequence[str | int] | None = None,
    test_fraction: float = 0.2,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    background: str | tuple[int, int, int] = "white",
    skip_unreadable: bool = False,
    allow_empty_classes: bool = False,
    keys: Sequence[str] | None = None,
    label_column: str | None = None,
    group_column: str | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Loads images or feature vectors with their labels, in the source's original order.

    Args:
      name: one of
        "digits": scikit-learn's 1,797 images (8, 8, 1) of 0..16, the first 1,437 to train, the last 360 to test;
        a TFDS name, "name[/config][:version]", prepared as array_record, sorted by its text `id` if it has one;
        a .npz or .safetensors file that holds x_train, y_train, x_test, y_test, or x, y, or what scikit-learn, MedMNIST
        and others call them, and perhaps the class names `classes`; no other array in it is read;
        two .npy files (features, labels) or four (x_train, y_train, x_test, y_test), which are memory-mapped, or one,
        STEM.npy, whose labels are STEM_labels.npy; …train.npy takes …test.npy and its labels, where there are any;
        a .csv, .tsv, .jsonl or .parquet table (the last needs pyarrow), of whose columns one of vectors, or else all of
        numbers are features, or two of them (training, test); …train.csv takes …test.csv, and a column `split` parts;
        such a table of the paths of images, in or beside their folder, or of images themselves;
        a folder of class folders of images, sorted by path, or of the parts train, val and test made of these, of
        which val is the test part where there is no other; "./digits" is the folder and "digits" the data set.
      data_dir: where TFDS data is; $TFDS_DATA_DIR, else ~/tensorflow_datasets, if None.
      limit_train, limit_test: take the first N of the examples that `classes` and `per_class` select.
      per_class: take the first N training examples of each class.
      classes: names or indices of the classes to select, relabelled 0, 1, … in this order.
      test_fraction: of a source without a test part, the last such fraction of each class in the original order is the
        test part. This copies memory-mapped arrays.
      size: decoded images are resized to (H, W), or (size, size), bilinearly with antialiasing.
      channels: 1 or 3, of decoded images; None: grey (H, W, 1) if every image is, else RGB.
      background: a colour by name, "#rrggbb" or (r, g, b), which shows through transparent pixels.
      skip_unreadable: leave out images that cannot be read.
      allow_empty_classes: accept class folders without images.
      keys: the arrays of an archive that are features, labels, and perhaps features and labels of the test part; or the
        columns of a table that are features.
      label_column: of a table; None: label, class, target, …, or the only column of text.
      group_column: the column, or the array of an archive, of what belongs together, such as a person: `Split.groups`.
      progress: called as progress(done, total) while images are decoded, of which only those that are taken are.

    uint8, float32 and float64 stay, uint8 (N, H, W) gets a channel axis; bool, and integers within 0..255, become
    uint8, other integers floats that hold each of them, float16 and bfloat16 float32. Labels are whole numbers, text or
    one-hot rows, and are numbered in sorted order. Images are turned upright, as EXIF says; 16-bit grey is scaled to 8
    bits. Where there are several ways to read something, `Dataset.notes` say which was taken.

    Raises ValueError, or FileNotFoundError, in one line that names the file or argument and what is wrong with it.
    """
    counts = {"limit_train": limit_train, "limit_test": limit_test, "per_class": per_class}
    for what, count in counts.items():
        if count is not None and not _is_count(count):
            raise ValueError(f"{what} is {count!r}; an integer of at least 1 is accepted")
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction is {test_fraction!r}; a number between 0 and 1 is accepted")
    decoding = _decoding(size, channels, background, skip_unreadable)
    selection, given = Selection(classes, **counts), as_list(name)
    columns, choices = Columns(keys, label_column, group_column), Choices(allow_empty_classes, skip_unreadable)
    if isinstance(found := find_source(given, columns, data_dir, choices), Found):
        dataset = from_arrays(found, test_fraction)
        _check_form(dataset.name, dataset.train.images, decoding)
        return select(dataset, selection)
    title, source = found

    def choose(encoded: Encoded) -> Chosen:
        rows, split = rows_of(encoded.parts), encoded.split
        _require_labels(encoded)
        if "test" not in rows:
            (rows["train"], rows["test"]), split = divide(title, rows["train"], test_fraction)
        whole = Dataset(title, rows["train"], rows["test"], tuple(encoded.classes), "", split, rows.get("validation"))
        taken = select(whole, selection)
        return Chosen({part: getattr(taken, part) for part in rows}, taken.classes, split, taken.notes)

    taken = decode_chosen(source, decoding, choose, [selection, test_fraction], progress)
    parts = taken.parts
    about = taken.split, parts.get("validation"), taken.notes, taken.details
    return Dataset(title, parts["train"], parts["test"], taken.classes, taken.fingerprint, *about)


def load_examples(
    name: Paths,
    *,
    data_dir: str | Path | None = None,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    background: str | tuple[int, int, int] = "white",
    skip_unreadable: bool = False,
    keys: Sequence[str] | None = None,
    label_column: str | None = None,
    progress: Progress | None = None,
) -> Examples:
    """Loads all that a source has, all of its parts, with labels or without: what a classifier is to label.

    name: what `load` takes, and a folder or a file of images that have no labels. The other arguments, and what is
    raised, are those of `load`.
    """
    decoding, given = _decoding(size, channels, background, skip_unreadable), as_list(name)
    choices = Choices(skip_unreadable=skip_unreadable, labels_needed=False)
    if isinstance(found := find_source(given, Columns(keys, label_column), data_dir, choices), Found):
        examples = examples_from_arrays(found)
        _check_form(examples.name, examples.images, decoding)
        return examples
    title, source = found

    def choose(encoded: Encoded) -> Chosen:
        return Chosen(rows_of({"all": [x for part in encoded.parts.values() for x in part]}), tuple(encoded.classes))

    taken = decode_chosen(source, decoding, choose, "all", progress)
    images, labels, ids, _ = taken.parts["all"]
    known = labels if taken.classes and (labels >= 0).all() else None
    return Examples(title, images, ids, known, () if known is None else taken.classes, taken.notes, taken.details)


# Arguments


def _is_count(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool) and value >= 1


def as_list(name: Paths) -> list[str | Path]:
    given = list(name) if isinstance(name, Sequence) and not isinstance(name, str) else [name]
    if not all(isinstance(one, str | Path) for one in given):
        raise ValueError(f"name is {name!r}; a name, a path, or paths of .npy files are accepted")
    return given


def _decoding(size: Any, channels: Any, background: Any, skip_unreadable: bool) -> Decoding:
    pair = tuple(size) if isinstance(size, Sequence) else (size, size)
    if size is not None and (len(pair) != 2 or not all(map(_is_count, pair))):
        raise ValueError(f"size is {size!r}; (height, width) or one integer of at least 1 is accepted")
    if channels not in (None, 1, 3) or isinstance(channels, bool):
        raise ValueError(f"channels is {channels!r}; 1 (grey) or 3 (RGB) is accepted")
    shape = None if size is None else (operator.index(pair[0]), operator.index(pair[1]))
    return Decoding(shape, channels, _rgb(background), bool(skip_unreadable))


def _rgb(color: Any) -> tuple[int, int, int]:
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(color)[:3] if isinstance(color, str) else map(operator.index, color)
        if not all(0 <= value <= 255 for value in (red, green, blue)):
            raise ValueError
    except (ValueError, TypeError):
        accepted = 'a colour such as "white" or "#ffffff", or three integers within 0..255, is accepted'
        raise ValueError(f"background is {color!r}; {accepted}") from None
    return red, green, blue


# Sources


def _require_labels(encoded: Encoded) -> None:
    count = len(encoded.classes)
    for example in (example for part in encoded.parts.values() for example in part):
        if not 0 <= example.label < count:
            raise ValueError(f"{example.name}: its label is {example.label}; 0..{count - 1} is accepted")


def _check_form(name: str, images: np.ndarray, decoding: Decoding) -> None:
    """Arrays are taken as they are: another size or number of channels is refused."""
    shape = images.shape[1:]
    is_image = images.ndim == 4
    for what, wanted, has in (("size", decoding.size, shape[:2]), ("channels", decoding.channels, shape[-1])):
        if wanted is not None and not (is_image and wanted == has):
            raise ValueError(f"{what} is for images of TFDS and of folders; it does not apply to {name}")
