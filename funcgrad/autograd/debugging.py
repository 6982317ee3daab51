"""Where a nan or an infinity came from: the first equation that has one, and the line of the user that computed it."""

import linecache
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from funcgrad.autograd import jit_cache, tracing, transforms
from funcgrad.autograd.graph import apply_rules
from funcgrad.autograd.tracing import Trace, Traced, concrete

_HERE = str(Path(__file__).parent)


@contextmanager
def debug_nans(on: bool = True) -> Iterator[None]:
    """Inside, the first equation whose value or derivative is nan or infinite raises FloatingPointError.

    The error names it, its arguments, and the line of source that it comes from. Compiled functions run uncompiled for
    that, equation by equation. As `jax.debug_nans` (which leaves infinities to `jax.debug_infs`).

    >>> from funcgrad import autograd as ag
    >>> with ag.debug_nans():
    ...     ag.grad(lambda x: 2.0 * ag.ops.log(x))(0.0)
    Traceback (most recent call last):
    FloatingPointError: log(0.0) is -inf, ...
    """
    with tracing.recording_equations_in(_Checked if on else list), Trace(plain=True), jit_cache.uncompiled(on):
        yield


class _Checked(list[Any]):
    """Equations that are checked as they are recorded; `lines` has the line of source of each."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def append(self, equation: Any) -> None:
        primitive, inputs, output = equation
        self.lines.append(_line_of_user())
        super().append(equation)
        for x in output if isinstance(output, tuple) else (output,):
            if _is_bad(x):
                raise FloatingPointError(f"{_call(primitive, inputs)} is {concrete(x)!r}, {self.lines[-1]}")

    def check_tangents(self, table: Sequence[Any]) -> None:
        """Raises for the first equation, forwards, whose result has a tangent that is nan or infinite."""
        for (primitive, inputs, output), line in zip(self, self.lines, strict=True):
            for x in output if isinstance(output, tuple) else (output,):
                if _is_bad(table[x.index]):
                    self._raise(primitive, inputs, table[x.index], line)

    def check_cotangents(self, table: Sequence[Any]) -> None:
        """Raises for the first equation, backwards, that sends a cotangent that is nan or infinite."""
        for (primitive, inputs, output), line in zip(reversed(self), reversed(self.lines), strict=True):
            own = output if isinstance(output, tuple) else (output,)
            given = [table[x.index] for x in own]
            if given.count(None) == len(given):
                continue
            if isinstance(output, tuple):
                parts = primitive.pull(given)
            else:
                trace = output.trace
                values = [x.value if isinstance(x, Traced) and x.trace is trace else x for x in inputs]
                parts = apply_rules(primitive.reverse, given[0], output.value, *values)
            for x, part in zip(inputs, parts, strict=True):
                if _is_bad(part) and isinstance(x, Traced) and x.trace is own[0].trace:
                    self._raise(primitive, inputs, part, line)

    def _raise(self, primitive: Any, inputs: Sequence[Any], found: Any, line: str) -> None:
        raise FloatingPointError(f"the derivative of {_call(primitive, inputs)} gives {concrete(found)!r}, {line}")


def _is_bad(x: Any) -> bool:
    x = concrete(x)
    return type(x) is float and not math.isfinite(x)


def _call(primitive: Any, inputs: Sequence[Any]) -> str:
    return f"{primitive.name}({', '.join([repr(concrete(x)) for x in inputs])})"


def _line_of_user() -> str:
    """The innermost line that is not of this package, "at file.py:12: y = ops.log(x)".

    What a walk over equations computes, forwards or backwards, comes from the line of the equation that it is at.
    """
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith((_HERE, "<compiled")):
        at = frame.f_locals if frame.f_code.co_filename == transforms.__file__ else {}
        if {"trace", "primitive", "inputs", "output"} <= {*at}:
            number = next(i for i, (_, _, output) in enumerate(at["trace"].equations) if output is at["output"])
            call = _call(at["primitive"], at["inputs"])
            return f"in the derivative of {call}, {at['trace'].equations.lines[number]}"
        frame = frame.f_back
    file, line = frame.f_code.co_filename, frame.f_lineno
    return f"at {file}:{line}: {linecache.getline(file, line).strip()}".rstrip(": ")
