"""Transformations and custom rules of JAX values are JAX's own: one body runs under both systems."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcgrad import autograd as ag
from funcgrad import gradcheck
from funcgrad.autograd import ops


@ag.custom_jvp
def cube(x: Any) -> Any:
    return x * x * x


@cube.defjvp
def _cube_rule(primals: Any, tangents: Any) -> Any:
    return cube(primals[0]), 3 * primals[0] * primals[0] * tangents[0]


@ag.custom_vjp
def wave(x: Any, y: Any) -> Any:
    return ops.sin(x) * y


wave.defvjp(lambda x, y: (wave(x, y), (x, y)), lambda xy, ct: (ops.cos(xy[0]) * xy[1] * ct, ops.sin(xy[0]) * ct))


def body(x: Any) -> Any:
    value, pull = ag.vjp(ops.exp, x)
    total = ag.grad(lambda u: ops.sin(u) * cube(u))(x) + value * pull(2.0)[0] + ag.stop_gradient(x) * x
    total += ag.jvp(lambda u: u * u, (x,), (1.0,))[1] + ag.linearize(ops.tanh, x)[1](1.0)
    total += ag.hessian(lambda u: u**4)(x) + ag.hvp(lambda u: u**5, (x,), (1.0,)) + ag.jacfwd(ops.cos)(x)
    return total + ag.jit(lambda u: 2 * u)(x) + ag.value_and_grad(lambda p: p["a"] ** 2)({"a": x})[1]["a"]


def test_one_body_runs_under_both_systems() -> None:
    report = gradcheck.compare(body, 0.7)
    assert report.ok, str(report)
    with jax.enable_x64(True):
        x = jnp.float64(0.7)
        assert isinstance(body(x), jax.Array)
        assert float(jax.grad(body)(x)) == pytest.approx(ag.grad(body)(0.7), rel=1e-13)


def test_a_custom_vjp_function_is_checked_by_reverse_mode() -> None:
    report = gradcheck.compare(lambda x, y: wave(x, y) * x, 0.7, 1.3)
    assert report.ok, str(report)
    assert report.cases == 3 * (1 + 2 + 2 + 4)  # value, gradient, vjp and Hessian, no jvp, in three forms


def test_columns_of_jax_are_mapped_by_jax() -> None:
    mapped = ag.vmap(ag.grad(lambda x: x * x))(jnp.arange(3.0))
    assert isinstance(mapped, jax.Array)
    np.testing.assert_array_equal(mapped, [0.0, 2.0, 4.0])


def test_a_jax_value_out_of_a_function_of_floats_is_refused() -> None:
    with pytest.raises(TypeError, match="grad requires Python floats among its outputs, but got a JAX value"):
        ag.grad(lambda x: jnp.float32(1.0))(1.0)
