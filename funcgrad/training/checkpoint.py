"""Checkpoints: a tree of arrays and plain Python values with its step and configuration, written by Orbax.

    with saver("out/checkpoints", config={"learning_rate": 0.1}) as save:
        for step in range(1, 11):
            state = ...
            save(step, state)  # copies the state; a thread writes it while the next epoch runs
    found = restore("out/checkpoints", like=initial_state, config={"learning_rate": 0.1})

A folder holds one folder for each step:

    step-000000010/arrays/      the arrays by their paths in the tree, written by Orbax
    step-000000010/about.json   format, step, configuration, dtype and shape of each array, and the plain Python values
    step-000000010/checksums    CRC-32 and size of every file above, since Orbax itself does not notice changed data

It is written under a temporary name and renamed when it is complete, so a process may be killed at any moment. Nothing
is forced to the disk: what a power failure damages is recognised by its checksums, and an older checkpoint is used.
"""

import contextlib
import functools
import json
import logging
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from funcgrad.files import DifferentRun, differences, one_line

FORMAT = 2  # of about.json and of what `fit` saves. Until format 1, which had no number, weights were (inputs, outputs)
_FOLDER = re.compile(r"step-(\d{9,})")


class Restored(NamedTuple):
    """What `restore` found."""

    step: int
    tree: Any
    notes: tuple[str, ...]  # one line for each newer checkpoint that is damaged


@contextlib.contextmanager
def saver(
    folder: str | Path, *, config: Mapping[str, Any], keep: int | None = 3
) -> Iterator[Callable[[int, Any], None]]:
    """Gives `save(step, tree)`, which copies the tree to the host and returns while one thread writes it.

    A save waits for the one before it, and the end of the `with` block for the last. After each, checkpoints of later
    steps (of an abandoned run) and the oldest beyond `keep` are removed.

    Args:
      folder: of the checkpoints; created if it is missing.
      config: what has to be the same when a run is resumed; anything that JSON can hold.
      keep: how many checkpoints stay; None keeps all.

    `tree` is any pytree of arrays (JAX's or NumPy's; of keys, their `jax.random.key_data`) and plain Python values:
    None, bool, int, float, str, and dicts and lists of these. Of several processes only the first writes, and each
    array has to be replicated or on devices that it can address.

    Raises:
      ValueError: keep or step out of range, an array that is spread over other processes, two leaves with one name.
      TypeError: a leaf that is neither array nor plain value; a configuration that JSON cannot hold.
      OSError: a checkpoint could not be written (full disk); raised by the next save or the end of the block. Earlier
        checkpoints are intact.
    """
    folder = Path(folder).absolute()
    if keep is not None and keep < 1:
        raise ValueError(f"keep: must be at least 1, or None for all; got {keep}")
    config = _as_json(config)
    if jax.process_index() != 0:
        yield lambda step, tree: None
        return
    _orbax()  # imported now, since it is slow, and not during the first epoch
    with ThreadPoolExecutor(1, "checkpoint") as thread:
        writing: list[Future[None]] = []

        def wait() -> None:
            while writing:
                writing.pop().result()

        def save(step: int, tree: Any) -> None:
            wait()
            if step < 0:
                raise ValueError(f"step: must be at least 0, got {step}")
            arrays, leaves = _on_host(tree)
            about = {"format": FORMAT, "step": int(step), "config": config, "leaves": leaves}
            writing.append(thread.submit(_write, folder, step, arrays, json.dumps(about), keep))

        try:
            yield save
        finally:
            wait()


def save(folder: str | Path, step: int, tree: Any, *, config: Mapping[str, Any], keep: int | None = 3) -> None:
    """Writes one checkpoint, complete on return; see `saver`."""
    with saver(folder, config=config, keep=keep) as save_step:
        save_step(step, tree)


