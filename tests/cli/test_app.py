"""The command line as a user meets it: what it prints and refuses, and its exit status."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from funcgrad import cli

FILES = "predictions.csv, predictions.npz"
SCRIPT = [sys.executable, "-c", "import sys; from funcgrad.cli import main; sys.exit(main())"]  # what pip installs


def process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SCRIPT, *arguments], capture_output=True, text=True, timeout=120, **options)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("knn --data digit", ["'digit'", "did you mean digits"]),
        ("knn --data nothing.npz", ["nothing.npz: no such file"]),
        ("knn --data cifar10 --data-dir .", ["funcgrad data prepare cifar10"]),
        ("knn --k 0", ["--k", "'0'", "from 1 up"]),
        ("knn --k 2000", ["k:", "2000", "1 to 1437"]),
        ("knn --k 3 3", ["--k", "3 3", "once"]),
        ("knn --resum", ["--resum", "did you mean --resume?"]),
        ("knn --metric foo", ["--metric", "'foo'", "chebyshev"]),
        ("knn --weights foo", ["--weights", "'foo'", "uniform, distance, softmax"]),
        ("knn --precision foo", ["--precision", "'foo'", "exact, fast"]),
        ("knn --metric minkowski", ["p:", "minkowski"]),
        ("knn --p 3", ["p:", "minkowski", "'l2'"]),
        ("knn --classes ten", ["'ten'", "digits has 0, 1"]),
        ("knn --memory lots", ["memory", "'lots'", "500MiB"]),
        ("knn --memory 10", ["memory", "10 bytes"]),
        ("knn --devices 77", ["devices", "77", "4 (cpu)"]),
        ("knn --limit-train 0", ["--limit-train", "'0'"]),
        ("knn --size 5", ["size", "digits"]),
        ("knn --metrik l1", ["--metrik", "did you mean --metric?", "funcgrad knn --help"]),
        ("knn --lim 3", ["unrecognized", "--lim"]),
        ("train linear --lr -1", ["--lr", "'-1'", "above 0"]),
        ("train linear --lr -1e-3", ["--lr", "'-1e-3'", "above 0"]),
        ("train linear --lr nan", ["--lr", "'nan'", "above 0"]),
        ("train linear --optimizer foo", ["optimizer", "'foo'", "adamw", "sgd"]),
        ("train linear --optimizer sgd --weight-decay 0.1", ["weight_decay", "'sgd'", "adamw"]),
        ("train linear --loss svm --label-smoothing 0.1", ["smoothing", "'svm'"]),
        ("train linear --warmup 30", ["warmup", "20 epochs", "30"]),
        ("train linear --limit-train 4", ["validation", "4 training examples"]),
        ("train linear --validation 0.7", ["--validation", "0.5"]),
        ("train linear --hidden 10", ["--hidden", "funcgrad train linear --help"]),
        ("train mlp --dropout 1", ["dropout", "1.0"]),
        ("train mlp --activation foo", ["activation", "'foo'", "gelu"]),
        ("crossval linear --lr 1e-4:1e-1:log", ["--lr", "'1e-4:1e-1:log'", "1e-5:1e-1:log16"]),
        ("crossval linear --lr 0:1:log4", ["--lr", "above 0"]),
        ("crossval linear --lr 0,1", ["--lr", "above 0"]),
        ("crossval linear --lr 1e-3:1e-2:log1", ["--lr", "log1"]),
        ("crossval linear --lr 1e-3,1e-3", ["--lr", "once"]),
        ("crossval linear --l2 -1", ["--l2", "from 0 up"]),
        ("crossval linear --loss svm --label-smoothing 0.1", ["smoothing", "'svm'"]),
        ("crossval linear --folds 1", ["--folds", "from 2 up"]),
        ("crossval linear --limit-train 3", ["folds", "2 to 3", "5"]),
        ("crossval knn --k 1400", ["k:", "1400"]),
        ("crossval knn --metric minkowski", ["p: ", "'minkowski'", "p: needs a finite number from 1 up"]),
        ("crossval svm", ["'svm'", "mlp"]),
        ("train", ["linear|mlp"]),
        ("", ["COMMAND"]),
        ("data info nosuch", ["'nosuch'", "digits"]),
        ("data prepare foo", ["'foo'", "cifar10, mnist, fashion_mnist"]),
    ],
)
def test_a_wrong_request_is_refused_in_one_line(
    arguments: str, says: list[str], refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    takes_out = arguments.startswith(("knn", "train ", "crossval "))
    line = refused(*arguments.split(), *(["--out", tmp_path / "new" / "out"] if takes_out else []))
    assert line.startswith("funcgrad")
    for words in says:
        assert words in line


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"y_test": np.array([0, 7] * 15)}, ["y_test", "row 1", "7", "the classes are 0, 1, 2"]),
        (
            {"x_train": np.where(np.arange(90)[:, None] == 4, np.float32(np.nan), np.zeros((90, 8), np.float32))},
            ["train part", "NaN", "4"],
        ),
        ({"x_test": np.zeros((30, 9), np.float32)}, ["(8,)", "(9,)"]),
    ],
)
def test_wrong_arrays_are_refused_in_one_line(
    change: dict[str, np.ndarray],
    says: list[str],
    refused: Callable[..., str],
    embeddings: dict[str, np.ndarray],
    tmp_path: Path,
) -> None:
    np.savez(tmp_path / "e.npz", **(embeddings | change))  # type: ignore[arg-type]
    line = refused("knn", "--data", tmp_path / "e.npz", "--out", tmp_path / "out")
    for words in ["e.npz", *says]:
        assert words in line


def test_cut_off_files_are_refused_in_one_line(
    refused: Callable[..., str], embeddings: dict[str, np.ndarray], tmp_path: Path
) -> None:
    np.savez(tmp_path / "e.npz", **embeddings)  # type: ignore[arg-type]
    np.save(tmp_path / "x.npy", embeddings["x_train"])
    np.save(tmp_path / "y.npy", embeddings["y_train"])
    for label in "ab":
        (tmp_path / "folder" / label).mkdir(parents=True)
        for number in range(3):
            noise = np.random.default_rng(number).integers(0, 256, (16, 16), np.uint8)
            Image.fromarray(noise).save(tmp_path / "folder" / label / f"{number}.png")
    for file in ("e.npz", "x.npy", "folder/b/1.png"):
        path = tmp_path / file
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for data in (["e.npz"], ["x.npy", "y.npy"], ["folder"]):
        line = refused("knn", "--data", *[tmp_path / name for name in data], "--out", tmp_path / "out")
        assert "not a readable" in line or "images cannot be read" in line
        assert data[0] in line


@pytest.mark.parametrize("command", ["knn", "train linear", "crossval knn", "crossval mlp"])
def test_data_of_one_class_is_refused_by_every_command(
    command: str, refused: Callable[..., str], embeddings: dict[str, np.ndarray], tmp_path: Path
) -> None:
    embeddings["y_train"][:] = embeddings["y_test"][:] = 1
    np.savez(tmp_path / "one.npz", **embeddings)  # type: ignore[arg-type]
    line = refused(*command.split(), "--data", tmp_path / "one.npz")
    assert line.endswith("--data: two classes or more are needed, and all of one.npz is of class 1\n")
    assert "is of class 4" in refused(*command.split(), "--classes", "4")


def test_a_place_that_cannot_be_written_is_refused_first(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "--out" in refused("knn", "--out", tmp_path / "file")
    assert "--out" in refused("knn", "--data", "unknown", "--out", tmp_path / "file" / "below" / "it")


def test_a_directory_in_the_place_of_the_result_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "result.json").mkdir()
    assert "result.json is a directory" in refused("knn", "--k", "1", "--limit-test", "9", "--out", tmp_path)


def test_a_seed_that_no_key_takes_is_refused(refused: Callable[..., str]) -> None:
    assert "--seed" in refused("train", "linear", "--seed", "9" * 23)


def test_debug_shows_where_an_error_came_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["knn", "--k", "2000", "--debug"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.splitlines()[-1].startswith("funcgrad knn: k: needs")


def test_what_is_nobodys_fault_exits_1(fails: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert fails("knn", task="k-NN", after=-1, error=RuntimeError("out of\nmemory")) == 1
    assert capsys.readouterr().err == "funcgrad knn: RuntimeError: out of memory (--debug shows where)\n"


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_full_disk_is_a_failure_and_no_wrong_request(
    wrapped: bool, fails: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    error: Exception = OSError(errno.ENOSPC, "No space left on device", "there")
    if wrapped:
        error, error.__cause__ = ValueError("cannot save"), error
    assert fails("knn", task="k-NN", after=-1, error=error) == 1
    says = "cannot save: No space left on device" if wrapped else "[Errno 28] No space left on device: 'there'"
    assert capsys.readouterr().err == f"funcgrad knn: {says}\n"


@pytest.mark.exhaustive
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a device that is always full")
def test_output_that_cannot_be_written_is_a_failure_in_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*SCRIPT, "data", "list"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "funcgrad data list: [Errno 28] No space left on device\n")


@pytest.mark.exhaustive
@pytest.mark.parametrize("command", [("knn",), ("train", "linear", "--epochs", "1"), ("crossval", "knn")])
def test_files_that_cannot_be_written_are_a_failure_in_one_line(command: tuple[str, ...], tmp_path: Path) -> None:
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); {SCRIPT[2]}"
    arguments = [*command, "--out", str(tmp_path / "out")]
    done = subprocess.run([SCRIPT[0], "-c", limited, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "File too large" in done.stderr
    assert not (tmp_path / "out" / "result.json").exists()


def test_what_another_command_left_is_named_and_its_pictures_go(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    earlier = {"command": "train mlp", "files": ["curves.png", "config.json"]}
    (tmp_path / "result.json").write_text(json.dumps(earlier))
    (tmp_path / "curves.png").touch()
    (tmp_path / "config.json").touch()
    assert cli.main(["knn", "--k", "1", "--limit-test", "60", "--out", str(tmp_path)]) == 0
    err = capsys.readouterr().err
    says = "has the result of funcgrad train mlp, whose pictures and predictions are replaced; other files stay"
    assert err == f"funcgrad knn: {tmp_path} {says}\n"
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".png") == [
        *["config.json", "predictions.csv", "predictions.npz", "result.json"]
    ]
    assert not (tmp_path / "curves.png").exists()
    assert json.loads((tmp_path / "result.json").read_text())["environment"]["command_line"].startswith(
        "funcgrad knn --k 1 --limit-test 60 --out "
    )


def test_the_table_and_the_notes_below_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["knn", "--k", "1", "5", "--limit-test", "50", "--out", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert lines[0] == "digits: 1,437 train, 50 test"
    assert [cell.strip() for cell in lines[4].split("│")[1:3]] == ["1", "100.00 %"]
    assert lines[-2].startswith("load ")
    assert [cell.strip() for cell in lines[2].split("┃")[1:-1]] == ["k", "test accuracy", "right", "top 5"]
    assert lines[-1] == f"{tmp_path / 'out'}/: result.json, confusion.png, neighbors.png, {FILES}"


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["knn", "--limit-test", "20", "--quiet", "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr() == ("", "")
    assert (tmp_path / "out" / "result.json").exists()


@pytest.mark.exhaustive
def test_in_a_pipe_there_is_json_and_nothing_else(tmp_path: Path) -> None:
    done = process("knn", "--limit-test", "20", "--json", "--out", "out", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == json.loads((tmp_path / "out" / "result.json").read_text())
    assert json.loads(done.stdout)["environment"]["devices"] == ["cpu"]


@pytest.mark.exhaustive
def test_a_reader_that_has_enough_is_no_error() -> None:
    with subprocess.Popen([*SCRIPT, "data", "list", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == b""
