"""What a name stands for: the digits, files of arrays, tables, data of TFDS, or images in a folder or a manifest."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from funcgrad.datasets.archives import SUFFIXES as ARCHIVES
from funcgrad.datasets.archives import read_archive, read_npy, refuse_foreign
from funcgrad.datasets.arrays import Found, digits
from funcgrad.datasets.folders import examples_source, folder_source
from funcgrad.datasets.images import Source, suffixes
from funcgrad.datasets.manifests import manifest_source, manifests_in, path_column
from funcgrad.datasets.table_files import SUFFIXES as TABLES
from funcgrad.datasets.table_files import open_table
from funcgrad.datasets.tables import Columns, label_column, read_tables
from funcgrad.datasets.tfds_reader import find_tfds, prepared, tfds_root, tfds_source
from funcgrad.datasets.tfds_writer import RECIPES
from funcgrad.files import listed, shown

PREPARABLE = tuple(RECIPES)  # what `funcgrad data prepare` can write


class Choices(NamedTuple):
    """What is accepted: classes without images, files that are not there, and examples without labels."""

    allow_empty_classes: bool = False
    skip_unreadable: bool = False
    labels_needed: bool = True


class Images(NamedTuple):
    """Images that are still to be decoded, and the title of the data set."""

    title: str
    source: Source


_NONE, _USUAL = Columns(), Choices()


def find_source(
    given: Sequence[str | Path],
    columns: Columns = _NONE,
    data_dir: str | Path | None = None,
    choices: Choices = _USUAL,
) -> Found | Images:
    """Raises ValueError, or FileNotFoundError, for what is nothing of all this."""
    paths = [Path(one).expanduser() for one in given]
    kinds = {path.suffix.lower() for path in paths if not path.is_dir()}
    if len(paths) == 1:
        refuse_foreign(paths[0])
    if kinds and kinds <= ARCHIVES and len(paths) == 1 and columns.label is None:
        return read_archive(paths[0], columns.keys, columns.group)
    if kinds and kinds <= TABLES and len(paths) <= 2:
        tables = [open_table(path) for path in paths]
        if not all(map(path_column, tables)):
            return read_tables(tables, columns)
        if choices.labels_needed and (unlabelled := [x for x in tables if label_column(x, columns) is None]):
            names = listed(map(shown, unlabelled[0].names))
            raise ValueError(f"{unlabelled[0].path} has no labels; --label-column names their column, of {names}")
        parts = dict(zip(("train", "test"), tables, strict=False)) if len(tables) > 1 else {"": tables[0]}
        return Images(shown(paths[0].name), manifest_source(parts, columns, choices.skip_unreadable))
    if len(paths) == 1 and paths[0].is_dir() and find_tfds(given[0], tfds_root(data_dir)) is None:
        manifests = {part: open_table(path) for part, path in manifests_in(paths[0]).items()}
        if manifests and all(path_column(x) and label_column(x, columns) for x in manifests.values()):
            source = manifest_source(manifests, columns, choices.skip_unreadable, paths[0])
            return Images(shown(paths[0].absolute().name), source)
    if columns != _NONE:
        which = ", ".join(f"{name} {value!r}" for name, value in zip(_ARGUMENTS, columns, strict=True) if value)
        raise ValueError(f"{which}: of a table or an archive, which {' '.join(map(str, given))} is not")
    if list(given) == ["digits"]:
        return digits()._replace(notes=shadow_note("digits"))
    if kinds == {".npy"}:
        return read_npy(paths)
    if len(paths) != 1 or not str(given[0]):
        accepted = "only .npy files, or two tables (training, test), are accepted together"
        raise ValueError(f"name is {', '.join(map(str, given)) or 'empty'}; {accepted}")
    return _find_images(given[0], data_dir, choices)


_ARGUMENTS = "keys", "label_column", "group_column"


def _find_images(name: str | Path, data_dir: str | Path | None, choices: Choices) -> Images:
    """What TFDS prepared under this name, else a folder or a file of images."""
    root = tfds_root(data_dir)
    if (directory := find_tfds(name, root)) is not None:
        return Images(str(name), tfds_source(directory)._replace(notes=shadow_note(name)))
    path = Path(name).expanduser()
    if not choices.labels_needed and (path.is_dir() or (path.is_file() and path.suffix.lower() in suffixes())):
        return Images(shown(path.absolute().name), examples_source(path))
    if path.is_dir():
        return Images(shown(path.absolute().name), folder_source(path, allow_empty_classes=choices.allow_empty_classes))
    if path.is_file():
        accepted = ", ".join(sorted(ARCHIVES | TABLES | {".npy"}))
        raise ValueError(f"{name}: {accepted} or a folder of class folders are accepted")
    text = str(name).partition(":")[0]
    if isinstance(name, Path) or Path(text).suffix or text.startswith(("/", ".", "~")):
        raise FileNotFoundError(f"{name}: no such file or folder")
    if text in PREPARABLE:
        raise ValueError(f"{name} is not in {root}: {how_to_prepare(text)}, and --data-dir gives another directory")
    known = dict.fromkeys(["digits", *prepared(root), *PREPARABLE])
    close = difflib.get_close_matches(text, known, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known here are {', '.join(known)};"
    raise ValueError(f"unknown data set {name!r}: {hint} --data-dir gives another directory of TFDS data than {root}")


def shadow_note(name: str | Path) -> tuple[str, ...]:
    """A note that a folder has the name of a data set, if one has."""
    return (f"{name} is the data set of this name; the folder is ./{name}",) if Path(name).is_dir() else ()


def how_to_prepare(name: str) -> str:
    return f"`funcgrad data prepare {name}` writes it"
