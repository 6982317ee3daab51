"""Corners that a reader of JAX's documentation would try: the same answer here, or one clear error."""

import copy
import math
import pickle
from typing import Any

import jax
import numpy as np
import pytest

from funcgrad import autograd as ag
from funcgrad.autograd import ops


def _sevenfold() -> Any:
    f = ag.custom_vjp(lambda x: x * x)
    f.defvjp(lambda x: (x * x, x), lambda residual, ct: (ct * residual * 7,))
    return f


def _sevenfold_of_jax() -> Any:
    f = jax.custom_vjp(lambda x: x * x)
    f.defvjp(lambda x: (x * x, x), lambda residual, ct: (ct * residual * 7,))
    return f


def test_a_rule_holds_where_a_traced_number_meets_a_plain_one_inside_jit_and_vmap() -> None:
    f, theirs = _sevenfold(), _sevenfold_of_jax()
    expected = float(jax.grad(jax.jit(lambda x, y: theirs(x * y)))(2.0, 3.0))
    assert ag.grad(ag.jit(lambda x, y: f(x * y)))(2.0, 3.0) == expected == 126.0
    lanes = np.arange(3.0)
    expected = float(jax.grad(lambda x: jax.vmap(lambda y: theirs(x * y))(lanes).sum())(2.0))
    assert ag.grad(lambda x: ag.vmap(lambda y: f(x * y))(lanes).sum())(2.0) == expected == 70.0


def test_ties_share_the_derivative_inside_jit_too() -> None:
    f = ag.grad(ag.jit(lambda xs, y: ops.max([x * y for x in xs])))
    assert f((1.0, 1.0, 1.0), 1.0) == (1 / 3, 1 / 3, 1 / 3)


def test_a_copied_number_is_the_same_number() -> None:
    assert ag.grad(lambda p: copy.deepcopy(p)["a"] ** 2)({"a": 3.0}) == {"a": 6.0}
    doubled = ag.jit(lambda x: copy.copy(x) * x)
    assert (doubled(3.0), doubled(4.0)) == (9.0, 16.0)
    np.testing.assert_array_equal(ag.vmap(lambda x: copy.deepcopy(x) * x)(np.arange(3.0)), [0, 1, 4])
    with pytest.raises(TypeError, match="cannot be pickled"):
        ag.grad(lambda x: pickle.loads(pickle.dumps(x)) * x)(3.0)


@pytest.mark.parametrize("transformation", [ag.jacrev, ag.jacfwd, ag.hessian])
def test_a_number_that_escaped_is_no_result_of_a_jacobian(transformation: Any) -> None:
    kept: list[Any] = []
    ag.grad(lambda x: (kept.append(x * x), x)[1])(3.0)
    with pytest.raises(RuntimeError, match="escaped"):
        transformation(lambda y: kept[0])(1.0)


def test_argnums_name_each_argument_once_in_any_kind_of_int() -> None:
    for argnums in ((0, 0), (0, -2)):
        with pytest.raises(TypeError, match="argnums must name each argument once"):
            ag.grad(lambda x, y: x * y, argnums)(2.0, 3.0)
    assert ag.grad(lambda x, y: x * y, np.int64(1))(2.0, 3.0) == 2.0


def test_what_a_jvp_rule_is_given_as_fixed_is_not_differentiated() -> None:
    def make(system: Any) -> Any:
        f = system.custom_jvp(lambda k, x: k * x, nondiff_argnums=(0,))
        f.defjvp(lambda k, primals, tangents: (k * primals[0], 10.0 * k * tangents[0]))
        return f

    f, theirs = make(ag), make(jax)
    for ours, other in (
        (ag.grad(lambda k: f(k, 3.0)), jax.grad(lambda k: theirs(k, 3.0))),
        (ag.grad(lambda k: f(k, k)), jax.grad(lambda k: theirs(k, k))),
        (
            ag.grad(lambda k: ag.grad(lambda x: f(k, x))(3.0)),
            jax.grad(lambda k: jax.grad(lambda x: theirs(k, x))(3.0)),
        ),
    ):
        assert ours(2.0) == float(other(2.0))


def test_what_a_vjp_rule_is_given_as_fixed_cannot_be_differentiated() -> None:
    f = ag.custom_vjp(lambda k, x: k * x, nondiff_argnums=(0,))
    f.defvjp(lambda k, x: (k * x, None), lambda k, _, ct: (k * ct,))
    assert ag.grad(f, 1)(2.0, 3.0) == ag.jit(ag.grad(f, 1))(2.0, 3.0) == 2.0
    with pytest.raises(TypeError, match="nondiff_argnums of a custom_vjp function"):
        ag.grad(lambda k: f(k, 3.0))(2.0)


def test_a_forward_rule_returns_a_pair() -> None:
    f = ag.custom_vjp(lambda x: x)
    f.defvjp(lambda x: x, lambda residuals, ct: (ct,))
    with pytest.raises(TypeError, match="must return a pair"):
        ag.grad(f)(1.0)


def test_static_arguments_by_name_and_by_default() -> None:
    f = ag.jit(lambda x, n=3: x**n, static_argnums=1)
    assert (f(2.0, n=2), f(2.0), f(2.0, 4)) == (4.0, 8.0, 16.0)
    with pytest.raises(ValueError, match="static_argnums 2 is out of range"):
        ag.jit(lambda x, n=3: x**n, static_argnums=2)(1.0)


