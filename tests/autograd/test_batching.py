"""`vmap` maps NumPy arrays as `jax.vmap` does, whatever path each lane takes.

A body is a function of the library `d` (`funcgrad.autograd` or `jax`); both must give the same containers of arrays of
the same shapes, kinds and numbers. What branches on values, JAX cannot map: there, each lane is compared with the
function.
"""

import functools
import math
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funcgrad import autograd as ag
from funcgrad.autograd import ops

Body = Callable[[Any], Any]
Function = Callable[..., Any]
X = np.array([0.5, 1.5, -2.0])
Y = np.array([3.0, 0.25, 1.0])
MATRIX = np.arange(12.0).reshape(3, 4) / 4
CUBE = np.arange(24.0).reshape(2, 3, 4) / 8
lanes = st.lists(st.floats(-4, 4).map(lambda x: round(x, 2)), min_size=0, max_size=12).map(
    lambda x: np.array(x, dtype=float)
)


class Pair(NamedTuple):
    first: Any
    second: Any


def flat(x: Any) -> Any:
    """The leaves and their tree."""
    return jax.tree.flatten(x)


def wave(x: Any, y: Any) -> Any:
    return ops.sin(x) * y + x * x / (1.0 + y * y)


MAPS: dict[str, Body] = {
    "one array": lambda d: d.vmap(ops.sin)(X),
    "two arrays": lambda d: d.vmap(wave)(X, Y),
    "in_axes as an int": lambda d: d.vmap(wave, in_axes=0)(X, Y),
    "in_axes as a tuple": lambda d: d.vmap(wave, in_axes=(0, 0))(X, Y),
    "in_axes as a list": lambda d: d.vmap(wave, in_axes=[0, None])(X, 2.0),
    "a shared float": lambda d: d.vmap(wave, in_axes=(0, None))(X, 2.0),
    "a shared float before": lambda d: d.vmap(wave, in_axes=(None, 0))(2.0, X),
    "a shared int": lambda d: d.vmap(lambda x, n: x**n, in_axes=(0, None))(X, 3),
    "a shared array": lambda d: d.vmap(lambda x, v: x * v[0] + v[2], in_axes=(0, None))(X, Y),
    "a shared container": lambda d: d.vmap(lambda x, p: x * p["a"][0], in_axes=(0, None))(X, {"a": (2.0, 3.0)}),
    "a shared array of no axes": lambda d: d.vmap(wave, in_axes=(0, None))(X, np.array(2.0)),
    "a shared NumPy scalar": lambda d: d.vmap(wave, in_axes=(0, None))(X, np.float64(2.0)),
    "a shared None": lambda d: d.vmap(lambda x, nothing: x, in_axes=(0, None))(X, None),
    "a None": lambda d: d.vmap(lambda p: p[0])((X, None)),
    "a shared function": lambda d: d.vmap(lambda f, x: f(x), in_axes=(None, 0))(ops.cos, X),
    "rows": lambda d: d.vmap(lambda row: row[0] * row[3])(MATRIX),
    "columns": lambda d: d.vmap(lambda column: column[0] * column[2], in_axes=1)(MATRIX),
    "the last axis": lambda d: d.vmap(lambda v: v[0] * v[2], in_axes=-1)(MATRIX),
    "the last axis but one": lambda d: d.vmap(lambda v: v[0] * v[3], in_axes=-2)(MATRIX),
    "a sum over a row": lambda d: d.vmap(lambda row: row.sum())(MATRIX),
    "matrix by vector": lambda d: d.vmap(lambda row, v: row @ v, in_axes=(0, None))(MATRIX, np.ones(4)),
    "the middle axis of a cube": lambda d: d.vmap(lambda m: m[1, 2] * m[0][0], in_axes=1)(CUBE),
    "axes that differ": lambda d: d.vmap(lambda u, v: u @ v, in_axes=(0, 1))(MATRIX, MATRIX.T),
    "a tuple of arrays": lambda d: d.vmap(lambda p: p[0] * p[1])((X, Y)),
    "a dict of arrays": lambda d: d.vmap(lambda p: p["a"] - p["b"])({"b": X, "a": Y}),
    "a list is a tree": lambda d: d.vmap(lambda p: p[0] - p[1])([X, Y]),
    "a named tuple": lambda d: d.vmap(lambda p: Pair(p.second, p.first * 2.0))(Pair(X, Y)),
    "nested axes": lambda d: d.vmap(lambda p: p[0] * p[1]["a"], in_axes=((0, None),))((X, {"a": 2.0})),
    "axes in a dict": lambda d: d.vmap(lambda p: p["a"] * p["b"][1], in_axes=({"a": 0, "b": None},))({"a": X, "b": Y}),
    "axes in an ordered dict": lambda d: d.vmap(lambda p: p["b"] * p["a"][1], in_axes=(OrderedDict(b=0, a=None),))(
        OrderedDict(b=X, a=Y)
    ),
    "axes in a named tuple": lambda d: d.vmap(lambda p: p.first * p.second[0], in_axes=(Pair(0, 1),))(
        Pair(X, MATRIX.T)
    ),
    "axes in a list": lambda d: d.vmap(lambda p: p[0] * p[1][0], in_axes=([0, 1],))([X, MATRIX.T]),
    "an axis for a whole container": lambda d: d.vmap(lambda p: p[0][0] + p[1][1], in_axes=(1,))((MATRIX, MATRIX)),
    "keywords are mapped": lambda d: d.vmap(wave)(X, y=Y),
    "keywords are mapped along axis 0": lambda d: d.vmap(lambda u, *, v: u[0] * v[1], in_axes=1)(MATRIX.T, v=MATRIX),
    "keywords alone": lambda d: d.vmap(wave)(x=X, y=Y),
    "a default": lambda d: d.vmap(lambda x, y=2.0: x * y)(X),
    "results in containers": lambda d: d.vmap(lambda x, y: {"s": x + y, "t": (x * y, [x])})(X, Y),
    "a result that is None": lambda d: d.vmap(lambda x: (x, None))(X),
    "a constant": lambda d: d.vmap(lambda x: 3.0)(X),
    "a constant int": lambda d: d.vmap(lambda x: 3)(X),
    "a constant bool": lambda d: d.vmap(lambda x: True)(X),
    "a shared result": lambda d: d.vmap(lambda x, y: (x, y * 2.0), in_axes=(0, None))(X, 5.0),
    "the argument itself": lambda d: d.vmap(lambda x: x)(X),
    "an array itself": lambda d: d.vmap(lambda x: x)(MATRIX),
    "truth values": lambda d: d.vmap(lambda x, y: (x > y, x == x, (x > 0.0) & (y < 2.0), ~(x > 0.0)))(X, Y),
    "ints": lambda d: d.vmap(lambda n: n * 2 + 1)(np.arange(4)),
    "ints and floats": lambda d: d.vmap(lambda x, n: x * n)(X, np.arange(3)),
    "bools": lambda d: d.vmap(lambda x, b: ops.where(b, x, -x))(X, np.array([True, False, True])),
    "a bool itself": lambda d: d.vmap(lambda b: b)(np.array([True, False, True])),
    "out_axes 1": lambda d: d.vmap(lambda row: row * 2.0, out_axes=1)(MATRIX),
    "out_axes -1": lambda d: d.vmap(lambda m: m * 2.0, out_axes=-1)(CUBE),
    "out_axes in a tuple": lambda d: d.vmap(lambda row: (row[0], row * 2.0), out_axes=(0, 1))(MATRIX),
    "out_axes in a dict": lambda d: d.vmap(lambda row: {"a": row, "b": row[0]}, out_axes={"a": 1, "b": 0})(MATRIX),
    "out_axes for a subtree": lambda d: d.vmap(lambda row: (row[0], (row, [row])), out_axes=(0, 1))(MATRIX),
    "out_axes None": lambda d: d.vmap(lambda x, y: (x, y * 2.0), in_axes=(0, None), out_axes=(0, None))(X, 5.0),
    "out_axes of a list": lambda d: d.vmap(lambda row: [row, row[0]], out_axes=[1, 0])(MATRIX),
    "no lanes": lambda d: d.vmap(lambda x: x * 2.0)(np.zeros(0)),
    "no lanes, rows": lambda d: d.vmap(lambda row: row * 2.0)(np.zeros((0, 2))),
    "no lanes, a sum": lambda d: d.vmap(lambda row: (row.sum(), {"a": row[0]}))(np.zeros((0, 2))),
    "rows of nothing": lambda d: d.vmap(lambda row: row * 2.0)(np.zeros((3, 0))),
    "one lane": lambda d: d.vmap(wave)(X[:1], Y[:1]),
    "not contiguous": lambda d: d.vmap(lambda v: v[0] * v[1])(MATRIX.T[::2, ::-2]),
    "grad": lambda d: d.vmap(d.grad(wave))(X, Y),
    "value_and_grad": lambda d: d.vmap(d.value_and_grad(wave, (0, 1)))(X, Y),
    "grad of a row": lambda d: d.vmap(d.grad(lambda row: (row * row).sum() * row[0]))(MATRIX),
    "jacobian of a row": lambda d: d.vmap(d.jacrev(lambda row: row * row[0]))(MATRIX),
    "hessian of a row": lambda d: d.vmap(d.hessian(lambda row: row[0] ** 2 * row[1]))(MATRIX),
    "jit of hessian": lambda d: d.vmap(d.jit(d.hessian(wave, (0, 1))))(X, Y),
    "jvp": lambda d: d.vmap(lambda x, v: d.jvp(ops.sin, (x,), (v,)))(X, Y),
    "vjp": lambda d: d.vmap(lambda x, ct: d.vjp(wave, x, x)[1](ct))(X, Y),
    "aux": lambda d: d.vmap(d.grad(lambda x, y: (x * y, {"aux": x + y}), has_aux=True))(X, Y),
    "of a map": lambda d: d.vmap(d.vmap(ops.sin))(MATRIX),
    "all pairs": lambda d: d.vmap(d.vmap(wave, in_axes=(None, 0)), in_axes=(0, None))(X, MATRIX[0]),
    "all pairs, turned": lambda d: d.vmap(d.vmap(wave, in_axes=(0, None)), in_axes=(None, 0))(X, MATRIX[0]),
    "three maps": lambda d: d.vmap(d.vmap(d.vmap(lambda x: x * x + 1.0)))(CUBE),
    "a map within a row": lambda d: d.vmap(lambda row: d.vmap(lambda x: x * row[0])(row))(MATRIX),
    "a map along the other axis": lambda d: d.vmap(d.vmap(wave, in_axes=(0, None)), in_axes=(1, 0))(MATRIX, MATRIX[0]),
    "a map with out_axes in a map": lambda d: d.vmap(d.vmap(lambda row: row * 2.0, out_axes=1), in_axes=2, out_axes=1)(
        CUBE
    ),
    "pairwise squared distances": lambda d: d.vmap(
        lambda u: d.vmap(lambda v: sum((u[i] - v[i]) ** 2 for i in range(4)))(MATRIX)
    )(MATRIX),
}

