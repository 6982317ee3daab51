"""A trained classifier as files that other programs read too: parameters as safetensors, all else as JSON."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from funcgrad import models
from funcgrad.files import one_line, replacing, write_json

# Of both files. Files of format 1, whose params.safetensors has no number, hold weights as (inputs, outputs).
FORMAT = 2


class SavedModel(NamedTuple):
    """A classifier with all that is needed to use it."""

    kind: dict[str, Any]  # {"model": "linear" or "mlp", "dtype": of the computation, options of funcgrad.models}
    classes: tuple[str, ...]
    shape: tuple[int, ...]  # of one example
    mean: list[float]  # of the training examples, for each channel or feature
    deviation: list[float]
    loss: str
    params: Any
    numbers: dict[str, Any] | None = None  # {"dtype", "low", "high"} of the training examples; None in older files

    @property
    def model(self) -> models.Model:
        options = {name: value for name, value in self.kind.items() if name not in ("model", "dtype")}
        make = models.linear if self.kind["model"] == "linear" else models.mlp
        model = make(num_classes=len(self.classes), **options)
        if (dtype := self.kind.get("dtype", "float32")) != "float32":
            model = models.in_dtype(model, dtype)
        return models.standardized(model, np.asarray(self.mean), np.asarray(self.deviation))

    def write(self, folder: Path) -> list[str]:
        """Writes params.safetensors and config.json; returns these names."""
        config = {"format": FORMAT, **self._replace(params=None)._asdict()}
        del config["params"]
        save_params(folder / "params.safetensors", self.params, {"config": json.dumps(config)})
        write_json(folder / "config.json", config)
        return ["config.json", "params.safetensors"]


def load(folder: Path) -> SavedModel:
    """What `SavedModel.write` has written, in this or an earlier version of funcgrad.

    Raises `ValueError` or `OSError`, with one line about the argument --model, for files that are missing or damaged.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"--model: {folder} is no directory; needs the --out DIR of a training")
    for name in ("config.json", "params.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"--model: {folder} has no {name}; needs the --out DIR of a training")
    path = folder / "params.safetensors"
    params, metadata, saved_format = _read(path)
    if saved_format == 1:
        params = jax.tree.map(lambda x: np.ascontiguousarray(x.T), params)
    try:
        config = json.loads((folder / "config.json").read_bytes())
        same = config == json.loads(metadata["config"])
        del config["format"]
        for name in ("classes", "shape"):
            config[name] = tuple(config[name])
        saved = SavedModel(**config, params=params)
        expected = jax.eval_shape(lambda key: saved.model.init(key, saved.shape), jax.random.key(0))
    except Exception as error:
        raise ValueError(f"--model: {folder / 'config.json'} is damaged, or of another version of funcgrad") from error
    ours, theirs = (jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree) for tree in (expected, params))
    if ours != theirs or not same:
        raise ValueError(f"--model: {folder / 'config.json'} is not what {path.name} was written with")
    return saved


def save_params(path: str | Path, params: Any, metadata: Mapping[str, str]) -> None:
    """Writes parameters as one safetensors file, complete or not at all.

    Args:
      params: dicts, lists and tuples of arrays, as in `funcgrad.models`. Names are paths: "hidden.0.weights".
      metadata: text by name, stored in the header. "format", and "sha256", a digest of everything else, are added.

    Raises `ValueError` for a tree that its names do not determine (empty parts, a dot or numbers as names), arrays of a
    dtype that NumPy itself lacks, and metadata called "format" or "sha256".
    """
    from safetensors.numpy import save

    if taken := {"format", "sha256"} & set(metadata):
        raise ValueError(f"metadata: {min(taken)!r} is reserved for funcgrad")
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
    metadata = {**metadata, "format": str(FORMAT)}
    # As one text: several would be written in a random order, and equal parameters are to give equal files.
    data = save(arrays, {"funcgrad": json.dumps({**metadata, "sha256": _digest(arrays, metadata)}, sort_keys=True)})
    with replacing(path) as temporary_path:
        temporary_path.write_bytes(data)


def load_params(path: str | Path) -> tuple[Any, dict[str, str]]:
    """What `save_params` has written: nested dicts and lists of NumPy arrays, and the metadata.

    Raises `FileNotFoundError`, and `ValueError` for a file that is damaged, was not written by `save_params`, or has an
    earlier format, whose weights are (inputs, outputs): `load` reads these.
    """
    params, metadata, saved_format = _read(Path(path))
    if saved_format != FORMAT:
        raise ValueError(
            f"{path} has format {saved_format}, not {FORMAT}: its weights are (inputs, outputs); "
            "saved_model.load of the folder transposes them"
        )
    return params, metadata


def _read(path: Path) -> tuple[Any, dict[str, str], int]:
    """The parameters as they are in the file, the metadata, and the format."""
    from safetensors import safe_open

    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist or is no file; needs what save_params has written")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict
        metadata = json.loads(metadata["funcgrad"]) if "funcgrad" in metadata else metadata  # format 1: by itself
        digest, params = metadata.pop("sha256", ""), _nested(arrays)
    except Exception as error:  # safetensors raises its own class, KeyError for a dtype, and JSON its own
        raise ValueError(f"{path} is damaged or no safetensors file: {one_line(error)}") from error
    if digest != _digest(arrays, metadata):
        raise ValueError(f"{path} is damaged or was not written by funcgrad: its digest differs")
    return params, metadata, int(metadata.pop("format", 1))


def _digest(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    shapes = {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()}
    digest = hashlib.sha256(json.dumps([shapes, dict(metadata)], sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()


def _nested(arrays: Mapping[str, np.ndarray]) -> Any:
    """Arrays by path → nested dicts, and lists where the names are 0, 1, …"""
    groups: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        first, _, rest = name.partition(".")
        groups.setdefault(first, {})[rest] = array
    if both := [first for first, group in groups.items() if "" in group and len(group) > 1]:
        raise ValueError(f"params: {both[0]!r} names an array, and others below it")
    tree = {first: group[""] if "" in group else _nested(group) for first, group in groups.items()}
    numbers = [str(number) for number in range(len(tree))]
    return [tree[number] for number in numbers] if tree.keys() == set(numbers) else tree


def _tuples_as_lists(tree: Any) -> Any:
    if type(tree) is dict:
        return {name: _tuples_as_lists(value) for name, value in tree.items()}
    return [_tuples_as_lists(value) for value in tree] if type(tree) in (list, tuple) else tree
