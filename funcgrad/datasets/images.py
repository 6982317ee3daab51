"""Images that must be decoded — TFDS directories and folders of images — and the cache of what was decoded.

A `Source` says which files there are and decodes them; `cached` keeps what was made of them as memory-mapped arrays,
which are checked against their content each time. TensorFlow is never imported.
"""

import contextlib
import hashlib
import io
import itertools
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_CACHE_FORMAT = 1
_BLOCK_BYTES = 1 << 24
_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg"}
_log = logging.getLogger("funcgrad")

Progress = Callable[[int, int], None]
Size = tuple[int, int] | None


class Part(NamedTuple):
    """Training or test examples, as decoded; `what` is what messages call them."""

    what: str
    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray


class Source(NamedTuple):
    """A directory, the files in it that the result depends on, and what decodes them.

    `decode(size, progress)` gives one part or two, and the class names. What it raises is a ValueError in one line.
    """

    directory: Path
    files: list[Path]
    decode: Callable[[Size, Progress | None], tuple[list[Part], list[str]]]


class _Encoded(NamedTuple):
    """A part before decoding: each image is what messages call it, and a path or the bytes of a PNG or JPEG."""

    what: str
    images: list[tuple[str, Path | bytes]]
    labels: list[int]
    ids: list[Any]


# What TFDS has prepared


def prepared(root: Path, name: str = "[!.]*") -> dict[str, dict[str, Path]]:
    """The versions of each `name` or `name/config` in `root`, the highest last; `incomplete.…` directories are none."""
    found = [path.parent for depth in ("*", "*/*") for path in root.glob(f"{name}/{depth}/dataset_info.json")]
    found = [place for place in found if re.fullmatch(r"\d+\.\d+\.\d+", place.name)]
    versions: dict[str, dict[str, Path]] = {}
    for place in sorted(found, key=lambda place: [int(number) for number in place.name.split(".")]):
        versions.setdefault(place.parent.relative_to(root).as_posix(), {})[place.name] = place
    return dict(sorted(versions.items()))


def find_tfds(name: str | Path, root: Path) -> Path | None:
    """The directory of `name[/config][:version]` in `root`: its highest version, its only config, if not given."""
    parsed = re.fullmatch(r"((\w+)(?:/[^/:]+)?)(?::([\d.]+))?", name) if isinstance(name, str) else None
    if parsed is None:
        return None
    wanted, builder, version = parsed.groups()
    found = {key: versions for key, versions in prepared(root, builder).items() if wanted in (key, builder)}
    if len(found) > 1:
        raise ValueError(f"{wanted} has several configs in {root}: {', '.join(found)}")
    for key, versions in found.items():
        if version and version not in versions:
            raise ValueError(f"{key}:{version} is not in {root}, which has {', '.join(versions)}")
        return versions[version or [*versions][-1]]
    return None


class Prepared(NamedTuple):
    """What a TFDS directory says: its builder, how many train and perhaps test, and the names of the features used."""

    builder: Any
    counts: dict[str, int]
    classes: list[str]
    shape: tuple[int | None, ...]
    image: str
    label: str
    id: str | None


