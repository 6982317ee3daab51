"""Images that must be decoded: a folder of class folders, and the decoding itself, which TFDS's records share."""

import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from funcgrad.datasets.arrays import RawSplit
from funcgrad.files import listed, one_line

_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg"}

Progress = Callable[[int, int], None]  # called with (done, total)
Size = tuple[int, int] | None


class Example(NamedTuple):
    """An image before decoding: its name in messages, its file or the bytes of a PNG or JPEG, its label and its id."""

    name: str
    image: Path | bytes
    label: int
    id: str | int


class Encoded(NamedTuple):
    """One or two parts by their name in messages; mode: Pillow's, or None: grey if every image is, else RGB."""

    parts: Mapping[str, Sequence[Example]]
    classes: Sequence[str]
    mode: str | None


class Source(NamedTuple):
    """A directory, the files in it that the result depends on, and what reads them: ValueError if they are damaged."""

    directory: Path
    files: Sequence[Path]
    read: Callable[[], Encoded]


def folder_source(root: Path) -> Source:
    """Class folders of PNG or JPEG images, or train/ and test/ made of these, sorted by path; an id is the path."""
    names = [path.name for path in _folders(root)]
    is_split = "train" in names and {*names} <= {"train", "test", "validation", "val"}
    tests = [root / name for name in ("test", "validation", "val") if name in names]
    tops = [root / "train", *tests[:1]] if is_split else [root]
    classes = [path.name for path in _folders(tops[0])]
    parts = {str(top): [*_examples(root, top, classes)] for top in tops}
    files = [Path(example.name) for examples in parts.values() for example in examples]
    return Source(root, files, lambda: Encoded(parts, classes, None))


def decode(encoded: Encoded, size: Size, progress: Progress | None) -> list[RawSplit]:
    """Images (N, H, W, C) uint8 of one shape, resized to `size` (bilinear, antialiased), for each part.

    Raises ValueError if an image is not readable, or their sizes differ and `size` is None.
    """
    examples = [example for part in encoded.parts.values() for example in part]
    images = np.empty((0, 0, 0, 0), np.uint8)
    sizes: list[tuple[int, ...]] = []
    all_grey = encoded.mode is None
    for i, example in enumerate(examples):
        pixels, is_grey = _pixels(example, encoded.mode or "RGB", size)
        all_grey = all_grey and is_grey
        sizes.append(pixels.shape[:2])
        images = np.empty((len(examples), *pixels.shape), np.uint8) if i == 0 else images
        if images.shape[1:] == pixels.shape:
            images[i] = pixels
        if progress:
            progress(i + 1, len(examples))
    common = Counter(sizes).most_common(1)[0][0] if sizes else ()
    pairs = zip(examples, sizes, strict=True)
    if odd := [f"{example.name} ({side[0]}×{side[1]})" for example, side in pairs if side != common]:
        usual = f"most images are {common[0]}×{common[1]}"
        raise ValueError(f"image sizes differ and no size is given to resize them: {usual}, but {listed(odd, 5)}")
    images = images[..., :1].copy() if all_grey else images
    ends = np.cumsum([len(part) for part in encoded.parts.values()])[:-1]
    return [
        RawSplit(name, pixels, name, np.array([x.label for x in part], np.int64), np.array([x.id for x in part]))
        for (name, part), pixels in zip(encoded.parts.items(), np.split(images, ends), strict=True)
    ]


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.glob("[!.]*") if path.is_dir())


def _examples(root: Path, top: Path, classes: Sequence[str]) -> Iterator[Example]:
    if not (folders := _folders(top)):
        raise ValueError(f"{top}: no class folders of PNG or JPEG images in it")
    for folder in folders:
        found = sorted(path for path in folder.rglob("[!.]*") if path.suffix.lower() in _IMAGE_SUFFIXES)
        if not found or folder.name not in classes:
            why = "is not a class of the training part" if found else "holds no PNG or JPEG image"
            raise ValueError(f"{folder} {why}")
        label = classes.index(folder.name)
        yield from (Example(str(path), path, label, path.relative_to(root).as_posix()) for path in found)


def _pixels(example: Example, mode: str, size: Size) -> tuple[np.ndarray, bool]:
    """One image (H, W, C), and whether it is grey."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(example.image) if isinstance(example.image, bytes) else example.image) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"mode {image.mode}; 8 bits a channel are accepted")
            converted = image.convert("RGBA") if image.mode == "P" else image  # a palette may hold transparency
            converted = converted.convert(mode)
            pixels = np.asarray(converted.resize(size[::-1], Image.Resampling.BILINEAR) if size else converted)
            return pixels.reshape(*pixels.shape[:2], -1), image.mode in ("1", "L", "LA")
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, zlib.error, …
        raise ValueError(f"{example.name}: not a readable PNG or JPEG image ({one_line(error, 200)})") from error
