"""Classifiers as two pure functions: `init` makes parameters, `apply` turns one example into one score a class."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

Params = Any  # a tree of arrays


class Model(NamedTuple):
    """A classifier of one example; `jax.vmap` makes it one of a batch.

    init: (key, shape of one example) → params.
    apply: (params, example, *, key=None) → scores (num_classes,). Without a key it evaluates: nothing is dropped.
    """

    init: Callable[[Array, tuple[int, ...]], Params]
    apply: Callable[..., Array]


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "elu": jax.nn.elu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
}


def linear(num_classes: int) -> Model:
    """Scores W·x + b for the flattened example, W from a normal distribution of deviation 10⁻⁴ (CS231n, lecture 2).

    Parameters: {"weights": (dimensions, num_classes), "bias": (num_classes,)}.
    """

    def init(key: Array, shape: tuple[int, ...]) -> Params:
        return _dense_init(key, math.prod(shape), num_classes, deviation=1e-4)

    def apply(params: Params, x: Array, *, key: Array | None = None) -> Array:
        return _dense(params, _flat(x, params))

    return Model(init, apply)


def mlp(
    hidden: Sequence[int], num_classes: int, *, activation: str = "relu", dropout: float = 0.0, layer_norm: bool = False
) -> Model:
    """A multilayer perceptron: for each hidden size a dense layer, layer normalisation if asked, activation, dropout.

    Hidden weights start with deviation √(2 / inputs) (He et al. 2015, arXiv:1502.01852), the last with √(1 / inputs).
    Parameters: {"hidden": [{"weights", "bias"[, "scale", "offset"]}, …], "output": {"weights", "bias"}}.

    Raises `ValueError` for no hidden size, one below 1, an unknown activation or a dropout outside [0, 1).
    """
    hidden = tuple(hidden)
    if not hidden or min(hidden) < 1:
        raise ValueError(f"hidden: needs one size or more, each at least 1; got {hidden}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation: {activation!r} is unknown; choose one of {', '.join(ACTIVATIONS)}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout: needs a share from 0 to below 1, got {dropout}")
    nonlinear = ACTIVATIONS[activation]

    def init(key: Array, shape: tuple[int, ...]) -> Params:
        sizes = (math.prod(shape), *hidden)
        layers = []
        for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
            layer = _dense_init(jax.random.fold_in(key, number), inputs, outputs, deviation=(2 / inputs) ** 0.5)
            if layer_norm:
                layer |= {"scale": jnp.ones(outputs), "offset": jnp.zeros(outputs)}
            layers.append(layer)
        last = _dense_init(jax.random.fold_in(key, len(hidden)), sizes[-1], num_classes, deviation=sizes[-1] ** -0.5)
        return {"hidden": layers, "output": last}

    def apply(params: Params, x: Array, *, key: Array | None = None) -> Array:
        x = _flat(x, params["output"])
        for number, layer in enumerate(params["hidden"]):
            x = _dense(layer, x)
            if layer_norm:
                x = jax.nn.standardize(x) * layer["scale"] + layer["offset"]
            x = nonlinear(x)
            if dropout and key is not None:
                kept = jax.random.bernoulli(jax.random.fold_in(key, number), 1 - dropout, x.shape)
                x = jnp.where(kept, x / (1 - dropout), 0)
        return _dense(params["output"], x)

    return Model(init, apply)


def standardized(model: Model, mean: ArrayLike, deviation: ArrayLike) -> Model:
    """The model on (x − mean) / deviation, computed on the device, so that images stay uint8 until then.

    `mean` and `deviation` have one number for each entry of the last axis (colour channel, or feature): see
    `mean_and_deviation`. A deviation of 0 counts as 1.
    """

    def apply(params: Params, x: Array, *, key: Array | None = None) -> Array:
        centre, scale = jnp.asarray(mean, float), jnp.asarray(deviation, float)
        x = (x.astype(centre.dtype) - _along_last(centre, x)) / _along_last(jnp.where(scale > 0, scale, 1), x)
        return model.apply(params, x, key=key)

    return Model(model.init, apply)


def mean_and_deviation(inputs: Any, rows: int = 4096) -> tuple[Array, Array]:
    """Mean and standard deviation of inputs (N, …, C) over all but the last axis → two (C,), a block at a time."""
    axes = tuple(range(inputs.ndim - 1))
    blocks = [jnp.asarray(inputs[i : i + rows]).astype(float) for i in range(0, len(inputs), rows)]
    counts = jnp.asarray([len(block) for block in blocks], float)
    means = jnp.stack([jnp.mean(block, axis=axes) for block in blocks])
    mean = jnp.average(means, axis=0, weights=counts)
    squares = [jnp.mean(jnp.square(block - _along_last(mean, block)), axis=axes) for block in blocks]
    return mean, jnp.sqrt(jnp.average(jnp.stack(squares), axis=0, weights=counts))


def _along_last(x: Array, like: Array) -> Array:
    return x.reshape((1,) * (like.ndim - 1) + x.shape)


def _dense_init(key: Array, inputs: int, outputs: int, deviation: float) -> dict[str, Array]:
    return {"weights": deviation * jax.random.normal(key, (inputs, outputs)), "bias": jnp.zeros(outputs)}


def _dense(params: Params, x: Array) -> Array:
    return x @ params["weights"] + params["bias"]


def _flat(x: Array, layer: Params) -> Array:
    return jnp.ravel(x).astype(layer["weights"].dtype)
