"""Parameters come back from their file by name and bit for bit, or one clear line says why not."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcgrad import models
from funcgrad.training import saved_model as parameters


def assert_same(loaded: Any, params: Any) -> None:
    assert jax.tree.structure(loaded) == jax.tree.structure(params)
    for ours, theirs in zip(jax.tree.leaves(loaded), jax.tree.leaves(params), strict=True):
        assert isinstance(ours, np.ndarray)
        assert (ours.dtype, ours.shape, ours.tobytes()) == (theirs.dtype, theirs.shape, np.asarray(theirs).tobytes())


def test_parameters_come_back_by_their_names(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    params = models.mlp((8, 4), 3, layer_norm=True).init(jax.random.key(0), (5,))
    path = tmp_path / "params.safetensors"
    parameters.save_params(path, params, {"model": "mlp", "é": "\n"})
    loaded, metadata = parameters.load_params(path)
    assert metadata == {"model": "mlp", "é": "\n"}
    assert_same(loaded, params)
    assert {"hidden.0.weights", "hidden.1.scale", "output.bias"} < set(load_file(path))
    parameters.save_params(path, ((np.ones((2, 3)).T, {"a": np.float16(1)}), [jnp.arange(3)]), {})
    loaded, _ = parameters.load_params(path)
    assert jax.tree.structure(loaded) == jax.tree.structure([[0, {"a": 0}], [0]])
    assert loaded[0][0].shape == (3, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["params.safetensors"]
    many = {"layers": [np.full(1, number) for number in range(12)]}
    parameters.save_params(path, many, {})
    assert_same(parameters.load_params(path)[0], many)


@pytest.mark.parametrize(
    "params", [{}, {"a": []}, {"a.b": np.ones(1)}, {"0": np.ones(1)}, {"a": None, "b": np.ones(1)}, np.ones(1)], ids=str
)
def test_parameters_that_their_names_would_not_tell_are_refused(params: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^params: needs dicts, lists and tuples of arrays"):
        parameters.save_params(tmp_path / "params", params, {})
    assert list(tmp_path.iterdir()) == []


def test_parameters_of_other_dtypes_and_reserved_metadata_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^params: a.0 is bfloat16; needs floats"):
        parameters.save_params(tmp_path / "params", {"a": [jnp.ones(1, jnp.bfloat16)]}, {})
    with pytest.raises(ValueError, match=r"^params: 'a.b' lies below another array's name$"):
        parameters.save_params(tmp_path / "params", {"a": jnp.ones(1), "a.b": jnp.ones(1)}, {})
    with pytest.raises(ValueError, match=r"^metadata: 'sha256' is taken"):
        parameters.save_params(tmp_path / "params", {"a": jnp.ones(1)}, {"sha256": ""})


def test_a_damaged_file_of_parameters_is_one_clear_line(tmp_path: Path) -> None:
    path, params, metadata = tmp_path / "params.safetensors", {"a": [np.arange(3.0)]}, {"model": "linear"}
    parameters.save_params(path, params, metadata)
    data = path.read_bytes()
    harmless = 0
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        try:
            loaded, said = parameters.load_params(path)
        except ValueError as caught:
            line = str(caught)
        else:
            line = str(path)
            harmless += 1  # nothing but the order or the white space of the header
            assert_same(loaded, params)
            assert said == metadata
        assert line.startswith(str(path))
        assert "\n" not in line
    assert harmless < 16
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"params.safetensors is damaged"):
            parameters.load_params(path)
    path.write_text(json.dumps({"a": 1}))
    with pytest.raises(ValueError, match=r"params.safetensors is damaged"):
        parameters.load_params(path)
    with pytest.raises(FileNotFoundError, match="nothing does not exist"):
        parameters.load_params(tmp_path / "nothing")
