"""`funcgrad knn`: every k in one pass over the test set."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from funcgrad import metrics, neighbors, plots, sharding
from funcgrad.cli.console import count_of, percent
from funcgrad.cli.duplicates import leakage
from funcgrad.cli.options import KnnOptions
from funcgrad.cli.run import DataCommand, Outcome, Run
from funcgrad.cli.signals import in_thread
from funcgrad.datasets import Dataset
from funcgrad.report import Predictions, timed

TOP = 5
MAX_VOTES = 2**25  # in memory at a time


def knn(dataset: Dataset, options: KnnOptions, run: Run) -> Outcome:
    seconds: dict[str, float] = {}
    found = search(dataset, options, run, seconds)
    with timed(seconds):
        predictions, in_top = classify(dataset, found, options)
    shares = metrics.accuracy(predictions, dataset.test.labels)
    accuracies = {str(k): float(share) for k, share in zip(options.k, shares, strict=True)}
    measured: dict[str, Any] = {"test_accuracy": accuracies}
    columns = ["k", "test accuracy", "right"]
    rows = [[k, percent(share), count_of(share, len(dataset.test.labels))] for k, share in accuracies.items()]
    if len(dataset.classes) > TOP:
        top = dict(zip(accuracies, map(float, np.mean(in_top, axis=1)), strict=True))
        measured["test_top5_accuracy"] = top
        columns.append(f"top {TOP}")
        rows = [[*row, percent(share)] for row, share in zip(rows, top.values(), strict=True)]
    best = int(np.argmax(shares))
    k = options.k[best]
    figures = {}
    if plots.is_image_shape(dataset.test.images.shape[1:]):
        figures["neighbors.png"] = lambda: _neighbors_grid(dataset, found, predictions[best], options.metric, k)
    return Outcome(
        {**measured, "search": found.info._asdict()},
        seconds,
        columns,
        rows,
        figures,
        predictions=predicted(dataset, found, predictions, options, best),
        notes=leakage(dataset),
    )


def search(dataset: Dataset, options: KnnOptions, run: Run, seconds: dict[str, float]) -> neighbors.Neighbors:
    """The neighbours of the test images."""
    queries, points, k = dataset.test.images, dataset.train.images, max(options.k)
    mesh = sharding.make_mesh(options.devices) if options.devices > 1 else None
    count = len(queries) if options.precision == "exact" else 0

    def find(report_progress: Callable[..., None]) -> neighbors.Neighbors:
        index = neighbors.as_index(
            points, options.metric, options.p, k=k, queries=count, memory=options.memory, mesh=mesh
        )
        search = {"metric": index.metric, "p": index.p, "largest k": k, "precision": options.precision}
        search |= {**identity(dataset), "training examples": len(points), "test examples": len(queries)}
        saved = neighbors.open_saved(saved_in(run.out), run.resume, search, len(queries), run.chunk)
        report_progress(saved.done, saved.total)
        given: dict[str, Any] = {"precision": options.precision, "memory": options.memory, "mesh": mesh}
        return neighbors.resumable_kneighbors(queries, index, k, saved, progress=report_progress, **given)

    with run.progress(f"k-NN {options.metric}", unit="queries") as report_progress, timed(seconds):
        return in_thread(find, report_progress)


def saved_in(out: Path | None) -> Path | None:
    return None if out is None else out / "partial"


def identity(dataset: Dataset) -> dict[str, str]:
    """What a resumed search has to have in common with what was saved."""
    return {"data": dataset.fingerprint, "classes": ", ".join(dataset.classes)}


def classify(dataset: Dataset, found: neighbors.Neighbors, options: KnnOptions) -> tuple[np.ndarray, np.ndarray]:
    """Of each k and query the label voted for, and whether its own is among the first five: (len(k), queries)."""
    predictions, in_top = [], []
    for rows, votes in count_votes(dataset, found, options):
        predictions.append(votes.argmax(axis=-1).astype(np.int32))
        in_top.append(metrics.in_top_k(votes, dataset.test.labels[rows], min(TOP, votes.shape[-1]), votes=True))
    return np.concatenate(predictions, axis=1), np.concatenate(in_top, axis=1)


def count_votes(
    dataset: Dataset, found: neighbors.Neighbors, options: KnnOptions, max_votes: int = MAX_VOTES
) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows of the queries, and their votes (len(k), rows, classes): those of all may be larger than the data."""
    step = max(1, max_votes // (len(options.k) * len(dataset.classes)))
    for start in range(0, len(found.indices), step):
        rows = slice(start, start + step)
        votes = neighbors.vote(
            found._replace(distances=found.distances[rows], indices=found.indices[rows]),
            dataset.train.labels,
            len(dataset.classes),
            **options.voting,
        )
        yield rows, np.asarray(votes)


def predicted(
    dataset: Dataset, found: neighbors.Neighbors, labels: np.ndarray, options: KnnOptions, best: int
) -> Predictions:
    """Those of one k, from the labels (len(k), queries); the .npz has all, and the neighbours."""

    @functools.cache
    def probabilities() -> np.ndarray:
        """Each class's share of the votes (len(k), queries, classes)."""
        shares = np.empty((*labels.shape, len(dataset.classes)), np.float32)
        for rows, votes in count_votes(dataset, found, options):
            shares[:, rows] = votes / votes.sum(axis=-1, keepdims=True)
        return shares

    return Predictions(
        dataset.test.ids,
        dataset.classes,
        labels[best],
        lambda: probabilities()[best],
        f"{dataset.name}: k-NN, {options.metric}, k = {options.k[best]}",
        dataset.test.labels,
        lambda: {
            "ks": np.array(options.k),
            "labels": labels,
            "probabilities": probabilities(),
            "neighbor_indices": np.asarray(found.indices),
            "neighbor_distances": np.asarray(found.distances),
        },
    )


def _neighbors_grid(dataset: Dataset, found: neighbors.Neighbors, predictions: np.ndarray, metric: str, k: int) -> Any:
    """Four queries that were classified right and four that were not, spread over the test set."""
    right = predictions == dataset.test.labels
    rows = np.concatenate([_spread(np.flatnonzero(right), 4), _spread(np.flatnonzero(~right), 4)])
    indices = found.indices[rows, :6]
    voters = "the first votes" if k == 1 else f"the first {k} vote"
    counts = f"{right.sum():,} of {len(right):,} test images are right. Some that are, and some that are not"
    return plots.neighbors_grid(
        np.asarray(dataset.test.images[rows]),
        dataset.test.labels[rows],
        np.asarray(dataset.train.images[indices.ravel()]).reshape(*indices.shape, *dataset.train.images.shape[1:]),
        dataset.train.labels[indices],
        found.distances[rows, :6],
        predictions[rows],
        dataset.classes,
        title=f"{dataset.name}: k-NN, {metric}: {counts}, and their nearest training images, of which {voters}",
    )


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]


COMMAND = DataCommand(
    KnnOptions,
    knn,
    describe_saved=lambda out: neighbors.describe_saved(out / "partial"),
    remove_saved=lambda out: neighbors.remove_saved(out / "partial"),
)
