"""Classifiers as two pure functions: `init` makes parameters, `apply` maps one example to one score per class.

Compiled programs are keyed by function identity, so equal settings give the same object.
"""

import itertools
import math
import operator
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike, DTypeLike

Params = Any  # a tree of arrays


class Model(NamedTuple):
    """A classifier of one example; `jax.vmap` makes it one of a batch.

    init: (key, shape of one example) → params.
    apply: (params, example, *, key=None) → scores (num_classes,). Without a key it evaluates: no dropout.
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


Initialization = Callable[[Array, tuple[int, int]], Array]  # (key, (inputs, outputs)) → an array of that shape

INITIALIZATIONS: dict[str, Initialization] = {
    "he": lambda key, shape: (2 / shape[0]) ** 0.5 * jax.random.normal(key, shape),
    "lecun": lambda key, shape: shape[0] ** -0.5 * jax.random.normal(key, shape),
    "normal": lambda key, shape: 1e-4 * jax.random.normal(key, shape),
    "zeros": lambda key, shape: jnp.zeros(shape),
    # JAX's own; its normal distributions, unlike those above, are truncated at two standard deviations
    "he_normal": jax.nn.initializers.he_normal(),
    "he_uniform": jax.nn.initializers.he_uniform(),
    "glorot_normal": jax.nn.initializers.glorot_normal(),
    "glorot_uniform": jax.nn.initializers.glorot_uniform(),
    "lecun_normal": jax.nn.initializers.lecun_normal(),
    "lecun_uniform": jax.nn.initializers.lecun_uniform(),
    "orthogonal": jax.nn.initializers.orthogonal(),
}
# The factor 2 in He's variance compensates for an activation that zeroes half of its inputs; other layers omit it.
_WITHOUT_ACTIVATION = {"he": "lecun", "he_normal": "lecun_normal", "he_uniform": "lecun_uniform"}


def linear(num_classes: int, *, initialization: str = "normal") -> Model:
    """Scores W·x + b for the flattened example; by default W starts with a standard deviation of 10⁻⁴ (CS231n).

    `initialization` is one of `INITIALIZATIONS`. Parameters: {"weights": (num_classes, dimensions),
    "bias": (num_classes,)}; biases start at 0.

    Raises `ValueError` for an unknown initialization or fewer than one class, `TypeError` for a non-integer.
    """
    return _linear(_count("num_classes", num_classes), _chosen("initialization", initialization, INITIALIZATIONS))


@lru_cache(maxsize=256)
def _linear(num_classes: int, start: Initialization) -> Model:
    def init(key: Array, shape: tuple[int, ...]) -> Params:
        return _dense_init(key, math.prod(shape), num_classes, start)

    def apply(params: Params, x: Array, *, key: Array | None = None) -> Array:
        return _dense(params, _flat(x, params))

    return Model(init, apply)


def mlp(
    hidden: int | Sequence[int],
    num_classes: int,
    *,
    activation: str = "relu",
    dropout: float = 0.0,
    layer_norm: bool = False,
    residual: bool = False,
    initialization: str = "he",
) -> Model:
    """A multilayer perceptron: for each hidden size a dense layer, optional layer normalisation, activation, dropout.

    With `residual`, each entry of `hidden` is instead an inverted-bottleneck block, x + W₂·act(W₁·LayerNorm(x)), where
    W₁ expands x to four times its size and W₂ projects it back; a linear embedding precedes the blocks and a linear
    output follows them (Bachmann, Anagnostidis and Hofmann 2023, arXiv:2306.13575; they use "gelu"). Dropout follows
    the activation there too, and `layer_norm` has no effect.

    Args:
      hidden: the sizes of the hidden layers; a number is one layer. With `residual`, one for each block, all equal.
      activation: one of `ACTIVATIONS`.
      dropout: the probability of dropping a hidden unit in training; the others are divided by 1 − dropout.
      initialization: one of `INITIALIZATIONS`, for all weights. The default has a standard deviation of √(2 / inputs)
        (He et al. 2015, arXiv:1502.01852), and √(1 / inputs) in layers without an activation. Biases start at 0.

    Parameters: {"hidden": [{"weights", "bias"[, "scale", "offset"]}, …], "output": {"weights", "bias"}}. With
    `residual`, where dense is {"weights", "bias"}: {"embedding": dense, "blocks": [{"scale", "offset",
    "widen": dense, "narrow": dense}, …], "output": dense}.

    Raises `ValueError` for no hidden size, one below 1, unequal ones with `residual`, an unknown activation or
    initialization, a dropout outside [0, 1), and `TypeError` for sizes that are not integers.
    """
    hidden = tuple(_count("hidden", size) for size in (hidden if np.iterable(hidden) else [hidden]))
    num_classes = _count("num_classes", num_classes)
    if not hidden:
        raise ValueError("hidden: needs one size or more, got none")
    nonlinear = _chosen("activation", activation, ACTIVATIONS)
    start = _chosen("initialization", initialization, INITIALIZATIONS)
    if initialization == "zeros":
        raise ValueError("initialization: 'zeros' is for linear; all hidden units would remain identical")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout: needs a share from 0 to below 1, got {dropout}")
    if residual and len(set(hidden)) > 1:
        raise ValueError(f"hidden: residual blocks need sizes that are all equal, got {hidden}")
    start_without = INITIALIZATIONS[_WITHOUT_ACTIVATION.get(initialization, initialization)]
    activated = _activated(nonlinear, dropout)
    if residual:
        return _blocks(hidden[0], len(hidden), num_classes, activated, start, start_without)
    return _layers(hidden, num_classes, activated, layer_norm, start, start_without)


Activated = Callable[[Array, Array | None], Array]  # (x, key) → x after activation and, with a key, dropout


@lru_cache(maxsize=256, typed=True)
def _activated(nonlinear: Callable[[Array], Array], dropout: float) -> Activated:
    def activated(x: Array, key: Array | None) -> Array:
        x = nonlinear(x)
        if dropout and key is not None:
            x = jnp.where(jax.random.bernoulli(key, 1 - dropout, x.shape), x / (1 - dropout), 0)
        return x

    return activated


@lru_cache(maxsize=256)
def _layers(
    hidden: tuple[int, ...],
    num_classes: int,
    activated: Activated,
    layer_norm: bool,
    start: Initialization,
    start_without: Initialization,
) -> Model:
    """Hidden layers in sequence, then the output; `start` and `start_without` initialize the weights: see `mlp`."""

    def init(key: Array, shape: tuple[int, ...]) -> Params:
        sizes = (math.prod(shape), *hidden)
        layers = []
        for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
            layer = _dense_init(jax.random.fold_in(key, number), inputs, outputs, start)
            layers.append(layer | _norm_init(outputs) if layer_norm else layer)
        last = _dense_init(jax.random.fold_in(key, len(hidden)), sizes[-1], num_classes, start_without)
        return {"hidden": layers, "output": last}

    def apply(params: Params, x: Array, *, key: Array | None = None) -> Array:
        x = _flat(x, params["hidden"][0])
        for number, layer in enumerate(params["hidden"]):
            x = _dense(layer, x)
            x = _normalized(layer, x) if layer_norm else x
            x = activated(x, None if key is None else jax.random.fold_in(key, number))
        return _dense(params["output"], x)

    return Model(init, apply)


@lru_cache(maxsize=256)
def _blocks(
    width: int, count: int, num_classes: int, activated: Activated, start: Initialization, start_without: Initialization
) -> Model:
    """`count` inverted-bottleneck blocks between an embedding and the output: see `mlp`."""

    def init(key: Array, shape: tuple[int, ...]) -> Params:
        embedding_key, output_key, *keys = jax.random.split(key, 2 + 2 * count)
        blocks = [
            {
                **_norm_init(width),
                "widen": _dense_init(widen_key, width, 4 * width, start),
                "narrow": _dense_init(narrow_key, 4 * width, width, start_without),
            }
            for widen_key, narrow_key in zip(keys[::2], keys[1::2], strict=True)
        ]
        embedding = _dense_init(embedding_key, math.prod(shape), width, start_without)
        output = _dense_init(output_key, width, num_classes, start_without)
        return {"embedding": embedding, "blocks": blocks, "output": output}

    def apply(params: Params, x: Array, *, key: Array | None = None) -> Array:
        x = _dense(params["embedding"], _flat(x, params["embedding"]))
        for number, block in enumerate(params["blocks"]):
            own_key = None if key is None else jax.random.fold_in(key, number)
            x += _dense(block["narrow"], activated(_dense(block["widen"], _normalized(block, x)), own_key))
        return _dense(params["output"], x)

    return Model(init, apply)


def standardized(model: Model, mean: ArrayLike, deviation: ArrayLike) -> Model:
    """The model applied to (x − mean) / deviation, computed on the device, so that images stay uint8 until then.

    `mean` and `deviation` have one entry per colour channel or feature, the last axis of x: see `mean_and_deviation`. A
    deviation of 0 is replaced by 1.
    """
    return _standardized(model, *(tuple(np.ravel(x).tolist()) for x in (mean, deviation)))


@lru_cache(maxsize=256)
def _standardized(model: Model, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Model:
    def apply(params: Params, x: Array, *, key: Array | None = None) -> Array:
        dtype = jnp.result_type(float)
        # Broadcast to the example's shape first: XLA's CPU backend does not vectorize along a last axis of 3.
        centre, scale = (np.broadcast_to(np.asarray(y, dtype), x.shape) for y in (mean, deviation))
        return model.apply(params, (x.astype(dtype) - centre) / np.where(scale > 0, scale, 1), key=key)

    return Model(model.init, apply)


def in_dtype(model: Model, dtype: DTypeLike) -> Model:
    """The model computed in another floating-point dtype, such as "bfloat16"; parameters and scores keep theirs.

    Parameters and inputs are cast to `dtype` on entry, so gradients and updates stay in the parameters' own dtype
    ("mixed precision", Micikevicius et al. 2018, arXiv:1710.03740). Wrap it in `standardized`, not the other way round,
    so that inputs are standardized before they are rounded:

        standardized(in_dtype(mlp((512,), 10), "bfloat16"), mean, deviation)

    Raises `ValueError` for any other dtype.
    """
    try:
        floating = jnp.issubdtype(dtype, jnp.floating)
    except TypeError:  # not a dtype
        floating = False
    if not floating:
        raise ValueError(f"dtype: needs a floating-point dtype such as 'bfloat16', got {dtype!r}")
    return _in_dtype(model, jnp.dtype(dtype))


@lru_cache(maxsize=256)
def _in_dtype(model: Model, dtype: np.dtype) -> Model:
    def apply(params: Params, x: Array, *, key: Array | None = None) -> Array:
        own = jnp.result_type(*jax.tree.leaves(params))
        rounded = jax.tree.map(lambda p: p.astype(dtype), params)
        return model.apply(rounded, x.astype(dtype), key=key).astype(own)

    return Model(model.init, apply)


def mean_and_deviation(inputs: Any, rows: int = 4096) -> tuple[Array, Array]:
    """Mean and standard deviation of inputs (N, …, C) over all but the last axis → two (C,), in blocks of `rows`."""
    axes = tuple(range(inputs.ndim - 1))
    blocks = [jnp.asarray(inputs[i : i + rows]).astype(float) for i in range(0, len(inputs), rows)]
    counts = jnp.asarray([len(block) for block in blocks], float)
    means = jnp.stack([jnp.mean(block, axis=axes) for block in blocks])
    mean = jnp.average(means, axis=0, weights=counts)
    squares = [jnp.mean(jnp.square(block - jnp.expand_dims(mean, axes)), axis=axes) for block in blocks]
    return mean, jnp.sqrt(jnp.average(jnp.stack(squares), axis=0, weights=counts))


def _dense_init(key: Array, inputs: int, outputs: int, start: Initialization) -> dict[str, Array]:
    # Drawn as (inputs, outputs), as JAX's initializers expect, then transposed; published results depend on it.
    return {"weights": start(key, (inputs, outputs)).T, "bias": jnp.zeros(outputs)}


def _norm_init(size: int) -> dict[str, Array]:
    return {"scale": jnp.ones(size), "offset": jnp.zeros(size)}


def _dense(layer: Params, x: Array) -> Array:
    product = layer["weights"] @ x
    # Under vmap this is (outputs, B). Materialized in that layout, so is its gradient, which XLA's CPU backend then
    # multiplies by the inputs (B, inputs) at full speed; in the layout (B, outputs) that takes 1.5 times as long.
    product = lax.optimization_barrier(product) if jax.default_backend() == "cpu" else product
    return product + layer["bias"]


def _normalized(layer: Params, x: Array) -> Array:
    """Layer normalisation (Ba et al. 2016, arXiv:1607.06450); mean and variance in at least 32 bits."""
    wide = x.astype(jnp.float32) if x.dtype.itemsize < 4 else x
    return jax.nn.standardize(wide).astype(x.dtype) * layer["scale"] + layer["offset"]


def _flat(x: Array, first: Params) -> Array:
    """The example as a vector of the first layer's dtype. Raises `ValueError` if its size is not that layer's."""
    inputs = first["weights"].shape[1]
    if x.size != inputs:
        raise ValueError(f"example: has shape {x.shape}, {x.size} numbers; the parameters are for {inputs}")
    return jnp.ravel(x).astype(first["weights"].dtype)


def _chosen(argument: str, name: str, table: dict[str, Any]) -> Any:
    if name not in table:
        raise ValueError(f"{argument}: {name!r} is unknown; choose one of {', '.join(table)}")
    return table[name]


def _count(argument: str, value: Any) -> int:
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{argument}: needs a whole number, got {value!r}") from None
    if count < 1:
        raise ValueError(f"{argument}: must be at least 1, got {value!r}")
    return count
