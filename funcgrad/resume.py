"""A search in stretches of queries, each kept in a file once it is done, so that a run that was stopped can go on."""

import contextlib
import json
import os
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import numpy as np

from funcgrad import neighbors

_FILE = re.compile(r"queries-(\d+)-(\d+)-of-(\d+)\.npz")  # first, one past the last, of all queries
_UNIT = 1024  # queries; whole units share one compiled program


class Differs(ValueError):
    """What is kept belongs to another search."""


def kneighbors(
    queries: np.ndarray,
    points: np.ndarray,
    k: int,
    *,
    metric: neighbors.Metric = "l2",
    p: float | None = None,
    precision: str = "exact",
    folder: Path | None = None,
    resume: bool = False,
    data: Mapping[str, Any] | None = None,
    stretch: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> neighbors.Neighbors:
    """What `funcgrad.neighbors.kneighbors` gives, found stretch by stretch.

    The stretches depend on the sizes alone and never on the clock, so that the same queries always meet in one block
    and a run that goes on gives the same bits as one that was never stopped.

    Args:
      queries (Q, …), points (N, …), k, metric, p, precision: as there, and so are all other options.
      folder: where each finished stretch is kept; None keeps none. It stays when all is done: see `remove`.
      resume: takes from the folder what is there; a damaged file is dropped and its stretch searched again. Otherwise
        the folder is emptied first.
      data: what tells these queries and points from others, such as a fingerprint; what is kept has to have the same.
      stretch: queries in each but the last, which takes the rest; some seconds of work by default.

    Raises `Differs`, a `ValueError` that names every difference, if what is kept belongs to another search.
    """
    total = len(queries)
    index = neighbors.prepare(points, metric, p=p)
    search = {"metric": index.metric, "p": p, "largest k": k, "precision": precision, **(data or {})}
    search |= {"training examples": len(points), "test examples": total}
    kept: dict[tuple[int, int], Any] = {}
    if folder is not None:
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"--out: {folder} is a file, and what is finished is to be kept there")
        if resume:
            kept, stretch = _read(folder, search, stretch)
        else:
            remove(folder)
    stretch = stretch or _stretch(len(points), index.points.shape[1])
    bounds = [*range(0, max(1, total - stretch + 1), stretch), total]
    kept = {bound: kept[bound] for bound in pairwise(bounds) if bound in kept}
    done = sum(stop - start for start, stop in kept)
    if progress is not None:
        progress(done, total)
    found = []
    for start, stop in pairwise(bounds):
        part = kept.get((start, stop))
        if part is None:
            bar = None if progress is None else _counting_from(done, total, progress)
            part = neighbors.kneighbors(queries[start:stop], index, k, precision=precision, progress=bar, **options)
            done += stop - start
            if folder is not None:
                _write(folder / f"queries-{start:09}-{stop:09}-of-{total:09}.npz", part, search, stretch)
        found.append(part)
    counts = {name: sum(getattr(part.info, name) for part in found) for name in neighbors.Info._field_defaults}
    distances, indices = (np.concatenate([part[i] for part in found]) for i in range(2))
    return neighbors.Neighbors(distances, indices, found[0].info._replace(**counts))


def what_is_kept(folder: Path) -> str:
    """In words, with what goes on from there; empty if there is nothing."""
    names = [found for path in _files(folder) if (found := _FILE.fullmatch(path.name))]
    if not names:
        return ""
    count = sum(int(name[2]) - int(name[1]) for name in names)
    return f"{count:,} of {int(names[0][3]):,} queries are kept in {folder}, and --resume goes on"


def remove(folder: Path) -> None:
    """Removes what is kept, and the folder unless something else lies in it."""
    for path in _files(folder):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _files(folder: Path) -> list[Path]:
    """What is kept, and what was being written when a process was killed."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _FILE.match(path.name.removeprefix(".")))


def _stretch(points: int, dimensions: int) -> int:
    """Queries for about five seconds under a fast metric, in whole units."""
    a_second = 5e10 if jax.devices()[0].platform == "cpu" else 5e12  # multiplications and additions
    return _UNIT * max(1, int(5 * a_second / (_UNIT * points * dimensions)))


def _counting_from(before: int, total: int, progress: Callable[[int, int], None]) -> Callable[[int, int], None]:
    return lambda done, _: progress(before + done, total)


# Files. Each says what it is a part of, and a ZIP archive has checksums.


def _write(path: Path, part: neighbors.Neighbors, search: Mapping[str, Any], stretch: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    said = {"search": search, "stretch": stretch, "info": part.info._asdict()}
    try:
        with aside.open("wb") as file:
            np.savez(file, distances=part.distances, indices=part.indices, said=np.asarray(json.dumps(said)))
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _read(
    folder: Path, search: Mapping[str, Any], stretch: int | None
) -> tuple[dict[tuple[int, int], neighbors.Neighbors], int | None]:
    """The stretches that are kept, whole, and how long they are."""
    kept = {}
    for path in _files(folder):
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                said = json.loads(str(archive["said"]))
                part = neighbors.Neighbors(archive["distances"], archive["indices"], neighbors.Info(**said["info"]))
            start, stop, _ = map(int, _FILE.fullmatch(path.name).groups())  # type: ignore[union-attr]
            theirs, its_stretch = said["search"], int(said["stretch"])
            if not part.distances.shape == part.indices.shape == (stop - start, theirs["largest k"]):
                raise ValueError("shape")
        except Exception:  # zipfile, zlib, struct and NumPy each raise their own: it is damaged
            path.unlink(missing_ok=True)
            continue
        if differences := [
            f"{name} {_short(theirs.get(name))} and not {_short(search.get(name))}"
            for name in {**search, **theirs}
            if theirs.get(name) != search.get(name)
        ]:
            raise Differs(
                f"--resume: what is kept in {folder} was searched with {', '.join(differences)}; "
                "without --resume the search starts anew"
            )
        stretch = its_stretch
        kept[start, stop] = part
    return kept, stretch


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
