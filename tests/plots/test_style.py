"""Every figure fits its page, refuses bad input in one line, and is written whole or not at all."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from figures import KS, L2, LONG_NAMES, RNG, history, mistakes, neighbours, sweep, written
from matplotlib.figure import Figure
from PIL import Image

from funcgrad import plots
from funcgrad.plots.style import drawable, short, short_names


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


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cat", "cat"),
        ("a cat and a dog", "a cat… dog"),
        ("unbreakableword", "unbre…word"),
        ("", ""),
        ("5 $", r"5 \$"),
    ],
)
def test_a_long_name_keeps_its_beginning_and_its_end(name: str, expected: str) -> None:
    assert short(name, 10) == expected


def test_names_stay_different_when_they_are_shortened() -> None:
    names = ["a very long name 01", "a very long name 02", "a very lucky long name 02", "a", "b"]
    assert short_names(names, 12) == ["a very…me 01", "1: a v…me 02", "2: a v…me 02", "a", "b"]


def test_whatever_a_name_holds_is_drawn_without_a_warning(tmp_path: Path) -> None:
    """With escapes for control characters and what no font has; U+2A33 is in a font that Matplotlib brings along."""
    names = ["dog [young]", "\x1b[31mred", "two\nlines", "\udcff", "\u2a33", "\U000e0041", "5 $ $", "日本語"]
    assert drawable("".join(names[:6])) == "dog [young]\\x1b[31mredtwo\\nlines\\xff\u2a33\\U000e0041"
    figure = plots.confusion_matrix(np.eye(8), names, title="$\x07日本")
    assert figure.axes[0].get_yticklabels()[4].get_fontfamily()[0] == "DejaVu Sans"
    assert len(figure.axes[0].get_yticklabels()[4].get_fontfamily()) == 2
    written(figure, tmp_path)
    written(plots.templates(np.eye(8, 16), (4, 4), names), tmp_path)
    written(plots.neighbors_grid(**neighbours(4, 3, (8, 8, 3), 8), classes=names), tmp_path)
    written(plots.cross_validation(KS, dict.fromkeys(names, L2), best=("日本語", 1)), tmp_path)
    written(plots.training_curves(dict.fromkeys(names, history(3))), tmp_path)


@pytest.mark.exhaustive
def test_a_hundred_classes_with_long_names_are_drawn(tmp_path: Path) -> None:
    written(plots.confusion_matrix(RNG.integers(0, 9, (100, 100)), LONG_NAMES), tmp_path)
    written(plots.templates(RNG.normal(size=(100, 16)), (4, 4), LONG_NAMES), tmp_path)
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


def test_bad_input_is_one_line_that_names_the_argument() -> None:
    good, wrong = neighbours(3, 2, (8, 8), 4), mistakes(3, (8, 8), 4)
    names = ["a", "b", "c", "d"]
    bad: list[tuple[str, object]] = [
        ("series['l2']: shape (4, 5), expected (3, folds)", lambda: plots.cross_validation(KS[:3], {"l2": L2})),
        ("series['l2']: holds 50, expected fractions", lambda: plots.cross_validation(KS, {"l2": 50 + 0 * L2})),
        ("series: empty", lambda: plots.cross_validation(KS, {})),
        ("x: shape (2, 2)", lambda: plots.cross_validation(np.ones((2, 2)), {"l2": L2})),
        (
            "x: holds 0, expected finite settings above 0",
            lambda: plots.cross_validation([0, 1, 2, 3], {"l2": L2}, log_x=True),
        ),
        ("best: 'l3', expected one of ['l2']", lambda: plots.cross_validation(KS, {"l2": L2}, best=("l3", 1))),
        ("best: 2, expected one of x", lambda: plots.cross_validation(KS, {"l2": L2}, best=("l2", 2))),
        ("runs: empty", lambda: plots.training_curves({})),
        ("runs['a']: has no 'train_accuracy'", lambda: plots.training_curves({"a": {"train_loss": [1.0]}})),
        (
            "runs['a']['validation_loss']: shape (2,)",
            lambda: plots.training_curves({"a": history(3) | {"validation_loss": np.ones(2)}}),
        ),
        ("shape: (64,) is not the shape of an image", lambda: plots.templates(np.ones((4, 64)), (64,), names)),
        ("weights: shape (3, 64), expected (4, 64)", lambda: plots.templates(np.ones((3, 64)), (8, 8), names)),
        ("query_images: (64,) is not", lambda: plots.neighbors_grid(**neighbours(3, 2, (64,), 4), classes=names)),
        (
            "query_labels: holds 4, expected labels of 0–3",
            lambda: plots.neighbors_grid(**good | {"query_labels": [0, 1, 4]}, classes=names),
        ),
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
        ("matrix: holds -1, expected counts", lambda: plots.confusion_matrix(-np.eye(4), names)),
        ("matrix: all zero", lambda: plots.confusion_matrix(np.zeros((4, 4)), names)),
        ("probabilities: shape (3,)", lambda: plots.most_confident_mistakes([0, 1, 2], np.ones(3))),
        ("probabilities: holds -1, expected fractions", lambda: plots.most_confident_mistakes([0], [[-1.0, 3.0]])),
        ("probabilities: holds nan, expected fractions", lambda: plots.most_confident_mistakes([0], [[np.nan, 0.5]])),
        (
            "probabilities: shape (1, 2), expected (2, classes)",
            lambda: plots.most_confident_mistakes([0, 1], [[0.5, 0.5]]),
        ),
        ("labels: holds 2, expected labels of 0–1", lambda: plots.most_confident_mistakes([2], [[0.5, 0.5]])),
        ("count: 0, expected", lambda: plots.most_confident_mistakes([0], [[0.5, 0.5]], 0)),
        ("images: (64,) is not", lambda: plots.worst_mistakes(**mistakes(3, (64,), 4), classes=names)),
        (
            "labels: holds 4, expected labels of 0–3",
            lambda: plots.worst_mistakes(**wrong | {"labels": [0, 1, 4]}, classes=names),
        ),
        (
            "predictions: 3 of 3 equal their label",
            lambda: plots.worst_mistakes(**wrong | {"predictions": wrong["labels"]}, classes=names),
        ),
        ("probabilities: shape (2,)", lambda: plots.worst_mistakes(**wrong | {"probabilities": [1, 1]}, classes=names)),
        ("rows: shape (0,), expected (settings,)", lambda: sweep(np.ones((0, 1)), [], [1])),
        ("columns: [1.0, 1.0] holds a setting twice", lambda: sweep(np.ones((1, 2)), [1], [1, 1])),
        ("table: shape (2, 1), expected (1, 2)", lambda: sweep(np.ones((2, 1)), [1], [1, 2])),
        ("table: holds 50, expected fractions", lambda: sweep([[50, 60]], [1], [1, 2])),
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
