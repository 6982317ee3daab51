"""Curves: cross-validated accuracies, the losses and accuracies of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from funcgrad.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D


def cross_validation(
    x: ArrayLike,
    series: Mapping[str, ArrayLike],
    *,
    x_label: str = "k",
    best: tuple[str, float] | None = None,
    log_x: bool = False,
    title: str | None = None,
) -> Figure:
    """Accuracy against a hyper-parameter: mean ± standard deviation over the folds, each fold a faint mark.

    x: (S,) the settings tried. series: name → (S, folds) accuracies between 0 and 1 (one name may be all there is).
    best: the chosen (name, x), which is ringed and named. log_x: settings that are spaced by factors (learning rates).
    Several series stand side by side at each setting, so that their bars do not hide one another.
    Raises ValueError if lengths disagree, an accuracy is outside 0–1, or `best` is not among what was tried.
    """
    settings, accuracies = _checked(x, series, best, log_x)
    folds = next(iter(accuracies.values())).shape[1]
    figure = style.new_figure(8.0, 5.0)
    axes = figure.add_subplot()
    positions = np.log10(settings) if log_x else settings
    gaps = np.diff(np.unique(positions))
    most = 0.6 / len(accuracies)  # of a gap, so that neither settings mix nor series
    spacing = min(min(0.16, most) * gaps.min(), 0.015 * np.ptp(positions)) if gaps.size else 0.02
    names = dict(zip(accuracies, style.short_names([*accuracies], 40), strict=True))
    lines = [title or f"{folds}-fold cross-validation of {x_label}"]
    handles: list[Any] = []
    for i, (name, array) in enumerate(accuracies.items()):
        shifted = positions + spacing * (i - (len(accuracies) - 1) / 2)
        at = 10**shifted if log_x else shifted
        color, line = style.colored(i, style.LINES)
        marker = style.MARKERS[i % len(style.MARKERS)]
        dots: dict[str, Any] = {"color": color, "marker": marker, "alpha": 0.35, "markersize": 4.5, "mew": 0}
        axes.plot(np.repeat(at, folds), array.ravel(), linestyle="none", **dots)
        options: dict[str, Any] = {"color": color, "linestyle": line, "marker": marker, "markersize": 5}
        options |= {"linewidth": 1.3, "capsize": 3, "label": names[name]}
        means, deviations = array.mean(axis=1), array.std(axis=1)
        ends = np.minimum(deviations, [means, 1 - means])  # no accuracy is below 0 or above 1
        handles.append(axes.errorbar(at, means, ends, **options))
        if best is not None and best[0] == name:
            [row] = np.flatnonzero(settings == best[1])[:1]
            mean, deviation = style.percent(array[row].mean()), style.percent(array[row].std())
            which = f"{names[name]}, " if len(accuracies) > 1 else ""
            lines.append(f"chosen: {which}{x_label} = {style.number(best[1])}, accuracy {mean} ± {deviation}")
            ring = at[row], array[row].mean()
    if best is not None:
        options = {"markersize": 14, "mew": 1.8, "markerfacecolor": "none", "color": "black", "zorder": 5}
        handles += axes.plot(*ring, "o", label="chosen", **options)
    if log_x:
        axes.set_xscale("log")
    _label_settings(axes, settings, positions)
    axes.set_xlabel(f"{x_label} (log scale)" if log_x else x_label)
    axes.set_ylabel(f"accuracy: mean ± standard deviation\n(faint: each of the {folds} folds)")
    axes.grid(alpha=0.25)
    style.percent_ticks(axes.yaxis)
    style.set_title(figure, *lines)
    style.add_legend(figure, handles)
    return style.finished(figure)


def training_curves(
    runs: Mapping[str, Mapping[str, ArrayLike]],
    *,
    losses: Mapping[str, str] | None = None,
    title: str | None = None,
) -> Figure:
    """Loss (left) and accuracy (right) against the epoch, train solid and validation dashed.

    runs: name → history with "train_loss" and "train_accuracy", and "validation_loss" and "validation_accuracy" where
    measured, each (epochs,); other keys are ignored. losses: name → what its loss is called; runs with the same loss
    share a panel, others never do, since the values of two kinds of loss cannot be compared. A run not named in
    `losses` has a panel of its own.
    Raises ValueError if a key is missing, lengths disagree or an accuracy is outside 0–1.
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    style.require(len(runs) > 0, "runs: empty, expected at least one name with its history")
    histories = {name: _history(name, history) for name, history in runs.items()}
    kinds = {name: (losses or {}).get(name, name) for name in histories}
    panels = list(dict.fromkeys(kinds.values()))
    figure = style.new_figure(10.0, max(4.6, 1.7 * len(panels) + 1.2))
    grid = figure.add_gridspec(len(panels), 2, width_ratios=(1, 1.15))
    right = figure.add_subplot(grid[:, 1])
    left = {kind: figure.add_subplot(grid[row, 0], sharex=right) for row, kind in enumerate(panels)}

    names = style.short_names([*histories], 40)
    handles = [
        _draw_history(names[i], history, style.colored(i, ["", *style.MARKERS]), left[kinds[name]], right)
        for i, (name, history) in enumerate(histories.items())
    ]
    handles.append(Line2D([], [], color=style.FAINT, linestyle="-", label="solid: train"))
    measured = set().union(*histories.values())
    if measured & {"validation_loss", "validation_accuracy"}:
        handles.append(Line2D([], [], color=style.FAINT, linestyle="--", label="dashed: validation"))

    for kind, axes in left.items():
        axes.set_title(style.short(kind, 40), fontsize=style.TEXT, loc="left")
        axes.set_ylabel("loss")
        axes.yaxis.set_major_formatter(lambda value, _: style.number(value))
        axes.grid(alpha=0.25)
        axes.set_ylim(min(axes.get_ylim()[0], 0.0))  # every loss here is ≥ 0: its distance to 0 is left to learn
        axes.label_outer()
    axes.set_xlabel("epoch")
    right.set(xlabel="epoch", ylabel="accuracy")
    right.set_title("accuracy of every run", fontsize=style.TEXT, loc="left")
    right.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    right.set_xlim(0.6, max(len(history["train_loss"]) for history in histories.values()) + 0.4)
    right.grid(alpha=0.25)
    style.percent_ticks(right.yaxis)
    figure.align_ylabels([*left.values()])
    if len(panels) > 1:
        figure.supylabel("each panel: its own kind of loss and its own scale", fontsize=style.SMALL, color=style.FAINT)

    summary = _accuracy_at_the_end(histories, names)
    style.set_title(figure, title or "Training: loss and accuracy by epoch", summary)
    style.add_legend(figure, handles)
    return style.finished(figure)


