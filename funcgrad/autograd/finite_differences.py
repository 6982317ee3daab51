"""Derivatives against finite differences, to any order."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from funcgrad.autograd import pytrees
from funcgrad.autograd.transforms import jvp, vjp

Function = Callable[..., Any]


def check_grads(
    fun: Function,
    args: Sequence[Any],
    order: int,
    modes: Sequence[str] = ("fwd", "rev"),
    atol: float = 1e-5,
    rtol: float = 1e-5,
    eps: float = 1e-5,
) -> None:
    """Raises AssertionError where a derivative of fun at args, up to this order, is far from a central difference.

    As `jax.test_util.check_grads`: forward mode is compared in one direction with (fun(x + eps·v) - fun(x - eps·v)) /
    2eps, reverse mode with forward differences through the product of a cotangent and that, and then the derivative
    itself is checked as a function, `order` times. Raises ValueError for another mode than "fwd" and "rev".

    >>> from funcgrad import autograd as ag
    >>> ag.check_grads(lambda x: x**3, (2.0,), order=2)
    """
    modes = (modes,) if isinstance(modes, str) else tuple(modes)
    if not set(modes) <= {"fwd", "rev"}:
        raise ValueError(f"check_grads: modes are 'fwd' and 'rev', got {modes}")
    numbers = random.Random(0)
    args = tuple(args)
    direction = pytrees.map_leaves(lambda _: numbers.gauss(0.0, 1.0), args)
    step = lambda sign: pytrees.map_leaves(lambda x, v: x + sign * eps * v, args, direction)  # noqa: E731
    above, below = fun(*step(1.0)), fun(*step(-1.0))
    slope = pytrees.map_leaves(lambda x, y: (x - y) / (2 * eps), above, below)
    if "fwd" in modes:
        _, tangent = jvp(fun, args, direction)
        pytrees.map_leaves(lambda x, y: _close("jvp", fun, x, y, atol, rtol), tangent, slope)
    if "rev" in modes:
        value, pull = vjp(fun, *args)
        weights = pytrees.map_leaves(lambda _: numbers.gauss(0.0, 1.0), value)
        ours = _inner(pull(weights), direction)
        _close("vjp", fun, ours, _inner(weights, slope), atol, rtol)
    if order > 1:
        # A difference of differences loses digits, so each order is the check of a derivative as a function of its own.
        looser = {"atol": 10 * atol, "rtol": 10 * rtol, "eps": eps}
        if "fwd" in modes:
            check_grads(lambda *xs: jvp(fun, xs, direction)[1], args, order - 1, modes, **looser)
        if "rev" in modes:
            check_grads(lambda *xs: vjp(fun, *xs)[1](weights), args, order - 1, modes, **looser)


def _inner(xs: Any, ys: Any) -> float:
    return sum(x * y for x, y in zip(pytrees.flatten(xs)[0], pytrees.flatten(ys)[0], strict=True))


def _close(what: str, fun: Function, ours: float, difference: float, atol: float, rtol: float) -> None:
    if not abs(ours - difference) <= atol + rtol * abs(difference):
        name = getattr(fun, "__name__", "the function")
        raise AssertionError(f"{what} of {name} is {ours!r}, a central difference gives {difference!r}")
