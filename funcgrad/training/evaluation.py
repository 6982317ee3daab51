"""What a model makes of examples: scores, losses, accuracy."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from funcgrad.losses import Loss
from funcgrad.models import Model, Params


def evaluate(model: Model, params: Params, inputs: Array, labels: Array, loss: Loss) -> tuple[Array, Array]:
    """Each example's loss and whether it is predicted correctly, (N,) each."""

    def one_example(example: tuple[Array, Array]) -> tuple[Array, Array]:
        scores = model.apply(params, example[0])
        return loss(scores, example[1], params), jnp.argmax(scores).astype(example[1].dtype) == example[1]

    return lax.map(one_example, (inputs, labels), batch_size=1024)


@partial(jax.jit, static_argnames=("model", "loss"))
def mean_metrics(params: Params, inputs: Array, labels: Array, *, model: Model, loss: Loss) -> tuple[Array, Array]:
    """Mean loss and accuracy."""
    losses, correct = evaluate(model, params, inputs, labels, loss)
    return jnp.mean(losses), jnp.mean(correct.astype(losses.dtype))


def predict(model: Model, params: Params, inputs: Any, *, batch_size: int = 4096) -> np.ndarray:
    """Scores (N, num_classes) of inputs (N, …), in batches: NumPy arrays may exceed the device's memory.

    Raises `ValueError` for inputs of a shape or size that the model cannot take.
    """
    inputs = inputs if hasattr(inputs, "dtype") else np.asarray(inputs)
    if inputs.ndim == 0 or not len(inputs):
        raise ValueError(f"inputs: needs (N, …) with N at least 1, got shape {inputs.shape}")
    batches = (jnp.asarray(inputs[i : i + batch_size]) for i in range(0, len(inputs), batch_size))
    return np.concatenate([np.asarray(_predict(params, batch, model=model)) for batch in batches])


@partial(jax.jit, static_argnames="model")
def _predict(params: Params, inputs: Array, *, model: Model) -> Array:
    return jax.vmap(model.apply, (None, 0))(params, inputs)
