"""`funcgrad demo`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[..., Any]


def test_the_demo(run: Run, tmp_path: Path) -> None:
    result = run("demo", "--out", tmp_path)
    written = {path.name for path in tmp_path.iterdir()}
    pictures = {f"{name}.png" for name in ("crossval", "curves", "templates", "neighbors", "confusion")}
    assert written == pictures | {"result.json", "predictions.csv", "predictions.npz"}
    measured = result["metrics"]
    assert measured["knn"]["l1"] == {"1": 340 / 360, "3": 343 / 360, "5": 343 / 360, "10": 338 / 360}
    assert measured["knn"]["l2"] == {"1": 344 / 360, "3": 348 / 360, "5": 347 / 360, "10": 342 / 360}
    assert len(measured["crossval"]["cv"]) == 20
    floors = {"linear softmax": 0.88, "linear SVM": 0.88, "MLP, 256 hidden units": 0.90}
    for name, floor in floors.items():
        assert measured[name]["test_accuracy"] >= floor
