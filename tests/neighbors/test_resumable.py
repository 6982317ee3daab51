"""A search in chunks gives what one search gives, whatever was saved of it before."""

from pathlib import Path

import numpy as np
import pytest

from funcgrad.files import DifferentRun
from funcgrad.neighbors import Tuning, describe_saved, kneighbors, remove_saved, resumable_kneighbors
from funcgrad.neighbors.resumable import queries_in_chunk

pytestmark = pytest.mark.optimized

RANDOM = np.random.default_rng(0)
QUERIES, POINTS = (RANDOM.normal(size=(count, 16)).astype(np.float32) for count in (1100, 300))


@pytest.mark.exhaustive
@pytest.mark.parametrize("chunk", [1, 3, 10, 17])
def test_chunks_change_no_bit(chunk: int) -> None:
    pixels, points = (np.clip(100 + 40 * x, 0, 255).astype(np.uint8) for x in (QUERIES[:17], POINTS))
    whole = kneighbors(pixels, points, 4, metric="l1")
    parts = resumable_kneighbors(pixels, points, 4, metric="l1", chunk=chunk)
    np.testing.assert_array_equal(parts.distances, whole.distances)
    np.testing.assert_array_equal(parts.indices, whole.indices)


@pytest.mark.parametrize("metric", ["l2", pytest.param("cosine", marks=pytest.mark.exhaustive)])
def test_a_resumed_search_has_the_same_bits_as_one_that_never_stopped(metric: str, tmp_path: Path) -> None:
    options = {"metric": metric, "chunk": 256, "folder": tmp_path / "saved"}
    whole = resumable_kneighbors(QUERIES, POINTS, 5, **options)  # type: ignore[arg-type]
    files = sorted((tmp_path / "saved").iterdir())
    assert [file.name for file in files] == [
        f"queries-{start:09}-{stop:09}-of-000001100.npz"
        for start, stop in [(0, 256), (256, 512), (512, 768), (768, 1100)]  # the last takes the rest
    ]
    for missing in ([0], [3], [1, 2], [0, 1, 2, 3], []):
        for number in missing:
            files[number].unlink()
        again = resumable_kneighbors(QUERIES, POINTS, 5, resume=True, **options)  # type: ignore[arg-type]
        assert again.distances.tobytes() == whole.distances.tobytes()
        assert again.indices.tobytes() == whole.indices.tobytes()
        assert again.info == whole.info


def test_a_damaged_chunk_is_searched_again(tmp_path: Path) -> None:
    whole = resumable_kneighbors(QUERIES, POINTS, 2, chunk=500, folder=tmp_path)
    first, second = sorted(tmp_path.iterdir())
    content = bytearray(first.read_bytes())
    content[len(content) // 3] ^= 1
    first.write_bytes(content)
    second.write_bytes(second.read_bytes()[:-100])
    again = resumable_kneighbors(QUERIES, POINTS, 2, chunk=500, folder=tmp_path, resume=True)
    np.testing.assert_array_equal(again.indices, whole.indices)
    np.testing.assert_array_equal(again.distances, whole.distances)


@pytest.mark.exhaustive
def test_saved_chunks_say_how_long_they_are(tmp_path: Path) -> None:
    resumable_kneighbors(QUERIES, POINTS, 2, chunk=500, folder=tmp_path)
    saved = sorted(tmp_path.iterdir())
    saved[0].unlink()
    resumable_kneighbors(QUERIES, POINTS, 2, folder=tmp_path, resume=True)
    assert sorted(tmp_path.iterdir()) == saved


def test_progress_begins_with_what_is_saved_and_ends_with_all(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    options = {"chunk": 300, "folder": tmp_path, "progress": lambda done, total: calls.append((done, total))}
    resumable_kneighbors(QUERIES, POINTS, 2, **options)  # type: ignore[arg-type]
    assert calls[0] == (0, 1100)
    assert calls[-1] == (1100, 1100)
    assert calls == sorted(calls)
    sorted(tmp_path.iterdir())[1].unlink()
    calls.clear()
    resumable_kneighbors(QUERIES, POINTS, 2, resume=True, **options)  # type: ignore[arg-type]
    assert calls[0] == (800, 1100)
    assert calls[-1] == (1100, 1100)


def test_a_folder_is_emptied_unless_its_search_is_resumed(tmp_path: Path) -> None:
    resumable_kneighbors(QUERIES, POINTS, 2, chunk=300, folder=tmp_path, data={"data": "a"})
    assert describe_saved(tmp_path).startswith("1,100 of 1,100 queries are saved in ")
    with pytest.raises(DifferentRun, match="with data a and not b; without --resume"):
        resumable_kneighbors(QUERIES, POINTS, 2, folder=tmp_path, resume=True, data={"data": "b"})
    resumable_kneighbors(QUERIES, POINTS, 2, chunk=1100, folder=tmp_path, data={"data": "b"})
    assert len(list(tmp_path.iterdir())) == 1
    remove_saved(tmp_path)
    assert not tmp_path.exists()
    assert describe_saved(tmp_path) == ""


def test_chunks_are_whole_units_of_some_seconds() -> None:
    tuning = Tuning()
    assert queries_in_chunk(1_000_000, 2048, tuning) == 1024
    assert queries_in_chunk(50_000, 3072, tuning) == 1024
    assert queries_in_chunk(60_000, 784, tuning) % 1024 == 0
    assert queries_in_chunk(1, 1, tuning) > 10**9
    longer = queries_in_chunk(60_000, 784, tuning._replace(chunk_seconds=50))
    assert longer > 9 * queries_in_chunk(60_000, 784, tuning)
