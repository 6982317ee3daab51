"""`funcgrad predict`: what the training measured, and one line for what cannot be predicted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcgrad import datasets

KEYS = ["command", "config", "dataset", "metrics", "seconds", "environment", "notes", "files"]
QUICK = ["--epochs", "2", "--limit-train", "300"]
Run = Callable[..., Any]


def test_predict_measures_what_the_training_measured(run: Run, tmp_path: Path) -> None:
    trained = run("train", "mlp", *QUICK, "--hidden", 8, "--dtype", "bfloat16", "--out", tmp_path / "model")
    result = run("predict", "--model", tmp_path / "model", "--out", tmp_path / "out")
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
    np.savez(tmp_path / "o.npz", x=np.zeros((30, 8, 8, 1), np.uint8), y=np.arange(30) % 3, classes=["0", "1", "dog"])
    assert "classes dog are none of" in refused("predict", "--model", tmp_path / "model", "--data", tmp_path / "o.npz")
    file = tmp_path / "model" / "params.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-7])
    assert "is damaged" in refused("predict", "--model", tmp_path / "model")
    file.write_bytes(whole)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    for change, says in [({"format": 99}, "is damaged, or of another version"), ({"shape": [9]}, "are not those of")]:
        (tmp_path / "model" / "config.json").write_text(json.dumps({**config, **change}))
        assert says in refused("predict", "--model", tmp_path / "model")
