"""`funcgrad predict`: what the training measured, and one line for what cannot be predicted."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from funcgrad import cli, datasets

KEYS = ["command", "config", "dataset", "metrics", "seconds", "environment", "notes", "files"]
QUICK = ["--epochs", "2", "--limit-train", "300"]
Run = Callable[..., Any]


def test_predict_measures_what_the_training_measured(run: Run, tmp_path: Path) -> None:
    trained = run("train", "mlp", *QUICK, "--hidden", 8, "--dtype", "bfloat16", "--out", tmp_path / "model")
    result = run("predict", "--model", tmp_path / "model", "--split", "test", "--out", tmp_path / "out")
    assert list(result) == KEYS
    assert result["metrics"]["test_accuracy"] == trained["metrics"]["test_accuracy"]
    with np.load(tmp_path / "out" / "predictions.npz") as predicted:
        labels = datasets.load("digits").test.labels
        np.testing.assert_allclose(predicted["probabilities"].sum(axis=1), 1, rtol=1e-5)
        np.testing.assert_array_equal(predicted["probabilities"].argmax(axis=1), predicted["labels"])
        assert np.mean(predicted["labels"] == labels) == pytest.approx(result["metrics"]["test_accuracy"])
        assert predicted["classes"].tolist() == [str(number) for number in range(10)]
    # Labels of other data are matched by the names of their classes.
    some = run("predict", "--model", tmp_path / "model", "--classes", 3, 7, "--split", "train")
    assert some["metrics"]["train_accuracy"] > 0.1
    assert "test_accuracy" not in some["metrics"]
    everything = run("predict", "--model", tmp_path / "model")
    assert everything["dataset"]["examples"] == 1797
    both = [run("predict", "--model", tmp_path / "model", "--split", split) for split in ("train", "test")]
    assert sum(np.trace(one["metrics"]["confusion_matrix"]) for one in both) == np.trace(
        everything["metrics"]["confusion_matrix"]
    )


@pytest.mark.exhaustive
def test_what_predict_cannot_use_is_refused_in_one_line(run: Run, refused: Callable[..., str], tmp_path: Path) -> None:
    run("train", "linear", *QUICK, "--out", tmp_path / "model")
    assert "no directory" in refused("predict", "--model", tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "has no config.json" in refused("predict", "--model", tmp_path / "empty")
    np.savez(tmp_path / "e.npz", x=np.eye(30, 8).astype(np.float32), y=np.arange(30) % 3)
    line = refused("predict", "--model", tmp_path / "model", "--data", tmp_path / "e.npz")
    assert "examples of 8, and the classifier" in line
    assert "was trained on 8 × 8 × 1" in line
    file = tmp_path / "model" / "params.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-7])
    assert "is damaged" in refused("predict", "--model", tmp_path / "model")
    file.write_bytes(whole)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    for change, says in [({"format": 99}, "is not what"), ({"shape": [9]}, "is not what")]:
        (tmp_path / "model" / "config.json").write_text(json.dumps({**config, **change}))
        assert says in refused("predict", "--model", tmp_path / "model")


def save_pictures(folder: Path, names: list[str], colors: list[tuple[int, int, int]], size: int = 6) -> None:
    random = np.random.default_rng(len(names))
    folder.mkdir(parents=True, exist_ok=True)
    for name, color in zip(names, colors, strict=True):
        noisy = np.clip(np.array(color) + random.normal(0, 20, (size, size, 3)), 0, 255)
        Image.fromarray(noisy.astype(np.uint8)).save(folder / name)


def written(out: Path) -> list[dict[str, str]]:
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def predicted(model: Path, data: Path, out: Path) -> dict[str, Any]:
    """The result of a prediction that may have something to say on stderr."""
    assert cli.main(["predict", "--model", str(model), "--data", str(data), "--out", str(out), "--quiet"]) == 0
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    return result


RED, BLUE = (220, 40, 40), (40, 40, 220)


def test_photographs_without_labels_are_labelled_in_the_form_that_was_trained_on(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, color in (("red [warm]", RED), ("blue", BLUE)):
        save_pictures(tmp_path / "train" / name, [f"{i}.png" for i in range(20)], [color] * 20)
    model = tmp_path / "model"
    run("train", "linear", "--data", tmp_path / "train", "--lr", "0.05", "--epochs", 40, "--out", model)
    flat = tmp_path / "photos"
    save_pictures(flat, ["a.png", "b.jpg", "c d.png"], [BLUE, RED, BLUE], size=17)
    result = run("predict", "--model", model, "--data", flat, "--out", tmp_path / "out")
    assert (result["metrics"], result["dataset"]["examples"], result["dataset"]["shape"]) == ({}, 3, [6, 6, 3])
    assert not (tmp_path / "out" / "confusion.png").exists()
    rows = written(tmp_path / "out")
    assert [(row["example"], row["label"], row["second_guess"]) for row in rows] == [
        ("a.png", "blue", "red [warm]"),
        ("b.jpg", "red [warm]", "blue"),
        ("c d.png", "blue", "red [warm]"),
    ]
    for row in rows:
        assert float(row["probability"]) + float(row["second_probability"]) == pytest.approx(1, abs=1e-4)
    assert cli.main(["predict", "--model", str(model), "--data", str(flat / "b.jpg")]) == 0
    assert "red [warm]" in capsys.readouterr().out
    # Labels that the classifier does not know: nothing is measured, and it is said.
    save_pictures(tmp_path / "holiday" / "2021", ["x.png"], [RED])
    save_pictures(tmp_path / "holiday" / "2022", ["y.png"], [BLUE])
    unknown = predicted(model, tmp_path / "holiday", tmp_path / "out")
    assert [row["label"] for row in written(tmp_path / "out")] == ["red [warm]", "blue"]
    assert "none of the classifier's classes" in " ".join(unknown["notes"])
    assert "true_label" not in written(tmp_path / "out")[0]


def test_pixels_in_another_range_are_converted_or_told(run: Run, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    pixels = (80 * np.eye(3, 16)[labels] + random.integers(0, 176, (60, 16))).astype(np.uint8)
    pixels[0, 0] = 255
    for name, array in (("bytes", pixels), ("shares", np.float32(pixels / 255)), ("wide", pixels * np.float32(1e4))):
        np.savez(tmp_path / f"{name}.npz", x=array, y=labels)
        np.savez(tmp_path / f"{name}-unlabelled.npz", x=array)
    options = ["--lr", "0.05", "--epochs", 20]
    for trained, other, word in (("bytes", "shares", "multiplied by 255"), ("shares", "bytes", "divided by 255")):
        run("train", "linear", "--data", tmp_path / f"{trained}.npz", *options, "--out", tmp_path / trained)
        same, converted = (
            predicted(tmp_path / trained, tmp_path / f"{data}.npz", tmp_path / "out") for data in (trained, other)
        )
        assert same["metrics"] == converted["metrics"]
        assert word in " ".join(converted["notes"])
        assert word not in " ".join(same["notes"])
    unlabelled = tmp_path / "shares-unlabelled.npz"
    of_bytes = predicted(tmp_path / "bytes", tmp_path / "bytes.npz", tmp_path / "out")
    predicted(tmp_path / "bytes", unlabelled, tmp_path / "out")
    with np.load(tmp_path / "out" / "predictions.npz") as arrays:
        assert np.mean(arrays["labels"] == labels) == of_bytes["metrics"]["accuracy"] > 0.5
    assert [row["example"] for row in written(tmp_path / "out")] == [str(row) for row in range(60)]
    wide = predicted(tmp_path / "bytes", tmp_path / "wide.npz", tmp_path / "out")
    assert "taken as they are" in " ".join(wide["notes"])


def test_an_option_that_does_nothing_is_refused(run: Run, refused: Callable[..., str], tmp_path: Path) -> None:
    run("train", "linear", *QUICK, "--out", tmp_path / "model")
    line = refused("predict", "--model", tmp_path / "model", "--limit-test", 5)
    assert "--limit-test: does nothing for --split all" in line
