"""Random changes of ONE image that leave its class what it was; with a key for each image, `jax.vmap` changes a batch.

    augment = make_augment("flip,shift:4,cutout:8")
    changed = jax.vmap(augment)(jax.random.split(key, len(images)), images)

Images are (height, width) or (height, width, channels) of any dtype, and keep both: bytes stay bytes.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from inspect import signature
from numbers import Integral, Real

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

Augment = Callable[[Array, Array], Array]  # (key, image) → image


def flip(key: Array, image: Array) -> Array:
    """The image or, half of the time, its mirror image: left and right exchanged."""
    _check_image(image)
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def shift(key: Array, image: Array, pixels: int = 4, fill: str = "zero") -> Array:
    """The image moved by −pixels … pixels along each axis, all (2·pixels + 1)² moves equally likely.

    What comes into view is 0 or, with fill "edge", the nearest pixel of the image. This is the same as padding the
    image on all sides and cropping it at random (Krizhevsky 2009; He et al. 2016, arXiv:1512.03385, section 4.2).

    Raises `ValueError` for pixels that are no whole number of at least 0, or another fill.
    """
    _check_image(image)
    _check_count("pixels", pixels, 0)
    if fill not in ("zero", "edge"):
        raise ValueError(f"fill: {fill!r} is unknown; choose one of zero, edge")
    margins = [(pixels, pixels)] * 2 + [(0, 0)] * (image.ndim - 2)
    padded = jnp.pad(image, margins, mode="edge") if fill == "edge" else jnp.pad(image, margins)
    corner = jax.random.randint(key, (2,), 0, 2 * pixels + 1)
    return lax.dynamic_slice(padded, [*corner, *[0] * (image.ndim - 2)], image.shape)


def cutout(key: Array, image: Array, size: int = 8) -> Array:
    """The image with a square of size × size pixels set to 0 (DeVries and Taylor 2017, arXiv:1708.04552).

    The square's centre is any pixel with equal probability, so that part of the square may lie outside. The paper cuts
    after normalisation, where 0 is the mean; in bytes it is black.

    Raises `ValueError` for a size that is no whole number of at least 1.
    """
    _check_image(image)
    _check_count("size", size, 1)
    height, width = image.shape[:2]
    centre = jax.random.randint(key, (2,), 0, np.array([height, width]))
    first = centre - size // 2
    row, column = (jnp.arange(length) - start for length, start in zip((height, width), first, strict=True))
    inside = ((row >= 0) & (row < size))[:, None] & ((column >= 0) & (column < size))[None, :]
    return jnp.where(inside.reshape(height, width, *[1] * (image.ndim - 2)), 0, image)


def mixup(key: Array, one: Array, other: Array, alpha: float | Array = 0.2) -> tuple[Array, Array]:
    """share · one + (1 − share) · other, the share drawn from Beta(alpha, alpha) → (mixed image, share).

    The loss of the mixed image is share · (loss with the one's label) + (1 − share) · (loss with the other's): Zhang et
    al. 2018, arXiv:1710.09412. Any two arrays of one shape and dtype can be mixed; integers become floats.

    Raises `ValueError` for arrays that differ in shape or dtype, or an alpha that is not above 0 and finite.
    """
    if one.shape != other.shape or one.dtype != other.dtype:
        raise ValueError(f"other: needs {one.dtype}{[*one.shape]} as the first, got {other.dtype}{[*other.shape]}")
    if isinstance(alpha, Real) and not 0 < alpha < float("inf"):  # else swept, and traced
        raise ValueError(f"alpha: must be above 0 and finite, got {alpha}")
    dtype = one.dtype if jnp.issubdtype(one.dtype, jnp.floating) else jnp.result_type(float)
    share = jax.random.beta(key, alpha, alpha)
    own = share.astype(dtype)
    return own * one.astype(dtype) + (1 - own) * other.astype(dtype), share


AUGMENTATIONS: dict[str, Callable[..., Array]] = {"flip": flip, "shift": shift, "cutout": cutout}


def make_augment(names: str | Sequence[str]) -> Augment:
    """(key, image) → image, one augmentation after another, each with a key of its own.

    `names` is a text such as "flip,shift:4:edge,cutout:8" or a sequence of its parts: names of `AUGMENTATIONS`, with
    their arguments after colons.

    Raises `ValueError` for no name, an unknown one, or arguments that it does not take.
    """
    parts = names.split(",") if isinstance(names, str) else list(names)
    if not parts:
        raise ValueError(f"augment: needs one name or more of {', '.join(AUGMENTATIONS)}; got none")
    return _made(tuple(str(part).strip() for part in parts))


@lru_cache(maxsize=256)  # programs are compiled for functions by their identity: equal names share one
def _made(parts: tuple[str, ...]) -> Augment:
    steps = [_parsed(part) for part in parts]

    def augment(key: Array, image: Array) -> Array:
        for number, step in enumerate(steps):
            image = step(jax.random.fold_in(key, number), image)
        return image

    return augment


def _parsed(text: str) -> Augment:
    name, *words = text.split(":")
    if name not in AUGMENTATIONS:
        raise ValueError(f"augment: {name!r} is unknown; choose one of {', '.join(AUGMENTATIONS)}")
    taken = [*signature(AUGMENTATIONS[name]).parameters.values()][2:]
    if len(words) > len(taken):
        form = ":".join([name, *(parameter.name for parameter in taken)])
        raise ValueError(f"augment: {text!r} has too many arguments; the form is {form}")
    arguments = {
        parameter.name: int(word) if word.removeprefix("-").isdecimal() else word
        for parameter, word in zip(taken, words, strict=False)
    }
    step = partial(AUGMENTATIONS[name], **arguments)
    try:  # each checks its own arguments
        jax.eval_shape(lambda image: step(jax.random.key(0), image), jax.ShapeDtypeStruct((1, 1), np.uint8))
    except ValueError as error:
        raise ValueError(f"augment: {text!r}: {error}") from None
    return step


def _check_image(image: Array) -> None:
    if image.ndim not in (2, 3):
        raise ValueError(
            f"image: needs (height, width) or (height, width, channels), got shape {image.shape}; "
            "features and flattened images cannot be augmented"
        )


def _check_count(argument: str, value: int, least: int) -> None:
    if not isinstance(value, Integral) or value < least:
        raise ValueError(f"{argument}: needs a whole number of at least {least}, got {value!r}")
