"""Tables: which of their columns are features, labels, groups and ids."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from funcgrad.datasets.archives import LABELS
from funcgrad.datasets.arrays import PARTS, Found, RawSplit, part_of
from funcgrad.datasets.table_files import Table, open_table
from funcgrad.files import listed, shown

_LABELS = (*LABELS, "class", "category", "species")
_IDS = ("id", "ids", "index", "idx", "unnamed: 0", "", "row", "row_id", "sample_id", "image_id", "uuid")
PATHS = ("file_name", "filename", "file", "path", "filepath", "file_path", "image", "img", "image_path", "img_path")
_SPLITS = ("split", "subset", "partition", "set", "usage")


class Columns(NamedTuple):
    """What is wanted of a table or an archive, by name; see `load`."""

    keys: Sequence[str] | None = None
    label: str | None = None
    group: str | None = None


def read_tables(tables: Sequence[Table], columns: Columns) -> Found:
    """The parts in a table, by its column `split` if it has one; or a training table and a test table.

    …test.csv is taken beside …train.csv, where both have labels. Features are the columns `keys`; else the only column
    of vectors; else all columns of numbers that are no labels, groups or ids. Raises ValueError.
    """
    tables, train = [*tables], tables[0]
    label = label_column(train, columns)
    features, notes = _feature_columns(train, columns, label)
    if len(tables) == 1 and (beside := _test_beside(train.path)):
        other = open_table(beside)
        tables += [other] if label in other.names else []
        notes += [] if label in other.names else [f"{beside.name} has no column of labels and is left out"]
    split, how, rows = None, "", dict[str, Any]((part, slice(None)) for part in ("train", "test")[: len(tables)])
    if len(tables) == 1 and (found := split_rows(train)):
        split, rows = found
        tables *= len(rows)
        how = f"column {shown(split)} says which rows are the test part" if "test" in rows else ""
    elif len(tables) > 1:
        how = f"{shown(tables[1].path.name)} is the test part"
    parts = {
        part: _part(table, features, label, columns.group, rows[part]) for part, table in zip(rows, tables, strict=True)
    }
    used = {"features": features, "label": label, "group": columns.group, "split": split}
    recorded = {"columns": {kind: name for kind, name in used.items() if name is not None}}
    name = " + ".join(dict.fromkeys(table.path.name for table in tables))
    return Found(name, parts, train.classes.get(label or ""), how, (*train.notes, *notes), recorded)


def _part(table: Table, features: Sequence[str], label: str | None, group: str | None, rows: Any) -> RawSplit:
    require_columns(table, *features, label, group)
    for name in features:
        if name not in table.numbers or (len(features) > 1 and table.numbers[name].ndim > 1):
            accepted = "columns of numbers, or one of vectors of one length, are accepted"
            raise ValueError(f"{table.path}: column {shown(name)} cannot be a feature; {accepted}")
    vectors = [table.numbers[name] for name in features]
    images = np.column_stack(vectors) if vectors[0].ndim == 1 else vectors[0]
    if images.dtype.kind == "f" and np.isnan(images).any():
        row = int(np.argmax(np.isnan(images).reshape(len(images), -1).any(axis=1)))
        empty = [name for name, column in zip(features, vectors, strict=True) if np.isnan(column[row]).any()]
        raise ValueError(f"{table.path}: row {row} (from 0) has no number in column {_listed(empty)}")
    ids = next((table.read(name) for name in _id_columns(table) if name not in (*features, label)), None)
    if ids is not None and len(np.unique(ids)) < len(ids):
        ids = None
    what = f"column {shown(features[0])}" if len(features) == 1 else f"{len(features)} columns"
    where = f"--label-column names it, of {_listed(table.names)}" if label is None else f"{table.path}: {label}"
    return RawSplit(
        f"{table.path}: {what}",
        images[rows],
        where,
        None if label is None else table.read(label)[rows],
        ids[rows] if ids is not None else None if isinstance(rows, slice) else rows,
        None if group is None else table.read(group)[rows],
    )


# Columns


def label_column(table: Table, columns: Columns) -> str | None:
    """The column of labels; None if there is none."""
    if columns.label is not None:
        return columns.label
    ranked = [name for wanted in _LABELS for name in table.names if name.lower() == wanted]
    texts = [
        name for name in table.names if name not in table.numbers and name.lower() not in (*_IDS, *_SPLITS, *PATHS)
    ]
    return ranked[0] if ranked else texts[0] if len(texts) == 1 else None


def _feature_columns(table: Table, columns: Columns, label: str | None) -> tuple[list[str], list[str]]:
    """The columns of features, and what is to be said of the choice."""
    if columns.keys is not None:
        return [*columns.keys], []
    named = {label, columns.group, *_id_columns(table)}
    known = {name: column for name, column in table.numbers.items() if name not in named}
    vectors = [name for name, column in known.items() if column.ndim > 1]
    if len(vectors) > 1:
        raise ValueError(
            f"{table.path} has several columns of vectors: {_listed(vectors)}; --keys names the one to use"
        )
    features = vectors or [*known]
    if not features:
        raise ValueError(f"{table.path} has no column of numbers or vectors: {_listed(table.names)}")
    unused = [name for name in table.names if name not in (*features, label, columns.group)]
    rest = f"; not used: {_listed(unused)}" if unused else ""
    what = "the vectors of column" if vectors else "columns" if len(features) > 1 else "column"
    labels = "" if label is None else f"labels are column {shown(label)}, "
    chosen = f"{table.path.name}: {labels}features {what} {_listed(features, 5)}{rest}"
    return features, [f"{chosen} (--label-column and --keys choose others)"]


def _id_columns(table: Table) -> list[str]:
    """Columns that name rows: by their own name, or as they count from 0 or 1."""

    def counts_rows(column: np.ndarray) -> bool:
        return column.ndim == 1 and len(column) > 2 and column[0] in (0, 1) and (np.diff(column) == 1).all()

    named = [name for name in table.names if name.lower() in _IDS]
    return named + [name for name, column in table.numbers.items() if name not in named and counts_rows(column)]


def require_columns(table: Table, *names: str | None) -> None:
    """Raises ValueError for a name that no column has; None is none."""
    for name in names:
        if name is not None and name not in table.names:
            raise ValueError(f"{table.path} has no column {shown(name)}, only {_listed(table.names)}")


def split_rows(table: Table) -> tuple[str, dict[str, np.ndarray]] | None:
    """The column that says which part a row is in, and the rows of each; None if there is none."""
    for name in (name for name in table.names if name.lower() in _SPLITS and name not in table.numbers):
        if rows := rows_of_parts(table.read(name)):
            return name, rows
    return None


def rows_of_parts(values: np.ndarray) -> dict[str, np.ndarray]:
    """The rows of each part; empty if not all values are names of parts, train among them."""
    names = {value: part_of(str(value)) for value in np.unique(values).tolist()}
    if None in names.values() or "train" not in names.values():
        return {}
    of = np.array([names[value] for value in values.tolist()])
    return {part: np.flatnonzero(of == part) for part in PARTS if (of == part).any()}


def _test_beside(path: Path) -> Path | None:
    """…test.csv for …train.csv, if it is there."""
    beside = path.with_name(f"{path.stem.removesuffix('train')}test{path.suffix}")
    return beside if path.stem.endswith("train") and beside.is_file() else None


def _listed(names: Sequence[str], limit: int = 10) -> str:
    return listed((shown(name) or '""' for name in names), limit)
