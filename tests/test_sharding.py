"""A mesh divides the work and changes no answer."""

import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcgrad import neighbors, sharding
from funcgrad.neighbors.mesh import shares

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("count", "points"), [(1, 1), (2, 1), (2, 2), (4, 2)])
def test_a_mesh_divides_the_first_devices_over_data_and_points(count: int, points: int) -> None:
    mesh = sharding.make_mesh(count, points=points)
    assert dict(mesh.shape) == {"data": count // points, "points": points}
    assert list(mesh.devices.ravel()) == jax.devices()[:count]
    assert shares(mesh) == (count // points, points)


def test_a_mesh_is_over_all_devices_or_over_those_given() -> None:
    assert list(sharding.make_mesh().devices.ravel()) == jax.devices()
    last = jax.devices()[-1:]
    assert list(sharding.make_mesh(last).devices.ravel()) == last


@pytest.mark.parametrize("count", [-1, 0, 5])
def test_devices_that_are_not_there_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=rf"devices: got {count}, this machine has 4 \(cpu\)"):
        sharding.make_mesh(count)


@pytest.mark.parametrize("points", [0, 2])
def test_shares_that_do_not_divide_the_devices_are_refused(points: int) -> None:
    with pytest.raises(ValueError, match=f"points: needs a divisor of the number of devices, 3, got {points}"):
        sharding.make_mesh(3, points=points)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("localhost:1234", 2, None), "give all three or none, got ('localhost:1234', 2, None)"),
        (("localhost:1234", 2, 2), "process_id: needs 0 to num_processes - 1, got 2 of 2"),
        (("localhost:1234", 2, -1), "process_id: needs 0 to num_processes - 1, got -1 of 2"),
    ],
)
def test_a_run_is_joined_with_all_of_its_numbers(given: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        sharding.start(*given)


def test_a_run_is_joined_before_jax_is_used() -> None:
    jax.devices()
    with pytest.raises(RuntimeError, match="start: JAX is already in use in this process; call it before any other"):
        sharding.start("localhost:1234", 1, 0)


@pytest.mark.exhaustive
def test_without_a_cluster_the_numbers_are_asked_for() -> None:
    clusters = ("SLURM", "OMPI", "TPU", "KUBERNETES", "CLOUD", "PMI")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(clusters)}
    code = "from funcgrad import sharding; sharding.start()"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**environment, "JAX_PLATFORMS": "cpu"}, capture_output=True, text=True
    )
    assert done.returncode
    assert done.stderr.splitlines()[-1].startswith(
        "ValueError: coordinator_address, num_processes, process_id: JAX finds no cluster here, so give all three"
    )


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(
    ("devices", "shares", "metric"),
    [(2, 2, "l2"), (3, 3, "l2"), *((4, 2, metric) for metric in ("l1", "l2", "dot"))],
)
def test_shares_of_the_points_find_the_same(devices: int, shares: int, metric: str, dtype: type) -> None:
    data = RNG.integers(1, 9, (101, 5)).astype(dtype)
    mask = RNG.uniform(size=101) < 0.7
    mesh = sharding.make_mesh(devices, points=shares)
    options = {"metric": metric, "mask": mask, "exclude_self": True}
    alone = neighbors.kneighbors(data, data, 9, **options)
    for points in (data, neighbors.prepare(data, metric, mesh=mesh)):
        shared = neighbors.kneighbors(data, points, 9, mesh=mesh, memory="20KiB", **options)
        np.testing.assert_array_equal(shared.indices, alone.indices)
        np.testing.assert_array_equal(shared.distances, alone.distances)


def test_an_index_is_split_where_its_points_can_be() -> None:
    mesh = sharding.make_mesh(2, points=2)
    for count, rows in ((30, 15), (31, 31)):
        index = neighbors.prepare(RNG.normal(size=(count, 3)).astype(np.float32), mesh=mesh)
        assert index.points.addressable_shards[0].data.shape == (rows, 3)


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("metric", ["l1", "l2", "cosine"])
@pytest.mark.parametrize("queries", [6, 7])
def test_two_devices_find_the_neighbors_that_one_finds(queries: int, metric: str, dtype: type) -> None:
    data = RNG.integers(1, 9, (queries + 40, 5)).astype(dtype)  # few values, so that many distances tie
    asked, points = jnp.asarray(data[:queries]), data[queries:]
    mask = RNG.uniform(size=40) < 0.7
    alone = neighbors.kneighbors(asked, points, 5, metric=metric, mask=mask)
    shared = neighbors.kneighbors(asked, points, 5, metric=metric, mask=mask, mesh=sharding.make_mesh(2))
    np.testing.assert_array_equal(shared.indices, alone.indices)
    np.testing.assert_array_equal(shared.distances, alone.distances)


@pytest.mark.exhaustive
def test_an_index_placed_on_two_devices_finds_the_same() -> None:
    mesh = sharding.make_mesh(2)
    queries, points = RNG.normal(size=(5, 3)).astype(np.float32), RNG.normal(size=(30, 3)).astype(np.float32)
    index = neighbors.prepare(points, "l1", mesh=mesh)
    assert len(index.points.sharding.device_set) == 2
    alone = neighbors.kneighbors(queries, points, 4, metric="l1")
    np.testing.assert_array_equal(neighbors.kneighbors(queries, index, 4, mesh=mesh).indices, alone.indices)
