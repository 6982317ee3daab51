"""Checkpoints: a tree of arrays and plain Python values, kept with its step and configuration, written by Orbax.

    with saver("out/checkpoints", config={"learning_rate": 0.1}) as save:
        for step in range(1, 11):
            state = ...
            save(step, state)  # copies the state; one thread writes it while the next epoch runs
    found = restore("out/checkpoints", like=initial_state, config={"learning_rate": 0.1})

A folder holds one folder for each step:

    step-000000010/arrays/      the arrays by their paths in the tree, written by Orbax
    step-000000010/about.json   step, configuration, shape and dtype of each array, and the plain Python values
    step-000000010/checksums    CRC-32 and size of every file above; Orbax itself does not notice changed data

It is written under another name and renamed when it is whole, so that a process may be killed at any moment. Nothing is
forced to the disk: what a power cut damages is recognised by its checksums, and an older one is used.
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

_FOLDER = re.compile(r"step-(\d{9,})(\.replaced)?")  # the second only while a step is saved once more


class Differs(ValueError):
    """What is kept belongs to another configuration."""


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

    A save waits for the one before it, and the end of the `with` block for the last. After each, those of later steps
    (of a run that was given up) and the oldest beyond `keep` are removed.

    Args:
      folder: where the checkpoints lie; made when it is missing.
      config: what has to be the same where a run goes on; anything that JSON can hold.
      keep: how many stay; None keeps all.

    `tree` is any pytree of arrays (JAX, NumPy; typed keys too) and plain Python values: None, bool, int, float, str,
    and dicts and lists of these. Of several processes only the first writes, and each array has to be replicated or on
    devices that it can address.

    Raises:
      ValueError: keep or step out of range, an array that is spread over other processes, two leaves with one name.
      TypeError: a leaf that is neither array nor plain value; a configuration that JSON cannot hold.
      OSError: a checkpoint could not be written (full disk); from the next save or the end of the block. Those before
        it are untouched.
    """
    folder = Path(folder).absolute()
    if keep is not None and keep < 1:
        raise ValueError(f"keep: must be at least 1, or None for all; got {keep}")
    config = _as_json(config)
    if jax.process_index() != 0:
        yield lambda step, tree: None
        return
    _orbax()  # the import takes a moment, here rather than beside the first epoch
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
            about = json.dumps({"step": int(step), "config": config, "leaves": leaves})  # here: a history may grow
            writing.append(thread.submit(_write, folder, step, arrays, about, keep))

        try:
            yield save
        finally:
            wait()


def save(folder: str | Path, step: int, tree: Any, *, config: Mapping[str, Any], keep: int | None = 3) -> None:
    """One checkpoint, whole when this returns; see `saver`."""
    with saver(folder, config=config, keep=keep) as save_step:
        save_step(step, tree)


def restore(folder: str | Path, like: Any, *, config: Mapping[str, Any] | None = None) -> Restored | None:
    """The newest whole checkpoint; None if there is none, even where `steps` lists damaged ones.

    Args:
      folder: that of `saver`; every process has to see it.
      like: a tree of the same structure, shapes and dtypes. Arrays come back as JAX arrays with its shardings where it
        has JAX arrays, else as NumPy arrays; dicts and lists of plain Python values may have grown. Weak types come
        back strong, and NumPy's float64 scalars as floats.
      config: what the checkpoint has to have been saved with; None takes any.

    Raises:
      Differs: it was saved with another configuration; every difference is named.
      ValueError: the tree has another structure, shape or dtype.
    """
    notes = []
    for step, path in reversed(_kept(Path(folder).absolute())):
        if reason := _damage(path):
            notes.append(f"checkpoint: step {step} in {folder} is damaged and not used: {reason}")
            continue
        about = json.loads((path / "about.json").read_bytes())
        if config is not None:
            _check_config(f"step {step} in {folder}", about["config"], _as_json(config))
        return Restored(step, _read(path, about["leaves"], like, f"step {step} in {folder}"), tuple(notes))
    return None


def steps(folder: str | Path) -> list[int]:
    """The steps that have a checkpoint, damaged or not, in ascending order."""
    return sorted({step for step, _ in _kept(Path(folder))})


def remove(folder: str | Path) -> None:
    """Removes all checkpoints, and the folder unless something else lies in it. Only the first process does it."""
    folder = Path(folder)
    if jax.process_index() != 0:
        return
    _remove_unfinished(folder)
    for _, path in _kept(folder):
        _remove(path)
    with contextlib.suppress(OSError):
        folder.rmdir()


# Folders


def _kept(folder: Path) -> list[tuple[int, Path]]:
    """(step, its folder), oldest first; what was to be replaced comes before what replaces it."""
    names = os.listdir(folder) if folder.is_dir() else []
    found = [(int(match[1]), match[2] is None, name) for name in names if (match := _FOLDER.fullmatch(name))]
    return [(step, folder / name) for step, _, name in sorted(found)]


def _remove(path: Path) -> None:
    """Removes a checkpoint in such a way that a half-removed one does not look like one."""
    aside = path.with_name(f".{path.name}")
    os.replace(path, aside)
    shutil.rmtree(aside)


def _remove_unfinished(folder: Path) -> None:
    """Removes what was being written or removed when a process was killed."""
    for path in folder.glob(".step-*"):
        shutil.rmtree(path)


