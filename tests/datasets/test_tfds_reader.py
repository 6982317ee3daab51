"""TFDS directories are found by name and read in the order of their ids; a damaged one is named."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import assert_same, is_mapped, write_tfds

from funcgrad import datasets


def test_a_tfds_directory_is_read_in_the_order_of_its_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tfds(tmp_path, ids=lambda i: f"é{i:03d}")
    seen: list[tuple[int, int]] = []
    data = datasets.load("shapes", data_dir=tmp_path, progress=lambda *at: seen.append(at))
    for split, count in ((data.train, 12), (data.test, 4)):
        assert split.ids.tolist() == [f"é{i:03d}" for i in range(count)]
        np.testing.assert_array_equal(split.images[:, 0, 0, 0], 10 * np.arange(count))
        np.testing.assert_array_equal(split.labels, (np.arange(count) % 3).astype(np.int32), strict=True)
    assert (data.classes, data.train.images.shape) == (("circle", "square", "star"), (12, 4, 5, 3))
    assert seen[-1] == (16, 16)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert_same(datasets.load("shapes:1.0.0", progress=pytest.fail), data._replace(name="shapes:1.0.0"))
    assert datasets.load("shapes", size=2).train.images.shape == (12, 2, 2, 3)


@pytest.mark.parametrize("splits", [{"train": 12, "validation": 4}, {"train": 12}, {"only": 12}])
def test_without_a_test_split_validation_or_the_last_of_each_class_serve(
    tmp_path: Path, splits: dict[str, int]
) -> None:
    write_tfds(tmp_path, splits=splits, ids=lambda i: f"{i:02d}")
    data, described = datasets.load("shapes", data_dir=tmp_path), datasets.describe("shapes", tmp_path)
    if "validation" in splits:
        assert (data.test.ids.tolist(), data.split, described.test) == (
            ["00", "01", "02", "03"],
            "the split validation is the test part",
            4,
        )
    else:
        assert (data.test.ids.tolist(), described.train, described.test) == (["09", "10", "11"], 12, 0)
        assert "0.2 of each class" in data.split
        assert "a fraction of each class" in described.note


def test_the_highest_version_and_the_only_config_are_taken(tmp_path: Path) -> None:
    for version in ("1.9.0", "1.10.0", "1.2.0"):
        write_tfds(tmp_path, version=version)
    shutil.copytree(tmp_path / "shapes" / "1.2.0", tmp_path / "shapes" / "incomplete.ABC_9.0.0")
    shutil.copytree(tmp_path / "shapes", tmp_path / ".preparing-x" / "shapes")
    assert datasets.describe("shapes", tmp_path).where.endswith("shapes/1.10.0")
    assert datasets.describe("shapes:1.2.0", tmp_path).where.endswith("shapes/1.2.0")
    with pytest.raises(ValueError, match=r"shapes:2.0.0 is not in .*, which has 1.2.0, 1.9.0, 1.10.0"):
        datasets.load("shapes:2.0.0", data_dir=tmp_path)
    write_tfds(tmp_path, name="sorts", config="plain")
    assert datasets.load("sorts", data_dir=tmp_path).classes == ("circle", "square", "star")
    write_tfds(tmp_path, name="sorts", config="fancy")
    assert datasets.load("sorts/fancy:1.0.0", data_dir=tmp_path).train.labels.shape == (12,)
    with pytest.raises(ValueError, match=r"sorts has several configs in .*: sorts/fancy, sorts/plain"):
        datasets.load("sorts", data_dir=tmp_path)
    names = [one.name for one in datasets.available(tmp_path)]
    assert names == ["digits", "shapes", "sorts/fancy", "sorts/plain", *datasets.PREPARABLE]


def test_image_sizes_that_differ_are_listed_for_tfds_too(tmp_path: Path) -> None:
    write_tfds(tmp_path, shape=lambda i: (4 + (i == 3), 5))
    with pytest.raises(
        ValueError, match=r"most images are 4×5, but .*train example \d+ \(5×5\), .*test example \d+ \(5×5\)$"
    ):
        datasets.load("shapes", data_dir=tmp_path)
    assert datasets.load("shapes", data_dir=tmp_path, size=3).train.images.shape == (12, 3, 3, 3)


def test_a_split_without_labels_is_refused(tmp_path: Path) -> None:
    write_tfds(tmp_path, label_of=lambda i: -1)
    with pytest.raises(ValueError, match=r"train example 0: its label is -1; 0\.\.2 is accepted"):
        datasets.load("shapes", data_dir=tmp_path)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


TFDS_DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda place: cut(next(place.glob("*train*record*"))), r"its train records cannot be read \("),
    "missing": (lambda place: next(place.glob("*test*record*")).unlink(), r"its test records cannot be read \("),
    "format": (
        lambda place: edit(place / "dataset_info.json", lambda info: info.update(fileFormat="tfrecord")),
        "tfrecord",
    ),
    "json": (lambda place: (place / "dataset_info.json").write_text("{"), "TFDS cannot read its metadata"),
    "features": (lambda place: (place / "features.json").unlink(), "TFDS cannot read its metadata"),
    "no label": (
        lambda place: edit(place / "features.json", lambda top: top["featuresDict"]["features"].pop("label")),
        "has 0 ClassLabel features",
    ),
}


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("kind", TFDS_DAMAGES)
def test_a_damaged_tfds_directory_is_named(tmp_path: Path, kind: str) -> None:
    damage, message = TFDS_DAMAGES[kind]
    damage(place := write_tfds(tmp_path))
    with pytest.raises(ValueError, match=message) as raised:
        datasets.load("shapes", data_dir=tmp_path)
    assert "\n" not in str(raised.value)
    assert str(place) in str(raised.value)
    listed = {one.name: one for one in datasets.available(tmp_path)}["shapes"]
    assert listed.prepared == (kind in ("truncated", "missing"))  # their metadata is whole


@pytest.mark.exhaustive
def test_cifar10_is_in_its_original_order(image_data: Path) -> None:
    data = datasets.load("cifar10", data_dir=image_data)
    again = datasets.load("cifar10", data_dir=image_data)  # decoded once
    assert is_mapped(again.train.images)
    assert again.fingerprint == data.fingerprint
    assert (data.train.images.shape, data.test.images.shape) == ((50_000, 32, 32, 3), (10_000, 32, 32, 3))
    assert (data.train.images.dtype, data.train.labels.dtype) == ("uint8", "int32")
    assert data.train.ids.tolist() == [f"train_{i:05d}" for i in range(50_000)]
    assert data.test.ids.tolist() == [f"test_{i:05d}" for i in range(10_000)]
    # The first labels of data_batch_1 and test_batch: a frog, two trucks, a deer, …; a cat, two ships, a plane, ….
    np.testing.assert_array_equal(data.train.labels[:10], [6, 9, 9, 4, 1, 1, 2, 7, 8, 3])
    np.testing.assert_array_equal(data.test.labels[:10], [3, 8, 8, 0, 6, 6, 1, 6, 3, 1])
    np.testing.assert_array_equal(np.bincount(data.train.labels), [5000] * 10)


@pytest.mark.exhaustive
def test_mnist_is_complete(image_data: Path) -> None:
    data = datasets.load("mnist", data_dir=image_data)
    assert (data.train.images.shape, data.test.images.shape) == ((60_000, 28, 28, 1), (10_000, 28, 28, 1))
    assert (data.train.images.dtype, data.classes) == ("uint8", tuple("0123456789"))
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    np.testing.assert_array_equal(np.bincount(data.train.labels), counts)
    threes = datasets.load("mnist", data_dir=image_data, classes=["3"], limit_train=5)
    np.testing.assert_array_equal(threes.train.ids, np.flatnonzero(data.train.labels == 3)[:5])


@pytest.mark.parametrize("key", ["pythonClassName", "python_class_name", "type"])
def test_features_name_no_other_class_than_tfds_own(tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class that is named is imported: a module of that name runs whatever it holds."""
    directory = write_tfds(tmp_path)
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = directory / "features.json"
    content = json.loads(path.read_text())
    content["featuresDict"]["features"]["other"] = {key: "evil.Feature", "content": {}}
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"features\.json names evil\.Feature; only TFDS's own features are accepted"):
        datasets.load("shapes", data_dir=tmp_path)
    own = "tensorflow_datasets.core.features.../evil.Feature"
    path.write_text(path.read_text().replace("evil.Feature", own))
    with pytest.raises(ValueError, match="only TFDS's own features are accepted"):
        datasets.describe("shapes", tmp_path)
