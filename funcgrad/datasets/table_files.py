"""Files of rows, .csv and .tsv, .parquet and .jsonl, as a `Table`: numbers at hand, other columns read on demand."""

import csv
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from funcgrad.files import reading, reporting

SUFFIXES = frozenset({".csv", ".tsv", ".parquet", ".jsonl"})
_MISSING = {"", "na", "n/a", "nan", "null", "none", "?"}  # what stands for a number that is not there
_CHUNK_ROWS = 4096


class Table(NamedTuple):
    """A file of rows.

    numbers: the columns of numbers (N,) and of vectors (N, …), with NaN for what is missing. read: any column, as
    numbers or text. classes: the names of the labels 0, 1, … of a column, where the file says them. notes: how it was
    read. encoded: what reads a column that holds images themselves, as the bytes of files.
    """

    path: Path
    num_rows: int
    names: Sequence[str]
    numbers: Mapping[str, np.ndarray]
    read: Callable[[str], np.ndarray]
    classes: Mapping[str, Sequence[str]] = MappingProxyType({})
    notes: Sequence[str] = ()
    encoded: Mapping[str, Callable[[], Sequence[bytes]]] = MappingProxyType({})


def open_table(path: Path) -> Table:
    """Raises ValueError, or FileNotFoundError."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        with reporting(f"{path}: reading .parquet needs pyarrow: pip install 'funcgrad[parquet]'", caught=ImportError):
            import pyarrow.parquet  # noqa: F401
    with reading(path, f"{suffix} table"):
        table = {".parquet": _open_parquet, ".jsonl": _open_json_lines}.get(suffix, _open_csv)(path)
    if not table.num_rows:
        raise ValueError(f"{path} has no rows")
    return table


def _open_csv(path: Path) -> Table:
    """The first row is a header, unless it holds numbers other than 0, 1, 2, …: then columns are called so."""
    rows = _csv_rows(path)
    first = next(rows, [])
    numeric = [cell for cell in first if cell.strip().lower() not in _MISSING and _as_numbers([cell]) is not None]
    positions = [str(place) for place in range(len(first))]
    has_header = not numeric or numeric == positions[: len(numeric)] or len(first) == 1
    names = first if has_header else positions
    if len({*names}) < len(names):
        raise ValueError("two columns have the same name")
    body = rows if has_header else itertools.chain([first], rows)
    pieces: list[list[np.ndarray] | None] = [[] for _ in names]
    num_rows = 0
    while chunk := [*itertools.islice(body, _CHUNK_ROWS)]:
        num_rows += len(chunk)
        for place, cells in enumerate(zip(*chunk, strict=True)):
            if (known := pieces[place]) is not None:
                piece = _as_numbers(cells)
                pieces[place] = (
                    None if piece is None or {x.shape[1:] for x in known} - {piece.shape[1:]} else [*known, piece]
                )
    columns = {name: np.concatenate(known) for name, known in zip(names, pieces, strict=True) if known}
    numbers = {name: _whole(column) for name, column in columns.items() if not np.isnan(column).all()}

    def read(name: str) -> np.ndarray:
        if name in numbers:
            return numbers[name]
        with reading(path, "table"):
            place = names.index(name)
            return np.array([row[place] for row in itertools.islice(_csv_rows(path), has_header, None)])

    notes = () if has_header else (f"{path.name} has no header: its columns are called 0 … {len(names) - 1}",)
    return Table(path, num_rows, names, numbers, read, notes=notes)


def _csv_rows(path: Path) -> Iterator[list[str]]:
    """The cells of each row that is not blank, separated by whichever of , ; tab | the first line has most of."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        delimiter = max(",;\t|", key=file.readline().count)
        file.seek(0)
        width = 0
        for number, row in enumerate(csv.reader(file, delimiter=delimiter, strict=True), 1):
            width = width or len(row)
            if row and len(row) != width:
                raise ValueError(f"row {number} has {len(row)} cells, the first {width}")
            if row:
                yield row