WITHIN: dict[str, Body] = {
    "a sum by what it closes over": lambda d: d.grad(lambda a: d.vmap(lambda x: wave(x, a))(X).sum())(1.5),
    "a sum by what it shares": lambda d: d.grad(lambda a: d.vmap(wave, in_axes=(0, None))(X, a).sum())(1.5),
    "a sum by its array": lambda d: d.grad(lambda v: d.vmap(lambda x: wave(x, x))(v).sum())(X),
    "a sum by its rows": lambda d: d.grad(lambda m: d.vmap(lambda row: row[0] * row[1])(m).sum())(MATRIX),
    "a sum by columns": lambda d: d.grad(lambda m: d.vmap(lambda c: c[0] * c[1], in_axes=1)(m).sum())(MATRIX),
    "a sum by a dict": lambda d: d.grad(lambda p: d.vmap(lambda x, w: x * w["a"], in_axes=(0, None))(X, p).sum())(
        {"a": 2.0}
    ),
    "a jacobian": lambda d: d.jacrev(lambda a: d.vmap(lambda x: {"r": wave(x, a)})(X))(1.5),
    "a jacobian forwards, by an array": lambda d: d.jacfwd(d.vmap(lambda x: x**3))(X),
    "a hessian": lambda d: d.hessian(lambda a: d.vmap(lambda x: wave(x, a))(X).sum())(1.5),
    "out_axes": lambda d: d.jacrev(lambda a: d.vmap(lambda row: row * a, out_axes=1)(MATRIX))(1.5),
    "a jvp": lambda d: d.jvp(lambda v: d.vmap(lambda x: wave(x, v[0]))(v), (X,), (Y,)),
    "a vjp": lambda d: d.vjp(d.vmap(wave), X, Y)[1](np.ones(3)),
    "two levels": lambda d: d.grad(lambda a: d.grad(lambda b: d.vmap(lambda x: x * a * b**2)(X).sum())(a))(1.5),
    "compiled": lambda d: d.jit(lambda a: d.vmap(lambda x: wave(x, a))(X))(1.5),
    "the gradient, compiled": lambda d: d.jit(d.grad(lambda a: d.vmap(lambda x: wave(x, a))(X).sum()))(1.5),
    "ints": lambda d: d.jacrev(lambda a: d.vmap(lambda n: n * a)(np.arange(3)))(1.5),
    "no lanes": lambda d: d.jacrev(lambda a: d.vmap(lambda x: x * a)(np.zeros(0)))(1.5),
    "keywords": lambda d: d.grad(lambda a: d.vmap(lambda x, y: x * y * a)(X, y=Y).sum())(1.5),
    "a map of a gradient of a map": lambda d: d.vmap(d.grad(lambda a: d.vmap(lambda x: wave(x, a))(X).sum()))(Y),
    "a loss over examples": lambda d: d.grad(
        lambda p: d.vmap(lambda row, y: (p["w"] @ row + p["b"] - y) ** 2)(MATRIX, Y).sum()
    )({"w": np.ones(4), "b": 0.5}),
    "per-example gradients": lambda d: d.vmap(
        d.grad(lambda p, row, y: (p["w"] @ row + p["b"] - y) ** 2), in_axes=(None, 0, 0)
    )({"w": np.ones(4), "b": 0.5}, MATRIX, Y),
}
TABLES = {"maps": MAPS, "within": WITHIN}


