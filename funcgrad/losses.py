"""Losses of ONE example: (scores (num_classes,), label) → a scalar; `jax.vmap` extends them to a batch."""

from collections.abc import Callable
from functools import lru_cache, partial
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

    This is the loss of Weston and Watkins (1999); see `crammer_singer` for the one that counts only the most violating
    class. At the kink the derivative is 0.
    """
    return jnp.sum(_violations(scores, label, margin))


def squared_hinge(scores: Array, label: Array, *, margin: float = 1.0) -> Array:
    """The sum over the wrong classes of max(0, score − score of the label + margin)²: CS231n's L2-SVM."""
    return jnp.sum(jnp.square(_violations(scores, label, margin)))


def crammer_singer(scores: Array, label: Array, *, margin: float = 1.0) -> Array:
    """The largest over the wrong classes of max(0, score − score of the label + margin).

    Crammer and Singer 2001, JMLR 2:265-292; also `optax.losses.multiclass_hinge_loss`. Tied classes share the
    derivative.
    """
    return jnp.max(_violations(scores, label, margin))


def _violations(scores: Array, label: Array, margin: float) -> Array:
    """The margin violation of each wrong class, (num_classes,); 0 for the label."""
    wrong = jnp.arange(len(scores), dtype=jnp.result_type(label)) != label
    return jnp.where(wrong, jax.nn.relu(scores - scores[label] + margin), 0)


def l2_penalty(params: Any) -> Array:
    """The sum of the squares of all weights; biases (arrays with one axis) are not penalized."""
    return sum((jnp.sum(jnp.square(x)) for x in _weights(params)), start=jnp.zeros(()))


def l1_penalty(params: Any) -> Array:
    """The sum of the absolute values of all weights; biases (arrays with one axis) are not penalized.

    The derivative is the sign of the weight: 0 at 0, where that of `jnp.abs` is 1.
    """
    return sum((jnp.sum(x * jnp.sign(x)) for x in _weights(params)), start=jnp.zeros(()))


def _weights(params: Any) -> list[Array]:
    return [x for x in jax.tree.leaves(params) if x.ndim > 1]


LOSSES: dict[str, Callable[..., Array]] = {
    "softmax": softmax_cross_entropy,
    "svm": multiclass_hinge,
    "squared_svm": squared_hinge,
    "crammer_singer": crammer_singer,
}


def make_loss(name: str, *, l1: float | Array = 0.0, l2: float | Array = 0.0, smoothing: float | Array = 0.0) -> Loss:
    """A loss by name, plus `l1` times `l1_penalty` and `l2` times `l2_penalty` (CS231n's λ·ΣW²).

    All three numbers may be traced, so that `jax.vmap` sweeps them; their range is then up to the caller.

    Raises `ValueError` for an unknown name, a negative penalty, `smoothing` outside [0, 1], and smoothing with another
    loss than "softmax", which alone has probabilities to smooth.
    """
    if name not in LOSSES:
        raise ValueError(f"loss: {name!r} is unknown; choose one of {', '.join(LOSSES)}")
    numbers = {"l1": l1, "l2": l2, "smoothing": smoothing}
    used = {argument: x for argument, x in numbers.items() if not isinstance(x, Real) or x != 0}
    if "smoothing" in used and name != "softmax":
        raise ValueError(f"smoothing: only loss 'softmax' has labels to smooth, got {smoothing} with loss {name!r}")
    for argument, x in used.items():
        if isinstance(x, Real) and argument == "smoothing" and not 0 <= x <= 1:
            raise ValueError(f"smoothing: needs a share from 0 to 1, got {x}")
        if isinstance(x, Real) and not 0 <= x < float("inf"):
            raise ValueError(f"{argument}: must be at least 0 and finite, got {x}")
    made = _made if all(isinstance(x, Real) for x in used.values()) else _made.__wrapped__
    loss: Loss = made(LOSSES[name], **used)
    return loss


@lru_cache(maxsize=256, typed=True)  # compiled programs are keyed by function identity: equal settings share one
def _made(data_loss: Callable[..., Array], l1: Any = None, l2: Any = None, smoothing: Any = None) -> Loss:
    if smoothing is not None:
        data_loss = partial(data_loss, smoothing=smoothing)

    def loss(scores: Array, label: Array, params: Any) -> Array:
        value = data_loss(scores, label)
        value = value if l1 is None else value + l1 * l1_penalty(params)
        return value if l2 is None else value + l2 * l2_penalty(params)

    return loss
