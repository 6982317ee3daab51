"""Decoded images are cached until what they depend on changes, and checked against their content."""

import logging
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import assert_same
from PIL import Image

from funcgrad import datasets
from funcgrad.datasets.cache import Tuning, cache_entries, cached


def decodes(path: Path, **options: Any) -> int:
    """How many images `load` decodes."""
    seen = []
    datasets.load(path, progress=lambda *at: seen.append(at), **options)
    return len(seen)


def test_the_cache_is_used_until_a_file_or_an_option_changes(cache: Path, pets: Path) -> None:
    assert [decodes(pets), decodes(pets)] == [8, 0]
    assert [decodes(pets, size=3), decodes(pets, size=3), decodes(pets, test_fraction=0.5)] == [8, 0, 8]
    os.utime(pets / "cat" / "0.png", ns=(1, 1))
    assert [decodes(pets), decodes(pets)] == [8, 0]
    before = (pets / "cat" / "0.png").stat()
    Image.fromarray(np.full_like(np.asarray(Image.open(pets / "cat" / "0.png")), 7)).save(pets / "cat" / "0.png")
    os.utime(pets / "cat" / "0.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert decodes(pets) == 8  # though it claims to be as old, and perhaps is as long
    (pets / "cat" / "0.png").rename(pets / "cat" / "00.png")
    assert [decodes(pets), decodes(pets)] == [8, 0]
    shutil.copytree(pets, pets.parent / "copy")
    assert decodes(pets.parent / "copy") == 8


CACHE_DAMAGES: dict[str, Callable[[Path], object]] = {
    "pixel": lambda place: flip(place / "train_images.npy", -1),
    "header": lambda place: flip(place / "train_images.npy", 30),
    "label": lambda place: flip(place / "test_labels.npy", -4),
    "name": lambda place: flip(place / "content.json", -100),
    "truncated": lambda place: os.truncate(place / "train_images.npy", 200),
    "emptied": lambda place: os.truncate(place / "test_ids.npy", 0),
    "missing": lambda place: (place / "test_images.npy").unlink(),
    "no content": lambda place: (place / "content.json").unlink(),
    "cut content": lambda place: os.truncate(place / "content.json", 50),
    "other content": lambda place: (place / "content.json").write_text("{}"),
    "less content": lambda place: (place / "content.json").write_text("[[], [], 0]"),
}


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("kind", CACHE_DAMAGES)
def test_a_damaged_cache_is_decoded_again_with_one_warning(
    cache: Path, pets: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = datasets.load(pets)
    [place] = cache.iterdir()
    # A copy is damaged, since `good` maps the original.
    shutil.copytree(place, cache / "tmp-copy")
    shutil.rmtree(place)
    (cache / "tmp-copy").rename(place)
    CACHE_DAMAGES[kind](place)
    with caplog.at_level(logging.WARNING, "funcgrad"):
        assert_same(datasets.load(pets), good)
    [record] = caplog.records
    assert "damaged" in record.getMessage()
    assert "\n" not in record.getMessage()
    assert decodes(pets) == 0


def test_data_loads_where_the_cache_cannot_be_written(
    cache: Path, pets: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("a file, not a directory")
    with caplog.at_level(logging.WARNING, "funcgrad"):
        assert len(datasets.load(pets).train.labels) == 6
    [record] = caplog.records
    assert "not cached" in record.getMessage()


def test_a_full_disk_costs_a_warning_and_leaves_nothing(
    cache: Path, pets: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))  # bytes that a file may have
    try:
        with caplog.at_level(logging.WARNING, "funcgrad"):
            assert len(datasets.load(pets).train.labels) == 6
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "not cached" in caplog.records[0].getMessage()
    assert list(cache.iterdir()) == []


def test_temporary_folders_of_dead_writers_are_removed_and_others_are_not(cache: Path, pets: Path) -> None:
    dead, recent, foreign = (f".{'0' * 32}.1", f".{'0' * 32}.2", ".ssh")
    for name, age in ((dead, 7200), (recent, 5), (foreign, 7200)):
        (cache / name).mkdir(parents=True)
        (cache / name / "train_images.npy").write_text("half")
        os.utime(cache / name, (time.time() - age,) * 2)
    datasets.load(pets)
    assert sorted(path.name for path in cache.glob(".*")) == [recent, foreign]


def test_two_threads_fill_the_cache_at_once(cache: Path, pets: Path, caplog: pytest.LogCaptureFixture) -> None:
    both_decoded = threading.Barrier(2, timeout=60)

    def progress(done: int, total: int) -> None:
        if done == total:
            both_decoded.wait()

    def load(_: int) -> datasets.Dataset:
        return datasets.load(pets, progress=progress)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(load, range(2))
    assert_same(first, second)
    assert len(list(cache.iterdir())) == 1
    assert caplog.records == []


def test_two_processes_fill_the_cache_at_once(cache: Path, pets: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from funcgrad import datasets
data, gate = Path(sys.argv[1]), Path(sys.argv[2])
def progress(done, total):  # both have decoded before either writes
    if done == total:
        gate.joinpath(sys.argv[3]).touch()
        while len(list(gate.iterdir())) < 2:
            time.sleep(0.001)
print(datasets.load(data, progress=progress).fingerprint)
"""
    gate = pets.parent / "gate"
    gate.mkdir()
    commands = [[sys.executable, "-W", "error", "-c", code, pets, gate, str(i)] for i in range(2)]
    runs = [subprocess.Popen(one, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for one in commands]
    outcomes = [(*run.communicate(timeout=180), run.returncode) for run in runs]
    assert outcomes == [(f"{datasets.load(pets).fingerprint}\n", "", 0)] * 2
    assert len(list(cache.iterdir())) == 1
    assert decodes(pets) == 0


@pytest.mark.exhaustive
def test_loading_imports_neither_tensorflow_nor_jax(cache: Path, pets: Path) -> None:
    code = """
import sys
from funcgrad import datasets
assert not {"sklearn", "PIL", "tensorflow_datasets"} & set(sys.modules)
datasets.load("digits"), datasets.load(sys.argv[1]), datasets.available(sys.argv[1])
print(sorted({"jax", "tensorflow"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code, pets], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_what_was_used_least_recently_gives_way(cache: Path, pets: Path) -> None:
    def store(name: str, size: int, bound: int = 4000) -> bool:
        """Whether it had to be made."""
        made = []

        def make() -> tuple[dict[str, np.ndarray], list[str]]:
            made.append(name)
            return {"train_images": np.zeros(size, np.uint8)}, []

        cached(pets, [], name, make, Tuning(max_bytes=bound))
        return bool(made)

    assert [store("a", 1000), store("b", 1100), store("a", 1000)] == [True, True, False]
    for entry in cache_entries():  # the clock of a file system may be coarse
        os.utime(entry.path, (entry.bytes, entry.bytes))
    assert [store("c", 2000), store("a", 1000)] == [True, True]  # a was older than b
    assert not store("c", 2000)
    assert sum(entry.bytes for entry in cache_entries()) <= 4000
    assert store("huge", 5000)
    assert store("huge", 5000)  # larger than the cache may be, so it is not kept
