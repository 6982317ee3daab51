"""Sheets of images, from plain arrays: neighbours of queries, the worst mistakes, templates of a linear classifier.

`funcgrad.plots` offers them beside its curves, under the same rules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from funcgrad.plots.style import FAINT, SMALL, TEXT, TITLE, fractions, percent, require, short, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_RIGHT, _WRONG = "#009E73", "#D55E00"
_TILE = 1.0  # inches: the longer side of an image on a sheet


def is_image_shape(shape: Sequence[int]) -> bool:
    """Whether one example of this shape can be shown as a picture: (H, W), (H, W, 1) or (H, W, 3)."""
    return len(shape) in (2, 3) and min(shape) > 0 and (len(shape) == 2 or shape[2] in (1, 3))


def templates(weights: ArrayLike, shape: Sequence[int], classes: Sequence[str], *, title: str | None = None) -> Figure:
    """The weights of a linear classifier as one image a class: what it adds up to make that class's score.

    weights: (D, C). shape: (H, W), (H, W, 1) or (H, W, 3) with H·W·channels = D. One channel is shown in red (raises
    the score) and blue (lowers it) with zero white; three channels as a colour picture, stretched from the template's
    minimum to its maximum, as CS231n does. Each class is scaled by itself.
    Raises ValueError if `shape` is no image, or does not fit the weights, or the classes do not.
    """
    array, shape = np.asarray(weights, float), tuple(shape)
    _require_image("shape", shape)
    fits = array.ndim == 2 and array.shape == (math.prod(shape), len(classes)) and array.size > 0
    expected = f"({math.prod(shape)}, {len(classes)}) for images of shape {shape} and {len(classes)} classes"
    require(fits, f"weights: shape {array.shape}, expected {expected}")

    images = np.moveaxis(array, 1, 0).reshape(len(classes), *shape)
    flat = images.reshape(len(classes), -1)
    each = (-1, *[1] * len(shape))
    if shape[2:] == (3,):
        low, high = flat.min(axis=1).reshape(each), flat.max(axis=1).reshape(each)
        images = (images - low) / np.where(high > low, high - low, 1.0)
        note = "The brighter a colour, the more of it raises the class's score; the darker, the more it lowers it.\n"
        note += "Each template is stretched from its own smallest weight to its largest."
    else:
        largest = np.abs(flat).max(axis=1).reshape(each)
        images = 0.5 + 0.5 * images / np.where(largest > 0, largest, 1.0)
        note = "Red: brightness here raises the class's score; blue: it lowers it; white: no effect.\n"
        note += "Each template is scaled by its own largest weight."

    count, columns = len(classes), min(len(classes), 5 if len(classes) <= 20 else 10)
    captions = [short(name, 16, lines=2) for name in classes]
    step, row_height = _TILE + 0.2, _TILE + (0.45 if any("\n" in caption for caption in captions) else 0.3)
    heading = title or f"Linear classifier: the learned weight templates of {count} classes"
    figure, axes, left = _sheet(columns * step - 0.2, math.ceil(count / columns) * row_height, heading, note)
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        at, y = left + (i % columns) * step, (i // columns) * row_height
        _draw_image(axes, image, at, y, cmap="RdBu_r")
        _caption(axes, at, y, caption)
    return figure


def neighbors_grid(
    query_images: ArrayLike,
    query_labels: ArrayLike,
    neighbor_images: ArrayLike,
    neighbor_labels: ArrayLike,
    distances: ArrayLike,
    predictions: ArrayLike,
    classes: Sequence[str],
    *,
    distance_label: str = "distance",
    title: str | None = None,
) -> Figure:
    """Each query with its nearest neighbours, the queries that were classified right above those that were not.

    query_images: (Q, *image), query_labels and predictions: (Q,), neighbor_images: (Q, k, *image), neighbor_labels and
    distances: (Q, k), nearest first. A neighbour of the query's true class has a solid green frame, any other a dashed
    red one. Raises ValueError if the images are none (feature vectors), shapes disagree or a label has no class.
    """
    queries, neighbors = np.asarray(query_images), np.asarray(neighbor_images)
    _require_image("query_images", queries.shape[1:])
    count = len(queries)
    fits = neighbors.ndim == queries.ndim + 1 and neighbors.shape[:1] + neighbors.shape[2:] == queries.shape
    require(count > 0, "query_images: none, expected at least one query")
    require(fits, f"neighbor_images: shape {neighbors.shape}, expected ({count}, k, *{queries.shape[1:]})")
    k = neighbors.shape[1]
    require(k > 0, "neighbor_images: no neighbours, expected k ≥ 1")
    truth = _labels("query_labels", query_labels, (count,), len(classes))
    predicted = _labels("predictions", predictions, (count,), len(classes))
    labels = _labels("neighbor_labels", neighbor_labels, (count, k), len(classes))
    lengths = np.asarray(distances, float)
    require(lengths.shape == (count, k), f"distances: shape {lengths.shape}, expected ({count}, {k})")

    # One brightness scale for all, or a query and its neighbour could not be compared by eye.
    shown = _displayable(np.concatenate([queries[:, None], neighbors], axis=1), queries.shape[1:])
    right = predicted == truth
    sections = [(rows, name) for rows, name in ((np.flatnonzero(right), "right"), (np.flatnonzero(~right), "wrong"))]
    sections = [(rows, name) for rows, name in sections if rows.size]
    label_width, gap, step, row_height, section_height = 2.1, 0.3, _TILE + 0.15, _TILE + 0.45, 0.45
    height = count * row_height + len(sections) * section_height
    width = label_width + gap + (k + 1) * step - 0.15
    heading = title or f"{count} queries and their {k} nearest neighbours: {right.sum()} right, {(~right).sum()} wrong"
    note = "Solid green frame: the neighbour is of the query's true class. Dashed red frame: it is of another.\n"
    note += f"Below each neighbour: its class and {distance_label}, nearest on the left."
    figure, axes, left = _sheet(width, height, heading, note)

    y = 0.0
    for rows, name in sections:
        color = _RIGHT if name == "right" else _WRONG
        y += section_height
        sign = "✓" if name == "right" else "✗"
        axes.plot([left, left + width], [y - 0.4, y - 0.4], color=color, linewidth=1)
        text = f"{sign} classified {name} ({len(rows)} of the {count} shown)"
        axes.text(left, y - 0.2, text, color=color, fontsize=TEXT, weight="bold", va="center")
        axes.text(left + label_width + _TILE / 2, y - 0.1, "query", fontsize=SMALL, ha="center", va="center")
        for row in rows:
            true, guess = (short(classes[label], 17) for label in (truth[row], predicted[row]))
            verdict = f"true: {true}\npredicted: {guess}\n{sign} {name}"
            axes.text(left, y + _TILE / 2, verdict, fontsize=TEXT, va="center", color=color)
            _draw_image(axes, shown[row, 0], left + label_width, y, frame="black")
            for j in range(k):
                at = left + label_width + gap + (j + 1) * step
                same = labels[row, j] == truth[row]
                frame, line = (_RIGHT, "-") if same else (_WRONG, "--")
                _draw_image(axes, shown[row, j + 1], at, y, frame=frame, line=line)
                caption = f"{short(classes[labels[row, j]], 16)}\n{_number(lengths[row, j])}"
                _caption(axes, at, y, caption, color=frame)
            y += row_height
    return figure


def most_confident_mistakes(labels: ArrayLike, probabilities: ArrayLike, count: int = 24) -> np.ndarray:
    """Which examples are wrong with the highest probability of the predicted class, the surest first → (≤ count,).

    labels: (N,) true classes. probabilities: (N, C), each example's; the class predicted is the most probable one.
    Ties go to the smaller index, and to the smaller class. There may be fewer mistakes than `count`, or none.
    Raises ValueError if shapes disagree, a label has no class, or a probability is NaN or outside 0–1.

    >>> most_confident_mistakes([0, 1, 1], [[0.4, 0.6], [0.1, 0.9], [0.8, 0.2]]).tolist()
    [2, 0]
    """
    shares = _probabilities("probabilities", probabilities)
    fits = shares.ndim == 2 and shares.shape[1] > 0
    require(fits, f"probabilities: shape {shares.shape}, expected (examples, classes)")
    truth = _labels("labels", labels, shares.shape[:1], shares.shape[1])
    require(count >= 1, f"count: {count}, expected at least 1")
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
    """Images that were classified wrongly, each above its true class, the predicted one and the probability of that.

    images: (M, *image), those to show in the order to show them in, such as `most_confident_mistakes` finds, or none.
    labels, predictions: (M,). probabilities: (M,), each of the class predicted.
    Raises ValueError if the images are feature vectors, shapes disagree, a label has no class, a probability is NaN or
    outside 0–1, or one was classified rightly.
    """
    pictures = np.asarray(images)
    _require_image("images", pictures.shape[1:])
    count = len(pictures)
    truth = _labels("labels", labels, (count,), len(classes))
    predicted = _labels("predictions", predictions, (count,), len(classes))
    right = np.flatnonzero(truth == predicted)
    require(right.size == 0, f"predictions: {right.size} of {count} equal their label, expected mistakes alone")
    shares = _probabilities("probabilities", probabilities)
    require(shares.shape == (count,), f"probabilities: shape {shares.shape}, expected ({count},)")

    shown = _displayable(pictures, pictures.shape[1:])
    columns = min(max(count, 1), 6)
    step, row_height = _TILE + 0.7, _TILE + 0.5
    note = "✓ its true class; ✗ the class it was taken for, and the probability that the classifier gave to that.\n"
    note += "The surest first, row by row."
    if count == 0:
        note = "There is none to show: every example was classified rightly."
    mistakes = "mistake" if count == 1 else f"{count} mistakes"
    heading = title or (f"The {mistakes} made with the highest probability" if count else "No mistake")
    figure, axes, left = _sheet(columns * step, math.ceil(count / columns) * row_height, heading, note)
    for i, image in enumerate(shown):
        at, y = left + 0.35 + (i % columns) * step, (i // columns) * row_height
        _draw_image(axes, image, at, y)
        _caption(axes, at, y, f"✓ {short(classes[truth[i]], 20)}", color=_RIGHT)
        _caption(axes, at, y + 0.15, f"✗ {short(classes[predicted[i]], 13)}, {percent(shares[i])}", color=_WRONG)
    return figure


# Sheets: pages of small images, laid out in inches. With everything placed by hand nothing can overlap, and a hundred
# images take one axes instead of a hundred (which would take seconds to lay out).


def _sheet(width: float, height: float, heading: str, note: str) -> tuple[Figure, Axes, float]:
    """A page with axes in inches, the heading above y = 0, the content `height` below; and where its left edge is."""
    from matplotlib.figure import Figure

    page = max(width + 0.4, 6.4)
    head, notes = wrapped(heading, page - 0.4, TITLE), wrapped(note, page - 0.4, SMALL)
    top = 0.15 + 0.22 * len(head) + 0.15 * len(notes) + 0.2
    figure = Figure(figsize=(page, top + height + 0.1))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, page)
    axes.set_ylim(height + 0.1, -top)
    axes.set_title("\n".join(head), fontsize=TITLE, y=1 - 0.12 / figure.get_figheight(), va="top", pad=0)
    grey: dict[str, Any] = {"fontsize": SMALL, "color": FAINT}
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
    axes.text(x + _TILE / 2, y + _TILE + 0.06, text, color=color, fontsize=SMALL, ha="center", va="top")


def _displayable(images: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Pixels in 0–1: colour bytes by 255, colour floats in 0–1 as they are, all else from its own least to its most."""
    colour = shape[2:] == (3,)
    values = images.astype(float)
    if values.size == 0:
        return values
    if colour and images.dtype == np.uint8:
        return values / 255
    low, high = float(values.min()), float(values.max())
    if colour and low >= 0 and high <= 1:
        return values
    return (values - low) / (high - low if high > low else 1.0)


def _number(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"


def _labels(argument: str, values: ArrayLike, shape: tuple[int, ...], classes: int) -> np.ndarray:
    array = np.asarray(values)
    require(array.shape == shape, f"{argument}: shape {array.shape}, expected {shape}")
    require(np.issubdtype(array.dtype, np.integer), f"{argument}: dtype {array.dtype}, expected integers")
    low, high = (array.min(), array.max()) if array.size else (0, classes - 1)
    require(bool(low >= 0 and high < classes), f"{argument}: holds {low}–{high}, expected 0–{classes - 1}")
    return array


def _probabilities(argument: str, values: ArrayLike) -> np.ndarray:
    array = fractions(argument, values)
    require(not np.isnan(array).any(), f"{argument}: holds NaN, expected fractions")
    return array


def _require_image(argument: str, shape: tuple[int, ...]) -> None:
    accepted = "(H, W), (H, W, 1) or (H, W, 3); feature vectors cannot be shown"
    require(is_image_shape(shape), f"{argument}: {shape} is not the shape of an image, expected {accepted}")
