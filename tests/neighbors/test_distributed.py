"""Several processes find what one finds, bit for bit. Run as a program, this file is one of two processes of a run.

Each check is a function without arguments that both processes call in the same order, with the whole data in each. What
one process finds alone (no mesh) is what they are held to.
"""

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from two_processes import checked_in_both, run_checks

from funcgrad import neighbors, sharding
from funcgrad.neighbors import Neighbors, kneighbors
from funcgrad.neighbors.mesh import part_of_process

COUNT, DIMENSIONS = 101, 5  # an odd number of points, so that the shares differ
DATA = np.random.default_rng(0).integers(1, 9, (COUNT, DIMENSIONS)).astype(np.uint8)  # few values: many ties
MASK = np.random.default_rng(1).uniform(size=COUNT) < 0.7
FLOATS = np.random.default_rng(2).normal(size=(COUNT, DIMENSIONS)).astype(np.float32)


def assert_same(found: Neighbors, alone: Neighbors) -> None:
    for name in ("indices", "distances"):
        ours, expected = getattr(found, name), getattr(alone, name)
        assert ours.dtype == expected.dtype, (ours.dtype, expected.dtype)
        np.testing.assert_array_equal(ours, expected, err_msg=name)
        assert ours.tobytes() == expected.tobytes()


def same(*arguments: Any, points: int = 2, **options: Any) -> None:
    assert_same(
        kneighbors(*arguments, mesh=sharding.make_mesh(points=points), **options), kneighbors(*arguments, **options)
    )


def leave_one_out(dtype: type, metric: str, points: int) -> None:
    data = DATA.astype(dtype)
    same(data, data, 9, metric=metric, mask=MASK, exclude_self=True, points=points)


def a_mask_leaves_few_in_a_share() -> None:
    for kept, self_excluded in (((51, 52, 53), False), ((49, 50, 51, 52), True), ((7, 8, 9, 50), True)):
        k = len(kept) - self_excluded  # 0 and 3, 2 and 2, 4 and 0 of the shares
        same(DATA, DATA, k, metric="l1", mask=np.isin(np.arange(COUNT), kept), exclude_self=self_excluded)
    same(FLOATS, FLOATS, COUNT - 1, exclude_self=True)


def fewer_queries_or_points_than_processes() -> None:
    same(FLOATS[:1], FLOATS, 3, points=1)
    same(FLOATS[:3], FLOATS[:1], 1, points=4)
    same(DATA[:1], DATA[:1], 1, metric="l1")


