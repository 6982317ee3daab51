"""check_grads passes right derivatives of every order, and catches and names wrong ones, as jax.test_util does."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.test_util import check_grads as jax_check_grads

from funcgrad import autograd as ag
from funcgrad.autograd import ops

Function = Callable[..., Any]
MODES = (("fwd",), ("rev",), ("fwd", "rev"))


def check_by_jax(fun: Function, args: Sequence[Any], order: int, modes: Sequence[str] = ("fwd", "rev")) -> None:
    with jax.enable_x64(True):
        jax_check_grads(fun, jax.tree.map(jnp.float64, tuple(args)), order, modes)


# Functions that are right


def polynomial(x: Any) -> Any:
    return x**3 - 2.0 * x


def mixed(x: Any, y: Any) -> Any:
    return ops.sin(x * y) + ops.exp(-x) / y


def of_trees(p: dict[str, Any], xs: tuple[Any, list[Any]]) -> dict[str, Any]:
    x, (y, z) = xs
    return {"sum": p["w"] * x + y * z, "pair": (ops.tanh(p["b"] * y), z)}


RIGHT: list[tuple[Function, tuple[Any, ...]]] = [
    (polynomial, (1.5,)),
    (mixed, (0.7, 1.3)),
    (of_trees, ({"w": 0.5, "b": -0.3}, (1.2, [0.4, 2.0]))),
]


@pytest.mark.parametrize("modes", MODES)
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize(("fun", "args"), RIGHT)
def test_right_derivatives_pass(fun: Function, args: tuple[Any, ...], order: int, modes: tuple[str, ...]) -> None:
    ag.check_grads(fun, args, order, modes)


@pytest.mark.parametrize(("fun", "args"), RIGHT)
def test_they_pass_under_jax_too(fun: Function, args: tuple[Any, ...]) -> None:
    check_by_jax(fun, args, 2)


def test_right_custom_rules_pass() -> None:
    for make in (product_with_jvp, product_with_vjp):
        fun, modes = make(ag, lambda x, y, t: (ops.sin(x) * y, ops.cos(x) * y * t[0] + ops.sin(x) * t[1]))
        ag.check_grads(fun, (0.4, 1.7), 2, modes)


# Functions with a wrong rule

Rule = Callable[[Any, Any, tuple[Any, Any]], tuple[Any, Any]]  # (x, y, tangents) -> (value, tangent) of sin(x)·y


def product_with_jvp(system: Any, rule: Rule) -> tuple[Function, tuple[str, ...]]:
    @system.custom_jvp
    def product(x: Any, y: Any) -> Any:
        return ops.sin(x) * y

    product.defjvp(lambda primals, tangents: rule(*primals, tangents))
    return product, ("fwd", "rev")


def product_with_vjp(system: Any, rule: Rule) -> tuple[Function, tuple[str, ...]]:
    @system.custom_vjp
    def product(x: Any, y: Any) -> Any:
        return ops.sin(x) * y

    def forward(x: Any, y: Any) -> tuple[Any, tuple[Any, Any]]:
        return rule(x, y, (0.0 * x, 0.0 * y))[0], (x, y)

    def backward(residuals: tuple[Any, Any], ct: Any) -> tuple[Any, Any]:
        x, y = residuals
        return rule(x, y, (ct, 0.0 * ct))[1], rule(x, y, (0.0 * ct, ct))[1]

    product.defvjp(forward, backward)
    return product, ("rev",)


def constant(system: Any) -> Function:
    return ag.stop_gradient if system is ag else jax.lax.stop_gradient  # type: ignore[return-value]


def sin_times(system: Any, what: str) -> Rule:
    """The rule of sin(x)·y with one thing wrong."""
    fixed = constant(system) if what == "second derivative" else lambda x: x
    value = 1.01 if what == "value" else 1.0
    first = {"sign": -1.0, "factor": 1.01, "first argument": 1.01}.get(what, 1.0)
    second = {"sign": -1.0, "factor": 1.01, "second argument": 0.0}.get(what, 1.0)
    return lambda x, y, t: (
        value * (ops.sin(x) * y),
        first * (fixed(ops.cos(x)) * y * t[0]) + second * (ops.sin(x) * t[1]),
    )


ORDER_AT_WHICH_IT_SHOWS = {
    **dict.fromkeys(("value", "sign", "factor", "first argument", "second argument"), 1),
    "second derivative": 2,
}


@pytest.mark.parametrize("make", [product_with_jvp, product_with_vjp])
@pytest.mark.parametrize(("what", "order"), ORDER_AT_WHICH_IT_SHOWS.items())
def test_a_wrong_rule_is_caught_as_by_jax(make: Function, what: str, order: int) -> None:
    args = (0.4, 1.7)
    ours, modes = make(ag, sin_times(ag, what))
    theirs, _ = make(jax, sin_times(jax, what))
    for mode in modes:
        for lower in range(1, order):
            ag.check_grads(ours, args, lower, (mode,))
            check_by_jax(theirs, args, lower, (mode,))
        with pytest.raises(AssertionError, match="product"):
            ag.check_grads(ours, args, order, (mode,))
        with pytest.raises(AssertionError):
            check_by_jax(theirs, args, order, (mode,))


@pytest.mark.parametrize(
    ("what", "order", "mode", "message"),
    [
        ("value", 1, "fwd", "the value in the jvp of product is .*, the function gives "),
        ("value", 1, "rev", "the value in the vjp of product is .*, the function gives "),
        ("sign", 1, "fwd", "the jvp of product is .*, a central difference gives "),
        ("factor", 1, "rev", "the vjp of product is .*, a central difference gives "),
        ("second derivative", 2, "fwd", "the jvp of the jvp of product is .*, a central difference gives "),
        ("second derivative", 3, "rev", "the vjp of the vjp of product is .*, a central difference gives "),
    ],
)
def test_the_message_names_what_differs_and_both_numbers(what: str, order: int, mode: str, message: str) -> None:
    fun, _ = product_with_jvp(ag, sin_times(ag, what))
    with pytest.raises(AssertionError, match=f"^{message}") as caught:
        ag.check_grads(fun, (0.4, 1.7), order, (mode,))
    ours, expected = map(float, re.findall(r"-?\d[\d.e-]*", str(caught.value)))
    ratio = {"value": 1.01, "sign": -1.0, "factor": 1.01}.get(what)
    assert ours != pytest.approx(expected, rel=1e-3)
    assert ratio is None or ours == pytest.approx(ratio * expected, rel=1e-6)


def test_a_wrong_part_of_a_tree_is_caught() -> None:
    @ag.custom_jvp
    def fun(p: Any) -> Any:
        return {"a": p["x"] * p["y"], "b": [p["x"], p["y"] ** 2]}

    def rule(primals: Any, tangents: Any) -> Any:
        (p,), (t,) = primals, tangents
        return fun(p), {"a": p["x"] * t["y"] + t["x"] * p["y"], "b": [t["x"], p["y"] * t["y"]]}  # 2·y·t

    fun.defjvp(rule)
    for mode in ("fwd", "rev"):
        with pytest.raises(AssertionError, match="of fun is"):
            ag.check_grads(fun, ({"x": 1.3, "y": 0.7},), 1, (mode,))


# Arguments


def test_ints_are_refused() -> None:
    for args in ((3, 2.0), (True, 2.0), ({"n": 3}, 2.0)):
        for mode in ("fwd", "rev"):
            with pytest.raises(TypeError, match="requires real-valued"):
                ag.check_grads(lambda p, x: (p["n"] if isinstance(p, dict) else p) * x, args, 1, (mode,))


def test_modes_are_fwd_and_rev_alone_or_together() -> None:
    ag.check_grads(polynomial, (1.0,), 1, "fwd")
    with pytest.raises(ValueError, match=r"modes are 'fwd' and 'rev', got \('forward',\)"):
        ag.check_grads(polynomial, (1.0,), 1, ("forward",))
    fun, _ = product_with_vjp(ag, sin_times(ag, ""))
    with pytest.raises(TypeError, match="custom_vjp"):
        ag.check_grads(fun, (0.4, 1.7), 1)


def test_tolerances_and_the_step_are_those_given() -> None:
    fun, _ = product_with_jvp(ag, sin_times(ag, "factor"))
    ag.check_grads(fun, (0.4, 1.7), 1, rtol=0.02)
    ag.check_grads(fun, (0.4, 1.7), 1, atol=0.1)
    with pytest.raises(AssertionError):
        ag.check_grads(fun, (0.4, 1.7), 1, atol=0.0, rtol=0.009)
    with pytest.raises(AssertionError):  # the central difference of x³ has an error of eps²·v³
        ag.check_grads(lambda x: x**3, (1.0,), 1, eps=0.1)
    ag.check_grads(lambda x: x**3, (1.0,), 1, eps=1e-4)


@pytest.mark.parametrize("fun", [ops.abs, ops.relu, lambda x: x if x > 0.0 else 2.0 * x])
def test_a_kink_is_caught_where_the_derivative_is_one_sided_as_by_jax(fun: Function) -> None:
    for x in (0.3, -0.3):
        ag.check_grads(fun, (x,), 2)
    with pytest.raises(AssertionError):
        ag.check_grads(fun, (0.0,), 1)
    with pytest.raises(AssertionError):
        check_by_jax(fun, (0.0,), 1)


def test_a_derivative_that_is_the_mean_of_both_slopes_passes_at_a_kink() -> None:
    ag.check_grads(lambda x: ops.maximum(x, -x), (0.0,), 1)  # ties share the derivative: 0
    check_by_jax(lambda x: jnp.maximum(x, -x), (0.0,), 1)


def test_numbers_that_are_not_finite_are_never_right() -> None:
    for fun in (ops.log, ops.sqrt):
        with pytest.raises(AssertionError):
            ag.check_grads(fun, (0.0,), 1)


def test_none_is_the_default_tolerance_as_in_jax() -> None:
    ag.check_grads(lambda x: x**3, (2.0,), 2, atol=None, rtol=None, eps=None)
    with pytest.raises(AssertionError):
        ag.check_grads(lambda x: abs(x), (0.0 + 1e-9,), 1, atol=None)
