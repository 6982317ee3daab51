"""The final product of a run: parameters alone, as one safetensors file that other programs read too."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np


def save_params(path: str | Path, params: Any, metadata: Mapping[str, str]) -> None:
    """Writes parameters as one safetensors file, aside and then renamed.

    Args:
      params: dicts, lists and tuples of arrays, as in `funcgrad.models`. Names are paths: "hidden.0.weights".
      metadata: text by name, kept in the header. "sha256" is added: a digest of everything else.

    Raises `ValueError` for a tree that its names do not tell (empty parts, a dot or numbers as names), arrays that
    NumPy has no dtype of its own for, and metadata called "sha256".
    """
    from safetensors.numpy import save

    path = Path(path)
    if "sha256" in metadata:
        raise ValueError("metadata: 'sha256' is taken by the digest of the file")
    flat = jax.tree.leaves_with_path(jax.device_get(params))
    arrays = {
        jax.tree_util.keystr(where, simple=True, separator="."): np.array(leaf, order="C") for where, leaf in flat
    }
    rebuilt: Any = jax.tree.structure(_nested(arrays))
    if rebuilt != jax.tree.structure(_tuples_as_lists(params)):
        raise ValueError("params: needs dicts, lists and tuples of arrays, none empty, no name with a dot or of digits")
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise ValueError(f"params: {name} is {array.dtype}; needs floats, integers or bool as NumPy has them")
    data = save(arrays, {**metadata, "sha256": _digest(arrays, metadata)})
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_bytes(data)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def load_params(path: str | Path) -> tuple[Any, dict[str, str]]:
    """What `save_params` has written: nested dicts and lists of NumPy arrays, and the metadata.

    Raises `FileNotFoundError`, and `ValueError` for a file that is damaged or that `save_params` has not written.
    """
    from safetensors import safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist or is no file; needs what save_params has written")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict
        digest = metadata.pop("sha256", "")
    except Exception as error:  # of safetensors, its own class, and KeyError for a dtype
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} is damaged or no safetensors file: {reason}") from error
    if digest != _digest(arrays, metadata):
        raise ValueError(f"{path} is damaged or was not written by funcgrad: its digest is another")
    return _nested(arrays), metadata


def _digest(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    shapes = {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()}
    digest = hashlib.sha256(json.dumps([shapes, dict(metadata)], sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()


def _nested(arrays: Mapping[str, np.ndarray]) -> Any:
    """Arrays by path → nested dicts, and lists where the names are 0, 1, …"""
    root: dict[str, Any] = {}
    for name, array in arrays.items():
        *parents, last = name.split(".")
        inner = root
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise ValueError(f"params: {name!r} lies below another array's name")
        inner[last] = array
    return _numbers_as_lists(root)


def _numbers_as_lists(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    tree = {name: _numbers_as_lists(value) for name, value in tree.items()}
    numbers = [str(number) for number in range(len(tree))]
    return [tree[number] for number in numbers] if sorted(tree) == sorted(numbers) else tree


def _tuples_as_lists(tree: Any) -> Any:
    if type(tree) is dict:
        return {name: _tuples_as_lists(value) for name, value in tree.items()}
    return [_tuples_as_lists(value) for value in tree] if type(tree) in (list, tuple) else tree
