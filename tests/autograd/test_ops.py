"""Functions of `ops`: values of SciPy and NumPy, derivatives to third order, edges of JAX, arrays, and clear errors."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from funcgrad import autograd as ag
from funcgrad.autograd import ops, special

INF, NAN = math.inf, math.nan

# Each with the function of SciPy or NumPy, and points inside its domain.
NUMBERS: dict[str, tuple[Callable[..., Any], list[tuple[float, ...]]]] = {
    "gamma": (scipy.special.gamma, [(0.3,), (4.5,), (-1.7,), (30.0,)]),
    "factorial": (scipy.special.factorial, [(0.3,), (4.5,), (20.0,)]),
    "beta": (scipy.special.beta, [(0.3, 1.2), (4.5, 0.7), (1.5, 12.0)]),
    "i0": (scipy.special.i0, [(0.3,), (-4.5,), (30.0,)]),
    "i1": (scipy.special.i1, [(0.3,), (-4.5,), (30.0,)]),
    "erfcx": (scipy.special.erfcx, [(0.3,), (-1.5,), (2.5,), (30.0,)]),
    "kl_div": (scipy.special.kl_div, [(0.3, 1.2), (4.5, 0.7)]),
    "rel_entr": (scipy.special.rel_entr, [(0.3, 1.2), (4.5, 0.7)]),
    "degrees": (np.degrees, [(0.3,)]),
    "radians": (np.radians, [(30.0,)]),
    "fabs": (np.fabs, [(-0.3,)]),
    "rint": (np.rint, [(2.6,)]),
    "acos": (np.arccos, [(0.3,)]),
    "asin": (np.arcsin, [(0.3,)]),
    "atan": (np.arctan, [(0.3,)]),
    "acosh": (np.arccosh, [(1.3,)]),
    "asinh": (np.arcsinh, [(0.3,)]),
    "atanh": (np.arctanh, [(0.3,)]),
    "atan2": (np.arctan2, [(0.3, -1.2)]),
    "pow": (np.power, [(0.3, -1.2)]),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_values_and_derivatives_to_third_order(name: str) -> None:
    function, points = NUMBERS[name]
    for point in points:
        assert getattr(ops, name)(*point) == pytest.approx(float(function(*point)), rel=1e-13)
        ag.check_grads(getattr(ops, name), point, order=3, eps=1e-4, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_polygamma(n: int) -> None:
    assert ops.polygamma(n, 1.7) == pytest.approx(float(scipy.special.polygamma(n, 1.7)), rel=1e-13)
    assert ag.grad(lambda x: ops.polygamma(n, x))(1.7) == special.polygamma(n + 1, 1.7)
    with pytest.raises(TypeError, match=r"order n must be an int from 0 up, got float: 1.5"):
        ops.polygamma(1.5, 2.0)  # type: ignore[arg-type]


SEQUENCES: dict[str, Callable[..., Any]] = {"var": np.var, "std": np.std, "median": np.median, "cumsum": np.cumsum}


@pytest.mark.parametrize("name", SEQUENCES)
def test_statistics_of_sequences(name: str) -> None:
    xs = [0.3, -1.2, 2.5, 0.7]
    for part in (xs, xs[:3], tuple(xs), np.array(xs)):
        assert getattr(ops, name)(part) == pytest.approx(SEQUENCES[name](part), rel=1e-14)
    first = (lambda xs: ops.cumsum(xs)[2]) if name == "cumsum" else getattr(ops, name)
    ag.check_grads(first, (xs,), order=2)
    assert ag.jit(ag.grad(first))(xs) == ag.grad(first)(xs)


def test_variance_divides_by_the_number_less_ddof() -> None:
    xs = [0.3, -1.2, 2.5, 0.7]
    assert ops.var(xs, ddof=1) == ops.var(xs, correction=1) == pytest.approx(np.var(xs, ddof=1))
    assert ops.std(xs, ddof=2) == pytest.approx(np.std(xs, ddof=2))
    assert math.isnan(ops.var([1.0], ddof=1))
    assert math.isnan(ops.var([]))
    with pytest.raises(ValueError, match="two names of one number"):
        ops.var(xs, ddof=1, correction=1)
    with pytest.raises(ValueError, match="median of an empty sequence"):
        ops.median([])


def test_sorting_has_no_branch_and_keeps_the_order_of_equals() -> None:
    def weighed(xs: list[Any]) -> Any:
        return ops.dot(ops.sort(xs), [1.0, 10.0, 100.0, 1000.0])

    compiled = ag.jit(ag.grad(weighed))
    assert compiled([3.0, 1.0, 2.0, 2.0]) == [1000.0, 1.0, 10.0, 100.0]
    assert compiled([1.0, 2.0, 3.0, 4.0]) == [1.0, 10.0, 100.0, 1000.0]
    assert compiled.source.count("def ") == 1
    assert "if not" not in compiled.source.split("try:")[1]
    assert ops.sort([NAN, 2.0, -INF, 1.0])[:3] == [-INF, 1.0, 2.0]
    assert ag.jit(ops.sort)([2.0, NAN, 1.0])[:2] == [1.0, 2.0]
    assert ops.sort([2.0, 3.0, 1.0], descending=True) == [3.0, 2.0, 1.0]


def test_predicates_are_bools_and_branch_when_traced() -> None:
    assert [ops.isnan(x) for x in (NAN, INF, 1.0)] == [True, False, False]
    assert [ops.isinf(x) for x in (NAN, -INF, 1.0)] == [False, True, False]
    assert [ops.isfinite(x) for x in (NAN, -INF, 1.0)] == [False, False, True]
    for a, b in ((1.0, 1.0 + 1e-6), (1.0, 1.1), (INF, INF), (INF, 1.0), (NAN, NAN), (1e-9, 0.0)):
        assert ops.isclose(a, b) == np.isclose(a, b)
        assert ops.isclose(a, b, equal_nan=True) == np.isclose(a, b, equal_nan=True)
    assert ops.isclose(1.0, 1.1, rtol=0.2)

    def f(x: Any) -> Any:
        return 0.0 * x if ops.isnan(x) else ops.where(ops.isclose(x, 2.0), 5.0 * x, x * x)

    compiled = ag.jit(ag.value_and_grad(f))
    for x, expected in ((3.0, (9.0, 6.0)), (2.0, (10.0, 5.0))):
        assert compiled(x) == ag.value_and_grad(f)(x) == expected


EDGES = {
    "gamma": [(0.0, INF), (-0.0, -INF), (-1.0, NAN), (-INF, NAN), (INF, INF), (200.0, INF), (NAN, NAN)],
    "factorial": [(-1.0, 0.0), (-2.5, 0.0), (0.0, 1.0), (170.0, 7.257415615307994e306)],
    "i0": [(0.0, 1.0), (710.0, INF), (INF, NAN), (NAN, NAN)],
    "i1": [(0.0, 0.0), (-710.0, -INF), (-INF, NAN), (NAN, NAN)],
    "erfcx": [(INF, 0.0), (-INF, INF), (-30.0, INF), (0.0, 1.0), (NAN, NAN)],
}


@pytest.mark.parametrize("name", EDGES)
def test_edges_are_those_of_jax(name: str) -> None:
    with jax.enable_x64(True):
        theirs = getattr(jax.scipy.special, name)(jnp.array([x for x, _ in EDGES[name]])).tolist()
    for (x, expected), jax_value in zip(EDGES[name], theirs, strict=True):
        assert getattr(ops, name)(x) == pytest.approx(expected, rel=1e-12, nan_ok=True)
        assert jax_value == pytest.approx(expected, rel=1e-12, nan_ok=True)


def test_relative_entropy_at_zero_and_near_equality() -> None:
    assert [ops.rel_entr(p, q) for p, q in ((0.0, 0.0), (0.0, 2.0), (1.0, 0.0), (-1.0, 1.0))] == [0.0, 0.0, INF, INF]
    assert [ops.kl_div(p, q) for p, q in ((0.0, 0.0), (0.0, 2.0), (1.0, 0.0), (-1.0, 1.0))] == [0.0, 2.0, INF, INF]
    assert math.isnan(ops.rel_entr(NAN, 1.0))
    assert ag.grad(ops.kl_div, (0, 1))(0.0, 2.0) == (0.0, 1.0)
    p = 0.3
    for u in (1e-9, -1e-5, 0.09):
        q = p / (1 + u)
        u = (p - q) / q
        assert ops.kl_div(p, q) == pytest.approx(q * u * u * (1 / 2 - u / 6 + u * u / 12 - u**3 / 20), rel=1e-4)


@pytest.mark.parametrize("b", [[1.0, -2.0], [-1.0, 2.0], [-1.0, -2.0], [1.0, 0.0]])
def test_logsumexp_takes_negative_weights(b: list[float]) -> None:
    def f(system: Any) -> Callable[..., Any]:
        return lambda x, y: system.logsumexp([x, y] if system is ops else jnp.stack([x, y]), b=np.array(b))

    value, gradient = ag.value_and_grad(f(ops), (0, 1))(1.0, 1.5)
    with jax.enable_x64(True):
        theirs = jax.value_and_grad(f(jax.scipy.special), (0, 1))(1.0, 1.5)
        assert value == pytest.approx(float(theirs[0]), nan_ok=True)
        assert gradient == pytest.approx([float(x) for x in theirs[1]])


# Arrays


def test_functions_of_numbers_take_arrays_element_by_element() -> None:
    x = np.array([[0.1, 0.2], [0.3, 0.4]])
    np.testing.assert_allclose(ops.exp(x), np.exp(x), rtol=1e-15)
    np.testing.assert_allclose(ops.add(x, [[1.0]] * 2 + x), x + x + 1.0)
    np.testing.assert_allclose(ops.where(x > 0.2, x, 0.0), np.where(x > 0.2, x, 0.0))
    np.testing.assert_allclose(ops.power(x, 2), x**2)
    np.testing.assert_allclose(ops.clip(x, 0.2, 0.3), np.clip(x, 0.2, 0.3))
    np.testing.assert_array_equal(ops.isnan(np.array([1.0, NAN])), [False, True])
    assert ops.sin(np.array([])).shape == (0,)
    gradient = ag.grad(lambda v, a: ops.sum(ops.sin(v * a)))(x, 2.0)
    np.testing.assert_allclose(gradient, 2.0 * np.cos(2.0 * x))
    assert ag.grad(lambda a: ops.sum(ops.exp(a * np.array([1.0, 2.0]))))(0.5) == pytest.approx(
        math.exp(0.5) + 2 * math.e
    )


def test_sequences_take_arrays_of_several_axes() -> None:
    x = np.array([[3.0, 1.0, 2.0], [6.0, 5.0, 9.0]])
    for name in ("sum", "mean", "prod", "max", "min", "var", "std", "median"):
        for axis in (None, 0, 1, -1):
            np.testing.assert_allclose(getattr(ops, name)(x, axis), getattr(np, name)(x, axis=axis))
    np.testing.assert_array_equal(ops.sort(x), np.sort(x))
    np.testing.assert_array_equal(ops.sort(x, axis=0), np.sort(x, axis=0))
    np.testing.assert_array_equal(ops.cumsum(x), np.cumsum(x))
    np.testing.assert_allclose(ops.softmax(x), jax.nn.softmax(x), rtol=1e-6)
    np.testing.assert_allclose(ops.norm(x), np.linalg.norm(x))
    np.testing.assert_allclose(ops.norm(x, axis=1), np.linalg.norm(x, axis=1))
    assert ag.grad(lambda v: ops.norm(v))(x) == pytest.approx(x / np.linalg.norm(x))
    with pytest.raises(ValueError, match="give the axis"):
        ops.norm(x, 1)


def test_one_line_says_what_is_taken() -> None:
    for call, message in (
        (lambda: ops.exp("x"), "ops.exp takes floats, traced floats, NumPy arrays or JAX values, got str: 'x'"),
        (lambda: ops.sum(3.0), "ops.sum takes a list, tuple or array of numbers, got float: 3.0"),
        (lambda: ops.sum([1.0, "x"]), "ops.sum takes a sequence of numbers, got an element of type str: 'x'"),
        (lambda: ops.where(True, [1.0], 2.0), "ops.where takes a condition and two floats, traced floats, NumPy"),
    ):
        with pytest.raises(TypeError) as error:
            call()
        assert message in str(error.value)
        assert "\n" not in str(error.value)
