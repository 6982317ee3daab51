"""A search in chunks of queries, each saved in a file when it is finished, so that a run can be resumed."""

import contextlib
import json
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from funcgrad.distances import Metric
from funcgrad.files import DifferentRun, differences, replacing
from funcgrad.neighbors.index import as_index
from funcgrad.neighbors.search import kneighbors
from funcgrad.neighbors.strategies import Info, Neighbors
from funcgrad.neighbors.tuning import DEFAULTS, Tuning

_FILE = re.compile(r"queries-(?P<start>\d+)-(?P<stop>\d+)-of-(?P<total>\d+)\.npz")
_UNIT = 1024  # queries; whole units share one compiled program


class SavedChunks(NamedTuple):
    """The finished chunks of a search, each a file in a folder; without a folder, nothing is saved."""

    folder: Path | None
    search: Mapping[str, Any]  # what was searched for, which each file repeats
    total: int  # queries
    chunks: Mapping[tuple[int, int], Neighbors]  # by first query, and one past the last
    chunk: int | None = None  # queries in each, where the files say it

    @property
    def done(self) -> int:
        return sum(stop - start for start, stop in self.chunks)

    def save(self, start: int, stop: int, found: Neighbors) -> None:
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        metadata = {"search": self.search, "chunk": self.chunk, "info": found.info._asdict()}
        path = self.folder / f"queries-{start:09}-{stop:09}-of-{self.total:09}.npz"
        with replacing(path) as temporary_path, temporary_path.open("wb") as file:
            text = np.asarray(json.dumps(metadata))
            np.savez(file, distances=found.distances, indices=found.indices, metadata=text)


def resumable_kneighbors(
    queries: np.ndarray,
    points: np.ndarray,
    k: int,
    *,
    metric: Metric | None = None,
    p: float | None = None,
    precision: str = "exact",
    memory: str | int = "1GiB",
    folder: Path | None = None,
    resume: bool = False,
    data: Mapping[str, Any] | None = None,
    chunk: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    tuning: Tuning = DEFAULTS,
    **options: Any,
) -> Neighbors:
    """What `kneighbors` returns, found chunk by chunk.

    The chunks depend on the sizes alone and never on the clock, so that the same queries always meet in one block, and
    a resumed run gives the same bits as one that was never interrupted.

    Args:
      queries (Q, …), points (N, …), k, metric, p, precision, memory, tuning: as there, and so are all other options.
      folder: where each finished chunk is saved; None saves none. It stays when all is done: see `remove_saved`.
      resume: takes from the folder what is there; a damaged file is dropped and its chunk searched again. Otherwise
        the folder is emptied first.
      data: what tells these queries and points from others, such as a fingerprint; saved chunks must have the same.
      chunk: queries in each but the last, which takes the rest; `tuning.chunk_seconds` of work by default.

    Raises `DifferentRun`, a `ValueError` that names every difference, if the folder holds chunks of another search.
    """
    total = len(queries)
    count = total if precision == "exact" else 0
    sizes: dict[str, Any] = {"memory": memory, "mesh": options.get("mesh"), "tuning": tuning}
    index, memory = as_index(points, metric, p, k=k, queries=count, **sizes)
    search = {"metric": index.metric, "p": index.p, "largest k": k, "precision": precision, **(data or {})}
    search |= {"training examples": len(points), "test examples": total}
    saved = open_saved(folder, resume, search, total)
    chunk = saved.chunk or chunk or queries_in_chunk(len(points), index.points.shape[1], tuning)
    bounds = [*range(0, max(1, total - chunk + 1), chunk), total]
    chunks = {bound: saved.chunks[bound] for bound in pairwise(bounds) if bound in saved.chunks}
    saved = saved._replace(chunk=chunk, chunks=chunks)
    done = saved.done
    options |= {"precision": precision, "memory": memory, "tuning": tuning}
    if progress is not None:
        progress(done, total)
    parts = []
    for start, stop in pairwise(bounds):
        part = chunks.get((start, stop))
        if part is None:
            part = kneighbors(queries[start:stop], index, k, progress=counting_from(done, total, progress), **options)
            saved.save(start, stop, part)
            done += stop - start
        parts.append(part)
    counts = {name: sum(getattr(part.info, name) for part in parts) for name in Info._field_defaults}
    distances, indices = (np.concatenate([part[i] for part in parts]) for i in range(2))
    return Neighbors(distances, indices, parts[0].info._replace(**counts))


def counting_from(
    before: int, total: int, progress: Callable[[int, int], None] | None
) -> Callable[[int, int], None] | None:
    """The progress of a part, of whose queries the first is number `before` of `total`."""
    return None if progress is None else lambda done, _: progress(before + done, total)


def queries_in_chunk(points: int, dimensions: int, tuning: Tuning) -> int:
    """Queries for about `tuning.chunk_seconds` under a fast metric, in whole units."""
    per_second = 5e10 if jax.devices()[0].platform == "cpu" else 5e12  # multiplications and additions
    return _UNIT * max(1, int(tuning.chunk_seconds * per_second / (_UNIT * points * dimensions)))


# Files. Each names the search that it is a part of, and a ZIP archive has checksums.


def open_saved(folder: Path | None, resume: bool, search: Mapping[str, Any], total: int) -> SavedChunks:
    """The intact chunks of a search in a folder; without `resume` the folder is emptied, and there are none."""
    saved = SavedChunks(folder, search, total, {})
    if folder is None:
        return saved
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"--out: {folder} is a file, and finished chunks are to be saved there")
    if not resume:
        remove_saved(folder)
    chunks, chunk = {}, None
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
    return saved._replace(chunks=chunks, chunk=chunk)


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