@functools.cache
def jaxs_answers(title: str) -> dict[str, Any]:
    """What JAX gives for all bodies of a table."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        answers: dict[str, Any] = jax.jit(lambda: {name: body(jax) for name, body in TABLES[title].items()})()
        return answers


def agree(title: str, name: str) -> None:
    leaves, tree = flat(TABLES[title][name](ag))
    expected, its = flat(jaxs_answers(title)[name])
    assert tree == its
    for x, y in zip(leaves, map(np.asarray, expected), strict=True):
        assert np.shape(x) == y.shape
        assert np.asarray(x).dtype == y.dtype
        np.testing.assert_allclose(np.asarray(x), y, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("name", MAPS)
def test_vmap_maps_what_jax_maps(name: str) -> None:
    agree("maps", name)


@pytest.mark.parametrize("name", WITHIN)
def test_vmap_within_other_transformations(name: str) -> None:
    agree("within", name)


# Lanes that go different ways


def steps_of_newton(x: Any) -> Any:
    y, count = x, 0
    while abs(y * y - x) > 1e-9 * x and count < 40:
        y, count = 0.5 * (y + x / y), count + 1
    return {"root": y, "count": count}


def halved(x: Any) -> Any:
    return x if abs(x) < 1.0 else halved(x / 2.0) + 1.0


FLOWS: dict[str, Function] = {
    "if": lambda x: x * x if x > 0 else -x,
    "elif": lambda x: -1.0 if x < -1 else 1.0 if x > 1 else x,
    "while": lambda x: steps_of_newton(abs(x) + 0.1),
    "recursion": halved,
    "int": lambda x: x * int(x),
    "int as result": lambda x: int(x),
    "round": lambda x: round(x) + x,
    "floor": lambda x: math.floor(x) * x,
    "floor division": lambda x: x // 0.7 + x % 0.7,
    "range": lambda x: sum(x * n for n in range(abs(int(x)) + 1)),
    "max and min": lambda x: max(x, 1.0) * min(x, 2.0),
    "equality": lambda x: 10.0 if x == 1.0 else x,
    "membership": lambda x: 10.0 if x in (0.5, 1.0) else x,
    "and, or, not": lambda x: x if (x > 0 and x < 1) or not x < 2 else 2.0 * x,
    "truth": lambda x: 1.0 / x if x else 5.0,
    "two results": lambda x: (x, [2.0 * x]) if x > 0 else (-x, [x]),
    "an int or a float": lambda x: 1 if x > 1 else 2.5,
    "a bool": lambda x: bool(x > 1),
    "an array": lambda x: np.array([x, 1.0]) if x > 0 else np.array([0.0, x]),
}
PLACES = np.array([0.5, -0.75, 1.0, 1.5, 2.25, -2.5, 0.0, 3.75, 1.25, -0.0, 0.5])


def by_lanes(fun: Function, xs: np.ndarray) -> list[Any]:
    return [flat(fun(float(x)))[0] for x in xs]


@pytest.mark.parametrize("name", FLOWS)
def test_each_lane_takes_its_own_path(name: str) -> None:
    fun = FLOWS[name]
    mapped = ag.vmap(fun)
    for xs in (PLACES, PLACES[::-1], PLACES[:1], PLACES[3:5], PLACES):
        leaves, _ = flat(mapped(xs))
        for i, expected in enumerate(by_lanes(fun, xs)):
            for leaf, y in zip(leaves, expected, strict=True):
                np.testing.assert_allclose(leaf[i], y, rtol=1e-13)


@pytest.mark.parametrize("name", ["if", "elif", "recursion", "int", "max and min", "two results"])
def test_gradients_of_lanes_that_branch(name: str) -> None:
    gradient = ag.jacrev(FLOWS[name])
    leaves, _ = flat(ag.vmap(gradient)(PLACES))
    for i, expected in enumerate(by_lanes(gradient, PLACES)):
        np.testing.assert_allclose([leaf[i] for leaf in leaves], expected, rtol=1e-14)


@settings(deadline=None, max_examples=50)
@given(lanes, st.lists(st.tuples(st.integers(0, 4), st.floats(-3, 3).map(lambda x: round(x, 1))), max_size=4))
def test_any_lanes_on_any_branches(xs: np.ndarray, steps: Sequence[tuple[int, float]]) -> None:
    def f(x: Any) -> Any:
        y = x
        for kind, threshold in steps:
            if kind == 0:
                y = y + threshold if y > threshold else y - threshold
            elif kind == 1:
                y = y * 0.5 if x <= threshold else ops.tanh(y)
            elif kind == 2:
                y = y + min(3, abs(int(y)))
            elif kind == 3:
                y = ops.where(y < threshold, y * y, x)
            else:
                y = y * threshold if round(y) == 1 else y
        return y

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # more than 64 paths
        result = ag.vmap(f)(xs)
    assert result.shape == xs.shape
    np.testing.assert_allclose(result, [f(float(x)) for x in xs], rtol=1e-12, atol=1e-12)


ROUNDINGS: dict[str, tuple[Function, Function, Function]] = {
    "tanh": (ops.tanh, math.tanh, np.tanh),
    "exp": (ops.exp, math.exp, np.exp),
    "sin": (ops.sin, math.sin, np.sin),
    "a power": (lambda x: x**1.7, lambda x: math.pow(x, 1.7), lambda xs: np.power(xs, 1.7)),
}


@pytest.mark.parametrize(("function", "plain", "of_columns"), ROUNDINGS.values(), ids=list(ROUNDINGS))
def test_a_lane_is_on_its_own_path_though_numpy_rounds_otherwise(
    function: Function, plain: Function, of_columns: Function
) -> None:
    """NumPy's functions and those of math may differ in the last bit; the branch that the function took must hold."""
    points = np.linspace(0.1, 3.0, 2001)
    differing = [float(x) for x, y in zip(points, of_columns(points), strict=True) if plain(float(x)) != y]
    for x in (*differing[:2], 0.5):
        value = plain(x)
        mapped = ag.vmap(lambda t: 1.0 if function(t) == value else 2.0)  # noqa: B023
        np.testing.assert_array_equal(mapped(np.full(16, x)), np.ones(16))


