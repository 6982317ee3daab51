"""Figures from plain arrays, each understandable without a caption elsewhere.

Every function takes whatever `np.asarray` accepts, returns a `matplotlib.figure.Figure` and touches no global state
(no pyplot, no display); `save` writes it. Matplotlib is imported by the first figure, not by this module. Curves are
drawn here, sheets of images in `image_grids`, tables (`confusion_matrix`, `heat_map`) in `tables`.

Right and wrong are told apart by position, sign or line style as well as by colour, and the colours are those of Okabe
and Ito (2008), which colour-blind readers can tell apart too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from funcgrad.plots.image_grids import (
    is_image_shape,
    most_confident_mistakes,
    neighbors_grid,
    templates,
    worst_mistakes,
)
from funcgrad.plots.style import (
    FAINT,
    SMALL,
    TEXT,
    add_legend,
    fractions,
    new_figure,
    number,
    percent,
    require,
    set_title,
    short,
)
from funcgrad.plots.tables import confusion_matrix, heat_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "confusion_matrix",
    "cross_validation",
    "heat_map",
    "is_image_shape",
    "learning_rate_curve",
    "most_confident_mistakes",
    "neighbors_grid",
    "save",
    "templates",
    "training_curves",
    "worst_mistakes",
]

_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX"


def cross_validation(
    x: ArrayLike,
    series: Mapping[str, ArrayLike],
    *,
    x_label: str = "k",
    best: tuple[str, float] | None = None,
    log_x: bool = False,
    title: str | None = None,
) -> Figure:
    """Accuracy against a hyper-parameter: mean ± standard deviation over the folds, each fold a faint dot.

    x: (S,) the settings tried. series: name → (S, folds) accuracies between 0 and 1 (one name may be all there is).
    best: the chosen (name, x), which is ringed and named. log_x: settings that are spaced by factors (learning rates).
    Several series stand side by side at each setting, so that their bars do not hide one another.
    Raises ValueError if lengths disagree, an accuracy is outside 0–1, or `best` is not among what was tried.
    """
    settings = np.asarray(x, float)
    require(settings.ndim == 1 and settings.size > 0, f"x: shape {settings.shape}, expected (settings,)")
    require(bool(np.isfinite(settings).all()), "x: holds NaN or infinity, expected finite settings")
    require(not log_x or bool((settings > 0).all()), f"x: smallest is {settings.min():g}, log_x needs settings > 0")
    require(len(series) > 0, "series: empty, expected at least one name with its accuracies")
    order = np.argsort(settings, kind="stable")
    settings = settings[order]
    accuracies = {}
    for name, values in series.items():
        array = fractions(f"series[{name!r}]", values)
        matches = array.ndim == 2 and len(array) == len(settings) and array.shape[1] > 0
        require(matches, f"series[{name!r}]: shape {array.shape}, expected ({len(settings)}, folds)")
        accuracies[name] = array[order]
    if best is not None:
        require(best[0] in accuracies, f"best: {best[0]!r}, expected one of {list(accuracies)}")
        require(best[1] in settings, f"best: {best[1]!r}, expected one of x = {settings.tolist()}")
        chosen = int(np.flatnonzero(settings == best[1])[0])

    figure = new_figure(8.0, 5.0)
    axes = figure.add_subplot()
    places = np.log10(settings) if log_x else settings
    gaps = np.diff(np.unique(places))
    spacing = min(0.16 * gaps.min(), 0.015 * np.ptp(places)) if gaps.size else 0.02
    handles: list[Any] = []
    ring: dict[str, Any] = {"markersize": 14, "mew": 1.8, "markerfacecolor": "none", "color": "black", "zorder": 5}
    for i, (name, array) in enumerate(accuracies.items()):
        shifted = places + spacing * (i - (len(accuracies) - 1) / 2)
        at = 10**shifted if log_x else shifted
        color, marker = _COLORS[i % len(_COLORS)], _MARKERS[i % len(_MARKERS)]
        axes.plot(np.repeat(at, array.shape[1]), array.ravel(), "o", color=color, alpha=0.35, markersize=4.5, mew=0)
        style: dict[str, Any] = {"color": color, "marker": marker, "markersize": 5, "linewidth": 1.3, "capsize": 3}
        handles.append(axes.errorbar(at, array.mean(axis=1), array.std(axis=1), label=short(name, 40), **style))
        if best is not None and best[0] == name:
            ringed = axes.plot(at[chosen], array[chosen].mean(), "o", label="chosen", **ring)
    handles += ringed if best is not None else []
    if log_x:
        axes.set_xscale("log")
    _label_settings(axes, settings, places)
    axes.set_xlabel(f"{x_label} (log scale)" if log_x else x_label)
    counts = sorted({array.shape[1] for array in accuracies.values()})
    folds = "–".join(str(c) for c in (counts if len(counts) < 3 else (counts[0], counts[-1])))
    axes.set_ylabel(f"accuracy: mean ± standard deviation\n(faint dots: each of the {folds} folds)")
    _percent_axis(axes)

    lines = [title or f"{folds}-fold cross-validation of {x_label}"]
    if best is not None:
        row = accuracies[best[0]][chosen]
        who = f"{short(best[0], 40)}, " if len(accuracies) > 1 else ""
        lines.append(
            f"chosen: {who}{x_label} = {number(best[1])}, accuracy {percent(row.mean())} ± {percent(row.std())}"
        )
    set_title(figure, *lines)
    add_legend(figure, handles)
    return figure


def training_curves(
    runs: Mapping[str, Mapping[str, ArrayLike]],
    *,
    losses: Mapping[str, str] | None = None,
    title: str | None = None,
) -> Figure:
    """Loss (left) and accuracy (right) against the epoch, train solid and validation dashed.

    runs: name → history with "train_loss" and "train_accuracy", and "validation_loss" and "validation_accuracy" where
    measured, each (epochs,); other keys are left aside. losses: name → what its loss is called; runs with the same loss
    share a panel, others never do, since the values of two kinds of loss cannot be compared. A run not named in
    `losses` has a panel of its own.
    Raises ValueError if a key is missing, lengths disagree or an accuracy is outside 0–1.
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    require(len(runs) > 0, "runs: empty, expected at least one name with its history")
    histories = {name: _history(name, history) for name, history in runs.items()}
    kinds = {name: (losses or {}).get(name, "") for name in histories}
    panels = list(dict.fromkeys((kinds[name], "" if kinds[name] else name) for name in histories))
    figure = new_figure(10.0, max(4.6, 1.7 * len(panels) + 1.2))
    grid = figure.add_gridspec(len(panels), 2, width_ratios=(1, 1.15))
    right = figure.add_subplot(grid[:, 1])
    left = [figure.add_subplot(grid[row, 0], sharex=right) for row in range(len(panels))]

    handles = []
    for i, (name, history) in enumerate(histories.items()):
        color = _COLORS[i % len(_COLORS)]
        loss_axes = left[panels.index((kinds[name], "" if kinds[name] else name))]
        ends = []
        for split, line in (("train", "-"), ("validation", "--")):
            for axes, quantity in ((loss_axes, "loss"), (right, "accuracy")):
                if (values := history.get(f"{split}_{quantity}")) is not None:
                    # A line needs two points; a single epoch is shown as a dot.
                    marker = "o" if len(values) == 1 else None
                    axes.plot(np.arange(1, len(values) + 1), values, line, color=color, marker=marker, linewidth=1.6)
            if (accuracies := history.get(f"{split}_accuracy")) is not None:
                ends.append(f"{split} {percent(accuracies[-1])}")
        handles.append(Line2D([], [], color=color, linewidth=2.5, label=f"{short(name, 40)}: {', '.join(ends)}"))
    handles.append(Line2D([], [], color=FAINT, linestyle="-", label="solid: train"))
    if any("validation_accuracy" in h or "validation_loss" in h for h in histories.values()):
        handles.append(Line2D([], [], color=FAINT, linestyle="--", label="dashed: validation"))

    for axes, (kind, name) in zip(left, panels, strict=True):
        axes.set_title(short(kind or name, 40), fontsize=TEXT, loc="left")
        axes.set_ylabel("loss")
        axes.grid(alpha=0.25)
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, 0.0), high)  # every loss here is ≥ 0: its distance to 0 is what is left to learn
        axes.label_outer()
    left[-1].set_xlabel("epoch")
    right.set_xlabel("epoch")
    right.set_ylabel("accuracy")
    right.set_title("accuracy of every run", fontsize=TEXT, loc="left")
    right.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    right.set_xlim(0.6, max(len(history["train_loss"]) for history in histories.values()) + 0.4)
    _percent_axis(right)
    figure.align_ylabels(left)
    if len(panels) > 1:
        figure.supylabel("each panel: its own kind of loss and its own scale", fontsize=SMALL, color=FAINT)

    split = "validation" if any("validation_accuracy" in h for h in histories.values()) else "train"
    ends_at = {n: float(h[f"{split}_accuracy"][-1]) for n, h in histories.items() if f"{split}_accuracy" in h}
    top = max(ends_at, key=lambda name: ends_at[name])
    which, whose = ("highest ", f" ({short(top, 40)})") if len(ends_at) > 1 else ("", "")
    summary = f"{which}{split} accuracy at the end: {percent(ends_at[top])}{whose}"
    set_title(figure, title or "Training: loss and accuracy by epoch", summary)
    add_legend(figure, handles)
    return figure