def open_tfds(directory: Path) -> Prepared:
    """Reads the metadata only. Raises ValueError unless one image and one label can be told from it."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(directory)
        features, splits, keys = dict(builder.info.features), builder.info.splits, builder.info.supervised_keys
    except Exception as error:  # whatever TFDS, protobuf or json make of a broken file
        raise ValueError(f"{directory}: TFDS cannot read its metadata ({one_line(error)})") from error
    if (written := getattr(builder.info.file_format, "value", None)) != "array_record":
        raise ValueError(f"{directory} is in {written} format, for TensorFlow only; array_record is accepted")
    chosen = []
    for kind in (tfds.features.Image, tfds.features.ClassLabel):
        named = [key for key, feature in features.items() if isinstance(feature, kind)]
        named = [key for key in named if keys and key in keys] or named
        if len(named) != 1:
            raise ValueError(f"{directory} has {len(named)} {kind.__name__} features; one is accepted: {[*features]}")
        chosen += named
    image, label = chosen
    if features[image].np_dtype != np.uint8:
        raise ValueError(f"{directory}: images are {features[image].np_dtype}; uint8 is accepted")
    if "train" not in splits and len(splits) != 1:
        raise ValueError(f"{directory}: no split is called train: {[*splits]}")
    train = "train" if "train" in splits else next(iter(splits))
    test = [split for split in ("test", "validation") if split in splits and split != train]
    counts = {split: splits[split].num_examples for split in [train, *test[:1]]}
    text_id = "id" if isinstance(features.get("id"), tfds.features.Text) else None
    return Prepared(builder, counts, features[label].names, features[image].shape, image, label, text_id)


def tfds_source(directory: Path) -> Source:
    """A directory written as array_record, in the order of its text `id` if it has one."""

    def decode(size: Size, progress: Progress | None) -> tuple[list[Part], list[str]]:
        from tensorflow_datasets.core.decode import DeserializeMethod
        from tensorflow_datasets.proto import tf_example_pb2

        opened = open_tfds(directory)
        mode = {1: "L", 4: "RGBA"}.get(opened.shape[-1] or 3, "RGB")
        tick = _counter(progress, sum(opened.counts.values()))
        parts: list[Part] = []
        for split in opened.counts:
            rows: list[tuple[Any, int, bytes]] = []
            try:
                # Raw: TFDS would decode every feature, and images by OpenCV where it is installed, which may differ.
                source = opened.builder.as_data_source(split, deserialize_method=DeserializeMethod.RAW_BYTES)
                for i, record in enumerate(source.__getitems__(range(len(source)))):
                    example = tf_example_pb2.Example.FromString(record).features.feature
                    key = example[opened.id].bytes_list.value[0].decode() if opened.id else i
                    image = example[opened.image].bytes_list.value[0]
                    rows.append((key, example[opened.label].int64_list.value[0], image))
            except Exception as error:  # array_record raises RuntimeError, protobuf its own
                raise ValueError(f"{directory}: its {split} records cannot be read ({one_line(error)})") from error
            rows.sort(key=lambda row: row[0])
            part = _Encoded(f"{directory}, {split} split", [], [row[1] for row in rows], [row[0] for row in rows])
            part.images.extend((f"{directory}, {split} example {i}", row[2]) for i, row in enumerate(rows))
            parts += _decode([part], mode, size, tick)
        return parts, opened.classes

    return Source(directory, [path for path in directory.iterdir() if path.is_file()], decode)


# Folders of images


def folder_source(root: Path) -> Source:
    """Class folders of PNG or JPEG images, or train/ and test/ made of these, sorted by path; an id is the path."""

    def folders(parent: Path) -> list[Path]:
        return sorted(path for path in parent.glob("[!.]*") if path.is_dir())

    names = [path.name for path in folders(root)]
    divided = "train" in names and {*names} <= {"train", "test", "validation", "val"}
    tests = [root / name for name in ("test", "validation", "val") if name in names]
    tops = [root / "train", *tests[:1]] if divided else [root]
    classes = [path.name for path in folders(tops[0])]
    parts = [_Encoded(str(top), [], [], []) for top in tops]
    files: list[Path] = []
    for top, part in zip(tops, parts, strict=True):
        for folder in folders(top):
            found = sorted(path for path in folder.rglob("[!.]*") if path.suffix.lower() in _IMAGE_SUFFIXES)
            if not found or folder.name not in classes:
                why = "is not a class of the training part" if found else "holds no PNG or JPEG image"
                raise ValueError(f"{folder} {why}")
            part.images.extend((str(path), path) for path in found)
            part.labels.extend([classes.index(folder.name)] * len(found))
            part.ids.extend(path.relative_to(root).as_posix() for path in found)
            files += found
        if not part.images:
            raise ValueError(f"{top}: no class folders of PNG or JPEG images in it")

    def decode(size: Size, progress: Progress | None) -> tuple[list[Part], list[str]]:
        return _decode(parts, None, size, _counter(progress, len(files))), classes

    return Source(root, files, decode)


# Decoding


def _counter(progress: Progress | None, total: int) -> Callable[[], None]:
    done = itertools.count(1)
    return lambda: progress(next(done), total) if progress else None


def _decode(parts: Sequence[_Encoded], mode: str | None, size: Size, tick: Callable[[], None]) -> list[Part]:
    """Images (N, H, W, C) uint8, resized to `size`, all of one shape; mode None: grey if all are, else RGB."""
    encoded = [image for part in parts for image in part.images]
    images = np.empty((0, 0, 0, 0), np.uint8)
    sizes: list[tuple[str, tuple[int, ...]]] = []
    all_grey = mode is None
    for i, (what, source) in enumerate(encoded):
        pixels, grey = _pixels(what, source, mode or "RGB", size)
        all_grey = all_grey and grey
        sizes.append((what, pixels.shape[:2]))
        images = np.empty((len(encoded), *pixels.shape), np.uint8) if i == 0 else images
        if images.shape[1:] == pixels.shape:
            images[i] = pixels
        tick()
    common = Counter(side for _, side in sizes).most_common(1)[0][0] if sizes else ()
    if odd := [f"{what} ({side[0]}×{side[1]})" for what, side in sizes if side != common]:
        odd = odd[:5] + ([f"and {len(odd) - 5} more"] if len(odd) > 5 else [])
        usual = f"most images are {common[0]}×{common[1]}"
        raise ValueError(f"image sizes differ and no size is given to resize them: {usual}, but {', '.join(odd)}")
    images = images[..., :1].copy() if all_grey else images
    split = np.split(images, np.cumsum([len(part.images) for part in parts])[:-1])
    return [
        Part(part.what, pixels, np.array(part.labels, np.int64), np.array(part.ids))
        for part, pixels in zip(parts, split, strict=True)
    ]


def _pixels(what: str, source: Path | bytes, mode: str, size: Size) -> tuple[np.ndarray, bool]:
    """One image (H, W, C), and whether it is grey."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"mode {image.mode}; 8 bits a channel are accepted")
            plain = image.convert("RGBA") if image.mode == "P" else image  # a palette may hold transparency
            plain = plain.convert(mode)
            pixels = np.asarray(plain.resize(size[::-1], Image.Resampling.BILINEAR) if size else plain)
            return pixels.reshape(*pixels.shape[:2], -1), image.mode in ("1", "L", "LA")
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, zlib.error, …
        raise ValueError(f"{what}: not a readable PNG or JPEG image ({one_line(error)})") from error


