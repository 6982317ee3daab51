"""Tables as pictures: the confusion matrix, the heat map of a sweep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from funcgrad.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.patches import Patch

_LEGIBLE = 6.0  # points: smaller text is left out


def confusion_matrix(matrix: ArrayLike, classes: Sequence[str], *, title: str | None = None) -> Figure:
    """Counts of examples by true class (rows) and predicted class (columns).

    matrix: (C, C) counts. The diagonal (right) is flat blue and the colour scale belongs to the mistakes alone, or a
    good classifier would show an even picture. Counts are written into the cells up to 20 classes.
    Raises ValueError if the matrix is not square, holds anything but counts, is all zero, or does not fit the classes.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.ticker import MaxNLocator

    size = len(classes)
    counts = style.checked("matrix", matrix, (size, size), 0, style.FINITE, expected="counts", whole=True)
    style.require(counts.sum() > 0, "matrix: all zero, expected at least one counted example")

    diagonal = np.eye(size, dtype=bool)
    wrong = np.where(diagonal, 0.0, counts)
    highest = max(wrong.max(), 4)  # a single mistake should not look like a disaster
    side = min(max((0.55 if size <= 20 else 0.14) * size, 3.6), 15.0)
    figure = style.new_figure(side + 3.2, side + 2.2)
    axes = figure.add_subplot()
    axes.imshow(np.where(diagonal, 1.0, np.nan), cmap=ListedColormap(["#BBD6EA"]))
    mistakes = axes.imshow(np.where(diagonal, np.nan, counts), cmap="Oranges", vmin=0, vmax=highest)
    if size <= 20:
        for i, j in np.argwhere(counts > 0):
            text = f"{counts[i, j]:.0f}"
            color, points = "white" if wrong[i, j] > 0.6 * highest else "black", style.TEXT * min(1.0, 5 / len(text))
            axes.text(j, i, text, fontsize=points, color=color, ha="center", va="center")
        axes.hlines(np.arange(size - 1) + 0.5, -0.5, size - 0.5, color="white", linewidth=1)
        axes.vlines(np.arange(size - 1) + 0.5, -0.5, size - 0.5, color="white", linewidth=1)

    totals, right = counts.sum(axis=1), counts.diagonal()
    names = style.short_names(classes, 24)
    shares = [style.percent(right[i] / totals[i]) if totals[i] else "–" for i in range(size)]
    rows = [f"{name}  {share}" for name, share in zip(names, shares, strict=True)]
    cell = side / size
    _label(axes, (rows, "true class, and its accuracy", cell), (names, "predicted class", cell))
    ticks = MaxNLocator(5, integer=True)
    figure.colorbar(mistakes, ax=axes, shrink=0.6, ticks=ticks, label="mistakes (blue diagonal: right)")

    share = style.percent(float(right.sum()) / float(counts.sum()))
    lines = [f"{title or 'Confusion matrix'}: {right.sum():.0f} of {counts.sum():.0f} right ({share})"]
    if wrong.any():
        i, j = divmod(int(np.argmax(wrong)), size)
        times = f"{wrong[i, j]:.0f} time{'s' if wrong[i, j] > 1 else ''}"
        lines.append(f"most frequent mistake: {names[i]} predicted as {names[j]}, {times}")
    style.set_title(figure, *lines)
    return style.finished(figure)


def heat_map(
    table: ArrayLike,
    rows: Sequence[float],
    columns: Sequence[float],
    *,
    row_label: str,
    column_label: str,
    best: tuple[int, int] | None = None,
    diverged: ArrayLike | None = None,
    title: str | None = None,
) -> Figure:
    """Mean accuracy of each pair of settings: the brighter a cell, the better; its value is in it where there is room.

    table: (R, C) accuracies between 0 and 1. rows, columns: the R and C settings, drawn in rising order.
    best: the (row, column) of the chosen cell in `table`, to be framed. diverged: (R, C), true (or a count above 0)
    where a training diverged: such cells are hatched, and excluded from the colour scale; None: where the table is NaN.
    Raises ValueError if shapes disagree, a setting comes twice, an accuracy is outside 0–1, a cell that did not diverge
    is NaN, or `best` is no cell.
    """
    down, row_names = _in_order("rows", rows)
    across, column_names = _in_order("columns", columns)
    shape = (len(rows), len(columns))
    accuracies = style.fractions("table", table, shape, nan=True)
    lost = np.isnan(accuracies) if diverged is None else style.checked("diverged", diverged, shape) > 0
    style.require(not np.isnan(accuracies[~lost]).any(), "table: holds NaN where nothing diverged, expected accuracies")
    accuracies, lost = (cells[np.ix_(down, across)] for cells in (accuracies, lost))
    if best is not None:
        inside, last = 0 <= best[0] < shape[0] and 0 <= best[1] < shape[1], (shape[0] - 1, shape[1] - 1)
        style.require(inside, f"best: {tuple(best)}, expected (row, column) from (0, 0) to {last}")

    # Of one cell, in inches: large enough for its text, unless there are too many cells for a page.
    width, height = max(min(0.62, 14 / shape[1]), 3.6 / shape[1]), max(min(0.42, 10 / shape[0]), 1.8 / shape[0])
    figure = style.new_figure(width * shape[1] + 2.6, height * shape[0] + 2.0)
    axes = figure.add_subplot()
    points = min(style.TEXT, 72 * width / 3.4, 72 * height / 1.5)  # a value is up to 5 characters wide
    image = _colored_cells(axes, accuracies, lost, points)
    handles = [_hatched(axes, lost)] if lost.any() else []
    lines = [title or f"Mean accuracy by {row_label} and {column_label}"]
    if best is not None:
        row, column = down.index(best[0]), across.index(best[1])
        handles.append(_framed(axes, row, column, linewidth=min(max(12 * min(width, height), 1.2), 2.5)))
        result = "diverged" if lost[row, column] else f"accuracy {style.percent(accuracies[row, column])}"
        lines.append(f"chosen: {row_label} = {row_names[row]}, {column_label} = {column_names[column]}, {result}")
    _label(axes, (row_names, row_label, height), (column_names, column_label, width))
    inch = 1 / figure.get_figwidth()
    bar = figure.colorbar(image, ax=axes, fraction=0.3 * inch, pad=0.15 * inch, aspect=height * shape[0] / 0.2)
    bar.set_label("mean accuracy (in the cells: %)" if points >= _LEGIBLE else "mean accuracy")
    style.percent_ticks(bar.ax.yaxis)
    style.set_title(figure, *lines)
    if handles:
        style.add_legend(figure, handles)
    return style.finished(figure)


