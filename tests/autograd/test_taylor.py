"""Taylor mode: the derivatives along a curve are those of jax.experimental.jet, and those of jvp in jvp."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.jet import jet as jax_jet

from funcgrad import autograd as ag
from funcgrad.autograd import ops
from funcgrad.gradcheck.error_model import spread, tolerances
from funcgrad.gradcheck.random_programs import FORMS, slots

CURVES = (
    (1.0, 0.3, -0.2, 0.5, 0.1, 0.7, -0.3, 0.2),
    (0.4, -0.6, 0.2, 0.1, -0.5, 0.3, 0.2, -0.1),
    (-0.3, 0.2, 0.5, -0.1, 0.2, 0.1, 0.4, 0.3),
)
ORDER = 8
INSIDE = (0.4, 0.7, 0.3)  # the domain of most functions
Function = Callable[..., Any]


def coefficients(fun: Function, at: Sequence[float], order: int = ORDER) -> list[float]:
    """Along the curves, as Taylor coefficients: JAX's own factorials are off by some ulp."""
    found: list[float] = ag.jet(fun, at, [curve[:order] for curve in CURVES[: len(at)]], factorial_scaled=False)[1]
    return found


def tolerance(fun: Function, at: Sequence[float], order: int = ORDER) -> Any:
    """gradcheck's: what they change when each primitive is perturbed by its own error."""
    graph = ag.make_graph(lambda *xs: coefficients(fun, xs, order))(*at)
    return tolerances(spread(graph, [np.array([x]) for x in at], 0).runs)[:, 0]


def assert_close(ours: Sequence[float], theirs: Sequence[Any], limits: Any) -> None:
    assert len(ours) == len(theirs) == len(limits)
    for order, (a, b, limit) in enumerate(zip(ours, theirs, limits, strict=True), 1):
        assert abs(a - float(b)) <= limit, (order, a, b, limit)


def nested(fun: Function, at: Sequence[float], order: int) -> list[float]:
    """The same coefficients by jvp in jvp in jvp …"""

    def along(s: Any) -> Any:
        return fun(*[sum((c * s**k for k, c in enumerate(curve, 1)), x) for x, curve in zip(at, CURVES, strict=False)])

    def differentiated(inner: Function) -> Function:
        return lambda s: ag.jvp(inner, (s,), (1.0,))[1]

    found, derivative = [], along
    for k in range(1, order + 1):
        derivative = differentiated(derivative)
        found.append(derivative(0.0) / math.factorial(k))
    return found


# Where a primitive is tried: the others inside (0, 1)
PLACES: dict[str, tuple[Any, ...]] = {
    **{"acosh": (1.7,), "lgamma": (1.7,), "gamma": (1.7,), "integer_pow": (0.4, 5), "label": (0.4, "x")},
    **{"polygamma": (2, 1.7), "bessel_i": (2, 1.7), "scaled_erfc": (1, 0.7)},
}
SMOOTH = [name for name, primitive in ag.TABLE.items() if primitive.smooth]


def primitive_call(name: str) -> tuple[Function, list[float]]:
    """A primitive as a function of its floats; conditions and integers are constants."""
    primitive = ag.TABLE[name]
    count = len(primitive.rules)
    place = PLACES.get(name, INSIDE[:count])
    if name == "select":
        return lambda x, y: primitive(True, x, y), [0.7, 0.3]
    floats = [i for i in range(count) if type(place[i]) is float]

    def call(*xs: Any) -> Any:
        given = dict(zip(floats, xs, strict=True))
        return primitive(*[given.get(i, place[i]) for i in range(count)])

    return call, [place[i] for i in floats]


@pytest.mark.parametrize("order", [4, pytest.param(ORDER, marks=pytest.mark.exhaustive)])
def test_every_primitive_is_as_its_nested_derivatives(order: int) -> None:
    for name in SMOOTH:
        call, at = primitive_call(name)
        assert_close(coefficients(call, at, order), nested(call, at, order), tolerance(call, at, order))


SOME = ("exp", "power", "tanh", "arctan2", "erf", "maximum", "max", "floor")


def compared_with_jax(name: str) -> int:
    """How many of the ways to call a function were compared: JAX's jet has no rule for some primitives."""
    compared = 0
    for form in FORMS[name]:
        count = slots(form)
        at = (1.7, 2.1, 0.6)[:count] if name in ("acosh", "arccosh") else INSIDE[:count]
        names = [f"x{i}" for i in range(count)]
        fun = eval(f"lambda {', '.join(names)}: {form.format(*names)}", {"ops": ops, "math": math})
        try:
            with jax.enable_x64(True):
                theirs = jax_jet(fun, at, [list(curve) for curve in CURVES[:count]], factorial_scaled=False)[1]
        # without a rule a KeyError, the others where a function with a custom rule is within a compiled one
        except (KeyError, AttributeError, jax.errors.UnexpectedTracerError):
            continue
        assert_close(coefficients(fun, at), theirs, tolerance(fun, at))
        compared += 1
    return compared


@pytest.mark.parametrize("name", SOME)
def test_functions_are_as_in_jax_to_order_eight(name: str) -> None:
    assert compared_with_jax(name) == len(FORMS[name])


@pytest.mark.exhaustive
def test_every_function_of_both_is_as_in_jax_to_order_eight() -> None:
    assert sum(map(compared_with_jax, FORMS)) >= 100