def test_int_and_bool_lanes_are_ints_and_bools_to_the_function() -> None:
    kinds: set[type] = set()

    def f(x: Any, n: Any, b: Any) -> Any:
        kinds.update((type(n), type(b)))
        return x**n if b else -x * n

    ns, bs = np.array([2, 3, 2, 0]), np.array([True, False, False, True])
    xs = np.array([1.5, 2.5, 3.5, 4.5])
    np.testing.assert_array_equal(ag.vmap(f)(xs, ns, bs), [1.5**2, -7.5, -7.0, 1.0])
    assert all(issubclass(kind, int | np.bool_) for kind in kinds)
    np.testing.assert_array_equal(ag.vmap(ag.grad(f))(xs, ns, bs), [3.0, -3.0, -2.0, 0.0])


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.int64])
def test_whole_lanes_of_any_width(kind: Any) -> None:
    np.testing.assert_array_equal(ag.vmap(lambda n: n / 4.0)(np.array([1, 2, 100], kind)), [0.25, 0.5, 25.0])


def test_jax_arrays_are_mapped_by_jax() -> None:
    with jax.enable_x64(True):
        result = ag.vmap(lambda x: x * 2.0)(jax.numpy.arange(3.0))
    assert isinstance(result, jax.Array)
    np.testing.assert_array_equal(result, [0.0, 2.0, 4.0])


