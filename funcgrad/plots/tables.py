"""Tables as pictures, from plain arrays: the confusion matrix, the heat map of a sweep.

`funcgrad.plots` offers them beside its curves, under the same rules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from funcgrad.plots.style import TEXT, add_legend, fractions, new_figure, number, percent, require, set_title, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.patches import Patch


def confusion_matrix(matrix: ArrayLike, classes: Sequence[str], *, title: str | None = None) -> Figure:
    """Which class was taken for which: rows are true classes, columns predictions, cells counts.

    matrix: (C, C) counts. The diagonal (right) is flat blue and the colour scale belongs to the mistakes alone, or a
    good classifier would show an even picture. Counts are written into the cells up to 20 classes.
    Raises ValueError if the matrix is not square, holds anything but counts, is all zero, or does not fit the classes.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.ticker import MaxNLocator

    counts = np.asarray(matrix, float)
    size = len(classes)
    require(size > 0 and counts.shape == (size, size), f"matrix: shape {counts.shape}, expected ({size}, {size})")
    whole = np.isfinite(counts).all() and (counts >= 0).all() and (counts == np.round(counts)).all()
    require(bool(whole), "matrix: holds a negative or fractional value, expected counts")
    require(bool(counts.sum() > 0), "matrix: all zero, expected at least one counted example")

    diagonal = np.eye(size, dtype=bool)
    wrong = np.where(diagonal, 0.0, counts)
    cell = 0.55 if size <= 20 else 0.14
    side = min(max(cell * size, 3.6), 15.0)
    figure = new_figure(side + 3.2, side + 2.2)
    axes = figure.add_subplot()
    axes.imshow(np.where(diagonal, 1.0, np.nan), cmap=ListedColormap(["#BBD6EA"]))
    # At least 4 on the scale: a single mistake should not look like a disaster.
    off_diagonal = axes.imshow(np.where(diagonal, np.nan, counts), cmap="Oranges", vmin=0, vmax=max(wrong.max(), 4))
    if size <= 20:
        for i, j in np.argwhere(counts > 0):
            text = f"{counts[i, j]:.0f}"
            color = "white" if wrong[i, j] > 0.6 * max(wrong.max(), 4) else "black"
            fits = TEXT * min(1.0, 5 / len(text))
            axes.text(j, i, text, ha="center", va="center", fontsize=fits, color=color)
        axes.hlines(np.arange(size - 1) + 0.5, -0.5, size - 0.5, color="white", linewidth=1)
        axes.vlines(np.arange(size - 1) + 0.5, -0.5, size - 0.5, color="white", linewidth=1)

    totals = counts.sum(axis=1)
    shares = [percent(counts[i, i] / totals[i]) if totals[i] else "–" for i in range(size)]
    names = [short(name, 22) for name in classes]
    shown = range(0, size, math.ceil(size / 100))
    small = TEXT if size <= 20 else 6.0  # points: what the height of a row allows
    upright = size <= 20 and max(map(len, names)) <= 4
    axes.set_xticks(shown, [names[i] for i in shown], fontsize=small, rotation=0 if upright else 90)
    axes.set_yticks(shown, [f"{names[i]}  {shares[i]}" for i in shown], fontsize=small)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class, and the share of it that is right")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    whole_numbers = MaxNLocator(5, integer=True)
    figure.colorbar(off_diagonal, ax=axes, shrink=0.6, ticks=whole_numbers, label="mistakes (blue diagonal: right)")

    right_count, total = counts.trace(), counts.sum()
    lines = [f"{title or 'Confusion matrix'}: {right_count:.0f} of {total:.0f} right ({percent(right_count / total)})"]
    if wrong.any():
        i, j = divmod(int(np.argmax(wrong)), size)
        times = f"{wrong[i, j]:.0f} time{'s' if wrong[i, j] > 1 else ''}"
        lines.append(f"most frequent mistake: {names[i]} taken for {names[j]}, {times}")
    set_title(figure, *lines)
    return figure


