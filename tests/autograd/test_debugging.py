"""`debug_nans` names the first equation whose value or derivative is nan or infinite, and the line it comes from."""

import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcgrad import autograd as ag
from funcgrad.autograd import ops


def root(x: Any) -> Any:
    y = ops.sqrt(x)  # the line that is named
    return y * 2.0


def named(line: str) -> str:
    """The place of a line of this file, as the error has it."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    number = next(i for i, text in enumerate(lines, 1) if text.strip().startswith(line))
    return f"at {__file__}:{number}: {line}"


PLACE = named("y = ops.sqrt(x)")


@pytest.mark.parametrize(
    ("run", "what"),
    [
        (lambda: ag.grad(root)(0.0), "the derivative of sqrt(0.0) gives inf"),
        (lambda: ag.jvp(root, (0.0,), (1.0,)), "the derivative of sqrt(0.0) gives inf"),
        (lambda: ag.grad(root)(-1.0), "sqrt(-1.0) is nan"),
        (lambda: ag.jit(root)(-1.0), "sqrt(-1.0) is nan"),
        (lambda: ag.jit(ag.grad(root))(0.0), "div(0.5, 0.0) is inf, in the derivative of sqrt(0.0)"),
        (lambda: ag.hessian(root)(0.0), "in the derivative of sqrt(0.0)"),
        (lambda: ag.vmap(root)(np.array([1.0, -1.0])), "sqrt(-1.0) is nan"),
    ],
)
def test_the_equation_and_its_line_are_named(run: Callable[[], Any], what: str) -> None:
    with ag.debug_nans(), pytest.raises(FloatingPointError) as error:
        run()
    assert what in str(error.value)
    assert PLACE in str(error.value)
    assert "\n" not in str(error.value)


def test_finite_numbers_pass_and_outside_nothing_changes() -> None:
    compiled = ag.jit(ag.grad(root))
    assert compiled(4.0) == 0.5
    with ag.debug_nans():
        assert compiled(4.0) == ag.grad(root)(4.0) == 0.5
        with pytest.raises(FloatingPointError):
            compiled(0.0)
        with ag.debug_nans(False):
            assert compiled(0.0) == np.inf
        with ThreadPoolExecutor(1) as pool:  # as in JAX, it holds for this thread
            assert pool.submit(ag.grad(root), 0.0).result() == np.inf
    assert compiled(0.0) == np.inf
    source = inspect.getsource(root)
    assert "sqrt" in source
    assert compiled.source


def test_the_first_of_several_is_named() -> None:
    def f(x: Any) -> Any:
        small = ops.exp(-x)
        large = 1.0 / ops.expm1(x - x)
        return ops.log(small - small) * large

    with ag.debug_nans(), pytest.raises(FloatingPointError, match=r"div\(1.0, 0.0\) is inf, at .*large = 1.0"):
        ag.grad(f)(1.0)