def test_lanes_at_the_edges_are_those_of_ieee_754_without_warnings() -> None:
    xs = np.array([0.0, -0.0, 1.0, -1.0, 1000.0, math.inf, -math.inf, math.nan])
    functions: list[Function] = [
        *(
            lambda x: 1.0 / x,
            ops.log,
            ops.exp,
            ops.sqrt,
            lambda x: x**-1,
            lambda x: x**0.5,
            lambda x: x % 2.0,
            ops.arctanh,
        ),
        *(
            lambda x: x - x,
            lambda x: 1.0 / x if x == 0 else ops.log(x),
            ops.sinh,
            ops.gammaln,
            ops.logaddexp2.__class__ and ops.log1p,
        ),
    ]
    for fun in functions:
        for transform in (lambda f: f, ag.grad):
            expected = [ag.jit(transform(fun))(float(x)) for x in xs]
            np.testing.assert_allclose(ag.vmap(transform(fun))(xs), expected, rtol=1e-14)


def test_past_64_paths_lanes_run_one_by_one_with_one_warning() -> None:
    xs = np.arange(100.0)
    mapped = ag.vmap(lambda x: x * int(x) + 1.0 / (x - int(x)))
    with pytest.warns(RuntimeWarning, match="paths") as caught:
        results = [mapped(xs), mapped(xs[::-1])]
    np.testing.assert_array_equal(results, np.full((2, 100), math.inf))
    assert len(caught) == 1


