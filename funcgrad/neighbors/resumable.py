"""A search whose finished parts are kept in files, so that a run that was stopped can go on."""

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import numpy as np

from funcgrad.neighbors import cross_fold as folds
from funcgrad.neighbors import search as neighbors

# First and one past the last of all queries; or how many of a metric's are done, of those of all metrics.
_FILE = re.compile(r"(?:queries-(?P<start>\d+)|folds-(?P<metric>\w+))-(?P<stop>\d+)-of-(?P<total>\d+)\.npz")
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
    index, memory = neighbors.index_for(points, metric, p, k=k, queries=total, precision=precision, **options)
    options["memory"] = memory
    search = {"metric": index.metric, "p": p, "largest k": k, "precision": precision, **(data or {})}
    search |= {"training examples": len(points), "test examples": total}
    kept: dict[tuple[int, int], Any] = {}
    if folder is not None:
        _begin(folder, resume)
        for named, said, whole in _kept(folder, search):
            kept[int(named["start"]), int(named["stop"])] = whole
            stretch = int(said["stretch"])
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
                name = f"queries-{start:09}-{stop:09}-of-{total:09}.npz"
                _write(folder / name, part, {"search": search, "stretch": stretch})
        found.append(part)
    counts = {name: sum(getattr(part.info, name) for part in found) for name in neighbors.Info._field_defaults}
    distances, indices = (np.concatenate([part[i] for part in found]) for i in range(2))
    return neighbors.Neighbors(distances, indices, found[0].info._replace(**counts))


def fold_search(
    metrics: Sequence[str],
    examples: int,
    k: int,
    *,
    folder: Path | None = None,
    resume: bool = False,
    data: Mapping[str, Any] | None = None,
) -> Callable[..., neighbors.Neighbors]:
    """`cross_fold.fold_neighbors`, for these metrics one after the other, keeping what it finds as it goes.

    It is kept with the number of queries that are done, which are the first ones; k is the largest; `data` has to tell
    the examples and their folds from others. folder, resume and what is raised are those of `kneighbors`.
    """
    if folder is None:
        return folds.fold_neighbors
    search = {"metrics": ", ".join(metrics), "largest k": k, "training examples": examples, **(data or {})}
    total = examples * len(metrics)
    _begin(folder, resume)
    kept = {
        name["metric"]: folds.State(*part, done=int(name["stop"]))  # the last of a metric has done most
        for name, _, part in _kept(folder, search)
    }

    def fold_neighbors(index: neighbors.Index, parts: Sequence[np.ndarray], k: int, **options: Any) -> Any:
        def keep(state: folds.State) -> None:
            before = [path for path in _files(folder) if path.name.startswith(f"folds-{index.metric}-")]
            path = folder / f"folds-{index.metric}-{state.done:09}-of-{total:09}.npz"
            _write(path, neighbors.Neighbors(*state[:3]), {"search": search})
            for other in before:
                other.unlink(missing_ok=True)

        return folds.fold_neighbors(index, parts, k, start=kept.get(str(index.metric)), keep=keep, **options)

    return fold_neighbors


def what_is_kept(folder: Path) -> str:
    """In words, with what goes on from there; empty if there is nothing."""
    names = [found for path in _files(folder) if (found := _FILE.fullmatch(path.name))]
    if not names:
        return ""
    count = sum(int(name["stop"]) - int(name["start"] or 0) for name in names)
    return f"{count:,} of {int(names[0]['total']):,} queries are kept in {folder}, and --resume goes on"


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


def _begin(folder: Path, resume: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"--out: {folder} is a file, and what is finished is to be kept there")
    if not resume:
        remove(folder)


def _write(path: Path, part: neighbors.Neighbors, said: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    text = json.dumps({**said, "info": part.info._asdict()})
    try:
        with aside.open("wb") as file:
            np.savez(file, distances=part.distances, indices=part.indices, said=np.asarray(text))
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _kept(
    folder: Path, search: Mapping[str, Any]
) -> Iterator[tuple[re.Match[str], dict[str, Any], neighbors.Neighbors]]:
    """What is whole of what is kept: what the names of the files say, what the files say, and their content."""
    for path in _files(folder):
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                said = json.loads(str(archive["said"]))
                part = neighbors.Neighbors(archive["distances"], archive["indices"], neighbors.Info(**said["info"]))
            theirs, name = said["search"], _FILE.fullmatch(path.name)
            assert name is not None
            rows = theirs["training examples"] if name["metric"] else int(name["stop"]) - int(name["start"])
            shape, k = part.indices.shape, theirs["largest k"]
            enough = shape[1] >= k if name["metric"] else shape[1] == k  # those of folds may be more: candidates
            if not (part.distances.shape == shape and shape[0] == rows and enough):
                raise ValueError("shape")
        except Exception:  # zipfile, zlib, struct and NumPy each raise their own: it is damaged
            path.unlink(missing_ok=True)
            continue
        if differences := [
            f"{key} {_short(theirs.get(key))} and not {_short(search.get(key))}"
            for key in {**search, **theirs}
            if theirs.get(key) != search.get(key)
        ]:
            raise Differs(
                f"--resume: what is kept in {folder} was searched with {', '.join(differences)}; "
                "without --resume the search starts anew"
            )
        yield name, said, part


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
