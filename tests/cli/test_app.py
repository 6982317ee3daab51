"""The commands as a user meets them: what they print and write, what they refuse, and that the numbers are right."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from funcgrad import cli, datasets
from funcgrad.cli import knn as knn_runs
from funcgrad.cli import values
from funcgrad.cli.options import KnnOptions
from funcgrad.cli.run import Run as CommandRun
from funcgrad.neighbors import cross_fold as folds
from funcgrad.neighbors import resumable as resume
from funcgrad.neighbors import search as neighbors

KEYS = ["command", "config", "dataset", "metrics", "seconds", "environment"]
QUICK = ["--epochs", "2", "--limit-train", "300"]
SCRIPT = [sys.executable, "-c", "import sys; from funcgrad.cli import main; sys.exit(main())"]  # what pip installs
Run = Callable[..., Any]


@pytest.fixture
def embeddings(tmp_path: Path) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    labels = np.arange(120) % 3
    vectors = (3 * np.eye(3, 8)[labels] + random.normal(size=(120, 8))).astype(np.float32)
    return {"x_train": vectors[:90], "y_train": labels[:90], "x_test": vectors[90:], "y_test": labels[90:]}


def process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SCRIPT, *arguments], capture_output=True, text=True, timeout=120, **options)


# Answering at once


@pytest.mark.parametrize(
    "command",
    [
        *["", "demo", "data", "data list", "data info", "data prepare", "knn"],
        *["train", "train linear", "train mlp", "crossval", "crossval knn", "crossval linear", "crossval mlp"],
    ],
)
def test_help_names_every_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main([*command.split(), "--help"])
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: funcgrad {command}".strip())
    assert max(map(len, shown.splitlines())) <= 100
    if command.startswith(("knn", "train ", "crossval ")):
        for option in ("--data", "--limit-train", "--seed", "--out", "--json", "--quiet", "--debug"):
            assert option in shown


@pytest.mark.parametrize(
    "arguments", [["--help"], ["knn", "--help"], ["crossval", "mlp", "--help"], ["knn", "--k", "0"]]
)
def test_help_and_a_mistyped_option_load_nothing_slow(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom funcgrad.cli import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit: print(sorted({'jax', 'numpy', 'optax', 'matplotlib', 'rich'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# k-NN


@pytest.mark.exhaustive
@pytest.mark.parametrize(("metric", "right"), [("l1", [340, 343, 343, 338]), ("l2", [344, 348, 347, 342])])
def test_digits_knn_and_its_result(metric: str, right: list[int], run: Run, tmp_path: Path) -> None:
    result = run("knn", "--metric", metric, "--k", 1, 3, 5, 10, "--out", tmp_path / "out")
    assert result["metrics"]["test_accuracy"] == {
        str(k): count / 360 for k, count in zip((1, 3, 5, 10), right, strict=True)
    }
    assert list(result) == KEYS
    assert result["command"] == "knn"
    assert result["config"]["metric"] == metric
    assert list(result["dataset"]) == ["name", "train", "test", "classes", "shape", "fingerprint"]
    assert [result["dataset"][key] for key in ("name", "train", "test", "shape")] == ["digits", 1437, 360, [8, 8, 1]]
    assert list(result["seconds"]) == ["load", "compile", "run"]
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == result
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "confusion.png",
        "neighbors.png",
        "predictions.npz",
        "result.json",
    ]


@pytest.mark.exhaustive
def test_predictions_are_those_that_were_counted(run: Run, tmp_path: Path) -> None:
    options = ["--metric", "cosine", "--weights", "softmax", "--temperature", "0.07", "--k", 10, 20, 1]
    measured = run("knn", *options, "--limit-test", 100, "--out", tmp_path / "out")["metrics"]
    data = datasets.load("digits", limit_test=100)
    with np.load(tmp_path / "out" / "predictions.npz", allow_pickle=False) as file:
        kept = dict(file)
    assert kept["ks"].tolist() == [10, 20, 1]
    assert (kept["labels"].dtype, kept["probabilities"].dtype) == (np.int32, np.float32)
    assert kept["probabilities"].shape == (3, 100, 10)
    np.testing.assert_allclose(kept["probabilities"].sum(axis=-1), 1, rtol=1e-6)
    np.testing.assert_array_equal(kept["probabilities"].argmax(axis=-1), kept["labels"])
    for number, k in enumerate(("10", "20", "1")):
        assert measured["test_accuracy"][k] == np.mean(kept["labels"][number] == data.test.labels)
        shares = kept["probabilities"][number]
        ranked = np.argsort(-shares, axis=-1, kind="stable")[:, :5]
        right = (ranked == data.test.labels[:, None]).any(axis=-1) & (shares[np.arange(100), data.test.labels] > 0)
        assert measured["test_top5_accuracy"][k] == np.mean(right)


@pytest.mark.exhaustive
def test_votes_come_out_alike_however_many_queries_are_counted_at_a_time() -> None:
    data, options = datasets.load("digits", limit_test=50), KnnOptions(k=(1, 5))
    found = knn_runs.search(data, options, CommandRun(), {})
    whole = list(knn_runs.count_votes(data, found, options))
    parts = list(knn_runs.count_votes(data, found, options, max_votes=7 * 2 * 10))
    assert (len(whole), len(parts)) == (1, 8)
    np.testing.assert_array_equal(np.concatenate([votes for _, votes in parts], axis=1), whole[0][1])


def test_no_top_5_of_five_classes(run: Run) -> None:
    measured = run("knn", "--classes", *"01234", "--limit-test", 20, "--k", 1)["metrics"]
    assert "test_top5_accuracy" not in measured


@pytest.mark.exhaustive
@pytest.mark.parametrize(("metric", "theirs"), [("l1", "manhattan"), ("l2", "euclidean")])
def test_digits_neighbors_are_those_of_scikit_learn_but_for_ties_at_the_end(metric: str, theirs: str) -> None:
    data, k = datasets.load("digits"), 10
    ours = neighbors.kneighbors(data.test.images, data.train.images, k + 1, metric=metric)
    train, test = (split.images.reshape(len(split.images), -1).astype(float) for split in data[1:3])
    distances, indices = NearestNeighbors(n_neighbors=k, algorithm="brute", metric=theirs).fit(train).kneighbors(test)
    np.testing.assert_allclose(ours.distances[:, :k], distances, rtol=1e-6)
    same = [set(mine) == set(other) for mine, other in zip(ours.indices[:, :k], indices, strict=True)]
    tied = ours.distances[:, k - 1] == ours.distances[:, k]
    assert np.all(same | tied)
    assert np.mean(same) > 0.9


@pytest.mark.exhaustive
def test_options_reach_the_search(run: Run, embeddings: dict[str, np.ndarray], tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", **embeddings)  # type: ignore[arg-type]
    common = ["knn", "--data", tmp_path / "e.npz", "--k", 5]
    plain = run(*common)
    assert plain["metrics"]["test_accuracy"]["5"] > 0.8
    assert plain["dataset"]["shape"] == [8]
    shared = run(*common, "--devices", 2, "--memory", "100KiB")
    assert shared["metrics"]["test_accuracy"] == plain["metrics"]["test_accuracy"]
    for given in (
        ["--metric", "minkowski", "--p", "3"],
        ["--metric", "cosine", "--weights", "softmax", "--temperature", "0.1"],
        ["--weights", "distance"],
        ["--precision", "fast"],
    ):
        assert run(*common, *given)["metrics"]["test_accuracy"]["5"] > 0.8


@pytest.mark.exhaustive
def test_a_pair_of_npy_files_and_a_folder_of_images(run: Run, tmp_path: Path) -> None:
    data = datasets.load("digits", limit_train=200)
    np.save(tmp_path / "x.npy", data.train.images.reshape(200, -1).astype(np.float32))
    np.save(tmp_path / "y.npy", data.train.labels)
    result = run("knn", "--data", tmp_path / "x.npy", tmp_path / "y.npy", "--k", 1, "--test-fraction", "0.25")
    assert result["dataset"]["train"] + result["dataset"]["test"] == 200
    assert result["metrics"]["test_accuracy"]["1"] > 0.8

    for number, (image, label) in enumerate(zip(data.train.images[:60], data.train.labels, strict=False)):
        place = tmp_path / "folder" / f"digit {label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(15 * image[..., 0]).save(place / f"{number:03}.png")
    chosen = ["--classes", "digit 0", "digit 1"]
    result = run("knn", "--data", tmp_path / "folder", "--k", 1, "--size", 6, *chosen, "--out", tmp_path / "out")
    assert result["dataset"]["shape"] == [6, 6, 1]
    assert result["dataset"]["classes"] == ["digit 0", "digit 1"]
    assert (tmp_path / "out" / "neighbors.png").stat().st_size > 1000


@pytest.mark.exhaustive
def test_mnist_knn_agrees_with_plain_integer_distances(run: Run, image_data: Path) -> None:
    options = ["--limit-train", 5000, "--limit-test", 500, "--metric", "l2", "--k", 1, 3, 5]
    result = run("knn", "--data", "mnist", "--data-dir", image_data, *options)
    data = datasets.load("mnist", data_dir=image_data, limit_train=5000, limit_test=500)
    train, test = (split.images.reshape(len(split.images), -1).astype(np.int64) for split in data[1:3])
    squares = (test**2).sum(1)[:, None] + (train**2).sum(1) - 2 * test @ train.T
    labels = data.train.labels[np.argsort(squares, axis=1, kind="stable")[:, :5]]
    for k in (1, 3, 5):
        votes = np.stack([(labels[:, :k] == label).sum(1) for label in range(10)], axis=1)
        expected = float(np.mean(votes.argmax(1) == data.test.labels))
        assert result["metrics"]["test_accuracy"][str(k)] == expected
    assert result["metrics"]["test_accuracy"]["1"] > 0.9


# Cross-validation


@pytest.mark.exhaustive
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
    run("crossval", "knn", "--k", 1, "--folds", 2, "--limit-train", 100, "--shuffle", "--stratified", "--metric", "l1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.1", [0.1]),
        ("0,1e-4", [0, 1e-4]),
        ("1e-4:1e-1:log4", [1e-4, 1e-3, 1e-2, 1e-1]),
        ("1:0:lin5", [1, 0.75, 0.5, 0.25, 0]),
        ("0.1:0.3:lin2", [0.1, 0.3]),
    ],
)
def test_values_are_a_number_a_list_or_a_range(text: str, expected: list[float]) -> None:
    assert values.numbers()(text) == tuple(expected)


# What is refused


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
        ("crossval knn --metric minkowski", ["p: ", "'minkowski'", "p ≥ 1"]),
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
        ({"y_test": np.array([0, 7] * 15)}, ["y_test", "row 1", "7", "3 training classes"]),
        ({"y_train": np.arange(90) - 1}, ["y_train", "row 0", "-1"]),
        (
            {"x_train": np.where(np.arange(90)[:, None] == 4, np.float32(np.nan), np.zeros((90, 8), np.float32))},
            ["training part", "NaN", "4"],
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
        assert "not a readable" in line
        assert data[0] in line


def test_a_place_that_cannot_be_written_is_refused_first(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "--out" in refused("knn", "--out", tmp_path / "file")
    assert "--out" in refused("knn", "--data", "unknown", "--out", tmp_path / "file" / "below" / "it")


def test_debug_shows_where_an_error_came_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["knn", "--k", "2000", "--debug"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.splitlines()[-1].startswith("funcgrad knn: k: needs")


def test_what_is_nobodys_fault_exits_1(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr(datasets, "load", fail)
    assert cli.main(["knn"]) == 1
    assert capsys.readouterr().err == "funcgrad knn: RuntimeError: out of memory (--debug shows where)\n"


# Printing


@pytest.mark.exhaustive
def test_the_table_and_the_notes_below_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["knn", "--k", "1", "5", "--limit-test", "50", "--out", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert lines[0] == "digits: 1,437 train, 50 test"
    assert [cell.strip() for cell in lines[4].split("│")[1:3]] == ["1", "100.00 %"]
    assert lines[-2].startswith("load ")
    assert [cell.strip() for cell in lines[2].split("┃")[1:-1]] == ["k", "test accuracy", "right", "top 5"]
    assert lines[-1] == f"{tmp_path / 'out'}/: result.json, confusion.png, neighbors.png, predictions.npz"


@pytest.mark.exhaustive
def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["knn", "--limit-test", "20", "--quiet", "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr() == ("", "")
    assert (tmp_path / "out" / "result.json").exists()


def test_data_list_and_info(capsys: pytest.CaptureFixture[str], run: Run, tmp_path: Path) -> None:
    assert cli.main(["data", "list", "--data-dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert "│ digits │ 1,437 │  360 │      10 │ 8 × 8 × 1 uint8 │ embedded in scikit-learn │" in lines
    assert "mnist: `funcgrad data prepare mnist` writes it" in lines
    assert run("data", "list", "--data-dir", tmp_path)[0]["name"] == "digits"

    assert cli.main(["data", "info", "digits"]) == 0
    assert "classes 10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\n" in capsys.readouterr().out
    assert run("data", "info", "digits")["shape"] == [8, 8, 1]
    assert cli.main(["data", "info", "mnist", "--data-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == (
        f"name    mnist\nwhere   not in {tmp_path}\nnote    `funcgrad data prepare mnist` writes it\n"
    )


def test_data_prepare_says_what_archives_it_takes(refused: Callable[..., str], tmp_path: Path) -> None:
    line = refused("data", "prepare", "mnist", "--from", tmp_path / "none", "--data-dir", tmp_path / "new")
    assert "train-images-idx3-ubyte.gz" in line


def test_a_directory_in_the_place_of_the_result_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "result.json").mkdir()
    assert "result.json is a directory" in refused("knn", "--k", "1", "--limit-test", "9", "--out", tmp_path)


def test_labels_that_are_ids_are_refused(
    refused: Callable[..., str], embeddings: dict[str, np.ndarray], tmp_path: Path
) -> None:
    embeddings["y_train"][7] = 900_000
    np.savez(tmp_path / "ids.npz", **embeddings)
    line = refused("knn", "--data", tmp_path / "ids.npz", "--k", "1")
    assert "the label of row 7 is 900000; 0..999, by 90 rows without class names, are accepted" in line


def test_a_seed_that_no_key_takes_is_refused(refused: Callable[..., str]) -> None:
    assert "--seed" in refused("train", "linear", "--seed", "9" * 23)


@pytest.mark.exhaustive
def test_minkowski_is_cross_validated_beside_others(run: Run) -> None:
    limits = ("--limit-train", "60", "--limit-test", "10", "--k", "1", "--folds", "2")
    measured = run("crossval", "knn", "--metric", "l2", "minkowski", "--p", "2", *limits)["metrics"]["cv"]
    assert [row["metric"] for row in measured] == ["l2", "minkowski"]
    assert measured[0]["mean"] == measured[1]["mean"]


# As a process


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


@pytest.mark.exhaustive
@pytest.mark.parametrize("seconds", [0.6, 2, 5])
def test_an_interrupt_says_so_and_leaves_nothing(seconds: float, tmp_path: Path) -> None:
    """During the imports, where NumPy swallows it; while compiling; in a training that is kept nowhere."""
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from funcgrad.cli import main; print(flush=True); sys.exit(main())"
    arguments = ["train", "mlp", "--epochs", "100000", *(["--out", str(tmp_path / "out")] if seconds < 1 else [])]
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=-1, stderr=-1, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(seconds)
        os.kill(child.pid, signal.SIGINT)
        try:
            out, err = child.communicate(timeout=180)
        finally:
            child.kill()
    assert (child.returncode, out) == (1, "")
    assert err == "funcgrad train mlp: interrupted; nothing was written\n"
    assert list(tmp_path.iterdir()) == []


class Interrupted:
    """Runs a k-NN of the digits, in stretches of 100 queries, that is interrupted or fails in the third."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
        self.patch, self.error, self.searched = monkeypatch, error, 0
        monkeypatch.setattr(resume, "_stretch", lambda *_: 100)

    def __call__(self, *arguments: object) -> int:
        search = neighbors.kneighbors

        def stopping(*given: Any, **options: Any) -> Any:
            self.searched += 1
            if self.searched == 3:
                raise self.error
            return search(*given, **options)

        with self.patch.context() as patch:
            patch.setattr(neighbors, "kneighbors", stopping)
            return cli.main([*map(str, arguments)])


