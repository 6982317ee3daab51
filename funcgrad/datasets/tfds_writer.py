"""CIFAR-10, MNIST and Fashion-MNIST, from their archives to the array_record directory of TFDS, without TensorFlow.

TFDS's own builders need TensorFlow to unpack and to encode. Their features, checksums and keys are used here, so that
the result is the same, record by record, as if they had written it.
"""

import gzip
import hashlib
import io
import itertools
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from funcgrad.datasets.cache import remove_stale
from funcgrad.datasets.images import Progress
from funcgrad.datasets.tfds_reader import open_tfds, tfds_root, tfds_source
from funcgrad.files import reporting

_STALE_SECONDS = 86_400  # no run takes a day, so an older temporary folder is left over from a killed one


class Content(NamedTuple):
    """An archive's images (N, H, W, C) uint8 and labels (N,) uint8, and its class names where it has any."""

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    classes: list[str] | None = None


class Recipe(NamedTuple):
    """What differs between the data sets.

    files: the names of the archives. read: what reads them, from their paths in this order.
    ids: whether TFDS gives each example an id. url_infos: TFDS's UrlInfo (file name, size, sha256) by address; those
    of TFDS's builder if None.
    """

    files: tuple[str, ...]
    read: Callable[[Sequence[Path]], Content]
    ids: bool = False
    url_infos: Mapping[str, Any] | None = None


def prepare(
    name: str,
    data_dir: str | Path | None = None,
    *,
    archives: Sequence[str | Path] = (),
    recipe: Recipe | None = None,
    progress: Progress | None = None,
) -> Path:
    """Writes `data_dir`/NAME/VERSION and returns it; if it exists already, returns at once.

    Args:
      name: one of PREPARABLE.
      data_dir: $TFDS_DATA_DIR, else ~/tensorflow_datasets, if None.
      archives: the original archives, or one folder of them, recognized by their file names (a single one may have any
        name); if empty, they are downloaded into `data_dir`/downloads/NAME and stay there.
      recipe: replaces that of the name, for other archives in the same format.
      progress: called as progress(done, total), in bytes during a download, in examples during writing.

    Everything is written to a temporary folder, read back, then renamed: an interrupted run leaves nothing that looks
    prepared, and what a killed run leaves is removed by a run on another day.

    Raises ValueError if the name is unknown, an archive is not the original (sha256), or what is there already is
    not readable array_record; FileNotFoundError if an archive is missing, OSError if downloading or writing fails.
    """
    if name not in RECIPES:
        raise ValueError(f"name is {name!r}; {', '.join(RECIPES)} can be prepared")
    import tensorflow_datasets as tfds

    recipe = recipe or RECIPES[name]
    builder = tfds.builder_cls(name)
    root = tfds_root(data_dir)
    path = root / name / str(builder.VERSION)
    if path.exists():
        open_tfds(path)  # readable, and array_record
        return path
    given = _match([Path(archive).expanduser() for archive in archives], recipe.files)
    root.mkdir(parents=True, exist_ok=True)
    remove_stale(root, ".preparing-*", _STALE_SECONDS)
    downloads = root / "downloads" / name
    sources = {info.filename: (url, info) for url, info in (recipe.url_infos or builder.url_infos).items()}
    with tempfile.TemporaryDirectory(prefix=".preparing-", dir=root, ignore_cleanup_errors=True) as folder:
        work = Path(folder)
        paths = [_fetch(given.get(file, downloads / file), *sources[file], work, progress) for file in recipe.files]
        content = recipe.read(paths)
        _write(builder, work, content, recipe.ids, progress)
        _read_back(work / name / path.name, content)
        path.parent.mkdir(exist_ok=True)
        try:
            (work / name / path.name).rename(path)
        except OSError:
            if not path.exists():  # else another process was first, and its copy is the same
                raise
    return path


# Archives


def _match(given: Sequence[Path], files: Sequence[str]) -> dict[str, Path]:
    """The given path of each file; empty if none are given."""
    if len(given) == 1 and given[0].is_dir():
        given = [given[0] / file for file in files]
    by_name = {path.name: path for path in given} if len(files) > 1 else dict(zip(files, given, strict=False))
    if given and (len(given) != len(files) or by_name.keys() != {*files}):
        raise ValueError(f"archives are {', '.join(path.name for path in given)}; {', '.join(files)} are accepted")
    for path in by_name.values():
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such archive")
    return by_name


def _fetch(path: Path, url: str, info: Any, work: Path, progress: Progress | None) -> Path:
    """The verified archive at `path`, which is downloaded if it is not there, and renamed once it is complete."""
    if path.is_file():
        _verify(path, str(path), info)
        return path
    partial = work / f"{path.name}.partial"
    _download(url, partial, int(info.size), progress)
    _verify(partial, f"download of {url}", info)
    path.parent.mkdir(parents=True, exist_ok=True)
    return partial.replace(path)


