"""Plausible data to draw, and what is read back from a figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from funcgrad import plots

KS = [1, 3, 5, 10]
RNG = np.random.default_rng(0)
L1, L2 = RNG.uniform(0.8, 0.9, (4, 5)), RNG.uniform(0.9, 1.0, (4, 5))
LONG_NAMES = [
    f"Class {i}: a rather long name with $ in it and anunbreakablewordofmorethanthirtyletters" for i in range(100)
]


def written(figure: Figure, directory: Path) -> Path:
    """Drawing finds what building does not: a text that does not parse, a layout that does not fit (it warns)."""
    path = directory / "figure.png"
    plots.save(figure, path)
    return path


def title(figure: Figure) -> str:
    return figure.get_suptitle() or figure.axes[0].get_title()


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def history(epochs: int, *, validation: bool = True) -> dict[str, np.ndarray]:
    falling, rising = 1 / np.arange(1.0, epochs + 1), 1 - 0.5 / np.arange(1.0, epochs + 1)
    curves = {"train_loss": falling, "train_accuracy": rising}
    return curves | ({"validation_loss": 2 * falling, "validation_accuracy": rising - 0.1} if validation else {})


def neighbours(queries: int, k: int, shape: tuple[int, ...], classes: int) -> dict[str, np.ndarray]:
    return {
        "query_images": RNG.integers(0, 17, (queries, *shape), dtype=np.uint8),
        "query_labels": RNG.integers(0, classes, queries),
        "neighbor_images": RNG.integers(0, 17, (queries, k, *shape), dtype=np.uint8),
        "neighbor_labels": RNG.integers(0, classes, (queries, k)),
        "distances": np.sort(RNG.uniform(0, 50, (queries, k))),
        "predictions": RNG.integers(0, classes, queries),
    }


def mistakes(count: int, shape: tuple[int, ...], classes: int) -> dict[str, np.ndarray]:
    labels = RNG.integers(0, classes, count)
    return {
        "images": RNG.integers(0, 17, (count, *shape), dtype=np.uint8),
        "labels": labels,
        "predictions": (labels + RNG.integers(1, classes, count)) % classes,
        "probabilities": np.sort(RNG.uniform(0.5, 1, count))[::-1],
    }


def sweep(table: object, rows: Sequence[float], columns: Sequence[float], **options: Any) -> Figure:
    return plots.heat_map(table, rows, columns, row_label="learning rate", column_label="l2", **options)


def drawn(figure: Figure) -> tuple[np.ndarray, np.ndarray]:
    """The curve of a figure that holds one."""
    (line,) = figure.axes[0].lines
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
