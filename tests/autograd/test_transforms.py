"""The transformations of `funcgrad.autograd` are those of JAX: the same body of code, run under both, gives the same.

A body is a function of the library `d` (`funcgrad.autograd` or `jax`). Cases come from JAX's documentation (autodiff
cookbook, custom derivative rules, sharp bits, pytrees, thinking in JAX), from what the tests of micrograd and HIPS
autograd check, and from textbooks.
"""

import ast
import dataclasses
import functools
import inspect
import itertools
import math
import re
import sys
import threading
import tracemalloc
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funcgrad import autograd as ag
from funcgrad.autograd import ops, primitives
from funcgrad.autograd.graph import Primitive, apply_rules

Body = Callable[[Any], Any]
Function = Callable[..., Any]
INF, NAN = math.inf, math.nan
ROUNDED = 1e-12
unhurried = settings(deadline=None, max_examples=60)
reals = st.floats(-3, 3).map(lambda x: round(x, 3))


def flat(x: Any) -> Any:
    """The leaves and their tree."""
    return jax.tree.flatten(x)


def assert_alike(ours: Any, expected: Any, rtol: float = ROUNDED) -> None:
    """The same containers, and in them the same numbers."""
    our_leaves, our_tree = flat(ours)
    leaves, tree = flat(expected)
    assert our_tree == tree
    for x, y in zip(our_leaves, leaves, strict=True):
        assert np.shape(x) == np.shape(y)
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=rtol, atol=1e-300)


TABLES: dict[str, dict[str, Body]] = {}


def cases(title: str, table: dict[str, Body]) -> Any:
    """One test for each body of a table, with the arguments `title` and `name`."""
    TABLES[title] = table
    return pytest.mark.parametrize(("title", "name"), [(title, name) for name in table], ids=list(table))


@functools.cache
def jaxs_answers(title: str) -> dict[str, Any]:
    """What JAX gives for all bodies of a table: in one compiled program, but for those that branch on values."""
    branching: list[str] = []

    def together() -> dict[str, Any]:
        answers = {}
        for name, body in TABLES[title].items():
            try:
                answers[name] = body(jax)
            except jax.errors.ConcretizationTypeError:
                branching.append(name)
        return answers

    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):  # Python's floats, ints and bools mix
        answers = jax.jit(together, compiler_options={"xla_backend_optimization_level": 0})()
        return {**answers, **{name: TABLES[title][name](jax) for name in branching}}


def agree(title: str, name: str, rtol: float = ROUNDED) -> None:
    """The body gives the same under both libraries."""
    assert_alike(TABLES[title][name](ag), jaxs_answers(title)[name], rtol)


class Point(NamedTuple):
    x: Any
    y: Any


class Registered:
    """A class that is a container in both libraries; `tag` is no number."""

    def __init__(self, first: Any, second: Any, tag: str = "tag") -> None:
        self.first, self.second, self.tag = first, second, tag


def _parts(x: Registered) -> tuple[tuple[Any, Any], str]:
    return (x.first, x.second), x.tag


def _whole(tag: str, parts: Any) -> Registered:
    return Registered(parts[0], parts[1], tag)


jax.tree_util.register_pytree_node(Registered, _parts, _whole)
ag.register_tree(Registered, _parts, _whole)


def smooth(x: Any, y: Any) -> Any:
    return ops.sin(x) * y + x * x * ops.exp(-y) + x / (1.0 + y * y)


# Every transformation, on one smooth function

TRANSFORMS: dict[str, Body] = {
    "grad": lambda d: d.grad(smooth)(0.7, 1.3),
    "grad of argument 1": lambda d: d.grad(smooth, 1)(0.7, 1.3),
    "grad of the last": lambda d: d.grad(smooth, argnums=-1)(0.7, 1.3),
    "grad of both": lambda d: d.grad(smooth, argnums=(0, 1))(0.7, 1.3),
    "grad of both, in another order": lambda d: d.grad(smooth, argnums=(1, 0))(0.7, 1.3),
    "grad of a list of one": lambda d: d.grad(smooth, argnums=[1])(0.7, 1.3),
    "grad of negative argnums": lambda d: d.grad(smooth, argnums=(-1, -2))(0.7, 1.3),
    "value_and_grad": lambda d: d.value_and_grad(smooth, (0, 1))(0.7, 1.3),
    "jvp": lambda d: d.jvp(smooth, (0.7, 1.3), (2.0, -1.0)),
    "jvp of lists": lambda d: d.jvp(smooth, [0.7, 1.3], [2.0, -1.0]),
    "vjp": lambda d: d.vjp(smooth, 0.7, 1.3)[1](2.5),
    "vjp's value": lambda d: d.vjp(smooth, 0.7, 1.3)[0],
    "linearize": lambda d: d.linearize(smooth, 0.7, 1.3)[1](2.0, -1.0),
    "linearize's value": lambda d: d.linearize(smooth, 0.7, 1.3)[0],
    "jacfwd": lambda d: d.jacfwd(smooth, argnums=(0, 1))(0.7, 1.3),
    "jacrev": lambda d: d.jacrev(smooth, argnums=(0, 1))(0.7, 1.3),
    "hessian": lambda d: d.hessian(smooth)(0.7, 1.3),
    "hessian of both": lambda d: d.hessian(smooth, argnums=(0, 1))(0.7, 1.3),
    "jacfwd of jacfwd": lambda d: d.jacfwd(d.jacfwd(smooth, (0, 1)), (0, 1))(0.7, 1.3),
    "jacrev of jacfwd": lambda d: d.jacrev(d.jacfwd(smooth, (0, 1)), (0, 1))(0.7, 1.3),
    "jacrev of jacrev": lambda d: d.jacrev(d.jacrev(smooth, (0, 1)), (0, 1))(0.7, 1.3),
    "third derivative": lambda d: d.grad(d.grad(d.grad(smooth)))(0.7, 1.3),
    "mixed third derivative": lambda d: d.jacfwd(d.grad(d.jacrev(smooth, 1), 0), 1)(0.7, 1.3),
    "fourth derivative of tanh": lambda d: functools.reduce(lambda f, _: d.grad(f), range(4), ops.tanh)(0.3),
    "jvp of vjp": lambda d: d.jvp(lambda x: d.vjp(smooth, x, 1.3)[1](2.0), (0.7,), (1.0,)),
    "vjp of jvp": lambda d: d.vjp(lambda x: d.jvp(smooth, (x, 1.3), (1.0, 0.5)), 0.7)[1]((1.0, 1.0)),
    "jvp of jvp": lambda d: d.jvp(lambda x: d.jvp(smooth, (x, x), (1.0, x))[1], (0.7,), (1.0,)),
    "vjp of vjp": lambda d: d.vjp(lambda x, ct: d.vjp(smooth, x, x)[1](ct), 0.7, 1.5)[1]((1.0, 0.5)),
    "grad of linearize": lambda d: d.grad(lambda x: d.linearize(smooth, x, 1.3)[1](x, 1.0))(0.7),
    "grad of value_and_grad": lambda d: d.grad(lambda x: math.prod(d.value_and_grad(smooth)(x, 1.3)))(0.7),
    "grad of an entry of a hessian": lambda d: d.grad(lambda x: d.hessian(smooth, (0, 1))(x, x)[0][1])(0.7),
    "jit of grad of jit of grad": lambda d: d.jit(d.grad(d.jit(d.grad(d.jit(smooth)))))(0.7, 1.3),
    "grad of jit of hessian": lambda d: d.grad(d.jit(d.hessian(smooth)))(0.7, 1.3),
    "vmap of jit of hessian": lambda d: d.vmap(d.jit(d.hessian(smooth, (0, 1))))(np.arange(3.0), np.ones(3)),
    "vmap of jvp of grad": lambda d: d.vmap(lambda x, v: d.jvp(d.grad(smooth), (x, 2.0), (v, 1.0)))(
        np.arange(3.0), np.ones(3)
    ),
    "jit of vjp": lambda d: d.jit(lambda x, ct: d.vjp(smooth, x, 1.3)[1](ct))(0.7, 2.0),
    "jacfwd of a vmap": lambda d: d.jacfwd(lambda a: d.vmap(lambda x: smooth(x, a))(np.arange(3.0)))(1.3),
    "jacrev of a vmap": lambda d: d.jacrev(lambda a: d.vmap(lambda x: smooth(x, a))(np.arange(3.0)))(1.3),
    "vmap of a grad of a vmap": lambda d: d.vmap(
        d.grad(lambda a: d.vmap(lambda x: smooth(x, a))(np.arange(3.0)).sum())
    )(np.array([0.5, 1.5])),
}


@cases("transforms", TRANSFORMS)
def test_each_transformation_gives_what_jax_gives(title: str, name: str) -> None:
    agree(title, name)


# Perturbation confusion: each level keeps its own tangents (Siskind and Pearlmutter 2005; Manzyuk et al. 2019)