# What is kept between calls


def test_calls_of_other_shapes_kinds_and_constants_do_not_disturb_each_other() -> None:
    power = ag.vmap(lambda x, n: x**n, in_axes=(0, None))
    for _ in range(2):
        for n in (1, 2, True, 3, 2.0, -1):
            np.testing.assert_allclose(power(X, n), X**n, rtol=1e-15)
    double = ag.vmap(lambda v: v + v)
    for xs in (X, MATRIX, CUBE, X[:2], MATRIX.T, np.arange(3), X):
        np.testing.assert_array_equal(double(xs), xs + xs)


def test_what_is_shared_and_no_number_is_never_taken_from_an_earlier_call() -> None:
    apply = ag.vmap(lambda f, x: f(x), in_axes=(None, 0))
    named = ag.vmap(lambda x, name: x if name == "same" else -x, in_axes=(0, None))
    for _ in range(2):
        np.testing.assert_allclose(apply(ops.sin, X), np.sin(X))
        np.testing.assert_allclose(apply(ops.cos, X), np.cos(X))
        np.testing.assert_array_equal(named(X, "same"), X)
        np.testing.assert_array_equal(named(X, "other"), -X)


def test_results_are_new_arrays_and_arguments_are_not_changed() -> None:
    xs = X.copy()
    identity = ag.vmap(lambda x: (x, x))
    first, second = identity(xs)
    assert not np.shares_memory(first, xs)
    assert not np.shares_memory(first, second)
    first[0] = 9.0
    np.testing.assert_array_equal(identity(xs)[0], X)
    np.testing.assert_array_equal(xs, X)


