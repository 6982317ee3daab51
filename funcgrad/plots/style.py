"""What all figures share: type sizes and colours, a page with its title and legend, checks of arguments, numbers."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from funcgrad.files import replacing

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

TITLE, TEXT, SMALL = 12.0, 9.0, 8.0  # points
FINITE = float(np.finfo(float).max)
FAINT = "#666666"
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Writes the figure as a PNG, 120 dots an inch; `path` holds the old picture or the whole new one, never a part.

    Raises ValueError if `path` does not end in .png, OSError if it cannot be written.
    """
    path = Path(path)
    require(path.suffix.lower() == ".png", f"path: {str(path)!r}, expected a name that ends in .png")
    with replacing(path) as temporary_path:
        figure.savefig(temporary_path, format="png", dpi=120)


def require(condition: bool | np.bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def checked(
    argument: str,
    values: ArrayLike,
    shape: Sequence[int | str],
    low: float = -np.inf,
    high: float = np.inf,
    *,
    expected: str = "",
    nan: bool = False,
    whole: bool = False,
) -> np.ndarray:
    """The values as an array of this shape, in which a word stands for any length of at least 1.

    Raises ValueError if one is outside low–high, is NaN unless `nan`, or fractional where they are to be `whole`.
    """
    array = np.asarray(values, float)
    lengths = zip(array.shape, shape, strict=False)
    fits = array.ndim == len(shape) and all(n > 0 if isinstance(given, str) else n == given for n, given in lengths)
    expected_shape = str(tuple(shape)).replace("'", "")
    require(fits, f"{argument}: shape {array.shape}, expected {expected_shape}")
    valid = (array >= low) & (array <= high) & (not whole or array == np.round(array)) | (nan & np.isnan(array))
    for wrong in array[~valid][:1]:
        raise ValueError(f"{argument}: holds {wrong:g}, expected {expected}")
    return array.astype(int) if whole else array


def fractions(argument: str, values: ArrayLike, shape: Sequence[int | str], *, nan: bool = False) -> np.ndarray:
    most = 1 + 1e-6  # a float32 mean of ones may be a little more than 1
    return checked(argument, values, shape, 0, most, expected="fractions (0.5, not 50)", nan=nan)


def labels(argument: str, values: ArrayLike, shape: Sequence[int | str], classes: int) -> np.ndarray:
    return checked(argument, values, shape, 0, classes - 1, expected=f"labels of 0–{classes - 1}", whole=True)


def new_figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)  # inches: no label at the very edge
    return figure


def set_title(figure: Figure, *lines: str) -> None:
    width = figure.get_figwidth()
    figure.suptitle("\n".join(wrapped("\n".join(lines), width, TITLE)), fontsize=TITLE)


def add_legend(figure: Figure, handles: Sequence[Any]) -> None:
    """Below the axes, where it covers no data, in as many columns (up to four) as the longest label leaves room for."""
    longest = max(len(handle.get_label()) for handle in handles) + 8  # the line before the label, the space after it
    room = figure.get_figwidth() * 72 / (0.53 * TEXT)
    columns = min(4, max(1, int(room / longest)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=TEXT)


def percent_ticks(axis: Axis) -> None:
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))


def percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def number(value: float) -> str:
    """A setting as a short text: integers unchanged, others to three digits, small ones as powers of ten.

    >>> [number(value) for value in (0, 12, 0.05, 1e-4, 0.00268)]
    ['0', '12', '0.05', '1e-4', '2.68e-3']
    """
    rounded = float(value) if abs(value) >= 1000 else float(f"{value:.3g}")
    if rounded == 0 or 0.01 <= abs(rounded) < 1e6:
        return f"{rounded:.0f}" if abs(rounded) >= 1000 else f"{rounded:g}"
    digits, exponent = f"{value:.2e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def short(name: object, width: int, lines: int = 1) -> str:
    """At most `lines` lines of `width` characters, with … for what is left out."""
    parts = textwrap.wrap(str(name), width)
    if len(parts) > lines:
        parts[lines - 1 :] = [f"{parts[lines - 1][: width - 1].rstrip()}…"]
    return _literal("\n".join(parts))


def wrapped(text: str, inches: float, points: float) -> list[str]:
    width = max(20, int(inches * 72 / (0.53 * points)))  # 0.53: DejaVu Sans is about half as wide as it is high
    return [part for line in text.splitlines() for part in textwrap.wrap(_literal(line), width)]


def _literal(text: str) -> str:
    """Escapes every `$` that is not yet: a dollar in a name is no formula (and would be a syntax error)."""
    return re.sub(r"(?<!\\)\$", r"\\$", text)
