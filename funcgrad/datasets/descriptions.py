"""`describe` and `available`: what there is to load, from metadata and headers where they say it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from funcgrad.datasets.arrays import examples_from_arrays, from_arrays
from funcgrad.datasets.images import differing_sizes, read_headers, unreadable_images
from funcgrad.datasets.loading import Paths, as_list
from funcgrad.datasets.sources import PREPARABLE, Choices, Images, find_source, how_to_prepare, shadow_note
from funcgrad.datasets.tables import Columns
from funcgrad.datasets.tfds_reader import find_tfds, open_tfds, prepared, tfds_root
from funcgrad.files import counted, shown

NO_TRAINING = "no data to train on: "
NO_TEST = "no test part: a fraction of each class is taken as one"


class Description(NamedTuple):
    """A data set without its examples: counts and `shape` (of one image) are None if only decoding shows them.

    note: how the test part is taken, or how the data set is had; notes: what else is to be known.
    """

    name: str
    where: str
    prepared: bool
    train: int | None = None
    test: int | None = None
    classes: tuple[str, ...] = ()
    shape: tuple[int | None, ...] | None = None
    dtype: str = ""
    note: str = ""
    validation: int | None = None
    notes: tuple[str, ...] = ()


def describe(
    name: Paths,
    data_dir: str | Path | None = None,
    *,
    keys: Sequence[str] | None = None,
    label_column: str | None = None,
) -> Description:
    """Describes TFDS data from its metadata, images from their headers, arrays and tables by loading them.

    The arguments, and what is raised, are those of `load`; of what has no labels it says so.
    """
    root, given, columns = tfds_root(data_dir), as_list(name), Columns(keys, label_column)
    if name != "digits" and len(given) == 1 and (directory := find_tfds(given[0], root)) is not None:
        metadata = open_tfds(directory)
        train, *tests = metadata.counts.values()
        note = "" if tests else NO_TEST
        known = train, sum(tests), tuple(metadata.classes), metadata.shape
        return Description(str(name), str(directory), True, *known, "uint8", note, notes=shadow_note(given[0]))
    path = Path(given[0]).expanduser()
    if name in PREPARABLE and not path.is_dir():
        return Description(str(name), str(root), prepared=False, note=how_to_prepare(str(name)))
    where = "embedded in scikit-learn" if name == "digits" else ", ".join(map(shown, given))
    try:
        found, refused = find_source(given, columns, data_dir), ""
    except ValueError as error:
        if len(given) != 1 or not path.is_dir():
            raise
        found, refused = find_source(given, columns, data_dir, Choices(labels_needed=False)), f"{NO_TRAINING}{error}"
    if isinstance(found, Images):
        return _describe_images(found, where, refused)
    if all(raw.labels is None for raw in found.parts.values()):
        examples = examples_from_arrays(found)
        note = f"{NO_TRAINING}no labels; `funcgrad predict` takes its {len(examples.ids):,} examples"
        form = examples.images.shape[1:], str(examples.images.dtype)
        return Description(found.name, where, True, None, None, (), *form, note, None, examples.notes)
    dataset = from_arrays(found)
    train, test = (len(split.labels) for split in dataset[1:3])
    shape, dtype = dataset.train.images.shape[1:], str(dataset.train.images.dtype)
    about = dataset.split, dataset.validation and len(dataset.validation.labels), dataset.notes
    return Description(dataset.name, where, True, train, test, dataset.classes, shape, dtype, *about)


def _describe_images(found: Images, where: str, refused: str) -> Description:
    """From the headers of the images; what `load` would refuse is a note."""
    source = found.source
    encoded = source.read()
    examples = [example for part in encoded.parts.values() for example in part]
    headers, unreadable = read_headers(examples)
    sizes = {header.size for header in headers.values()}
    channels = 1 if all(header.is_grey for header in headers.values()) else 3
    shape = (*(sizes.pop() if len(sizes) == 1 else (None, None)), channels)
    notes = [*source.notes]
    if which := differing_sizes(examples, headers):
        notes.append(f"--size is needed, since image sizes differ: {which}")
    if unreadable:
        notes.append(unreadable_images(examples, unreadable))
    if refused:
        notes.append(f"{counted(len(examples), 'image')} in all, which `funcgrad predict` takes")
    counts = {part: len(examples) for part, examples in encoded.parts.items()}
    known = counts.get("train"), None if refused else counts.get("test", 0), tuple(encoded.classes), shape, "uint8"
    about = refused or encoded.split or NO_TEST, counts.get("validation"), tuple(notes)
    return Description(found.title, where, True, *known, *about)


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
