"""Random augmentations of ONE image that preserve its class; `jax.vmap` over images and keys augments a batch.

    augment = make_augment("flip,shift:4,cutout:8")
    augmented = jax.vmap(augment)(jax.random.split(key, len(images)), images)

Images are (height, width) or (height, width, channels) of any dtype, and keep shape and dtype: bytes stay bytes.
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
    """The image, or with probability 1/2 its mirror image (left and right swapped)."""
    _check_image(image)
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def shift(key: Array, image: Array, pixels: int = 4, fill: str = "zero") -> Array:
    """The image translated by −pixels … pixels along each axis, all (2·pixels + 1)² translations equally likely.

    Vacated pixels are 0 or, with fill "edge", the nearest pixel of the image. This is padding followed by a random crop
    (Krizhevsky 2009; He et al. 2016, arXiv:1512.03385, section 4.2).

    Raises `ValueError` unless pixels is a whole number of at least 0 and fill one of the two.
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

    The square's centre is uniform over the pixels, so part of the square may lie outside. The paper cuts after
    normalisation, where 0 is the mean; in bytes it is black.

    Raises `ValueError` unless size is a whole number of at least 1.
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
    """λ · one + (1 − λ) · other, with λ drawn from Beta(alpha, alpha) → (mixed image, λ).

    The loss of the mixed image is λ · (loss with one's label) + (1 − λ) · (loss with the other's): Zhang et al. 2018,
    arXiv:1710.09412. Any two arrays of equal shape and dtype can be mixed; integers become floats.

    Raises `ValueError` for arrays that differ in shape or dtype, or unless alpha is above 0 and finite.
    """
    if one.shape != other.shape or one.dtype != other.dtype:
        raise ValueError(f"other: needs {one.dtype}{[*one.shape]} like the first, got {other.dtype}{[*other.shape]}")
    if isinstance(alpha, Real) and not 0 < alpha < float("inf"):  # otherwise traced: a sweep
        raise ValueError(f"alpha: must be above 0 and finite, got {alpha}")
    dtype = one.dtype if jnp.issubdtype(one.dtype, jnp.floating) else jnp.result_type(float)
    weight = jax.random.beta(key, alpha, alpha)
    own = weight.astype(dtype)
    return own * one.astype(dtype) + (1 - own) * other.astype(dtype), weight


AUGMENTATIONS: dict[str, Callable[..., Array]] = {"flip": flip, "shift": shift, "cutout": cutout}


def make_augment(names: str | Sequence[str]) -> Augment:
    """(key, image) → image: several augmentations in sequence, each with its own key.

    `names` is a string such as "flip,shift:4:edge,cutout:8" or a sequence of its parts: names of `AUGMENTATIONS`, with
    arguments after colons.

    Raises `ValueError` for no name, an unknown one, or invalid arguments.
    """
    parts = names.split(",") if isinstance(names, str) else list(names)
    if not parts:
        raise ValueError(f"augment: needs one or more of {', '.join(AUGMENTATIONS)}; got none")
    return _made(tuple(str(part).strip() for part in parts))


@lru_cache(maxsize=256)  # compiled programs are keyed by function identity: equal names share one
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
    parameters = [*signature(AUGMENTATIONS[name]).parameters][2:]
    if len(words) > len(parameters):
        raise ValueError(f"augment: {text!r} has too many arguments; the form is {':'.join([name, *parameters])}")
    values = (int(word) if word.removeprefix("-").isdecimal() else word for word in words)
    step = partial(AUGMENTATIONS[name], **dict(zip(parameters, values, strict=False)))
    try:  # each checks its own arguments
        jax.eval_shape(lambda image: step(jax.random.key(0), image), jax.ShapeDtypeStruct((1, 1), np.uint8))
    except ValueError as error:
        raise ValueError(f"augment: {text!r}: {error}") from None
    return step


def _check_image(image: Array) -> None:
    if image.ndim not in (2, 3):
        raise ValueError(
            f"image: needs (height, width) or (height, width, channels), got shape {image.shape}; "
            "feature vectors and flattened images cannot be augmented"
        )


def _check_count(argument: str, value: int, lowest: int) -> None:
    if not isinstance(value, Integral) or value < lowest:
        raise ValueError(f"{argument}: needs a whole number of at least {lowest}, got {value!r}")
