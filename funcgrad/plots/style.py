"""What all pictures share: type sizes, a page with its title and legend, checks of arguments, words and numbers.

`funcgrad.plots`, `galleries` and `matrices` draw with it. Like them it imports matplotlib only when something is drawn.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE, TEXT, SMALL = 12.0, 9.0, 8.0  # points
FAINT = "#666666"


def fractions(argument: str, values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, float)
    outside = (array < 0) | (array > 1 + 1e-6)  # a float32 mean of ones may be a little more than 1
    require(not outside.any(), f"{argument}: holds a value outside 0–1, expected fractions (0.5, not 50)")
    return array


def percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


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


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def number(value: float) -> str:
    """A setting, in few characters: whole numbers as they are, others to three digits, small ones as powers of ten.

    >>> [number(value) for value in (0, 12, 0.05, 1e-4, 0.00268)]
    ['0', '12', '0.05', '1e-4', '2.68e-3']
    """
    rounded = float(value) if abs(value) >= 1000 else float(f"{value:.3g}")
    if rounded == 0 or 0.01 <= abs(rounded) < 1e6:
        return f"{rounded:.0f}" if abs(rounded) >= 1000 else f"{rounded:g}"
    digits, exponent = f"{value:.2e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def _literal(text: str) -> str:
    """With every `$` escaped that is not yet: a dollar in a name is no formula (and would be a syntax error)."""
    return re.sub(r"(?<!\\)\$", r"\\$", text)


def short(name: object, width: int, lines: int = 1) -> str:
    """At most `lines` lines of `width` characters, with … for what is left out."""
    parts = textwrap.wrap(str(name), width)
    if len(parts) > lines:
        parts[lines - 1 :] = [f"{parts[lines - 1][: width - 1].rstrip()}…"]
    return _literal("\n".join(parts))


def wrapped(text: str, inches: float, points: float) -> list[str]:
    width = max(20, int(inches * 72 / (0.53 * points)))  # 0.53: DejaVu Sans is about half as wide as it is high
    return [part for line in text.splitlines() for part in textwrap.wrap(_literal(line), width)]