def _in_order(argument: str, settings: Sequence[float]) -> tuple[list[int], list[str]]:
    """Where each setting was, in rising order; and the name of each."""
    values = style.checked(argument, settings, ("settings",), expected="numbers")
    style.require(len(np.unique(values)) == len(values), f"{argument}: {values.tolist()} holds a setting twice")
    order = np.argsort(values).tolist()
    return order, [style.number(value) for value in values[order]]


def _label(axes: Axes, rows: tuple[Sequence[str], str, float], columns: tuple[Sequence[str], str, float]) -> None:
    """Labels both axes of a table, each given as its names, its label and the inches a name has."""
    for axis, (names, label, inches) in ((axes.yaxis, rows), (axes.xaxis, columns)):
        points = min(style.TEXT, max(_LEGIBLE, 60 * inches))
        shown = range(0, len(names), math.ceil(points / (60 * inches) - 1e-9))  # those that have room
        upright = axis is axes.yaxis or max(map(len, names)) * 0.6 * points < 72 * inches
        axis.set_ticks(shown, [names[i] for i in shown], fontsize=points, rotation=0 if upright else 90)
        axis.set_label_text(label)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _colored_cells(axes: Axes, accuracies: np.ndarray, lost: np.ndarray, points: float) -> AxesImage:
    """Each accuracy as a colour, and as a number if that is legible."""
    valid = accuracies[~lost] if not lost.all() else np.array([0.0, 1.0])
    # At least a percentage point from end to end: differences by chance should not look like a pattern.
    middle, half = (valid.min() + valid.max()) / 2, max(np.ptp(valid) / 2, 0.005)
    ends = {"vmin": max(middle - half, 0.0), "vmax": min(middle + half, 1.0)}
    image = axes.imshow(np.where(lost, np.nan, accuracies), cmap="viridis", aspect="auto", **ends)
    for i, j in np.argwhere(~lost) if points >= _LEGIBLE else ():
        luminance = np.dot(image.to_rgba(accuracies[i, j])[:3], (0.299, 0.587, 0.114))
        color = "white" if luminance < 0.5 else "black"
        axes.text(j, i, f"{100 * accuracies[i, j]:.1f}", fontsize=points, color=color, ha="center", va="center")
    return image


def _hatched(axes: Axes, lost: np.ndarray) -> Patch:
    """Hatches the cells of settings that diverged and returns their entry in the legend."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    grey, options = "#E6E6E6", dict[str, Any](hatch="////", edgecolor="#8C8C8C", linewidth=0)
    across, down = np.arange(lost.shape[1] + 1) - 0.5, np.arange(lost.shape[0] + 1) - 0.5
    axes.pcolor(across, down, np.ma.masked_array(np.ones(lost.shape), ~lost), cmap=ListedColormap([grey]), **options)
    return Patch(facecolor=grey, label=f"hatched: diverged ({lost.sum()} of {lost.size} settings)", **options)


def _framed(axes: Axes, row: int, column: int, linewidth: float) -> Patch:
    """Frames the chosen cell, in black on white so that it is seen on any colour; returns its entry in the legend."""
    from matplotlib.patches import Patch, Rectangle

    for color, line in (("white", 2 * linewidth), ("black", linewidth)):
        options: dict[str, Any] = {"fill": False, "edgecolor": color, "linewidth": line}
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, clip_on=False, zorder=5, **options))
    return Patch(label="framed: chosen", **options)
