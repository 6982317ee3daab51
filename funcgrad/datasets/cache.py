"""The cache of decoded images: arrays on disk under a hash of all that they depend on, memory-mapped when read.

Each entry is checked against its content; a damaged one is removed and made again, and a full disk costs a warning.
The entries used least recently give way to new ones (`Tuning.max_bytes`).
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from funcgrad.files import one_line, replacing, shown, write_json

_FORMAT = 3
_ENTRY = "[0-9a-f]" * 32  # the names of entries
_log = logging.getLogger("funcgrad")

Content = tuple[dict[str, np.ndarray], Sequence[Any]]  # arrays, and anything that JSON can write


class Tuning(NamedTuple):
    block_bytes: int = 1 << 24  # how much of a memory-mapped array is read at a time
    stale_seconds: float = 3600  # no writer takes this long, so an older temporary folder is left over from a crash
    max_bytes: int = 10 << 30  # of the whole cache


TUNING = Tuning()


class Entry(NamedTuple):
    """What the cache keeps: of which folder, as what, how large, and when it was last used, in seconds since 1970."""

    path: Path
    folder: str
    images: str
    bytes: int
    used: float


def cache_root() -> Path:
    """$FUNCGRAD_CACHE_DIR, else the user's cache folder."""
    import platformdirs

    return Path(os.environ.get("FUNCGRAD_CACHE_DIR") or platformdirs.user_cache_dir("funcgrad"))


def cache_entries() -> list[Entry]:
    """What is in the cache, the least recently used first."""
    entries = []
    for path in cache_root().glob(_ENTRY):
        with contextlib.suppress(FileNotFoundError):  # another process is removing it
            size = sum(file.stat().st_size for file in path.iterdir())
            entries.append(Entry(path, *_origin(path), size, path.stat().st_mtime))
    return sorted(entries, key=lambda entry: entry.used)


def clear_cache(keep_bytes: int = 0) -> list[Entry]:
    """Removes what was used least recently until no more bytes are left than these, and returns it."""
    entries = cache_entries()
    excess, removed = sum(entry.bytes for entry in entries) - keep_bytes, []
    for entry in entries:
        if excess <= 0:
            break
        shutil.rmtree(entry.path, ignore_errors=True)
        removed.append(entry)
        excess -= entry.bytes
    return removed


def cached(
    directory: Path,
    files: Sequence[Path],
    options: object,
    make: Callable[[], Content],
    tuning: Tuning = TUNING,
) -> Content:
    """What `make` returns for the files in a directory, from the cache if it is there, else written to it.

    Arrays whose name ends in "images" are memory-mapped. `options` is anything that JSON can write.
    """
    path = cache_root() / _key(directory, files, options)
    if (content := _read(path, tuning)) is not None:
        return content
    content = make()
    size = sum(array.nbytes for array in content[0].values())
    if size > tuning.max_bytes:
        return content
    try:
        clear_cache(tuning.max_bytes - size)
        _write(path, directory, *content, tuning)
    except OSError as error:
        if not path.is_dir():  # else another process was first, and its copy is the same
            _log.warning("the decoded images are not cached: %s", one_line(error, 200))
    return _read(path, tuning) or content


def digest(array: np.ndarray, tuning: Tuning = TUNING) -> str:
    """The sha256 of dtype, shape and content, in C order and native bytes, read in blocks."""
    content = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    for _, block in blocks(array, tuning):
        content.update(np.ascontiguousarray(block).data)
    return content.hexdigest()


def blocks(array: np.ndarray, tuning: Tuning = TUNING) -> Iterator[tuple[int, np.ndarray]]:
    """Consecutive rows with the number of the first, a block at a time, so that a mapped array stays on disk."""
    rows = max(1, tuning.block_bytes // max(1, array[:1].nbytes))
    return ((start, array[start : start + rows]) for start in range(0, len(array), rows))


def remove_stale(root: Path, pattern: str, seconds: float) -> None:
    """Removes the folders in `root` whose name matches and that nothing was added to for so long."""
    for folder in root.glob(pattern):
        with contextlib.suppress(FileNotFoundError):  # another process is removing it too
            if time.time() - folder.stat().st_mtime > seconds:
                shutil.rmtree(folder, ignore_errors=True)


def _key(directory: Path, files: Sequence[Path], options: object) -> str:
    known = [(file, file.stat()) for file in sorted(files)]
    entries = [[str(file.relative_to(directory)), x.st_size, x.st_mtime_ns, x.st_ctime_ns] for file, x in known]
    texts = [file.read_text() for file in sorted(files) if file.suffix == ".json"]  # dataset_info.json, features.json
    key = json.dumps([_FORMAT, str(directory.resolve()), options, entries, texts], default=str)  # NumPy's integers, too
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _read(path: Path, tuning: Tuning) -> Content | None:
    """What is in `path`; None if it does not exist, or is damaged: then it is removed."""
    if not path.is_dir():
        return None
    try:
        content = json.loads((path / "content.json").read_text(encoding="utf-8"))
        names, texts, checksum = (content[key] for key in ("arrays", "texts", "checksum"))
        arrays = {}
        for name in names:
            arrays[name] = np.load(path / f"{name}.npy", "r" if name.endswith("images") else None, allow_pickle=False)
        if _checksum(arrays, texts, tuning) != checksum:
            raise ValueError("its content has changed")
        with contextlib.suppress(OSError):  # where it may only be read
            os.utime(path)  # when it was last used
        return arrays, texts
    except Exception as error:  # a damaged file makes NumPy and json raise almost anything
        _log.warning("the cached images in %s are damaged (%s); decoding again", path, one_line(error, 200))
        shutil.rmtree(path, ignore_errors=True)
        return None


def _write(path: Path, directory: Path, arrays: Mapping[str, np.ndarray], texts: Sequence[Any], tuning: Tuning) -> None:
    """Nothing is synced to disk: what a crash leaves incomplete fails its checksum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(path.parent, f".{_ENTRY}.*", tuning.stale_seconds)
    with replacing(path) as temporary_path:
        temporary_path.mkdir(exist_ok=True)
        for name, array in arrays.items():
            np.save(temporary_path / f"{name}.npy", array, allow_pickle=False)
        content = {"folder": shown(directory.resolve()), "arrays": [*arrays], "texts": texts}
        write_json(temporary_path / "content.json", {**content, "checksum": _checksum(arrays, texts, tuning)})


def _checksum(arrays: Mapping[str, np.ndarray], texts: Sequence[Any], tuning: Tuning) -> str:
    digests = {name: digest(array, tuning) for name, array in arrays.items()}
    return hashlib.sha256(json.dumps([digests, texts]).encode()).hexdigest()


def _origin(path: Path) -> tuple[str, str]:
    """The folder that an entry was made of, and what its images are; "?" where it does not say."""
    try:
        folder = json.loads((path / "content.json").read_text(encoding="utf-8"))["folder"]
        arrays = [np.load(file, "r", allow_pickle=False) for file in sorted(path.glob("*images.npy"))]
        return folder, f"{sum(map(len, arrays)):,} of {' × '.join(map(str, arrays[0].shape[1:]))}"
    except Exception:  # a damaged file, as in `_read`
        return "?", "?"
