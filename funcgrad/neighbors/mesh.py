"""How a search is divided: over the devices of a mesh, and between the processes that own them."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from funcgrad.sharding import DATA, POINTS


def shares(mesh: Mesh | None) -> tuple[int, int]:
    """Into how many parts a mesh splits the queries, and the points."""
    points = 1 if mesh is None else dict(mesh.shape).get(POINTS, 1)
    return (1 if mesh is None else mesh.size // points), points


class Part(NamedTuple):
    """One process's part of a search."""

    mesh: Mesh  # its own devices
    queries: tuple[int, int]  # which of how many parts of the queries
    points: tuple[int, int]


def part_of_process(mesh: Mesh | None) -> Part | None:
    """This process's part where a mesh has devices of several; None where all are its own.

    The points are split between as many processes as possible, the queries between the others; a process splits its
    part further between its devices. Raises `ValueError` if the processes do not have equally many devices in the mesh.
    """
    if mesh is None:
        return None
    process, processes = jax.process_index(), jax.process_count()
    counts = Counter(device.process_index for device in mesh.devices.flat)
    if set(counts) == {process}:
        return None
    if len(counts) != processes or len(set(counts.values())) != 1:
        found = ", ".join(f"{count} of process {number}" for number, count in sorted(counts.items()))
        raise ValueError(f"mesh: needs equally many devices of each of the {processes} processes, got {found}")
    _, points = shares(mesh)
    point_parts = math.gcd(processes, points)
    own = [device for device in mesh.devices.flat if device.process_index == process]
    local = np.array(own).reshape(-1, points // point_parts)
    query_part, point_part = divmod(process, point_parts)
    return Part(
        Mesh(local, (DATA, POINTS), axis_types=(AxisType.Auto,) * 2),
        (query_part, processes // point_parts),
        (point_part, point_parts),
    )


def place_points(points: Any, mesh: Mesh) -> Any:
    """The points on a mesh: each device has its share if they can be divided, else all of them."""
    _, parts = shares(mesh)
    split = parts > 1 and len(points) % parts == 0
    return jax.device_put(points, jax.NamedSharding(mesh, jax.P(POINTS) if split else jax.P()))


def over_mesh(step: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """`search_step` with its queries and points split over a mesh.

    The columns of a table are those of each share of the points, in the order of the shares.
    """
    points = jax.P(POINTS) if POINTS in mesh.axis_names else jax.P()
    queries = tuple(name for name in mesh.axis_names if name != POINTS)
    table = jax.P(queries, *points)
    specs = table, jax.P(queries), jax.P(queries), table, table, points
    return jax.shard_map(step, mesh=mesh, in_specs=specs, out_specs=(table,) * 3, check_vma=False)