@pytest.mark.exhaustive
def test_a_run_that_was_interrupted_goes_on_to_the_same_result(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out, common = tmp_path / "new" / "out", ["knn", "--metric", "cosine", "--k", 1, 7]
    interrupted = Interrupted(monkeypatch, KeyboardInterrupt())
    assert interrupted(*common, "--out", out) == 1
    said = f"interrupted; 200 of 360 queries are kept in {out / 'partial'}, and --resume goes on"
    assert capsys.readouterr() == ("", f"funcgrad knn: {said}\n")
    assert [path.name for path in out.iterdir()] == ["partial"]
    assert len(list((out / "partial").iterdir())) == 2

    resumed = run(*common, "--out", out, "--resume")
    assert not (out / "partial").exists()
    whole = run(*common, "--out", tmp_path / "whole")
    assert resumed["metrics"] == whole["metrics"]
    assert resumed["config"] == whole["config"]
    with np.load(out / "predictions.npz") as mine, np.load(tmp_path / "whole" / "predictions.npz") as other:
        for name in ("ks", "labels", "probabilities"):
            np.testing.assert_array_equal(mine[name], other[name])


@pytest.mark.exhaustive
def test_votes_may_change_in_a_run_that_goes_on_and_damaged_stretches_are_searched_again(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    interrupted = Interrupted(monkeypatch, KeyboardInterrupt())
    assert interrupted("knn", "--k", 3, 9, "--out", tmp_path) == 1
    capsys.readouterr()
    first, second = sorted((tmp_path / "partial").iterdir())
    content = bytearray(first.read_bytes())
    content[len(content) // 3] ^= 1
    first.write_bytes(content)
    second.write_bytes(second.read_bytes()[:500])
    (tmp_path / "partial" / f".{second.name}.77").write_bytes(b"half of it")
    changed = ["knn", "--k", 1, 9, "--weights", "softmax", "--temperature", 2]
    resumed = run(*changed, "--out", tmp_path, "--resume")
    assert resumed["metrics"] == run(*changed)["metrics"]
    assert not (tmp_path / "partial").exists()


@pytest.mark.exhaustive
def test_what_is_kept_of_another_search_is_refused_and_a_fresh_run_removes_it(
    refused: Callable[..., str],
    run: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    given = {"--metric": "l2", "--k": 5, "--limit-train": 500, "--limit-test": 300, "--precision": "exact"}

    def arguments(**changed: object) -> list[object]:
        options = given | {f"--{name.replace('_', '-')}": value for name, value in changed.items()}
        return [item for pair in options.items() for item in pair] + ["--out", tmp_path]

    interrupted = Interrupted(monkeypatch, KeyboardInterrupt())
    assert interrupted("knn", *arguments()) == 1
    capsys.readouterr()
    for changed, says in [
        ({"metric": "l1"}, "with metric l2 and not l1;"),
        ({"metric": "minkowski", "p": 3}, "with metric l2 and not minkowski, p none and not 3.0;"),
        ({"k": 4}, "with largest k 5 and not 4;"),
        ({"limit_train": 400}, "with training examples 500 and not 400;"),
        ({"limit_test": 301}, "with test examples 300 and not 301;"),
        ({"precision": "fast"}, "with precision exact and not fast;"),
    ]:
        line = refused("knn", *arguments(**changed), "--resume")
        assert f"--resume: what is kept in {tmp_path / 'partial'} was searched {says}" in line
    np.savez(tmp_path / "e.npz", x=np.eye(600, 8).astype(np.float32), y=np.arange(600) % 3)
    assert "data " in refused("knn", *arguments(data=tmp_path / "e.npz", limit_train=10, limit_test=9), "--resume")
    assert run("knn", *arguments(k=4))["metrics"]["test_accuracy"].keys() == {"4"}
    assert not (tmp_path / "partial").exists()


@pytest.mark.exhaustive
def test_resume_needs_a_place_and_with_nothing_there_just_runs(
    refused: Callable[..., str], run: Run, tmp_path: Path
) -> None:
    for command in (["knn"], ["crossval", "knn"]):
        line = refused(*command, "--resume")
        assert line == f"funcgrad {' '.join(command)}: --resume: goes on from what is in --out DIR, and needs it\n"
    common = ["knn", "--k", 1, "--limit-test", 9]
    resumed = run(*common, "--out", tmp_path / "out", "--resume")
    assert resumed["metrics"] == run(*common)["metrics"]
    (tmp_path / "partial").write_text("mine")
    assert "partial is a file" in refused(*common, "--out", tmp_path)


CROSSVAL = ["crossval", "knn", "--metric", "l1", "cosine", "--k", 1, 5, "--folds", 3, "--limit-train", 300]


@pytest.mark.exhaustive
def test_a_cross_validation_that_was_interrupted_goes_on_to_the_same_result(
    refused: Callable[..., str],
    run: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    whole = run(*CROSSVAL)
    with monkeypatch.context() as patch:
        interrupted = Interrupted(patch, KeyboardInterrupt())
        assert interrupted(*CROSSVAL, "--out", tmp_path) == 1
    said = f"interrupted; 600 of 600 queries are kept in {tmp_path / 'partial'}, and --resume goes on"  # but a proof
    assert capsys.readouterr() == ("", f"funcgrad crossval knn: {said}\n")
    for changed, says in [
        (["--folds", 4], "with folds 3 and not 4;"),
        (["--shuffle"], "with shuffled False and not True, seed none and not 0;"),
        (["--stratified"], "with stratified False and not True;"),
        (["--metric", "l1"], "with metrics l1, cosine and not l1;"),
        (["--k", 4], "with largest k 5 and not 4;"),
        (["--limit-train", 290], "with training examples 300 and not 290;"),
    ]:
        assert f"was searched {says}" in refused(*CROSSVAL, *changed, "--out", tmp_path, "--resume")
    assert "folds 3 and not none" in refused("knn", "--k", 5, "--out", tmp_path, "--resume")
    monkeypatch.setattr(folds, "_merge_groups", None)  # all is kept
    resumed = run(*CROSSVAL, "--out", tmp_path, "--resume")
    assert resumed["metrics"] == whole["metrics"]
    assert resumed["config"] == whole["config"]
    assert not (tmp_path / "partial").exists()


@pytest.mark.exhaustive
def test_a_cross_validation_stopped_in_its_test_search_keeps_what_came_before(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    common = [*CROSSVAL, "--metric", "l1", "--out", tmp_path]

    def stopping(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(neighbors, "kneighbors", stopping)
        assert cli.main([*map(str, common)]) == 1
    assert "interrupted; 300 of 300 queries are kept" in capsys.readouterr().err
    monkeypatch.setattr(folds, "_merge_groups", None)
    run(*common, "--resume")
    assert not (tmp_path / "partial").exists()


def test_a_run_that_failed_says_what_is_kept_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failing = Interrupted(monkeypatch, RuntimeError("out of memory"))
    assert failing("knn", "--out", tmp_path) == 1
    kept = f"200 of 360 queries are kept in {tmp_path / 'partial'}, and --resume goes on"
    assert capsys.readouterr().err == f"funcgrad knn: RuntimeError: out of memory (--debug shows where); {kept}\n"


def test_other_files_in_the_place_of_what_is_kept_stay(run: Run, tmp_path: Path) -> None:
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / "notes.txt").write_text("mine")
    run("knn", "--k", 1, "--limit-test", 9, "--out", tmp_path)
    assert [path.name for path in (tmp_path / "partial").iterdir()] == ["notes.txt"]


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_is_stopped_keeps_what_it_has_finished(number: signal.Signals, run: Run, tmp_path: Path) -> None:
    code = f"""if True:
        import os, signal, sys, time
        signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the shell that runs the tests set
        from funcgrad import cli
        from funcgrad.neighbors import search as neighbors
        from funcgrad.neighbors import resumable as resume
        search, calls = neighbors.kneighbors, []
        def stopping(*given, **options):
            calls.append(1)
            if len(calls) == 3:
                os.kill(os.getpid(), {int(number)})
                time.sleep(30)
            return search(*given, **options)
        neighbors.kneighbors, resume._stretch = stopping, lambda *_: 100
        sys.exit(cli.main())
    """
    common = ["knn", "--k", "5", "--out", str(tmp_path / "out")]
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, *common], capture_output=True, text=True, timeout=180, check=False
    )
    assert time.monotonic() - start < 25
    if number == signal.SIGKILL:
        assert done.returncode == -number
    else:
        said = f"interrupted; 200 of 360 queries are kept in {tmp_path / 'out' / 'partial'}, and --resume goes on"
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"funcgrad knn: {said}\n")
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["partial"]
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert len(list((tmp_path / "out" / "partial").iterdir())) == 2
    resumed, whole = run(*common, "--resume")["metrics"], run("knn", "--k", "5")["metrics"]
    assert {**resumed, "search": {}} == {**whole, "search": {}}  # for the whole one is searched in one stretch
    assert not (tmp_path / "out" / "partial").exists()


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_cross_validation_that_is_stopped_keeps_what_it_has_finished(
    number: signal.Signals, run: Run, tmp_path: Path
) -> None:
    code = f"""if True:
        import os, signal, sys, time
        signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the shell that runs the tests set
        from funcgrad import cli
        from funcgrad.neighbors import merge_step as blocks
        from funcgrad.neighbors import cross_fold as folds
        merge, calls = folds._merge_groups, []
        def stopping(*given):
            calls.append(1)
            if len(calls) == 6:  # 3 of the first 100 queries, 2 of the second
                os.kill(os.getpid(), {int(number)})
                time.sleep(30)
            return merge(*given)
        folds._merge_groups, blocks._PAIR_BLOCK, blocks._GROUP_ROWS = stopping, 100, 100
        sys.exit(cli.main())
    """
    out = tmp_path / "out"
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, CROSSVAL), "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert time.monotonic() - start < 25
    assert [path.name for path in (out / "partial").iterdir()] == ["folds-l1-000000200-of-000000600.npz"]
    if number == signal.SIGKILL:
        assert done.returncode == -number
    else:
        said = f"interrupted; 200 of 600 queries are kept in {out / 'partial'}, and --resume goes on"
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"funcgrad crossval knn: {said}\n")
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert run(*CROSSVAL, "--out", out, "--resume")["metrics"] == run(*CROSSVAL)["metrics"]
    assert not (out / "partial").exists()


def interrupted(code: str) -> subprocess.CompletedProcess[str]:
    """Runs a Python program in which `interrupt()` sends one to itself and waits for it."""
    code = f"""if True:
        import gc, os, signal, time
        from funcgrad.cli import signals as interrupts
        signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the shell that runs the tests set
        def interrupt(*_): gc.callbacks.clear(); os.kill(os.getpid(), signal.SIGINT); time.sleep(0.2)
{code}
        """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGINT
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"
    return done


@pytest.mark.exhaustive
@pytest.mark.parametrize("lost", ["gc.collect()", "swallow()"])
def test_an_interrupt_that_is_lost_is_raised_again(lost: str) -> None:
    """Python ignores it in a callback of the garbage collector; a library may catch it and go on."""
    done = interrupted(f"""
        def swallow():
            try: interrupt()
            except KeyboardInterrupt: pass
        gc.callbacks.append(interrupt)
        with interrupts.handle_signals():
            {lost}
            time.sleep(10)
            print("slept through it")
    """)
    assert done.stdout == ""
    assert "ignored" not in done.stderr


@pytest.mark.exhaustive
def test_an_interrupt_on_its_way_out_is_not_raised_again() -> None:
    """What tidies up may take its time, and meet errors of its own."""
    done = interrupted("""
        with interrupts.handle_signals():
            try: interrupt()
            finally:
                time.sleep(1)
                try: raise ValueError
                except ValueError: time.sleep(1)
                print("tidy")
    """)
    assert done.stdout == "tidy\n"


@pytest.mark.exhaustive
def test_the_demo(run: Run, tmp_path: Path) -> None:
    result = run("demo", "--out", tmp_path)
    written = {path.name for path in tmp_path.iterdir()}
    pictures = {f"{name}.png" for name in ("crossval", "curves", "templates", "neighbors", "confusion")}
    assert written == pictures | {"result.json"}
    measured = result["metrics"]
    assert measured["knn"]["l1"] == {"1": 340 / 360, "3": 343 / 360, "5": 343 / 360, "10": 338 / 360}
    assert measured["knn"]["l2"] == {"1": 344 / 360, "3": 348 / 360, "5": 347 / 360, "10": 342 / 360}
    assert len(measured["crossval"]["cv"]) == 20
    floors = {"linear softmax": 0.88, "linear SVM": 0.88, "MLP, 256 hidden units": 0.90}
    for name, floor in floors.items():
        assert measured[name]["test_accuracy"] >= floor
