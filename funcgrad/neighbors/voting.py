"""From neighbours to labels: each has a weight by its distance, and each class the votes of its own.

votes = vote(neighbors, labels, num_classes, ks=(1, 3, 5))     # (3, Q, num_classes)
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from funcgrad.distances import real_number, whole_number
from funcgrad.neighbors.index import Index
from funcgrad.neighbors.search import kneighbors
from funcgrad.neighbors.strategies import Neighbors

Weights = str | Callable[[Array], Array]


def _uniform(distances: np.ndarray, temperature: float) -> np.ndarray:
    return np.ones_like(distances)


def _inverse_distance(distances: np.ndarray, temperature: float) -> np.ndarray:
    nearest = distances[:, :1]
    exponents = np.frexp(nearest)[1]
    scales = np.where(np.abs(exponents) < 100, 1.0, np.ldexp(1.0, exponents - 1))
    with np.errstate(divide="ignore", over="ignore"):
        return np.where(nearest == 0, distances == 0, scales / distances)


def _softmax(distances: np.ndarray, temperature: float) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):  # infinity, of no neighbour, from itself
        return np.exp((distances[:, :1] - distances) / temperature)


# From distances (Q, k) float64, the nearest first, and the temperature to weights (Q, k).
WEIGHTS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "uniform": _uniform,
    "distance": _inverse_distance,
    "softmax": _softmax,
}


@partial(jax.jit, static_argnums=1)
def _by_function(distances: Array, weights: Callable[[Array], Array]) -> Array:
    return jax.vmap(weights)(distances)


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
    distances are, else float64. Only a query that has no neighbour at all has no vote.

    Args:
      labels: (N,) the points' labels, 0 … num_classes − 1.
      weights: "uniform": one vote each. "distance": 1 / distance, and exact matches outvote all others; where the
        nearest is not within 2^±100, a query's votes are scaled by a power of two so that none overflows or vanishes.
        "softmax": exp(−distance / temperature), which with metric "cosine" is the protocol of Wu et al. 2018
        (arXiv:1805.01978) and DINO (Caron et al. 2021, arXiv:2104.14294); each query's are scaled so that the nearest
        has 1. A function: from distances (k,) to weights (k,), written with `jax.numpy`.

    Raises:
      ValueError: an unknown weight, a function that gives another shape, a negative number, NaN, infinity or only
        zeros, a k above the number of neighbours, labels that are no integers in range.
    """
    distances, indices = np.asarray(neighbors.distances), np.asarray(neighbors.indices)
    ks, num_classes = _checked_ks(ks, indices.shape[1]), whole_number("num_classes", num_classes, 1)
    if not callable(weights) and weights not in WEIGHTS:
        raise ValueError(f"weights: {weights!r} is unknown; choose one of {', '.join(WEIGHTS)}, or pass a function")
    temperature = real_number("temperature", temperature, "a number above 0", lambda t: t > 0)
    labels = np.asarray(labels)
    described = f"labels: needs integers (N,) from 0 to {num_classes - 1}, got {labels.dtype} {labels.shape}"
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(described)
    if outside := labels[(labels < 0) | (labels >= num_classes)].tolist():
        raise ValueError(f"{described} with {outside[0]}")
    if indices.max(initial=-1) >= len(labels):
        raise ValueError(f"labels: needs one for each point, got {len(labels)}, and point {indices.max()} has none")
    if weights == "distance" and (distances < 0).any():
        raise ValueError(
            "weights: 'distance' needs distances from 0 up, and these go below; use 'uniform' or 'softmax'"
        )
    dtype = np.dtype(np.float32 if distances.dtype == np.float32 else np.float64)
    weighted = _weights_of(distances.astype(dtype), indices, weights, temperature)
    votes, counted = np.zeros((len(ks), len(indices), num_classes), dtype), np.zeros((len(indices), num_classes), dtype)
    for rank in range(max(ks)):
        counted[np.arange(len(indices)), labels[indices[:, rank]]] += weighted[:, rank]
        votes[[k == rank + 1 for k in ks]] = counted
    missing = [(indices[:, :k] >= 0).any(axis=1) & ~of_k.any(axis=1) for k, of_k in zip(ks, votes, strict=True)]
    _refuse_weights(weighted, np.any(missing, axis=0))
    return votes


def _checked_ks(ks: Any, available: int) -> tuple[int, ...]:
    found = tuple(ks) if isinstance(ks, Iterable) and not isinstance(ks, str) else ()
    try:
        return tuple(whole_number("ks", k, 1, available) for k in found or [None])
    except ValueError:
        raise ValueError(
            f"ks: needs integers from 1 to {available}, the number of neighbours found; got {ks!r}"
        ) from None


def _weights_of(distances: np.ndarray, indices: np.ndarray, weights: Weights, temperature: float) -> np.ndarray:
    """(Q, k) in the dtype of the distances, each finite and from 0 up; 0 where there is no neighbour."""
    if callable(weights):
        with jax.enable_x64(jax.config.read("jax_enable_x64") or distances.dtype == np.float64):
            found = np.asarray(_by_function(distances, weights))
        if found.shape != distances.shape:
            shape = f"{distances.shape[1:]}, it gave {found.shape[1:]}"
            raise ValueError(f"weights: the function must give one weight for each distance, of shape {shape}")
    else:
        found = WEIGHTS[weights](distances.astype(np.float64), temperature)
    found = np.where(indices >= 0, found, 0).astype(distances.dtype)
    _refuse_weights(found, ~(np.isfinite(found) & (found >= 0)).all(axis=1))
    return found


def _refuse_weights(weights: np.ndarray, wrong: np.ndarray) -> None:
    if wrong.any():
        query = int(np.argmax(wrong))
        listed = ", ".join(map(str, weights[query, :5].tolist())) + (", …" if weights.shape[1] > 5 else "")
        raise ValueError(f"weights: must be finite, from 0 up and not all 0; query {query} got {listed}")


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
    """The labels (Q,) that the k nearest points vote for; takes the options of `kneighbors` and `vote`.

    They are int32 unless a label needs more.

    >>> classify([[0.2]], [[0.0], [1.0], [1.1]], [0, 1, 1], k=1)
    array([0], dtype=int32)
    """
    count = len(index_or_points.points if isinstance(index_or_points, Index) else index_or_points)
    labels = np.asarray(labels)
    if labels.shape != (count,) or labels.dtype.kind not in "iu" or labels.min() < 0:
        got = f"{labels.dtype} {labels.shape}: {labels.ravel()[:3].tolist()}, …"
        raise ValueError(f"labels: needs a whole number from 0 for each of the {count} points, got {got}")
    classes, numbers = np.unique(labels, return_inverse=True)
    neighbors = kneighbors(queries, index_or_points, k, **options)
    votes = vote(neighbors, numbers, len(classes), ks=(k,), weights=weights, temperature=temperature)
    return classes.astype(np.promote_types(np.int32, np.min_scalar_type(classes[-1])))[np.argmax(votes[0], axis=-1)]