# The cache


def cached(source: Source, options: object, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What `make` makes of the source, kept in a directory named by a hash of all that it depends on.

    Arrays whose name ends in "images" come memory-mapped. `options` is anything that JSON can write.
    """
    import platformdirs

    key = hashlib.sha256(json.dumps([_CACHE_FORMAT, str(source.directory.resolve()), options]).encode())
    for file in sorted(source.files):
        stat = file.stat()
        key.update(
            os.fsencode(
                f"{file.relative_to(source.directory)}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}\n"
            )
        )
        key.update(file.read_bytes() if file.suffix == ".json" else b"")  # dataset_info.json, features.json
    root = Path(os.environ.get("FUNCGRAD_CACHE_DIR") or platformdirs.user_cache_dir("funcgrad"))
    place = root / key.hexdigest()[:32]
    if (kept := _read_cache(place)) is not None:
        return kept
    arrays = make()
    try:
        _write_cache(place, arrays)
    except OSError as error:
        _log.warning("decoded images are not kept for next time: %s", one_line(error))
        return arrays
    kept = _read_cache(place)
    return arrays if kept is None else kept


def _read_cache(place: Path) -> dict[str, np.ndarray] | None:
    """The arrays in `place` if it is there, whole, and hashes to what was written; else None, and it is removed."""
    if not place.is_dir():
        return None
    try:
        digests = json.loads((place / "digests.json").read_text())
        if {*digests} != {path.stem for path in place.glob("*.npy")}:
            raise ValueError("digests.json lists other arrays than there are")
        arrays = {}
        for key in digests:
            arrays[key] = np.load(place / f"{key}.npy", "r" if key.endswith("images") else None, allow_pickle=False)
            if digest(arrays[key]) != digests[key]:
                raise ValueError(f"the content of {key}.npy has changed")
        return arrays
    except Exception as error:  # anything at all may lie there
        _log.warning("the decoded images in %s are damaged (%s) and are decoded again", place, one_line(error))
        shutil.rmtree(place, ignore_errors=True)
        return None


def _write_cache(place: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes aside, then renames. Nothing is synced to disk: what a crash tears fails its hash."""
    place.parent.mkdir(parents=True, exist_ok=True)
    for old in place.parent.glob("tmp-*"):  # no writer takes an hour: its process is dead
        with contextlib.suppress(FileNotFoundError):  # another process removes it too
            if time.time() - old.stat().st_mtime > 3600:
                shutil.rmtree(old, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix="tmp-", dir=place.parent))
    try:
        for key, array in arrays.items():
            np.save(temporary / f"{key}.npy", array, allow_pickle=False)
        (temporary / "digests.json").write_text(json.dumps({key: digest(array) for key, array in arrays.items()}))
        try:
            temporary.rename(place)
        except OSError:  # another process was first: its copy is as good
            if not place.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def digest(array: np.ndarray) -> str:
    """The sha256 of dtype, shape and content, in C order and native bytes, read in blocks."""
    content = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    for _, block in blocks(array):
        content.update(np.ascontiguousarray(block).data)
    return content.hexdigest()


def blocks(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Rows of about 16 MB at a time, each with the number of its first row, so that a mapped array stays on disk."""
    rows = max(1, _BLOCK_BYTES // max(1, array[:1].nbytes))
    return ((start, array[start : start + rows]) for start in range(0, len(array), rows))


def one_line(error: BaseException) -> str:
    """The message of an exception, for use within another's."""
    return " ".join(str(error).split())[:200] or type(error).__name__
