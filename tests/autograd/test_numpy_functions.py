"""NumPy's functions of traced floats: the value and derivative of `ops`, or one line that says what to use."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special

from funcgrad import autograd as ag
from funcgrad.autograd import ops

BOTH: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "exp": (np.exp, ops.exp),
    "sin · sqrt": (lambda x: np.sin(x) * np.sqrt(x), lambda x: ops.sin(x) * ops.sqrt(x)),
    "arctan2": (lambda x: np.arctan2(x, 2.0), lambda x: ops.arctan2(x, 2.0)),
    "power": (lambda x: np.power(x, 3), lambda x: x**3),
    "maximum of equals": (lambda x: np.maximum(x, 0.7), lambda x: ops.maximum(x, 0.7)),
    "where": (lambda x: np.where(x > 0.5, x * x, x), lambda x: x * x),
    "clip": (lambda x: np.clip(x, 0.0, 0.5), lambda x: ops.clip(x, 0.0, 0.5)),
    "isnan": (lambda x: 0.0 if np.isnan(x) else x * x, lambda x: x * x),
    "isclose": (lambda x: x if np.isclose(x, 0.7) else 2 * x, lambda x: x),
    "logical_and": (lambda x: x if np.logical_and(x > 0, x < 1) else 2 * x, lambda x: x),
    "nan_to_num": (np.nan_to_num, lambda x: x),
    "SciPy's erf": (scipy.special.erf, ops.erf),
    "scalars of NumPy": (lambda x: np.float64(2.0) * x + x * np.float32(3.0), lambda x: 5.0 * x),
    "array · float": (lambda x: np.sum(np.array([1.0, 2.0]) * x), lambda x: 3.0 * x),
    "float · array": (lambda x: np.sum(x * np.array([1.0, 2.0])), lambda x: 3.0 * x),
    "array of traced floats": (lambda x: np.sum(np.exp(np.array([x, 2 * x]))), lambda x: ops.exp(x) + ops.exp(2 * x)),
    "norm": (lambda x: np.linalg.norm([x, 2.0]), lambda x: ops.norm([x, 2.0])),
    "sum and norm of one": (lambda x: np.sum(x) * np.linalg.norm(x), lambda x: x * x),
    "stack": (lambda x: np.sum(np.stack([x, x * x])), lambda x: x + x * x),
    "einsum": (lambda x: np.einsum("i,i->", *[np.array([x, 2.0])] * 2), lambda x: x * x + 4.0),
    "dot": (lambda x: np.dot(np.array([x, x]), np.array([1.0, 2.0])), lambda x: 3.0 * x),
    "mean, std, var": (
        lambda x: sum(f(np.array([x, 2.0, x * x])) for f in (np.mean, np.std, np.var)),
        lambda x: sum(f([x, 2.0, x * x]) for f in (ops.mean, ops.std, ops.var)),
    ),
}


@pytest.mark.parametrize("name", BOTH)
def test_numpys_function_is_that_of_ops(name: str) -> None:
    theirs, ours = BOTH[name]
    assert ag.value_and_grad(theirs)(0.7) == pytest.approx(ag.value_and_grad(ours)(0.7), rel=1e-14)
    assert ag.jit(ag.grad(theirs))(0.7) == pytest.approx(ag.grad(ours)(0.7), rel=1e-14)


def test_columns_too() -> None:
    mapped = ag.vmap(ag.grad(lambda x: np.exp(x) * np.where(x > 0, 1.0, 2.0)))(np.array([0.5, -1.0]))
    np.testing.assert_allclose(mapped, [math.exp(0.5), 2 * math.exp(-1.0)])
    np.testing.assert_allclose(ag.grad(lambda v: np.linalg.norm(v))(np.array([3.0, 4.0])), [0.6, 0.8])


def test_an_array_of_objects_can_be_added_to_in_place() -> None:
    def f(x: Any) -> Any:
        total = np.zeros(2, dtype=object)
        total += x
        return total[0] * total[1]

    assert ag.grad(f)(3.0) == 6.0


def test_what_has_no_derivative_is_refused_in_one_line() -> None:
    def inside(x: Any) -> Any:
        total = np.zeros(2)
        total += x
        return total[0]

    for fun, message in (
        (lambda x: np.frexp(x)[0], "frexp of a traced float: it would lose the derivative"),
        (lambda x: np.allclose(x, 1.0), "allclose of a traced float"),
        (lambda x: np.add.reduce(x), "add of a traced float takes no reduce"),
        (lambda x: np.exp(x, where=True), "exp of a traced float takes no where"),
        (inside, "cannot be written into an array of float64"),
        (lambda x: np.asarray(x, dtype=float), "cannot be converted to a plain float"),
        (lambda x: math.sin(x), "use those of funcgrad.autograd.ops (ops.sin, ops.isclose, …) or NumPy's"),
        (lambda x: math.isclose(x, 1.0), "ops.isclose"),
    ):
        with pytest.raises(TypeError) as error:
            ag.grad(fun)(3.0)
        assert message in str(error.value)
        assert "\n" not in str(error.value)


def test_a_traced_float_has_the_attributes_of_a_float() -> None:
    seen: list[Any] = []

    def f(x: Any) -> Any:
        seen.append((f"{x:.2f}", f"{x:>8.1e}", f"{x}", x.imag))
        return x.real * x.conjugate()

    assert ag.grad(f)(3.0) == 6.0
    assert seen == [("3.00", " 3.0e+00", "Traced(3.0)", 0.0)]
    with pytest.raises(TypeError, match="cannot be formatted inside jit, vmap or make_graph: it would be frozen"):
        ag.jit(ag.grad(f))(3.0)
