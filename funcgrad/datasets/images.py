"""From encoded images to pixels as people see them, all of one size and one number of channels.

The images are files of a folder (`folders`) or records of TFDS (`tfds_reader`); Pillow decodes them.
"""

import functools
import io
import math
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from funcgrad.files import counted, listed, one_line

_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")  # Pillow's names; MPO: JPEG of phones
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")  # Pillow's modes
_ORIENTATION = 0x0112  # the EXIF tag
_UPRIGHT = {  # how Pillow turns an image of each orientation
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}

Progress = Callable[[int, int], None]  # called with (done, total)
Size = tuple[int, int] | None


class Example(NamedTuple):
    """An image before decoding: its name in messages, its file or its bytes, its label, its id, perhaps its group."""

    name: str
    image: Path | bytes
    label: int
    id: str | int
    group: str | int | None = None


class Encoded(NamedTuple):
    """The parts of a source: "train", and perhaps "validation" and "test".

    mode: Pillow's, of the decoded images; None: grey if every image is, else RGB. uniform: whether all are of one size.
    split: how the test part was taken, if there is one.
    """

    parts: Mapping[str, Sequence[Example]]
    classes: Sequence[str]
    mode: str | None = None
    uniform: bool = False
    split: str = ""


class Source(NamedTuple):
    """A directory, the files in it that the result depends on, and what reads them: ValueError if they are damaged.

    identity: what else it depends on, as plain JSON. notes, details: as in a `Dataset`, what is known before reading.
    """

    directory: Path
    files: Sequence[Path]
    read: Callable[[], Encoded]
    identity: object = None
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = MappingProxyType({})


class Decoding(NamedTuple):
    """How images become arrays.

    size: (H, W) to resize to. channels: 1, 3, or those of the source. background: what shows through transparency.
    skip_unreadable: leave out what cannot be read.
    """

    size: Size = None
    channels: int | None = None
    background: tuple[int, int, int] = (255, 255, 255)
    skip_unreadable: bool = False


class Decoded(NamedTuple):
    """Images (kept, H, W, C) uint8, which examples were kept (N,), and what was converted and left out."""

    images: np.ndarray
    kept: np.ndarray
    notes: tuple[str, ...]
    details: dict[str, Any]


class Header(NamedTuple):
    """What an image says of itself before its pixels are read: (H, W) as it is to be seen, and whether it is grey."""

    size: tuple[int, int]
    is_grey: bool


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those that this Pillow reads."""
    from PIL import Image

    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@functools.cache
def suffixes() -> frozenset[str]:
    """Those of files that are read as images."""
    from PIL import Image

    return frozenset(name for name, kind in Image.registered_extensions().items() if kind in _formats())


def decode(encoded: Encoded, decoding: Decoding, progress: Progress | None = None) -> Decoded:
    """The images of all parts, one after the other; transparency is kept only where the mode of the source has it.

    Sizes are compared before anything is decoded. Raises ValueError if they differ and no size is given, and if images
    cannot be read: all of them are named.
    """
    examples = [example for part in encoded.parts.values() for example in part]
    is_known = encoded.mode and (encoded.uniform or decoding.size)
    headers, unreadable = read_headers(examples[:1] if is_known else examples)
    size = decoding.size or _common_size(examples, headers)
    mode = {1: "L", 3: "RGB", None: encoded.mode}[decoding.channels]
    mode = mode or ("L" if all(header.is_grey for header in headers.values()) else "RGB")
    images = _array((len(examples), *size, {"L": 1, "RGB": 3, "RGBA": 4}[mode]))
    done: Counter[str] = Counter()
    for i, example in enumerate(examples):
        if i not in unreadable:
            try:
                pixels, conversions = _pixels(example.image, mode, decoding)
                if pixels.shape[:2] != size:
                    raise ValueError("its header gives another size")
                images[i] = pixels.reshape(images.shape[1:])
                done.update(conversions)
            except MemoryError:
                raise
            except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, zlib.error, …
                unreadable[i] = one_line(error, 200)
        if progress:
            progress(i + 1, len(examples))
    kept = np.array([i not in unreadable for i in range(len(examples))], bool)
    if unreadable and not (decoding.skip_unreadable and kept.any()):
        remedy = "; --skip-unreadable leaves them out" if kept.any() else ""
        raise ValueError(f"{unreadable_images(examples, unreadable)}{remedy}")
    notes = [f"{count:,} of {counted(len(examples), 'image')}: {what}" for what, count in done.items()]
    details: dict[str, Any] = {"converted": dict(done)} if done else {}
    if unreadable:
        notes.append(f"{unreadable_images(examples, unreadable)}; left out")
        details["unreadable"] = [examples[i].id for i in sorted(unreadable)]
    return Decoded(images if kept.all() else images[kept], kept, tuple(notes), details)


def read_headers(examples: Sequence[Example]) -> tuple[dict[int, Header], dict[int, str]]:
    """What the images say of themselves, by their number; and why the others cannot be read."""
    headers, unreadable = {}, {}
    for i, example in enumerate(examples):
        try:
            with _opened(example.image) as image:
                width, height = image.size
                headers[i] = Header((width, height) if _is_turned(image) else (height, width), image.mode in _GREY)
        except Exception as error:  # as above
            unreadable[i] = one_line(error, 200)
    return headers, unreadable


def unreadable_images(examples: Sequence[Example], reasons: Mapping[int, str]) -> str:
    """Which images cannot be read, and why."""
    which = listed(f"{examples[i].name} ({reasons[i]})" for i in sorted(reasons))
    return f"{len(reasons):,} of {counted(len(examples), 'image')} cannot be read: {which}"


def differing_sizes(examples: Sequence[Example], headers: Mapping[int, Header]) -> str:
    """Which images are not of the usual size; empty if all are."""
    sizes = Counter(header.size for header in headers.values())
    usual = max(sizes, key=sizes.__getitem__, default=(0, 0))
    odd = [f"{examples[i].name} ({x.size[0]}×{x.size[1]})" for i, x in headers.items() if x.size != usual]
    return f"most images are {usual[0]}×{usual[1]}, but {listed(odd, 5)}" if odd else ""


def _common_size(examples: Sequence[Example], headers: Mapping[int, Header]) -> tuple[int, int]:
    if which := differing_sizes(examples, headers):
        raise ValueError(f"image sizes differ, and no size is given (--size) to resize them: {which}")
    return next((header.size for header in headers.values()), (0, 0))


def _array(shape: tuple[int, ...]) -> np.ndarray:
    """Raises ValueError if it would be larger than the memory of this machine, which would then kill the process."""
    needed = math.prod(shape)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else needed
    if needed > memory:
        images = f"{counted(shape[0], 'image')} of {' × '.join(map(str, shape[1:]))}"
        sizes = f"{images}: {needed / 2**30:,.1f} GiB, and this machine has {memory / 2**30:,.1f} GiB of memory"
        raise ValueError(f"{sizes}; --size N makes them smaller, --limit-train and --per-class take fewer")
    return np.empty(shape, np.uint8)


@contextmanager
def _opened(image: Path | bytes) -> Iterator[Any]:
    """The image as Pillow opens it, without a word of Pillow's; only its header is read."""
    from PIL import Image

    file = io.BytesIO(image) if isinstance(image, bytes) else image
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=_formats()) as opened:
                yield opened
    except Image.UnidentifiedImageError:
        raise ValueError("empty, or not an image of a known format") from None
    except Image.DecompressionBombError:
        raise ValueError(f"larger than the limit of {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels") from None
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error


