"""Random programs in random nestings, threads and closures: the result is JAX's, or an error, never another number."""

import math
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcgrad import autograd as ag
from funcgrad.autograd import ops

Function = Callable[..., Any]
OURS = SimpleNamespace(
    sin=ops.sin, tanh=ops.tanh, where=ops.where, grad=ag.grad, jit=ag.jit, jvp=ag.jvp, vjp=ag.vjp, vmap=ag.vmap
)
JAX = SimpleNamespace(
    sin=jnp.sin,
    tanh=jnp.tanh,
    where=jnp.where,
    grad=jax.grad,
    jit=lambda f: f,  # what branches on values is not compiled there
    jvp=jax.jvp,
    vjp=jax.vjp,
    vmap=lambda f: lambda xs: jnp.stack([f(x) for x in xs]),
)


STEPS = ("add", "mul", "sin", "tanh", "sub", "branch", "where", "inner", "inner")
NESTINGS = (
    "call",
    "grad",
    "jit",
    "jit_grad",
    "grad_jit",
    "jvp",
    "vjp",
    "vmap",
    "kept",
    "thread",
    "generator",
    "callback",
)


def body(rng: random.Random, depth: int) -> Function:
    """A function (system, numbers) → number; the numbers are all that it closes over and its own argument, last."""
    steps = [(rng.choice(STEPS), rng.random()) for _ in range(4)]
    picks = [(rng.random(), rng.random()) for _ in steps]
    inner = [nested(rng, depth - 1) if kind == "inner" and depth else None for kind, _ in steps]

    def run(system: Any, numbers: list[Any]) -> Any:
        found = list(numbers)
        for (kind, threshold), (i, j), below in zip(steps, picks, inner, strict=True):
            x, y = found[int(i * len(found))], found[-1 - int(j * len(found))]
            if kind == "add":
                z = x + 0.5 * y
            elif kind == "mul":
                z = x * y * 0.5
            elif kind == "sub":
                z = threshold - x
            elif kind == "branch":
                z = x * y if x > threshold else x - y
            elif kind == "where":
                z = system.where(x > y, x * threshold, system.sin(y))
            elif below is not None:
                z = below(system, found, x)
            else:
                z = system.sin(x) if kind == "sin" else system.tanh(x)
            found.append(z)
        return system.tanh(found[-1]) + found[-2] * 0.25

    return run


def nested(rng: random.Random, depth: int) -> Function:
    """A function (system, closed over, x) → number that transforms a function of x which closes over the others."""
    inside = body(rng, depth)
    kind = rng.choice(NESTINGS)

    def run(system: Any, outer: list[Any], x: Any) -> Any:
        f = lambda y: inside(system, [*outer, y])  # noqa: E731
        if kind == "grad":
            return system.grad(f)(x)
        if kind == "jit":
            return system.jit(f)(x)
        if kind == "jit_grad":
            return system.jit(system.grad(f))(x)
        if kind == "grad_jit":
            return system.grad(system.jit(f))(x)
        if kind == "jvp":
            return system.jvp(f, (x,), (1.5,))[1]
        if kind == "vjp":
            return system.vjp(f, x)[1](0.5)[0]
        if kind == "vmap":
            return sum(system.vmap(f)(np.array([0.25, 0.75]))) * x
        if kind == "kept":  # a number of this function, which the inner one finds in a list
            kept = [x * 2.0]
            return system.grad(lambda y: f(y) * kept[0])(x) + kept.pop()
        if kind == "thread":
            if system is JAX:
                return f(x)
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(system.jit(f), x).result()
        if kind == "generator":
            stream = (f(y) for y in (x, x * 0.5))
            return next(stream) + next(stream)
        if kind == "callback":
            return (lambda g: g(g(x)))(f)
        return f(x)

    return run


def compare(seed: int, points: int) -> int:
    """Compares value and gradient of one program at random points, first met and met again; counts the errors."""
    rng = random.Random(seed)
    program = body(rng, 3)
    ours: list[Function] = [
        lambda x, y: (program(OURS, [x, y]), *ag.grad(lambda x, y: program(OURS, [x, y]), (0, 1))(x, y)),
    ]
    compiled = ag.jit(ag.value_and_grad(lambda x, y: program(OURS, [x, y]), (0, 1)))
    ours.append(lambda x, y: (compiled(x, y)[0], *compiled(x, y)[1]))
    lanes = ag.vmap(ag.value_and_grad(lambda x, y: program(OURS, [x, y]), (0, 1)))
    ours.append(lambda x, y: tuple(float(z[0]) for z in (lambda v, g: (v, *g))(*lanes(np.array([x]), np.array([y])))))
    errors = 0
    for _ in range(points):
        x, y = rng.uniform(-1.5, 1.5), rng.uniform(-1.5, 1.5)
        value, gradient = jax.value_and_grad(lambda x, y: program(JAX, [x, y]), (0, 1))(x, y)
        expected = [float(value), *map(float, gradient)]
        for system in ours:
            try:
                found = system(x, y)
            except (TypeError, ag.EscapedError):
                errors += 1
                continue
            assert np.allclose(found, expected, rtol=1e-7, atol=1e-9), (seed, x, y, found, expected)
            assert all(isinstance(z, float) and not math.isnan(z) for z in found)
    return errors


@pytest.mark.parametrize("seed", range(6))
def test_the_result_is_that_of_jax_or_an_error(seed: int) -> None:
    with jax.enable_x64(True), jax.disable_jit():
        assert compare(seed, 2) == 0


@pytest.mark.exhaustive
@pytest.mark.parametrize("block", range(20))
def test_the_results_of_many_programs_are_those_of_jax(block: int) -> None:
    with jax.enable_x64(True), jax.disable_jit():
        assert sum(compare(1000 + 20 * block + i, 3) for i in range(20)) == 0
