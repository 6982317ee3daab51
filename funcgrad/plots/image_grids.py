"""Pages of images: the neighbours of queries, the most confident mistakes, the templates of a linear classifier."""

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

_RIGHT, _WRONG = "#009E73", "#D55E00"
_TILE, _VERDICT, _GAP, _HEADER = 1.0, 2.1, 0.3, 0.45  # inches: an image, the text left of it, spaces between


def is_image_shape(shape: Sequence[int]) -> bool:
    """Whether one example of this shape can be shown as a picture: (H, W), (H, W, 1) or (H, W, 3)."""
    return len(shape) in (2, 3) and min(shape) > 0 and (len(shape) == 2 or shape[2] in (1, 3))


def templates(weights: ArrayLike, shape: Sequence[int], classes: Sequence[str], *, title: str | None = None) -> Figure:
    """The weights of a linear classifier as one image a class: what is summed for that class's score.

    weights: (C, D). shape: (H, W), (H, W, 1) or (H, W, 3) with H·W·channels = D. One channel is shown in red (raises
    the score) and blue (lowers it) with zero white; three channels as a colour picture, scaled from the template's
    minimum to its maximum, as CS231n does. Each class is scaled by itself.
    Raises ValueError if `shape` is no image, or does not fit the weights, or the classes do not.
    """
    array, shape = np.asarray(weights, float), tuple(shape)
    _require_image("shape", shape)
    fits = array.ndim == 2 and array.shape == (len(classes), math.prod(shape)) and array.size > 0
    expected = f"({len(classes)}, {math.prod(shape)}) for images of shape {shape} and {len(classes)} classes"
    style.require(fits, f"weights: shape {array.shape}, expected {expected}")

    images = array.reshape(len(classes), *shape)
    each = tuple(range(1, images.ndim))
    if shape[2:] == (3,):
        low, high = images.min(axis=each, keepdims=True), images.max(axis=each, keepdims=True)
        images = (images - low) / np.where(high > low, high - low, 1.0)
        note = "The brighter a colour, the more of it raises the class's score; the darker, the more it lowers it.\n"
        note += "Each template is scaled from its own smallest weight to its largest."
    else:
        largest = np.abs(images).max(axis=each, keepdims=True)
        images = 0.5 + 0.5 * images / np.where(largest > 0, largest, 1.0)
        note = "Red: brightness here raises the class's score; blue: it lowers it; white: no effect.\n"
        note += "Each template is scaled by its own largest weight."

    captions = [[(line, "black") for line in name.split("\n")] for name in style.short_names(classes, 16, lines=2)]
    heading = title or f"Linear classifier: the learned weight templates of {len(classes)} classes"
    return _grid(images, captions, 5 if len(classes) <= 20 else 10, 0.2, heading, note, cmap="RdBu_r")