def restore(folder: str | Path, like: Any, *, config: Mapping[str, Any] | None = None) -> Restored | None:
    """The newest undamaged checkpoint; None if there is none, even if `steps` lists damaged ones.

    Args:
      folder: that of `saver`; every process has to see it.
      like: a tree of the same structure, shapes and dtypes. Where it has JAX arrays, JAX arrays with their shardings
        come back, else NumPy arrays; dicts and lists of plain Python values may have grown. Weak types come back
        strong, and NumPy's float64 scalars as floats.
      config: what the checkpoint has to have been saved with; None takes any.

    Raises:
      files.DifferentRun: it was saved with another configuration; every difference is named.
      ValueError: it has another format, or its tree another structure, shape or dtype.
    """
    notes = []
    for step, path in reversed(_checkpoints(Path(folder).absolute())):
        if reason := damage(path):
            notes.append(f"checkpoint: step {step} in {folder} is damaged and not used: {reason}")
            continue
        where, about = f"checkpoint: step {step} in {folder}", json.loads((path / "about.json").read_bytes())
        if (found := about.get("format", 1)) != FORMAT:
            raise ValueError(
                f"{where} has format {found}, and this version of funcgrad reads {FORMAT}; train from the beginning"
            )
        if config is not None and (different := differences(about["config"], _as_json(config))):
            raise DifferentRun(f"{where} was saved with {different}")
        return Restored(step, _read(path, about["leaves"], like, where), tuple(notes))
    return None


def steps(folder: str | Path) -> list[int]:
    """The steps that have a checkpoint, damaged or not, in ascending order."""
    return sorted({step for step, _ in _checkpoints(Path(folder))})


def remove(folder: str | Path) -> None:
    """Removes all checkpoints, and the folder unless it holds something else. Only the first process does it."""
    folder = Path(folder)
    if jax.process_index() != 0:
        return
    _remove_unfinished(folder)
    for _, path in _checkpoints(folder):
        _remove(path)
    with contextlib.suppress(OSError):
        folder.rmdir()


# Folders


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """(step, its folder), oldest first."""
    names = os.listdir(folder) if folder.is_dir() else []
    return sorted((int(match[1]), folder / name) for name in names if (match := _FOLDER.fullmatch(name)))


def _remove(path: Path) -> None:
    """Renames a checkpoint first, so that a half-removed one does not look like one."""
    temporary_path = path.with_name(f".{path.name}.removed")
    os.replace(path, temporary_path)
    shutil.rmtree(temporary_path)


def _remove_unfinished(folder: Path) -> None:
    """Removes what was being written or removed when a process was killed."""
    for path in folder.glob(".step-*"):
        shutil.rmtree(path)


