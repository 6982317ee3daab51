"""`funcgrad data duplicates`, and what other commands say of test examples that stand in the training part."""

import json
from pathlib import Path

import numpy as np
import pytest

from funcgrad import cli, datasets
from funcgrad.cli.duplicates import leakage


@pytest.fixture
def doubled(tmp_path: Path) -> Path:
    """Eight training vectors, of which 5 is 2 with another label, and 7 is 6; tests that are 0, 2 and new."""
    x = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    x[5], x[7] = x[2], x[6]
    x[0, 0] = 0.0
    tests = np.stack([x[0], x[2], x[1] + 1e-3])
    tests[0, 0] = -0.0
    y, y_test = np.array([0, 1, 0, 1, 0, 1, 0, 0]), np.array([1, 0, 1])
    np.savez(tmp_path / "doubled.npz", x_train=x, y_train=y, x_test=tests, y_test=y_test)
    return tmp_path / "doubled.npz"


def test_pairs_within_and_between_the_parts_are_listed_nearest_first(
    doubled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["--data", str(doubled), "--nearest", "1", "--rows", "4", "--out", str(out)]
    assert cli.main(["data", "duplicates", *arguments]) == 0
    printed = capsys.readouterr()
    assert "pairs at distance 0: 2 within train, 2 test and train, 0 within test\n" in printed.err
    assert "1 more pairs in result.json" in printed.err
    assert "2 of 3 test examples stand in the training part, 1 of them with another label" in printed.err
    assert printed.out.count("│ 0 ") == 4
    found = json.loads((out / "result.json").read_text())["metrics"]
    assert found["equal"] == {"within train": 2, "test and train": 2, "within test": 0}
    pairs = [(x["parts"], x["example"], x["label"], x["nearest"], x["nearest_label"]) for x in found["pairs"]]
    assert sorted(pairs[:4]) == [
        ("test and train", 0, "1", 0, "0"),
        ("test and train", 1, "0", 2, "0"),
        ("within train", 2, "0", 5, "1"),
        ("within train", 6, "0", 7, "0"),
    ]
    assert pairs[4] == ("test and train", 2, "1", 1, "1")
    np.testing.assert_allclose(found["pairs"][4]["distance"], 2e-3, rtol=1e-3)  # 10⁻³ in each of four directions


def test_a_result_says_which_tests_were_learned_and_which_labels_disagree(doubled: Path) -> None:
    learned, contrary = leakage(datasets.load(doubled))
    assert learned == (
        "2 of 3 test examples stand in the training part, 1 of them with another label; "
        "`funcgrad data duplicates` lists them"
    )
    assert contrary == "equal training examples with different labels: 1"
    assert leakage(datasets.load("digits")) == []


@pytest.mark.parametrize("command", [("knn", "--k", "1"), ("crossval", "knn", "--k", "1", "--folds", "2")])
def test_knn_and_crossval_note_it(doubled: Path, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*command, "--data", str(doubled), "--metric", "l1"]) == 0
    assert "2 of 3 test examples stand in the training part" in "".join(capsys.readouterr())