def test_what_all_lanes_share_is_one_value_inside_a_transformation() -> None:
    shared = lambda x: ag.vmap(lambda y: x * 2, out_axes=None)(np.arange(3.0))  # noqa: E731
    assert ag.grad(shared)(2.0) == 2.0
    assert ag.jit(shared)(3.0) == 6.0


@pytest.mark.parametrize(("x", "expected"), [(math.nan, math.nan), (math.inf, math.inf), (2.5, 2)])
def test_rounding_raises_nowhere(x: float, expected: float) -> None:
    for f in (ag.jit(lambda x: round(x) * 1.0), lambda x: ag.value_and_grad(lambda x: round(x) * x**0)(x)[0]):
        assert f(x) == pytest.approx(expected, nan_ok=True)
    assert ag.grad(lambda x: x * round(x, 400))(1.5) == 3.0


def test_numpy_ints_and_bools_are_whole_exponents() -> None:
    assert ag.grad(lambda x: x ** np.int64(0))(0.0) == 0.0
    assert ag.hessian(lambda x: ops.power(x, True))(0.0) == 0.0


def test_a_power_of_zero_has_the_slope_zero_which_times_nan_is_nan() -> None:
    def f(x: Any) -> Any:
        return 1.0 / (x * (x / x) ** 0)

    for x in (2.0, 0.0, math.inf, math.nan):
        with jax.enable_x64(True):
            expected = float(jax.jvp(f, (x,), (1.0,))[1])
        for slope in (ag.jvp(f, (x,), (1.0,))[1], ag.jit(lambda x: ag.jvp(f, (x,), (1.0,))[1])(x)):
            assert slope == pytest.approx(expected, nan_ok=True), x
    assert ag.grad(lambda x: ops.logit(x) ** 0)(1.0) == 0.0
    assert ag.grad(lambda x: x + x**0)(1.0) == 1.0


def test_decimals_are_an_int() -> None:
    assert ops.round(1.26, 1) == 1.3
    with pytest.raises(TypeError, match="decimals must be an int"):
        ag.grad(lambda x: ops.round(x, x))(1.0)


def test_nan_to_num_takes_what_that_of_jax_takes() -> None:
    assert ops.nan_to_num(math.nan, True, 7.0) == float(jax.numpy.nan_to_num(math.nan, True, 7.0)) == 7.0
    assert ag.grad(lambda x: ops.nan_to_num(math.inf, posinf=x))(2.0) == 1.0


def test_betaln_of_nan_is_nan() -> None:
    assert math.isnan(ops.betaln(1.0, math.nan))
    assert math.isnan(ops.betaln(math.nan, 1.0))


@pytest.mark.exhaustive
def test_sequences_have_the_one_axis_that_they_have_in_jax() -> None:
    xs, b = [0.5, 2.0, -1.0], [1.0, 0.0, 3.0]
    with jax.enable_x64(True):
        array = jax.numpy.array(xs)
        for name in ("sum", "mean", "prod", "max", "min"):
            assert getattr(ops, name)(xs, axis=0) == pytest.approx(float(getattr(jax.numpy, name)(array, axis=0)))
        assert ops.softmax(xs, -1) == pytest.approx(jax.nn.softmax(array, -1).tolist())
        weighted = jax.scipy.special.logsumexp
        assert ops.logsumexp(xs, b=b) == pytest.approx(float(weighted(array, b=jax.numpy.array(b))))
        gradient = jax.grad(lambda x: weighted(x, b=jax.numpy.array(b)))(array).tolist()
    assert ag.grad(lambda x: ops.logsumexp(x, b=b))(xs) == pytest.approx(gradient)
    with pytest.raises(ValueError, match="axis must be 0, -1 or None"):
        ops.sum(xs, axis=1)


def test_columns_of_zeros_and_sigmoids_are_those_of_numbers() -> None:
    zeros = np.array([0.0, -0.0]), np.array([-0.0, 0.0])
    np.testing.assert_array_equal(ag.vmap(lambda x, y: 1 / ops.maximum(x, y))(*zeros), [math.inf] * 2)
    np.testing.assert_array_equal(ag.vmap(lambda x, y: 1 / ops.minimum(x, y))(*zeros), [-math.inf] * 2)
    xs = np.linspace(-40.0, 40.0, 4001)
    np.testing.assert_allclose(ag.vmap(ops.sigmoid)(xs), [ops.sigmoid(x) for x in xs.tolist()], rtol=1e-15)


def test_where_the_second_derivative_of_ndtri_overflows_zero_times_it_is_nan() -> None:
    slope = ag.grad(ops.ndtri)
    assert slope(1e-300) == pytest.approx(2.6973044650426e298, rel=1e-12)  # JAX 0.12
    assert ag.grad(slope)(1e-300) == -math.inf
    assert math.isnan(ag.vjp(slope, 1e-300)[1](0.0)[0])
    assert ag.grad(slope)(1e-100) == pytest.approx(-4.6800792702224e198, rel=1e-12)


def test_zero_times_the_slope_of_gamma_is_zero_near_its_pole_as_in_jax() -> None:
    for x in (1e-200, -1e-200):  # where Γ(x) ψ(x) overflows, and neither of the two
        assert ag.vjp(ops.gamma, x)[1](0.0)[0] == ag.jvp(ops.gamma, (x,), (0.0,))[1] == 0.0
        assert ag.grad(ops.gamma)(x) == -math.inf
