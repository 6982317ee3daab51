"""`funcgrad data list`, `info` and `prepare`: what there is, and how it comes to be there."""

import argparse
from typing import Any

from funcgrad.cli import console
from funcgrad.cli.run import ShowProgress


def list_all(arguments: argparse.Namespace, _: Any) -> int:
    from funcgrad import datasets

    found = datasets.available(arguments.data_dir)
    if arguments.json:
        console.print_json([one._asdict() for one in found])
    elif not arguments.quiet:
        rows = [
            [one.name, _count(one.train), _count(one.test), str(len(one.classes) or ""), _shape(one), one.where]
            for one in found
            if one.prepared
        ]
        notes = [f"{one.name}: {one.note}" for one in found if one.note]
        console.print_table("data sets", ["name", "train", "test", "classes", "shape", "where"], rows, notes)
    return 0


def info(arguments: argparse.Namespace, _: Any) -> int:
    from funcgrad import datasets

    one = datasets.describe(arguments.name[0] if len(arguments.name) == 1 else arguments.name, arguments.data_dir)
    if arguments.json:
        console.print_json(one._asdict())
    elif not arguments.quiet:
        known = {
            "name": one.name,
            "where": one.where if one.prepared else f"not in {one.where}",
            "train": _count(one.train),
            "test": _count(one.test),
            "shape": _shape(one),
            "classes": f"{len(one.classes)}: {', '.join(one.classes)}" if one.classes else "",
            "note": one.note,
        }
        for key, value in known.items():
            if value:
                print(f"{key:8}{value}")
    return 0


def prepare(arguments: argparse.Namespace, progress: ShowProgress) -> int:
    from funcgrad import datasets

    shown = not (arguments.quiet or arguments.json)
    with progress(f"preparing {arguments.name}", shown=shown) as report_progress:
        place = datasets.prepare(
            arguments.name, arguments.data_dir, archives=arguments.archives, progress=report_progress
        )
    if arguments.json:
        console.print_json({"name": arguments.name, "where": place})
    elif not arguments.quiet:
        print(f"{arguments.name} is prepared in {place}")
    return 0


def _count(count: int | None) -> str:
    return "" if count is None else f"{count:,}"


def _shape(one: Any) -> str:
    lengths = " × ".join("?" if length is None else str(length) for length in one.shape or ())
    return f"{lengths} {one.dtype}".strip()
