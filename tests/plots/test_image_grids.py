"""Images are drawn as they are, right and wrong ones apart, each with its caption."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from figures import LONG_NAMES, RNG, mistakes, neighbours, texts, title, written

from funcgrad import plots


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1)])
def test_grey_templates_put_zero_in_the_middle_of_the_colours(shape: tuple[int, ...]) -> None:
    weights = RNG.normal(size=(3, 64))
    (axes,) = plots.templates(weights, shape, ["a", "b", "c"]).axes
    assert len(axes.images) == 3
    for image, row in zip(axes.images, weights, strict=True):
        shown = np.asarray(image.get_array()) - 0.5
        np.testing.assert_allclose(shown, 0.5 * row.reshape(8, 8) / np.abs(row).max())
        assert image.get_clim() == (0, 1)
    assert texts(axes)[-3:] == ["a", "b", "c"]


def test_colour_templates_are_scaled_from_minimum_to_maximum() -> None:
    weights = RNG.normal(size=(2, 4 * 5 * 3))
    (axes,) = plots.templates(weights, (4, 5, 3), ["cat", "dog"]).axes
    for image, row in zip(axes.images, weights, strict=True):
        expected = (row - row.min()) / np.ptp(row)
        np.testing.assert_allclose(np.asarray(image.get_array()), expected.reshape(4, 5, 3))


def test_templates_that_are_all_zero_are_drawn(tmp_path: Path) -> None:
    written(plots.templates(np.zeros((2, 64)), (8, 8), ["a", "b"]), tmp_path)
    written(plots.templates(np.zeros((2, 48)), (4, 4, 3), ["a", "b"]), tmp_path)


@pytest.mark.parametrize("shape", [(8, 8), (8, 3), (8, 8, 1), (8, 8, 3)])
def test_neighbors_grid_shows_right_queries_above_wrong_ones(shape: tuple[int, ...], tmp_path: Path) -> None:
    given = neighbours(3, 2, shape, 3)
    given |= {"query_labels": np.array([0, 1, 2]), "predictions": np.array([1, 1, 2])}
    given |= {"neighbor_labels": np.array([[1, 0], [1, 1], [2, 0]]), "distances": np.arange(6.0).reshape(3, 2) * 1000}
    figure = plots.neighbors_grid(**given, classes=["cat", "dog", "owl"])
    (axes,) = figure.axes
    assert "2 right, 1 wrong" in title(figure)
    assert any("its class and distance" in text for text in texts(axes))

    order = [1, 2, 0]  # query 0 is the wrong one
    pixels = np.concatenate([given["query_images"][:, None], given["neighbor_images"]], axis=1)[order].astype(float)
    pixels = pixels / 255 if shape[2:] == (3,) else (pixels - pixels.min()) / np.ptp(pixels)
    for image, expected in zip(axes.images, pixels.reshape(9, *shape), strict=True):
        np.testing.assert_allclose(np.asarray(image.get_array()), expected[..., 0] if shape[2:] == (1,) else expected)

    dashed = [patch.get_linestyle() in ("--", "dashed") for patch in axes.patches]
    assert dashed == [False, False, False, False, False, True, False, True, False]
    rows = [text for text in texts(axes) if text.startswith("true:")]
    assert [row.replace("\n", " ") for row in rows] == [
        "true: dog predicted: dog ✓ right",
        "true: owl predicted: owl ✓ right",
        "true: cat predicted: dog ✗ wrong",
    ]
    assert "dog\n2,000" in texts(axes)
    tops = {text.get_text()[0]: text.get_position()[1] for text in axes.texts if "classified" in text.get_text()}
    assert tops["✓"] < tops["✗"]  # y grows downwards
    written(figure, tmp_path)


def test_images_are_drawn_upright() -> None:
    given = neighbours(1, 1, (2, 2), 2) | {"query_images": np.array([[[0, 0], [16, 16]]], np.uint8)}
    (axes,) = plots.neighbors_grid(**given, classes=["a", "b"]).axes
    left, right, bottom, top = axes.images[0].get_extent()
    assert left < right
    assert top < bottom  # with y growing downwards the first row is on top
    assert axes.yaxis_inverted()


def test_the_most_confident_mistakes_come_first_and_ties_by_index() -> None:
    probabilities = RNG.dirichlet(np.ones(5), 200).round(1)  # rounded: many ties
    labels = RNG.integers(0, 5, 200)
    plain = [
        (-p.max(), i) for i, (p, label) in enumerate(zip(probabilities, labels, strict=True)) if p.argmax() != label
    ]
    for count in (1, 24, 1000):
        found = plots.most_confident_mistakes(labels, jnp.asarray(probabilities), count)
        assert found.tolist() == [i for _, i in sorted(plain)[:count]]
    assert plots.most_confident_mistakes([1, 0], [[0, 1], [1, 0]]).shape == (0,)


@pytest.mark.parametrize("shape", [(8, 8), (8, 3), (28, 28, 1), (32, 32, 3)])
def test_each_mistake_stands_above_its_true_class_and_the_predicted_one(shape: tuple[int, ...], tmp_path: Path) -> None:
    given = mistakes(8, shape, 3) | {"labels": np.arange(8) % 3, "predictions": (np.arange(8) + 1) % 3}
    figure = plots.worst_mistakes(**given, classes=["cat", "dog", "owl"])
    (axes,) = figure.axes
    assert "8 mistakes" in title(figure)
    pixels = given["images"].astype(float)
    pixels = pixels / 255 if shape[2:] == (3,) else (pixels - pixels.min()) / np.ptp(pixels)
    for image, expected in zip(axes.images, pixels, strict=True):
        np.testing.assert_allclose(np.asarray(image.get_array()), expected[..., 0] if shape[2:] == (1,) else expected)
    share = f"{100 * given['probabilities'][1]:.1f} %"
    true, taken_for = axes.texts[-14:-12]
    assert (true.get_text(), taken_for.get_text()) == ("✓ dog", f"✗ owl, {share}")
    left, right, bottom, _ = axes.images[1].get_extent()
    for text in (true, taken_for):
        assert text.get_position()[0] == pytest.approx((left + right) / 2)
        assert bottom < text.get_position()[1] < bottom + 1
    written(figure, tmp_path)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3)])
def test_a_page_without_mistakes_says_so(shape: tuple[int, ...], tmp_path: Path) -> None:
    figure = plots.worst_mistakes(**mistakes(0, shape, 3), classes=["cat", "dog", "owl"])
    assert title(figure) == "No mistake"
    assert texts(figure.axes[0]) == ["There is none to show: every example was classified correctly."]
    written(figure, tmp_path)


def test_captions_of_mistakes_do_not_run_into_one_another(tmp_path: Path) -> None:
    figure = plots.worst_mistakes(**mistakes(12, (8, 8), 100), classes=LONG_NAMES)
    written(figure, tmp_path)
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 25
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])


@pytest.mark.parametrize(
    ("expected", "shapes"),
    [(True, [(8, 8), (8, 8, 1), (32, 32, 3)]), (False, [(), (64,), (0, 8), (8, 8, 4), (2, 8, 8, 3)])],
)
def test_is_image_shape(expected: bool, shapes: list[tuple[int, ...]]) -> None:
    assert [plots.is_image_shape(shape) for shape in shapes] == [expected] * len(shapes)
