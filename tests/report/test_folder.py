"""The folder of a run: whole or not at all, and nothing of an earlier run among its pictures."""

import json
import os
from pathlib import Path

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


def test_no_result_can_go_where_a_directory_is(tmp_path: Path) -> None:
    (tmp_path / "result.json").mkdir()
    with pytest.raises(IsADirectoryError, match=r"--out: .*result.json is a directory"), report.output(tmp_path):
        pytest.fail("the run began")


def test_pictures_of_an_earlier_result_go_and_everything_else_stays(tmp_path: Path) -> None:
    earlier = json.dumps({"command": "knn", "files": ["neighbors.png", "predictions.csv", "params.safetensors"]})
    written = {"neighbors_png": "old", "predictions_csv": "old", "params_safetensors": "old", "mine_png": "mine"}
    leave(tmp_path, result_json=earlier, **written)
    assert report.replaces(tmp_path, "knn") == ""
    note = report.replaces(tmp_path, "train linear")
    assert f"{tmp_path} has the result of funcgrad knn, whose pictures and predictions are replaced" in note
    leave(tmp_path, result_json="{}", predictions_csv="new")
    assert texts(tmp_path) == {
        "result.json": "{}",
        "predictions.csv": "new",
        "params.safetensors": "old",
        "mine.png": "mine",
    }


@pytest.mark.parametrize("content", ["", "no JSON", "[1]", '{"files": ["../kept.png", "a/kept.png"]}'])
def test_whatever_lies_in_result_json_nothing_outside_the_folder_is_removed(content: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    leave(out, result_json=content)
    (tmp_path / "kept.png").touch()
    assert report.replaces(out, "knn") == ""
    leave(out, result_json="{}")
    assert (tmp_path / "kept.png").exists()