def _is_turned(image: Any) -> bool:
    """Whether width and height are exchanged where the image is seen upright; of TIFF, Pillow has done so."""
    late = image.format == "PNG" and "exif" not in image.info  # it would be looked for behind the pixels
    return image.format != "TIFF" and not late and _orientation(image) >= 5


def _orientation(image: Any) -> int:
    """1: as it is to be seen; 2 to 8: a key of `_UPRIGHT`."""
    try:
        value = image.getexif().get(_ORIENTATION)
    except Exception:  # what nobody can read says nothing
        return 1
    return value if value in _UPRIGHT else 1


def _pixels(encoded: Path | bytes, mode: str, decoding: Decoding) -> tuple[np.ndarray, list[str]]:
    """One image, upright, and what was converted."""
    from PIL import Image

    conversions = []
    with _opened(encoded) as image:
        if image.format != "MPO" and getattr(image, "is_animated", False):
            conversions.append("several frames or pages, of which the first is taken")
        if decoding.size:
            height, width = decoding.size
            least = (
                (2 * height, 2 * width) if _is_turned(image) else (2 * width, 2 * height)
            )  # so that it differs by ±2
            image.draft(None, least)  # JPEG at reduced scale
        image.load()
        if image.mode == "F":
            raise ValueError("floats; integers of 8 or 16 bits are accepted")
        upright = image
        if (orientation := _orientation(image)) > 1:
            upright = image.transpose(Image.Transpose[_UPRIGHT[orientation]])
            conversions.append("turned upright, as EXIF says")
        if upright.mode.startswith("I"):
            upright = _scaled_to_8_bits(upright)
            conversions.append("16-bit grey, scaled to 8 bits (65535 becomes 255)")
        if mode != "RGBA" and upright.has_transparency_data:
            upright = upright.convert("RGBA")
            if upright.getchannel("A").getextrema()[0] < 255:
                canvas = Image.new("RGBA", upright.size, decoding.background)
                upright = Image.alpha_composite(canvas, upright)
                conversions.append(f"transparent, composited on {_color(decoding.background)}")
        converted = upright.convert(mode)
        if decoding.size:
            converted = converted.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(converted), conversions


def _scaled_to_8_bits(image: Any) -> Any:
    from PIL import Image

    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65_535:
        raise ValueError(f"integers from {values.min()} to {values.max()}; 8 or 16 bits are accepted")
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


def _color(rgb: tuple[int, int, int]) -> str:
    return "white" if rgb == (255, 255, 255) else "#{:02x}{:02x}{:02x}".format(*rgb)