def learning_rate_curve(rates: ArrayLike, *, epochs: float, title: str | None = None) -> Figure:
    """The learning rate at each step against the epochs done, as a staircase: a rate holds until the next step.

    rates: (S,), that of each of the steps that make up all the epochs. The axis is logarithmic where it spans more than
    two decades and a fifth of the steps are at its lower end, below a hundredth of the highest rate; a cosine that only
    ends near 0 is drawn linearly, from 0.
    Raises ValueError if there is no step, a rate is negative or not finite, or `epochs` is not above 0.
    """
    steps = np.asarray(rates, float)
    require(steps.ndim == 1 and steps.size > 0, f"rates: shape {steps.shape}, expected (steps,)")
    require(bool(np.isfinite(steps).all()), "rates: holds NaN or infinity, expected finite rates")
    require(bool((steps >= 0).all()), f"rates: smallest is {steps.min():g}, expected rates of at least 0")
    require(0 < epochs < float("inf"), f"epochs: {epochs}, expected a number above 0")

    figure = new_figure(8.0, 4.2)
    axes = figure.add_subplot()
    kept = _outline(steps)
    at = epochs * np.append(kept, len(steps)) / len(steps)
    axes.plot(at, steps[np.append(kept, -1)], color=_COLORS[0], linewidth=1.6, drawstyle="steps-post")
    highest, positive = steps.max(), steps[steps > 0]
    logarithmic = positive.size > 0 and bool(np.quantile(positive, 0.2) < highest / 100)
    if logarithmic:
        axes.set_yscale("log")  # which draws zeros at the lower edge
    else:
        axes.set_ylim(0, 1.08 * highest or 1.0)
    axes.yaxis.set_major_formatter(lambda value, _: number(value))
    zeros = ", 0 at the lower edge" if positive.size < steps.size else ""
    axes.set_ylabel(f"learning rate (log scale{zeros})" if logarithmic else "learning rate")
    axes.set_xlabel("epoch")
    axes.set_xlim(0, epochs)
    axes.locator_params(axis="x", steps=[1, 2, 5, 10])
    axes.grid(alpha=0.25)
    first = int(np.argmax(steps))
    when = f"after {number(epochs * first / len(steps))} epochs" if first else "at the start"
    summary = f"highest {number(highest)} {when}, {number(steps[-1])} at the end"
    set_title(figure, title or "Learning rate by epoch", summary)
    return figure


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write the figure as a PNG, 120 dots an inch; `path` holds the old picture or the whole new one, never a part.

    Raises ValueError if `path` does not end in .png, OSError if it cannot be written.
    """
    path = Path(path)
    require(path.suffix.lower() == ".png", f"path: {str(path)!r}, expected a name that ends in .png")
    # In the same directory, since a rename is atomic only within one file system.
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        figure.savefig(aside, format="png", dpi=120)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


# What the curves share: checks and axes.


def _outline(values: np.ndarray, pieces: int = 2000) -> np.ndarray:
    """Indices that draw the same curve: of each piece, narrower than a dot, the ends, the lowest and the highest."""
    if len(values) <= 4 * pieces:
        return np.arange(len(values))
    kept: list[int] = []
    for piece in np.array_split(np.arange(len(values)), pieces):
        inside = values[piece]
        kept += [piece[0], piece[np.argmin(inside)], piece[np.argmax(inside)], piece[-1]]
    return np.unique(kept)


def _history(name: str, history: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    keys = [f"{split}_{quantity}" for split in ("train", "validation") for quantity in ("loss", "accuracy")]
    for key in keys[:2]:
        require(key in history, f"runs[{name!r}]: has no {key!r}, only {list(history)}")
    curves = {key: np.asarray(history[key], float) for key in keys if key in history}
    shape = curves["train_loss"].shape
    require(len(shape) == 1 and shape[0] > 0, f"runs[{name!r}]['train_loss']: shape {shape}, expected (epochs,)")
    for key, values in curves.items():
        require(values.shape == shape, f"runs[{name!r}][{key!r}]: shape {values.shape}, train_loss has {shape}")
        if key.endswith("accuracy"):
            fractions(f"runs[{name!r}][{key!r}]", values)
    return curves


def _percent_axis(axes: Axes) -> None:
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    axes.grid(alpha=0.25)


def _label_settings(axes: Axes, settings: np.ndarray, places: np.ndarray) -> None:
    """A tick at every setting, and its value wherever that does not run into the label before it."""
    span = float(np.ptp(places)) or 1.0
    labels, free_from = [], -1.0
    for setting, place in zip(settings, places, strict=True):
        text = number(setting)
        middle = 6.3 * (place - places[0]) / span  # inches: about what the axis of an 8-inch figure is long
        half = 0.045 * len(text)
        labels.append(text if middle - half >= free_from else "")
        free_from = middle + half + 0.05 if labels[-1] else free_from
    axes.set_xticks(settings, labels)
    axes.set_xticks([], minor=True)
