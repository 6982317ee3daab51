"""CIFAR-10, MNIST and Fashion-MNIST, from their archives to the array_record directory of TFDS, without TensorFlow.

TFDS's own builders need TensorFlow to unpack and to encode. What is kept of them is their features, their checksums and
their keys, so that the result reads, and is ordered, as if they had written it.
"""

import contextlib
import gzip
import hashlib
import http.client
import io
import itertools
import json
import math
import shutil
import tarfile
import tempfile
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_BLOCK_BYTES = 1 << 20

Progress = Callable[[int, int], None]


class Content(NamedTuple):
    """What the archives hold: images (N, H, W, C) uint8 and labels (N,) uint8, and class names where they say them."""

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    classes: list[str] | None = None


class Recipe(NamedTuple):
    """What differs between the data sets.

    files: the names of the archives. counts: training and test examples. read: from paths, in the order of `files`.
    ids: whether TFDS gives each example an id. checksums, urls: sha256 and address by file name; TFDS's own if None.
    """

    files: tuple[str, ...]
    counts: tuple[int, int]
    read: Callable[[Sequence[Path]], Content]
    ids: bool = False
    checksums: Mapping[str, str] | None = None
    urls: Mapping[str, str] | None = None


def prepare(
    name: str,
    data_dir: str | Path,
    *,
    archives: Sequence[str | Path] = (),
    recipe: Recipe | None = None,
    progress: Progress | None = None,
) -> Path:
    """Writes `data_dir`/NAME/VERSION and returns it; where it is already, this takes no time.

    Args:
      name: a key of RECIPES.
      archives: the original archives, or one folder of them, told apart by their file names (a single one may be called
        anything); if empty, they are downloaded into `data_dir`/downloads/NAME and stay there.
      recipe: in place of RECIPES[name].
      progress: called as progress(done, total), in bytes during a download, in examples during writing.

    All of it is written aside, read back, then renamed: interrupted at any moment, nothing looks prepared, and what a
    killed run left behind is removed by the next.

    Raises ValueError if the name is unknown or an archive is not the original (size, sha256, format, counts),
    FileNotFoundError if one is missing, OSError if downloading or writing fails.
    """
    if name not in RECIPES:
        raise ValueError(f"name is {name!r}; {', '.join(RECIPES)} can be prepared")
    import fcntl  # Unix alone has it, and the rest of this module needs no Unix

    import tensorflow_datasets as tfds

    recipe = recipe or RECIPES[name]
    stock = tfds.builder_cls(name)
    data_dir = Path(data_dir).expanduser()
    place = data_dir / name / str(stock.VERSION)
    if place.exists():
        return _require_array_record(place)
    local = _match([Path(path).expanduser() for path in archives], recipe.files)
    ours = not data_dir.exists()
    data_dir.mkdir(parents=True, exist_ok=True)
    _sweep(data_dir)
    work = Path(tempfile.mkdtemp(prefix=".preparing-", dir=data_dir))
    try:
        with (work / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            downloads = data_dir / "downloads" / name
            paths = [
                local.get(file) or _fetched(file, downloads, stock, recipe, work, progress) for file in recipe.files
            ]
            for path, file in zip(paths, recipe.files, strict=True):
                _verify(path, *_expected(file, stock, recipe))
            content = recipe.read(paths)
            _check(name, content, recipe.counts)
            _write(stock, work, content, recipe.ids, progress)
            _read_back(work / name / place.name, content)
            place.parent.mkdir(exist_ok=True)
            try:
                (work / name / place.name).rename(place)
            except OSError:  # another process was first: its copy is as good
                if not place.exists():
                    raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if ours:
            with contextlib.suppress(OSError):  # it holds what was wanted, or a download that can be used again
                data_dir.rmdir()
    return _require_array_record(place)


def _require_array_record(place: Path) -> Path:
    try:
        written = json.loads((place / "dataset_info.json").read_text()).get("fileFormat", "of unnamed format")
    except (OSError, ValueError, AttributeError):
        written = "without readable metadata"
    if written != "array_record":
        raise FileExistsError(f"{place} is {written}, not array_record: remove it, or give another --data-dir")
    return place


def _sweep(data_dir: Path) -> None:
    """Removes what killed runs left: a living one holds its lock."""
    import fcntl

    for lock in data_dir.glob(".preparing-*/lock"):
        with contextlib.suppress(OSError), lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)


