"""Derivatives against finite differences, to any order."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from funcgrad.autograd import pytrees
from funcgrad.autograd.transforms import jvp, vjp

Function = Callable[..., Any]
_TRANSFORMS = {"fwd": "jvp", "rev": "vjp"}


def check_grads(
    fun: Function,
    args: Sequence[Any],
    order: int,
    modes: Sequence[str] = ("fwd", "rev"),
    atol: float | None = None,
    rtol: float | None = None,
    eps: float | None = None,
) -> None:
    """Raises AssertionError where a derivative of fun at args, up to this order, is far from a central difference.

    As `jax.test_util.check_grads`: in a random direction v, forward mode is compared with the central difference
    (fun(x + eps·v) - fun(x - eps·v)) / 2eps, and reverse mode with the product of a random cotangent and this; both
    must return the function's value, too. Then the derivative itself is checked as a function, `order` times. `atol`,
    `rtol` and `eps` are 1e-5 where they are None.

    At a kink the central difference is the mean of both slopes, so that a function is right there only if its
    derivative is this mean. Raises ValueError for another mode than "fwd" and "rev", and TypeError for an argument that
    is not a float, in containers. atol, rtol and eps are 1e-5 where they are not given.

    >>> from funcgrad import autograd as ag
    >>> ag.check_grads(lambda x: x**3, (2.0,), order=2)
    """
    modes = (modes,) if isinstance(modes, str) else tuple(modes)
    if not set(modes) <= _TRANSFORMS.keys():
        raise ValueError(f"check_grads: modes are 'fwd' and 'rev', got {modes}")
    atol, rtol, eps = (1e-5 if x is None else x for x in (atol, rtol, eps))
    _check(getattr(fun, "__name__", "the function"), fun, tuple(args), order, modes, (atol, rtol), eps)


def _check(
    name: str, fun: Function, args: Any, order: int, modes: Sequence[str], tolerances: tuple[float, float], eps: float
) -> None:
    numbers = random.Random(0)
    direction = pytrees.map_leaves(lambda _: numbers.gauss(0.0, 1.0), args)
    step = lambda sign: pytrees.map_leaves(lambda x, v: x + sign * eps * v, args, direction)  # noqa: E731
    value, above, below = fun(*args), fun(*step(1.0)), fun(*step(-1.0))
    slope = pytrees.map_leaves(lambda x, y: (x - y) / (2 * eps), above, below)
    weights = pytrees.map_leaves(lambda _: numbers.gauss(0.0, 1.0), value)
    derivatives: list[tuple[str, Function]] = []
    for mode in sorted(modes):
        title = f"the {_TRANSFORMS[mode]} of {name}"
        if mode == "fwd":
            returned, found = jvp(fun, args, direction)
            expected = slope
            derivatives.append((title, lambda *xs: jvp(fun, xs, direction)[1]))
        else:
            returned, pull = vjp(fun, *args)
            found, expected = _inner(pull(weights), direction), _inner(weights, slope)
            derivatives.append((title, lambda *xs: vjp(fun, *xs)[1](weights)))
        _compare(f"the value in {title}", returned, "the function", value, tolerances)
        _compare(title, found, "a central difference", expected, tolerances)
    if order > 1:
        # The error of a central difference, eps²/6 times the third derivative, tends to grow with each derivative.
        looser = (10 * tolerances[0], 10 * tolerances[1])
        for title, derivative in derivatives:
            _check(title, derivative, args, order - 1, modes, looser, eps)


def _inner(xs: Any, ys: Any) -> float:
    return sum(x * y for x, y in zip(pytrees.flatten(xs)[0], pytrees.flatten(ys)[0], strict=True))


def _compare(what: str, ours: Any, source: str, expected: Any, tolerances: tuple[float, float]) -> None:
    atol, rtol = tolerances
    for x, y in zip(pytrees.flatten(ours)[0], pytrees.flatten(expected)[0], strict=True):
        if not abs(x - y) <= atol + rtol * abs(y):
            raise AssertionError(f"{what} is {x!r}, {source} gives {y!r}")