def neighbors_grid(
    query_images: ArrayLike,
    query_labels: ArrayLike,
    neighbor_images: ArrayLike,
    neighbor_labels: ArrayLike,
    distances: ArrayLike,
    predictions: ArrayLike,
    classes: Sequence[str],
    *,
    title: str | None = None,
) -> Figure:
    """Each query with its nearest neighbours, the correctly classified queries above the others.

    query_images: (Q, *image), query_labels and predictions: (Q,), neighbor_images: (Q, k, *image), neighbor_labels and
    distances: (Q, k), nearest first. A neighbour of the query's true class has a solid green frame, any other a dashed
    orange one. Raises ValueError if the images are none (feature vectors), shapes disagree or a label has no class.
    """
    queries, neighbors = np.asarray(query_images), np.asarray(neighbor_images)
    _require_image("query_images", queries.shape[1:])
    count = len(queries)
    fits = neighbors.ndim == queries.ndim + 1 and neighbors.shape[:1] + neighbors.shape[2:] == queries.shape
    style.require(count > 0, "query_images: none, expected at least one query")
    style.require(fits, f"neighbor_images: shape {neighbors.shape}, expected ({count}, k, *{queries.shape[1:]})")
    k = neighbors.shape[1]
    style.require(k > 0, "neighbor_images: no neighbours, expected k ≥ 1")
    truth = style.labels("query_labels", query_labels, (count,), len(classes))
    predicted = style.labels("predictions", predictions, (count,), len(classes))
    labels = style.labels("neighbor_labels", neighbor_labels, (count, k), len(classes))
    lengths = style.checked("distances", distances, (count, k), nan=True)

    # One brightness scale for all, or a query and its neighbour could not be compared by eye.
    shown = _displayable(np.concatenate([queries[:, None], neighbors], axis=1), in_colour=queries.shape[3:] == (3,))
    right = predicted == truth
    sections = [x for x in (("right", right, _RIGHT, "✓"), ("wrong", ~right, _WRONG, "✗")) if x[1].any()]
    width = _VERDICT + _GAP + (k + 1) * (_TILE + 0.15) - 0.15
    height = count * (_TILE + 0.45) + len(sections) * _HEADER
    heading = title or f"{count} queries and their {k} nearest neighbours: {right.sum()} right, {(~right).sum()} wrong"
    note = "Solid green frame: the neighbour is of the query's true class. Dashed orange frame: it is of another.\n"
    note += "Below each neighbour: its class and distance, nearest on the left."
    figure, axes, left = _page(width, height, heading, note)
    names = style.short_names(classes, 16)
    y = 0.0
    for name, in_section, color, sign in sections:
        y += _HEADER
        axes.plot([left, left + width], [y - 0.4, y - 0.4], color=color, linewidth=1)
        text = f"{sign} {in_section.sum()} classified {name}"
        axes.text(left, y - 0.2, text, color=color, fontsize=style.TEXT, weight="bold", va="center")
        axes.text(left + _VERDICT + _TILE / 2, y - 0.1, "query", fontsize=style.SMALL, ha="center", va="center")
        for row in np.flatnonzero(in_section):
            verdict = f"true: {names[truth[row]]}\npredicted: {names[predicted[row]]}\n{sign} {name}"
            axes.text(left, y + _TILE / 2, verdict, fontsize=style.TEXT, va="center", color=color)
            _draw_image(axes, shown[row, 0], left + _VERDICT, y, frame="black")
            for j in range(k):
                at = left + _VERDICT + _GAP + (j + 1) * (_TILE + 0.15)
                frame, line = (_RIGHT, "-") if labels[row, j] == truth[row] else (_WRONG, "--")
                _draw_image(axes, shown[row, j + 1], at, y, frame=frame, line=line)
                _caption(axes, at, y, f"{names[labels[row, j]]}\n{_distance(lengths[row, j])}", frame)
            y += _TILE + 0.45
    return style.finished(figure)


def most_confident_mistakes(labels: ArrayLike, probabilities: ArrayLike, count: int = 24) -> np.ndarray:
    """The wrongly classified examples with the highest probability of the predicted class, highest first: (≤ count,).

    labels: (N,) true classes. probabilities: (N, C), each example's; the class predicted is the most probable one.
    Ties go to the smaller index, and to the smaller class. There may be fewer mistakes than `count`, or none.
    Raises ValueError if shapes disagree, a label has no class, or a probability is NaN or outside 0–1.

    >>> most_confident_mistakes([0, 1, 1], [[0.4, 0.6], [0.1, 0.9], [0.8, 0.2]]).tolist()
    [2, 0]
    """
    shares = style.fractions("probabilities", probabilities, (np.shape(labels)[0], "classes"))
    truth = style.labels("labels", labels, shares.shape[:1], shares.shape[1])
    style.require(count >= 1, f"count: {count}, expected at least 1")
    mistakes = np.flatnonzero(shares.argmax(axis=1) != truth)
    return mistakes[np.argsort(-shares[mistakes].max(axis=1), kind="stable")][:count]


def worst_mistakes(
    images: ArrayLike,
    labels: ArrayLike,
    predictions: ArrayLike,
    probabilities: ArrayLike,
    classes: Sequence[str],
    *,
    title: str | None = None,
) -> Figure:
    """Misclassified images, each above its true class, the predicted one and the probability of that.

    images: (M, *image), those to show in the order to show them in, such as `most_confident_mistakes` finds, or none.
    labels, predictions: (M,). probabilities: (M,), that of the predicted class.
    Raises ValueError if the images are feature vectors, shapes disagree, a label has no class, a probability is NaN or
    outside 0–1, or one was classified correctly.
    """
    pictures = np.asarray(images)
    _require_image("images", pictures.shape[1:])
    count = len(pictures)
    truth = style.labels("labels", labels, (count,), len(classes))
    predicted = style.labels("predictions", predictions, (count,), len(classes))
    right = np.flatnonzero(truth == predicted)
    style.require(right.size == 0, f"predictions: {right.size} of {count} equal their label, expected mistakes alone")
    shares = style.fractions("probabilities", probabilities, (count,))

    note = "✓ its true class; ✗ the class predicted, and the probability that the classifier gave to it.\n"
    note += "The most confident first, row by row."
    if count == 0:
        note = "There is none to show: every example was classified correctly."
    mistakes = "mistake" if count == 1 else f"{count} mistakes"
    heading = title or (f"The {mistakes} made with the highest probability" if count else "No mistake")
    names, guesses = style.short_names(classes, 20), style.short_names(classes, 13)
    captions = [
        [(f"✓ {names[true]}", _RIGHT), (f"✗ {guesses[guess]}, {style.percent(share)}", _WRONG)]
        for true, guess, share in zip(truth, predicted, shares, strict=True)
    ]
    return _grid(_displayable(pictures, in_colour=pictures.shape[3:] == (3,)), captions, 6, 0.7, heading, note)


