"""The finished chunks of a search, each saved in a file, from which the search can be resumed."""

import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from funcgrad.files import DifferentRun, differences, replacing
from funcgrad.neighbors.strategies import Info, Neighbors

_FILE = re.compile(r"queries-(?P<start>\d+)-(?P<stop>\d+)-of-(?P<total>\d+)\.npz")


class SavedChunks(NamedTuple):
    """The finished chunks of a search, each a file in a folder; without a folder, nothing is saved."""

    folder: Path | None
    search: Mapping[str, Any]  # what was searched for, which each file repeats
    total: int  # queries
    chunk: int | None  # queries in each; None: as many as `queries_in_chunk` says
    chunks: dict[tuple[int, int], Neighbors]  # by first query, and one past the last

    @property
    def done(self) -> int:
        return self.done_among(0, self.total)

    def done_among(self, first: int, last: int) -> int:
        """How many of the queries first … last - 1 are finished."""
        return sum(stop - start for start, stop in self.chunks if first <= start < last)

    def save(self, start: int, stop: int, found: Neighbors) -> None:
        self.chunks[start, stop] = found
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        metadata = {"search": self.search, "chunk": self.chunk, "info": found.info._asdict()}
        path = self.folder / f"queries-{start:09}-{stop:09}-of-{self.total:09}.npz"
        with replacing(path) as temporary_path, temporary_path.open("wb") as file:
            text = np.asarray(json.dumps(metadata))
            np.savez(file, distances=found.distances, indices=found.indices, metadata=text)


# Files. Each names the search that it is a part of, and a ZIP archive has checksums.


def open_saved(
    folder: Path | None, resume: bool, search: Mapping[str, Any], total: int, chunk: int | None = None
) -> SavedChunks:
    """The intact chunks of a search in a folder; without `resume` the folder is emptied, and there are none.

    chunk: queries in each; those that are there decide.
    """
    chunks: dict[tuple[int, int], Neighbors] = {}
    if folder is None:
        return SavedChunks(folder, search, total, chunk, chunks)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"--out: {folder} is a file, and finished chunks are to be saved there")
    if not resume:
        remove_saved(folder)
    for path in _files(folder):
        try:
            bounds, found, metadata = _read(path)
        except Exception:  # zipfile, zlib, struct and NumPy each raise their own: it is damaged
            path.unlink(missing_ok=True)
            continue
        if different := differences(metadata["search"], search):
            raise DifferentRun(
                f"--resume: what is saved in {folder} was searched with {different}; "
                "without --resume the search starts anew"
            )
        chunks[bounds], chunk = found, metadata["chunk"]
    return SavedChunks(folder, search, total, chunk, chunks)


def _read(path: Path) -> tuple[tuple[int, int], Neighbors, dict[str, Any]]:
    """The bounds of a chunk, its content and metadata; raises if the file is damaged."""
    name = _FILE.fullmatch(path.name)
    assert name is not None
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        metadata = json.loads(str(archive["metadata"]))
        found = Neighbors(archive["distances"], archive["indices"], Info(**metadata["info"]))
    start, stop = int(name["start"]), int(name["stop"])
    if not found.distances.shape == found.indices.shape == (stop - start, metadata["search"]["largest k"]):
        raise ValueError("shape")
    return (start, stop), found, metadata


def describe_saved(folder: Path) -> str:
    """How much is saved, and that it can be resumed; empty if nothing is."""
    names = [found for path in _files(folder) if (found := _FILE.fullmatch(path.name))]
    if not names:
        return ""
    count = sum(int(name["stop"]) - int(name["start"]) for name in names)
    return f"{count:,} of {int(names[0]['total']):,} queries are saved in {folder}, and --resume continues"


def remove_saved(folder: Path) -> None:
    """Removes the chunks, and the folder unless something else lies in it."""
    for path in _files(folder):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _files(folder: Path) -> list[Path]:
    """The chunks, and what was being written when a process was killed."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _FILE.match(path.name.removeprefix(".")))
