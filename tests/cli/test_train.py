"""`funcgrad train`: what it prints and writes, how it is stopped and resumed."""

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
from funcgrad.cli import train
from funcgrad.cli.options import TrainOptions
from funcgrad.cli.run import Run as CommandRun
from funcgrad.datasets import Split
from funcgrad.training import saved_model

KEYS = ["command", "config", "dataset", "metrics", "seconds", "environment", "notes", "files"]
WRITTEN = ("result.json", "config.json", "params.safetensors", "predictions.csv", "predictions.npz")
QUICK = ["--epochs", "2", "--limit-train", "300"]
Run = Callable[..., Any]


def test_training_gives_its_metrics_and_pictures(run: Run, tmp_path: Path) -> None:
    result = run("train", "linear", "--lr", "1e-2", "--epochs", 5, "--out", tmp_path / "out")
    assert list(result) == KEYS
    measured = result["metrics"]
    assert {"test_accuracy", "train_accuracy", "test_loss", "validation_accuracy"} <= measured.keys()
    assert measured["test_accuracy"] > 0.8
    assert measured["stopped_by"] == "epochs"
    assert len(measured["history"]["train_loss"]) == measured["epochs"] == 5
    written = {path.name for path in (tmp_path / "out").iterdir()}
    pictures = {"curves.png", "confusion.png", "templates.png", "mistakes.png"}
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
    message = r"funcgrad train linear: epoch \d, step \d: the \S+ is not finite; lower the learning rate, or .*\n"
    assert re.fullmatch(message, err)
    result = json.loads(out, parse_constant=pytest.fail)
    assert result["metrics"]["stopped_by"] == "diverged"
    assert result["metrics"]["test_loss"] is None
    assert result["metrics"]["history"].keys() <= {"train_loss", "train_accuracy"}  # for nothing was held out
    assert json.loads((tmp_path / "out" / "result.json").read_text(), parse_constant=pytest.fail) == result


@pytest.mark.exhaustive
def test_a_linear_classifier_of_real_images_beats_chance(run: Run, image_data: Path) -> None:
    options = ["--limit-train", 3000, "--limit-test", 500, "--epochs", 5, "--l2", 1e-3]
    result = run("train", "linear", "--data", "cifar10", "--data-dir", image_data, *options)
    assert result["metrics"]["test_accuracy"] > 0.25
    assert result["dataset"]["shape"] == [32, 32, 3]


# Stopping and resuming

LONG = ["train", "mlp", "--hidden", "8", "--dropout", "0.2", "--epochs", "6", "--limit-train", "300", "--seed", "5"]


def bits(folder: Path) -> bytes:
    params, _ = saved_model.load_params(folder / "params.safetensors")
    return b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(params))


def assert_resumes(arguments: list[str], out: Path, run: Run, whole: Path) -> None:
    resumed, expected = run(*arguments, "--resume"), run(*LONG, "--out", whole)
    assert bits(out) == bits(whole)
    assert resumed["metrics"] == expected["metrics"]
    assert (out / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()


def test_a_training_that_failed_is_resumed_to_the_same_bits(
    run: Run, fails: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = [*LONG, "--out", str(tmp_path / "out"), "--checkpoint-every", "1"]
    assert fails(*arguments, task="mlp", after=600, error=RuntimeError("out of memory")) == 1  # in the third epoch
    saved = f"the checkpoint of step 6 is saved in {tmp_path / 'out' / 'checkpoints'}, and --resume continues"
    message = f"funcgrad train mlp: RuntimeError: out of memory (--debug shows where); {saved}\n"
    assert capsys.readouterr() == ("", message)
    assert_resumes(arguments, tmp_path / "out", run, tmp_path / "whole")


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_training_that_is_stopped_is_resumed_to_the_same_bits(
    number: signal.Signals, run: Run, stopped: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = [*LONG, "--out", str(out), "--checkpoint-every", "1"]
    done = stopped(*arguments, task="mlp", after=600, number=number)  # images: in the third epoch
    if number == signal.SIGKILL:
        assert done.returncode == -number
    else:
        message = f"interrupted; the checkpoint of step 7 is saved in {out / 'checkpoints'}, and --resume continues"
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"funcgrad train mlp: {message}\n")
        assert {path.name for path in out.iterdir()} == {"checkpoints", "metrics.jsonl"}
    assert_resumes(arguments, out, run, tmp_path / "whole")


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


def test_few_examples_are_trained_for_enough_steps_and_it_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "linear", "--limit-train", "100", "--limit-test", "50", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == "funcgrad train linear: trained for 200 epochs, to make 200 steps or more of few examples\n"
    measured = json.loads(out)["metrics"]
    assert (measured["epochs"], measured["steps"]) == (200, 200)
    assert measured["train_accuracy"] > 0.85


def test_the_validation_part_of_the_data_is_used_where_there_is_one() -> None:
    data = datasets.load("digits", limit_train=150, limit_test=60)
    part = Split(data.test.images, data.test.labels, data.test.ids)
    outcome = train.COMMAND.run(data._replace(validation=part), TrainOptions(epochs=3, batch_size=50), CommandRun())
    assert outcome.notes[0] == (
        "validated on the data's own validation part of 60 examples, in place of a --validation share"
    )
    assert outcome.metrics["steps"] == 9  # of all 150
    assert outcome.metrics["validation_accuracy"] == max(outcome.metrics["history"]["validation_accuracy"])
    assert outcome.metrics["validation_accuracy"] == pytest.approx(outcome.metrics["test_accuracy"])


@pytest.mark.exhaustive
def test_a_full_disk_fails_in_one_line_and_the_run_is_resumed(run: Run, tmp_path: Path) -> None:
    """A limit of the size of files stands for the disk."""
    out = tmp_path / "out"
    arguments = ["train", "mlp", "--hidden", "256", "--epochs", "3", "--limit-train", "300", "--checkpoint-every", "1"]
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); from funcgrad import cli"
    command = [sys.executable, "-c", f"{limit}; raise SystemExit(cli.main())", *arguments, "--out", str(out)]
    done = subprocess.run([*command, "--compile-cache", "off"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"funcgrad train mlp: checkpoint: .*step-\d+.npz could not be written: .*large\n", done.stderr)
    assert not [*out.glob("checkpoints/*")]
    assert run(*arguments, "--out", out, "--resume")["metrics"]["epochs"] == 3


@pytest.mark.exhaustive
def test_damaged_checkpoints_are_named_and_earlier_ones_used(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    whole = run(*LONG, "--out", tmp_path, "--checkpoint-every", 2)
    (last,) = tmp_path.glob("checkpoints/step-*18.npz")
    last.write_bytes(last.read_bytes()[:-100])
    assert cli.main([*LONG, "--out", str(tmp_path), "--checkpoint-every", "2", "--resume", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert "step 18" in err
    assert "is damaged and not used: File is not a zip file" in err
    measured = json.loads(out)["metrics"]
    assert {**measured, "notes": []} == whole["metrics"]


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
    assert "two classes or more are needed, and all of one.npz is of class 3" in refused(
        "train", "linear", "--data", tmp_path / "one.npz"
    )
    np.savez(tmp_path / "empty.npz", x=x, y=np.arange(60) % 2, classes=["cat", "dog", "newt"])
    assert cli.main(["train", "linear", "--epochs", "1", "--data", str(tmp_path / "empty.npz"), "--json"]) == 0
    assert capsys.readouterr().err == "funcgrad train linear: no training example of newt\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("train linear --resume", ["--resume: continues what is saved in --out DIR"]),
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
