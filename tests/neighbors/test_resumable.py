"""A search in stretches gives what one search gives, whatever was kept of it before; so does one of folds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcgrad import neighbors
from funcgrad.folds import split_folds
from funcgrad.neighbors import cross_fold as folds
from funcgrad.neighbors import merge_step as blocks
from funcgrad.neighbors import resumable as resume

pytestmark = pytest.mark.optimized

RANDOM = np.random.default_rng(0)
QUERIES, POINTS = (RANDOM.normal(size=(count, 16)).astype(np.float32) for count in (1100, 300))


@pytest.mark.exhaustive
@pytest.mark.parametrize("stretch", [1, 3, 10, 17])
def test_stretches_change_no_bit(stretch: int) -> None:
    pixels, points = (np.clip(100 + 40 * x, 0, 255).astype(np.uint8) for x in (QUERIES[:17], POINTS))
    whole = neighbors.kneighbors(pixels, points, 4, metric="l1")
    parts = resume.kneighbors(pixels, points, 4, metric="l1", stretch=stretch)
    np.testing.assert_array_equal(parts.distances, whole.distances)
    np.testing.assert_array_equal(parts.indices, whole.indices)


@pytest.mark.exhaustive
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


@pytest.mark.exhaustive
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


# Cross-validation

PIXELS = np.clip(100 + 40 * POINTS, 0, 255).astype(np.uint8)
PARTS = split_folds(300, 5)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """60 queries are finished at a time."""
    monkeypatch.setattr(blocks, "_PAIR_BLOCK", 60)
    monkeypatch.setattr(blocks, "_GROUP_ROWS", 60)


def all_folds(folder: Path | None, **options: Any) -> list[neighbors.Neighbors]:
    """Of two metrics, the first by exact integers, the second by bounds and a proof."""
    search = resume.fold_search(["l1", "cosine"], 300, 4, folder=folder, **options)
    return [search(neighbors.prepare(PIXELS, metric), PARTS, 4) for metric in ("l1", "cosine")]


def stopping_after(monkeypatch: pytest.MonkeyPatch, states: int) -> Callable[..., Any]:
    """Runs `all_folds` until so many states were kept."""
    write, count = resume._write, 0

    def stop(*given: Any) -> None:
        nonlocal count
        if count == states:
            raise KeyboardInterrupt
        count += 1
        write(*given)

    def run(*given: Any, **options: Any) -> None:
        nonlocal count
        count = 0
        with monkeypatch.context() as patch:
            patch.setattr(resume, "_write", stop)
            with pytest.raises(KeyboardInterrupt):
                all_folds(*given, **options)

    return run


@pytest.mark.exhaustive
@pytest.mark.parametrize(("states", "names"), [(2, ["l1-000000120"]), (6, ["cosine-000000060", "l1-000000300"])])
def test_folds_that_go_on_have_the_same_bits_as_those_that_never_stopped(
    small_blocks: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, states: int, names: list[str]
) -> None:
    stopping_after(monkeypatch, states)(tmp_path)
    assert [file.name for file in sorted(tmp_path.iterdir())] == [f"folds-{name}-of-000000600.npz" for name in names]
    assert resume.what_is_kept(tmp_path).startswith(f"{60 * states} of 600 queries are kept in ")
    measured, merge = [], folds._merge_groups
    monkeypatch.setattr(folds, "_merge_groups", lambda *given: (measured.append(given), merge(*given)))
    again = all_folds(tmp_path, resume=True)
    assert len(measured) == {2: (3 + 2 + 1) + (5 + 4 + 3 + 2 + 1), 6: 4 + 3 + 2 + 1}[states]
    for mine, other in zip(again, all_folds(None), strict=True):
        assert mine.distances.tobytes() == other.distances.tobytes()
        assert mine.indices.tobytes() == other.indices.tobytes()
        assert mine.info == other.info
    resume.remove(tmp_path)
    assert not tmp_path.exists()


def test_a_damaged_state_is_begun_anew_and_the_further_of_two_is_taken(
    small_blocks: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stop = stopping_after(monkeypatch, 1)
    stop(tmp_path)
    (first,) = tmp_path.iterdir()
    content = first.read_bytes()
    stop(tmp_path, resume=True)
    (second,) = tmp_path.iterdir()
    assert "l1-000000120-of" in second.name
    first.write_bytes(content)  # as if the process had been killed before it was removed
    second.write_bytes(second.read_bytes()[:-100])
    stop(tmp_path, resume=True)
    (third,) = tmp_path.iterdir()
    assert third.name == second.name
    first.write_bytes(content)
    for mine, other in zip(all_folds(tmp_path, resume=True), all_folds(None), strict=True):
        np.testing.assert_array_equal(mine.indices, other.indices)


@pytest.mark.exhaustive
def test_folds_of_another_search_are_refused_and_a_fresh_one_removes_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stopping_after(monkeypatch, 1)(tmp_path, data={"data": "a", "folds": 5})
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for changes, says in [
        ({"data": {"data": "b", "folds": 5}}, "data a and not b; without --resume"),
        ({"data": {"data": "a", "folds": 4}}, "folds 5 and not 4; without --resume"),
        ({"metrics": ["l1"]}, "metrics l1, cosine and not l1; without --resume"),
        ({"k": 5}, "largest k 4 and not 5; without --resume"),
        ({"examples": 299}, "training examples 300 and not 299; without --resume"),
    ]:
        given = {"metrics": ["l1", "cosine"], "examples": 300, "k": 4, "data": {"data": "a", "folds": 5}, **changes}
        with pytest.raises(resume.Differs, match=f"was searched with {says}"):
            resume.fold_search(folder=tmp_path, resume=True, **given)  # type: ignore[arg-type]
    with pytest.raises(resume.Differs, match="metrics l1, cosine and not none"):
        resume.kneighbors(PIXELS[:9], PIXELS, 4, folder=tmp_path, resume=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    resume.fold_search(["l1"], 300, 4, folder=tmp_path)
    assert not tmp_path.exists()
