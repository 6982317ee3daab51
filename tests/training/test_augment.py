"""Augmentations draw what they say, each outcome in its share, and change neither shape nor dtype."""

from collections import Counter
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcgrad.training.augment import AUGMENTATIONS, cutout, flip, make_augment, mixup, shift

DRAWS = 3000
KEYS = jax.random.split(jax.random.key(0), DRAWS)
COLOR = np.arange(1, 61, dtype=np.uint8).reshape(4, 5, 3)  # no two numbers alike, none is 0
GREY = COLOR[..., 0]
ALL = "flip,shift:2,shift:1:edge,cutout:2"
every_image = pytest.mark.parametrize("image", [COLOR, GREY], ids=["color", "grey"])


def drawn(augment: Callable[..., jax.Array], image: np.ndarray) -> np.ndarray:
    return np.asarray(jax.jit(jax.vmap(augment, (0, None)))(KEYS, image))


def check_even(outcomes: np.ndarray, possible: Iterable[np.ndarray]) -> None:
    """Every outcome is one of the possible ones, and all of these come up equally often, to five standard errors."""
    expected = [image.tobytes() for image in possible]
    assert len(set(expected)) == len(expected)
    counts = Counter(outcome.tobytes() for outcome in outcomes)
    assert set(counts) == set(expected)
    share = 1 / len(expected)
    errors = (share * (1 - share) / len(outcomes)) ** 0.5
    for count in counts.values():
        assert count / len(outcomes) == pytest.approx(share, abs=5 * errors)


def windows(image: np.ndarray, pixels: int, mode: str = "constant") -> list[np.ndarray]:
    """Every crop of the image's size out of the padded image."""
    height, width = image.shape[:2]
    padded = np.pad(image, [(pixels, pixels)] * 2 + [(0, 0)] * (image.ndim - 2), mode=mode)
    corners = np.ndindex(2 * pixels + 1, 2 * pixels + 1)
    return [padded[row : row + height, column : column + width] for row, column in corners]


def without_square(image: np.ndarray, row: int, column: int, size: int) -> np.ndarray:
    """DeVries and Taylor's loop: a square around (row, column), of which the part inside the image becomes 0."""
    changed = image.copy()
    top, left = row - size // 2, column - size // 2
    changed[max(0, top) : max(0, top + size), max(0, left) : max(0, left + size)] = 0
    return changed


@every_image
def test_half_of_the_images_are_mirrored(image: np.ndarray) -> None:
    check_even(drawn(flip, image), [image, image[:, ::-1]])


@pytest.mark.exhaustive
@every_image
@pytest.mark.parametrize(("fill", "mode"), [("zero", "constant"), ("edge", "edge")])
def test_a_shift_is_a_random_crop_of_the_padded_image(image: np.ndarray, fill: str, mode: str) -> None:
    check_even(drawn(lambda key, x: shift(key, x, 1, fill), image), windows(image, 1, mode))


def test_a_shift_of_no_pixels_changes_nothing() -> None:
    np.testing.assert_array_equal(shift(KEYS[0], jnp.asarray(COLOR), 0), COLOR)


@pytest.mark.exhaustive
@every_image
@pytest.mark.parametrize("size", [1, 2, 3])
def test_cutout_blanks_a_square_around_any_pixel(image: np.ndarray, size: int) -> None:
    possible = [without_square(image, *centre, size) for centre in np.ndindex(image.shape[:2])]
    check_even(drawn(lambda key, x: cutout(key, x, size), image), possible)


@pytest.mark.exhaustive
def test_a_square_larger_than_the_image_blanks_all_of_it() -> None:
    np.testing.assert_array_equal(cutout(KEYS[0], jnp.asarray(COLOR), 20), np.zeros_like(COLOR))


@pytest.mark.exhaustive
def test_augmentations_follow_one_another_and_draw_independently() -> None:
    possible = [window for image in (GREY, GREY[:, ::-1]) for window in windows(image, 1)]
    check_even(drawn(make_augment("flip,shift:1"), GREY), possible)


@pytest.mark.exhaustive
def test_the_same_augmentation_twice_draws_twice() -> None:
    centres = list(np.ndindex(GREY.shape))
    possible = {without_square(without_square(GREY, *one, 1), *two, 1).tobytes() for one in centres for two in centres}
    assert {x.tobytes() for x in drawn(make_augment("cutout:1,cutout:1"), GREY)} == possible


@pytest.mark.exhaustive
def test_defaults_are_those_of_the_papers() -> None:
    """4 pixels of zeros around, as in He et al.; a square of 8."""
    image = np.random.default_rng(0).integers(1, 256, (32, 32, 3), dtype=np.uint8)
    crops = {window.tobytes() for window in windows(image, 4)}
    assert {x.tobytes() for x in drawn(shift, image)} == crops
    assert max((x == 0).all(axis=-1).sum() for x in drawn(cutout, image)) == 64


@pytest.mark.exhaustive
@every_image
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float16, jnp.bfloat16, np.int32])
def test_shape_and_dtype_are_kept_and_every_number_is_one_of_the_image_or_zero(dtype: type, image: np.ndarray) -> None:
    changed = jax.jit(jax.vmap(make_augment(ALL), (0, None)))(KEYS[:8], jnp.asarray(image, dtype))
    assert changed.shape == (8, *image.shape)
    assert changed.dtype == dtype
    assert set(np.unique(np.asarray(changed, np.float64))) <= {0.0, *image.ravel().astype(np.float64).tolist()}