CONFUSIONS: dict[str, Body] = {
    "x · d/dy (x + y)": lambda d: d.grad(lambda x: x * d.grad(lambda y: x + y)(1.0))(1.0),
    "the same forwards": lambda d: d.jvp(lambda x: x * d.jvp(lambda y: x + y, (1.0,), (1.0,))[1], (1.0,), (1.0,))[1],
    "forward within reverse": lambda d: d.grad(lambda x: x * d.jvp(lambda y: x + y, (1.0,), (1.0,))[1])(1.0),
    "reverse within forward": lambda d: d.jvp(lambda x: x * d.grad(lambda y: x + y)(1.0), (1.0,), (1.0,))[1],
    "x · d/dy (x · y)": lambda d: d.grad(lambda x: x * d.grad(lambda y: x * y)(2.0))(3.0),
    "the inner point is the outer variable": lambda d: d.grad(lambda x: d.grad(lambda y: x * y * y)(x))(3.0),
    "an inner variable that is not used": lambda d: d.grad(lambda x: d.grad(lambda y: x * x)(x) + x)(3.0),
    "a derivative of a constant": lambda d: d.grad(lambda x: d.grad(lambda y: x)(2.0))(3.0),
    "three levels": lambda d: d.grad(lambda x: x * d.grad(lambda y: y * d.grad(lambda z: x * y * z * z)(y))(x))(1.5),
    "a function that returns a function": lambda d: d.grad(
        lambda x: (lambda f: f(f(x)))(lambda u: d.grad(lambda v: u * v * v * x)(u))
    )(1.1),
    "the tangent is the outer variable": lambda d: d.grad(lambda x: d.jvp(lambda y: y * y * x, (x,), (x,))[1])(1.1),
    "the cotangent is the outer variable": lambda d: d.grad(lambda x: d.vjp(lambda y: y * y * x, x)[1](x)[0])(1.1),
    "a linear map used twice": lambda d: d.grad(
        lambda x: (lambda lin: lin(x) * lin(x * x))(d.linearize(ops.sin, x)[1])
    )(1.1),
    "a pullback used on its own result": lambda d: d.grad(lambda x: (lambda f: f(f(x)[0])[0])(d.vjp(ops.sin, x)[1]))(
        1.1
    ),
    "sums to the second derivative": lambda d: d.grad(lambda x: d.grad(lambda y: ops.sin(x + y))(0.0))(0.4),
}


@cases("confusions", CONFUSIONS)
def test_nested_derivatives_do_not_mix_their_perturbations(title: str, name: str) -> None:
    agree(title, name)


def test_the_classic_of_perturbation_confusion_is_one() -> None:
    assert ag.grad(lambda x: x * ag.grad(lambda y: x + y)(1.0))(1.0) == 1.0


# Arguments and results: containers, auxiliary values, keywords

CONTAINERS: dict[str, Body] = {
    "tuple": lambda d: d.grad(lambda p: p[0] * p[1] ** 2)((2.0, 3.0)),
    "list": lambda d: d.grad(lambda p: p[0] * p[1] ** 2)([2.0, 3.0]),
    "dict, not in the order of its keys": lambda d: d.grad(lambda p: p["b"] * p["a"] ** 2)({"b": 2.0, "a": 3.0}),
    "dict of ints": lambda d: d.grad(lambda p: p[2] * p[10] ** 2)({10: 2.0, 2: 3.0}),
    "ordered dict": lambda d: d.grad(lambda p: p["b"] * p["a"] ** 2)(OrderedDict(b=2.0, a=3.0)),
    "default dict": lambda d: d.grad(lambda p: p["b"] * p["a"] ** 2)(defaultdict(float, b=2.0, a=3.0)),
    "named tuple": lambda d: d.grad(lambda p: p.x * p.y**2)(Point(2.0, 3.0)),
    "None": lambda d: d.grad(lambda p: p[0] ** 3)((2.0, None)),
    "nothing": lambda d: d.grad(lambda p: 1.0)(()),
    "nested": lambda d: d.grad(lambda p: p["w"][0][1].y * p["w"][1] + p["b"]["c"] ** 2)(
        {"w": ((1.0, Point(2.0, 3.0)), 4.0), "b": {"c": 5.0, "n": None}}
    ),
    "array": lambda d: d.grad(lambda v: v[0] * v[1] ** 2)(np.array([2.0, 3.0])),
    "matrix": lambda d: d.grad(lambda m: m[0][1] * m[1][2] ** 2 + m[0, 0])(np.arange(6.0).reshape(2, 3)),
    "sum of an array's squares": lambda d: d.grad(lambda v: (v * v).sum())(np.arange(4.0)),
    "matrix times vector": lambda d: d.jacrev(lambda v: np.arange(6.0).reshape(2, 3) @ v)(np.arange(3.0)),
    "quadratic form": lambda d: d.hessian(lambda v: v @ (np.array([[2.0, 1.0], [0.0, 3.0]]) @ v))(np.array([1.0, 2.0])),
    "array in a dict": lambda d: d.grad(lambda p: (p["w"] * p["w"]).sum() * p["b"])({"w": np.ones((2, 2)), "b": 2.0}),
    "array of no axes": lambda d: d.grad(lambda x: x * x)(np.array(3.0)),
    "array of nothing": lambda d: d.grad(lambda v: 1.0)(np.zeros((0, 2))),
    "NumPy scalar": lambda d: d.grad(lambda x: x * x)(np.float64(3.0)),
    "jacobian of a tuple by a dict": lambda d: d.jacrev(lambda p: (p["a"] * p["b"], {"c": p["a"]}, None))(
        {"a": 2.0, "b": 3.0}
    ),
    "the same forwards": lambda d: d.jacfwd(lambda p: (p["a"] * p["b"], {"c": p["a"]}, None))({"a": 2.0, "b": 3.0}),
    "jacobian by two arguments": lambda d: d.jacfwd(lambda x, y: [x * y, x], argnums=(1, 0))(2.0, 3.0),
    "jacobian of a list by an array": lambda d: d.jacfwd(lambda v: [v[0] * v[1], v[1]])(np.array([2.0, 3.0])),
    "hessian by a dict": lambda d: d.hessian(lambda p: p["a"] ** 2 * p["b"])({"a": 2.0, "b": 3.0}),
    "hessian by an array": lambda d: d.hessian(lambda v: v[0] ** 2 * v[1])(np.array([2.0, 3.0])),
    "hessian of two results": lambda d: d.hessian(lambda x: (x**3, {"s": ops.sin(x)}))(0.5),
    "hessian by a named tuple": lambda d: d.hessian(lambda p: p.x**2 * p.y)(Point(2.0, 3.0)),
    "jvp of containers": lambda d: d.jvp(
        lambda p, q: {"r": p[0] * q["s"]}, ((2.0, 1.0), {"s": 3.0}), ((1.0, 1.0), {"s": 0.5})
    ),
    "vjp of containers": lambda d: d.vjp(lambda p, q: {"r": p[0] * q["s"]}, (2.0, 1.0), {"s": 3.0})[1]({"r": 2.0}),
    "vjp to an argument that is not used": lambda d: d.vjp(lambda x, y: x, 2.0, 3.0)[1](1.0),
    "linearize of containers": lambda d: d.linearize(lambda p: [p[0] * p[1], p[0]], (2.0, 3.0))[1]((1.0, 0.5)),
    "one result twice": lambda d: d.vjp(lambda x: (x * x, x * x, x), 3.0)[1]((1.0, 2.0, 5.0)),
    "the argument itself as result": lambda d: d.vjp(lambda x: (x, x), 3.0)[1]((1.0, 2.0)),
    "a constant result": lambda d: d.jvp(lambda x: (4.0, x), (3.0,), (1.0,)),
    "has_aux of grad": lambda d: d.grad(lambda x: (x**3, {"twice": 2.0 * x, "n": None}), has_aux=True)(2.0),
    "has_aux of value_and_grad": lambda d: d.value_and_grad(lambda x, y: (x**3 * y, (x, y)), (0, 1), has_aux=True)(
        2.0, 3.0
    ),
    "has_aux of jvp": lambda d: d.jvp(lambda x: (x**3, [x]), (2.0,), (1.0,), has_aux=True),
    "has_aux of vjp": lambda d: (lambda out, pull, aux: (out, pull(1.0), aux))(
        *d.vjp(lambda x: (x**3, [x]), 2.0, has_aux=True)
    ),
    "has_aux of linearize": lambda d: (lambda out, push, aux: (out, push(1.0), aux))(
        *d.linearize(lambda x: (x**3, [x]), 2.0, has_aux=True)
    ),
    "has_aux of jacrev": lambda d: d.jacrev(lambda x: ([x**3, x], x + 1.0), has_aux=True)(2.0),
    "has_aux of jacfwd": lambda d: d.jacfwd(lambda x: ([x**3, x], x + 1.0), has_aux=True)(2.0),
    "has_aux of hessian": lambda d: d.hessian(lambda x: (x**3, x + 1.0), has_aux=True)(2.0),
    "grad of a grad with aux": lambda d: d.grad(
        lambda x: (lambda g, aux: g * aux)(*d.grad(lambda y: (y**3, y * x), has_aux=True)(x))
    )(2.0),
    "keywords": lambda d: d.grad(lambda x, *, scale, shift=1.0: scale * x**2 + shift * x)(3.0, scale=2.0),
    "an int among the keywords": lambda d: d.grad(lambda x, n=1: x**n)(3.0, n=4),
    "defaults": lambda d: d.grad(lambda x, y=5.0: x * y)(3.0),
    "any number of arguments": lambda d: d.grad(lambda *xs: xs[0] * xs[1] * xs[2], argnums=(0, 2))(2.0, 3.0, 4.0),
    "other arguments are left alone": lambda d: (
        d.grad(lambda x, name, n, options: x**n * options["a"])(2.0, "name", 3, {"a": 2.0})
        if d is ag
        else d.grad(lambda x, n, options: x**n * options["a"])(2.0, 3, {"a": 2.0})
    ),
    "registered class": lambda d: d.hessian(lambda r: r.first * r.second[0] ** 2)(Registered(2.0, [3.0])),
    "partial": lambda d: d.grad(functools.partial(smooth, y=1.3))(0.7),
}


@cases("containers", CONTAINERS)
def test_containers_go_in_and_come_out_as_under_jax(title: str, name: str) -> None:
    agree(title, name)


def test_a_registered_class_is_a_container() -> None:
    gradient = ag.grad(lambda r: r.first * r.second[0] ** 2 if r.tag == "mine" else 0.0)(Registered(2.0, [3.0], "mine"))
    assert isinstance(gradient, Registered)
    assert (gradient.first, gradient.second, gradient.tag) == (9.0, [12.0], "mine")