def heat_map(
    table: ArrayLike,
    rows: Sequence[float | str],
    columns: Sequence[float | str],
    *,
    row_label: str,
    column_label: str,
    best: tuple[int, int] | None = None,
    diverged: ArrayLike | None = None,
    title: str | None = None,
) -> Figure:
    """Mean accuracy of each pair of settings: the brighter a cell, the better; its value is in it where there is room.

    table: (R, C) accuracies between 0 and 1. rows, columns: the R and C settings, numbers (drawn in rising order) or
    names (in the order given). best: the (row, column) of the chosen cell in `table`, to be framed. diverged: (R, C),
    true (or a count above 0) where a training diverged: such cells are hatched, and have no part in the colour scale;
    None: where the table is NaN.
    Raises ValueError if shapes disagree, a setting comes twice, an accuracy is outside 0–1, a cell that did not diverge
    is NaN, or `best` is no cell.
    """
    from matplotlib.ticker import PercentFormatter

    down, rows = _in_order("rows", rows)
    across, columns = _in_order("columns", columns)
    shape = (len(rows), len(columns))
    accuracies = fractions("table", table)
    require(accuracies.shape == shape, f"table: shape {accuracies.shape}, expected {shape}")
    lost = np.isnan(accuracies) if diverged is None else np.asarray(diverged) > 0
    require(lost.shape == shape, f"diverged: shape {lost.shape}, expected {shape}")
    require(not np.isnan(accuracies[~lost]).any(), "table: holds NaN where nothing diverged, expected accuracies")
    accuracies, lost = (cells[np.ix_(down, across)] for cells in (accuracies, lost))
    if best is not None:
        inside = 0 <= best[0] < shape[0] and 0 <= best[1] < shape[1]
        require(inside, f"best: {tuple(best)}, expected (row, column) from (0, 0) to {(shape[0] - 1, shape[1] - 1)}")

    # Of one cell, in inches: no smaller than its words, unless there are too many for a page.
    width, height = max(min(0.62, 14 / shape[1]), 3.6 / shape[1]), max(min(0.42, 10 / shape[0]), 1.8 / shape[0])
    figure = new_figure(width * shape[1] + 2.6, height * shape[0] + 2.0)
    axes = figure.add_subplot()
    points = min(TEXT, 72 * width / 3.4, 72 * height / 1.5)  # a value is up to 5 characters wide
    legible = points >= 6
    image = _colored_cells(axes, accuracies, lost, points if legible else None)
    handles = [_hatched(axes, lost)] if lost.any() else []
    lines = [title or f"Mean accuracy by {row_label} and {column_label}"]
    if best is not None:
        chosen = down.index(best[0]), across.index(best[1])
        handles.append(_framed(axes, *chosen, linewidth=min(max(12 * min(width, height), 1.2), 2.5)))
        result = "diverged" if lost[chosen] else f"accuracy {percent(accuracies[chosen])}"
        row, column = _name(rows[chosen[0]]), _name(columns[chosen[1]])
        lines.append(f"chosen: {row_label} = {row}, {column_label} = {column}, {result}")

    shown, names, size = _labels(columns, width)
    upright = max(map(len, names)) * 0.6 * size < 72 * width
    axes.set_xticks(shown, names, fontsize=size, rotation=0 if upright else 90)
    shown, names, size = _labels(rows, height)
    axes.set_yticks(shown, names, fontsize=size)
    axes.set_xlabel(column_label)
    axes.set_ylabel(row_label)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    inch = 1 / figure.get_figwidth()
    bar = figure.colorbar(image, ax=axes, fraction=0.3 * inch, pad=0.15 * inch, aspect=height * shape[0] / 0.2)
    bar.set_label("mean accuracy (in the cells: %)" if legible else "mean accuracy")
    bar.ax.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    set_title(figure, *lines)
    if handles:
        add_legend(figure, handles)
    return figure


def _in_order(argument: str, settings: Sequence[float | str]) -> tuple[list[int], list[float | str]]:
    """Numbers sorted, names as they come; and where each was."""
    values = [setting if isinstance(setting, str) else float(setting) for setting in settings]
    require(len(values) > 0, f"{argument}: empty, expected at least one setting")
    require(len(set(values)) == len(values), f"{argument}: {values} holds a setting twice")
    named = any(isinstance(value, str) for value in values)
    order = sorted(range(len(values)), key=(lambda i: i) if named else values.__getitem__)
    return order, [values[i] for i in order]


def _colored_cells(axes: Axes, accuracies: np.ndarray, lost: np.ndarray, points: float | None) -> AxesImage:
    """Each accuracy as a colour, and as a number if there is a size for it."""
    kept = accuracies[~lost] if not lost.all() else np.array([0.0, 1.0])
    # At least a point from end to end: differences that are mere chance should not look like a landscape.
    middle, half = (kept.min() + kept.max()) / 2, max(np.ptp(kept) / 2, 0.005)
    ends = {"vmin": max(middle - half, 0.0), "vmax": min(middle + half, 1.0)}
    image = axes.imshow(np.where(lost, np.nan, accuracies), cmap="viridis", aspect="auto", **ends)
    for i, j in np.argwhere(~lost) if points else ():
        luminance = np.dot(image.to_rgba(accuracies[i, j])[:3], (0.299, 0.587, 0.114))
        style: dict[str, Any] = {"fontsize": points, "color": "white" if luminance < 0.5 else "black"}
        axes.text(j, i, f"{100 * accuracies[i, j]:.1f}", ha="center", va="center", **style)
    return image


def _hatched(axes: Axes, lost: np.ndarray) -> Patch:
    """Hatches the cells of settings that diverged; what the legend says of them."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    grey, style = "#E6E6E6", dict[str, Any](hatch="////", edgecolor="#8C8C8C", linewidth=0)
    across, down = np.arange(lost.shape[1] + 1) - 0.5, np.arange(lost.shape[0] + 1) - 0.5
    axes.pcolor(across, down, np.ma.masked_array(np.ones(lost.shape), ~lost), cmap=ListedColormap([grey]), **style)
    return Patch(facecolor=grey, label=f"hatched: diverged ({lost.sum()} of {lost.size} settings)", **style)


def _framed(axes: Axes, row: int, column: int, linewidth: float) -> Patch:
    """Frames the chosen cell, in black on white so that it is seen on any colour; what the legend says of it."""
    from matplotlib.patches import Patch, Rectangle

    for color, line in (("white", 2 * linewidth), ("black", linewidth)):
        style: dict[str, Any] = {"fill": False, "edgecolor": color, "linewidth": line}
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, clip_on=False, zorder=5, **style))
    return Patch(label="framed: chosen", **style)


def _name(setting: float | str) -> str:
    return short(setting, 22) if isinstance(setting, str) else number(setting)


def _labels(settings: Sequence[float | str], inches: float) -> tuple[range, list[str], float]:
    """Of settings so many inches apart: which have room for a label, the labels, their size in points."""
    points = min(TEXT, max(6.0, 60 * inches))
    shown = range(0, len(settings), math.ceil(points / (60 * inches) - 1e-9))
    return shown, [_name(settings[i]) for i in shown], points
