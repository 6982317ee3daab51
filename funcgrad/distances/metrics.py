"""The metrics, each written for ONE pair of vectors: these formulas are the definitions."""

import math
from collections.abc import Callable, Hashable

import jax.numpy as jnp
from jax import Array, lax

from funcgrad.distances.numbers import real_number

Metric = str | Callable[[Array, Array], Array]
PairDistance = Callable[[Array, Array], Array]

HIGHEST = lax.Precision.HIGHEST  # float32 products in float32, also where hardware would round their factors first


def l1(a: Array, b: Array) -> Array:
    """Sum of absolute differences, also called Manhattan or city-block distance."""
    return jnp.sum(jnp.abs(a - b))


def sqeuclidean(a: Array, b: Array) -> Array:
    """Sum of squared differences."""
    return jnp.sum(jnp.square(a - b))


def l2(a: Array, b: Array) -> Array:
    """Euclidean distance."""
    return jnp.sqrt(sqeuclidean(a, b))


def chebyshev(a: Array, b: Array) -> Array:
    """Largest absolute difference."""
    return jnp.max(jnp.abs(a - b))


def minkowski(a: Array, b: Array, p: float) -> Array:
    """The p-norm of the difference, p ≥ 1: p = 1 is `l1`, p = 2 is `l2`."""
    difference = jnp.abs(a - b)
    largest = jnp.max(difference)
    scale = jnp.where(largest > 0, largest, 1)  # so that no power overflows or underflows
    return scale * jnp.sum((difference / scale) ** p) ** (1 / p)


def hamming(a: Array, b: Array) -> Array:
    """Share of the dimensions in which two vectors differ, from 0 to 1."""
    return jnp.sum(jnp.where(a == b, 0, 1).astype(a.dtype)) / a.size


def dot(a: Array, b: Array) -> Array:
    """Minus the inner product, so that the largest product is nearest."""
    return -jnp.dot(a, b, precision=HIGHEST)


def cosine(a: Array, b: Array) -> Array:
    """One minus the cosine of the angle, from 0 to 2. A zero vector has no direction: its distance to all is 1."""
    return jnp.clip(1 - jnp.dot(_unit(a), _unit(b), precision=HIGHEST), 0, 2)


def _unit(a: Array) -> Array:
    largest = jnp.max(jnp.abs(a))
    a = a / jnp.where(largest > 0, largest, 1)  # so that no square overflows or underflows
    norm = jnp.sqrt(jnp.sum(jnp.square(a)))
    return a / jnp.where(norm > 0, norm, 1)


METRICS: dict[str, Callable[..., Array]] = {
    "l1": l1,
    "l2": l2,
    "sqeuclidean": sqeuclidean,
    "cosine": cosine,
    "dot": dot,
    "chebyshev": chebyshev,
    "minkowski": minkowski,
    "hamming": hamming,
}
ALIASES = {"manhattan": "l1", "euclidean": "l2"}


def canonical_metric(metric: Metric, p: float | None = None) -> Metric:
    """The metric's own name, or the function as it came.

    Raises `ValueError` for an unknown name, for "minkowski" without p ≥ 1, and for p beside any other metric;
    `TypeError` for what is neither a name nor a hashable function.
    """
    name = ALIASES.get(metric, metric) if isinstance(metric, str) else metric
    if not isinstance(name, Hashable):
        raise TypeError(f"metric: needs a name, or a function that is hashable, got {type(metric).__name__}")
    if not callable(name) and name not in METRICS:
        known = ", ".join([*METRICS, *ALIASES])
        raise ValueError(f"metric: {metric!r} is unknown; choose one of {known}, or pass a function of two vectors")
    if name == "minkowski":
        accepted = "a finite number from 1 up with metric 'minkowski' (∞ is 'chebyshev')"
        real_number("p", p, accepted, lambda p: 1 <= p < math.inf)
    elif p is not None:
        raise ValueError(f"p: only metric 'minkowski' takes p, got p={p!r} with metric {metric!r}")
    return name
