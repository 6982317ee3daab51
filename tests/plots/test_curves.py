"""Figures hold what they were given, say what they show, and are written whole or not at all."""

import itertools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from PIL import Image

from funcgrad import plots
from funcgrad.plots import style as pages

KS = [1, 3, 5, 10]
RNG = np.random.default_rng(0)
L1, L2 = RNG.uniform(0.8, 0.9, (4, 5)), RNG.uniform(0.9, 1.0, (4, 5))
LONG_NAMES = [
    f"Class {i}: a rather long name with $ in it and anunbreakablewordofmorethanthirtyletters" for i in range(100)
]


def written(figure: Figure, directory: Path) -> Path:
    """Drawing finds what building does not: a text that does not parse, a layout that does not fit (it warns)."""
    path = directory / "figure.png"
    plots.save(figure, path)
    return path


def title(figure: Figure) -> str:
    return figure.get_suptitle() or figure.axes[0].get_title()


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def history(epochs: int, *, validation: bool = True) -> dict[str, np.ndarray]:
    falling, rising = 1 / np.arange(1.0, epochs + 1), 1 - 0.5 / np.arange(1.0, epochs + 1)
    curves = {"train_loss": falling, "train_accuracy": rising}
    return curves | ({"validation_loss": 2 * falling, "validation_accuracy": rising - 0.1} if validation else {})


def neighbours(queries: int, k: int, shape: tuple[int, ...], classes: int) -> dict[str, np.ndarray]:
    return {
        "query_images": RNG.integers(0, 17, (queries, *shape), dtype=np.uint8),
        "query_labels": RNG.integers(0, classes, queries),
        "neighbor_images": RNG.integers(0, 17, (queries, k, *shape), dtype=np.uint8),
        "neighbor_labels": RNG.integers(0, classes, (queries, k)),
        "distances": np.sort(RNG.uniform(0, 50, (queries, k))),
        "predictions": RNG.integers(0, classes, queries),
    }


def mistakes(count: int, shape: tuple[int, ...], classes: int) -> dict[str, np.ndarray]:
    labels = RNG.integers(0, classes, count)
    return {
        "images": RNG.integers(0, 17, (count, *shape), dtype=np.uint8),
        "labels": labels,
        "predictions": (labels + RNG.integers(1, classes, count)) % classes,
        "probabilities": np.sort(RNG.uniform(0.5, 1, count))[::-1],
    }


def sweep(table: object, rows: Sequence[float | str], columns: Sequence[float | str], **options: Any) -> Figure:
    return plots.heat_map(table, rows, columns, row_label="learning rate", column_label="l2", **options)


def drawn(figure: Figure) -> tuple[np.ndarray, np.ndarray]:
    """The curve of a figure that holds one."""
    (line,) = figure.axes[0].lines
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def test_importing_plots_does_not_import_matplotlib() -> None:
    code = "import sys, funcgrad.plots; assert 'matplotlib' not in sys.modules and 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.exhaustive
