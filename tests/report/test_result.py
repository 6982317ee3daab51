"""What a run leaves: whole or not at all; seconds with compilation apart; tables that are not torn."""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcgrad import report
from funcgrad.cli import console


def leave(out: Path, error: BaseException | None = None, /, **files: str) -> None:
    """Writes files (a_png is a.png) through `output`, and raises the error, if there is one, after the last."""
    with report.output(out) as aside:
        assert aside is not None
        for name, text in files.items():
            (aside / name.replace("_", ".")).write_text(text)
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
    with report.output(None) as aside:
        assert aside is None


@pytest.mark.parametrize("below", ["", "x", "x/y"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_runs(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OSError, match=r"--out: .*file"), report.output(tmp_path / "file" / below):
        pytest.fail("the run began")
    assert texts(tmp_path) == {"file": "kept"}


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    report.write_json(path, {"é": [1, None]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"é": [1, None]}
    for bad in (math.nan, math.inf, object()):
        with pytest.raises((ValueError, TypeError)):
            report.write_json(path, {"x": bad})
    assert json.loads(path.read_text(encoding="utf-8")) == {"é": [1, None]}
    assert [one.name for one in tmp_path.iterdir()] == ["result.json"]


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


def test_no_bar_where_stderr_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for shown in (True, False):
        with console.progress("working", shown=shown) as bar:
            assert bar is None
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with console.progress("working", unit="queries", shown=True) as bar:
        assert bar is not None
        for done in (3, 5, 1200):
            bar(done, 4096)
            time.sleep(0.15)
    out, err = capsys.readouterr()
    assert out == ""
    assert "working" in err
    assert "1,200/4,096 queries, " in err
    assert "/s" in err


@pytest.mark.parametrize(
    ("speed", "shown"), [(None, ""), (0.0, ""), (0.1234, ", 0.12/s"), (12.34, ", 12.3/s"), (5432.1, ", 5,432/s")]
)
def test_a_rate_has_its_first_digits(speed: float | None, shown: str) -> None:
    assert console.format_rate(speed) == shown


def test_no_result_can_go_where_a_directory_is(tmp_path: Path) -> None:
    (tmp_path / "result.json").mkdir()
    with pytest.raises(IsADirectoryError, match=r"--out: .*result.json is a directory"), report.output(tmp_path):
        pytest.fail("the run began")


def test_arrays_are_written_compressed_and_read_without_pickle(tmp_path: Path) -> None:
    report.write_arrays(tmp_path / "a.npz", {"zeros": np.zeros(10_000, np.float32)})
    assert (tmp_path / "a.npz").stat().st_size < 1000
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["zeros"], np.zeros(10_000, np.float32))


def test_title_and_notes_are_not_wrapped_at_the_width_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    title, note = "a title that is longer than the table", "and so is this note, which says in some words what is what"
    console.print_table(title, ["k", "right", "why"], [["1", "9 of 10", "because"], ["10", "", ""]], [note])
    lines = capsys.readouterr().out.splitlines()
    assert (lines[0], lines[-1]) == (title, note)
    cells: list[Any] = [line[1:-1].split("│") for line in lines if line.startswith("│")]
    assert cells == [[" 1  ", " 9 of 10 ", " because "], [" 10 ", "         ", "         "]]


def test_the_environment_names_versions_and_devices() -> None:
    found = report.environment()
    assert found["packages"]["jax"] == jax.__version__
    assert found["devices"] == ["cpu"] * 4
    json.dumps(found, allow_nan=False)
