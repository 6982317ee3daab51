"""Where a training's arrays lie: on one device, or on a mesh whose devices share each batch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from funcgrad.sharding import DATA, spans_processes


def replicate(mesh: Mesh | None, tree: Any) -> Any:
    """Every array on every device of the mesh; on the default device without one."""
    if mesh is None:
        return jax.tree.map(jnp.asarray, tree)
    return jax.tree.map(lambda x: _placed(x, mesh, jax.P()), tree)


def split_batches(mesh: Mesh | None, order: Any) -> Any:
    """The order (S, B) of an epoch, each batch split over the devices of the axis "data"."""
    return jnp.asarray(order) if mesh is None else _placed(order, mesh, jax.P(None, DATA))


def batch_size_for(mesh: Mesh | None, batch_size: int, examples: int) -> int:
    """The batch size; if one batch holds all examples, padded to a multiple of the devices.

    Raises `ValueError` for another one that the devices cannot share.
    """
    devices = 1 if mesh is None else dict(mesh.shape).get(DATA, 1)
    if batch_size % devices and batch_size < examples:
        raise ValueError(f"batch_size: needs a multiple of the {devices} devices that share it, got {batch_size}")
    return batch_size + -batch_size % devices


def on_host(tree: Any) -> Any:
    """The tree with every array that spans several processes copied to the host of each."""

    def copied(x: Any) -> Any:
        return x if not isinstance(x, jax.Array) or x.is_fully_addressable else np.asarray(x)

    return jax.tree.map(copied, tree)


def placed_like(tree: Any, like: Any) -> Any:
    """Each array with its counterpart's sharding: the compiler chooses how a program's results are split."""

    def placed(x: jax.Array, to: Any) -> jax.Array:  # one at a time: on CPU, concurrent transfers may deadlock
        return x if x.sharding == to.sharding else jax.block_until_ready(jax.device_put(x, to.sharding))

    return jax.tree.map(placed, tree, like)


def _placed(x: Any, mesh: Mesh, spec: jax.P) -> jax.Array:
    """The array on a mesh. If it spans processes, each places its own part and waits for no other.

    `device_put` would compare what the processes have, and a streaming thread places arrays at any time.
    """
    sharding = NamedSharding(mesh, spec)
    if not spans_processes(mesh):
        return jax.device_put(x, sharding)
    whole = np.asarray(jnp.asarray(x))  # in one of JAX's dtypes
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])
