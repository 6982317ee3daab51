"""`funcgrad data duplicates`: examples that occur twice, and those most alike, within the parts and between them."""

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from funcgrad import neighbors
from funcgrad.cli.options import DuplicatesOptions
from funcgrad.cli.run import DataCommand, Outcome, Run
from funcgrad.datasets import Dataset, Split
from funcgrad.report import timed

_BLOCK = 1024  # rows of a memory-mapped array that are read at a time


class Pair(NamedTuple):
    """Two examples by their ids and classes, and the distance between them."""

    distance: float
    parts: str  # "test and train"
    example: Any
    label: str
    nearest: Any
    nearest_label: str


def duplicates(dataset: Dataset, options: DuplicatesOptions, run: Run) -> Outcome:
    """The nearest of each example, by exact search: all pairs at distance 0, and the closest of the others."""
    seconds: dict[str, float] = {}
    found = dict[str, list[Pair]]()
    parts = {name: split for name in ("train", "validation", "test") if (split := getattr(dataset, name)) is not None}
    searches = [(one, other) for number, one in enumerate(parts) for other in [*parts][: number + 1]]
    for one, other in searches:
        if len(parts[other].labels) > (one == other):  # else it has no neighbour but itself
            name = f"within {one}" if one == other else f"{one} and {other}"
            with run.progress(f"duplicates {name}", unit="queries") as report_progress, timed(seconds):
                nearest = neighbors.kneighbors(
                    parts[one].images,
                    parts[other].images,
                    1,
                    metric=options.metric,
                    p=options.p,
                    memory=options.memory,
                    exclude_self=one == other,
                    progress=report_progress,
                )
            found[name] = _pairs(name, dataset.classes, parts[one], parts[other], nearest, within=one == other)
    pairs = sorted((pair for several in found.values() for pair in several), key=lambda pair: pair.distance)
    equal = {name: sum(pair.distance == 0 for pair in several) for name, several in found.items()}
    listed = pairs[: sum(equal.values()) + options.nearest]
    rows = [[f"{x.distance:.6g}", x.parts, str(x.example), x.label, str(x.nearest), x.nearest_label] for x in listed]
    table = rows[: options.rows]
    notes = [f"pairs at distance 0: {', '.join(f'{count:,} {name}' for name, count in equal.items())}"]
    notes += [f"{len(rows) - len(table):,} more pairs in result.json"] if len(rows) > len(table) else []
    return Outcome(
        {"equal": equal, "pairs": [pair._asdict() for pair in listed]},
        seconds,
        [f"{options.metric} distance", "parts", "example", "class", "nearest", "its class"],
        table,
        {},
        notes=[*notes, *leakage(dataset)],
    )


def _pairs(
    name: str, classes: tuple[str, ...], queries: Split, points: Split, found: neighbors.Neighbors, *, within: bool
) -> list[Pair]:
    """Each query and its nearest point; within a part each pair once."""
    pairs = dict[Any, Pair]()
    for row, (distance, index) in enumerate(zip(found.distances[:, 0], found.indices[:, 0], strict=True)):
        one, other = queries.ids[row].item(), points.ids[index].item()
        labels = classes[queries.labels[row]], classes[points.labels[index]]
        pair = Pair(float(distance), name, one, labels[0], other, labels[1])
        pairs.setdefault(frozenset((row, int(index))) if within else (row, int(index)), pair)
    return [*pairs.values()]


def leakage(dataset: Dataset) -> list[str]:
    """What equal examples mean for a result: those that are tested and were learned, and labels that disagree."""
    label_of: dict[bytes, set[int]] = {}
    for content, label in _contents(dataset.train):
        label_of.setdefault(content, set()).add(label)
    notes = []
    seen = [(label_of[content], label) for content, label in _contents(dataset.test) if content in label_of]
    if seen:
        others = sum(label not in labels for labels, label in seen)
        contrary = f", {others:,} of them with another label" if others else ""
        count = f"{len(seen):,} of {len(dataset.test.labels):,}"
        notes.append(
            f"{count} test examples stand in the training part{contrary}; `funcgrad data duplicates` lists them"
        )
    if contradictory := sum(len(labels) > 1 for labels in label_of.values()):
        notes.append(f"equal training examples with different labels: {contradictory:,}")
    return notes


def _contents(split: Split) -> Iterator[tuple[bytes, int]]:
    """A hash of each example, and its label."""
    for start in range(0, len(split.labels), _BLOCK):
        block = np.ascontiguousarray(split.images[start : start + _BLOCK])
        block = block + np.zeros((), block.dtype)  # −0.0 is 0.0
        for example, label in zip(block, split.labels[start : start + _BLOCK].tolist(), strict=True):
            yield hashlib.blake2b(example.data, digest_size=16).digest(), label


COMMAND = DataCommand(DuplicatesOptions, duplicates)
