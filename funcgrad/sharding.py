"""Devices: a mesh, running a function of independent rows on all of it, and several processes that share the work.

Numeric code knows nothing of these.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import AxisType, Mesh, NamedSharding

DATA = "data"
HIDDEN = "hidden"  # the axis of a mesh over which a training splits its parameters
POINTS = "points"  # the axis of a mesh over which a search splits its points; over all others it splits its queries


def start(
    coordinator_address: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Joins this process to a run of several, before anything else of JAX; `jax.devices()` are then those of all.

    SLURM: `srun python script.py` with one task for each node (CPU) or each GPU, and `start()` with no argument: JAX
    reads the job's own variables. The first node of the job coordinates.
    TPU pod: the same script on every host at once (`gcloud compute tpus tpu-vm ssh NAME --worker=all --command=…`),
    and `start()` with no argument: JAX asks the pod.
    By hand: all three arguments in every process. On CPU the processes talk through gloo, which is JAX's default.

    Args:
      coordinator_address: "host:port" of process 0, which listens there.
      num_processes: how many there are.
      process_id: which of them this is, from 0.

    Raises:
      ValueError: some arguments without the others, or a process_id that is not below num_processes; none, where JAX
        finds no cluster.
      RuntimeError: JAX is already in use, or this process has joined before.
    """
    given = coordinator_address, num_processes, process_id
    if given != (None, None, None):
        if None in given:
            raise ValueError(f"coordinator_address, num_processes, process_id: give all three or none, got {given}")
        if not 0 <= process_id < num_processes:  # type: ignore[operator]
            raise ValueError(f"process_id: needs 0 to num_processes - 1, got {process_id} of {num_processes}")
    if jax.distributed.is_initialized():
        raise RuntimeError("start: this process has already joined a run; call it once")
    try:
        jax.distributed.initialize(*given)
    except ValueError as error:
        missing = "coordinator_address, num_processes, process_id: JAX finds no cluster here, so give all three"
        raise ValueError(f"{missing} ({error})") from None
    except RuntimeError as error:
        if "before" not in str(error):
            raise
        raise RuntimeError("start: JAX is already in use in this process; call it before any other JAX call") from None


def make_mesh(devices: int | Sequence[jax.Device] | None = None, *, points: int = 1, hidden: int = 1) -> Mesh:
    """A mesh over the first so many devices, over those given, or over all, with the axes "data" and "points".

    `points` is how many shares a search makes of its points; the devices of one share have different queries. All
    means those of every process, after `start`. `hidden` is how many shares a training makes of its parameters; above
    1 the axes are "data" and "hidden".

    Raises `ValueError` when more devices are asked for than there are, or they cannot be divided into the shares.
    """
    there = jax.devices()
    if isinstance(devices, int):
        if not 1 <= devices <= len(there):
            raise ValueError(f"devices: got {devices}, this machine has {len(there)} ({there[0].platform})")
        devices = there[:devices]
    chosen = list(there if devices is None else devices)
    for name, shares in ((POINTS, points), (HIDDEN, hidden)):
        if shares < 1 or len(chosen) % shares:
            raise ValueError(f"{name}: needs a divisor of the number of devices, {len(chosen)}, got {shares}")
    if points > 1 and hidden > 1:
        raise ValueError(f"hidden: a mesh splits points or parameters, got points={points} and hidden={hidden}")
    name, shares = (POINTS, points) if hidden == 1 else (HIDDEN, hidden)
    shape = len(chosen) // shares, shares
    return jax.make_mesh(shape, (DATA, name), axis_types=(AxisType.Auto,) * 2, devices=chosen)


