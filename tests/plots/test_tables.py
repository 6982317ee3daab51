"""Tables of counts and accuracies have each number in its cell."""

import itertools
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from figures import RNG, sweep, title, written

from funcgrad import plots


def test_confusion_matrix_writes_the_counts_and_scales_colours_to_the_mistakes(tmp_path: Path) -> None:
    matrix = np.array([[50, 7, 0], [1, 40, 2], [0, 0, 0]])
    figure = plots.confusion_matrix(matrix, ["cat", "dog", "owl"])
    axes = figure.axes[0]
    assert "90 of 100 right (90.0 %)" in title(figure)
    assert "cat predicted as dog, 7 times" in title(figure)
    cells = {tuple(text.get_position()): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "50", (1, 0): "7", (0, 1): "1", (1, 1): "40", (2, 1): "2"}
    assert axes.images[1].get_clim() == (0, 7)
    assert [t.get_text() for t in axes.get_yticklabels()] == ["cat  87.7 %", "dog  93.0 %", "owl  –"]
    written(figure, tmp_path)


def test_a_confusion_matrix_without_mistakes_names_none(tmp_path: Path) -> None:
    figure = plots.confusion_matrix(np.diag([3, 4]), ["a", "b"])
    assert "(100.0 %)" in title(figure)
    assert "mistake" not in title(figure)
    written(figure, tmp_path)


def test_a_heat_map_sorts_numbers_and_writes_each_accuracy_where_it_belongs(tmp_path: Path) -> None:
    table = np.array([[0.5, 0.625], [0.25, 0.375], [0.75, 1.0]])
    figure = sweep(jnp.asarray(table), np.array([1e-2, 1e-4, 0.5]), [1e-3, 0.0], best=(1, 0))
    axes, bar = figure.axes
    assert [t.get_text() for t in axes.get_yticklabels()] == ["1e-4", "0.01", "0.5"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0", "1e-3"]
    in_order = table[np.ix_([1, 0, 2], [1, 0])]
    np.testing.assert_array_equal(np.asarray(axes.images[0].get_array()), in_order)
    assert axes.images[0].get_clim() == (0.25, 1.0)
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(j, i): f"{100 * in_order[i, j]:.1f}" for i in range(3) for j in range(2)}
    assert [patch.get_xy() for patch in axes.patches] == [
        (0.5, -0.5)
    ] * 2  # row 1e-4 is the first, column 1e-3 the last
    assert "chosen: learning rate = 1e-4, l2 = 1e-3, accuracy 25.0 %" in title(figure)
    assert "in the cells" in bar.get_ylabel()
    written(figure, tmp_path)


def test_values_in_a_heat_map_contrast_with_the_colour_behind_them() -> None:
    axes = sweep(np.linspace(0, 1, 12).reshape(3, 4), [1, 2, 3], [1, 2, 3, 4]).axes[0]
    luminance = (0.299, 0.587, 0.114)
    for text in axes.texts:
        behind = np.dot(axes.images[0].to_rgba(float(text.get_text()) / 100)[:3], luminance)
        assert abs(behind - (text.get_color() == "white")) > 0.4


def test_settings_that_diverged_are_hatched_and_excluded_from_the_colour_scale(tmp_path: Path) -> None:
    table, counts = np.array([[0.5, 0.6], [0.7, 0.1]]), np.array([[0, 0], [0, 3]])
    for figure in (
        sweep(table, [0.1, 1], [0, 1], diverged=counts),
        sweep(np.where(counts, np.nan, table), [0.1, 1], [0, 1]),
    ):
        axes = figure.axes[0]
        assert axes.images[0].get_clim() == (0.5, 0.7)
        assert [text.get_text() for text in axes.texts] == ["50.0", "60.0", "70.0"]
        (hatched,) = axes.collections
        assert hatched.get_hatch()
        np.testing.assert_array_equal(np.ma.getmaskarray(hatched.get_array()).reshape(2, 2), counts == 0)
        assert [t.get_text() for t in figure.legends[0].get_texts()] == ["hatched: diverged (1 of 4 settings)"]
        written(figure, tmp_path)
        assert np.ptp(hatched.get_facecolor()[0][:3]) == 0  # grey, which no accuracy is


def test_a_sweep_in_which_all_diverged_is_drawn(tmp_path: Path) -> None:
    figure = sweep(np.full((2, 3), np.nan), [1, 2], [1, 2, 3], best=(0, 2))
    assert title(figure).endswith("l2 = 3, diverged")
    assert not figure.axes[0].texts
    written(figure, tmp_path)


def test_differences_of_less_than_a_point_do_not_span_all_colours() -> None:
    for table, ends in (([[0.5, 0.501]], (0.4955, 0.5055)), ([[1.0, 1.0]], (0.995, 1.0)), ([[0.0, 0.0]], (0.0, 0.005))):
        assert sweep(table, [1], [1, 2]).axes[0].images[0].get_clim() == pytest.approx(ends)


@pytest.mark.exhaustive
def test_a_large_sweep_drops_values_and_labels_that_have_no_room(tmp_path: Path) -> None:
    rates, penalties = np.geomspace(1e-6, 1, 200), np.geomspace(1e-5, 1, 64)
    figure = sweep(RNG.uniform(size=(200, 64)), rates, penalties, best=(7, 3))
    axes = figure.axes[0]
    written(figure, tmp_path)
    assert not axes.texts
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        boxes = [label.get_window_extent() for label in labels]
        assert 20 < len(boxes) <= 100
        assert not any(one.overlaps(other) for one, other in itertools.pairwise(boxes))
