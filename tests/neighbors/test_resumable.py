"""A search in chunks gives what one search gives, whatever was saved of it before."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcgrad.files import DifferentRun
from funcgrad.neighbors import (
    Index,
    Neighbors,
    Tuning,
    describe_saved,
    kneighbors,
    open_saved,
    prepare,
    remove_saved,
    resumable_kneighbors,
)
from funcgrad.neighbors.search import queries_in_chunk

pytestmark = pytest.mark.optimized

RANDOM = np.random.default_rng(0)
QUERIES, POINTS = (RANDOM.normal(size=(count, 16)).astype(np.float32) for count in (1100, 300))


def search(
    k: int,
    folder: Path | None,
    *,
    metric: str = "l2",
    data: str = "a",
    chunk: int | None = None,
    resume: bool = False,
    **options: Any,
) -> Neighbors:
    """The neighbours of `QUERIES` among `POINTS`."""
    saved = open_saved(folder, resume, {"data": data, "largest k": k}, len(QUERIES), chunk)
    return resumable_kneighbors(QUERIES, prepare(POINTS, metric), k, saved, **options)


@pytest.mark.exhaustive
@pytest.mark.parametrize("chunk", [1, 3, 10, 17])
def test_chunks_change_no_bit(chunk: int) -> None:
    pixels, points = (np.clip(100 + 40 * x, 0, 255).astype(np.uint8) for x in (QUERIES[:17], POINTS))
    whole = kneighbors(pixels, points, 4, metric="l1")
    saved = open_saved(None, False, {}, len(pixels), chunk)
    parts = resumable_kneighbors(pixels, prepare(points, "l1"), 4, saved)
    np.testing.assert_array_equal(parts.distances, whole.distances)
    np.testing.assert_array_equal(parts.indices, whole.indices)


@pytest.mark.parametrize("metric", ["l2", pytest.param("cosine", marks=pytest.mark.exhaustive)])
def test_a_resumed_search_has_the_same_bits_as_one_that_never_stopped(metric: str, tmp_path: Path) -> None:
    whole = search(5, tmp_path / "saved", metric=metric, chunk=256)
    files = sorted((tmp_path / "saved").iterdir())
    assert [file.name for file in files] == [
        f"queries-{start:09}-{stop:09}-of-000001100.npz"
        for start, stop in [(0, 256), (256, 512), (512, 768), (768, 1100)]  # the last takes the rest
    ]
    for missing in ([0], [3], [1, 2], [0, 1, 2, 3], []):
        for number in missing:
            files[number].unlink()
        again = search(5, tmp_path / "saved", metric=metric, chunk=256, resume=True)
        assert again.distances.tobytes() == whole.distances.tobytes()
        assert again.indices.tobytes() == whole.indices.tobytes()
        assert again.info == whole.info


def test_a_damaged_chunk_is_searched_again(tmp_path: Path) -> None:
    whole = search(2, tmp_path, chunk=500)
    first, second = sorted(tmp_path.iterdir())
    content = bytearray(first.read_bytes())
    content[len(content) // 3] ^= 1
    first.write_bytes(content)
    second.write_bytes(second.read_bytes()[:-100])
    again = search(2, tmp_path, chunk=500, resume=True)
    np.testing.assert_array_equal(again.indices, whole.indices)
    np.testing.assert_array_equal(again.distances, whole.distances)


@pytest.mark.exhaustive
def test_saved_chunks_say_how_long_they_are(tmp_path: Path) -> None:
    search(2, tmp_path, chunk=500)
    saved = sorted(tmp_path.iterdir())
    saved[0].unlink()
    search(2, tmp_path, resume=True)
    assert sorted(tmp_path.iterdir()) == saved


def test_progress_continues_from_what_is_saved_and_ends_with_all(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    progress = lambda done, total: calls.append((done, total))  # noqa: E731
    search(2, tmp_path, chunk=300, progress=progress)
    assert calls == [(300, 1100), (600, 1100), (1100, 1100)]
    sorted(tmp_path.iterdir())[1].unlink()
    calls.clear()
    search(2, tmp_path, chunk=300, resume=True, progress=progress)
    assert calls == [(1100, 1100)]


def test_a_folder_is_emptied_unless_its_search_is_resumed(tmp_path: Path) -> None:
    search(2, tmp_path, chunk=300)
    assert describe_saved(tmp_path).startswith("1,100 of 1,100 queries are saved in ")
    with pytest.raises(DifferentRun, match="with data a and not b; without --resume"):
        search(2, tmp_path, resume=True, data="b")
    search(2, tmp_path, chunk=1100, data="b")
    assert len(list(tmp_path.iterdir())) == 1
    remove_saved(tmp_path)
    assert not tmp_path.exists()
    assert describe_saved(tmp_path) == ""


def test_chunks_take_some_seconds_whatever_the_metric() -> None:
    def chunk(count: int, dimensions: int, metric: str, dtype: type, seconds: float = 5) -> int:
        points = np.broadcast_to(np.zeros((), dtype), (count, dimensions))
        index = Index(points, metric, 3 if metric == "minkowski" else None)
        return queries_in_chunk(index, Tuning(chunk_seconds=seconds))

    assert chunk(50_000, 3072, "l2", np.float32) == 1024
    assert chunk(50_000, 3072, "l1", np.uint8) == 1024
    assert chunk(50_000, 3072, "l1", np.float32) == 512
    assert chunk(50_000, 3072, "minkowski", np.float32) == 16
    assert chunk(1_000_000, 2048, "l2", np.float32) == 64
    assert chunk(60_000, 784, "l2", np.uint8) % 1024 == 0
    assert chunk(1, 1, "l2", np.uint8) > 10**9
    assert chunk(60_000, 784, "l2", np.uint8, seconds=50) > 9 * chunk(60_000, 784, "l2", np.uint8)
