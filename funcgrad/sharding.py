"""Devices: a mesh, and running a function of independent rows on all of it. Numeric code knows nothing of these."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh


def make_mesh(devices: int | Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with one axis, "data", over the first so many devices, over those given, or over all.

    Raises `ValueError` when more devices are asked for than there are.
    """
    there = jax.devices()
    if isinstance(devices, int):
        if not 1 <= devices <= len(there):
            raise ValueError(f"devices: got {devices}, this machine has {len(there)} ({there[0].platform})")
        devices = there[:devices]
    chosen = list(there if devices is None else devices)
    return jax.make_mesh((len(chosen),), ("data",), axis_types=(AxisType.Auto,), devices=chosen)


def over_rows(fun: Callable[..., Any], mesh: Mesh, sharded: Sequence[bool]) -> Callable[..., Any]:
    """`fun` with the rows of the marked arguments, and of every result, split over the mesh; the others are copied.

    `fun` must treat its rows independently; their number must be a multiple of the number of devices.
    """
    rows = jax.P(mesh.axis_names)
    specs = tuple(rows if split else jax.P() for split in sharded)
    return jax.shard_map(fun, mesh=mesh, in_specs=specs, out_specs=rows, check_vma=False)