def _verify(path: Path, what: str, info: Any) -> None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != info.checksum:
        raise ValueError(f"{what} is not the original archive: its sha256 is {digest}, not {info.checksum}")


def _download(url: str, path: Path, size: int, progress: Progress | None) -> None:
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import urlopen

    message, caught = f"{url}: download failed; --from takes a local copy", (OSError, HTTPException)
    with reporting(message, OSError, caught):
        try:
            response = urlopen(url, timeout=60)
        except HTTPError as error:
            error.close()  # it holds the connection
            raise
        with response, path.open("wb") as out:
            while out.tell() <= size and (block := response.read(1 << 20)):
                out.write(block)
                if progress:
                    progress(out.tell(), max(size, out.tell()))


# What an archive holds needs no check: its sha256 was verified.


def _read_cifar10(paths: Sequence[Path]) -> Content:
    """One tar of six files of rows, a label and 3 × 32 × 32 pixels each (https://www.cs.toronto.edu/~kriz/cifar.html)."""
    members = {}
    with tarfile.open(paths[0], "r:gz") as archive:  # members are read by name; nothing is extracted
        for member in archive:
            if member.isfile() and (file := archive.extractfile(member)):
                members[member.name.removeprefix("cifar-10-batches-bin/")] = file.read()

    def rows(*names: str) -> tuple[np.ndarray, np.ndarray]:
        table = np.frombuffer(b"".join(members[name] for name in names), np.uint8).reshape(-1, 3073)
        return table[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), table[:, 0]

    train, test = rows(*(f"data_batch_{i}.bin" for i in range(1, 6))), rows("test_batch.bin")
    return Content(train, test, members["batches.meta.txt"].decode().split())


def _read_mnist(paths: Sequence[Path]) -> Content:
    """IDX: zero, zero, type 8, rank; each length as a big-endian uint32; bytes (http://yann.lecun.com/exdb/mnist)."""

    def idx(path: Path) -> np.ndarray:
        with gzip.open(path) as file:
            raw = file.read()
        lengths = np.frombuffer(raw, ">u4", count=raw[3], offset=4)
        return np.frombuffer(raw, np.uint8, offset=4 + lengths.nbytes).reshape(lengths)

    x_train, y_train, x_test, y_test = map(idx, paths)
    return Content((x_train[..., None], y_train), (x_test[..., None], y_test))


_MNIST = tuple(f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
RECIPES = {
    "cifar10": Recipe(("cifar-10-binary.tar.gz",), _read_cifar10, ids=True),
    "mnist": Recipe(_MNIST, _read_mnist),
    "fashion_mnist": Recipe(_MNIST, _read_mnist),
}


# Writing


def _write(tfds_builder: Any, work: Path, content: Content, ids: bool, progress: Progress | None) -> None:
    import tensorflow_datasets as tfds
    from PIL import Image

    done, total = itertools.count(1), len(content.train[1]) + len(content.test[1])

    def examples(split: str, images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
        for i, (pixels, label) in enumerate(zip(images, labels, strict=True)):
            png = io.BytesIO()
            Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(png, "PNG")
            png.seek(0)
            yield i, {"image": png, "label": int(label)} | ({"id": f"{split}_{i:05d}"} if ids else {})
            if progress:
                progress(next(done), total)

    class Builder(tfds_builder, skip_registration=True):  # type: ignore[call-arg]
        name = tfds_builder.name

        def _split_generators(self, _: object) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
            if content.classes:
                self.info.features["label"].names = content.classes
            return {"train": examples("train", *content.train), "test": examples("test", *content.test)}

        def _log_download_bytes(self) -> None:  # TFDS would print where it writes, which is a temporary folder
            pass

        _log_download_done = _log_download_bytes

    tfds.disable_progress_bar()
    with reporting(f"{work.parent}: writing failed", OSError, RuntimeError):  # array_record's for what it cannot write
        builder = Builder(data_dir=work, file_format="array_record")
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))


def _read_back(directory: Path, content: Content) -> None:
    """Raises OSError unless all records can be read, whose checksums array_record compares, and the labels agree."""
    with reporting(f"{directory.parents[2]}: what was written reads back wrong", OSError, ValueError):
        parts = tfds_source(directory).read().parts
        for (split, examples), (_, labels) in zip(parts.items(), content[:2], strict=True):
            if sorted(example.label for example in examples) != sorted(labels.tolist()):
                raise ValueError(f"labels of {split} differ")