def test_the_function_is_run_once_for_each_path_not_for_each_lane() -> None:
    runs: list[int] = []

    def f(x: Any) -> Any:
        runs.append(1)
        return x if x > 0 else -x

    mapped = ag.vmap(f)
    for _ in range(3):
        mapped(np.linspace(-1.0, 1.0, 1000))
    assert len(runs) == 2


def test_an_exception_of_the_function_comes_through() -> None:
    def f(x: Any) -> Any:
        if x > 1:
            raise KeyError("mine")
        return x

    mapped = ag.vmap(f)
    np.testing.assert_array_equal(mapped(X[:1]), X[:1])
    with pytest.raises(KeyError, match="mine"):
        mapped(X)


# Errors


@pytest.mark.parametrize(
    ("arguments", "in_axes", "message"),
    [
        ((X, Y[:2]), 0, r"3.*2"),
        ((MATRIX, MATRIX), (0, 1), "3.*4"),
        (({"a": X, "b": Y[:2]}, X), 0, "3.*2"),
        ((X, 2.0), 0, "axis 0"),
        (([1.0, 2.0], X), 0, "axis 0"),
        ((X, Y), 1, r"axis 1|in_axes 1"),
        ((X, Y), -2, "-2"),
        ((X, Y), (0,), "in_axes"),
        ((X, Y), (0, 0, 0), "in_axes"),
        ((X, Y), None, "in_axes|map"),
        ((X, Y), (None, None), "in_axes|map"),
        (((X, X), Y), ((0, 0, 0), 0), "in_axes"),
        (({"a": X}, Y), ({"b": 0}, 0), "in_axes"),
        (({"a": X}, Y), ({"a": 0, "b": 0}, 0), "in_axes"),
        ((), 0, "map"),
    ],
)
def test_axes_that_do_not_fit_are_an_error(arguments: Any, in_axes: Any, message: str) -> None:
    for attempt in (
        lambda: ag.vmap(lambda *xs: 1.0, in_axes)(*arguments),
        lambda: ag.grad(lambda a: ag.vmap(lambda *xs: a, in_axes)(*arguments).sum())(1.0),
    ):
        with pytest.raises(ValueError, match=message):
            attempt()


@pytest.mark.parametrize("in_axes", [0.5, "0", {0}])
def test_axes_that_are_no_axes_are_an_error(in_axes: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="in_axes"):
        ag.vmap(lambda x: x, in_axes)(X)


def test_keywords_of_another_length_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"3.*2"):
        ag.vmap(lambda x, y: x * y)(X, y=Y[:2])
    with pytest.raises(ValueError, match="axis 0"):
        ag.vmap(lambda x, y: x * y)(X, y=2.0)


@pytest.mark.parametrize("wrong", [lambda x: "text", lambda x: object(), lambda x: {x > 0}])
def test_a_result_that_is_no_number_is_an_error(wrong: Function) -> None:
    with pytest.raises(TypeError):
        ag.vmap(wrong)(X)


def test_results_of_different_shapes_are_an_error() -> None:
    with pytest.raises(TypeError, match="same"):
        ag.vmap(lambda x: x if x > 0 else (x, x))(X)


@pytest.mark.parametrize("out_axes", [1, -2, (0, 0), {"a": 0}])
def test_out_axes_that_do_not_fit_are_an_error(out_axes: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"out_axes|axis"):
        ag.vmap(lambda x: x, out_axes=out_axes)(X)


def test_out_axes_none_of_what_differs_by_lane_is_an_error() -> None:
    with pytest.raises(ValueError, match="out_axes"):
        ag.vmap(lambda x: x * 2.0, out_axes=None)(X)


