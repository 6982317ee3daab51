"""Checks of what is given to a training, each with one line that says what is wrong."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from funcgrad.models import Model, Params


def checked_examples(
    name: str, inputs: Any, labels: ArrayLike, *, finite: bool = True, rows: int = 4096
) -> tuple[Any, np.ndarray]:
    """The inputs as an array (NumPy's stay NumPy's), labels int32.

    Raises `ValueError` unless each input has a label and, with `finite`, all numbers are finite; they are read so many
    rows at a time.
    """
    inputs, labels = inputs if hasattr(inputs, "dtype") else np.asarray(inputs), np.asarray(labels)
    if inputs.dtype == object or inputs.ndim == 0:
        raise ValueError(f"{name}inputs: needs numbers (N, …), got {inputs.dtype} of shape {inputs.shape}")
    if labels.ndim != 1 or len(inputs) != len(labels) or not len(labels):
        raise ValueError(f"{name}labels: needs one for each of the {len(inputs)} inputs, got shape {labels.shape}")
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{name}labels: needs integers, got {labels.dtype}")
    if not -(2**31) <= np.min(labels) <= np.max(labels) < 2**31:
        raise ValueError(f"{name}labels: range from {np.min(labels)} to {np.max(labels)}, beyond 32-bit integers")
    if finite and jnp.issubdtype(inputs.dtype, jnp.inexact) and not _known_finite(inputs):
        for first in range(0, len(inputs), rows):
            block = np.asarray(inputs[first : first + rows]).reshape(min(rows, len(inputs) - first), -1)
            if not (ok := np.isfinite(block)).all():
                row, column = np.argwhere(~ok)[0]
                raise ValueError(f"{name}inputs: needs finite numbers, row {first + row} has {block[row, column]}")
    return inputs, labels.astype(np.int32)


def _known_finite(inputs: Any) -> bool:
    return isinstance(inputs, jax.Array) and bool(jnp.isfinite(inputs).all())  # where it is, and not a block at a time


def checked_validation(pair: Any, inputs: Any, model: Model, params: Params, *, finite: bool) -> tuple[Any, np.ndarray]:
    """The pair (inputs, labels) as arrays. `ValueError` unless it matches the training inputs and the model."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ValueError(f"validation: needs a pair (inputs, labels), got {type(pair).__name__}")
    held_out, labels = checked_examples("validation ", *pair, finite=finite)
    if held_out.shape[1:] != inputs.shape[1:]:
        raise ValueError(f"validation inputs: have shape {held_out.shape[1:]}, the inputs {inputs.shape[1:]}")
    check_labels("validation labels", labels, model, params, inputs)
    return held_out, labels


def checked_weights(weights: ArrayLike | None, count: int) -> np.ndarray:
    """Weights (N,) of JAX's float dtype, 1 by default. `ValueError` unless all are finite and ≥ 0, and one is > 0."""
    dtype = jnp.result_type(float)
    if weights is None:
        return np.ones(count, dtype)
    weights = np.asarray(weights, dtype)
    if weights.shape != (count,):
        raise ValueError(f"weights: needs one for each of the {count} inputs, got shape {weights.shape}")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError("weights: needs finite numbers of at least 0, and one above 0")
    return weights


def check_counts(**counts: int | None) -> None:
    """Raises `ValueError` for a count below 1; None is no count."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{name}: must be at least 1, got {count}")


def check_labels(name: str, labels: np.ndarray, model: Model, params: Params, inputs: Any) -> None:
    """Raises `ValueError` for labels that are not classes of the model."""
    example = jax.ShapeDtypeStruct(inputs.shape[1:], jax.dtypes.canonicalize_dtype(inputs.dtype))
    num_classes = jax.eval_shape(model.apply, params, example).shape[-1]
    if int(labels.min()) < 0 or int(labels.max()) >= num_classes:
        raise ValueError(
            f"{name}: range from {labels.min()} to {labels.max()}, the model has classes 0 … {num_classes - 1}"
        )