def distances_that_round_to_equal_ones_keep_their_order() -> None:
    rng = np.random.default_rng(3)
    tiny = rng.permutation(COUNT).astype(np.float32) * np.float32(1e-6)
    points = np.stack([np.ones_like(tiny), tiny], axis=1)  # at √(1 + tiny²), which float32 rounds to 1
    alone = kneighbors(np.zeros((2, 2), np.float32), points, COUNT)
    assert (alone.distances == 1).all()
    assert (alone.indices[0] == np.argsort(tiny)).all()
    same(np.zeros((2, 2), np.float32), points, COUNT)
    points = np.array([[0, 30], [0, 29]] * 40, np.uint8).repeat(2000, axis=1)
    points[:, -1] = rng.permutation(80)  # squares near 2²¹ that differ by less than their roots' rounding
    same(points[:3] // 200, points, 80, metric="l2")


def float64_is_never_rounded() -> None:
    wide = FLOATS.astype(np.float64) + 1e6
    same(wide[:20], wide, 5)
    same(wide[:20], wide, 5, metric="cosine", points=1)


def any_function_is_searched() -> None:
    def squared_l1(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.square(jnp.sum(jnp.abs(a - b)))

    same(FLOATS, FLOATS, 6, metric=squared_l1, exclude_self=True)


def a_fast_search_finds_nearly_the_same() -> None:
    mesh = sharding.make_mesh(points=2)
    found, alone = (kneighbors(FLOATS, FLOATS[::2], 5, precision="fast", mesh=x) for x in (mesh, None))
    np.testing.assert_array_equal(found.indices, alone.indices)
    np.testing.assert_allclose(found.distances, alone.distances, rtol=1e-3, atol=1e-3)


def an_index_is_searched_by_all() -> None:
    mesh = sharding.make_mesh(points=2)
    for points in (FLOATS + 100, np.concatenate([FLOATS, 9 + FLOATS])):
        index = neighbors.prepare(points, mesh=mesh)
        assert_same(kneighbors(FLOATS, index, 5, mesh=mesh), kneighbors(FLOATS, points, 5))


def radius_and_labels_work_alike() -> None:
    mesh, labels = sharding.make_mesh(points=2), np.arange(COUNT) % 3
    options: dict[str, Any] = {"max_neighbors": 9, "metric": "l1", "mask": MASK}
    found, alone = (neighbors.radius_neighbors(DATA, DATA, 4, **options, mesh=x) for x in (mesh, None))
    assert_same(found, alone)
    assert (alone.indices < 0).any()
    index = neighbors.prepare(DATA, "l1", mesh=mesh)
    votes = (neighbors.classify(DATA, index, labels, 9, mesh=x) for x in (mesh, None))
    np.testing.assert_array_equal(*votes)


class Watched:
    """Points that note which rows were read; of a file too large to read them all."""

    def __init__(self, points: np.ndarray) -> None:
        self.points, self.read = points, set[int]()
        self.shape, self.dtype, self.ndim = points.shape, points.dtype, points.ndim

    def __len__(self) -> int:
        return len(self.points)

    def reshape(self, *_: int) -> "Watched":
        return self

    def __getitem__(self, rows: Any) -> np.ndarray:
        self.read |= set(np.arange(len(self.points))[rows].tolist())
        return self.points[rows]


def a_process_reads_its_share_of_the_points_alone() -> None:
    points = Watched(FLOATS)
    found = kneighbors(FLOATS, points, 5, mesh=sharding.make_mesh(points=2))
    assert points.read == set(range(51) if jax.process_index() == 0 else range(51, COUNT))
    assert_same(found, kneighbors(FLOATS, FLOATS, 5))


def a_mapped_file_is_streamed_within_the_memory() -> None:
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/points.npy", FLOATS)
        points = np.load(f"{folder}/points.npy", mmap_mode="r")
        for shares in (1, 4):
            mesh, done = sharding.make_mesh(points=shares), []
            found = kneighbors(
                FLOATS, points, 5, mesh=mesh, memory="20KiB", progress=lambda *x, done=done: done.append(x)
            )
            assert_same(found, kneighbors(FLOATS, FLOATS, 5))
            own = COUNT if shares == 4 else (51, 50)[jax.process_index()]
            assert len(done) > 1
            assert done[-1] == (own, own)


def what_was_searched_again_is_added_up() -> None:
    points = np.random.default_rng(4).normal(size=(COUNT, 1)).astype(np.float32).repeat(40, axis=0)
    queries = points[::40]  # each has forty neighbours at distance 0, more than a filter keeps
    mesh = sharding.make_mesh(points=1)
    found, alone = (kneighbors(queries, points, 5, mesh=x) for x in (mesh, None))
    assert alone.info.searched_again > COUNT // 2
    assert found.info[5:] == alone.info[5:]
    assert_same(found, alone)


def all_raise_what_goes_wrong_in_one() -> None:
    mesh, bad = sharding.make_mesh(points=2), FLOATS.copy()
    bad[60] = np.nan
    with pytest.raises(ValueError, match=r"points: NaN or infinity in 1 of 50 rows: 9 \(process 1 .* points from 51\)"):
        kneighbors(FLOATS, bad, 5, mesh=mesh)
    with pytest.raises(ValueError, match=r"queries: NaN or infinity in 1 of 50 rows: 9 \(process 1 .* queries from 51"):
        kneighbors(bad, FLOATS, 5, mesh=sharding.make_mesh())
    with pytest.raises(RuntimeError, match="the disk is gone"):
        kneighbors(FLOATS, FLOATS, 5, mesh=mesh, progress=_fail_in_process_1)
    with pytest.raises(ValueError, match=r"every process must pass the same, got queries .* in process 0; .*"):
        kneighbors(FLOATS[: 50 + jax.process_index()], FLOATS, 5, mesh=mesh)


def _fail_in_process_1(*_: int) -> None:
    if jax.process_index() == 1:
        raise OSError("the disk is gone")


def meshes_and_arrays_that_cannot_be_shared_are_refused() -> None:
    uneven = sharding.make_mesh(3)
    with pytest.raises(ValueError, match="mesh: needs equally many devices of each of the 2 processes, got 2 of proc"):
        kneighbors(FLOATS, FLOATS, 5, mesh=uneven)
    mesh = sharding.make_mesh()
    spread = jax.make_array_from_callback((4, 2), jax.NamedSharding(mesh, jax.P("data")), lambda _: np.ones((1, 2)))
    for arguments in ((spread, np.ones((4, 2))), (np.ones((4, 2)), spread)):
        with pytest.raises(
            ValueError, match=r"(queries|points): got a JAX array that is spread over several processes"
        ):
            kneighbors(*arguments, 1, mesh=mesh)
    local = sharding.make_mesh(jax.local_devices(), points=2)
    assert part_of_process(local) is None
    if jax.process_index() == 0:  # nobody waits for the other
        same_alone = kneighbors(FLOATS, FLOATS, 5, mesh=local)
        assert_same(same_alone, kneighbors(FLOATS, FLOATS, 5))
    else:
        with pytest.raises(ValueError, match=r"got 2 of process 0$"):
            kneighbors(FLOATS, FLOATS, 5, mesh=sharding.make_mesh(2))


CHECKS: dict[str, Callable[[], None]] = {
    f"{dtype.__name__} {metric} over {points} shares of the points": partial(leave_one_out, dtype, metric, points)
    for dtype in (np.uint8, np.float32)
    for metric in ("l1", "l2", "cosine")
    for points in (1, 2)
}
CHECKS |= {
    check.__name__.replace("_", " "): check
    for check in (
        a_mask_leaves_few_in_a_share,
        fewer_queries_or_points_than_processes,
        distances_that_round_to_equal_ones_keep_their_order,
        float64_is_never_rounded,
        any_function_is_searched,
        a_fast_search_finds_nearly_the_same,
        an_index_is_searched_by_all,
        radius_and_labels_work_alike,
        a_process_reads_its_share_of_the_points_alone,
        a_mapped_file_is_streamed_within_the_memory,
        what_was_searched_again_is_added_up,
        all_raise_what_goes_wrong_in_one,
        meshes_and_arrays_that_cannot_be_shared_are_refused,
    )
}


@pytest.mark.exhaustive
def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    passed = dict.fromkeys(CHECKS, "passed")
    assert checked_in_both(__file__, tmp_path) == [passed, passed]


if __name__ == "__main__":
    run_checks({name: lambda _, check=check: check() for name, check in CHECKS.items()}, *sys.argv[1:])