@pytest.mark.exhaustive
def test_one_image_alone_changes_as_it_does_in_a_batch_and_another_key_changes_it_otherwise() -> None:
    augment, images = make_augment(ALL), np.stack([COLOR, COLOR[::-1], COLOR, COLOR])
    batch = jax.jit(jax.vmap(augment))(KEYS[:4], images)
    np.testing.assert_array_equal(batch[1], jax.jit(augment)(KEYS[1], images[1]))
    assert len({np.asarray(batch[i]).tobytes() for i in (0, 2, 3)}) == 3  # the same image, three keys


def test_names_may_come_as_a_text_or_one_by_one() -> None:
    text, parts = make_augment(" flip, shift:2:edge"), make_augment(["flip", "shift:2:edge"])
    for key in KEYS[:3]:
        np.testing.assert_array_equal(text(key, jnp.asarray(COLOR)), parts(key, jnp.asarray(COLOR)))


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_mixup_is_the_mixture_by_its_share(dtype: type) -> None:
    one, other = COLOR.astype(dtype), COLOR[::-1].astype(dtype)
    mixed, shares = jax.jit(jax.vmap(mixup, (0, None, None)))(KEYS, one, other)
    assert mixed.dtype == np.float32
    own = np.asarray(shares, np.float64)[:, None, None, None]
    np.testing.assert_allclose(mixed, own * one + (1 - own) * other, rtol=1e-5, atol=1e-4)


@pytest.mark.exhaustive
@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_follow_the_beta_distribution(alpha: float) -> None:
    """Mean 1/2, variance 1 / (8·alpha + 4); alpha 1 is the uniform distribution."""
    image = jnp.zeros((1, 1))
    shares = np.asarray(jax.vmap(lambda key: mixup(key, image, image, jnp.asarray(alpha))[1])(KEYS), np.float64)
    variance = 1 / (8 * alpha + 4)
    assert ((shares >= 0) & (shares <= 1)).all()
    assert shares.mean() == pytest.approx(0.5, abs=5 * (variance / DRAWS) ** 0.5)
    assert shares.var() == pytest.approx(variance, rel=0.1)
    if alpha == 1:
        assert np.abs(np.sort(shares) - np.linspace(0, 1, DRAWS)).max() < 1.95 / DRAWS**0.5  # Kolmogorov, 1 in 1000


@pytest.mark.exhaustive
@pytest.mark.parametrize("names", [ALL, "mixup"])
def test_augmentations_lower_for_every_platform(names: str) -> None:
    def batch(key: jax.Array, images: jax.Array) -> jax.Array:
        keys = jax.random.split(key, len(images))
        if names == "mixup":
            return jax.vmap(mixup)(keys, images, images[::-1])[0]
        return jax.vmap(make_augment(names))(keys, images)

    shapes = jax.eval_shape(lambda: jax.random.key(0)), jax.ShapeDtypeStruct((16, 32, 32, 3), np.uint8)
    exported = jax.export.export(jax.jit(batch), platforms=("cpu", "cuda", "tpu"))(*shapes)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert exported.out_avals[0].shape == (16, 32, 32, 3)


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("shape", [(3072,), (), (2, 4, 5, 3)])
def test_what_is_no_image_is_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the whole message is compared)
        make_augment(name)(KEYS[0], jnp.zeros(shape))
    assert str(error.value) == (
        f"image: needs (height, width) or (height, width, channels), got shape {shape}; "
        "feature vectors and flattened images cannot be augmented"
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("flip,rotate:3", "augment: 'rotate' is unknown; choose one of flip, shift, cutout"),
        ("", "augment: '' is unknown; choose one of flip, shift, cutout"),
        ([], "augment: needs one or more of flip, shift, cutout; got none"),
        ("flip:2", "augment: 'flip:2' has too many arguments; the form is flip"),
        ("shift:2:edge:3", "augment: 'shift:2:edge:3' has too many arguments; the form is shift:pixels:fill"),
        ("shift:-1", "augment: 'shift:-1': pixels: needs a whole number of at least 0, got -1"),
        ("shift:1.5", "augment: 'shift:1.5': pixels: needs a whole number of at least 0, got '1.5'"),
        ("shift:4:wrap", "augment: 'shift:4:wrap': fill: 'wrap' is unknown; choose one of zero, edge"),
        ("cutout:0", "augment: 'cutout:0': size: needs a whole number of at least 1, got 0"),
    ],
)
def test_a_wrong_augmentation_is_named_with_what_would_be_accepted(names: str, message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the whole message is compared)
        make_augment(names)
    assert str(error.value) == message


def test_images_that_cannot_be_mixed_are_refused() -> None:
    with pytest.raises(ValueError, match=r"other: needs float32\[2, 2\] like the first, got float32\[2, 3\]"):
        mixup(KEYS[0], jnp.zeros((2, 2)), jnp.zeros((2, 3)))
    with pytest.raises(ValueError, match="alpha: must be above 0 and finite, got 0"):
        mixup(KEYS[0], jnp.zeros((2, 2)), jnp.zeros((2, 2)), 0)
