"""From neighbours to labels: each has a weight by its distance, and each class the votes of its own.

votes = vote(neighbors, labels, num_classes, ks=(1, 3, 5))     # (3, Q, num_classes)
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from funcgrad.neighbors.index import Index
from funcgrad.neighbors.search import kneighbors
from funcgrad.neighbors.strategies import Neighbors

Weights = str | Callable[[Array], Array]


@partial(jax.jit, static_argnums=(4, 5, 6))
def _count_votes(
    distances: Array,
    indices: Array,
    labels: Array,
    temperature: Array | None,  # of softmax weights alone
    weights: Callable[..., Array],
    ks: tuple[int, ...],
    num_classes: int,
) -> Array:
    """The votes (len(ks), Q, classes) of neighbours (Q, k); labels (N,): the points'. See `vote`."""
    other = () if temperature is None else (temperature,)

    def one_query(distances: Array, indices: Array) -> Array:
        votes = jnp.where(indices >= 0, weights(distances, *other), 0)
        rank = jnp.arange(len(indices))
        counted = jnp.stack([jnp.where(rank < k, votes, 0) for k in ks])
        return jnp.zeros((len(ks), num_classes), votes.dtype).at[:, labels[indices]].add(counted)

    return jnp.swapaxes(jax.vmap(one_query)(distances, indices), 0, 1)


def _uniform(distances: Array) -> Array:
    return jnp.ones_like(distances)


def _inverse_distance(distances: Array) -> Array:
    matches = distances[0] == 0  # the nearest comes first
    return jnp.where(matches, (distances == 0).astype(distances.dtype), 1 / jnp.where(matches, 1, distances))


def _softmax(distances: Array, temperature: Array) -> Array:
    return jnp.exp((distances[0] - distances) / temperature)


WEIGHTS: dict[str, Callable[..., Array]] = {"uniform": _uniform, "distance": _inverse_distance, "softmax": _softmax}


def vote(
    neighbors: Neighbors,
    labels: ArrayLike,
    num_classes: int,
    *,
    ks: Sequence[int] = (1, 3, 5),
    weights: Weights = "uniform",
    temperature: float = 0.07,
) -> np.ndarray:
    """The votes of the first k neighbours for each class, for several k in one pass → (len(ks), Q, num_classes).

    The winner is `np.argmax(votes, axis=-1)`, which gives a tie to the smaller label. Votes are float32 where the
    distances are, else float64.

    Args:
      labels: (N,) the points' labels, 0 … num_classes − 1.
      weights: "uniform": one vote each. "distance": 1 / distance, and exact matches outvote all others. "softmax":
        exp(−distance / temperature), which with metric "cosine" is the protocol of Wu et al. 2018 (arXiv:1805.01978)
        and DINO (Caron et al. 2021, arXiv:2104.14294); each query's are scaled so that the nearest has 1.
        A function: from distances (k,) to weights (k,).

    Raises:
      ValueError: an unknown weight, a k above the number of neighbours, labels that are no integers in range.
    """
    available = neighbors.indices.shape[1]
    ks = tuple(ks)
    if not ks or not all(isinstance(k, int | np.integer) and 1 <= k <= available for k in ks):
        raise ValueError(f"ks: needs integers from 1 to {available}, the number of neighbours found; got {ks}")
    if not callable(weights) and weights not in WEIGHTS:
        raise ValueError(f"weights: {weights!r} is unknown; choose one of {', '.join(WEIGHTS)}, or pass a function")
    if not temperature > 0:
        raise ValueError(f"temperature: must be above 0, got {temperature}")
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"labels: needs integers (N,) from 0 to {num_classes - 1}, got {labels.dtype} {labels.shape}")
    distances, indices = np.asarray(neighbors.distances), np.asarray(neighbors.indices)
    if indices.max() >= len(labels):
        raise ValueError(f"labels: needs one for each point, got {len(labels)}, and point {indices.max()} has none")
    if weights == "distance" and (distances < 0).any():
        raise ValueError(
            "weights: 'distance' needs distances from 0 up, and these go below; use 'uniform' or 'softmax'"
        )
    function: Callable[..., Array] = weights if callable(weights) else WEIGHTS[weights]
    distances = distances if distances.dtype == np.float32 else distances.astype(np.float64)
    with jax.enable_x64(jax.config.read("jax_enable_x64") or distances.dtype == np.float64):
        scaled = np.asarray(temperature, distances.dtype) if weights == "softmax" else None
        return np.asarray(_count_votes(distances, indices, labels, scaled, function, ks, num_classes), distances.dtype)


def classify(
    queries: Any,
    index_or_points: Any,
    labels: ArrayLike,
    k: int,
    *,
    weights: Weights = "uniform",
    temperature: float = 0.07,
    **options: Any,
) -> np.ndarray:
    """The labels (Q,) int32 that the k nearest points vote for; takes the options of `kneighbors` and `vote`.

    >>> classify([[0.2]], [[0.0], [1.0], [1.1]], [0, 1, 1], k=1)
    array([0], dtype=int32)
    """
    count = len(index_or_points.points if isinstance(index_or_points, Index) else index_or_points)
    labels = np.asarray(labels)
    if labels.shape != (count,) or labels.dtype.kind not in "iu" or labels.min() < 0:
        got = f"{labels.dtype} {labels.shape}: {labels.ravel()[:3].tolist()}, …"
        raise ValueError(f"labels: needs a whole number from 0 for each of the {count} points, got {got}")
    neighbors = kneighbors(queries, index_or_points, k, **options)
    votes = vote(neighbors, labels, int(labels.max()) + 1, ks=(k,), weights=weights, temperature=temperature)
    return np.argmax(votes[0], axis=-1).astype(np.int32)
