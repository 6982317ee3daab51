"""The bounds of a certificate against optima in 50 digits."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import mpmath
import numpy as np
import pytest

from funcgrad.probes.certificate import Certificate, certificate, certified, distance_to_minimum
from funcgrad.probes.objective import SIGMOID, SOFTMAX, Data, Link, Params, Setting, evaluate, mixed_hessian

N, D = 24, 3
QUERIES = np.random.default_rng(7).normal(size=(40, D)) * [2.0, 1.0, 10.0]  # whose predictions are certified


class Case(NamedTuple):
    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    strength: float
    link: Link
    outputs: int  # rows of W: 1 for two classes
    has_intercept: bool


class Exact(NamedTuple):
    """In 50 digits; theta has a row of W and its entry of b for each output, one after the other."""

    theta: Any
    objective: Callable[[Any], Any]


def random_case(seed: int, outputs: int) -> Case:
    """Ill-conditioned, duplicated, nearly separable, or weighted examples, by turns."""
    rng = np.random.default_rng(seed)
    classes = max(outputs, 2)
    x, y = rng.normal(size=(N, D)), rng.integers(0, classes, N)
    y[:classes] = np.arange(classes)
    weights, kind = np.ones(N), seed % 4
    if kind == 0:
        x *= [1.0, 1e-3, 30.0]
    elif kind == 1:
        x[N // 2 :], y[N // 2 :] = x[: N // 2], y[: N // 2]
    elif kind == 2:
        x[np.arange(N), y % D] += 2.5
    else:
        weights = rng.uniform(0, 3, N)
    strength = 10.0 ** rng.uniform(-3, 2)
    return Case(x, y, weights, strength, SIGMOID if outputs == 1 else SOFTMAX, outputs, seed % 5 != 0)


def exact_optimum(case: Case) -> Exact:
    """By Newton's method."""
    x = [[mpmath.mpf(float(value)) for value in row] + [mpmath.mpf(case.has_intercept)] for row in case.x]
    s = [mpmath.mpf(case.strength) * mpmath.mpf(float(weight)) for weight in case.weights]
    width = D + 1
    size, of_b = case.outputs * width, [i for i in range(case.outputs * width) if i % width == D]

    def derivatives(theta: Any) -> tuple[Any, Any, Any]:
        value, gradient, hessian = mpmath.mpf(0), mpmath.zeros(size, 1), mpmath.zeros(size)
        for xi, yi, si in zip(x, case.y.tolist(), s, strict=True):
            z = [mpmath.fdot(theta[c * width : (c + 1) * width], xi) for c in range(case.outputs)]
            label = yi
            if case.outputs == 1:  # the sigmoid is the softmax of (z, 0), and 1 the class of z
                z, label = [*z, mpmath.mpf(0)], 1 - yi
            exponentials = [mpmath.exp(one) for one in z]
            p = [one / mpmath.fsum(exponentials) for one in exponentials]
            value -= si * mpmath.log(p[label])
            for a in range(case.outputs):
                for j in range(width):
                    gradient[a * width + j] += si * (p[a] - (a == label)) * xi[j]
                    for b in range(case.outputs):
                        for m in range(width):
                            hessian[a * width + j, b * width + m] += si * p[a] * ((a == b) - p[b]) * xi[j] * xi[m]
        for i in range(size):
            if i not in of_b:
                value += theta[i] ** 2 / 2
                gradient[i] += theta[i]
                hessian[i, i] += 1
        for i in of_b:  # no gradient has a part along what the loss does not see: a constant added to b, or b at all
            for j in of_b:
                hessian[i, j] += case.outputs > 1 if case.has_intercept else i == j
        return value, gradient, hessian

    theta = mpmath.zeros(size, 1)
    value, gradient, hessian = derivatives(theta)
    for _ in range(100):
        if mpmath.norm(gradient) < mpmath.mpf(10) ** -35:
            return Exact(theta, lambda theta: derivatives(theta)[0])
        step, length = mpmath.lu_solve(hessian, gradient), mpmath.mpf(1)
        while (found := derivatives(theta - length * step))[0] > value and length > 1e-9:
            length /= 2
        theta, (value, gradient, hessian) = theta - length * step, found
    raise AssertionError("Newton's method did not converge")


_evaluate = jax.jit(evaluate, static_argnums=(3, 4))
_mixed = jax.jit(mixed_hessian, static_argnums=3)


