"""Files are written whole or not at all; messages have one line; every difference of two configurations is named."""

import json
import math
from pathlib import Path

import pytest

from funcgrad import files


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    files.write_json(path, {"é": [1, None]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"é": [1, None]}
    for bad in (math.nan, math.inf, object()):
        with pytest.raises((ValueError, TypeError)):
            files.write_json(path, {"x": bad})
    assert json.loads(path.read_text(encoding="utf-8")) == {"é": [1, None]}
    assert [one.name for one in tmp_path.iterdir()] == ["result.json"]


def replace(path: Path, *, folder: bool, error: BaseException | None = None) -> None:
    with files.replacing(path) as temporary_path:
        assert temporary_path.parent == path.parent
        if folder:
            temporary_path.mkdir()
            temporary_path /= "part"
        temporary_path.write_text("after")
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [RuntimeError("midway"), KeyboardInterrupt()])
@pytest.mark.parametrize("folder", [False, True])
def test_what_is_replaced_stays_until_its_successor_is_whole(
    error: BaseException, folder: bool, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    if not folder:
        path.write_text("before")
    with pytest.raises(type(error)):
        replace(path, folder=folder, error=error)
    assert [one.name for one in tmp_path.iterdir()] == ([] if folder else ["file"])
    assert folder or path.read_text() == "before"
    replace(path, folder=folder)
    assert (path / "part" if folder else path).read_text() == "after"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_plain_values_are_what_json_can_hold() -> None:
    value = {1: (1, 2.5), "x": [math.nan, -math.inf, None], "path": Path("a/b"), "text": "é"}
    assert files.plain(value) == {"1": [1, 2.5], "x": [None, None, None], "path": "a/b", "text": "é"}


def test_messages_have_one_line_and_say_something() -> None:
    assert files.one_line("out of\n   memory") == "out of memory"
    assert files.one_line(KeyError()) == "KeyError"
    assert files.one_line(ValueError("x" * 9), limit=5) == "xxxx…"
    assert files.shorten("x" * 60) == "x" * 60
    assert files.shorten("x" * 61) == "x" * 59 + "…"
    assert files.shorten(None) == "none"


def test_what_cannot_be_printed_is_shown_as_its_escape() -> None:
    names = {
        "café [1]": "café [1]",
        "日本": "日本",
        "a\tb\n": r"a\tb\n",
        "\x1b[31m": r"\x1b[31m",
        "caf\udce9": r"caf\xe9",
    }
    names |= {"\u202eexe": r"\u202eexe", "\x9b": r"\x9b", "می\u200cخواهم": "می\u200cخواهم"}
    for name, expected in names.items():
        assert files.shown(name) == files.shown(expected) == expected
    assert files.one_line("a\x1b  b\n") == r"a\x1b b"


def test_json_holds_every_name_and_is_printable() -> None:
    value = {"name": "\udcff\x1b\x9b\u202e", "counts": [[1, 2], [3, -4.5e-7]], "texts": ["1", "2"], "none": []}
    text = files.json_text(value)
    assert json.loads(text) == value
    assert text.replace("\n", "").isprintable()
    assert "[1, 2]" in text
    assert "日本" in files.json_text("日本")


def test_every_difference_of_two_configurations_is_named() -> None:
    saved = {"batch_size": 128, "hidden": [16, 8], "seed": None, "lr": 0.1}
    wanted = {"batch_size": 64, "hidden": (16, 8), "seed": 0, "epochs": 3}
    expected = "batch size 128 and not 64, seed none and not 0, epochs none and not 3, lr 0.1 and not none"
    assert files.differences(saved, wanted) == expected
    assert files.differences(saved, saved) == ""