def _checked(
    x: ArrayLike, series: Mapping[str, ArrayLike], best: tuple[str, float] | None, log_x: bool
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Settings in rising order, and the accuracies of each series in that order."""
    low, expected = (
        (np.nextafter(0, 1), "finite settings above 0 (log_x)") if log_x else (-style.FINITE, "finite settings")
    )
    settings = style.checked("x", x, ("settings",), low, style.FINITE, expected=expected)
    style.require(len(series) > 0, "series: empty, expected at least one name with its accuracies")
    folds: int | str = "folds"  # as many in each as in the first
    arrays = {}
    for name, values in series.items():
        arrays[name] = style.fractions(f"series[{name!r}]", values, (len(settings), folds), nan=True)
        folds = arrays[name].shape[1]
    if best is not None:
        style.require(best[0] in arrays, f"best: {best[0]!r}, expected one of {list(arrays)}")
        style.require(best[1] in settings, f"best: {best[1]!r}, expected one of x = {settings.tolist()}")
    order = np.argsort(settings, kind="stable")
    return settings[order], {name: array[order] for name, array in arrays.items()}


def _label_settings(axes: Axes, settings: np.ndarray, positions: np.ndarray) -> None:
    """A tick at every setting, and its value wherever that does not run into the label before it."""
    inches = 6.3 * (positions - positions[0]) / (np.ptp(positions) or 1.0)  # about the width of an 8-inch figure's axis
    labels, free_from = [], -1.0
    for text, middle in zip(map(style.number, settings), inches, strict=True):
        half = 0.045 * len(text)
        labels.append(text if middle - half >= free_from else "")
        free_from = middle + half + 0.05 if labels[-1] else free_from
    axes.set_xticks(settings, labels)
    axes.set_xticks([], minor=True)


def _history(name: str, history: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    keys = [f"{split}_{quantity}" for split in ("train", "validation") for quantity in ("loss", "accuracy")]
    for key in keys[:2]:
        style.require(key in history, f"runs[{name!r}]: has no {key!r}, only {list(history)}")
    epochs: int | str = "epochs"  # as many in each as in the first
    curves = {}
    for key in (key for key in keys if key in history):
        check = style.fractions if key.endswith("accuracy") else style.checked
        curves[key] = check(f"runs[{name!r}][{key!r}]", history[key], (epochs,), nan=True)
        epochs = len(curves[key])
    return curves


def _accuracy_at_the_end(histories: Mapping[str, Mapping[str, np.ndarray]], names: Sequence[str]) -> str:
    """The highest that any run has, on the validation part if one has that."""
    split = "validation" if any("validation_accuracy" in history for history in histories.values()) else "train"
    last = {
        name: history[f"{split}_accuracy"][-1]
        for name, history in zip(names, histories.values(), strict=True)
        if f"{split}_accuracy" in history
    }
    top = max(last, key=last.__getitem__)
    which, whose = ("highest ", f" ({top})") if len(last) > 1 else ("", "")
    return f"{which}{split} accuracy at the end: {style.percent(last[top])}{whose}"


def _draw_history(
    name: str, history: Mapping[str, np.ndarray], look: tuple[str, str], loss: Axes, accuracy: Axes
) -> Line2D:
    """Draws a run into both axes and returns its entry in the legend."""
    from matplotlib.lines import Line2D

    color, marker = look  # the line says which part is drawn
    for key, values in history.items():
        split, _, quantity = key.partition("_")
        line = "-" if split == "train" else "--"
        options: dict[str, Any] = {"color": color, "markersize": 5, "linewidth": 1.6}
        options["marker"] = marker or ("o" if len(values) == 1 else None)  # a line needs two points
        axes = loss if quantity == "loss" else accuracy
        axes.plot(np.arange(1, len(values) + 1), values, line, markevery=max(1, len(values) // 8), **options)
    ends = [f"{key.split('_')[0]} {style.percent(history[key][-1])}" for key in history if key.endswith("accuracy")]
    return Line2D([], [], color=color, marker=marker, linewidth=2.5, label=f"{name}: {', '.join(ends)}")