# Pages of small images, laid out in inches. With everything placed by hand nothing can overlap, and a hundred images
# take one axes instead of a hundred (which would take seconds to lay out).


def _grid(
    images: np.ndarray,
    captions: Sequence[Sequence[tuple[str, str]]],
    columns: int,
    space: float,
    heading: str,
    note: str,
    cmap: str = "gray",
) -> Figure:
    """Images row by row, `space` inches between them, each above the (text, colour) of the lines of its caption."""
    columns, step = min(max(len(images), 1), columns), _TILE + space
    row_height = _TILE + 0.2 + 0.15 * max(map(len, captions), default=0)
    figure, axes, left = _page(columns * step, math.ceil(len(images) / columns) * row_height, heading, note)
    for i, (image, lines) in enumerate(zip(images, captions, strict=True)):
        x, y = left + space / 2 + (i % columns) * step, (i // columns) * row_height
        _draw_image(axes, image, x, y, cmap=cmap)
        for j, (text, color) in enumerate(lines):
            _caption(axes, x, y + 0.15 * j, text, color)
    return style.finished(figure)


def _page(width: float, height: float, heading: str, note: str) -> tuple[Figure, Axes, float]:
    """A page with axes in inches, the heading above y = 0, the content `height` below; and where its left edge is."""
    from matplotlib.figure import Figure

    page = max(width + 0.4, 6.4)
    head, notes = style.wrapped(heading, page - 0.4, style.TITLE), style.wrapped(note, page - 0.4, style.SMALL)
    top = 0.15 + 0.22 * len(head) + 0.15 * len(notes) + 0.2
    figure = Figure(figsize=(page, top + height + 0.1))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, page)
    axes.set_ylim(height + 0.1, -top)
    axes.set_title("\n".join(head), fontsize=style.TITLE, y=1 - 0.12 / figure.get_figheight(), va="top", pad=0)
    grey: dict[str, Any] = {"fontsize": style.SMALL, "color": style.FAINT}
    axes.text(page / 2, 0.15 + 0.22 * len(head) - top, "\n".join(notes), ha="center", va="top", **grey)
    return figure, axes, (page - width) / 2


def _draw_image(
    axes: Axes, image: np.ndarray, x: float, y: float, *, frame: str = "", line: str = "-", cmap: str = "gray"
) -> None:
    """An image with values in 0–1, in the middle of the tile whose upper left corner is (x, y), framed in a colour."""
    from matplotlib.patches import Rectangle

    pixels = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    scale = _TILE / max(pixels.shape[:2])
    height, width = scale * pixels.shape[0], scale * pixels.shape[1]
    x, y = x + (_TILE - width) / 2, y + (_TILE - height) / 2
    extent = (x, x + width, y + height, y)
    axes.imshow(pixels, cmap=cmap, vmin=0, vmax=1, extent=extent, aspect="auto", interpolation="nearest")
    if frame:
        axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=frame, linestyle=line, linewidth=2.5))


def _caption(axes: Axes, x: float, y: float, text: str, color: str = "black") -> None:
    """Below the tile whose upper left corner is (x, y)."""
    axes.text(x + _TILE / 2, y + _TILE + 0.06, text, color=color, fontsize=style.SMALL, ha="center", va="top")


def _displayable(images: np.ndarray, *, in_colour: bool) -> np.ndarray:
    """Pixels in 0–1: colour bytes by 255, colour floats in 0–1 as they are, all else from their minimum to maximum."""
    values = images.astype(float)
    low, high = values.min(initial=np.inf), values.max(initial=-np.inf)
    if in_colour and images.dtype == np.uint8:
        return values / 255
    if in_colour and low >= 0 and high <= 1:
        return values
    return (values - low) / (high - low if high > low else 1.0)


def _distance(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"


def _require_image(argument: str, shape: tuple[int, ...]) -> None:
    accepted = "(H, W), (H, W, 1) or (H, W, 3); feature vectors cannot be shown"
    style.require(is_image_shape(shape), f"{argument}: {shape} is not the shape of an image, expected {accepted}")
