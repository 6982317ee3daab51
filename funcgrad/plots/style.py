"""What all figures share: type sizes and colours, a page with its title and legend, checks of arguments, numbers."""

from __future__ import annotations

import functools
import os
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from funcgrad.files import replacing, shown

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

TITLE, TEXT, SMALL = 12.0, 9.0, 8.0  # points
FINITE = float(np.finfo(float).max)
FAINT = "#666666"
MARKERS = "osD^vPX*"
LINES = ("-", "--", ":", "-.")
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


def colored(i: int, others: Sequence[str]) -> tuple[str, str]:
    """The look of the i-th series: its colour, and the next of the others whenever the colours begin again."""
    rounds, number = divmod(i, len(COLORS))
    return COLORS[number], others[rounds % len(others)]


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
    axis.set_major_formatter(lambda share, _: f"{round(100 * share, 6):g} %")


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
    """At most `lines` lines of `width` characters: as they can be drawn, with … in the middle for what is left out.

    >>> short("a long-tailed tit", 10)
    'a lon… tit'
    """
    text = drawable(str(name))
    parts = textwrap.wrap(text, width)
    if len(parts) > lines:
        kept = width * lines - 1
        text = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
        parts = [text[start : start + width] for start in range(0, len(text), width)]
    return _literal("\n".join(parts))


def short_names(names: Sequence[object], width: int, lines: int = 1) -> list[str]:
    """Each name as `short` has it, after its number where two of them would be the same."""
    texts = [short(name, width, lines) for name in names]
    counts = Counter(texts)
    return [
        text if counts[text] == 1 else short(f"{i}: {name}", width, lines)
        for i, (name, text) in enumerate(zip(names, texts, strict=True))
    ]


def wrapped(text: str, inches: float, points: float) -> list[str]:
    width = max(20, int(inches * 72 / (0.53 * points)))  # 0.53: DejaVu Sans is about half as wide as it is high
    return [part for line in text.splitlines() for part in textwrap.wrap(_literal(drawable(line)), width)]


def drawable(text: str) -> str:
    """The text with escapes in place of what is no printable character, and of what no installed font can draw."""
    text = shown(text)
    fonts = [_characters(path) for path in _fonts(frozenset(text) - _characters(_default_font())).values()]
    can_draw = _characters(_default_font()).union(*fonts)
    return "".join(c if c in can_draw else c.encode("unicode_escape").decode() for c in text)


def finished(figure: Figure) -> Figure:
    """The figure, its texts in a font that has their characters."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if others := frozenset(text.get_text()) - _characters(_default_font()) - {"\n"}:
            text.set_fontfamily(["DejaVu Sans", *_fonts(others)])
    return figure


@functools.cache
def _default_font() -> str:
    from matplotlib import font_manager

    return font_manager.findfont("DejaVu Sans")  # which comes with Matplotlib


@functools.cache
def _characters(font: str) -> frozenset[str]:
    from matplotlib import font_manager

    return frozenset(map(chr, font_manager.get_font(font).get_charmap()))


@functools.cache
def _fonts(characters: frozenset[str]) -> dict[str, str]:
    """Installed fonts that together have as many of the characters as can be had: their families and files."""
    from matplotlib import font_manager

    found: dict[str, str] = {}
    for font in sorted(font_manager.fontManager.ttflist, key=lambda font: (font.style, font.weight != 400, font.name)):
        if not characters:
            break
        if "emoji" in font.name.lower() or "last resort" in font.name.lower():  # in colour, or of boxes
            continue
        if characters & _characters(font.fname):
            found[font.name] = font.fname
            characters -= _characters(font.fname)
    return found


def _literal(text: str) -> str:
    """Escapes every `$` that is not yet: a dollar in a name is no formula (and would be a syntax error)."""
    return re.sub(r"(?<!\\)\$", r"\\$", text)