def test_registering_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="Registered"):
        ag.register_tree(Registered, _parts, _whole)
    with pytest.raises(ValueError, match="dict"):
        ag.register_tree(dict, _parts, _whole)


def test_a_class_that_is_not_registered_is_an_error() -> None:
    with pytest.raises(TypeError, match="object"):
        ag.grad(lambda r: 1.0)(object())


def test_the_auxiliary_value_may_be_anything_and_is_not_differentiated() -> None:
    marker = object()
    gradient, aux = ag.grad(lambda x: (x * x, ("text", 3, marker, x > 1.0)), has_aux=True)(2.0)
    assert gradient == 4.0
    assert aux == ("text", 3, marker, True)


def test_plain_floats_come_back() -> None:
    value, gradient = ag.value_and_grad(lambda p: p[0] * p[1])((2.0, np.float64(3.0)))
    assert type(value) is float
    assert [type(x) for x in gradient] == [float, float]
    assert type(ag.grad(lambda x: x * x)(np.float32(3.0))) is float
    assert type(ag.grad(lambda x: 3.0)(1.0)) is float


@pytest.mark.parametrize("transform", [ag.grad, ag.value_and_grad, ag.jacfwd, ag.jacrev, ag.hessian, ag.jit, ag.vmap])
def test_wrappers_keep_name_and_doc(transform: Function) -> None:
    def cubed(x: float) -> float:
        """The cube."""
        return x**3

    wrapped = transform(cubed)
    assert wrapped.__name__ == "cubed"
    assert "cube" in (wrapped.__doc__ or "")
    assert inspect.unwrap(wrapped) is cubed
    assert list(inspect.signature(wrapped).parameters) == ["x"]


@pytest.mark.parametrize("custom", [ag.custom_jvp, ag.custom_vjp])
def test_custom_functions_keep_name_and_doc(custom: Any) -> None:
    @custom
    def cubed(x: float) -> float:
        """The cube."""
        return x**3

    assert (cubed.__name__, cubed.__doc__) == ("cubed", "The cube.")


@pytest.mark.parametrize("transform", [ag.grad, ag.value_and_grad, ag.jacfwd, ag.jacrev, ag.hessian, ag.jit])
def test_any_callable_can_be_transformed(transform: Function) -> None:
    class Cube:
        def __call__(self, x: Any) -> Any:
            return x**3

        def method(self, x: Any) -> Any:
            return x**3

    for callable_ in (Cube(), Cube().method, functools.partial(lambda n, x: x**n, 3)):
        assert transform(callable_)(2.0) == transform(lambda x: x**3)(2.0)


def test_hvp_is_the_hessian_times_the_vector() -> None:
    x, v = (0.7, 1.3), (2.0, -1.0)
    hessian = ag.hessian(smooth, (0, 1))(*x)
    product = ag.hvp(smooth, x, v)
    np.testing.assert_allclose(product, np.array(hessian) @ v, rtol=1e-14)
    assert ag.hvp(lambda p: smooth(*p), ([0.7, 1.3],), ([2.0, -1.0],)) == list(product)


# The autodiff cookbook: logistic regression, and the Hessian-vector products in every order of modes

EXAMPLES = [[0.52, 1.12, 0.77], [0.88, -1.08, 0.15], [0.52, 0.06, -1.30], [0.74, -2.49, 1.39]]
TARGETS = [True, True, False, True]
WEIGHTS = [0.3, -0.4, 1.1]


def logistic_loss(w: Any, b: Any) -> Any:
    """The cookbook's negative log-likelihood of the labels, written for scalars."""
    total = 0.0
    for example, target in zip(EXAMPLES, TARGETS, strict=True):
        score = sum(x * y for x, y in zip(example, w, strict=True)) + b
        probability = 0.5 * (ops.tanh(score / 2) + 1)
        total = total - ops.log(probability if target else 1 - probability)
    return total


def norm(x: Any) -> Any:
    return sum(x_i * x_i for x_i in x) ** 0.5


def directional(d: Any, w: Any, v: Any) -> Any:
    gradient = d.grad(logistic_loss)(w, 0.5)
    return sum(g * v_i for g, v_i in zip(gradient, v, strict=True))


V = [0.2, -1.0, 0.4]
COOKBOOK: dict[str, Body] = {
    "gradient of the weights": lambda d: d.grad(logistic_loss, argnums=0)(WEIGHTS, 0.5),
    "gradient of the bias": lambda d: d.grad(logistic_loss, 1)(WEIGHTS, 0.5),
    "both at once": lambda d: d.value_and_grad(logistic_loss, (0, 1))(WEIGHTS, 0.5),
    "parameters in a dict": lambda d: d.grad(lambda p: logistic_loss(p["W"], p["b"]))({"W": WEIGHTS, "b": 0.5}),
    "jacobian of the predictions": lambda d: d.jacrev(
        lambda w: [ops.sigmoid(sum(x * y for x, y in zip(row, w, strict=True))) for row in EXAMPLES]
    )(WEIGHTS),
    "hessian": lambda d: d.hessian(logistic_loss)(WEIGHTS, 0.5),
    "forward over reverse": lambda d: d.jvp(lambda w: d.grad(logistic_loss)(w, 0.5), (WEIGHTS,), (V,))[1],
    "reverse over reverse": lambda d: d.grad(lambda w: directional(d, w, V))(WEIGHTS),
    "reverse over forward": lambda d: d.grad(lambda w: d.jvp(lambda u: logistic_loss(u, 0.5), (w,), (V,))[1])(WEIGHTS),
    "norm": lambda d: d.grad(norm)(WEIGHTS),
    "tanh, thrice": lambda d: [
        d.grad(ops.tanh)(2.0),
        d.grad(d.grad(ops.tanh))(2.0),
        d.grad(d.grad(d.grad(ops.tanh)))(2.0),
    ],
}


@cases("cookbook", COOKBOOK)
def test_the_cookbooks_logistic_regression(title: str, name: str) -> None:
    agree(title, name, rtol=1e-11)


def test_the_hessian_vector_product_is_the_same_in_every_order_of_modes() -> None:
    results = [COOKBOOK[name](ag) for name in ("forward over reverse", "reverse over reverse", "reverse over forward")]
    results.append(list(np.array(COOKBOOK["hessian"](ag)) @ V))
    results.append(ag.hvp(lambda w: logistic_loss(w, 0.5), (WEIGHTS,), (V,)))
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=1e-12)


def test_the_gradient_is_the_limit_of_central_differences() -> None:
    step = 1e-5
    for i, slope in enumerate(ag.grad(logistic_loss)(WEIGHTS, 0.5)):
        up, down = ([w + sign * step * (i == j) for j, w in enumerate(WEIGHTS)] for sign in (1, -1))
        assert (logistic_loss(up, 0.5) - logistic_loss(down, 0.5)) / (2 * step) == pytest.approx(slope, rel=1e-8)


# Custom derivative rules: JAX's tutorial


def _log1pexp(d: Any) -> Any:
    @d.custom_jvp
    def log1pexp(x: Any) -> Any:
        return ops.log(1.0 + ops.exp(x))

    @log1pexp.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        (x,), (x_dot,) = primals, tangents
        return log1pexp(x), (1 - 1 / (1 + ops.exp(x))) * x_dot

    return log1pexp


def _of_a_square_root(d: Any) -> Any:
    """x / (1 + √x), differentiable at 0 by its rule."""

    @d.custom_jvp
    def f(x: Any) -> Any:
        return x / (1 + ops.sqrt(x))

    @f.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        (x,), (x_dot,) = primals, tangents
        return f(x), ((ops.sqrt(x) + 2) / (2 * (ops.sqrt(x) + 1) ** 2)) * x_dot

    return f


def _clip_gradient(d: Any) -> Any:
    @d.custom_vjp
    def clip_gradient(low: Any, high: Any, x: Any) -> Any:
        return x

    def forward(low: Any, high: Any, x: Any) -> Any:
        return x, (low, high)

    def backward(residuals: Any, cotangent: Any) -> Any:
        return None, None, ops.clip(cotangent, *residuals)

    clip_gradient.defvjp(forward, backward)
    return clip_gradient


def _fixed_point(d: Any) -> Any:
    """Solves x = f(a, x); its derivative is that of the solution, not of the steps (the implicit function theorem)."""

    @functools.partial(d.custom_vjp, nondiff_argnums=(0,))
    def fixed_point(f: Function, a: Any, guess: Any) -> Any:
        x = guess
        for _ in range(10):
            x = f(a, x)
        return x

    def forward(f: Function, a: Any, guess: Any) -> Any:
        x = fixed_point(f, a, guess)
        return x, (a, x)

    def backward(f: Function, residuals: Any, ct: Any) -> Any:
        a, x = residuals
        _, pull_a = d.vjp(lambda a: f(a, x), a)
        (a_bar,) = pull_a(fixed_point(functools.partial(_backward_step, d, f), (a, x, ct), ct))
        return a_bar, ct * 0.0

    fixed_point.defvjp(forward, backward)
    return fixed_point


def _backward_step(d: Any, f: Function, packed: Any, u: Any) -> Any:
    a, x, ct = packed
    _, pull_x = d.vjp(lambda x: f(a, x), x)
    return ct + pull_x(u)[0]


def _newton_sqrt(d: Any) -> Function:
    return lambda a: _fixed_point(d)(lambda a, x: 0.5 * (x + a / x), a, a)


def _sine_times(d: Any) -> Any:
    @d.custom_jvp
    def f(x: Any, y: Any = 2.0) -> Any:
        return ops.sin(x) * y

    @f.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        (x, y), (x_dot, y_dot) = primals, tangents
        return f(x, y), ops.cos(x) * x_dot * y + ops.sin(x) * y_dot

    return f


def _sine_times_by_parts(d: Any) -> Any:
    @d.custom_jvp
    def f(x: Any, y: Any) -> Any:
        return ops.sin(x) * y

    f.defjvps(lambda x_dot, ans, x, y: ops.cos(x) * x_dot * y, None)
    return f