def _as_numbers(cells: Sequence[str]) -> np.ndarray | None:
    """Cells as float64 numbers (N,), or vectors (N, D) such as "[1, 2]" or "1 2"; None if they are anything else."""
    with suppress(ValueError):
        return np.array(cells, np.float64)
    with suppress(ValueError):
        return np.array(["nan" if cell.strip().lower() in _MISSING else cell for cell in cells], np.float64)
    vectors = [cell.strip(" [](){}").replace(",", " ").split() for cell in cells]
    if len(vectors[0]) > 1:
        with suppress(ValueError):
            return np.array(vectors, np.float64)
    return None


def _whole(column: np.ndarray) -> np.ndarray:
    """Floats as int64 where all are whole."""
    is_whole = (column == np.trunc(column)).all() and (abs(column) <= 2**53).all()
    return column.astype(np.int64) if is_whole else column


def _open_json_lines(path: Path) -> Table:
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("each line has to be an object, {…}")
    columns = {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}
    numbers = {}
    for name, values in columns.items():
        filled = [np.nan if value is None else value for value in values]
        with suppress(ValueError, OverflowError):  # of vectors of several lengths, and of integers of more than 64 bits
            if (array := np.array(filled)).dtype.kind in "iuf" and not np.isnan(array).all():
                numbers[name] = array

    def read(name: str) -> np.ndarray:
        texts = ["" if value is None else str(value) for value in columns[name]]
        return numbers[name] if name in numbers else np.array(texts)

    return Table(path, len(rows), [*columns], numbers, read)


def _open_parquet(path: Path) -> Table:
    from pyarrow import parquet

    file = parquet.ParquetFile(path)
    schema = file.schema_arrow
    numbers = {field.name: array for field in schema if (array := _arrow_numbers(file, field)) is not None}

    def read(name: str) -> np.ndarray:
        if name in numbers:
            return numbers[name]
        with reading(path, "table"):
            values = file.read(columns=[name])[name].to_pylist()
            return np.array(["" if value is None else _as_text(value) for value in values])

    described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    classes = {name: feature["names"] for name, feature in described.items() if "names" in feature}
    images = {field.name: partial(_arrow_images, file, field.name) for field in schema if _holds_images(field)}
    return Table(path, file.metadata.num_rows, schema.names, numbers, read, classes, encoded=images)


def _as_text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _holds_images(field: Any) -> bool:
    """Whether a column is called an image and has bytes, or is what Hugging Face writes: {"bytes", "path"}."""
    from pyarrow import types

    if types.is_struct(field.type):
        return field.type.get_field_index("bytes") >= 0
    return field.name.lower() in ("image", "img") and (types.is_binary(field.type) or types.is_large_binary(field.type))


def _arrow_images(file: Any, name: str) -> list[bytes]:
    rows = file.read(columns=[name])[name].to_pylist()
    values = [row["bytes"] if isinstance(row, dict) else row for row in rows]
    if None in values:
        raise ValueError(f"row {values.index(None)} of column {name} holds no bytes")
    return values


def _arrow_numbers(file: Any, field: Any) -> np.ndarray | None:
    """A column of Arrow's numbers, or of lists of them, of one length; None if it is anything else."""
    import pyarrow
    import pyarrow.compute

    types, of = pyarrow.types, field.type
    while types.is_list(of) or types.is_large_list(of) or types.is_fixed_size_list(of):
        of = of.value_type
    if not (types.is_integer(of) or types.is_floating(of) or types.is_boolean(of) or types.is_decimal(of)):
        return None
    column, shape = file.read(columns=[field.name]).column(0).combine_chunks(), [-1]
    while column.type != of:
        lengths = pyarrow.compute.list_value_length(column).unique()
        if len(lengths) != 1 or not lengths[0].as_py():
            return None
        shape.append(lengths[0].as_py())
        column = column.flatten()
    if column.null_count == len(column):
        return None
    if types.is_decimal(of) or (types.is_boolean(of) and column.null_count):
        column = column.cast(pyarrow.float64())
    array = column.to_numpy(zero_copy_only=False)
    return array.reshape([len(array) // int(np.prod(shape[1:])), *shape[1:]])