def bounds(case: Case, params: Params, *, close: bool) -> Certificate:
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        data = Data(case.x[None], case.y[None, None], case.weights[None], np.zeros(D), np.ones(D))
        lane = Params(*(x[None] for x in params)), Setting(np.array([case.strength]), np.zeros(1, np.int32)), data
        found = jax.device_get(_evaluate(*lane, case.link, case.has_intercept))
        mixed = np.asarray(_mixed(*lane, case.link))[0] if close and case.has_intercept else None
    return certificate(params, jax.tree.map(lambda x: x[0], found), case.link, N + 1, case.has_intercept, mixed)


def near(exact: Exact, case: Case, rng: np.random.Generator, scale: float) -> Params:
    """The optimum, as far away as `scale`."""
    theta = np.array([float(x) for x in exact.theta]).reshape(case.outputs, D + 1)
    theta += scale * rng.normal(size=theta.shape)
    return Params(theta[:, :D], theta[:, D] * case.has_intercept)


def errors(case: Case, exact: Exact, params: Params) -> tuple[Any, Any, Any]:
    """P − P*, ‖W − W*‖ and ‖b − b*‖, the last without what is common to all classes."""
    theta = mpmath.matrix(np.column_stack(params).ravel().tolist())
    moved = theta - exact.theta
    of_b = [moved[c * (D + 1) + D] for c in range(case.outputs)]
    mean = mpmath.fsum(of_b) / case.outputs if case.outputs > 1 else 0
    of_w = [moved[i] for i in range(len(moved)) if i % (D + 1) != D]
    gap = exact.objective(theta) - exact.objective(exact.theta)
    return gap, mpmath.norm(of_w), mpmath.norm([x - mean for x in of_b])


def check_bounds(seed: int, outputs: int) -> list[float]:
    """Raises AssertionError for a bound below the truth; returns how much of the radius is used."""
    case, rng, used = random_case(seed, outputs), np.random.default_rng(seed), []
    with mpmath.workdps(50):
        exact = exact_optimum(case)
        best = np.array([float(x) for x in exact.theta]).reshape(outputs, D + 1)
        labels = predict(QUERIES @ best[:, :D].T + best[:, D] * case.has_intercept)
        for scale in (0.3, 1e-2, 1e-4, 1e-7, 1e-10, 0.0):
            params = near(exact, case, rng, scale)
            gap, of_w, of_b = errors(case, exact, params)
            for close in (False, True):
                bound = bounds(case, params, close=close)
                assert gap <= bound.gap, (seed, scale, close)
                assert of_w <= bound.radius, (seed, scale, close)
                assert of_b <= bound.intercept_radius, (seed, scale, close)
                z = QUERIES @ params.coef.T + params.intercept
                sure = certified(z, np.linalg.norm(QUERIES, axis=1), params, bound, case.link)
                assert (predict(z) == labels)[sure].all()
                assert sure.any() or scale > 1e-8
            used.append(float(of_w / bound.radius))
        assert bound.radius < 1e-6 * max(1.0, case.strength)  # at the optimum only rounding is left
    return used


def predict(z: np.ndarray) -> np.ndarray:
    return z[:, 0] > 0 if z.shape[1] == 1 else z.argmax(axis=1)


@pytest.mark.parametrize("outputs", [1, 3])
def test_no_bound_is_below_the_truth(outputs: int) -> None:
    used = [share for seed in range(4) for share in check_bounds(seed, outputs)]
    assert max(used) > 0.5  # a radius of half the size would fail


@pytest.mark.exhaustive
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("seed", range(4, 104))
def test_no_bound_is_below_the_truth_in_many_problems(seed: int, outputs: int) -> None:
    check_bounds(seed, outputs)


def test_the_distance_to_the_minimum_is_that_of_the_flattest_function_allowed() -> None:
    curvature, spread, distance = 0.7, 1.4, 0.9
    gradient = curvature * (1 - np.exp(-spread * distance)) / spread  # of the curvature c e^{−ρt}
    assert distance_to_minimum(gradient, curvature, spread) == pytest.approx(distance)
    assert distance_to_minimum(0.0, 0.0, spread) == 0
    assert distance_to_minimum(1.0, curvature, spread) == np.inf


@pytest.mark.parametrize("link", [SOFTMAX, SIGMOID], ids=["softmax", "sigmoid"])
def test_derivatives_of_the_loss_are_jax_s(link: Link) -> None:
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        z = np.array([0.3]) if link is SIGMOID else np.array([0.3, -1.2, 2.0])
        for y in range(2):
            p = link.probabilities(z)
            np.testing.assert_allclose(link.residual(z, y), jax.grad(link.loss)(z, y), atol=1e-15)
            hessian = jax.hessian(link.loss)(z, y)
            np.testing.assert_allclose([link.curvature(p, u) for u in np.eye(len(z))], hessian, atol=1e-15)
            assert np.linalg.eigvalsh(hessian)[-1] <= link.largest_curvature(p) * (1 + 1e-12)