def _write(folder: Path, step: int, arrays: dict[str, np.ndarray], about: str, keep: int | None) -> None:
    path = folder / f"step-{step:09}"
    aside, replaced = path.with_name(f".{path.name}"), path.with_name(f"{path.name}.replaced")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_unfinished(folder)
        aside.mkdir()
        if arrays:
            _orbax().save(aside / "arrays", arrays)
        (aside / "about.json").write_text(about, encoding="utf-8")
        (aside / "checksums").write_bytes(_checksums(aside))
        if path.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            os.replace(path, replaced)
        os.replace(aside, path)
        if replaced.exists():
            _remove(replaced)
        kept = [other for _, other in _kept(folder)]
        here = kept.index(path)
        first = 0 if keep is None else max(0, here + 1 - keep)
        for other in kept[:first] + kept[here + 1 :]:
            _remove(other)
    except Exception as error:  # of the file system, of Orbax and of TensorStore, each with its own class
        shutil.rmtree(aside, ignore_errors=True)  # other threads of Orbax may still write; the next save clears it
        raise OSError(f"checkpoint: {path} could not be written: {_first_line(error)}") from error


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


def _damage(path: Path) -> str:
    """Which files are not as they were written, in words; empty if all are."""
    try:
        said, found = (path / "checksums").read_bytes(), _checksums(path)
    except OSError as error:
        return _first_line(error)
    if said == found:
        return ""
    lines = set(said.decode(errors="replace").split("\n")) ^ set(found.decode().split("\n"))
    names = sorted({line.split(" ", 2)[-1] for line in lines} - {""})
    return f"{', '.join(names[:3]) or 'checksums'} not as written"


def _check_config(where: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    differences = [
        f"{name.replace('_', ' ')} {_short(theirs.get(name))} and not {_short(ours.get(name))}"
        for name in {**ours, **theirs}
        if json.dumps(theirs.get(name), sort_keys=True) != json.dumps(ours.get(name), sort_keys=True)
    ]
    if differences:
        raise Differs(f"checkpoint: {where} was saved with {', '.join(differences)}")


def _as_json(config: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return json.loads(json.dumps(dict(config)))
    except (TypeError, ValueError) as error:
        raise TypeError(f"config: JSON has to be able to hold it; {_first_line(error)}") from error


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# Trees. Arrays go to Orbax by their paths; a dict or list of nothing but plain values is one leaf and goes into JSON.


_KINDS = (np.number, np.bool_, jax.dtypes.prng_key)


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
        if not (_plain(leaf) or any(jax.numpy.issubdtype(dtype, kind) for kind in _KINDS)):
            kind = dtype if hasattr(leaf, "dtype") else type(leaf).__name__
            raise TypeError(f"tree: {name} is {kind}; needs arrays of numbers and plain Python values")
    return leaves, structure


def _is_key(leaf: Any) -> bool:
    return jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".") or "tree"


def _describe(leaf: Any) -> dict[str, Any]:
    return {"value": leaf} if _plain(leaf) else {"dtype": str(leaf.dtype), "shape": list(leaf.shape)}


def _on_host(tree: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Copies of all arrays that are not empty, by path, and what is said of every leaf."""
    leaves, _ = _leaves(tree)
    arrays = {name: leaf for name, leaf in leaves.items() if not _plain(leaf) and leaf.size}
    for name, leaf in arrays.items():
        if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
            raise ValueError(f"tree: {name} is spread over several processes; replicate it before it is saved")
    data = {name: jax.random.key_data(leaf) if _is_key(leaf) else leaf for name, leaf in arrays.items()}
    copies = {name: np.array(value) for name, value in jax.device_get(data).items()}
    return copies, {name: _describe(leaf) for name, leaf in leaves.items()}


def _read(path: Path, saved: dict[str, Any], like: Any, where: str) -> Any:
    leaves, structure = _leaves(like)
    wanted = {name: _describe(leaf) for name, leaf in leaves.items()}
    differences = [
        f"{name} {_in_words(saved.get(name))} and not {_in_words(wanted.get(name))}"
        for name in {**wanted, **saved}
        if _in_words(saved.get(name)) != _in_words(wanted.get(name))
    ]
    if differences:
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise ValueError(f"checkpoint: {where} has another tree: {', '.join(differences[:3])}{more}")
    arrays = _orbax().restore(path / "arrays") if (path / "arrays").exists() else {}

    def value(name: str, leaf: Any) -> Any:
        if _plain(leaf):
            return saved[name]["value"]
        if not leaf.size:
            return leaf
        if _is_key(leaf):
            data = jax.numpy.asarray(arrays[name])
            return _placed(jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf)), leaf)
        return _placed(arrays[name], leaf)

    return jax.tree.unflatten(structure, [value(name, leaf) for name, leaf in leaves.items()])


def _in_words(said: dict[str, Any] | None) -> str:
    if said is None:
        return "missing"
    return "a plain value" if "value" in said else f"{said['dtype']}{said['shape']}"


def _placed(value: Any, like: Any) -> Any:
    """The value on the host, or where `like` lies."""
    if isinstance(like, np.ndarray):
        return value
    if isinstance(like, np.generic):
        return value[()]
    return jax.make_array_from_callback(like.shape, like.sharding, lambda index: value[index])


class _Orbax(NamedTuple):
    save: Callable[[Path, dict[str, np.ndarray]], None]
    restore: Callable[[Path], dict[str, np.ndarray]]


@functools.cache
def _orbax() -> _Orbax:
    """Orbax for this process alone, without barriers that would wait for others; imported here because it is slow."""
    import orbax.checkpoint as ocp

    me = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"funcgrad{me}"
    )
    handler = ocp.PyTreeCheckpointHandler(use_compression=False, multiprocessing_options=options)
    checkpointer = ocp.Checkpointer(handler, multiprocessing_options=options)

    def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
        log = logging.getLogger("absl")
        before, log.disabled = log.disabled, True  # the tracebacks of its threads; what failed is raised as well
        try:
            checkpointer.save(path, args=ocp.args.PyTreeSave(arrays))
        finally:
            log.disabled = before

    return _Orbax(save, checkpointer.restore)
