"""Parameters come back from their file by name and bit for bit, or one clear line says why not."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcgrad import models, training
from funcgrad.training import saved_model


def assert_same(loaded: Any, params: Any) -> None:
    assert jax.tree.structure(loaded) == jax.tree.structure(params)
    for ours, theirs in zip(jax.tree.leaves(loaded), jax.tree.leaves(params), strict=True):
        assert isinstance(ours, np.ndarray)
        assert (ours.dtype, ours.shape, ours.tobytes()) == (theirs.dtype, theirs.shape, np.asarray(theirs).tobytes())


def test_parameters_come_back_by_their_names(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    params = models.mlp((8, 4), 3, layer_norm=True).init(jax.random.key(0), (5,))
    path = tmp_path / "params.safetensors"
    saved_model.save_params(path, params, {"model": "mlp", "é": "\n"})
    loaded, metadata = saved_model.load_params(path)
    assert metadata == {"model": "mlp", "é": "\n"}
    assert_same(loaded, params)
    assert {"hidden.0.weights", "hidden.1.scale", "output.bias"} < set(load_file(path))
    saved_model.save_params(path, ((np.ones((2, 3)).T, {"a": np.float16(1)}), [jnp.arange(3)]), {})
    loaded, _ = saved_model.load_params(path)
    assert jax.tree.structure(loaded) == jax.tree.structure([[0, {"a": 0}], [0]])
    assert loaded[0][0].shape == (3, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["params.safetensors"]
    many = {"layers": [np.full(1, number) for number in range(12)]}
    saved_model.save_params(path, many, {})
    assert_same(saved_model.load_params(path)[0], many)


@pytest.mark.parametrize(
    "params", [{}, {"a": []}, {"a.b": np.ones(1)}, {"0": np.ones(1)}, {"a": None, "b": np.ones(1)}, np.ones(1)], ids=str
)
def test_parameters_that_their_names_would_not_tell_are_refused(params: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^params: needs dicts, lists and tuples of arrays"):
        saved_model.save_params(tmp_path / "params", params, {})
    assert list(tmp_path.iterdir()) == []


def test_parameters_of_other_dtypes_and_reserved_metadata_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^params: a.0 is bfloat16; needs floats"):
        saved_model.save_params(tmp_path / "params", {"a": [jnp.ones(1, jnp.bfloat16)]}, {})
    with pytest.raises(ValueError, match=r"^params: 'a' names an array, and others below it$"):
        saved_model.save_params(tmp_path / "params", {"a": jnp.ones(1), "a.b": jnp.ones(1)}, {})
    with pytest.raises(ValueError, match=r"^metadata: 'sha256' is reserved"):
        saved_model.save_params(tmp_path / "params", {"a": jnp.ones(1)}, {"sha256": ""})


def test_a_damaged_file_of_parameters_is_one_clear_line(tmp_path: Path) -> None:
    path, params, metadata = tmp_path / "params.safetensors", {"a": [np.arange(3.0)]}, {"model": "linear"}
    saved_model.save_params(path, params, metadata)
    data = path.read_bytes()
    harmless = 0
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        try:
            loaded, said = saved_model.load_params(path)
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
            saved_model.load_params(path)
    path.write_text(json.dumps({"a": 1}))
    with pytest.raises(ValueError, match=r"params.safetensors is damaged"):
        saved_model.load_params(path)
    with pytest.raises(FileNotFoundError, match="nothing does not exist"):
        saved_model.load_params(tmp_path / "nothing")


# What an earlier version wrote: weights are (inputs, outputs), and here all are square, so that no shape shows it.
FORMAT_1 = Path(__file__).parent / "format_1"
EXAMPLES = np.array([[1, 2, 3], [0, -1, 0.5]], np.float32)
SCORES = [[-1.881325, -0.439425, -1.135375], [-1.073025, -0.834725, -0.928875]]  # by that version


def test_a_model_in_the_earlier_format_gives_its_scores(tmp_path: Path) -> None:
    saved = saved_model.load(FORMAT_1)
    scores = training.predict(saved.model, saved.params, EXAMPLES)
    np.testing.assert_allclose(scores, SCORES, rtol=1e-6)
    assert scores.argmax(axis=1).tolist() == [1, 1]
    with pytest.raises(ValueError, match=r"has format 1, not 2: its weights are \(inputs, outputs\)"):
        saved_model.load_params(FORMAT_1 / "params.safetensors")
    saved.write(tmp_path)
    again = saved_model.load(tmp_path)
    assert again == saved._replace(params=again.params)
    assert_same(again.params, saved.params)
    assert json.loads((tmp_path / "config.json").read_text())["format"] == 2


@pytest.mark.parametrize("name", ["config.json", "params.safetensors"])
def test_files_of_different_formats_are_not_mixed(name: str, tmp_path: Path) -> None:
    saved_model.load(FORMAT_1).write(tmp_path)
    shutil.copy(FORMAT_1 / name, tmp_path)
    with pytest.raises(ValueError, match=r"config.json is not what params.safetensors was written with$"):
        saved_model.load(tmp_path)


def test_equal_parameters_give_equal_files_and_an_edited_configuration_is_refused(tmp_path: Path) -> None:
    saved = saved_model.load(FORMAT_1)
    for number in range(4):
        (tmp_path / str(number)).mkdir()
        saved.write(tmp_path / str(number))
    assert len({(tmp_path / str(number) / "params.safetensors").read_bytes() for number in range(4)}) == 1
    config = json.loads((tmp_path / "0" / "config.json").read_text())
    (tmp_path / "0" / "config.json").write_text(json.dumps(config))  # other white space is none
    assert saved_model.load(tmp_path / "0").classes == ("a", "b", "c")
    (tmp_path / "0" / "config.json").write_text(json.dumps({**config, "classes": ["c", "b", "a"]}))
    with pytest.raises(ValueError, match=r"^--model: .*config.json is not what params.safetensors was written with$"):
        saved_model.load(tmp_path / "0")
