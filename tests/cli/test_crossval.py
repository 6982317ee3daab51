"""`funcgrad crossval`: chosen on the training set, measured once on the test set."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcgrad import cli
from funcgrad.cli import crossval
from funcgrad.cli.options import CrossvalKnnOptions
from funcgrad.cli.run import Run as CommandRun
from funcgrad.datasets import Dataset, Split

WRITTEN = ("result.json", "config.json", "params.safetensors", "predictions.csv", "predictions.npz")
QUICK = ["--epochs", "2", "--limit-train", "300"]
Run = Callable[..., Any]


def test_crossval_knn_chooses_on_the_training_set(run: Run, tmp_path: Path) -> None:
    result = run("crossval", "knn", "--k", 1, 5, "--folds", 3, "--limit-train", 400, "--out", tmp_path / "out")
    rows = result["metrics"]["cv"]
    assert [(row["metric"], row["k"]) for row in rows] == [("l1", 1), ("l1", 5), ("l2", 1), ("l2", 5)]
    for row in rows:
        assert len(row["folds"]) == 3
        assert row["mean"] == pytest.approx(np.mean(row["folds"]))
        assert row["std"] == pytest.approx(np.std(row["folds"]))
    best = max(rows, key=lambda row: row["mean"])
    assert result["metrics"]["best"] == {"metric": best["metric"], "k": best["k"]}
    alone = run("knn", "--limit-train", 400, "--metric", best["metric"], "--k", best["k"])
    assert alone["metrics"]["test_accuracy"] == {str(best["k"]): result["metrics"]["test_accuracy"]}
    assert (tmp_path / "out" / "crossval.png").exists()
    assert result["metrics"]["division"] == "3 folds, stratified and shuffled by seed 0"
    in_order = run(
        "crossval", "knn", "--k", 1, "--folds", 2, "--limit-train", 100, "--folds-in-order", "--metric", "l1"
    )
    assert in_order["metrics"]["division"] == "2 folds of consecutive examples"


def test_data_sorted_by_class_chooses_as_shuffled_data_does(run: Run, tmp_path: Path) -> None:
    """Of three overlapping classes, many neighbours are right; folds in order would choose one and score 0 %."""
    labels = np.repeat(np.arange(3), 40)
    vectors = (1.5 * np.eye(3, 4)[labels] + np.random.default_rng(0).normal(size=(120, 4))).astype(np.float32)
    np.savez(tmp_path / "sorted.npz", x=vectors, y=labels)
    data = ["crossval", "knn", "--data", tmp_path / "sorted.npz", "--metric", "l2", "--k", 1, 20]
    measured, in_order = (run(*data, *options)["metrics"] for options in ([], ["--folds-in-order"]))
    assert measured["best"]["k"] == 20
    assert measured["cv"][1]["mean"] > 0.6
    assert in_order["cv"][1]["mean"] < measured["cv"][1]["mean"] - 0.15


def test_the_groups_of_the_data_stay_together() -> None:
    """Twins in one group never see one another; without groups most are right by their twin."""
    images = np.repeat(np.arange(20, dtype=np.uint8) * 12, 2)[:, None]
    labels = np.repeat(np.arange(20) % 2, 2).astype(np.int32)
    whole = Split(images, labels, np.arange(40), np.repeat([f"person {number}" for number in range(20)], 2))
    dataset = Dataset("twins", whole, whole, ("even", "odd"), "")
    options = CrossvalKnnOptions(k=(1,), metric=("l1",), folds=4)
    grouped, alone = (
        crossval.KNN.run(data, options, CommandRun()).metrics
        for data in (dataset, dataset._replace(train=whole._replace(groups=None)))
    )
    assert grouped["division"] == "4 folds, stratified and shuffled by seed 0, each of 20 groups in one fold"
    assert grouped["cv"][0]["mean"] < 0.2 < 0.5 < alone["cv"][0]["mean"]
    assert (
        "20 groups are in the training part and in the test part"
        in crossval.KNN.run(dataset, options, CommandRun()).notes
    )
    watched = crossval.KNN.run(dataset._replace(validation=whole), options, CommandRun())
    assert watched.notes[0] == "the validation part of 40 examples is not used"
    with pytest.raises(ValueError, match=r"^in_order: takes the examples as they come; got groups as well$"):
        crossval.KNN.run(dataset, replace(options, folds_in_order=True), CommandRun())


def test_a_column_of_groups_keeps_each_in_one_fold(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = [f"{i * 0.1:.1f},{i % 2},p{i % 20}" for i in range(80)]
    (tmp_path / "people.csv").write_text("\n".join(["height,label,person", *rows]))
    data = ["--data", tmp_path / "people.csv", "--label-column", "label", "--groups", "person"]
    command = ["crossval", "linear", *data, "--lr", "1e-2", "--epochs", "1", "--folds", "4", "--json"]
    assert cli.main([*map(str, command)]) == 0
    out, err = capsys.readouterr()
    assert err == "funcgrad crossval linear: 16 groups are in the training part and in the test part\n"
    result = json.loads(out)
    assert re.fullmatch(
        "4 folds, stratified and shuffled by seed 0, each of [0-9]+ groups in one fold", result["metrics"]["division"]
    )
    assert result["config"]["group_column"] == "person"


def test_an_option_without_effect_is_refused(refused: Callable[..., str]) -> None:
    assert "--temperature: only --weights softmax has one" in refused("crossval", "knn", "--temperature", 0.1)
    assert "--temperature: only --weights softmax has one" in refused("knn", "--temperature", 0.1)
    assert "p: only metric 'minkowski' has p, got 3" in refused("crossval", "knn", "--p", 3, "--limit-train", 50)


@pytest.mark.exhaustive
def test_minkowski_is_cross_validated_beside_others(run: Run) -> None:
    limits = ("--limit-train", "60", "--limit-test", "10", "--k", "1", "--folds", "2")
    measured = run("crossval", "knn", "--metric", "l2", "minkowski", "--p", "2", *limits)["metrics"]["cv"]
    assert [row["metric"] for row in measured] == ["l2", "minkowski"]
    assert measured[0]["mean"] == measured[1]["mean"]


CROSSVAL = ["crossval", "knn", "--metric", "l1", "cosine", "--k", 1, 5, "--folds", 3, "--limit-train", 300]


@pytest.mark.exhaustive
def test_a_cross_validation_that_was_interrupted_is_resumed_to_the_same_result(
    refused: Callable[..., str],
    run: Run,
    fails: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    whole = run(*CROSSVAL)
    error = KeyboardInterrupt()
    assert fails(*CROSSVAL, "--out", tmp_path, task="cross-validation", after=300, error=error) == 1  # under cosine
    place = re.escape(str(tmp_path / "partial"))
    message = (
        rf"funcgrad crossval knn: interrupted; [34]00 of 600 queries are saved in {place}, and --resume continues\n"
    )
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(message, err)
    for changed, says in [
        (["--folds", 4], "with division 3 folds, stratified and shuffled by seed 0 and not 4 folds, stratified "),
        (
            ["--folds-in-order"],
            "with division 3 folds, .* by seed 0 and not 3 folds of consecutive examples, fold assignment",
        ),
        (
            ["--seed", 1],
            "with division 3 folds, .* by seed 0 and not 3 folds, stratified and shuffled by seed 1, fold assignment",
        ),
        (["--metric", "l1"], "with metrics l1, cosine and not l1;"),
        (["--k", 4], "with largest k 5 and not 4;"),
        (["--limit-train", 290], "with training examples 300 and not 290[,;]"),
    ]:
        assert re.search(f"was searched {says}", refused(*CROSSVAL, *changed, "--out", tmp_path, "--resume"))
    assert "by seed 0 and not none" in refused("knn", "--k", 5, "--out", tmp_path, "--resume")
    resumed = run(*CROSSVAL, "--out", tmp_path, "--resume")
    assert resumed["metrics"] == whole["metrics"]
    assert resumed["config"] == whole["config"]
    assert not (tmp_path / "partial").exists()


def test_a_cross_validation_stopped_in_its_test_search_saves_what_came_before(
    run: Run, fails: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """And does not search it again: the files stay as they were."""
    common, saved = [*CROSSVAL, "--metric", "l1", "--out", tmp_path], []
    for resume in ([], ["--resume"]):
        assert fails(*common, *resume, task="k-NN", after=-1, error=KeyboardInterrupt()) == 1
        assert "interrupted; 300 of 300 queries are saved" in capsys.readouterr().err
        saved.append({path: path.stat().st_mtime_ns for path in (tmp_path / "partial").iterdir()})
    assert saved[0] == saved[1]
    assert run(*common, "--resume")["metrics"]["cv"] == run(*CROSSVAL, "--metric", "l1")["metrics"]["cv"]
    assert not (tmp_path / "partial").exists()


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_cross_validation_that_is_stopped_saves_what_it_has_finished(
    number: signal.Signals, run: Run, stopped: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    out, start = tmp_path / "out", time.monotonic()
    done = stopped(*CROSSVAL, "--out", out, task="cross-validation", after=300, number=number, sleep=30)
    assert time.monotonic() - start < 25
    assert "queries-000000200-000000300-of-000000600.npz" in [path.name for path in (out / "partial").iterdir()]
    if number == signal.SIGKILL:
        assert done.returncode == -number
    else:
        message = r"funcgrad crossval knn: interrupted; [34]00 of 600 queries are saved in .*, and --resume continues\n"
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(message, done.stderr)
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert run(*CROSSVAL, "--out", out, "--resume")["metrics"] == run(*CROSSVAL)["metrics"]
    assert not (out / "partial").exists()


def test_crossval_linear_over_a_range_and_a_list(run: Run, tmp_path: Path) -> None:
    swept = ["--lr", "1e-4:1e-1:log4", "--l2", "0,1e-3"]
    result = run("crossval", "linear", *swept, "--folds", 3, "--epochs", 3, "--out", tmp_path / "out")
    rows = result["metrics"]["cv"]
    assert [(row["lr"], row["l2"]) for row in rows] == [
        (lr, l2) for lr in (1e-4, 1e-3, 1e-2, 1e-1) for l2 in (0.0, 1e-3)
    ]
    assert result["metrics"]["best"]["lr"] >= 1e-2
    assert result["metrics"]["test_accuracy"] > 0.8
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {*WRITTEN, "crossval.png", "confusion.png", "heat_map.png"}


def test_a_sweep_that_was_interrupted_is_resumed_to_the_same_result(
    run: Run, fails: Callable[..., int], refused: Callable[..., str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """In rounds of a few trainings, of which those that were finished are not trained again."""
    swept = ["crossval", "linear", "--lr", "1e-3,1e-2", "--folds", 3, "--epochs", 2, "--limit-train", 200]
    common = [*swept, "--memory", "500KiB", "--out", tmp_path / "out"]
    assert fails(*common, task="6 trainings", after=3, error=KeyboardInterrupt()) == 1
    message = r"interrupted; the checkpoint of step \d+ is saved in .*checkpoints, and --resume continues\n"
    assert re.search(message, capsys.readouterr().err)
    assert "checkpoint: step" in refused(*common, "--lr", "1e-2,1e-1", "--resume")
    resumed = run(*common, "--resume")
    assert resumed["metrics"] == run(*swept, "--memory", "500KiB")["metrics"]
    assert not (tmp_path / "out" / "checkpoints").exists()


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_sweep_that_is_stopped_saves_what_it_has_finished(
    number: signal.Signals, run: Run, stopped: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    swept = ["crossval", "linear", "--lr", "1e-3,1e-2", "--folds", 3, "--epochs", 2, "--limit-train", 200]
    common = [*swept, "--memory", "500KiB"]
    done = stopped(*common, "--out", tmp_path / "out", task="6 trainings", after=3, number=number)
    if number == signal.SIGKILL:
        assert done.returncode == -number
    else:
        assert (done.returncode, done.stdout) == (1, "")
        assert re.search(
            r"interrupted; the checkpoint of step \d+ is saved in .*, and --resume continues\n$", done.stderr
        )
    assert run(*common, "--out", tmp_path / "out", "--resume")["metrics"] == run(*common)["metrics"]
    assert not (tmp_path / "out" / "checkpoints").exists()


@pytest.mark.exhaustive
def test_crossval_mlp_over_another_option_fails_where_all_diverge(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = ["--lr", "1e38", "--weight-decay", "0,0.1", "--hidden", "8", "--folds", "2", "--seeds", "2"]
    assert cli.main(["crossval", "mlp", *QUICK, *options, "--out", str(tmp_path / "out"), "--quiet"]) == 1
    assert capsys.readouterr().err.startswith("funcgrad crossval mlp: epoch 1, step")
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert [row["weight_decay"] for row in result["metrics"]["cv"]] == [0, 0.1]
    assert [len(row["folds"]) for row in result["metrics"]["cv"]] == [4, 4]
    assert [row["diverged"] for row in result["metrics"]["cv"]] == [4, 4]
    assert (tmp_path / "out" / "crossval.png").exists()
