"""From the text of an option to its value: whole numbers, numbers, and lists or ranges of numbers.

What is refused is an `argparse.ArgumentTypeError` that says what is accepted.
"""

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path


def integer(least: int) -> Callable[[str], int]:
    """A whole number of at least `least`."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,18}", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"needs a whole number from {least} up, below 10**18, got {text!r}")
        return int(text)

    return parse


def number(least: float, most: float = math.inf, *, exclusive: bool = False) -> Callable[[str], float]:
    """A finite number from `least` to `most`, or between them."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        inside = least < value < most if exclusive else least <= value <= most
        if not inside or math.isinf(value):
            bounds = f"{'above' if exclusive else 'of at least'} {least:g}"
            if not math.isinf(most):
                bounds += f" and {'below' if exclusive else 'at most'} {most:g}"
            raise argparse.ArgumentTypeError(f"needs a number {bounds}, got {text!r}")
        return value

    return parse


def file_path(text: str) -> Path:
    """The path of a file to write."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"needs a file name, got {text!r}")
    return Path(text)


def numbers(*, positive: bool = False) -> Callable[[str], tuple[float, ...]]:
    """Numbers from a value, a list "0,1e-4", or a range: "1e-5:1e-1:log16", "0:1:lin5"."""

    def parse(text: str) -> tuple[float, ...]:
        try:
            if (found := re.fullmatch(r"([^:]+):([^:]+):(log|lin)(\d+)", text)) is None:
                values = [float(part) for part in text.split(",")]
            else:
                values = _range(float(found[1]), float(found[2]), int(found[4]), logarithmic=found[3] == "log")
            if not all(0 <= value < math.inf for value in values) or (positive and 0 in values):
                raise ValueError
        except ValueError:
            bounds = "above 0" if positive else "from 0 up"
            forms = "a number, a list (1e-3,1e-2) or a range (1e-5:1e-1:log16, 0.1:0.5:lin5)"
            raise argparse.ArgumentTypeError(f"needs {forms}, all {bounds}, got {text!r}") from None
        if len(set(values)) < len(values):
            raise argparse.ArgumentTypeError(f"needs each value once, got {text!r}")
        return tuple(values)

    return parse


def distributed(text: str) -> tuple[str | int, ...]:
    """The arguments of `sharding.start`, of which "auto" needs none."""
    if (found := re.fullmatch(r"auto|(.+),(\d+),(\d+)", text)) is None:
        raise argparse.ArgumentTypeError(f"needs HOST:PORT,PROCESSES,NUMBER or auto, got {text!r}")
    return (found[1], int(found[2]), int(found[3])) if found[1] else ()


def _range(first: float, last: float, count: int, *, logarithmic: bool) -> list[float]:
    """`count` ≥ 2 numbers from first to last, those between rounded to six digits. Raises `ValueError`."""
    if count < 2:
        raise ValueError
    start, stop = (math.log(first), math.log(last)) if logarithmic else (first, last)
    inner = [start + (stop - start) * i / (count - 1) for i in range(1, count - 1)]
    return [first, *(float(f"{math.exp(x) if logarithmic else x:.6g}") for x in inner), last]
