"""From neighbours to labels: each has a weight by its distance, and each class the votes of its own."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array


@partial(jax.jit, static_argnums=(4, 5, 6))
def count_votes(
    distances: Array,
    indices: Array,
    labels: Array,
    temperature: Array | None,  # of softmax weights alone
    weights: Callable[..., Array],
    ks: tuple[int, ...],
    num_classes: int,
) -> Array:
    """The votes (len(ks), Q, classes) of neighbours (Q, k); labels (N,): the points'. See `funcgrad.neighbors.vote`."""
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
