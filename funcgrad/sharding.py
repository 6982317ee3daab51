"""Devices: a mesh of them, and several processes that share the work.

Numeric code knows nothing of these.
"""

from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import AxisType, Mesh

DATA = "data"  # the axis of a mesh over which a training splits its batches
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
    try:
        jax.distributed.initialize(*given)
    except ValueError as error:
        missing = "coordinator_address, num_processes, process_id: JAX finds no cluster here, so give all three"
        raise ValueError(f"{missing} ({error})") from None
    except RuntimeError as error:
        if "before" not in str(error):
            raise
        raise RuntimeError("start: JAX is already in use in this process; call it before any other JAX call") from None


def make_mesh(devices: int | Sequence[jax.Device] | None = None, *, points: int = 1) -> Mesh:
    """A mesh over the first `devices` devices, over those given, or over all, with the axes "data" and "points".

    `points` is the number of shares of a search's points; the devices of one share have different queries. All devices
    means those of every process, after `start`.

    Raises `ValueError` for more devices than there are, or if they cannot be divided into the shares.
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
    return jax.make_mesh(shape, (DATA, POINTS), axis_types=(AxisType.Auto,) * 2, devices=chosen)


def min_across_processes(mesh: Mesh | None, *numbers: int) -> list[int]:
    """The minimum of each number over the processes of a mesh, which all call this together."""
    if mesh is None or not spans_processes(mesh):
        return list(numbers)
    return np.asarray(process_allgather(np.array(numbers, np.int32))).min(axis=0).tolist()


def spans_processes(mesh: Mesh) -> bool:
    """Whether a mesh has devices of other processes."""
    return any(device.process_index != jax.process_index() for device in mesh.devices.flat)
