"""What is said of a data set without loading it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dataset_files import save_images
from PIL import Image

from funcgrad import datasets


def test_a_folder_is_described_by_the_headers_of_its_images(tmp_path: Path, cache: Path) -> None:
    root = tmp_path / "photos"
    save_images(root / "train", (64, 48, 3))
    save_images(root / "val", (64, 48, 3))
    save_images(root / "test", (64, 48, 3))
    described = datasets.describe(root)
    assert described[:8] == ("photos", str(root), True, 8, 8, ("cat", "dog"), (64, 48, 3), "uint8")
    assert described[8:] == ("the folder test is the test part", 8, ())
    whole = (root / "test" / "cat" / "0.png").read_bytes()
    (root / "test" / "cat" / "0.png").write_bytes(whole[: len(whole) // 2])  # its header is whole
    assert datasets.describe(root) == described
    (root / "test" / "cat" / "0.png").write_text("no image")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (48, 64)).save(root / "val" / "dog" / "1.jpg", exif=exif)
    described = datasets.describe(root)
    assert described.shape == (None, None, 3)
    sizes, unreadable = described.notes
    assert sizes.endswith(f"most images are 64×48, but {root}/val/dog/1.jpg (48×64)")
    assert unreadable.startswith(f"1 of 25 images cannot be read: {root}/test/cat/0.png (")
    assert not cache.exists()  # nothing was decoded


def test_a_folder_without_labels_is_described_as_what_can_be_predicted(tmp_path: Path) -> None:
    save_images(tmp_path)
    described = datasets.describe(tmp_path / "cat")
    assert (described.train, described.test, described.classes, described.shape) == (None, None, (), (6, 5, 3))
    assert described.note.startswith(f"no data to train on: {tmp_path}/cat: 4 images and no class folders")
    assert described.notes == ("4 images in all, which `funcgrad predict` takes",)


@pytest.mark.exhaustive
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says how much memory a program had")
def test_800_photographs_of_12_megapixels_are_described_in_seconds(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(pixels).resize((4000, 3000)).save(tmp_path / "photo.jpg", quality=85)
    for i in range(800):
        path = tmp_path / "photos" / f"class {i % 8}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(tmp_path / "photo.jpg", path)
    code = """
import json, re, sys, time
from pathlib import Path
from funcgrad import cli
start = time.perf_counter()
assert cli.main(["data", "info", sys.argv[1], "--quiet"]) == 0
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())  # of this program, not of its parent
print(json.dumps([time.perf_counter() - start, int(peak[1]) / 1024]))
"""
    command = [sys.executable, "-c", code, str(tmp_path / "photos")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, mib = json.loads(done.stdout)
    assert mib < 300
    assert seconds < 30  # 2 where nothing else runs
