"""Training from the command line: what it prints and writes, how it is stopped and goes on, and `predict`."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from funcgrad import cli, datasets
from funcgrad.folds import hold_out
from funcgrad.training import saved_model as parameters

KEYS = ["command", "config", "dataset", "metrics", "seconds", "environment"]
WRITTEN = ("result.json", "config.json", "params.safetensors")
QUICK = ["--epochs", "2", "--limit-train", "300"]
Run = Callable[..., Any]


@pytest.mark.exhaustive
def test_training_gives_its_metrics_and_pictures(run: Run, tmp_path: Path) -> None:
    result = run("train", "linear", "--lr", "1e-2", "--epochs", 5, "--out", tmp_path / "out")
    assert list(result) == KEYS
    measured = result["metrics"]
    assert {"test_accuracy", "train_accuracy", "test_loss", "validation_accuracy"} <= measured.keys()
    assert measured["test_accuracy"] > 0.8
    assert measured["stopped_by"] == "epochs"
    assert len(measured["history"]["train_loss"]) == measured["epochs"] == 5
    written = {path.name for path in (tmp_path / "out").iterdir()}
    pictures = {"curves.png", "confusion.png", "templates.png", "learning_rate.png", "mistakes.png"}
    assert written == {*pictures, *WRITTEN, "metrics.jsonl", "checkpoints"}
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5]
    for name, values in measured["history"].items():
        assert [line[name] for line in lines] == values
    assert 1e-2 > lines[0]["learning_rate"] > lines[-1]["learning_rate"] >= 0


@pytest.mark.exhaustive
def test_a_network_takes_all_its_options(run: Run) -> None:
    options = ["--hidden", 16, 8, "--activation", "gelu", "--dropout", 0.1, "--layer-norm", "--label-smoothing", 0.1]
    options += ["--optimizer", "nadamw", "--schedule", "linear", "--warmup", 0.5, "--weight-decay", 1e-3, "--l2", 1e-5]
    options += ["--l1", 1e-6, "--clip-norm", 1, "--initialization", "orthogonal", "--mixup", 0.2, "--patience", 9]
    options += ["--augment", "flip,shift:1,cutout:2", "--dtype", "bfloat16", "--skip-nonfinite", "--devices", 2]
    result = run("train", "mlp", *QUICK, *options, "--seed", 3)
    assert result["config"]["hidden"] == [16, 8]
    assert result["config"]["seed"] == 3
    assert 0 < result["metrics"]["test_loss"] < 10


@pytest.mark.exhaustive
def test_a_diverging_training_fails_and_says_so_in_valid_json(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = ["--lr", "1e30", "--l2", "1", "--optimizer", "sgd", "--loss", "svm", "--validation", "0"]
    assert cli.main(["train", "linear", *QUICK, *options, "--json", "--out", str(tmp_path / "out")]) == 1
    out, err = capsys.readouterr()
    said = r"funcgrad train linear: epoch \d, step \d: the \S+ is not finite; lower the learning rate, or .*\n"
    assert re.fullmatch(said, err)
    result = json.loads(out, parse_constant=pytest.fail)
    assert result["metrics"]["stopped_by"] == "diverged"
    assert result["metrics"]["test_loss"] is None
    assert result["metrics"]["history"].keys() <= {"train_loss", "train_accuracy"}  # for nothing was held out
    assert json.loads((tmp_path / "out" / "result.json").read_text(), parse_constant=pytest.fail) == result


@pytest.mark.parametrize(("share", "count"), [(0.1, 144), (0.3, 431), (0.4, 575), (0.5, 718)])
def test_the_share_that_is_held_out_has_all_classes_and_the_size_asked_for(share: float, count: int) -> None:
    labels = datasets.load("digits").train.labels
    held_out, kept = hold_out(jax.random.key(0), labels, share)
    assert len(held_out) == count
    np.testing.assert_array_equal(np.sort(np.concatenate([held_out, kept])), np.arange(1437))
    assert np.all(np.abs(np.bincount(labels[held_out]) - share * np.bincount(labels)) <= 1.5)


@pytest.mark.exhaustive
def test_a_linear_classifier_of_real_images_beats_chance(run: Run, image_data: Path) -> None:
    options = ["--limit-train", 3000, "--limit-test", 500, "--epochs", 5, "--l2", 1e-3]
    result = run("train", "linear", "--data", "cifar10", "--data-dir", image_data, *options)
    assert result["metrics"]["test_accuracy"] > 0.25
    assert result["dataset"]["shape"] == [32, 32, 3]


# Stopping and going on

LONG = ["train", "mlp", "--hidden", "8", "--dropout", "0.2", "--epochs", "6", "--limit-train", "300", "--seed", "5"]


def bits(folder: Path) -> bytes:
    params, _ = parameters.load_params(folder / "params.safetensors")
    return b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(params))


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_training_that_is_stopped_goes_on_to_the_same_bits(number: signal.Signals, run: Run, tmp_path: Path) -> None:
    code = f"""if True:
        import os, signal, sys
        signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the shell that runs the tests set
        from funcgrad import cli, training
        run_steps, calls = training.run_steps, []
        def stopping(*given, **options):
            calls.append(1)
            if len(calls) == 8:
                os.kill(os.getpid(), {int(number)})
            return run_steps(*given, **options)
        training.run_steps, training._LOOK = stopping, 0.0
        sys.exit(cli.main())
    """
    out = tmp_path / "out"
    arguments = [*LONG, "--out", str(out), "--checkpoint-every", "1"]
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if number == signal.SIGKILL:
        assert done.returncode == -number
    else:
        said = f"interrupted; the checkpoint of step 8 is saved in {out / 'checkpoints'}, and --resume goes on"
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"funcgrad train mlp: {said}\n")
        assert {path.name for path in out.iterdir()} == {"checkpoints", "metrics.jsonl"}
    resumed = run(*arguments, "--resume")
    whole = run(*LONG, "--out", tmp_path / "whole")
    assert bits(out) == bits(tmp_path / "whole")
    assert resumed["metrics"] == whole["metrics"]
    assert (out / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()


@pytest.mark.exhaustive
def test_a_finished_training_resumes_to_itself_and_another_is_refused(
    run: Run, refused: Callable[..., str], tmp_path: Path
) -> None:
    first = run(*LONG, "--out", tmp_path)
    again = run(*LONG, "--out", tmp_path, "--resume")
    assert again["metrics"] == first["metrics"]
    line = refused(*LONG, "--lr", "1e-2", "--batch-size", 64, "--out", tmp_path, "--resume")
    assert "was saved with " in line
    assert "lr 0.001 and not 0.01" in line
    assert "batch size 128 and not 64" in line


@pytest.mark.exhaustive
def test_damaged_checkpoints_are_named_and_earlier_ones_used(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    whole = run(*LONG, "--out", tmp_path, "--checkpoint-every", 2)
    (last,) = tmp_path.glob("checkpoints/step-*18")
    (last / "about.json").write_bytes(b"{}")
    assert cli.main([*LONG, "--out", str(tmp_path), "--checkpoint-every", "2", "--resume", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert "step 18" in err
    assert "is damaged and not used: about.json not as written" in err
    measured = json.loads(out)["metrics"]
    assert {**measured, "notes": []} == whole["metrics"]


# predict


@pytest.mark.exhaustive
def test_predict_says_what_the_training_said(run: Run, tmp_path: Path) -> None:
    trained = run("train", "mlp", *QUICK, "--hidden", 8, "--dtype", "bfloat16", "--out", tmp_path / "model")
    result = run("predict", "--model", tmp_path / "model", "--out", tmp_path / "out")
    assert list(result) == KEYS
    assert result["metrics"]["test_accuracy"] == trained["metrics"]["test_accuracy"]
    with np.load(tmp_path / "out" / "predictions.npz") as said:
        labels = datasets.load("digits").test.labels
        np.testing.assert_allclose(said["probabilities"].sum(axis=1), 1, rtol=1e-5)
        np.testing.assert_array_equal(said["probabilities"].argmax(axis=1), said["labels"])
        assert np.mean(said["labels"] == labels) == pytest.approx(result["metrics"]["test_accuracy"])
        assert said["classes"].tolist() == [str(number) for number in range(10)]
    # Labels of other data are matched by the names of their classes.
    some = run("predict", "--model", tmp_path / "model", "--classes", 3, 7, "--split", "train")
    assert set(some["metrics"]) == {"train_accuracy"}
    assert some["metrics"]["train_accuracy"] > 0.1


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


# Sweeps


@pytest.mark.exhaustive
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


@pytest.mark.exhaustive
def test_labels_with_gaps_are_mapped_and_classes_that_cannot_be_learned_are_named(
    refused: Callable[..., str], capsys: pytest.CaptureFixture[str], run: Run, tmp_path: Path
) -> None:
    x = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    np.savez(tmp_path / "gaps.npz", x=x, y=np.array([50, 7, 0])[np.arange(60) % 3])
    result = run("train", "linear", "--epochs", 1, "--data", tmp_path / "gaps.npz", "--out", tmp_path / "out")
    assert result["dataset"]["classes"] == ["0", "7", "50"]
    assert json.loads((tmp_path / "out" / "config.json").read_text())["classes"] == ["0", "7", "50"]
    one = {"x": x, "y": np.full(60, 3)}
    np.savez(tmp_path / "one.npz", **one)
    assert "two classes or more, and all is of class 3" in refused("train", "linear", "--data", tmp_path / "one.npz")
    np.savez(tmp_path / "empty.npz", x=x, y=np.arange(60) % 2, classes=["cat", "dog", "newt"])
    assert cli.main(["train", "linear", "--epochs", "1", "--data", str(tmp_path / "empty.npz"), "--json"]) == 0
    assert capsys.readouterr().err == "funcgrad train linear: no training example of newt\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("train linear --resume", ["--resume: goes on from what is in --out DIR"]),
        ("train linear --schedule foo", ["schedule", "'foo'", "cosine_onecycle"]),
        ("train linear --initialization foo", ["initialization", "'foo'", "orthogonal"]),
        ("train linear --augment blur", ["augment", "'blur'", "flip, shift, cutout"]),
        ("train linear --patience 3 --validation 0", ["patience", "validation"]),
        ("train linear --devices 3", ["batch_size", "multiple of the 3 devices", "128"]),
        ("train linear --devices 77", ["devices", "77", "4 (cpu)"]),
        ("train linear --distributed here", ["--distributed", "HOST:PORT,PROCESSES,NUMBER or auto", "'here'"]),
        ("train mlp --residual --hidden 8 16", ["hidden", "equal"]),
        ("train linear --clip-norm 0", ["--clip-norm", "above 0"]),
        ("crossval linear --label-smoothing 0,2", ["smoothing", "0 to 1", "2"]),
        ("crossval linear --memory lots", ["memory", "'lots'"]),
    ],
)
def test_a_wrong_request_is_refused_in_one_line(
    arguments: str, says: list[str], refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = [] if "--resume" in arguments else ["--out", tmp_path / "new" / "out"]
    line = refused(*arguments.split(), *out)
    assert line.startswith("funcgrad")
    for words in says:
        assert words in line
