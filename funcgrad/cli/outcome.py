"""What a command gives back, an `Outcome`, and what k-NN and training put into it alike."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from funcgrad import crossval, metrics, plots
from funcgrad.datasets import Dataset, Split

Draw = Callable[[], Any]  # draws one matplotlib figure
Arrays = Callable[[], Mapping[str, np.ndarray]]  # computes what an .npz file is to hold
Bars = Callable[..., Any]  # bars(what, unit="") is a context manager: a function of (done, total), or None


class Outcome(NamedTuple):
    """The result of a command."""

    metrics: dict[str, Any]
    seconds: dict[str, float]  # "compile" and "run"
    columns: list[str]
    rows: list[list[str]]  # of the printed table
    figures: dict[str, Draw]  # file name → what draws it, when there is somewhere to write it
    failed: str = ""  # what went wrong, where the run came to its end and is worth nothing
    arrays: Mapping[str, Arrays] = MappingProxyType({})  # file name → what computes its content, likewise
    writes: Callable[[Path], list[str]] | None = None  # writes other files into a folder, and gives their names
    notes: Sequence[str] = ()  # what a user should know


def confusion(dataset: Dataset, predictions: np.ndarray, title: str) -> Draw:
    labels, classes = dataset.test.labels, dataset.classes
    return lambda: plots.confusion_matrix(
        metrics.confusion_matrix(predictions, labels, len(classes)), classes, title=title
    )


def crossval_outcome(
    dataset: Dataset, rows: Sequence[crossval.Row], predictions: np.ndarray, seconds: dict[str, float]
) -> Outcome:
    best = crossval.best(rows)
    test = float(metrics.accuracy(predictions, dataset.test.labels))
    table = [
        [*map(_short, row.setting.values()), percent(row.mean), percent(row.std), _remark(row, row is best)]
        for row in rows
    ]
    table.append([*[""] * (len(best.setting) - 1), "test", percent(test), "", "once"])
    cv = [_in_full(row) for row in rows]
    label = ", ".join(f"{name} = {value}" for name, value in best.setting.items())
    return Outcome(
        {"cv": cv, "best": best.setting, "test_accuracy": test},
        seconds,
        [*(name.replace("_", " ") for name in best.setting), "mean", "deviation", ""],
        table,
        {"confusion.png": confusion(dataset, predictions, f"{dataset.name}: {label}")},
    )


def _in_full(row: crossval.Row) -> dict[str, Any]:
    diverged = {"diverged": row.diverged} if row.diverged else {}
    return {**row.setting, "mean": row.mean, "std": row.std, "folds": list(row.folds), **diverged}


def _remark(row: crossval.Row, chosen: bool) -> str:
    diverged = f"{row.diverged} of {len(row.folds)} diverged" if row.diverged else ""
    return ", ".join(filter(None, ["chosen" if chosen else "", diverged]))


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def of_all(share: float, split: Split) -> str:
    return f"{round(share * len(split.labels)):,} of {len(split.labels):,}"
