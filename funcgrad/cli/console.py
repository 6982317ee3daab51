"""What a user sees: progress bars on stderr; tables and JSON on stdout."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from funcgrad.files import json_text, one_line, plain, shown

ReportProgress = Callable[..., None]  # (done, total), and a message: how it goes


@contextmanager
def progress(description: str, *, unit: str = "", shown: bool = True) -> Iterator[ReportProgress | None]:
    """A bar on stderr, as a function of (done, total); None where stderr is no terminal or none is wanted.

    It shows how many of how many units are done, how many a second, and the time that is left.
    """
    if not (shown and sys.stderr.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    texts = [TextColumn(f"{{task.{what}}}", markup=False) for what in ("description", "fields[rate]")]
    columns = texts[0], BarColumn(), texts[1], TimeRemainingColumn(elapsed_when_finished=True)
    with Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=60) as bars:
        task = bars.add_task(description, total=None, rate="")

        def report_progress(done: int, total: int, message: str = "") -> None:
            rate = f"{f'{done:,.0f}/{total:,.0f} {unit}'.rstrip()}{format_rate(bars.tasks[0].speed)}"
            text = f"{description} {message}".rstrip()
            bars.update(task, completed=done, total=total, description=text, rate=rate)

        yield report_progress


def format_rate(speed: float | None) -> str:
    """Three digits or more; nothing as long as there is no measurement."""
    return f", {speed:,.{0 if speed >= 100 else 1 if speed >= 10 else 2}f}/s" if speed else ""


def print_json(value: Any) -> None:
    """The value as JSON on stdout."""
    print(json_text(plain(value)))


def print_line(text: str) -> None:
    """Prints a line for a reader: names in it that a terminal would obey are escaped."""
    print(shown(text))


def print_error(command: str, message: object) -> None:
    print(f"funcgrad {command}: {one_line(message)}", file=sys.stderr, flush=True)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> None:
    """A table on stdout, its title above and notes below it: names to the left, numbers to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for number, column in enumerate(columns):
        numeric = number > 0 and any(row[number][:1].isdigit() for row in rows)
        table.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(shown(cell)) for cell in row))  # no markup: a class may be called "dog [young]"
    print_line(title)  # not as the table's own, which would be wrapped at its width
    Console(width=None if sys.stdout.isatty() else 100, highlight=False).print(table)
    for note in notes:
        print_line(note)


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def count_of(share: float, total: int) -> str:
    return f"{round(share * total):,} of {total:,}"
