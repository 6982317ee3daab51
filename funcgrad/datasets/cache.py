"""The cache of decoded images: arrays on disk under a hash of all that they depend on, memory-mapped when read.

Each entry is checked against its content; a damaged one is removed and made again, and a full disk costs a warning.
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

from funcgrad.files import one_line, replacing, write_json

_FORMAT = 2
_log = logging.getLogger("funcgrad")

Content = tuple[dict[str, np.ndarray], Sequence[Any]]  # arrays, and anything that JSON can write


class Tuning(NamedTuple):
    block_bytes: int = 1 << 24  # how much of a memory-mapped array is read at a time
    stale_seconds: float = 3600  # no writer takes this long, so an older temporary folder is left over from a crash


TUNING = Tuning()


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
    path = _path(directory, files, options)
    if (content := _read(path, tuning)) is not None:
        return content
    content = make()
    try:
        _write(path, *content, tuning)
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


def _path(directory: Path, files: Sequence[Path], options: object) -> Path:
    import platformdirs

    known = [(file, file.stat()) for file in sorted(files)]
    entries = [[str(file.relative_to(directory)), x.st_size, x.st_mtime_ns, x.st_ctime_ns] for file, x in known]
    texts = [file.read_text() for file in sorted(files) if file.suffix == ".json"]  # dataset_info.json, features.json
    key = hashlib.sha256(json.dumps([_FORMAT, str(directory.resolve()), options, entries, texts]).encode())
    root = Path(os.environ.get("FUNCGRAD_CACHE_DIR") or platformdirs.user_cache_dir("funcgrad"))
    return root / key.hexdigest()[:32]


def _read(path: Path, tuning: Tuning) -> Content | None:
    """What is in `path`; None if it does not exist, or is damaged: then it is removed."""
    if not path.is_dir():
        return None
    try:
        names, texts, checksum = json.loads((path / "content.json").read_text(encoding="utf-8"))
        arrays = {}
        for name in names:
            arrays[name] = np.load(path / f"{name}.npy", "r" if name.endswith("images") else None, allow_pickle=False)
        if _checksum(arrays, texts, tuning) != checksum:
            raise ValueError("its content has changed")
        return arrays, texts
    except Exception as error:  # a damaged file makes NumPy and json raise almost anything
        _log.warning("the cached images in %s are damaged (%s); decoding again", path, one_line(error, 200))
        shutil.rmtree(path, ignore_errors=True)
        return None


def _write(path: Path, arrays: Mapping[str, np.ndarray], texts: Sequence[Any], tuning: Tuning) -> None:
    """Nothing is synced to disk: what a crash leaves incomplete fails its checksum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(path.parent, f".{'[0-9a-f]' * 32}.*", tuning.stale_seconds)
    with replacing(path) as temporary_path:
        temporary_path.mkdir(exist_ok=True)
        for name, array in arrays.items():
            np.save(temporary_path / f"{name}.npy", array, allow_pickle=False)
        write_json(temporary_path / "content.json", [[*arrays], texts, _checksum(arrays, texts, tuning)])


def _checksum(arrays: Mapping[str, np.ndarray], texts: Sequence[Any], tuning: Tuning) -> str:
    digests = {name: digest(array, tuning) for name, array in arrays.items()}
    return hashlib.sha256(json.dumps([digests, texts]).encode()).hexdigest()