def _write(folder: Path, step: int, arrays: dict[str, np.ndarray], about: str, keep: int | None) -> None:
    path = folder / f"step-{step:09}"
    temporary_path = path.with_name(f".{path.name}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_unfinished(folder)
        temporary_path.mkdir()
        if arrays:
            log = logging.getLogger("absl")
            log.addFilter(_not_of_thread)
            try:
                _orbax().save(temporary_path / "arrays", arrays)
            finally:
                log.removeFilter(_not_of_thread)
        (temporary_path / "about.json").write_text(about, encoding="utf-8")
        (temporary_path / "checksums").write_bytes(_checksums(temporary_path))
        if path.exists():  # damaged, or saved by a run that was resumed from before it
            _remove(path)
        os.replace(temporary_path, path)
        existing = [other for _, other in _checkpoints(folder)]
        here = existing.index(path)
        first = 0 if keep is None else max(0, here + 1 - keep)
        for other in existing[:first] + existing[here + 1 :]:
            _remove(other)
    except Exception as error:  # the file system, Orbax and TensorStore each raise their own classes
        shutil.rmtree(temporary_path, ignore_errors=True)  # Orbax's threads may still write; the next save clears it
        raise OSError(f"checkpoint: {path} could not be written: {one_line(error)}") from error


def _not_of_thread(record: logging.LogRecord) -> bool:
    """False for the traceback that Orbax logs when one of its threads fails; the error itself is raised as well."""
    return "_SignalingThread" not in record.getMessage()


def _checksums(folder: Path) -> bytes:
    """A line for each file but `checksums` itself: CRC-32, size, path."""
    lines = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path != folder / "checksums":
            crc = 0
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    crc = zlib.crc32(block, crc)
            lines.append(f"{crc:08x} {path.stat().st_size} {path.relative_to(folder).as_posix()}\n")
    return "".join(lines).encode()


def damage(path: Path) -> str:
    """Which files of a checkpoint are not as they were written, in words; "" if all are."""
    try:
        saved, found = (path / "checksums").read_bytes(), _checksums(path)
    except OSError as error:
        return one_line(error)
    if saved == found:
        return ""
    lines = set(saved.decode(errors="replace").split("\n")) ^ set(found.decode().split("\n"))
    names = sorted({line.split(" ", 2)[-1] for line in lines} - {""})
    return f"{', '.join(names[:3]) or 'checksums'} not as written"


def _as_json(config: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return json.loads(json.dumps(dict(config)))
    except (TypeError, ValueError) as error:
        raise TypeError(f"config: JSON has to be able to hold it; {one_line(error)}") from error


# Trees. Arrays go to Orbax by their paths; a dict or list of plain values only is one leaf and goes into about.json.


def _plain(x: Any) -> bool:
    if type(x) is dict:
        return all(isinstance(name, str) and _plain(value) for name, value in x.items())
    if type(x) is list:
        return all(_plain(value) for value in x)
    return x is None or isinstance(x, bool | int | float | str)


def _leaves(tree: Any) -> tuple[dict[str, Any], Any]:
    """Leaves by their paths, such as "params.hidden.0.weights", and the structure."""
    flat, structure = jax.tree.flatten_with_path(tree, is_leaf=_plain)
    leaves = {_name(path): leaf for path, leaf in flat}
    if len(leaves) < len(flat):
        raise ValueError("tree: two leaves have the same path once its parts are joined by dots")
    for name, leaf in leaves.items():
        dtype = getattr(leaf, "dtype", np.dtype(object))
        if not (_plain(leaf) or any(jax.numpy.issubdtype(dtype, kind) for kind in (np.number, np.bool_))):
            kind = dtype if hasattr(leaf, "dtype") else type(leaf).__name__
            raise TypeError(f"tree: {name} is {kind}; needs arrays of numbers and plain Python values")
    return leaves, structure


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".") or "tree"


def _describe(leaf: Any) -> dict[str, Any]:
    return {"value": leaf} if _plain(leaf) else {"dtype": str(leaf.dtype), "shape": list(leaf.shape)}


def _on_host(tree: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Copies of all arrays that are not empty, by path, and the metadata of every leaf."""
    leaves, _ = _leaves(tree)
    arrays = {name: leaf for name, leaf in leaves.items() if not _plain(leaf) and leaf.size}
    for name, leaf in arrays.items():
        if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
            raise ValueError(f"tree: {name} is spread over several processes; replicate it before it is saved")
    copies = {name: np.array(value) for name, value in jax.device_get(arrays).items()}
    return copies, {name: _describe(leaf) for name, leaf in leaves.items()}


def _read(path: Path, saved: dict[str, Any], like: Any, where: str) -> Any:
    leaves, structure = _leaves(like)
    wanted = {name: _describe(leaf) for name, leaf in leaves.items()}
    different = [
        f"{name} {_in_words(saved.get(name))} and not {_in_words(wanted.get(name))}"
        for name in {**wanted, **saved}
        if _in_words(saved.get(name)) != _in_words(wanted.get(name))
    ]
    if different:
        more = f" and {len(different) - 3} more" if len(different) > 3 else ""
        raise ValueError(f"{where} has another tree: {', '.join(different[:3])}{more}")
    arrays = _orbax().restore(path / "arrays") if (path / "arrays").exists() else {}

    def value(name: str, leaf: Any) -> Any:
        if _plain(leaf):
            return saved[name]["value"]
        return _placed(arrays[name], leaf) if leaf.size else leaf

    return jax.tree.unflatten(structure, [value(name, leaf) for name, leaf in leaves.items()])


def _in_words(metadata: dict[str, Any] | None) -> str:
    if metadata is None:
        return "missing"
    return "a plain value" if "value" in metadata else f"{metadata['dtype']}{metadata['shape']}"


def _placed(value: Any, like: Any) -> Any:
    """The value on the host, or where `like` is."""
    if isinstance(like, np.ndarray):
        return value
    if isinstance(like, np.generic):
        return value[()]
    return jax.make_array_from_callback(like.shape, like.sharding, lambda index: value[index])


@functools.cache
def _orbax() -> Any:
    """Orbax's checkpointer of this process alone, without barriers for others; imported here because it is slow."""
    import orbax.checkpoint as ocp

    process = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=process, active_processes={process}, barrier_sync_key_prefix=f"funcgrad{process}"
    )
    handler = ocp.PyTreeCheckpointHandler(use_compression=False, multiprocessing_options=options)
    return ocp.Checkpointer(handler, multiprocessing_options=options)