# Archives


def _match(given: Sequence[Path], files: Sequence[str]) -> dict[str, Path]:
    """The given path of each file, or nothing where none are given."""
    if len(given) == 1 and given[0].is_dir():
        given = [given[0] / file for file in files]
    by_name = {path.name: path for path in given} if len(files) > 1 else dict(zip(files, given, strict=False))
    if given and (len(given) != len(files) or by_name.keys() != {*files}):
        raise ValueError(f"archives are {', '.join(path.name for path in given)}; {', '.join(files)} are accepted")
    for path in by_name.values():
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such archive")
    return by_name


def _expected(file: str, stock: Any, recipe: Recipe) -> tuple[str, int | None]:
    """The sha256 of an archive, and its size where TFDS tells it."""
    if recipe.checksums is not None:
        return recipe.checksums[file], None
    info = next(info for url, info in stock.url_infos.items() if Path(str(url)).name == file)
    return info.checksum, int(info.size)


def _verify(path: Path, sha256: str, size: int | None) -> None:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    if size not in (None, got := path.stat().st_size):
        raise ValueError(f"{path} is not the original archive: it has {got:,} bytes, the original {size:,}")
    if digest.hexdigest() != sha256:
        raise ValueError(f"{path} is not the original archive: its sha256 is {digest.hexdigest()}, not {sha256}")


def _fetched(file: str, downloads: Path, stock: Any, recipe: Recipe, work: Path, progress: Progress | None) -> Path:
    """The path of a download, which gets its name when it is whole; one that is there already is not repeated."""
    if (downloads / file).is_file():
        return downloads / file
    urls = recipe.urls or {Path(str(url)).name: str(url) for url in stock.url_infos}
    sha256, size = _expected(file, stock, recipe)
    partial = work / f"{file}.partial"
    try:
        with urllib.request.urlopen(urls[file], timeout=60) as response, partial.open("wb") as out:
            total = size or int(response.headers.get("Content-Length", 0))
            while block := response.read(_BLOCK_BYTES):
                out.write(block)
                if progress:
                    progress(out.tell(), max(total, out.tell()))
                if total and out.tell() > total:
                    break
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"{urls[file]}: download failed ({_line(error)}); --from takes a local copy") from error
    try:
        _verify(partial, sha256, size)
    except ValueError as error:
        raise ValueError(f"download of {urls[file]}: {error}") from error
    downloads.mkdir(parents=True, exist_ok=True)
    return partial.replace(downloads / file)


def _read_cifar10(paths: Sequence[Path]) -> Content:
    """One tar of six files of rows, a label and 3 × 32 × 32 pixels each (https://www.cs.toronto.edu/~kriz/cifar.html)."""
    held = {}
    try:
        with tarfile.open(paths[0], "r:gz") as archive:  # members are read by name; nothing is extracted
            for member in archive:
                if member.isfile() and (file := archive.extractfile(member)):
                    held[member.name.removeprefix("cifar-10-batches-bin/")] = file.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{paths[0]}: not a whole .tar.gz archive ({_line(error)})") from error

    def rows(*names: str) -> tuple[np.ndarray, np.ndarray]:
        missing = [name for name in names if name not in held]
        joined = b"".join(held.get(name, b"") for name in names)
        if missing or len(joined) % 3073:
            why = f"no {', '.join(missing)} in it" if missing else f"{', '.join(names)} are not rows of 3,073 bytes"
            raise ValueError(f"{paths[0]}: {why}")
        table = np.frombuffer(joined, np.uint8).reshape(-1, 3073)
        return table[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), table[:, 0]

    classes = held.get("batches.meta.txt", b"").decode("utf-8", "replace").split()
    return Content(rows(*(f"data_batch_{i}.bin" for i in range(1, 6))), rows("test_batch.bin"), classes)


