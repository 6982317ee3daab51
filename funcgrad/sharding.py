"""Devices: a mesh, and running a function of independent rows on all of it. Numeric code knows nothing of these."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh

POINTS = "points"  # the axis of a mesh over which a search splits its points; over all others it splits its queries


def make_mesh(devices: int | Sequence[jax.Device] | None = None, *, points: int = 1) -> Mesh:
    """A mesh over the first so many devices, over those given, or over all, with the axes "data" and "points".

    `points` is how many shares a search makes of its points; the devices of one share have different queries.

    Raises `ValueError` when more devices are asked for than there are, or they cannot be divided into the shares.
    """
    there = jax.devices()
    if isinstance(devices, int):
        if not 1 <= devices <= len(there):
            raise ValueError(f"devices: got {devices}, this machine has {len(there)} ({there[0].platform})")
        devices = there[:devices]
    chosen = list(there if devices is None else devices)
    if points < 1 or len(chosen) % points:
        raise ValueError(f"points: needs a divisor of the number of devices, {len(chosen)}, got {points}")
    shape = len(chosen) // points, points
    return jax.make_mesh(shape, ("data", POINTS), axis_types=(AxisType.Auto,) * 2, devices=chosen)


def shares(mesh: Mesh | None) -> tuple[int, int]:
    """In how many parts a mesh splits queries, and points."""
    points = 1 if mesh is None else dict(mesh.shape).get(POINTS, 1)
    return (1 if mesh is None else mesh.size // points), points


def over_pairs(fun: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """`fun` of (queries, their numbers, two tables, points) with its rows split over the mesh, and its points likewise.

    Each device has its own part of the queries and of the points; a table's columns are one after the other what the
    shares of the points gave. `fun` must treat its queries independently.
    """
    points = jax.P(POINTS) if POINTS in mesh.axis_names else jax.P()
    queries = tuple(name for name in mesh.axis_names if name != POINTS)
    table = jax.P(queries, *points)
    specs = jax.P(queries), jax.P(queries), table, table, points
    return jax.shard_map(fun, mesh=mesh, in_specs=specs, out_specs=(table, table), check_vma=False)