def _app(d: Any) -> Any:
    """Applies a function, with a derivative that is twice the right one."""

    @functools.partial(d.custom_jvp, nondiff_argnums=(0,))
    def app(f: Function, x: Any) -> Any:
        return f(x)

    @app.defjvp
    def rule(f: Function, primals: Any, tangents: Any) -> Any:
        (x,), (x_dot,) = primals, tangents
        return app(f, x), 2.0 * x_dot

    return app


def _of_points(d: Any) -> Any:
    @d.custom_jvp
    def f(point: Point, scale: dict[str, Any]) -> Any:
        return {"a": point.x**2 * scale["s"], "b": [ops.sin(point.x), point.y]}

    @f.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        (point, scale), (point_dot, scale_dot) = primals, tangents
        out = f(point, scale)
        tangent = 2.0 * point.x * point_dot.x * scale["s"] + point.x**2 * scale_dot["s"]
        return out, {"a": tangent, "b": [ops.cos(point.x) * point_dot.x, 3.0 * point_dot.y]}

    return f


def _product_of_points(d: Any) -> Any:
    @d.custom_vjp
    def f(point: Point) -> Any:
        return point.x * point.y, (point.x,)

    def backward(residuals: Any, ct: Any) -> Any:
        point, (first, (second,)) = residuals, ct
        return (Point(first * point.y + second, 10.0 * first * point.x),)

    f.defvjp(lambda point: (f(point), point), backward)
    return f


def _vjp_rule(d: Any) -> Any:
    @d.custom_vjp
    def f(x: Any, y: Any) -> Any:
        return ops.sin(x) * y

    f.defvjp(
        lambda x, y: (ops.sin(x) * y, (ops.cos(x), ops.sin(x), y)), lambda res, g: (res[0] * g * res[2], res[1] * g)
    )
    return f


def _traced(d: Any, fun: Function) -> Function:
    """JAX gives Python floats to a rule as they are, and then 1 / 0 is Python's: under jit it does not."""
    return fun if d is ag else d.jit(fun)


def _logarithm(d: Any) -> Any:
    """Its rule divides by zero at 0."""

    @d.custom_jvp
    def f(x: Any) -> Any:
        return ops.log(x)

    f.defjvp(lambda primals, tangents: (f(*primals), (1 / primals[0]) * tangents[0]))
    return f


def _logarithm_backwards(d: Any) -> Any:
    @d.custom_vjp
    def f(x: Any) -> Any:
        return ops.log(x)

    f.defvjp(lambda x: (f(x), (x, 1 / x)), lambda residuals, ct: (ct * (residuals[1] + 1 / residuals[0]) / 2,))
    return f


CUSTOM: dict[str, Body] = {
    "a rule that divides by zero": lambda d: _traced(d, d.value_and_grad(_logarithm(d)))(0.0),
    "a vjp rule that divides by zero": lambda d: _traced(d, d.value_and_grad(_logarithm_backwards(d)))(0.0),
    "log1pexp at 3": lambda d: d.grad(_log1pexp(d))(3.0),
    "log1pexp where it overflows": lambda d: d.grad(_log1pexp(d))(1000.0),
    "log1pexp compiled": lambda d: d.jit(d.grad(_log1pexp(d)))(3.0),
    "log1pexp mapped": lambda d: d.vmap(d.jit(d.grad(_log1pexp(d))))(np.arange(3.0)),
    "log1pexp, second derivative": lambda d: d.grad(d.grad(_log1pexp(d)))(0.3),
    "log1pexp, third derivative": lambda d: d.jacfwd(d.jacrev(d.grad(_log1pexp(d))))(0.3),
    "an edge of the domain": lambda d: d.grad(_of_a_square_root(d))(0.0),
    "an edge of the domain, forwards": lambda d: d.jvp(_of_a_square_root(d), (0.0,), (1.0,)),
    "a clipped gradient": lambda d: [
        d.grad(lambda x: 5.0 * _clip_gradient(d)(-0.75, 0.75, x * x))(x) for x in (-2.0, 0.1, 3.0)
    ],
    "a clipped gradient, mapped": lambda d: d.vmap(d.grad(lambda x: ops.sin(_clip_gradient(d)(-0.75, 0.75, x))))(
        np.arange(5.0)
    ),
    "a fixed point": lambda d: d.value_and_grad(_newton_sqrt(d))(2.0),
    "a fixed point, twice": lambda d: d.grad(d.grad(_newton_sqrt(d)))(2.0),
    "a rule for two arguments": lambda d: d.grad(_sine_times(d), (0, 1))(2.0, 3.0),
    "its jvp": lambda d: d.jvp(_sine_times(d), (2.0, 3.0), (1.0, 0.5)),
    "its vjp": lambda d: d.vjp(_sine_times(d), 2.0, 3.0)[1](2.0),
    "its hessian": lambda d: d.hessian(_sine_times(d), (0, 1))(2.0, 3.0),
    "its linearize": lambda d: d.linearize(_sine_times(d), 2.0, 3.0)[1](1.0, 1.0),
    "only one argument of it": lambda d: d.grad(lambda x: _sine_times(d)(x, 3.0) + _sine_times(d)(1.0, x))(2.0),
    "the same number as both": lambda d: d.grad(lambda x: _sine_times(d)(x, x))(2.0),
    "a keyword": lambda d: d.grad(lambda x: _sine_times(d)(x, y=x))(2.0),
    "keywords in another order": lambda d: d.grad(lambda x: _sine_times(d)(y=x, x=1.0))(2.0),
    "a default": lambda d: d.grad(_sine_times(d))(2.0),
    "rules by argument": lambda d: d.grad(_sine_times_by_parts(d), (0, 1))(2.0, 3.0),
    "a function as argument": lambda d: d.grad(lambda x: _app(d)(lambda y: y**3, x) * x)(2.0),
    "containers": lambda d: d.jacrev(_of_points(d), (0, 1))(Point(2.0, 3.0), {"s": 4.0}),
    "containers, forwards": lambda d: d.jacfwd(_of_points(d), (0, 1))(Point(2.0, 3.0), {"s": 4.0}),
    "containers and a vjp rule": lambda d: d.jacrev(_product_of_points(d))(Point(2.0, 3.0)),
    "a vjp rule": lambda d: d.grad(_vjp_rule(d), (0, 1))(2.0, 3.0),
    "a vjp rule, twice": lambda d: d.grad(d.grad(_vjp_rule(d)))(2.0, 3.0),
    "a vjp rule, forward over reverse": lambda d: d.hessian(_vjp_rule(d), (0, 1))(2.0, 3.0),
    "a vjp rule, compiled": lambda d: d.jit(d.value_and_grad(_vjp_rule(d)))(2.0, 3.0),
    "a rule within a rule's function": lambda d: d.grad(
        lambda x: _sine_times(d)(_log1pexp(d)(x), d.grad(_log1pexp(d))(x))
    )(0.5),
    "without a derivative": lambda d: [_sine_times(d)(2.0), _vjp_rule(d)(2.0, 3.0), d.jit(_log1pexp(d))(2.0)],
    "a nested container and no tangent": lambda d: d.grad(lambda x: _of_points(d)(Point(x, 1.0), {"s": 1.0})["b"][0])(
        2.0
    ),
}


@cases("custom", CUSTOM)
def test_custom_rules_do_what_jaxs_tutorial_shows(title: str, name: str) -> None:
    agree(title, name, rtol=1e-11)


def test_a_naive_log1pexp_has_a_nan_where_its_rule_has_one() -> None:
    assert math.isnan(ag.grad(lambda x: ops.log(1.0 + ops.exp(x)))(1000.0))
    assert ag.grad(_log1pexp(ag))(1000.0) == 1.0


def test_forward_mode_of_a_vjp_rule_is_a_type_error() -> None:
    for attempt in (
        lambda: ag.jvp(_vjp_rule(ag), (2.0, 3.0), (1.0, 0.0)),
        lambda: ag.jacfwd(_vjp_rule(ag))(2.0, 3.0),
        lambda: ag.jacfwd(ag.jacfwd(_vjp_rule(ag)))(2.0, 3.0),
    ):
        with pytest.raises(TypeError, match="custom_vjp"):
            attempt()


@pytest.mark.parametrize("custom", [ag.custom_jvp, ag.custom_vjp])
def test_a_custom_function_without_a_rule_says_what_to_call(custom: Any) -> None:
    @custom
    def f(x: Any) -> Any:
        return x * x

    assert f(3.0) == 9.0
    with pytest.raises(AttributeError, match=r"f.*def[jv]"):
        ag.grad(f)(3.0)


@pytest.mark.parametrize("custom", [ag.custom_jvp, ag.custom_vjp])
def test_a_keyword_only_argument_of_a_custom_function_is_an_error(custom: Any) -> None:
    @custom
    def f(x: Any, *, scale: float = 2.0) -> Any:
        return scale * x

    with pytest.raises(TypeError, match="scale"):
        f(3.0, scale=5.0)


@pytest.mark.parametrize("answer", [3.0, (3.0,), (3.0, (1.0, 1.0)), None])
def test_a_jvp_rule_that_returns_no_fitting_pair_is_an_error(answer: Any) -> None:
    @ag.custom_jvp
    def f(x: Any) -> Any:
        return x * x

    f.defjvp(lambda primals, tangents: answer)
    with pytest.raises(TypeError, match="rule of f must return"):
        ag.grad(f)(3.0)


@pytest.mark.parametrize("answer", [3.0, (3.0, 1.0), ((3.0, 1.0),), ()])
def test_a_vjp_rule_that_returns_no_fitting_cotangents_is_an_error(answer: Any) -> None:
    @ag.custom_vjp
    def f(x: Any) -> Any:
        return x * x

    f.defvjp(lambda x: (x * x, None), lambda residuals, ct: answer)
    with pytest.raises(TypeError, match="rule of f"):
        ag.grad(f)(3.0)


