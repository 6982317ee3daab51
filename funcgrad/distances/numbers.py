"""Single numbers that a caller gives, checked: each refusal names the argument, what is accepted and what came."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np


def whole_number(name: str, x: Any, lowest: int, highest: float = math.inf, of_what: str = "") -> int:
    """x as an int; raises `ValueError` unless it is an integer within these limits."""
    if isinstance(x, bool) or not isinstance(x, int | np.integer) or not lowest <= x <= highest:
        limits = f"from {lowest} up" if highest == math.inf else f"from {lowest} to {highest}"
        raise ValueError(f"{name}: needs an integer {limits}{f', {of_what};' if of_what else ','} got {x!r}")
    return int(x)


def real_number(name: str, x: Any, accepted: str, is_accepted: Callable[[float], bool]) -> float:
    """x as a float; raises `ValueError`, which says what is accepted, unless it is such a number."""
    try:
        number = math.nan if isinstance(x, bool | str | bytes) or np.ndim(x) else float(x)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isnan(number) or not is_accepted(number):
        raise ValueError(f"{name}: needs {accepted}, got {x!r}")
    return number