def shares(mesh: Mesh | None) -> tuple[int, int]:
    """In how many parts a mesh splits queries, and points."""
    points = 1 if mesh is None else dict(mesh.shape).get(POINTS, 1)
    return (1 if mesh is None else mesh.size // points), points


class Part(NamedTuple):
    """What one process of several does of a search."""

    mesh: Mesh  # its own devices
    queries: tuple[int, int]  # which of how many parts of the queries
    points: tuple[int, int]


def part_of_process(mesh: Mesh | None) -> Part | None:
    """This process's part where a mesh has devices of several; None where all are its own.

    The points are split between as many processes as can be, the queries between the others; a process splits its part
    further between its devices. Raises `ValueError` when the mesh has not as many devices of each process.
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
    between = math.gcd(processes, points)
    own = [device for device in mesh.devices.flat if device.process_index == process]
    local = Mesh(np.array(own).reshape(-1, points // between), ("data", POINTS), axis_types=(AxisType.Auto,) * 2)
    which_queries, which_points = divmod(process, between)
    return Part(local, (which_queries, processes // between), (which_points, between))


def over_pairs(fun: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """`fun` of (a table, queries, their numbers, two tables, points), which gives three tables, split over the mesh.

    Each device has its own part of the queries and of the points; a table's columns are one after the other what the
    shares of the points gave. `fun` must treat its queries independently.
    """
    points = jax.P(POINTS) if POINTS in mesh.axis_names else jax.P()
    queries = tuple(name for name in mesh.axis_names if name != POINTS)
    table = jax.P(queries, *points)
    specs = table, jax.P(queries), jax.P(queries), table, table, points
    return jax.shard_map(fun, mesh=mesh, in_specs=specs, out_specs=(table,) * 3, check_vma=False)


# A training: its batches are split over the axis "data", its parameters over "hidden" where a mesh has it.


def replicate(mesh: Mesh | None, tree: Any) -> Any:
    """Every array on every device of the mesh; on the usual device without one."""
    if mesh is None:
        return jax.tree.map(jnp.asarray, tree)
    return jax.tree.map(lambda x: _placed(x, mesh, jax.P()), tree)


def place_state(mesh: Mesh | None, state: Any) -> Any:
    """Parameters and the optimizer's numbers, split along their first axis where a mesh has "hidden" and that divides.

    The first axis of a layer's biases, and of its weights while they are trained, is its units.
    """
    if mesh is None:
        return state
    parts = dict(mesh.shape).get(HIDDEN, 1)

    def spec(x: Any) -> jax.P:
        return jax.P(HIDDEN) if parts > 1 and x.ndim > 0 and x.shape[0] % parts == 0 else jax.P()

    return jax.tree.map(lambda x: _placed(x, mesh, spec(x)), state)


def split_batches(mesh: Mesh | None, order: Any) -> Any:
    """The order (S, B) of an epoch, each batch split over the devices of the axis "data"."""
    if mesh is None:
        return jnp.asarray(order)
    return _placed(order, mesh, jax.P(None, DATA))


def batch_size_for(mesh: Mesh | None, batch_size: int, examples: int) -> int:
    """The batch size, raised where all examples are one batch so that every device has as many.

    Raises `ValueError` for another one that the devices cannot share.
    """
    parts = 1 if mesh is None else dict(mesh.shape).get(DATA, 1)
    if batch_size % parts and batch_size < examples:
        raise ValueError(f"batch_size: needs a multiple of the {parts} devices that share it, got {batch_size}")
    return batch_size + -batch_size % parts


def gathered(tree: Any) -> Any:
    """The tree, with every array of several processes whole on the host of each."""

    def whole(x: Any) -> Any:
        if not isinstance(x, jax.Array) or x.is_fully_addressable:
            return x
        if x.is_fully_replicated:
            return np.asarray(x)
        assert isinstance(x.sharding, NamedSharding)  # by `place_state`
        everywhere = NamedSharding(x.sharding.mesh, jax.P())
        everywhere = NamedSharding(x.sharding.mesh, jax.P())
        return np.asarray(jax.jit(lambda x: x, out_shardings=everywhere)(x))

    return jax.tree.map(whole, tree)


def placed_like(tree: Any, like: Any) -> Any:
    """Each array where its counterpart lies: a compiled program leaves what it gives back split as suited it."""

    def moved(x: jax.Array, to: Any) -> jax.Array:  # one after the other: on CPU, two at a time may wait for each other
        return x if x.sharding == to.sharding else jax.block_until_ready(jax.device_put(x, to.sharding))

    return jax.tree.map(moved, tree, like)


def least(mesh: Mesh | None, *numbers: int) -> list[int]:
    """The least of each number over the processes of a mesh, which call this together, so that all do alike."""
    if mesh is None or not _is_spread(mesh):
        return list(numbers)
    return np.asarray(process_allgather(np.array(numbers, np.int32))).min(axis=0).tolist()


def _is_spread(mesh: Mesh) -> bool:
    return any(device.process_index != jax.process_index() for device in mesh.devices.flat)


def _placed(x: Any, mesh: Mesh, spec: jax.P) -> jax.Array:
    """The array on a mesh. Of several processes each places its own part of it, and waits for no other.

    `device_put` would compare what the processes have, and those that stream do this in a thread, at any time.
    """
    where = NamedSharding(mesh, spec)
    if not _is_spread(mesh):
        return jax.device_put(x, where)
    whole = np.asarray(jnp.asarray(x))  # of JAX's dtypes
    return jax.make_array_from_callback(whole.shape, where, lambda index: whole[index])
