"""Curves hold what they were given and say what they show."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from figures import KS, L1, L2, history, title, written
from matplotlib.container import ErrorbarContainer

from funcgrad import plots


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


def test_error_bars_end_at_0_and_100_percent() -> None:
    figure = plots.cross_validation([1, 3], {"l1": [[0.9, 1.0, 1.0], [0.0, 0.0, 0.3]]})
    (segments,) = next(c for c in figure.axes[0].containers if isinstance(c, ErrorbarContainer)).lines[2]
    (low, high), (lowest, _) = (s[:, 1] for s in segments.get_segments())
    mean, deviation = np.mean([0.9, 1, 1]), np.std([0.9, 1, 1])
    np.testing.assert_allclose([low, high, lowest], [mean - deviation, 1, 0], atol=1e-12)


def test_no_two_of_twenty_series_look_alike(tmp_path: Path) -> None:
    names = [f"weight decay {i}" for i in range(20)]
    swept = plots.cross_validation(KS, dict.fromkeys(names, L2), log_x=True)
    (axes,) = swept.axes
    lines = [c.lines[0] for c in axes.containers if isinstance(c, ErrorbarContainer)]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 20
    for line in lines:  # beside its setting, not nearer to another
        ratios = np.abs(np.log(np.asarray(line.get_xdata())[:, None] / KS))
        assert ratios.argmin(axis=1).tolist() == [0, 1, 2, 3]
    trained = plots.training_curves(dict.fromkeys(names, history(30)), losses=dict.fromkeys(names, "softmax"))
    solid = [line for line in trained.axes[0].lines if line.get_linestyle() == "-"]
    assert len({(line.get_color(), line.get_marker()) for line in solid}) == 20
    for figure in (swept, trained):
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