def test_the_backward_rule_sees_the_numbers_of_its_own_call() -> None:
    """The tutorial's way to debug a gradient: Python runs in the backward rule."""
    seen: list[Any] = []

    @ag.custom_vjp
    def watch(x: Any) -> Any:
        return x

    def backward(x: float, ct: float) -> tuple[float]:
        seen.append((round(x), round(ct)))
        return (ct,)

    watch.defvjp(lambda x: (x, x), backward)
    assert ag.grad(lambda x: watch(x * x) * 3.0)(2.0) == 12.0
    assert seen == [(4, 3)]


def test_custom_rules_work_on_methods_and_on_partials() -> None:
    class Scale:
        factor = 3.0

        @functools.partial(ag.custom_jvp, nondiff_argnums=(0,))
        def times(self, x: Any) -> Any:
            return self.factor * x

        @times.defjvp
        def rule(self, primals: Any, tangents: Any) -> Any:
            return self.times(*primals), 100.0 * tangents[0]

    assert ag.value_and_grad(Scale().times)(2.0) == (6.0, 100.0)
    doubled = ag.custom_jvp(functools.partial(lambda a, x: a * x, 2.0))
    doubled.defjvp(lambda primals, tangents: (doubled(*primals), 2.0 * tangents[0]))
    assert ag.grad(doubled)(5.0) == 2.0


def test_a_negative_nondiff_argnum_counts_from_the_end() -> None:
    f = ag.custom_vjp(lambda x, n: x**n, nondiff_argnums=(-1,))
    f.defvjp(lambda x, n: (x**n, x), lambda n, x, ct: (1000.0 * n * ct,))
    assert ag.grad(f)(2.0, 3) == 3000.0


# stop_gradient, and the derivatives at the edges (the sharp bits)

EDGES: dict[str, Body] = {
    "stop_gradient": lambda d: d.grad(lambda x: x * _stop(d)(x))(3.0),
    "stop_gradient of containers": lambda d: d.grad(lambda x: x * _stop(d)({"a": (x, x * x)})["a"][1])(3.0),
    "stop_gradient at every level": lambda d: d.grad(lambda x: d.grad(lambda y: _stop(d)(x * y) * y * x)(2.0))(3.0),
    "stop_gradient forwards": lambda d: d.jvp(lambda x: x * _stop(d)(x), (3.0,), (1.0,)),
    "stop_gradient compiled": lambda d: d.jit(d.grad(lambda x: x * _stop(d)(x * x)))(3.0),
    "a straight-through estimator": lambda d: d.grad(lambda x: (x + _stop(d)(ops.round(x) - x)) ** 2)(2.6),
    "temporal difference": lambda d: d.grad(lambda th: (1.0 + _stop(d)(th * 0.2) - th * 0.1) ** 2)(0.3),
    "control flow on a value": lambda d: [d.grad(lambda x: 3.0 * x**2 if x < 3 else -4.0 * x)(x) for x in (2.0, 4.0)],
    "a loop": lambda d: d.grad(lambda x: math.prod([x] * 5))(1.1),
    "the square root at zero": lambda d: d.grad(ops.sqrt)(0.0),
    "the where trap": lambda d: d.grad(lambda x: ops.where(x > 0, ops.log(x), 0.0))(0.0),
    "the where trap, avoided": lambda d: d.grad(lambda x: ops.where(x > 0, ops.log(ops.where(x > 0, x, 1.0)), 0.0))(
        0.0
    ),
    "0/0": lambda d: d.grad(lambda x: x / x)(0.0),
    "a norm at zero": lambda d: d.grad(lambda x: ops.sqrt(x * x))(0.0),
    "one over a sign": lambda d: d.grad(lambda x: x * (1 / ops.sign(x)))(0.0),
    "one over a floor": lambda d: d.grad(lambda x: x * ops.floor(x) ** -1)(0.5),
    "a great power of a whole part": lambda d: d.grad(lambda x: x * (x // 1.0) ** 400)(9.5),
    "one over a stopped zero": lambda d: _traced(d, d.grad(lambda x: x * (1 / _stop(d)(x))))(0.0),
    "abs at zero": lambda d: d.grad(abs)(0.0),
    "a not": lambda d: d.grad(lambda x: ops.where(~(x > 0.0), x, 3.0 * x))(1.0),
    "and, or": lambda d: d.grad(lambda x: ops.where((x > 0.0) & (x < 2.0) | (x > 5.0), x, 3.0 * x))(1.0),
    "a truth value as number": lambda d: d.grad(lambda x: (x > 0.0) * x * x)(3.0),
    "x**0 at zero": lambda d: d.grad(lambda x: x**0)(0.0),
    "an integer power at zero": lambda d: d.grad(lambda x: x**2 + x**1 + x**3)(0.0),
    "second derivative of a square at zero": lambda d: d.grad(d.grad(lambda x: x**2))(0.0),
    "second derivative of a cube at zero": lambda d: d.grad(d.grad(lambda x: x**3))(0.0),
    "a whole power of a negative number": lambda d: d.grad(d.grad(lambda x: x**4.0))(-2.0),
    "a traced exponent": lambda d: d.grad(lambda x, y: x**y, (0, 1))(2.0, 3.0),
    "a traced exponent of zero": lambda d: d.grad(lambda x, y: x**y, (0, 1))(0.0, 2.0),
    "a traced base and exponent alike": lambda d: d.grad(d.grad(lambda x: x**x))(1.5),
    "a constant to a traced exponent": lambda d: d.grad(lambda x: 2**x + 0.5**x)(1.5),
    "relu at zero": lambda d: d.grad(ops.relu)(0.0),
    "a tie": lambda d: d.grad(ops.maximum, (0, 1))(2.0, 2.0),
    "a tie among three": lambda d: d.grad(lambda x: ops.max([x[0], x[1], x[2]]))([2.0, 2.0, 1.0]),
}


def _stop(d: Any) -> Function:
    return ag.stop_gradient if d is ag else jax.lax.stop_gradient


@cases("edges", EDGES)
def test_edges_and_stopped_gradients_are_jaxs(title: str, name: str) -> None:
    agree(title, name)


# Python's operators

OPERATORS: dict[str, Function] = {
    "x + 2": lambda x: x + 2,
    "2 + x": lambda x: 2 + x,
    "x - 2": lambda x: x - 2,
    "2 - x": lambda x: 2 - x,
    "x * 3": lambda x: x * 3,
    "3 * x": lambda x: 3 * x,
    "x / 3": lambda x: x / 3,
    "3 / x": lambda x: 3 / x,
    "x // 0.7": lambda x: x // 0.7 * x,
    "7 // x": lambda x: 7 // x * x,
    "x % 0.7": lambda x: x % 0.7,
    "-7 % x": lambda x: -7 % x,
    "x % -0.7": lambda x: x % -0.7,
    "divmod(x, 0.7)": lambda x: divmod(x, 0.7)[0] * x + divmod(x, 0.7)[1],
    "divmod(7, x)": lambda x: divmod(7.0, x)[0] * x + divmod(7.0, x)[1],
    "x ** 2": lambda x: x**2,
    "x ** -3": lambda x: x**-3,
    "x ** 0": lambda x: x**0 * x,
    "x ** 3.0": lambda x: x**3.0,
    "2 ** x": lambda x: 2**x,
    "(x * x) ** x": lambda x: (x * x) ** x,
    "-x": lambda x: -x,
    "+x": lambda x: +x,
    "abs(x)": abs,
    "round(x)": lambda x: round(x) * x,
    "round(x, 1)": lambda x: round(x, 1) * x,
    "math.prod": lambda x: math.prod([x, 2, x]),
    "sum": lambda x: sum([x, 2, x]),
    "pow": lambda x: pow(x, 2),
    "x + True": lambda x: x + True,
    "NumPy's scalars": lambda x: np.float64(2.0) * x + x / np.float64(3.0) - np.float64(1.0),
}
PLACES = (-2.6, -0.75, 0.3, 1.4)  # no halves, no wholes


@functools.cache
def jaxs_operators() -> dict[str, Any]:
    """Values and derivatives of all operators at all places."""

    def together() -> dict[str, Any]:
        return {name: jax.vmap(jax.value_and_grad(operator))(np.array(PLACES)) for name, operator in OPERATORS.items()}

    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        answers: dict[str, Any] = jax.jit(together)()
        return answers


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_are_pythons_and_their_derivatives_jaxs(name: str) -> None:
    operator = OPERATORS[name]
    ours = [ag.value_and_grad(operator)(x) for x in PLACES]
    np.testing.assert_allclose([value for value, _ in ours], [operator(x) for x in PLACES], rtol=1e-15)
    np.testing.assert_allclose(ours, np.stack(jaxs_operators()[name], axis=1), rtol=1e-13)


def test_comparisons_are_pythons_and_choose_branches() -> None:
    taken: list[Any] = []

    def f(x: Any) -> Any:
        simple = [x < 2, 2 > x, x <= 1.5, x >= 2, x == 1.5, 1.5 == x, x != 1.5]  # noqa: SIM300
        taken.extend(map(bool, [*simple, 0 < x < 1, 1 < x < 2, x in (1.5, 2.0), not x]))
        return x * x if 0 < x < 5 else -x

    assert ag.grad(f)(1.5) == 3.0
    assert taken == [True, True, True, False, True, True, False, False, True, True, False]
    assert ag.grad(f)(6.0) == -1.0
    assert ag.grad(lambda x: x if x else 7.0 * x)(0.0) == 7.0
    assert ag.grad(lambda x: max(x, 1.0) * min(x, 3.0) + sorted([x, 0.0])[0])(2.0) == 4.0


def test_comparing_with_what_is_no_number() -> None:
    def f(x: Any) -> Any:
        assert x != "text"
        assert x is not None
        assert x != None  # noqa: E711
        with pytest.raises(TypeError):
            assert x < "text"
        return x

    assert ag.grad(f)(1.5) == 1.0


def test_nan_compares_as_in_ieee_754() -> None:
    assert ag.grad(lambda x: x if x == x else 2.0 * x)(NAN) == 2.0
    assert ag.grad(lambda x: x if x > 0 or x <= 0 else 2.0 * x)(NAN) == 2.0


def test_rounding_gives_the_ints_that_python_gives() -> None:
    def f(x: Any) -> Any:
        numbers = (int(x), round(x), math.floor(x), math.ceil(x), math.trunc(x))
        assert numbers == (-2, -3, -3, -2, -2)
        assert all(type(n) is int for n in numbers)
        return x * ("abc"[int(-x)] == "c")

    assert ag.grad(f)(-2.7) == 1.0


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (lambda x: x + "a", "str"),
        (lambda x: [1.0] - x, "list"),
        (lambda x: x * None, "NoneType"),
        (lambda x: x + 1j, "complex"),
    ],
)
def test_operators_refuse_what_is_no_number(wrong: Function, kind: str) -> None:
    with pytest.raises(TypeError, match=kind):
        ag.grad(wrong)(1.0)


