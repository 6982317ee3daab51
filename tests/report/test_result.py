"""What a run leaves: whole or not at all; seconds with compilation apart."""

import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcgrad import report


def leave(out: Path, error: BaseException | None = None, /, **files: str) -> None:
    """Writes files (a_png is a.png) through `output`, and raises the error, if there is one, after the last."""
    with report.output(out) as folder:
        assert folder is not None
        for name, text in files.items():
            (folder / name.replace("_", ".")).write_text(text)
        if error is not None:
            raise error


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_output_moves_all_files_into_a_new_directory(tmp_path: Path) -> None:
    leave(tmp_path / "a" / "b", result_json="{}", curves_png="picture")
    assert texts(tmp_path / "a" / "b") == {"result.json": "{}", "curves.png": "picture"}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("error", [RuntimeError("midway"), KeyboardInterrupt()])
def test_an_error_midway_leaves_nothing_and_an_existing_directory_as_it_was(
    tmp_path: Path, error: BaseException
) -> None:
    old = tmp_path / "old"
    leave(old, result_json="old", notes_txt="mine")
    for out in (old, tmp_path / "new"):
        with pytest.raises(type(error)):
            leave(out, error, result_json="new")
    assert texts(old) == {"result.json": "old", "notes.txt": "mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_an_existing_directory_keeps_what_is_not_replaced(tmp_path: Path) -> None:
    leave(tmp_path, result_json="old", notes_txt="mine")
    leave(tmp_path, result_json="new")
    assert texts(tmp_path) == {"result.json": "new", "notes.txt": "mine"}


def test_the_result_is_replaced_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved, replace = [], os.replace

    def noting(source: Path, target: Path) -> None:
        moved.append(target.name)
        replace(source, target)

    monkeypatch.setattr(os, "replace", noting)
    leave(tmp_path, result_json="{}", a_png="", zz_png="")
    assert sorted(moved[:2]) == ["a.png", "zz.png"]
    assert moved[2:] == ["result.json"]


def test_no_directory_is_asked_for() -> None:
    with report.output(None) as folder:
        assert folder is None


@pytest.mark.parametrize("below", ["", "x", "x/y"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_runs(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OSError, match=r"--out: .*file"), report.output(tmp_path / "file" / below):
        pytest.fail("the run began")
    assert texts(tmp_path) == {"file": "kept"}


def test_compiling_is_timed_apart_from_running() -> None:
    @jax.jit
    def function(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 10, lambda _, y: jnp.sin(y @ y), x)

    x = jnp.ones((50, 50))
    first: dict[str, float] = {}
    with report.timed(first):
        function(x).block_until_ready()
    second: dict[str, float] = {}
    with report.timed(second):
        function(x).block_until_ready()
    assert first["compile"] > 0.005
    assert second["compile"] < 0.001
    assert min(first["run"], second["run"]) >= 0
    before = dict(second)
    with report.timed(second):  # adds to what is there
        function(x).block_until_ready()
    assert second["run"] > before["run"]


def test_no_result_can_go_where_a_directory_is(tmp_path: Path) -> None:
    (tmp_path / "result.json").mkdir()
    with pytest.raises(IsADirectoryError, match=r"--out: .*result.json is a directory"), report.output(tmp_path):
        pytest.fail("the run began")


def test_arrays_are_written_compressed_and_read_without_pickle(tmp_path: Path) -> None:
    report.write_arrays(tmp_path / "a.npz", {"zeros": np.zeros(10_000, np.float32)})
    assert (tmp_path / "a.npz").stat().st_size < 1000
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["zeros"], np.zeros(10_000, np.float32))


def test_the_environment_names_versions_and_devices() -> None:
    found = report.environment()
    assert found["packages"]["jax"] == jax.__version__
    assert found["devices"] == ["cpu"] * 4
    json.dumps(found, allow_nan=False)
