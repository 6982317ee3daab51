"""`funcgrad data list`, `info`, `cache` and `prepare`: what there is, and how it comes to be there."""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from funcgrad.cli import console
from funcgrad.cli.run import ShowProgress


def list_all(arguments: argparse.Namespace, _: Any) -> int:
    from funcgrad import datasets

    found = datasets.available(arguments.data_dir)
    columns = ["name", "train", "test", "classes", "shape", "where"]
    rows = [
        [one.name, _count(one.train), _count(one.test), str(len(one.classes) or ""), _shape(one), one.where]
        for one in found
        if one.prepared
    ]
    notes = [f"{one.name}: {one.note}" for one in found if one.note]
    notes.append("your own files and folders: `funcgrad data info PATH` says how each is read")
    show = partial(console.print_table, "data sets", columns, rows, notes)
    return _show(arguments, [one._asdict() for one in found], show)


def info(arguments: argparse.Namespace, _: Any) -> int:
    from funcgrad import datasets

    name = arguments.name[0] if len(arguments.name) == 1 else arguments.name
    one = datasets.describe(name, arguments.data_dir, keys=arguments.keys, label_column=arguments.label_column)
    known = {
        "name": one.name,
        "where": one.where if one.prepared else f"not in {one.where}",
        "train": _count(one.train),
        "validation": _count(one.validation),
        "test": _count(one.test),
        "shape": _shape(one),
        "classes": f"{len(one.classes)}: {', '.join(one.classes)}" if one.classes else "",
        "note": one.note,
    }
    lines = [f"{key:11} {value}" for key, value in known.items() if value]
    lines += [f"{'':11} {note}" for note in one.notes]
    return _show(arguments, one._asdict(), lambda: [*map(console.print_line, lines)])


def cache(arguments: argparse.Namespace, _: Any) -> int:
    from funcgrad import datasets

    entries = datasets.clear_cache() if arguments.clear else datasets.cache_entries()
    rows = [
        [
            one.folder,
            one.images,
            f"{one.bytes / 1e6:,.1f} MB",
            time.strftime("%Y-%m-%d %H:%M", time.localtime(one.used)),
        ]
        for one in entries
    ]
    size = f"{sum(one.bytes for one in entries) / 1e6:,.1f} MB"
    title = f"{datasets.cache_root()}: {size}{' removed' if arguments.clear else ''}"
    show = partial(console.print_table, title, ["folder", "images", "size", "last used"], rows)
    return _show(arguments, [one._asdict() for one in entries], show)


def prepare(arguments: argparse.Namespace, progress: ShowProgress) -> int:
    from funcgrad import datasets

    name, shown = arguments.name, not (arguments.quiet or arguments.json)
    with progress(f"preparing {name}", shown=shown) as report_progress:
        place = datasets.prepare(name, arguments.data_dir, archives=arguments.archives, progress=report_progress)
    return _show(
        arguments, {"name": name, "where": place}, partial(console.print_line, f"{name} is prepared in {place}")
    )


def _show(arguments: argparse.Namespace, content: Any, show: Callable[[], object]) -> int:
    """The content as JSON, or what shows it to a reader; the exit status."""
    if arguments.json:
        console.print_json(content)
    elif not arguments.quiet:
        show()
    return 0


def _count(count: int | None) -> str:
    return "" if count is None else f"{count:,}"


def _shape(one: Any) -> str:
    lengths = " × ".join("?" if length is None else str(length) for length in one.shape or ())
    return f"{lengths} {one.dtype}".strip()
