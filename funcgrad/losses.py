"""Losses of ONE example: scores (num_classes,) and its label in, one number out; `jax.vmap` makes them a batch's."""

from collections.abc import Callable
from functools import partial
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

Loss = Callable[[Array, Array, Any], Array]  # (scores, label, params) → loss of one example


def softmax_cross_entropy(scores: Array, label: Array, *, smoothing: float = 0.0) -> Array:
    """−log of the softmax probability of the label.

    With `smoothing` ε the target is (1 − ε) for the label plus ε / C for every class (Szegedy et al. 2016,
    arXiv:1512.00567).
    """
    log_probabilities = jax.nn.log_softmax(scores)
    return -(1 - smoothing) * log_probabilities[label] - smoothing * jnp.mean(log_probabilities)


def multiclass_hinge(scores: Array, label: Array, *, margin: float = 1.0) -> Array:
    """The sum over the wrong classes of max(0, score − score of the label + margin): CS231n's multiclass SVM.

    This is Weston and Watkins' loss; `optax.losses.multiclass_hinge_loss` is Crammer and Singer's, which takes only
    the worst wrong class. At the kink the derivative is 0.
    """
    wrong = jnp.arange(len(scores)) != label
    return jnp.sum(jnp.where(wrong, jax.nn.relu(scores - scores[label] + margin), 0))


def l2_penalty(params: Any) -> Array:
    """The sum of the squares of all weights; biases (arrays of one axis) are left alone."""
    return sum((jnp.sum(jnp.square(x)) for x in jax.tree.leaves(params) if x.ndim > 1), start=jnp.zeros(()))


LOSSES: dict[str, Callable[..., Array]] = {"softmax": softmax_cross_entropy, "svm": multiclass_hinge}


def make_loss(name: str, *, l2: float | Array = 0.0, smoothing: float = 0.0) -> Loss:
    """loss(scores, label, params) by name ("softmax" or "svm"), plus `l2` times `l2_penalty` (CS231n's λ·ΣW²).

    Raises `ValueError` for an unknown name, a negative `l2`, `smoothing` outside [0, 1], and for any smoothing with
    "svm", which has no probabilities to smooth.
    """
    if name not in LOSSES:
        raise ValueError(f"loss: {name!r} is unknown; choose one of {', '.join(LOSSES)}")
    if smoothing and name != "softmax":
        raise ValueError(f"smoothing: only loss 'softmax' can smooth its labels, got {smoothing} with loss {name!r}")
    if not 0 <= smoothing <= 1:
        raise ValueError(f"smoothing: needs a share from 0 to 1, got {smoothing}")
    if isinstance(l2, Real) and not 0 <= l2 < float("inf"):  # else swept, and traced
        raise ValueError(f"l2: must be at least 0 and finite, got {l2}")
    data_loss = partial(LOSSES[name], smoothing=smoothing) if smoothing else LOSSES[name]

    def loss(scores: Array, label: Array, params: Any) -> Array:
        return data_loss(scores, label) + l2 * l2_penalty(params)

    return loss
