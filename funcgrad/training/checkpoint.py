"""Checkpoints: a tree of arrays and plain Python values with its step and configuration, in one file.

    with saver("out/checkpoints", config={"learning_rate": 0.1}) as save:
        for step in range(1, 11):
            state = ...
            save(step, state)  # copies the state; a thread writes it while the next epoch runs
    found = restore("out/checkpoints", like=initial_state, config={"learning_rate": 0.1})

A folder holds one file for each step, such as step-000000010.npz: NumPy's archive of the arrays arr_0, arr_1, … and of
`about`, a JSON text with the format, the step, the configuration, the dtype and shape of each array by its path in the
tree, and the plain Python values.

It is written under a temporary name and renamed when it is complete, so a process may be killed at any moment. Nothing
is forced to the disk: what a power failure damages is recognised by the archive's CRC-32, and an older checkpoint is
used.
"""

import contextlib
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from funcgrad.files import DifferentRun, differences, one_line, plain, replacing, shorten

FORMAT = 3  # checkpoints of earlier formats are folders
_NAME = re.compile(r"step-(\d{9,})(\.npz)?")


class Checkpoint(NamedTuple):
    """Where and how often a training is saved, so that it can be resumed."""

    folder: str | Path | None = None  # None: nowhere
    every: int = 1  # epochs between two checkpoints,
    seconds: float = 0.0  # which are also at least this far apart
    keep: int | None = 3  # the last checkpoints that stay; None: all
    resume: bool = False  # from the newest undamaged checkpoint
    config: Mapping[str, Any] = MappingProxyType({})  # what else must be the same when it is resumed


class Restored(NamedTuple):
    """What `restore` found."""

    step: int
    tree: Any
    notes: tuple[str, ...]  # one line for each newer checkpoint that is damaged


