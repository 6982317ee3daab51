"""`funcgrad knn`: its numbers are right, its options reach the search, and it can be resumed."""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from funcgrad import datasets
from funcgrad.cli import knn
from funcgrad.cli.options import KnnOptions
from funcgrad.cli.run import Run as CommandRun
from funcgrad.neighbors import kneighbors

KEYS = ["command", "config", "dataset", "metrics", "seconds", "environment", "notes", "files"]
Run = Callable[..., Any]


@pytest.mark.parametrize(("metric", "right"), [("l1", [340, 343, 343, 338]), ("l2", [344, 348, 347, 342])])
def test_digits_knn_and_its_result(metric: str, right: list[int], run: Run, tmp_path: Path) -> None:
    result = run("knn", "--metric", metric, "--k", 1, 3, 5, 10, "--out", tmp_path / "out")
    assert result["metrics"]["test_accuracy"] == {
        str(k): count / 360 for k, count in zip((1, 3, 5, 10), right, strict=True)
    }
    assert list(result) == KEYS
    assert result["command"] == "knn"
    assert result["config"]["metric"] == metric
    assert list(result["dataset"])[:6] == ["name", "train", "test", "classes", "shape", "fingerprint"]
    assert [result["dataset"][key] for key in ("name", "train", "test", "shape")] == ["digits", 1437, 360, [8, 8, 1]]
    assert list(result["seconds"]) == ["load", "compile", "run"]
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == result
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "confusion.png",
        "neighbors.png",
        "predictions.csv",
        "predictions.npz",
        "result.json",
    ]


def test_predictions_are_those_that_were_counted(run: Run, tmp_path: Path) -> None:
    options = ["--metric", "cosine", "--weights", "softmax", "--temperature", "0.07", "--k", 10, 20, 1]
    measured = run("knn", *options, "--limit-test", 100, "--out", tmp_path / "out")["metrics"]
    data = datasets.load("digits", limit_test=100)
    with np.load(tmp_path / "out" / "predictions.npz", allow_pickle=False) as file:
        written = dict(file)
    assert written["ks"].tolist() == [10, 20, 1]
    assert (written["labels"].dtype, written["probabilities"].dtype) == (np.int32, np.float32)
    assert written["probabilities"].shape == (3, 100, 10)
    np.testing.assert_allclose(written["probabilities"].sum(axis=-1), 1, rtol=1e-6)
    np.testing.assert_array_equal(written["probabilities"].argmax(axis=-1), written["labels"])
    np.testing.assert_array_equal(data.train.labels[written["neighbor_indices"][:, 0]], written["labels"][2])
    assert (np.diff(written["neighbor_distances"]) >= 0).all()
    np.testing.assert_array_equal(written["true_labels"], data.test.labels)
    best = written["labels"][int(np.argmax([*measured["test_accuracy"].values()]))]
    assert np.trace(measured["confusion_matrix"]) == np.sum(best == data.test.labels)
    for number, k in enumerate(("10", "20", "1")):
        assert measured["test_accuracy"][k] == np.mean(written["labels"][number] == data.test.labels)
        shares = written["probabilities"][number]
        ranked = np.argsort(-shares, axis=-1, kind="stable")[:, :5]
        right = (ranked == data.test.labels[:, None]).any(axis=-1) & (shares[np.arange(100), data.test.labels] > 0)
        assert measured["test_top5_accuracy"][k] == np.mean(right)


@pytest.mark.exhaustive
def test_votes_come_out_alike_however_many_queries_are_counted_at_a_time() -> None:
    data, options = datasets.load("digits", limit_test=50), KnnOptions(k=(1, 5))
    found = knn.search(data, options, CommandRun(), {})
    whole = list(knn.count_votes(data, found, options))
    parts = list(knn.count_votes(data, found, options, max_votes=7 * 2 * 10))
    assert (len(whole), len(parts)) == (1, 8)
    np.testing.assert_array_equal(np.concatenate([votes for _, votes in parts], axis=1), whole[0][1])


def test_a_class_without_a_vote_is_no_guess_of_the_top_5(run: Run, tmp_path: Path) -> None:
    """Of vectors that say nothing of their 10 classes, one neighbour guesses one: 10 % are right, and not 50 %."""
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(2000, 4)).astype(np.float32), rng.integers(0, 10, 2000)
    np.savez(tmp_path / "e.npz", x=vectors, y=labels)
    measured = run("knn", "--data", tmp_path / "e.npz", "--k", 1, 3, 50)["metrics"]
    top_1, top_5 = measured["test_accuracy"], measured["test_top5_accuracy"]
    assert top_5["1"] == top_1["1"] == pytest.approx(0.1, abs=0.05)
    assert top_1["3"] < top_5["3"] < 0.36  # at most three guesses
    assert top_5["50"] == pytest.approx(0.5, abs=0.1)


def test_no_top_5_of_five_classes(run: Run) -> None:
    measured = run("knn", "--classes", *"01234", "--limit-test", 20, "--k", 1)["metrics"]
    assert "test_top5_accuracy" not in measured


@pytest.mark.exhaustive
@pytest.mark.parametrize(("metric", "theirs"), [("l1", "manhattan"), ("l2", "euclidean")])
def test_digits_neighbors_are_those_of_scikit_learn_but_for_ties_at_the_end(metric: str, theirs: str) -> None:
    data, k = datasets.load("digits"), 10
    ours = kneighbors(data.test.images, data.train.images, k + 1, metric=metric)
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