def test_a_traced_float_is_no_key_and_no_index() -> None:
    for wrong in (lambda x: {x: 1.0}[x], lambda x: [1.0, 2.0][x], lambda x: sum(range(x))):
        with pytest.raises(TypeError):
            ag.grad(wrong)(1.0)


# Errors

BAD_ARGUMENTS: dict[str, tuple[Any, str]] = {
    "int": (3, "int.*3.0"),
    "bool": (True, "bool"),
    "string": ("word", "str.*word"),
    "complex": (1j, "complex"),
    "NumPy int": (np.int32(3), "int32"),
    "array of ints": (np.array([1, 2]), "int"),
    "an int in a list": ([1.0, 2], "int"),
    "an int in a dict": ({"a": 1.0, "b": {"c": 2}}, "int"),
    "a set": ({1.0}, "set"),
    "a function": (math.sin, "builtin"),
}


@pytest.mark.parametrize(("argument", "message"), BAD_ARGUMENTS.values(), ids=list(BAD_ARGUMENTS))
@pytest.mark.parametrize("transform", [ag.grad, ag.jacfwd, ag.jacrev, ag.hessian])
def test_an_argument_that_is_no_float_has_no_derivative(transform: Function, argument: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        transform(lambda x: 1.0)(argument)


BAD_OUTPUTS: dict[str, tuple[Function, str]] = {
    "int": (lambda x: 3, "int"),
    "bool": (lambda x: x > 0, "bool"),
    "string": (lambda x: "word", "str"),
    "complex": (lambda x: 1j, "complex"),
    "nothing": (lambda x: None, "scalar"),
    "pair": (lambda x: (x, x), "scalar"),
    "list of one": (lambda x: [x], "scalar"),
    "array": (lambda x: np.array([x]), "scalar"),
    "dict": (lambda x: {"a": x}, "scalar"),
}


@pytest.mark.parametrize(("fun", "message"), BAD_OUTPUTS.values(), ids=list(BAD_OUTPUTS))
@pytest.mark.parametrize("transform", [ag.grad, ag.value_and_grad])
def test_a_gradient_needs_one_float_as_output(transform: Function, fun: Function, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        transform(fun)(1.0)


@pytest.mark.parametrize("argnums", [1, -2, (0, 1), 5])
def test_argnums_out_of_range_says_how_many_arguments_came(argnums: Any) -> None:
    with pytest.raises(TypeError, match="only 1 positional"):
        ag.grad(lambda x: x, argnums)(1.0)


def test_an_argument_to_differentiate_by_is_no_keyword() -> None:
    with pytest.raises(TypeError, match="positional"):
        ag.grad(lambda x: x)(x=1.0)


@pytest.mark.parametrize("argnums", [1.0, "x", None, (0.0,)])
def test_argnums_are_ints(argnums: Any) -> None:
    with pytest.raises(TypeError, match="argnums"):
        ag.grad(lambda x: x, argnums)(1.0)


@pytest.mark.parametrize("output", [1.0, (1.0,), (1.0, 2.0, 3.0), {"a": 1.0, "b": 2.0}])
def test_has_aux_needs_a_pair(output: Any) -> None:
    with pytest.raises(TypeError, match="pair"):
        ag.grad(lambda x: output, has_aux=True)(1.0)


def test_tangents_are_nested_like_the_primals() -> None:
    for primals, tangents in [
        ((1.0,), (1.0, 2.0)),
        ((1.0,), ()),
        (((1.0, 2.0),), ([1.0, 2.0],)),
        (({"a": 1.0},), ({"b": 1.0},)),
        ((1.0,), (1,)),
        (1.0, 1.0),
        ((1.0,), 1.0),
        ([1.0], (1.0,)),
    ]:
        with pytest.raises(TypeError):
            ag.jvp(lambda x: 1.0, primals, tangents)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="linearize"):
        ag.linearize(smooth, 1.0, 2.0)[1](1.0)


@pytest.mark.parametrize("cotangent", [1.0, [1.0, 2.0], (1.0,), (1.0, 2), (1.0, "a"), (1.0, None)])
def test_a_cotangent_is_nested_like_the_output(cotangent: Any) -> None:
    _, pull = ag.vjp(lambda x: (x, x * x), 3.0)
    with pytest.raises((TypeError, ValueError)):
        pull(cotangent)


@pytest.mark.parametrize("name", ["sin", "exp", "atan", "lgamma", "fabs", "isnan", "gamma", "frexp"])
def test_a_function_of_math_is_refused_and_the_error_names_ops(name: str) -> None:
    with pytest.raises(TypeError, match=r"math.*ops\.sin") as caught:
        ag.grad(lambda x: getattr(math, name)(x))(0.5)
    assert all(hasattr(ops, word) for word in re.findall(r"\bops\.(\w+)", str(caught.value)))
    with pytest.raises(TypeError, match="ops"):
        ag.grad(lambda x: math.atan2(x, 1.0) + math.hypot(1.0, x))(0.5)


def test_float_of_a_traced_float_is_an_error() -> None:
    with pytest.raises(TypeError, match="derivative"):
        ag.grad(lambda x: float(x))(1.0)
    with pytest.raises(TypeError):
        ag.grad(lambda x: math.sin(x))(1.0)
    with pytest.raises(TypeError):
        ag.grad(lambda x: complex(x).real)(1.0)


def test_an_exception_of_the_function_comes_through_and_leaves_nothing_behind() -> None:
    def broken(x: Any) -> Any:
        raise KeyError("mine")

    for attempt in (
        lambda: ag.grad(broken)(1.0),
        lambda: ag.jvp(broken, (1.0,), (1.0,)),
        lambda: ag.grad(lambda x: ag.grad(broken)(x))(1.0),
    ):
        with pytest.raises(KeyError, match="mine"):
            attempt()
    compiled = ag.jit(lambda x: x * x)
    assert (compiled(3.0), compiled(3.0)) == (9.0, 9.0)
    assert "square" in compiled.source or "x * x" in compiled.source  # it is compiled: no transformation is still open


@pytest.mark.parametrize("zero", [None, lambda t, ans, *args: None], ids=["no rule", "a rule that gives None"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_an_argument_without_a_derivative_gets_none_whatever_the_number_of_arguments(zero: Any, count: int) -> None:
    """What the last argument has received from elsewhere stays as it is."""
    first = (lambda t, ans, *args: 2.0 * t,) * (count - 1)
    last = Primitive("last", lambda *args: sum(args), (*first, lambda t, ans, *args: None), reverse=(*first, zero))
    gradient = ag.grad(lambda *args: last(*args) + 3.0 * args[-1], tuple(range(count)))(*[1.0] * count)
    assert gradient == (*[2.0] * (count - 1), 3.0)


# The compiler makes derivatives faster, and nothing else


def imported_by(name: str) -> set[str]:
    """The files of autograd that one imports, and those that they import."""
    tree = ast.parse((Path(ag.__file__).parent / f"{name}.py").read_text(encoding="utf-8"))
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    files = {
        str(node.module).removeprefix("funcgrad.autograd.") for node in froms if node.module != "funcgrad.autograd"
    }
    files |= {alias.name for node in froms if node.module == "funcgrad.autograd" for alias in node.names}
    files = {file for file in files if (Path(ag.__file__).parent / f"{file}.py").exists()}
    return files.union(*map(imported_by, files))


@pytest.mark.parametrize("name", ["graph", "primitives", "transforms", "custom_rules", "ops", "draw"])
def test_derivatives_do_not_need_the_compiler(name: str) -> None:
    assert not imported_by(name) & {"trace_graph", "codegen", "compiler", "compiled_rules", "jit_cache", "batching"}
    assert "codegen" in imported_by("jit_cache")


@pytest.mark.parametrize("name", [name for name, primitive in primitives.TABLE.items() if primitive.smooth])
def test_compiled_rules_give_the_bits_of_the_rules(name: str) -> None:
    primitive = primitives.TABLE[name]
    numbers = [0.5, -1.5, 0.0, -0.0, 2.0, 1e200, math.inf, -math.inf, math.nan]
    choices: list[Any] = [numbers] * len(primitive.rules)
    if name == "select":
        choices[0] = [True, False]
    if name in ("polygamma", "bessel_i", "scaled_erfc"):
        choices[0] = [1, 2, 3]
    if name in ("integer_pow", "label"):
        choices[1] = ["a name"] if name == "label" else [-3, -1, 0, 1, 2, 3, 5]
    for args in itertools.product(*choices):
        for t in (1.5, -0.0, math.inf):
            ans = primitive.value(*args)
            for rules, compiled in ((primitive.rules, primitive.jvp), (primitive.reverse, primitive.vjp)):
                expected = [x if x is None else float.hex(x) for x in apply_rules(rules, t, ans, *args)]
                assert [x if x is None else float.hex(x) for x in compiled(t, ans, *args)] == expected, args


# Tracers that escape


def escaped() -> Any:
    kept: list[Any] = []

    def f(x: Any) -> Any:
        kept.append(x)
        return x * x

    assert ag.grad(f)(3.0) == 6.0
    return kept[0]


USES: dict[str, Callable[[Any], Any]] = {
    "+": lambda x: x + 1.0,
    "reflected": lambda x: 1.0 - x,
    "itself": lambda x: x * x,
    "unary": lambda x: -x,
    "abs": abs,
    "**": lambda x: x**2,
    "comparison": lambda x: x < 1.0,
    "condition": bool,
    "round": round,
    "floor": math.floor,
    "a function": ops.sin,
    "where": lambda x: ops.where(True, x, 1.0),
    "in grad": lambda x: ag.grad(lambda y: y * x)(1.0),
    "as the value of a function": lambda x: ag.grad(lambda y: x)(1.0),
    "as an auxiliary value": lambda x: ag.grad(lambda y: (y, x), has_aux=True)(1.0),
    "as an argument": lambda x: ag.grad(lambda y: y * y)(x),
    "in jit": lambda x: ag.jit(lambda y: y * x)(1.0),
    "as the value of jit": lambda x: ag.jit(lambda y: x)(1.0),
    "in vmap": lambda x: ag.vmap(lambda y: y * x)(np.ones(2)),
    "int": int,
    "stop_gradient": ag.stop_gradient,
}


@pytest.mark.parametrize("use", USES.values(), ids=list(USES))
def test_an_escaped_tracer_raises_instead_of_giving_a_number(use: Callable[[Any], Any]) -> None:
    with pytest.raises(ag.EscapedError, match="escaped"):
        use(escaped())


def test_a_tracer_that_escapes_to_the_level_above_raises() -> None:
    def outer(x: Any) -> Any:
        kept: list[Any] = []

        def inner(y: Any) -> Any:
            kept.append(y)
            return y * x

        ag.grad(inner)(1.0)
        return x * kept[0]

    with pytest.raises(ag.EscapedError):
        ag.grad(outer)(2.0)


def test_a_tracer_of_the_level_above_does_not_escape() -> None:
    def outer(x: Any) -> Any:
        kept: list[Any] = []

        def inner(y: Any) -> Any:
            kept.append(x * 2.0)
            return y

        ag.grad(inner)(1.0)
        return x * kept[0]

    assert ag.grad(outer)(3.0) == 12.0


def test_what_a_pullback_gives_inside_a_transformation_escapes_with_it() -> None:
    kept: list[Any] = []

    def outer(x: Any) -> Any:
        kept.append(ag.vjp(lambda y: y * x, 2.0)[1])
        return x

    ag.grad(outer)(3.0)
    with pytest.raises(ag.EscapedError):
        kept[0](1.0)


# What micrograd's and HIPS autograd's tests check


def sanity(x: Any) -> Any:
    """micrograd's first test."""
    z = 2 * x + 2 + x
    q = ops.relu(z) + z * x
    h = ops.relu(z * z)
    return h + q + q * x


def more_operations(a: Any, b: Any) -> Any:
    """micrograd's second test and the example of its README."""
    c = a + b
    d = a * b + b**3
    c += c + 1
    c += 1 + c + (-a)
    d += d * 2 + ops.relu(b + a)
    d += 3 * d + ops.relu(b - a)
    e = c - d
    f = e**2
    g = f / 2.0
    g += 10.0 / f
    return g


def assigned_again(x: Any) -> Any:
    total = x
    for _ in range(3):
        total = total + ops.sin(total) * x
        total *= 1.5
    return total


PEERS: dict[str, Body] = {
    "micrograd: sanity": lambda d: d.value_and_grad(sanity)(-4.0),
    "micrograd: more operations": lambda d: d.value_and_grad(more_operations, (0, 1))(-4.0, 2.0),
    "fan-out": lambda d: d.grad(d.grad(lambda x: (lambda y: ops.sin(y * y) + y * ops.cos(y))(ops.sin(x) + x)))(0.6),
    "a constant function": lambda d: d.grad(lambda x: 1.0)(2.0),
    "the identity": lambda d: d.grad(lambda x: x)(2.0),
    "the identity, twice": lambda d: d.grad(d.grad(lambda x: x))(2.0),
    "a name assigned again": lambda d: d.grad(assigned_again)(0.6),
    "a reference to the enclosing scope": lambda d: d.grad(lambda x: x * d.grad(lambda y: x**2 * y)(2.0))(2.5),
    "an inner function of both": lambda d: d.grad(lambda x: d.grad(lambda y: y * x)(x * x))(2.5),
    "mutating what a result is made of": lambda d: d.grad(lambda x: (lambda a: a[0] * a[1])([x, x * 2.0]))(3.0),
    "third derivative": lambda d: d.grad(d.grad(d.grad(lambda x: ops.sin(x) * x**3)))(0.6),
    "third derivative by other arguments": lambda d: d.grad(d.grad(d.grad(smooth, 1), 0), 1)(0.6, 0.7),
    "gradient and auxiliary value": lambda d: d.grad(lambda x: (x**2, 2.0), has_aux=True)(3.0),
    "many argnums": lambda d: d.grad(lambda x, y, z: x * y**2 * z**3, argnums=(2, 0))(2.0, 3.0, 4.0),
    "Hessian-vector product": lambda d: d.jvp(
        d.grad(lambda v: ops.sin(v[0] * v[1]) * v[0]), ([0.6, 0.7],), ([1.0, 2.0],)
    )[1],
    "generalised Gauss-Newton product": lambda d: d.vjp(lambda x: (x * x, ops.sin(x)), 0.6)[1](
        d.jvp(lambda x: (x * x, ops.sin(x)), (0.6,), (1.0,))[1]
    ),
    "the same dict entry twice": lambda d: d.grad(lambda p: p["a"] * p["a"] + p["b"]["c"] * p["a"])(
        {"a": 2.0, "b": {"c": 3.0}}
    ),
    "a container that is made": lambda d: d.grad(lambda x: sum({"a": x, "b": [x * x, (x,)]}["b"][1]) * x)(2.0),
    "iterating over a container": lambda d: d.grad(lambda p: sum(x * len(p) for x in p))([1.0, 2.0, 3.0]),
    "slices and concatenation": lambda d: d.grad(lambda p: math.prod((p[1:] + p[:1])[:2]))([2.0, 3.0, 5.0]),
    "an attribute of a named tuple": lambda d: d.grad(lambda p: p._replace(x=p.y).x * p.x)(Point(2.0, 3.0)),
}


@cases("peers", PEERS)
def test_the_cases_of_micrograd_and_autograd(title: str, name: str) -> None:
    agree(title, name)


def test_the_numbers_of_micrograds_readme() -> None:
    value, (a, b) = ag.value_and_grad(more_operations, (0, 1))(-4.0, 2.0)
    assert [round(x, 4) for x in (value, a, b)] == [24.7041, 138.8338, 645.5773]


# Textbook functions


def rosenbrock(v: Sequence[Any]) -> Any:
    return sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in itertools.pairwise(v))


def helmholtz(v: Sequence[Any]) -> Any:
    """The energy of Griewank and Walther's first example."""
    total = sum(v)
    mixed = sum(x * ops.log(x / (1 - total)) for x in v)
    return mixed - total * total / (ops.sqrt(8.0) * (1 + total)) * ops.log((1 + 2.4 * total) / (1 - 0.4 * total))


def speelpenning(v: Sequence[Any]) -> Any:
    return math.prod(v)


def pendulum(theta: Any) -> Any:
    velocity, step = 0.0, 0.05
    for _ in range(8):
        velocity = velocity - step * ops.sin(theta)
        theta = theta + step * velocity
    return theta


def continued_fraction(x: Any, depth: int = 8) -> Any:
    return 1 + x if depth == 0 else 1 + x / continued_fraction(x, depth - 1)


TEXTBOOK: dict[str, Body] = {
    "Rosenbrock": lambda d: [d.grad(rosenbrock)([-1.2, 1.0, 0.5]), d.hessian(rosenbrock)([-1.2, 1.0, 0.5])],
    "Helmholtz energy": lambda d: d.value_and_grad(helmholtz)([0.1, 0.2, 0.3]),
    "Speelpenning's product": lambda d: d.grad(speelpenning)([1.0, 2.0, 0.0, 4.0]),
    "a simulated pendulum": lambda d: d.jvp(pendulum, (1.0,), (1.0,)),
    "recursion": lambda d: d.value_and_grad(continued_fraction)(0.5),
    "softmax by hand": lambda d: d.jacfwd(lambda v: [ops.exp(x) / sum(map(ops.exp, v)) for x in v])([0.1, 0.5, -0.3]),
    "a normal density": lambda d: d.hessian(lambda p: -((p[0] - 1.0) ** 2) / (2 * p[1] ** 2) - ops.log(p[1]))(
        [0.3, 0.8]
    ),
    "arc length by the chain rule": lambda d: d.grad(lambda t: ops.hypot(d.grad(ops.cos)(t), 2.0 * d.grad(ops.sin)(t)))(
        0.4
    ),
}


@cases("textbook", TEXTBOOK)
def test_textbook_functions(title: str, name: str) -> None:
    agree(title, name, rtol=1e-11)


# Identities that hold for any function: random programs of smooth operations

UNARY = (ops.sin, ops.tanh, ops.exp, lambda x: x * x, lambda x: 1.0 / (2.0 + x * x), ops.arctan, lambda x: -x)
BINARY = (lambda x, y: x + y, lambda x, y: x - y, lambda x, y: x * y, lambda x, y: x / (3.0 + y * y))
steps = st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=12)
programs = steps.map(lambda choices: functools.partial(run_steps, choices))


def run_steps(choices: Sequence[tuple[int, int, int]], x: Any, y: Any) -> Any:
    """Computes with the numbers found so far; keeps them small."""
    found = [x, y, 0.5]
    for which, first, second in choices:
        a, b = found[first % len(found)], found[second % len(found)]
        kind = which % (len(UNARY) + len(BINARY))
        value = UNARY[kind](a) if kind < len(UNARY) else BINARY[kind - len(UNARY)](a, b)
        found.append(ops.tanh(value) * 2.0)
    return found[-1], found[len(found) // 2]


@unhurried
@given(programs, reals, reals, reals, reals, reals, reals)
def test_the_pullback_is_the_transpose_of_the_pushforward(
    f: Function, x: float, y: float, v: float, w: float, a: float, b: float
) -> None:
    _, (first, second) = ag.jvp(f, (x, y), (v, w))
    ct_x, ct_y = ag.vjp(f, x, y)[1]((a, b))
    assert a * first + b * second == pytest.approx(ct_x * v + ct_y * w, rel=1e-9, abs=1e-9)


@unhurried
@given(programs, reals, reals)
def test_forward_and_reverse_jacobians_are_equal_and_hessians_symmetric(f: Function, x: float, y: float) -> None:
    np.testing.assert_allclose(ag.jacfwd(f, (0, 1))(x, y), ag.jacrev(f, (0, 1))(x, y), rtol=1e-10, atol=1e-12)
    hessian = np.array(ag.hessian(f, (0, 1))(x, y))
    np.testing.assert_allclose(hessian, hessian.transpose(0, 2, 1), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(hessian, ag.jacrev(ag.jacfwd(f, (0, 1)), (0, 1))(x, y), rtol=1e-9, atol=1e-10)


@unhurried
@given(programs, reals, reals, reals, reals, reals)
def test_the_pushforward_is_linear(f: Function, x: float, y: float, v: float, w: float, c: float) -> None:
    value, push = ag.linearize(f, x, y)
    assert value == f(x, y)
    together = np.array(push(v + c, w))
    apart = np.array(push(v, 0.0)) + c * np.array(push(1.0, 0.0)) + np.array(push(0.0, w))
    np.testing.assert_allclose(together, apart, rtol=1e-9, atol=1e-9)
    assert push(v, w) == ag.jvp(f, (x, y), (v, w))[1]


@unhurried
@given(programs, reals, reals)
def test_the_value_is_that_of_the_function(f: Function, x: float, y: float) -> None:
    assert ag.vjp(f, x, y)[0] == f(x, y)
    assert ag.value_and_grad(lambda x: f(x, y)[0])(x)[0] == f(x, y)[0]


@settings(deadline=None, max_examples=25)
@given(steps, reals, reals)
def test_the_gradient_is_that_of_the_central_difference(choices: Any, x: float, y: float) -> None:
    f = functools.partial(run_steps, choices)
    step = 1e-5
    difference = (np.array(f(x + step, y)) - np.array(f(x - step, y))) / (2 * step)
    np.testing.assert_allclose(ag.jacfwd(f)(x, y), difference, rtol=1e-5, atol=1e-5)


# Robustness: repetition, threads, length


def test_a_pullback_gives_the_same_numbers_every_time() -> None:
    _, pull = ag.vjp(smooth, 0.7, 1.3)
    first = pull(1.0)
    other = pull(-2.0)
    assert [pull(1.0) for _ in range(50)] == [first] * 50
    assert pull(-2.0) == other == (-2.0 * first[0], -2.0 * first[1])


def test_a_linear_map_gives_the_same_numbers_every_time() -> None:
    _, push = ag.linearize(smooth, 0.7, 1.3)
    first = push(1.0, 2.0)
    push(5.0, -1.0)
    assert [push(1.0, 2.0) for _ in range(50)] == [first] * 50


@pytest.mark.usefixtures("frequent_switches")
def test_threads_differentiate_at_the_same_time() -> None:
    def work(x: float) -> Any:
        start.wait()
        return ag.grad(lambda y: y * ag.grad(pendulum)(y * x))(x), ag.hessian(smooth, (0, 1))(x, 1.0)

    start = threading.Barrier(4)
    points = [0.1 * i for i in range(1, 9)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(work, points))
    start = threading.Barrier(1)
    assert together == [work(x) for x in points]


@pytest.mark.usefixtures("frequent_switches")
def test_threads_share_one_pullback() -> None:
    _, pull = ag.vjp(lambda x: assigned_again(x) * x, 0.6)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda i: pull(float(i))[0] / i, range(1, 200)))
    np.testing.assert_allclose(results, results[0], rtol=1e-14)


def chain(length: int) -> Function:
    def f(x: Any) -> Any:
        y = x
        for _ in range(length):
            y = ops.sin(y) + x
        return y

    return f


def peak_memory(length: int) -> int:
    tracemalloc.start()
    try:
        ag.grad(chain(length))(0.5)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_long_chain_needs_no_recursion_and_memory_linear_in_its_length() -> None:
    assert sys.getrecursionlimit() < 5000
    assert ag.grad(chain(5000))(0.5) == pytest.approx(ag.jvp(chain(5000), (0.5,), (1.0,))[1], rel=1e-12)
    assert peak_memory(4000) < 2.5 * peak_memory(2000)


@pytest.mark.exhaustive
def test_a_chain_of_a_million_operations() -> None:
    slope = ag.grad(chain(500_000))(0.5)
    assert slope == pytest.approx(ag.jvp(chain(500_000), (0.5,), (1.0,))[1], rel=1e-9)
    fixed = ag.jvp(chain(200), (0.5,), (1.0,))[1]  # the chain has converged by then
    assert slope == pytest.approx(fixed, rel=1e-9)
    tracemalloc.start()
    try:
        ag.grad(chain(50_000))(0.5)
        assert tracemalloc.get_traced_memory()[1] < 2**30 / 5  # 2 GiB for a million operations
    finally:
        tracemalloc.stop()


@pytest.mark.exhaustive
def test_the_graph_of_a_million_operations_is_released() -> None:
    def f(x: Any) -> Any:
        y = x
        for _ in range(1_000_000):
            y = y + x
        return y

    assert ag.grad(f)(1.0) == 1_000_001.0


def test_a_sum_of_many_terms_and_a_wide_gradient() -> None:
    values = [0.001 * i for i in range(3000)]
    assert ag.grad(lambda v: ops.sum([x * x for x in v]))(values) == [2.0 * x for x in values]


# Dataclasses


@ag.register_dataclass
@dataclasses.dataclass(frozen=True)
class Layer:
    weights: list[float]
    bias: float
    activation: str = dataclasses.field(default="tanh", metadata={"static": True})


def test_a_registered_dataclass_is_a_container_under_every_transformation() -> None:
    def f(layer: Layer, x: float) -> Any:
        return getattr(ops, layer.activation)(ops.dot(layer.weights, [x, 2.0]) + layer.bias)

    layer = Layer([0.3, -0.2], 0.1)
    gradient = ag.grad(f)(layer, 0.7)
    slope = 1.0 - f(layer, 0.7) ** 2
    assert gradient == Layer(pytest.approx([0.7 * slope, 2.0 * slope]), pytest.approx(slope))
    assert ag.jit(ag.grad(f))(layer, 0.7) == gradient
    assert ag.jit(f)(dataclasses.replace(layer, activation="sin"), 0.7) == pytest.approx(math.sin(-0.09))
    assert ag.vmap(f, in_axes=(None, 0))(layer, np.array([0.7, 0.7])) == pytest.approx([f(layer, 0.7)] * 2)


def test_registering_says_what_is_wrong() -> None:
    @dataclasses.dataclass
    class Point:
        x: float
        y: float

    class Plain:
        pass

    with pytest.raises(TypeError, match=r"ag.register_dataclass\(Point\) makes a container of it"):
        ag.grad(lambda p: p.x)(Point(1.0, 2.0))
    with pytest.raises(TypeError, match=r"ag.register_dataclass\(Point\)"):
        ag.jit(lambda p: p.x)(Point(1.0, 2.0))
    with pytest.raises(TypeError, match=r"ag.register_tree\(Plain, …\)"):
        ag.grad(lambda p: 1.0)(Plain())
    with pytest.raises(TypeError, match="takes a dataclass, got <class"):
        ag.register_dataclass(Plain)
    with pytest.raises(ValueError, match="must name each field of Point once, x, y; got x"):
        ag.register_dataclass(Point, data_fields=["x"])
    assert ag.register_dataclass(Point, ["x"], ["y"]) is Point
    assert ag.grad(lambda p: p.x * p.y)(Point(1.0, 2.0)) == Point(2.0, 2.0)


# Outputs that are no real numbers


def test_ints_and_bools_have_tangents_of_jaxs_float0() -> None:
    def f(x: Any) -> Any:
        return {"twice": x * 2.0, "count": 3, "large": x > 1.0, "whole": int(x)}

    value, tangent = ag.jvp(f, (1.5,), (1.0,))
    assert value == {"twice": 3.0, "count": 3, "large": True, "whole": 1}
    assert type(value["large"]) is bool
    assert tangent["twice"] == 2.0
    for name in ("count", "large", "whole"):
        assert tangent[name].dtype == jax.dtypes.float0
        assert tangent[name].shape == ()
    assert ag.linearize(f, 1.5)[1](1.0)["large"].dtype == jax.dtypes.float0
    returned, pull = ag.vjp(f, 1.5)
    assert returned == value
    zero = np.zeros((), jax.dtypes.float0)
    assert pull({"twice": 5.0, "count": zero, "large": zero, "whole": zero}) == (10.0,)
    with pytest.raises(TypeError, match=r"grad requires real-valued \(float\) outputs"):
        ag.grad(lambda x: x > 1.0)(1.5)
