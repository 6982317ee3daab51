"""`funcgrad data duplicates`: examples that occur twice, and those most alike, within the parts and between them."""

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from funcgrad import neighbors
from funcgrad.cli.options import DuplicatesOptions
from funcgrad.cli.run import DataCommand, Outcome, Run
from funcgrad.datasets import Dataset, Split
from funcgrad.files import listed
from funcgrad.report import timed

_BLOCK = 1024  # rows that are read from a memory-mapped array at a time


class Pair(NamedTuple):
    """Two examples, each of which may be the nearest of several; ids and class names."""

    distance: float
    parts: str
    one: Any
    other: Any
    one_class: str
    other_class: str


def duplicates(dataset: Dataset, options: DuplicatesOptions, run: Run) -> Outcome:
    """Each example with the one nearest to it, by exact search: all pairs at distance 0, and the nearest of the others."""
    seconds: dict[str, float] = {}
    pairs = []
    present = {name: split for name in ("train", "validation", "test") if (split := getattr(dataset, name)) is not None}
    for one, queries in present.items():
        for other, points in present.items():
            if [*present].index(other) <= [*present].index(one) and len(points.labels) > (one == other):
                with run.progress(f"{one}, {other}", unit="queries") as report_progress, timed(seconds):
                    found = neighbors.kneighbors(
                        queries.images,
                        points.images,
                        1,
                        metric=options.metric,
                        memory=options.memory,
                        exclude_self=one == other,
                        progress=report_progress,
                    )
                pairs += _pairs(dataset, (one, queries), (other, points), found)
    pairs.sort(key=lambda pair: (pair.distance, pair.parts))
    equal = [pair for pair in pairs if pair.distance == 0]
    counts = {parts: sum(pair.parts == parts for pair in equal) for parts in dict.fromkeys(x.parts for x in pairs)}
    shown = [*equal, *pairs[len(equal) : len(equal) + options.nearest]]
    rows = [[f"{x.distance:g}", x.parts, str(x.one), x.one_class, str(x.other), x.other_class] for x in shown]
    if len(rows) > options.rows:
        rows[options.rows :] = [["…", f"{len(rows) - options.rows:,} more, in result.json", "", "", "", ""]]
    measured = {"equal": counts, "pairs": [pair._asdict() for pair in shown]}
    notes = [f"equal pairs: {', '.join(f'{parts} {count:,}' for parts, count in counts.items())}", *leakage(dataset)]
    columns = [options.metric, "parts", "example", "class", "nearest", "class"]
    return Outcome(measured, seconds, columns, rows, {}, notes=notes)
