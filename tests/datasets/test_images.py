"""Folders of images are decoded in the order of their paths; everything wrong with one is named in one line."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

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
        image.draft(None, (14, 8))
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
    with pytest.raises(ValueError, match="no images in it"):
        datasets.load(tmp_path)
    save_images(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: no images in it; --allow-empty-classes"):
        datasets.load(tmp_path)
    (tmp_path / "empty").rmdir()
    Image.fromarray(np.zeros((6, 5), np.float32)).save(tmp_path / "cat" / "deep.tif")
    with pytest.raises(ValueError, match=r"deep\.tif \(floats; integers of 8 or 16 bits are accepted\)"):
        datasets.load(tmp_path)


# Pixels as people see them


def save(path: Path, image: Image.Image, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def load_one(
    tmp_path: Path,
    image: Image.Image,
    suffix: str = ".png",
    *,
    of: Mapping[str, Any] = MappingProxyType({}),
    **options: Any,
) -> Any:
    """The pixels of one image, and what was noted."""
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}{suffix}"
    image.save(path, **of)
    examples = datasets.load_examples(path, **options)
    return examples.images[0], examples.notes


def picture(height: int = 6, width: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".bmp", ".gif", ".tif", ".TIFF", ".ppm", ".pgm", ".avif", ".jpeg"])
def test_every_format_is_read(tmp_path: Path, suffix: str) -> None:
    if suffix == ".avif" and "AVIF" not in Image.registered_extensions().values():
        pytest.skip("this Pillow has no AVIF")
    flat = Image.new("L" if suffix == ".pgm" else "RGB", (5, 6), 90 if suffix == ".pgm" else (90, 90, 90))
    pixels, notes = load_one(tmp_path, flat, suffix)
    assert pixels.shape[:2] == (6, 5)
    assert np.abs(pixels.astype(int) - 90).max() <= 2
    assert notes == ()


def test_the_first_frame_of_several_is_taken_and_said(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (5, 6), (value, 0, 0)) for value in (200, 100)]
    for suffix in (".gif", ".tif", ".png"):
        pixels, notes = load_one(tmp_path, frames[0], suffix, of={"save_all": True, "append_images": frames[1:]})
        assert pixels[0, 0].tolist() == [200, 0, 0]
        assert notes == ("1 of 1 image: several frames or pages, of which the first is taken",)
    large = [frame.resize((64, 48)) for frame in frames]  # Pillow before 11.3 writes small ones wrongly
    of = {"format": "MPO", "save_all": True, "append_images": large[1:]}
    pixels, notes = load_one(tmp_path, large[0], ".jpg", of=of)
    assert (pixels.shape, notes) == ((48, 64, 3), ())  # a photograph of a telephone, with what belongs to it


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_images_are_turned_upright_as_exif_says(tmp_path: Path, suffix: str) -> None:
    upright = np.zeros((16, 8, 3), np.uint8)
    upright[:8, :4] = (250, 0, 0)  # red, top left
    turned = {  # what a camera stores with each orientation (EXIF 2.3, 4.6.4)
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    for orientation, stored in turned.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = (
            {"quality": 100, "subsampling": 0} if suffix == ".jpg" else {"lossless": True} if suffix == ".webp" else {}
        )
        pixels, _ = load_one(
            tmp_path, Image.fromarray(np.ascontiguousarray(stored)), suffix, of={"exif": exif, **options}
        )
        assert pixels.shape == (16, 8, 3), orientation
        assert np.abs(pixels.astype(int) - upright).max() <= 10, orientation


def test_transparency_is_composited_on_white_or_another_color(tmp_path: Path) -> None:
    rgba = np.dstack([picture(), np.full((6, 5), 51, np.uint8)])  # a fifth opaque
    pixels, notes = load_one(tmp_path, Image.fromarray(rgba))
    np.testing.assert_allclose(pixels, 0.2 * rgba[..., :3] + 0.8 * 255, atol=1)
    assert notes == ("1 of 1 image: transparent, composited on white",)
    for background in ("#102030", (16, 32, 48)):
        pixels, notes = load_one(tmp_path, Image.fromarray(rgba), background=background)
        np.testing.assert_allclose(pixels, 0.2 * rgba[..., :3] + 0.8 * np.array([16, 32, 48]), atol=1)
        assert "composited on #102030" in notes[0]
    grey, _ = load_one(tmp_path, Image.fromarray(rgba).convert("LA"))
    assert grey.shape == (6, 5, 1)
    palette = Image.fromarray(np.zeros((6, 5), np.uint8)).convert("P")
    pixels, _ = load_one(tmp_path, palette, of={"transparency": 0})
    assert pixels.min() == 255
    _, notes = load_one(tmp_path, Image.fromarray(picture()).convert("RGBA"))
    assert notes == ()  # nothing shows through
    for background in ("wite", (1, 2), (0, 0, 256), None):
        with pytest.raises(ValueError, match=r"background is .*; a colour such as"):
            datasets.load_examples(tmp_path / "0.png", background=background)


def test_palette_cmyk_and_bilevel_are_converted(tmp_path: Path) -> None:
    for mode, suffix in (("P", ".png"), ("CMYK", ".tif"), ("CMYK", ".jpg"), ("1", ".png")):
        image = Image.new("RGB", (5, 6), (255, 255, 255)).convert(mode)
        pixels, _ = load_one(tmp_path, image, suffix)
        assert pixels.shape == (6, 5, 1 if mode == "1" else 3)
        assert pixels.min() >= 254


def test_16_bit_grey_is_scaled_with_a_note(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 32_768], [257, 65_279, 65_407, 65_535]], np.uint16)
    for suffix in (".png", ".tif", ".pgm"):
        pixels, notes = load_one(tmp_path, Image.fromarray(values), suffix)
        np.testing.assert_array_equal(pixels[..., 0], np.rint(values / 257))
        assert notes == ("1 of 1 image: 16-bit grey, scaled to 8 bits (65535 becomes 255)",)
    with pytest.raises(ValueError, match=r"integers from 0 to 70000; 8 or 16 bits are accepted"):
        load_one(tmp_path, Image.fromarray(np.array([[0, 70_000]], np.int32)), ".tif")


def test_channels_convert(tmp_path: Path) -> None:
    rgb, grey = Image.fromarray(picture()), Image.fromarray(picture()[..., 0])
    np.testing.assert_array_equal(load_one(tmp_path, rgb, channels=1)[0][..., 0], np.asarray(rgb.convert("L")))
    np.testing.assert_array_equal(load_one(tmp_path, grey, channels=3)[0], np.dstack([np.asarray(grey)] * 3))
    for channels in (2, 4, "3", True):
        with pytest.raises(ValueError, match=rf"channels is {channels!r}; 1 \(grey\) or 3 \(RGB\) is accepted"):
            datasets.load_examples(tmp_path / "0.png", channels=channels)
    assert datasets.load("digits", channels=1, size=8).train.images.shape[1:] == (8, 8, 1)
    with pytest.raises(ValueError, match="channels is for images of TFDS and of folders; it does not apply to digits"):
        datasets.load("digits", channels=3)


def test_all_unreadable_images_are_named_or_left_out(tmp_path: Path) -> None:
    saved = save_images(tmp_path, (64, 64, 3))
    broken = ["cat/1.png", "dog/0.png", "cat/3.png"]  # in the order of the parts
    for name in broken:
        (tmp_path / name).write_bytes(
            DAMAGES["truncated" if name == "cat/3.png" else "text"]((tmp_path / name).read_bytes())
        )
    with pytest.raises(
        ValueError, match=r"^3 of 8 images cannot be read: \S+cat/1.png \(.*dog/0.png \(.*cat/3.png \("
    ) as raised:
        datasets.load(tmp_path, test_fraction=0.5)
    assert str(raised.value).endswith("--skip-unreadable leaves them out")
    for _ in range(2):  # decoded, and from the cache
        data = datasets.load(tmp_path, test_fraction=0.5, skip_unreadable=True)
        assert (data.train.ids.tolist(), data.test.ids.tolist()) == (
            ["cat/0.png", "dog/1.png"],
            ["cat/2.png", "dog/2.png", "dog/3.png"],
        )
        np.testing.assert_array_equal(data.test.images, np.stack([saved[id] for id in data.test.ids]))
        assert data.details["unreadable"] == broken
        assert data.notes[0].startswith("3 of 8 images cannot be read")
    for name in saved:
        (tmp_path / name).write_text("no image")
    with pytest.raises(ValueError, match=r"^8 of 8 images cannot be read: ") as raised:
        datasets.load(tmp_path, skip_unreadable=True)
    assert "skip" not in str(raised.value)


def test_one_limit_for_large_images_and_no_warning_below_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert load_one(tmp_path, Image.new("L", (10, 20)))[0].shape == (20, 10, 1)
    with pytest.raises(ValueError, match=r"1 of 1 image cannot be read: \S+ \(larger than the limit of 200 pixels\)$"):
        load_one(tmp_path, Image.new("L", (10, 21)))


def test_sizes_are_compared_before_anything_is_decoded(tmp_path: Path) -> None:
    save_images(tmp_path, (64, 64, 3))
    whole = (tmp_path / "cat" / "1.png").read_bytes()
    (tmp_path / "cat" / "1.png").write_bytes(whole[: len(whole) // 2])
    save(tmp_path / "dog" / "0.png", Image.new("RGB", (5, 6)))
    with pytest.raises(
        ValueError, match=r"sizes differ, and no size is given \(--size\).*most images are 64×64, but \S+dog/0"
    ):
        datasets.load(tmp_path, progress=pytest.fail)


def test_limits_decode_only_what_they_take(tmp_path: Path) -> None:
    save_images(tmp_path)
    (tmp_path / "dog" / "0.png").write_text("broken")
    seen: list[tuple[int, int]] = []
    data = datasets.load(tmp_path, limit_train=np.int64(2), limit_test=1, progress=lambda *at: seen.append(at))
    assert (data.train.ids.tolist(), data.test.ids.tolist()) == (["cat/0.png", "cat/1.png"], ["cat/3.png"])
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert data.notes[0].startswith("--limit-train 2 takes the first examples and leaves out 1 of 2 classes (dog)")
    assert len(datasets.load(tmp_path, classes=["cat"], progress=lambda *at: seen.append(at)).train.labels) == 3
    assert len(seen) == 3 + 4


def test_jpeg_is_decoded_at_reduced_scale_where_a_smaller_size_is_asked_for(tmp_path: Path) -> None:
    smooth = np.add.outer(np.linspace(0, 120, 400), np.linspace(0, 120, 640)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    [small] = datasets.load_examples(tmp_path / "a.jpg", size=(50, 80)).images
    with Image.open(tmp_path / "a.jpg") as image:
        image.draft(None, (160, 100))
        assert image.size == (160, 100)  # a quarter: libjpeg computes no more
        np.testing.assert_array_equal(small[..., 0], np.asarray(image.resize((80, 50), Image.Resampling.BILINEAR)))
    assert np.abs(small[..., 0].astype(int) - smooth.reshape(50, 8, 80, 8).mean(axis=(1, 3))).max() <= 2


def test_what_does_not_fit_into_memory_is_refused_before_decoding(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"1 image of 1000000 × 1000000 × 1: 931\.3 GiB, and this machine has .*--size N"
    ):
        load_one(tmp_path, Image.new("L", (2, 2)), size=1_000_000)
