"""A mesh divides the work and changes no answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcgrad import neighbors, sharding

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("count", [1, 2])
def test_a_mesh_has_one_axis_over_the_first_devices(count: int) -> None:
    mesh = sharding.make_mesh(count)
    assert mesh.axis_names == ("data",)
    assert list(mesh.devices) == jax.devices()[:count]


def test_a_mesh_is_over_all_devices_or_over_those_given() -> None:
    assert list(sharding.make_mesh().devices) == jax.devices()
    last = jax.devices()[-1:]
    assert list(sharding.make_mesh(last).devices) == last


@pytest.mark.parametrize("count", [-1, 0, 3])
def test_devices_that_are_not_there_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=rf"devices: got {count}, this machine has 2 \(cpu\)"):
        sharding.make_mesh(count)


def test_rows_are_split_and_the_rest_is_copied() -> None:
    seen = []

    def fun(rows: jax.Array, matrix: jax.Array) -> jax.Array:
        seen.append((rows.shape, matrix.shape))
        return rows @ matrix

    rows, matrix = RNG.normal(size=(6, 4)).astype(np.float32), RNG.normal(size=(4, 3)).astype(np.float32)
    split = jax.jit(sharding.over_rows(fun, sharding.make_mesh(2), [True, False]))(rows, matrix)
    assert seen == [((3, 4), (4, 3))]
    assert len(split.sharding.device_set) == 2
    np.testing.assert_allclose(split, rows @ matrix, rtol=1e-5)


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


def test_an_index_placed_on_two_devices_finds_the_same() -> None:
    mesh = sharding.make_mesh(2)
    queries, points = RNG.normal(size=(5, 3)).astype(np.float32), RNG.normal(size=(30, 3)).astype(np.float32)
    index = neighbors.prepare(points, "l1", mesh=mesh)
    assert len(index.points.sharding.device_set) == 2
    alone = neighbors.kneighbors(queries, points, 4, metric="l1")
    np.testing.assert_array_equal(neighbors.kneighbors(queries, index, 4, mesh=mesh).indices, alone.indices)