def test_drawing_and_saving_never_imports_pyplot(tmp_path: Path) -> None:
    code = f"""if True:
        import sys
        from funcgrad import plots
        plots.save(plots.cross_validation([1, 3], {{"l2": [[0.5, 0.6], [0.7, 0.8]]}}), {str(tmp_path / "a.png")!r})
        assert "matplotlib.pyplot" not in sys.modules"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("log_x", [False, True])
def test_error_bars_are_mean_and_standard_deviation_over_folds(log_x: bool, tmp_path: Path) -> None:
    figure = plots.cross_validation(KS, {"l1": L1, "l2": L2}, best=("l2", 3), log_x=log_x)
    (axes,) = figure.axes
    bars = [c for c in axes.containers if isinstance(c, ErrorbarContainer)]
    for bar, accuracies in zip(bars, (L1, L2), strict=True):
        line, _, (segments,) = bar.lines
        np.testing.assert_allclose(line.get_ydata(), accuracies.mean(axis=1))
        low, high = np.array([s[:, 1] for s in segments.get_segments()]).T
        np.testing.assert_allclose((high - low) / 2, accuracies.std(axis=1))
        assert np.abs(np.asarray(line.get_xdata()) / KS - 1).max() < 0.1  # beside its setting, not on another
    dots = [line.get_ydata() for line in axes.lines if len(np.asarray(line.get_ydata())) == L1.size]
    np.testing.assert_array_equal(np.sort(np.concatenate(dots)), np.sort(np.r_[L1.ravel(), L2.ravel()]))
    assert [t.get_text() for t in axes.get_xticklabels()] == ["1", "3", "5", "10"]
    assert "5-fold" in title(figure)
    assert f"l2, k = 3, accuracy {100 * L2[1].mean():.1f} %" in title(figure)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["l1", "l2", "chosen"]
    written(figure, tmp_path)


def test_settings_are_drawn_in_order_whatever_order_they_come_in() -> None:
    shuffled = [2, 0, 3, 1]
    (axes,) = plots.cross_validation(np.array(KS)[shuffled], {"l2": jnp.asarray(L2[shuffled])}, best=("l2", 10)).axes
    line = next(c for c in axes.containers if isinstance(c, ErrorbarContainer)).lines[0]
    np.testing.assert_array_equal(line.get_xdata(), KS)
    np.testing.assert_allclose(line.get_ydata(), L2.mean(axis=1), rtol=1e-6)
    ring = axes.lines[-1]
    np.testing.assert_allclose([ring.get_xdata()[0], ring.get_ydata()[0]], [10, L2[3].mean()], rtol=1e-6)


def test_crowded_settings_keep_their_ticks_and_drop_overlapping_labels(tmp_path: Path) -> None:
    ks = [*range(1, 30), 1000]
    figure = plots.cross_validation(ks, {"l2": np.full((30, 3), 0.5)})
    labels = [t.get_text() for t in figure.axes[0].get_xticklabels()]
    assert list(figure.axes[0].get_xticks()) == ks
    assert labels[0] == "1"
    assert labels[-1] == "1000"
    assert labels.count("") > 20
    written(figure, tmp_path)


def test_training_curves_hold_every_history_solid_for_train_and_dashed_for_validation(tmp_path: Path) -> None:
    runs = {"softmax": history(4), "SVM": history(6)}
    figure = plots.training_curves(runs)
    accuracy, *losses = figure.axes
    assert len(losses) == 2  # no two losses that might be of different kinds share an axis
    for axes, run in zip(losses, runs.values(), strict=True):
        solid, dashed = axes.lines
        assert (solid.get_linestyle(), dashed.get_linestyle()) == ("-", "--")
        np.testing.assert_array_equal(solid.get_ydata(), run["train_loss"])
        np.testing.assert_array_equal(dashed.get_ydata(), run["validation_loss"])
        np.testing.assert_array_equal(solid.get_xdata(), np.arange(1, len(run["train_loss"]) + 1))
        assert axes.get_ylim()[0] == 0
    assert len(accuracy.lines) == 4
    legend = [t.get_text() for t in figure.legends[0].get_texts()]
    assert "softmax: train 87.5 %, validation 77.5 %" in legend
    assert "highest validation accuracy at the end: 81.7 % (SVM)" in title(figure)
    written(figure, tmp_path)


def test_runs_with_the_same_loss_share_its_panel() -> None:
    kinds = {"linear": "cross-entropy", "MLP": "cross-entropy", "SVM": "hinge"}
    _, *losses = plots.training_curves(dict.fromkeys(("linear", "SVM", "MLP"), history(3)), losses=kinds).axes
    assert {axes.get_title(loc="left"): len(axes.lines) for axes in losses} == {"cross-entropy": 4, "hinge": 2}


def test_one_epoch_without_validation_is_drawn_as_a_dot(tmp_path: Path) -> None:
    figure = plots.training_curves({"softmax": history(1, validation=False) | {"learning_rate": [0.1, 0.2]}})
    assert all(line.get_marker() == "o" for axes in figure.axes for line in axes.lines)
    assert "validation" not in title(figure) + str([t.get_text() for t in figure.legends[0].get_texts()])
    written(figure, tmp_path)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1)])
def test_grey_templates_put_zero_in_the_middle_of_the_colours(shape: tuple[int, ...]) -> None:
    weights = RNG.normal(size=(64, 3))
    (axes,) = plots.templates(weights, shape, ["a", "b", "c"]).axes
    assert len(axes.images) == 3
    for image, column in zip(axes.images, weights.T, strict=True):
        shown = np.asarray(image.get_array()) - 0.5
        np.testing.assert_allclose(shown, 0.5 * column.reshape(8, 8) / np.abs(column).max())
        assert image.get_clim() == (0, 1)
    assert texts(axes)[-3:] == ["a", "b", "c"]


def test_colour_templates_are_stretched_from_minimum_to_maximum() -> None:
    weights = RNG.normal(size=(4 * 5 * 3, 2))
    (axes,) = plots.templates(weights, (4, 5, 3), ["cat", "dog"]).axes
    for image, column in zip(axes.images, weights.T, strict=True):
        expected = (column - column.min()) / np.ptp(column)
        np.testing.assert_allclose(np.asarray(image.get_array()), expected.reshape(4, 5, 3))


def test_templates_that_are_all_zero_are_drawn(tmp_path: Path) -> None:
    written(plots.templates(np.zeros((64, 2)), (8, 8), ["a", "b"]), tmp_path)
    written(plots.templates(np.zeros((48, 2)), (4, 4, 3), ["a", "b"]), tmp_path)


@pytest.mark.exhaustive
@pytest.mark.parametrize("shape", [(8, 8), (8, 3), (8, 8, 1), (8, 8, 3)])
def test_neighbors_grid_shows_right_queries_above_wrong_ones(shape: tuple[int, ...], tmp_path: Path) -> None:
    given = neighbours(3, 2, shape, 3)
    given |= {"query_labels": np.array([0, 1, 2]), "predictions": np.array([1, 1, 2])}
    given |= {"neighbor_labels": np.array([[1, 0], [1, 1], [2, 0]]), "distances": np.arange(6.0).reshape(3, 2) * 1000}
    figure = plots.neighbors_grid(**given, classes=["cat", "dog", "owl"], distance_label="L1 distance")
    (axes,) = figure.axes
    assert "2 right, 1 wrong" in title(figure)
    assert any("L1 distance" in text for text in texts(axes))

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


def test_confusion_matrix_writes_the_counts_and_scales_colours_to_the_mistakes(tmp_path: Path) -> None:
    matrix = np.array([[50, 7, 0], [1, 40, 2], [0, 0, 0]])
    figure = plots.confusion_matrix(matrix, ["cat", "dog", "owl"])
    axes = figure.axes[0]
    assert "90 of 100 right (90.0 %)" in title(figure)
    assert "cat taken for dog, 7 times" in title(figure)
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


def test_the_surest_mistakes_come_first_and_ties_by_index() -> None:
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
def test_where_nothing_went_wrong_the_sheet_of_mistakes_says_so(shape: tuple[int, ...], tmp_path: Path) -> None:
    figure = plots.worst_mistakes(**mistakes(0, shape, 3), classes=["cat", "dog", "owl"])
    assert title(figure) == "No mistake"
    assert texts(figure.axes[0]) == ["There is none to show: every example was classified rightly."]
    written(figure, tmp_path)


def test_captions_of_mistakes_do_not_run_into_one_another(tmp_path: Path) -> None:
    figure = plots.worst_mistakes(**mistakes(12, (8, 8), 100), classes=LONG_NAMES)
    written(figure, tmp_path)
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 25
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])


def test_a_learning_rate_holds_until_the_next_step(tmp_path: Path) -> None:
    figure = plots.learning_rate_curve(jnp.asarray([0.1, 0.4, 0.2, 0.05]), epochs=2)
    at, rates = drawn(figure)
    np.testing.assert_allclose(at, [0, 0.5, 1, 1.5, 2])
    np.testing.assert_allclose(rates, [0.1, 0.4, 0.2, 0.05, 0.05], rtol=1e-6)
    assert figure.axes[0].lines[0].get_drawstyle() == "steps-post"
    assert "highest 0.4 after 0.5 epochs, 0.05 at the end" in title(figure)
    written(figure, tmp_path)


def test_only_rates_that_stay_far_below_the_highest_are_drawn_on_a_log_scale(tmp_path: Path) -> None:
    part = np.arange(1000) / 1000
    curves = {
        "linear": [0.01 * (1 + np.cos(np.pi * part)) / 2, 0.01 * (1 - part), np.full(1000, 0.01), np.zeros(3)],
        "log": [0.01 * 1e-3**part, np.r_[np.linspace(0, 0.1, 50), 0.1 * 1e-4**part]],
    }
    for scale, all_rates in curves.items():
        for rates in all_rates:
            figure = plots.learning_rate_curve(rates, epochs=20)
            axes = figure.axes[0]
            assert axes.get_yscale() == scale
            assert ("0 at the lower edge" in axes.get_ylabel()) == (scale == "log" and rates[0] == 0)
            if rates[0] == 0:
                written(figure, tmp_path)


def test_a_long_schedule_keeps_its_ends_and_the_peak_of_a_single_step() -> None:
    rates = 1e-3 * (1.5 + np.sin(np.arange(300_000) / 5000))
    rates[123_456] = 5e-3
    at, kept = drawn(plots.learning_rate_curve(rates, epochs=30))
    assert len(kept) < 10_000
    assert kept.max() == 5e-3
    assert (at[0], at[-1], kept[0], kept[-1]) == (0, 30, rates[0], rates[-1])
    every = np.searchsorted(at, 30 * np.arange(300_000) / 300_000, side="right") - 1
    away = np.abs(kept[every] - rates)
    assert np.delete(away, 123_456).max() < 4e-3  # only beside the peak, and nowhere else, more than a hair
    assert np.quantile(away, 0.999) < 5e-5


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


def test_values_in_a_heat_map_are_told_from_the_colour_behind_them() -> None:
    axes = sweep(np.linspace(0, 1, 12).reshape(3, 4), [1, 2, 3], [1, 2, 3, 4]).axes[0]
    luminance = (0.299, 0.587, 0.114)
    for text in axes.texts:
        behind = np.dot(axes.images[0].to_rgba(float(text.get_text()) / 100)[:3], luminance)
        assert abs(behind - (text.get_color() == "white")) > 0.4


def test_settings_that_diverged_are_hatched_and_have_no_part_in_the_colours(tmp_path: Path) -> None:
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
        assert sweep(table, ["relu"], [1, 2]).axes[0].images[0].get_clim() == pytest.approx(ends)


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


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cat", "cat"),
        ("a cat and a dog", "a cat and…"),
        ("unbreakableword", "unbreakab…"),
        ("", ""),
        ("5 $", r"5 \$"),
    ],
)
def test_a_long_name_keeps_its_beginning(name: str, expected: str) -> None:
    assert pages.short(name, 10) == expected


@pytest.mark.exhaustive
def test_a_hundred_classes_with_long_names_are_drawn(tmp_path: Path) -> None:
    written(plots.confusion_matrix(RNG.integers(0, 9, (100, 100)), LONG_NAMES), tmp_path)
    written(plots.templates(RNG.normal(size=(16, 100)), (4, 4), LONG_NAMES), tmp_path)
    written(plots.neighbors_grid(**neighbours(4, 3, (8, 8, 3), 100), classes=LONG_NAMES), tmp_path)
    written(plots.worst_mistakes(**mistakes(24, (32, 32, 3), 100), classes=LONG_NAMES), tmp_path)


@pytest.mark.exhaustive
def test_many_series_and_runs_with_long_names_fit_on_the_page(tmp_path: Path) -> None:
    names = LONG_NAMES[:6]
    for figure in (
        plots.cross_validation(KS, dict.fromkeys(names, L2), best=(names[2], 5), title=names[0]),
        plots.training_curves(dict.fromkeys(names, history(3)), title=names[0]),
    ):
        written(figure, tmp_path)
        legend = figure.legends[0].get_window_extent()
        assert legend.x0 >= 0
        assert legend.x1 <= figure.bbox.width


@pytest.mark.parametrize(
    ("expected", "shapes"),
    [(True, [(8, 8), (8, 8, 1), (32, 32, 3)]), (False, [(), (64,), (0, 8), (8, 8, 4), (2, 8, 8, 3)])],
)
def test_is_image_shape(expected: bool, shapes: list[tuple[int, ...]]) -> None:
    assert [plots.is_image_shape(shape) for shape in shapes] == [expected] * len(shapes)


def test_bad_input_is_one_line_that_names_the_argument() -> None:
    good, wrong = neighbours(3, 2, (8, 8), 4), mistakes(3, (8, 8), 4)
    names = ["a", "b", "c", "d"]
    bad: list[tuple[str, object]] = [
        ("series['l2']: shape (4, 5), expected (3, folds)", lambda: plots.cross_validation(KS[:3], {"l2": L2})),
        ("series['l2']: holds a value outside 0–1", lambda: plots.cross_validation(KS, {"l2": 100 * L2})),
        ("series: empty", lambda: plots.cross_validation(KS, {})),
        ("x: shape (2, 2)", lambda: plots.cross_validation(np.ones((2, 2)), {"l2": L2})),
        ("x: smallest is 0", lambda: plots.cross_validation([0, 1, 2, 3], {"l2": L2}, log_x=True)),
        ("best: 'l3', expected one of ['l2']", lambda: plots.cross_validation(KS, {"l2": L2}, best=("l3", 1))),
        ("best: 2, expected one of x", lambda: plots.cross_validation(KS, {"l2": L2}, best=("l2", 2))),
        ("runs: empty", lambda: plots.training_curves({})),
        ("runs['a']: has no 'train_accuracy'", lambda: plots.training_curves({"a": {"train_loss": [1.0]}})),
        (
            "runs['a']['validation_loss']: shape (2,)",
            lambda: plots.training_curves({"a": history(3) | {"validation_loss": np.ones(2)}}),
        ),
        ("shape: (64,) is not the shape of an image", lambda: plots.templates(np.ones((64, 4)), (64,), names)),
        ("weights: shape (64, 3), expected (64, 4)", lambda: plots.templates(np.ones((64, 3)), (8, 8), names)),
        ("query_images: (64,) is not", lambda: plots.neighbors_grid(**neighbours(3, 2, (64,), 4), classes=names)),
        ("query_labels: holds", lambda: plots.neighbors_grid(**good | {"query_labels": [0, 1, 4]}, classes=names)),
        ("predictions: shape (2,)", lambda: plots.neighbors_grid(**good | {"predictions": [0, 1]}, classes=names)),
        (
            "distances: shape (3, 1)",
            lambda: plots.neighbors_grid(**good | {"distances": np.ones((3, 1))}, classes=names),
        ),
        (
            "neighbor_images: shape (3, 2, 8, 8, 1), expected",
            lambda: plots.neighbors_grid(**good | {"neighbor_images": np.ones((3, 2, 8, 8, 1))}, classes=names),
        ),
        ("matrix: shape (2, 3), expected (4, 4)", lambda: plots.confusion_matrix(np.ones((2, 3)), names)),
        ("matrix: holds a negative", lambda: plots.confusion_matrix(-np.eye(4), names)),
        ("matrix: all zero", lambda: plots.confusion_matrix(np.zeros((4, 4)), names)),
        ("probabilities: shape (3,)", lambda: plots.most_confident_mistakes([0, 1, 2], np.ones(3))),
        ("probabilities: holds a value outside", lambda: plots.most_confident_mistakes([0], [[-1.0, 3.0]])),
        ("probabilities: holds NaN", lambda: plots.most_confident_mistakes([0], [[np.nan, 0.5]])),
        ("labels: shape (2,), expected (1,)", lambda: plots.most_confident_mistakes([0, 1], [[0.5, 0.5]])),
        ("labels: holds 2–2, expected 0–1", lambda: plots.most_confident_mistakes([2], [[0.5, 0.5]])),
        ("count: 0, expected", lambda: plots.most_confident_mistakes([0], [[0.5, 0.5]], 0)),
        ("images: (64,) is not", lambda: plots.worst_mistakes(**mistakes(3, (64,), 4), classes=names)),
        ("labels: holds", lambda: plots.worst_mistakes(**wrong | {"labels": [0, 1, 4]}, classes=names)),
        (
            "predictions: 3 of 3 equal their label",
            lambda: plots.worst_mistakes(**wrong | {"predictions": wrong["labels"]}, classes=names),
        ),
        ("probabilities: shape (2,)", lambda: plots.worst_mistakes(**wrong | {"probabilities": [1, 1]}, classes=names)),
        ("rates: shape (0,), expected", lambda: plots.learning_rate_curve([], epochs=1)),
        ("rates: holds NaN", lambda: plots.learning_rate_curve([np.nan], epochs=1)),
        ("rates: smallest is -1", lambda: plots.learning_rate_curve([1, -1], epochs=1)),
        ("epochs: 0, expected", lambda: plots.learning_rate_curve([1], epochs=0)),
        ("rows: empty", lambda: sweep(np.ones((0, 1)), [], [1])),
        ("columns: [1.0, 1.0] holds a setting twice", lambda: sweep(np.ones((1, 2)), [1], [1, 1])),
        ("table: shape (2, 1), expected (1, 2)", lambda: sweep(np.ones((2, 1)), [1], [1, 2])),
        ("table: holds a value outside", lambda: sweep([[50, 60]], [1], [1, 2])),
        ("table: holds NaN where nothing", lambda: sweep([[0.5, np.nan]], [1], [1, 2], diverged=[[1, 0]])),
        ("diverged: shape (2,), expected (1, 2)", lambda: sweep([[0.5, 0.6]], [1], [1, 2], diverged=[0, 0])),
        (
            "best: (1, 0), expected (row, column) from (0, 0) to (0, 1)",
            lambda: sweep([[0, 1]], [1], [1, 2], best=(1, 0)),
        ),
        ("best: (0, -1), expected", lambda: sweep([[0, 1]], [1], [1, 2], best=(0, -1))),
        ("path: 'figure.svg', expected", lambda: plots.save(Figure(), "figure.svg")),
    ]
    for message, call in bad:
        with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
            call()  # type: ignore[operator]
        assert str(caught.value).startswith(message)


def test_save_writes_a_png_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = written(plots.confusion_matrix(np.eye(2), ["a", "b"]), tmp_path)
    with Image.open(path) as image:
        assert image.format == "PNG"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_save_keeps_the_old_picture_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    class Interrupted(Figure):
        def savefig(self, fname: Path, **_: object) -> None:
            Path(fname).write_bytes(b"half a picture")
            raise OSError("disk full")

    path = tmp_path / "figure.png"
    path.write_bytes(b"the old picture")
    with pytest.raises(OSError, match="disk full"):
        plots.save(Interrupted(), path)
    assert path.read_bytes() == b"the old picture"
    assert list(tmp_path.iterdir()) == [path]
