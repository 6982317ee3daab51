"""Files that the tests of data sets load: arrays, folders of images and TFDS directories."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from funcgrad import datasets


def is_mapped(array: np.ndarray) -> bool:
    """Whether the array is a view of a memory-mapped file."""
    base: Any = array
    while base is not None and not isinstance(base, np.memmap):
        base = base.base
    return base is not None


def arrays(seed: int = 0, rows: int = 40, tests: int = 10, dtype: str = "float32") -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    shape = (rows + tests, 6)
    values = random.integers(0, 256, shape, np.uint8) if dtype == "uint8" else random.normal(size=shape).astype(dtype)
    labels = np.resize(np.arange(4), rows + tests)
    return {"x_train": values[:rows], "y_train": labels[:rows], "x_test": values[rows:], "y_test": labels[rows:]}


def save_npz(path: Path, values: Mapping[str, np.ndarray]) -> Path:
    np.savez(path, **values)  # type: ignore[arg-type]
    return path


def save_npy(folder: Path, values: Mapping[str, np.ndarray]) -> list[Path]:
    for name, array in values.items():
        np.save(folder / f"{name}.npy", array)
    return [folder / f"{name}.npy" for name in values]


def assert_same(one: datasets.Dataset, other: datasets.Dataset) -> None:
    for split, expected in zip(one[1:3], other[1:3], strict=True):
        for array, wanted in zip(split, expected, strict=True):
            np.testing.assert_array_equal(array, wanted, strict=True)
    assert one[3:] == other[3:]


X, Y = np.ones((4, 3), np.float32), np.array([0, 1, 0, 1])
GOOD = {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y}


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda good: good[: len(good) * 2 // 3],
    "cut in the header": lambda good: good[:20],
    "empty": lambda good: b"",
    "text": lambda good: b"not an array at all\n" * 20,
    "changed": lambda good: good[:130] + bytes(byte ^ 255 for byte in good[130:400]) + good[400:],
    "pickle": lambda good: b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07payload\x94.",
}


def save_images(root: Path, shape: tuple[int, ...] = (6, 5, 3), suffix: str = ".png") -> dict[str, np.ndarray]:
    """Two classes of four images, by their paths below `root`."""
    random = np.random.default_rng(0)
    saved = {}
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(4):
            saved[f"{name}/{i}{suffix}"] = random.integers(0, 256, shape, np.uint8)
            Image.fromarray(saved[f"{name}/{i}{suffix}"]).save(root / name / f"{i}{suffix}")
    return saved


def write_tfds(
    data_dir: Path,
    name: str = "shapes",
    version: str = "1.0.0",
    splits: Mapping[str, int] = {"train": 12, "test": 4},
    ids: Callable[[int], str] | None = None,
    shape: Callable[[int], tuple[int, int]] = lambda i: (4, 5),
    config: str | None = None,
    label_of: Callable[[int], int] = lambda i: i % 3,
) -> Path:
    """A TFDS directory of images whose pixels are 10 times their position; the feature `other` is not to be used."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    def examples(count: int) -> Any:
        for i in range(count):
            png = io.BytesIO()
            Image.fromarray(np.full((*shape(i), 3), 10 * i, np.uint8)).save(png, "PNG")
            png.seek(0)
            yield i, {"image": png, "label": label_of(i), "other": i} | ({"id": ids(i)} if ids else {})

    with registered.skip_registration():

        class Shapes(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version(version)
            BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []

            def _info(self) -> Any:
                features = {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.ClassLabel(names=["circle", "square", "star"]),
                    "other": np.int64,
                } | ({"id": tfds.features.Text()} if ids else {})
                return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

            def _split_generators(self, _: object) -> Any:
                return {split: examples(count) for split, count in splits.items()}

            def _generate_examples(self) -> Any: ...

            def _log_download_bytes(self) -> None: ...

            _log_download_done = _log_download_bytes

        Shapes.name = name
    tfds.disable_progress_bar()
    builder = Shapes(data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    return Path(builder.data_dir)
