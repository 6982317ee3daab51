"""Progress bars on a terminal, and tables that are not torn."""

import time
from typing import Any

import pytest

from funcgrad.cli import console


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


def test_title_and_notes_are_not_wrapped_at_the_width_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    title, note = "a title that is longer than the table", "and so is this note, which says in some words what is what"
    console.print_table(title, ["k", "right", "why"], [["1", "9 of 10", "because"], ["10", "", ""]], [note])
    lines = capsys.readouterr().out.splitlines()
    assert (lines[0], lines[-1]) == (title, note)
    cells: list[Any] = [line[1:-1].split("│") for line in lines if line.startswith("│")]
    assert cells == [[" 1  ", " 9 of 10 ", " because "], [" 10 ", "         ", "         "]]


def test_names_are_printed_as_they_are_and_a_terminal_obeys_none(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["dog [young]", "a[/b]", "日本", "\x1b[31mred", "two\nlines", "\udcff", "\x9b2J"]
    console.print_table("[bold]\x1b[2Jtitle", ["name", "count"], [[name, "1"] for name in names], ["note\x07"])
    out = capsys.readouterr().out
    cells = [line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│")]
    assert cells == ["dog [young]", "a[/b]", "日本", r"\x1b[31mred", r"two\nlines", r"\xff", r"\x9b2J"]
    assert out.splitlines()[0] == r"[bold]\x1b[2Jtitle"
    assert out.splitlines()[-1] == r"note\x07"
    console.print_error("knn", "no \x1b[2J here")
    assert capsys.readouterr().err == "funcgrad knn: no \\x1b[2J here\n"
    console.print_json({"name": "\x9b2J\udcff"})
    assert capsys.readouterr().out == '{\n  "name": "\\u009b2J\\udcff"\n}\n'