def test_results_are_nested_and_scaled_as_in_jax() -> None:
    def fun(x: Any, y: Any) -> Any:
        return {"power": x**y, "pair": [ops.sin(x * y), 2.0]}

    at, series = (1.3, 0.7), ((1.0, 0.0, 0.25), [0.5, 0.1, -1])
    value, derivatives = ag.jet(fun, at, series)
    with jax.enable_x64(True):
        their_value, theirs = jax_jet(fun, at, series)
    assert jax.tree.structure(derivatives) == jax.tree.structure(theirs)
    assert jax.tree.leaves(value) == pytest.approx([float(x) for x in jax.tree.leaves(their_value)], rel=1e-14)
    assert jax.tree.leaves(derivatives) == pytest.approx([float(x) for x in jax.tree.leaves(theirs)], rel=1e-13)
    assert derivatives["pair"][1] == [0.0, 0.0, 0.0]
    assert ag.jet(ops.sin, (0.5,), ((),)) == (math.sin(0.5), [])


def test_whole_numbers_have_zeros_and_jax_values_are_left_to_jax() -> None:
    assert ag.jet(lambda x: (x * x, 3, x > 0), (2.0,), ((1.0,),)) == ((4.0, 3, True), ([4.0], [0.0], [0.0]))
    value, derivatives = ag.jet(lambda x: x * x, (jnp.array([1.0, 2.0]),), ((jnp.ones(2), jnp.zeros(2)),))
    np.testing.assert_allclose([value, *derivatives], [[1.0, 4.0], [2.0, 4.0], [2.0, 2.0]], rtol=1e-6)


def test_derivatives_of_an_exponential_are_the_exponential_to_any_order() -> None:
    (value, derivatives) = ag.jet(ops.exp, (0.3,), ((1.0, *[0.0] * 29),))
    assert derivatives == pytest.approx([value] * 30, rel=1e-13)


def test_it_nests_with_every_transformation() -> None:
    def third(x: Any) -> Any:
        return ag.jet(lambda y: ops.sin(x * y) * y, (x,), ((1.0, 0.0, 0.0),))[1][2]

    def jax_third(x: Any) -> Any:
        return jax_jet(lambda y: jnp.sin(x * y) * y, (x,), ((1.0, 0.0, 0.0),))[1][2]

    with jax.enable_x64(True):
        value, slope = map(float, jax.value_and_grad(jax_third)(0.7))
    for found in (ag.value_and_grad(third)(0.7), ag.jit(ag.value_and_grad(third))(0.7), ag.jvp(third, (0.7,), (1.0,))):
        assert found == pytest.approx((value, slope), rel=1e-12)
    compiled = ag.jit(third)
    assert [compiled(x) for x in (0.7, 0.8)] == [third(0.7), third(0.8)]
    np.testing.assert_allclose(ag.vmap(third)(np.array([0.7, 0.8])), [third(0.7), third(0.8)], rtol=1e-13)
    inner = ag.jet(ag.grad(lambda x: ops.exp(ops.sin(x))), (0.3,), ((1.0, 0.0),))
    ahead = ag.jet(lambda x: ops.exp(ops.sin(x)), (0.3,), ((1.0, 0.0, 0.0),))
    assert [inner[0], *inner[1]] == pytest.approx(ahead[1], rel=1e-13)
    twice = ag.jet(lambda x: ag.jet(ops.sin, (x,), ((1.0, 0.0),))[1][1], (0.3,), ((1.0, 0.0),))
    assert [twice[0], *twice[1]] == pytest.approx([-math.sin(0.3), -math.cos(0.3), math.sin(0.3)], rel=1e-14)


def test_branches_loops_and_long_graphs_are_followed() -> None:
    def fun(x: Any) -> Any:
        total = x
        for _ in range(3000):
            total = total * 0.999 + x if total > 0 else -total
        return total

    derivatives = ag.jet(fun, (0.5,), ((1.0, 0.0),))[1]
    assert derivatives == pytest.approx([ag.grad(fun)(0.5), 0.0], rel=1e-12)


def test_a_custom_rule_gives_way_to_the_function_s_own_operations() -> None:
    """As in JAX's code: "don't just ignore custom jvp rules?" asks a comment there."""

    @ag.custom_jvp
    def cube(x: Any) -> Any:
        return x * x * x

    cube.defjvp(lambda primals, tangents: (cube(primals[0]), 100.0 * tangents[0]))
    assert ag.jet(lambda x: cube(x) * x, (0.5,), ((1.0, 0.0),)) == (0.0625, [0.5, 3.0])
    assert ag.grad(lambda x: cube(x) * x)(0.5) == 100.0 * 0.5 + 0.125


@pytest.mark.parametrize(
    ("primals", "series", "message"),
    [
        ((0.5, 0.5), ((1.0,), (1.0, 0.0)), r"2 primals and series of \[1, 2\] terms"),
        ((0.5, 0.5), ((1.0,),), r"2 primals and series of \[1\] terms"),
        ((), (), r"0 primals and series of \[\] terms"),
    ],
)
def test_series_that_do_not_fit_are_refused(primals: Any, series: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ag.jet(lambda *xs: ops.sum(xs), primals, series)


def test_what_is_no_float_is_refused() -> None:
    for primals, series in ((([0.5],), ((1.0,),)), ((0.5,), (([1.0],),)), ((True,), ((1.0,),))):
        with pytest.raises(TypeError, match="jet requires"):
            ag.jet(lambda x: x, primals, series)
    assert ag.jet(lambda x: x * x, (3,), ((1,),)) == (9.0, [6.0])


@pytest.mark.parametrize("order", [3, 7])
def test_sin_and_cos_in_each_other_s_rule_are_two_series_whatever_the_order(order: int) -> None:
    graph = ag.make_graph(lambda x: ag.jet(ops.sin, (x,), ((1.0, *[0.0] * order),))[1])(0.3)
    names = [equation.primitive.name for equation in graph.equations]
    assert (names.count("sin"), names.count("cos")) == (1, 1)
