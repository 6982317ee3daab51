"""A search in stretches gives what one search gives, whatever was kept of it before."""

from pathlib import Path

import numpy as np
import pytest

from funcgrad import neighbors, resume

RANDOM = np.random.default_rng(0)
QUERIES, POINTS = (RANDOM.normal(size=(count, 16)).astype(np.float32) for count in (1100, 300))


@pytest.mark.parametrize("stretch", [1, 3, 10, 17])
def test_stretches_change_no_bit(stretch: int) -> None:
    pixels, points = (np.clip(100 + 40 * x, 0, 255).astype(np.uint8) for x in (QUERIES[:17], POINTS))
    whole = neighbors.kneighbors(pixels, points, 4, metric="l1")
    parts = resume.kneighbors(pixels, points, 4, metric="l1", stretch=stretch)
    np.testing.assert_array_equal(parts.distances, whole.distances)
    np.testing.assert_array_equal(parts.indices, whole.indices)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_what_goes_on_has_the_same_bits_as_what_never_stopped(metric: str, tmp_path: Path) -> None:
    options = {"metric": metric, "stretch": 256, "folder": tmp_path / "kept"}
    whole = resume.kneighbors(QUERIES, POINTS, 5, **options)  # type: ignore[arg-type]
    files = sorted((tmp_path / "kept").iterdir())
    assert [file.name for file in files] == [
        f"queries-{start:09}-{stop:09}-of-000001100.npz"
        for start, stop in [(0, 256), (256, 512), (512, 768), (768, 1100)]  # the last takes the rest
    ]
    for missing in ([0], [3], [1, 2], [0, 1, 2, 3], []):
        for number in missing:
            files[number].unlink()
        again = resume.kneighbors(QUERIES, POINTS, 5, resume=True, **options)  # type: ignore[arg-type]
        assert again.distances.tobytes() == whole.distances.tobytes()
        assert again.indices.tobytes() == whole.indices.tobytes()
        assert again.info == whole.info


def test_the_kept_stretches_say_how_long_they_are(tmp_path: Path) -> None:
    resume.kneighbors(QUERIES, POINTS, 2, stretch=500, folder=tmp_path)
    kept = sorted(tmp_path.iterdir())
    kept[0].unlink()
    resume.kneighbors(QUERIES, POINTS, 2, folder=tmp_path, resume=True)
    assert sorted(tmp_path.iterdir()) == kept


def test_progress_begins_with_what_is_kept_and_ends_with_all(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    options = {"stretch": 300, "folder": tmp_path, "progress": lambda done, total: calls.append((done, total))}
    resume.kneighbors(QUERIES, POINTS, 2, **options)  # type: ignore[arg-type]
    assert calls[0] == (0, 1100)
    assert calls[-1] == (1100, 1100)
    assert calls == sorted(calls)
    sorted(tmp_path.iterdir())[1].unlink()
    calls.clear()
    resume.kneighbors(QUERIES, POINTS, 2, resume=True, **options)  # type: ignore[arg-type]
    assert calls[0] == (800, 1100)
    assert calls[-1] == (1100, 1100)


def test_a_folder_is_emptied_of_what_was_kept_unless_it_goes_on(tmp_path: Path) -> None:
    resume.kneighbors(QUERIES, POINTS, 2, stretch=300, folder=tmp_path, data={"data": "a"})
    assert resume.what_is_kept(tmp_path).startswith("1,100 of 1,100 queries are kept in ")
    with pytest.raises(resume.Differs, match="with data a and not b; without --resume"):
        resume.kneighbors(QUERIES, POINTS, 2, folder=tmp_path, resume=True, data={"data": "b"})
    resume.kneighbors(QUERIES, POINTS, 2, stretch=1100, folder=tmp_path, data={"data": "b"})
    assert len(list(tmp_path.iterdir())) == 1
    resume.remove(tmp_path)
    assert not tmp_path.exists()
    assert resume.what_is_kept(tmp_path) == ""


def test_stretches_are_whole_units_of_some_seconds() -> None:
    assert resume._stretch(1_000_000, 2048) == 1024
    assert resume._stretch(50_000, 3072) == 1024
    assert resume._stretch(60_000, 784) % 1024 == 0
    assert resume._stretch(1, 1) > 10**9