@settings(deadline=None, max_examples=40)
@given(lanes, st.floats(-2, 2))
def test_the_gradient_of_a_mapped_sum_is_the_mapped_gradient(xs: np.ndarray, a: float) -> None:
    by_array = ag.grad(lambda v: ops.sum(ag.vmap(wave, in_axes=(0, None))(v, a)))(xs)
    np.testing.assert_allclose(by_array, ag.vmap(ag.grad(wave), in_axes=(0, None))(xs, a), rtol=1e-12)
    by_closure = ag.grad(lambda b: ops.sum(ag.vmap(lambda x: wave(x, b))(xs)))(a)
    assert by_closure == pytest.approx(
        float(np.sum(ag.vmap(ag.grad(wave, 1), in_axes=(0, None))(xs, a))), rel=1e-9, abs=1e-9
    )


# Bools and ints of the lanes, axis_size, out_axes


def test_a_bool_lane_is_inverted_logically() -> None:
    bools, ones = np.array([True, False]), np.ones(2)
    np.testing.assert_array_equal(ag.vmap(lambda b: ~b)(bools), [False, True])
    np.testing.assert_array_equal(ag.vmap(lambda b, x: x if ~b else -x)(bools, ones), [-1.0, 1.0])
    np.testing.assert_array_equal(ag.vmap(lambda b, x: ops.where(~b & (x > 0), x, 2.0))(bools, ones), [2.0, 1.0])
    np.testing.assert_array_equal(ag.vmap(ag.grad(lambda x, b: x * b + b * x))(ones, bools), [2.0, 0.0])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.int64])
def test_ints_of_lanes_wrap_around_as_in_jax(dtype: Any) -> None:
    limits = np.iinfo(dtype)
    lanes = np.array([limits.max, limits.min, 3, 100], dtype)
    functions: list[Callable[[Any], Any]] = [
        lambda i: i + i,
        lambda i: i * i - 1,
        lambda i: -i,
        lambda i: 7 - i,
        lambda i: ~i,
        lambda i: (i << 1) ^ 5,
        lambda i: i**3 % 11,
        lambda i: i // 2 + i * 0.5,
    ]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        for fun in functions:
            ours, theirs = ag.vmap(fun)(lanes), np.asarray(jax.vmap(fun)(jnp.asarray(lanes)))
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)


def test_an_int_that_its_dtype_does_not_hold_is_refused() -> None:
    with pytest.raises(OverflowError, match="1000 is out of bounds for int8"):
        ag.vmap(lambda i: i + 1000)(np.array([1], np.int8))
    np.testing.assert_allclose(ag.vmap(lambda i: i / 255)(np.array([0, 51, 255], np.uint8)), [0.0, 0.2, 1.0])


def test_axis_size_says_how_many_examples_there_are() -> None:
    for d in (ag, jax):
        np.testing.assert_array_equal(d.vmap(lambda: 3.0, axis_size=4)(), [3.0] * 4)
        np.testing.assert_array_equal(d.vmap(lambda x: 2.0 * x, in_axes=None, axis_size=3)(2.0), [4.0] * 3)
        assert d.vmap(lambda x: x, axis_size=3)(np.arange(3.0)).shape == (3,)
        with pytest.raises(ValueError, match="inconsistent sizes"):
            d.vmap(lambda x: x, axis_size=4)(np.arange(3.0))
    with pytest.raises(TypeError, match="axis_size must be None or an int of at least 0"):
        ag.vmap(lambda x: x, axis_size=1.5)(np.arange(3.0))  # type: ignore[arg-type]


def test_errors_of_out_axes_name_the_axis_and_the_output() -> None:
    pairs = lambda x: (x, x)  # noqa: E731
    with pytest.raises(ValueError, match=r"out_axes 2 is out of bounds for the output\[1\], an array of shape \(3,\)"):
        ag.vmap(pairs, out_axes=(0, 2))(np.arange(3.0))
    with pytest.raises(ValueError, match=r"out_axes is None for the output\[1\]"):
        ag.vmap(pairs, out_axes=(0, None))(np.arange(3.0))
    with pytest.raises(TypeError, match=r"out_axes must be an int or None for the output\[0\].*got 'a'"):
        ag.vmap(pairs, out_axes="a")(np.arange(3.0))