@contextlib.contextmanager
def saver(
    folder: str | Path | None, *, config: Mapping[str, Any], keep: int | None = 3
) -> Iterator[Callable[[int, Any], None]]:
    """Gives `save(step, tree)`, which copies the tree to the host and returns while one thread writes it.

    A save waits for the one before it, and the end of the `with` block for the last. After each, checkpoints of later
    steps (of an abandoned run) and the oldest beyond `keep` are removed.

    Args:
      folder: of the checkpoints; created if it is missing. With None, nothing is saved.
      config: what has to be the same when a run is resumed; anything that JSON can hold, and paths.
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
    if keep is not None and keep < 1:
        raise ValueError(f"keep: must be at least 1, or None for all; got {keep}")
    if folder is None or jax.process_index() != 0:
        yield lambda step, tree: None
        return
    with ThreadPoolExecutor(1, "checkpoint") as thread:
        writing: list[Future[None]] = []

        def wait() -> None:
            while writing:
                writing.pop().result()

        def save(step: int, tree: Any) -> None:
            wait()
            if step < 0:
                raise ValueError(f"step: must be at least 0, got {step}")
            leaves, _ = _leaves(tree)
            about = {"format": FORMAT, "step": int(step), "config": plain(dict(config)), "leaves": _described(leaves)}
            about["values"] = {name: leaf for name, leaf in leaves.items() if _plain(leaf)}
            arrays = _on_host(leaves)
            writing.append(thread.submit(_write, Path(folder).absolute(), step, arrays, json.dumps(about), keep))

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
        where = f"checkpoint: step {step} in {folder}"
        try:
            about, found = _read(path)
        except Exception as error:  # zipfile, zlib, struct, json and NumPy each raise their own: it is damaged
            notes.append(f"{where} is damaged and not used: {one_line(error)}")
            continue
        if about["format"] != FORMAT:
            raise ValueError(
                f"{where} has format {about['format']}, and this version reads {FORMAT}; train from the beginning"
            )
        if config is not None and (different := differences(about["config"], config)):
            raise DifferentRun(f"{where} was saved with {different}")
        return Restored(step, _rebuilt(about["leaves"], found, like, where), tuple(notes))
    return None


def resumed(checkpoint: Checkpoint, fresh: Any, config: Mapping[str, Any]) -> Restored:
    """The tree to begin with: that of the newest checkpoint if it is to be resumed, else the fresh one, of step 0.

    Unless they are to be resumed, checkpoints in the folder are removed. Raises what `restore` does.
    """
    if checkpoint.folder is not None:
        if not checkpoint.resume:
            remove(checkpoint.folder)
        elif found := restore(checkpoint.folder, fresh, config=config):
            return found
        elif steps(checkpoint.folder):
            note = f"every checkpoint in {checkpoint.folder} is damaged; the training starts from the beginning"
            return Restored(0, fresh, (note,))
    return Restored(0, fresh, ())


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


# Files


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """(step, its file), oldest first."""
    names = os.listdir(folder) if folder.is_dir() else []
    return sorted((int(match[1]), folder / name) for name in names if (match := _NAME.fullmatch(name)))


def _remove(path: Path) -> None:
    if path.is_dir():  # in an earlier format
        shutil.rmtree(path)
    else:
        path.unlink()


def _remove_unfinished(folder: Path) -> None:
    """Removes what was being written when a process was killed."""
    for path in folder.glob(".step-*"):
        _remove(path)


def _write(folder: Path, step: int, arrays: list[np.ndarray], about: str, keep: int | None) -> None:
    path = folder / f"step-{step:09}.npz"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_unfinished(folder)
        with replacing(path) as temporary_path, temporary_path.open("wb") as file:
            np.savez(file, *arrays, about=np.asarray(about))
        existing = [other for _, other in _checkpoints(folder)]
        here = existing.index(path)
        first = 0 if keep is None else max(0, here + 1 - keep)
        for other in existing[:first] + existing[here + 1 :]:  # the later ones are of a run that was resumed before it
            _remove(other)
    except OSError as error:
        raise OSError(f"checkpoint: {path} could not be written: {one_line(error)}") from error


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metadata, and the leaves by their paths; raises if the file is damaged."""
    if path.is_dir():
        return {"format": "below 3"}, {}
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        if damaged := archive.zip.testzip():
            raise ValueError(f"{damaged} is not as written")
        about, numbers = json.loads(str(archive["about"])), itertools.count()
        arrays = {name: archive[f"arr_{next(numbers)}"] for name in about["leaves"] if name not in about["values"]}
        return about, {**arrays, **about["values"]}


# Trees. A dict or list of plain values only is one leaf.


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


def _described(leaves: dict[str, Any]) -> dict[str, str]:
    return {
        name: "a plain value" if _plain(leaf) else f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in leaves.items()
    }


def _on_host(leaves: dict[str, Any]) -> list[np.ndarray]:
    """Copies of the arrays among the leaves."""
    arrays = {name: leaf for name, leaf in leaves.items() if not _plain(leaf)}
    for name, leaf in arrays.items():
        if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
            raise ValueError(f"tree: {name} is spread over several processes; replicate it before it is saved")
    return [np.array(value) for value in jax.device_get(list(arrays.values()))]


def _rebuilt(saved: dict[str, Any], found: dict[str, Any], like: Any, where: str) -> Any:
    leaves, structure = _leaves(like)
    if different := differences(saved, _described(leaves)):
        raise ValueError(f"{where} has another tree: {shorten(different, 300)}")
    return jax.tree.unflatten(structure, [_placed(found[name], leaf) for name, leaf in leaves.items()])


def _placed(value: Any, like: Any) -> Any:
    """The value on the host, or where `like` is."""
    if _plain(like):
        return value
    value = value.view(like.dtype)  # NumPy saves bfloat16 and its kind as plain bytes
    if isinstance(like, np.ndarray):
        return value
    if isinstance(like, np.generic):
        return value[()]
    return jax.make_array_from_callback(like.shape, like.sharding, lambda index: value[index])
