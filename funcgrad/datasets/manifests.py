"""Manifests: tables of image files and their labels, in or beside a folder of images."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from funcgrad.datasets.arrays import part_of
from funcgrad.datasets.folders import list_tree
from funcgrad.datasets.images import Encoded, Example, Source, suffixes
from funcgrad.datasets.labels import Named, number_labels
from funcgrad.datasets.table_files import Table
from funcgrad.datasets.tables import PATHS, Columns, label_column, require_columns, rows_of_parts, split_rows
from funcgrad.files import listed, reading, shown

_FILES = ("metadata.csv", "metadata.jsonl")  # as Hugging Face's imagefolder calls them


def manifests_in(folder: Path) -> dict[str, Path]:
    """The manifest of a folder, under the name "", or those of the folders of its parts, by part."""
    inside = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    found = {path: next((path / name for name in _FILES if (path / name).is_file()), None) for path in inside}
    if own := found.pop(folder):
        return {"": own}
    parts = {part_of(path.name): manifest for path, manifest in found.items() if manifest}
    return {part: manifest for part, manifest in parts.items() if part}


def path_column(table: Table) -> str | None:
    """The column of images or of their paths, if there is one."""
    if table.encoded:
        return next(iter(table.encoded))
    for wanted in PATHS:
        for name in table.names:
            if name.lower() == wanted and name not in table.numbers:
                first = Path(str(table.read(name)[0]))
                if first.suffix.lower() in suffixes() or _find(table, str(first)).is_file():
                    return name
    return None


def manifest_source(
    tables: Mapping[str, Table], columns: Columns, skip_missing: bool = False, folder: Path | None = None
) -> Source:
    """The images that manifests list, each of which has a `path_column`; without labels they are -1.

    tables: by part, or one under the name "", whose parts are those of a column `split`, or of the first folders of
    its paths. folder: its images that are not listed are counted. Raises ValueError.
    """
    examples: dict[str, list[Example]] = {}
    labels: dict[str, Named] = {}
    notes: dict[str, None] = {}  # each once
    for name, table in tables.items():
        label = label_column(table, columns)
        require_columns(table, label, columns.group)
        found = _examples(table, columns.group)
        parts, how = ({name: np.arange(len(found))}, "") if name else _parts(table, [x.id for x in found])
        labelled = f"labels are column {shown(label)} of {shown(table.path.name)}" if label is not None else ""
        notes |= dict.fromkeys([*table.notes, labelled, how])
        for part, rows in parts.items():
            examples[part] = [found[row] for row in rows]
            if label is not None:
                labels[part] = f"{table.path}: {shown(label)}", table.read(label)[rows]
    classes: list[str] = []
    details: dict[str, Any] = {}
    if labels.keys() == examples.keys():
        numbered = number_labels(labels, table.classes.get(label or ""))
        classes, details = [*numbered.classes], {**numbered.details}
        notes |= dict.fromkeys(numbered.notes)
        for part, numbers in numbered.labels.items():
            examples[part] = [
                x._replace(label=number) for x, number in zip(examples[part], numbers.tolist(), strict=True)
            ]
    every = [x for part in examples.values() for x in part]
    if missing := [x.name for x in every if isinstance(x.image, Path) and not x.image.is_file()]:
        message = f"of {len(every):,} listed images {len(missing):,} not there: {listed(missing)}"
        if not skip_missing:
            raise ValueError(f"{message}; --skip-unreadable leaves them out")
        notes[message], details["missing"] = None, missing
        examples = {part: [x for x in of if x.name not in {*missing}] for part, of in examples.items()}
    images = [os.path.abspath(x.image) for of in examples.values() for x in of if isinstance(x.image, Path)]
    if folder is not None and (count := sum(str(path) not in {*images} for path in _images_in(folder))):
        notes[f"images of {shown(folder)} that are not listed are left out: {count:,}"] = None
    if "test" not in examples and "validation" in examples:
        examples["test"] = examples.pop("validation")
    encoded = Encoded(examples, classes, split=f"{_names(tables)} says which images are the test part")
    files = [os.path.abspath(table.path) for table in tables.values()] + images
    identity = [classes, {part: [[x.id, x.label, x.group] for x in of] for part, of in examples.items()}]
    directory = Path(os.path.commonpath([os.path.dirname(file) for file in files]))
    return Source(directory, [*map(Path, files)], lambda: encoded, identity, tuple(filter(None, notes)), details)


def _examples(table: Table, group: str | None) -> list[Example]:
    column = path_column(table) or ""
    if column in table.encoded:
        with reading(table.path, "table of images"):
            images: Sequence[Path | bytes] = table.encoded[column]()
        ids: Sequence[str | int] = range(len(images))
    else:
        names = table.read(column).tolist()
        images, ids = [_find(table, name) for name in names], [*map(shown, names)]
    groups = [None] * len(ids) if group is None else table.read(group).tolist()
    where = f"{table.path}: row " if column in table.encoded else f"{table.path}: "
    rows = zip(images, ids, groups, strict=True)
    return [Example(f"{where}{id}", image, -1, id, group) for image, id, group in rows]


def _find(table: Table, name: str) -> Path:
    """Where an image is: beside the manifest or in the folder that is called like it, the ending as written or not."""
    beside = table.path.parent
    places = [base / f"{name}{end}" for end in ("", ".jpg", ".png") for base in (beside, beside / table.path.stem)]
    return next((path for path in places if path.is_file()), places[0])


def _parts(table: Table, paths: list[Any]) -> tuple[dict[str, np.ndarray], str]:
    """The rows of each part, and what says so."""
    if found := split_rows(table):
        return found[1], f"column {shown(found[0])} says which part a row is in"
    if rows := rows_of_parts(np.array([str(path).split("/")[0] for path in paths])):
        return rows, "the first folder of each path says which part it is in"
    return {"train": np.arange(len(paths))}, ""


def _images_in(folder: Path) -> list[Path]:
    tree = list_tree(folder)
    return [Path(os.path.abspath(tree.root.joinpath(*path))) for path in tree.images]


def _names(tables: Mapping[str, Table]) -> str:
    return listed(shown(table.path.name) for table in tables.values())
