"""Folders of images are decoded in the order of their paths; everything wrong with one is named in one line."""

from pathlib import Path

import numpy as np
import pytest
from dataset_files import DAMAGES, assert_same, is_mapped, save_images
from PIL import Image

from funcgrad import datasets


def test_a_folder_of_class_folders_gives_its_images_sorted_by_path(tmp_path: Path) -> None:
    saved = save_images(tmp_path / "pets")
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "pets" / ".hidden").mkdir()
    seen: list[tuple[int, int]] = []
    data = datasets.load(tmp_path / "pets", test_fraction=0.25, progress=lambda *at: seen.append(at))
    assert data.train.ids.tolist() == [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(3)]
    assert data.test.ids.tolist() == ["cat/3.png", "dog/3.png"]
    for split in data[1:3]:
        np.testing.assert_array_equal(split.images, np.stack([saved[one] for one in split.ids]), strict=True)
        assert [data.classes[label] for label in split.labels] == [one.partition("/")[0] for one in split.ids]
    assert seen == [(done, 8) for done in range(1, 9)]
    assert (data.name, data.split) == ("pets", "the last 0.25 of each class, in the original order, is the test part")
    assert is_mapped(data.train.images)
    assert_same(datasets.load(str(tmp_path / "pets"), test_fraction=0.25, progress=pytest.fail), data)


def test_the_current_folder_has_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_images(tmp_path / "pets")
    monkeypatch.chdir(tmp_path / "pets")
    assert datasets.load(".").name == "pets"


@pytest.mark.parametrize("test", ["test", "validation", "val"])
def test_train_and_test_folders_are_the_parts(tmp_path: Path, test: str) -> None:
    train, held = save_images(tmp_path / "train"), save_images(tmp_path / test, suffix=".PNG")
    data = datasets.load(tmp_path)
    assert data.train.ids.tolist() == [f"train/{path}" for path in train]
    assert data.test.ids.tolist() == [f"{test}/{path}" for path in held]
    assert (data.classes, data.split) == (("cat", "dog"), f"the folder {test} is the test part")
    (tmp_path / test / "dog").rename(tmp_path / test / "cow")
    with pytest.raises(ValueError, match="not a class of the training part: cow"):
        datasets.load(tmp_path)


def test_folders_called_train_beside_other_classes_are_classes(tmp_path: Path) -> None:
    save_images(tmp_path)
    (tmp_path / "cat").rename(tmp_path / "train")
    assert datasets.load(tmp_path).classes == ("dog", "train")


def test_images_are_grey_if_all_are_and_else_rgb(tmp_path: Path) -> None:
    saved = save_images(tmp_path, (6, 5))
    data = datasets.load(tmp_path)
    assert data.train.images.shape == (6, 6, 5, 1)
    np.testing.assert_array_equal(data.train.images[0, ..., 0], saved["cat/0.png"])
    Image.fromarray(np.full((6, 5, 3), 7, np.uint8)).save(tmp_path / "dog" / "3.png")
    Image.fromarray(np.full((6, 5), 9, np.uint8)).convert("P").save(tmp_path / "dog" / "2.png")
    data = datasets.load(tmp_path)
    assert data.train.images.shape == (6, 6, 5, 3)
    np.testing.assert_array_equal(data.train.images[0], np.repeat(saved["cat/0.png"][..., None], 3, axis=-1))
    np.testing.assert_array_equal(data.train.images[-1], np.full((6, 5, 3), 9))
    np.testing.assert_array_equal(data.test.images[-1], np.full((6, 5, 3), 7))


def test_jpeg_is_read_and_size_resizes(tmp_path: Path) -> None:
    save_images(tmp_path, (60, 50, 3), ".jpg")
    assert datasets.load(tmp_path).train.images.shape[1:] == (60, 50, 3)
    assert datasets.load(tmp_path, size=8).train.images.shape[1:] == (8, 8, 3)
    small = datasets.load(tmp_path, size=(4, 7))
    with Image.open(tmp_path / "cat" / "0.jpg") as image:
        image.draft(None, (7, 4))
        expected = np.asarray(image.resize((7, 4), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(small.train.images[0], expected)


def test_sizes_that_differ_are_listed_and_size_resizes_them(tmp_path: Path) -> None:
    save_images(tmp_path)
    Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(tmp_path / "cat" / "0.png")
    with pytest.raises(ValueError, match=r"image sizes differ.*most images are 6×5, but \S+cat/0.png \(3×4\)$"):
        datasets.load(tmp_path)
    for i in range(5, 12):
        Image.fromarray(np.zeros((i, 4, 3), np.uint8)).save(tmp_path / "dog" / f"a{i}.png")
    with pytest.raises(ValueError, match=r"cat/0.png \(3×4\), .* and 3 more$"):
        datasets.load(tmp_path)
    assert datasets.load(tmp_path, size=5).train.images.shape[1:] == (5, 5, 3)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("kind", ["truncated", "empty", "text"])
def test_an_unreadable_image_is_named(tmp_path: Path, suffix: str, kind: str) -> None:
    save_images(tmp_path, (64, 64, 3), suffix)
    path = tmp_path / "dog" / f"2{suffix}"
    path.write_bytes(DAMAGES[kind](path.read_bytes()))
    with pytest.raises(ValueError, match=rf"1 of 8 images cannot be read: \S*dog/2\{suffix} \(") as raised:
        datasets.load(tmp_path)
    assert "\n" not in str(raised.value)


def test_what_is_no_folder_of_8_bit_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no class folders of images"):
        datasets.load(tmp_path)
    save_images(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: no images in it; --allow-empty-classes"):
        datasets.load(tmp_path)
    (tmp_path / "empty").rmdir()
    Image.fromarray(np.zeros((6, 5), np.float32)).save(tmp_path / "cat" / "deep.tif")
    with pytest.raises(ValueError, match=r"deep\.tif \(floats; integers of 8 or 16 bits are accepted\)"):
        datasets.load(tmp_path)