def _read_mnist(paths: Sequence[Path]) -> Content:
    """Four IDX files: zero, zero, type 8, rank; each length as a big-endian uint32; bytes (http://yann.lecun.com/exdb/mnist)."""

    def idx(path: Path, *shape: int) -> np.ndarray:
        try:
            with gzip.open(path) as file:
                raw = file.read()
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: not a whole .gz file ({_line(error)})") from error
        start = 4 * (2 + len(shape))
        lengths = tuple(np.frombuffer(raw[4:start], ">u4").tolist()) if len(raw) >= start else ()
        if (
            raw[:4] != bytes([0, 0, 8, 1 + len(shape)])
            or lengths[1:] != shape
            or len(raw) != start + math.prod(lengths)
        ):
            raise ValueError(
                f"{path}: not an IDX file of bytes {('N', *shape)}; it says {lengths} and has {len(raw)} bytes"
            )
        return np.frombuffer(raw, np.uint8, offset=start).reshape(lengths)

    x_train, y_train, x_test, y_test = (
        idx(path, *shape) for path, shape in zip(paths, [(28, 28), ()] * 2, strict=True)
    )
    return Content((x_train[..., None], y_train), (x_test[..., None], y_test))


_MNIST = tuple(f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
RECIPES = {
    "cifar10": Recipe(("cifar-10-binary.tar.gz",), (50_000, 10_000), _read_cifar10, ids=True),
    "mnist": Recipe(_MNIST, (60_000, 10_000), _read_mnist),
    "fashion_mnist": Recipe(_MNIST, (60_000, 10_000), _read_mnist),
}


def _check(name: str, content: Content, counts: tuple[int, int]) -> None:
    for split, (images, labels), count in zip(("train", "test"), content[:2], counts, strict=True):
        if not len(images) == len(labels) == count:
            raise ValueError(f"{name}: {len(images):,} {split} images, {len(labels):,} labels; {count:,} are expected")
        if labels.max(initial=0) > 9:
            raise ValueError(f"{name}: a {split} label is {labels.max()}; 0..9 are expected")
    if content.classes is not None and len(content.classes) != 10:
        raise ValueError(f"{name}: {len(content.classes)} class names; 10 are expected")


# Writing


def _write(stock: Any, work: Path, content: Content, ids: bool, progress: Progress | None) -> None:
    import tensorflow_datasets as tfds
    from PIL import Image
    from tensorflow_datasets.core import registered

    done, total = itertools.count(1), len(content.train[1]) + len(content.test[1])

    def examples(split: str, images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
        for i, (pixels, label) in enumerate(zip(images, labels, strict=True)):
            png = io.BytesIO()
            Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(png, "PNG")
            png.seek(0)
            yield i, {"image": png, "label": int(label)} | ({"id": f"{split}_{i:05d}"} if ids else {})
            if progress:
                progress(next(done), total)

    with registered.skip_registration():  # it keeps the stock builder's name

        class Builder(stock):
            name = stock.name

            def _split_generators(self, _: object) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
                if content.classes:
                    self.info.features["label"].names = content.classes
                return {"train": examples("train", *content.train), "test": examples("test", *content.test)}

            def _log_download_bytes(self) -> None:  # TFDS would print where it writes, which is aside
                pass

            _log_download_done = _log_download_bytes

    tfds.disable_progress_bar()
    try:
        builder = Builder(data_dir=work, file_format="array_record")
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except RuntimeError as error:  # array_record's for what it cannot write
        raise OSError(f"{work.parent}: writing failed ({_line(error)})") from error


def _read_back(directory: Path, content: Content) -> None:
    """Raises OSError unless the counts and the first, middle and last example of each split are as they should be."""
    import tensorflow_datasets as tfds
    from PIL import Image

    try:
        builder = tfds.builder_from_directory(directory)
        for split, (images, labels) in zip(("train", "test"), content[:2], strict=True):
            source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
            if len(source) != len(labels):
                raise RuntimeError(f"{len(source)} {split} examples of {len(labels)}")
            for i in (0, len(labels) // 2, len(labels) - 1):  # in a hashed order
                with Image.open(io.BytesIO(source[i]["image"])) as image:
                    same = (images == np.asarray(image).reshape(images.shape[1:])).all(axis=(1, 2, 3))
                if not (same & (labels == source[i]["label"])).any():
                    raise RuntimeError(f"{split} example {i} differs")
    except (RuntimeError, IndexError) as error:
        raise OSError(f"{directory.parents[2]}: what was written reads back wrong ({_line(error)})") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