INTERRUPTED: dict[str, Any] = {"task": "k-NN", "after": 200, "error": KeyboardInterrupt()}  # in the third chunk


def test_a_run_that_was_interrupted_is_resumed_to_the_same_result(
    run: Run, fails: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out, common = tmp_path / "new" / "out", ["knn", "--metric", "cosine", "--k", 1, 7]
    assert fails(*common, "--out", out, **INTERRUPTED) == 1
    message = f"interrupted; 200 of 360 queries are saved in {out / 'partial'}, and --resume continues"
    assert capsys.readouterr() == ("", f"funcgrad knn: {message}\n")
    assert [path.name for path in out.iterdir()] == ["partial"]
    assert len(list((out / "partial").iterdir())) == 2

    resumed = run(*common, "--out", out, "--resume")
    assert not (out / "partial").exists()
    whole = run(*common, "--out", tmp_path / "whole")
    assert resumed["metrics"].keys() == whole["metrics"].keys()
    assert {**resumed["metrics"], "search": {}} == {**whole["metrics"], "search": {}}  # the whole one is in one chunk
    assert resumed["config"] == whole["config"]
    with np.load(out / "predictions.npz") as mine, np.load(tmp_path / "whole" / "predictions.npz") as other:
        for name in ("ks", "labels", "probabilities"):
            np.testing.assert_array_equal(mine[name], other[name])


@pytest.mark.exhaustive
def test_votes_may_change_in_a_run_that_is_resumed_and_damaged_chunks_are_searched_again(
    run: Run, fails: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert fails("knn", "--k", 3, 9, "--out", tmp_path, **INTERRUPTED) == 1
    capsys.readouterr()
    first, second = sorted((tmp_path / "partial").iterdir())
    content = bytearray(first.read_bytes())
    content[len(content) // 3] ^= 1
    first.write_bytes(content)
    second.write_bytes(second.read_bytes()[:500])
    (tmp_path / "partial" / f".{second.name}.77").write_bytes(b"half of it")
    changed = ["knn", "--k", 1, 9, "--weights", "softmax", "--temperature", 2]
    resumed, whole = run(*changed, "--out", tmp_path, "--resume")["metrics"], run(*changed)["metrics"]
    assert {**resumed, "search": {}} == {**whole, "search": {}}
    assert not (tmp_path / "partial").exists()


@pytest.mark.exhaustive
def test_what_is_saved_of_another_search_is_refused_and_a_fresh_run_removes_it(
    refused: Callable[..., str],
    run: Run,
    fails: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    given = {"--metric": "l2", "--k": 5, "--limit-train": 500, "--limit-test": 300, "--precision": "exact"}

    def arguments(**changed: object) -> list[object]:
        options = given | {f"--{name.replace('_', '-')}": value for name, value in changed.items()}
        return [item for pair in options.items() for item in pair] + ["--out", tmp_path]

    assert fails("knn", *arguments(), **INTERRUPTED) == 1
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
        assert f"--resume: what is saved in {tmp_path / 'partial'} was searched {says}" in line
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
        assert (
            line == f"funcgrad {' '.join(command)}: --resume: continues what is saved in --out DIR, which is missing\n"
        )
    common = ["knn", "--k", 1, "--limit-test", 9]
    resumed = run(*common, "--out", tmp_path / "out", "--resume")
    assert resumed["metrics"] == run(*common)["metrics"]
    (tmp_path / "partial").write_text("mine")
    assert "partial is a file" in refused(*common, "--out", tmp_path)


def test_a_run_that_failed_says_what_is_saved_too(
    fails: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert fails("knn", "--out", tmp_path, task="k-NN", after=200, error=RuntimeError("out of memory")) == 1
    saved = f"200 of 360 queries are saved in {tmp_path / 'partial'}, and --resume continues"
    assert capsys.readouterr().err == f"funcgrad knn: RuntimeError: out of memory (--debug shows where); {saved}\n"


def test_other_files_in_the_place_of_saved_chunks_stay(run: Run, tmp_path: Path) -> None:
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / "notes.txt").write_text("mine")
    run("knn", "--k", 1, "--limit-test", 9, "--out", tmp_path)
    assert [path.name for path in (tmp_path / "partial").iterdir()] == ["notes.txt"]


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_is_stopped_saves_what_it_has_finished(
    number: signal.Signals, run: Run, stopped: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    common = ["knn", "--k", "5", "--out", str(tmp_path / "out")]
    start = time.monotonic()
    done = stopped(*common, task="k-NN", after=200, number=number, sleep=30)
    assert time.monotonic() - start < 25
    if number == signal.SIGKILL:
        assert done.returncode == -number
    else:
        message = f"interrupted; 200 of 360 queries are saved in {tmp_path / 'out' / 'partial'}, and --resume continues"
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"funcgrad knn: {message}\n")
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["partial"]
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert len(list((tmp_path / "out" / "partial").iterdir())) == 2
    resumed, whole = run(*common, "--resume")["metrics"], run("knn", "--k", "5")["metrics"]
    assert {**resumed, "search": {}} == {**whole, "search": {}}
    assert not (tmp_path / "out" / "partial").exists()
