"""What `funcgrad knn` and `funcgrad crossval knn` do: a data set and options in, an `Outcome` out."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from funcgrad import crossval, metrics, neighbors, plots
from funcgrad.cli.outcome import Bars, Draw, Outcome, confusion, crossval_outcome, of_all, percent
from funcgrad.datasets import Dataset
from funcgrad.neighbors import resumable as resume
from funcgrad.report import timed


class KnnOptions(NamedTuple):
    metric: str = "l2"
    p: float | None = None
    ks: tuple[int, ...] = (1, 3, 5, 10)
    weights: str = "uniform"
    temperature: float = 0.07
    precision: str = "exact"
    memory: str = "1GiB"
    devices: int = 1
    folder: Path | None = None  # where what is finished is kept until all is
    resume: bool = False


_TOP = 5
_VOTES = 2**25  # that are in memory at a time


def knn(dataset: Dataset, options: KnnOptions, bars: Bars) -> Outcome:
    """Every k in one pass over the test set."""
    seconds: dict[str, float] = {}
    found = _search(dataset, options, bars, seconds)
    with timed(seconds):
        predictions, top = _classify(dataset, found, options)
    right = metrics.accuracy(predictions, dataset.test.labels)
    accuracies = {str(k): float(share) for k, share in zip(options.ks, right, strict=True)}
    measured: dict[str, Any] = {"test_accuracy": accuracies}
    columns = ["k", "test accuracy", "right"]
    rows = [[k, percent(share), of_all(share, dataset.test)] for k, share in accuracies.items()]
    if top is not None:
        measured["test_top5_accuracy"] = {str(k): float(share) for k, share in zip(options.ks, top, strict=True)}
        columns.append(f"top {_TOP}")
        for row, share in zip(rows, top, strict=True):
            row.append(percent(share))
    best = int(np.argmax(right))
    title = f"{dataset.name}: k-NN, {options.metric.upper()}"
    return Outcome(
        {**measured, "search": found.info._asdict()},
        seconds,
        columns,
        rows,
        _knn_figures(dataset, found, predictions[best], options.ks[best], title),
        arrays={"predictions.npz": lambda: _probabilities(dataset, found, predictions, options)},
    )


def _search(dataset: Dataset, options: KnnOptions, bars: Bars, seconds: dict[str, float]) -> neighbors.Neighbors:
    """The neighbours of the test images."""
    mesh = None
    if options.devices > 1:
        from funcgrad.sharding import make_mesh

        mesh = make_mesh(options.devices)
    with bars(f"k-NN {options.metric}", unit="queries") as bar, timed(seconds):
        return resume.kneighbors(
            dataset.test.images,
            dataset.train.images,
            max(options.ks),
            metric=options.metric,
            p=options.p,
            precision=options.precision,
            memory=options.memory,
            mesh=mesh,
            folder=options.folder,
            resume=options.resume,
            data=_data(dataset),
            progress=bar,
        )


def _data(dataset: Dataset) -> dict[str, str]:
    return {"data": dataset.fingerprint, "classes": ", ".join(dataset.classes)}


def _votes(dataset: Dataset, found: neighbors.Neighbors, options: KnnOptions) -> Iterator[tuple[slice, np.ndarray]]:
    """The votes (len(ks), rows, classes) for some rows at a time: for all queries they may be larger than the data."""
    rows = max(1, _VOTES // (len(options.ks) * len(dataset.classes)))
    for start in range(0, len(found.indices), rows):
        part = slice(start, start + rows)
        some = found._replace(distances=found.distances[part], indices=found.indices[part])
        votes = neighbors.vote(
            some,
            dataset.train.labels,
            len(dataset.classes),
            ks=options.ks,
            weights=options.weights,
            temperature=options.temperature,
        )
        yield part, np.asarray(votes)


def _classify(
    dataset: Dataset, found: neighbors.Neighbors, options: KnnOptions
) -> tuple[np.ndarray, np.ndarray | None]:
    """The labels voted for, (len(ks), queries), and the top-5 accuracies (len(ks),) of more than 5 classes."""
    predictions, top = [], []
    for part, votes in _votes(dataset, found, options):
        labels = dataset.test.labels[part]
        predictions.append(votes.argmax(axis=-1).astype(np.int32))
        if len(dataset.classes) > _TOP:
            top.append(np.rint(metrics.top_k_accuracy(votes, labels, _TOP) * len(labels)))
    shares = np.sum(top, axis=0) / len(found.indices) if top else None
    return np.concatenate(predictions, axis=1), shares


def _probabilities(
    dataset: Dataset, found: neighbors.Neighbors, predictions: np.ndarray, options: KnnOptions
) -> dict[str, np.ndarray]:
    """What `predictions.npz` holds: for each k and query the label, and the share of the votes of each class."""
    shares = np.empty((*predictions.shape, len(dataset.classes)), np.float32)
    for part, votes in _votes(dataset, found, options):
        infinite = np.isinf(votes)  # at a distance whose inverse is beyond float32
        votes = np.where(infinite.any(axis=-1, keepdims=True), infinite, votes)
        shares[:, part] = votes / votes.sum(axis=-1, keepdims=True)
    return {"ks": np.array(options.ks), "labels": predictions, "probabilities": shares}


def _knn_figures(
    dataset: Dataset, found: neighbors.Neighbors, predictions: np.ndarray, k: int, title: str
) -> dict[str, Draw]:
    figures = {"confusion.png": confusion(dataset, predictions, f"{title}, k = {k}")}
    if plots.is_image_shape(dataset.test.images.shape[1:]):
        figures["neighbors.png"] = lambda: _neighbors_grid(dataset, found, predictions, k, title)
    return figures


def _neighbors_grid(dataset: Dataset, found: neighbors.Neighbors, predictions: np.ndarray, k: int, title: str) -> Any:
    """Four queries that were classified right and four that were not, from all over the test set."""
    right = predictions == dataset.test.labels
    rows = np.concatenate([_spread(np.flatnonzero(right), 4), _spread(np.flatnonzero(~right), 4)])
    indices = found.indices[rows, :6]
    voters = "the first votes" if k == 1 else f"the first {k} vote"
    return plots.neighbors_grid(
        np.asarray(dataset.test.images[rows]),
        dataset.test.labels[rows],
        np.asarray(dataset.train.images[indices.ravel()]).reshape(*indices.shape, *dataset.train.images.shape[1:]),
        dataset.train.labels[indices],
        found.distances[rows, :6],
        predictions[rows],
        dataset.classes,
        distance_label="distance",
        title=f"{title}: test images and their nearest training images, of which {voters}",
    )


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]


def crossval_knn(
    dataset: Dataset,
    options: KnnOptions,
    seed: int,
    bars: Bars,
    *,
    metric_names: Sequence[str],
    folds: int = 5,
    shuffled: bool = False,
    stratified: bool = False,
) -> Outcome:
    """k and metric chosen on the training set; the chosen setting is measured once on the test set."""
    seconds: dict[str, float] = {}
    with bars("cross-validation", unit="queries") as bar, timed(seconds):
        split = {"folds": folds, "shuffled": shuffled, "stratified": stratified, "seed": seed if shuffled else None}
        search = resume.fold_search(
            metric_names,
            len(dataset.train.labels),
            max(options.ks),
            folder=options.folder,
            resume=options.resume,
            data={"p": options.p, **split, **_data(dataset)},
        )
        rows = crossval.knn(
            dataset.train.images,
            dataset.train.labels,
            ks=options.ks,
            metrics=metric_names,
            folds=folds,
            shuffle=jax.random.key(seed) if shuffled else None,
            stratified=stratified,
            weights=options.weights,
            p=options.p,
            search=search,
            progress=bar,
            memory=options.memory,
        )
    best = crossval.best(rows)
    metric = best.setting["metric"]
    p = options.p if metric == "minkowski" else None
    chosen = options._replace(metric=metric, ks=(best.setting["k"],), p=p, folder=None)  # what is kept stays
    (predictions,), _ = _classify(dataset, _search(dataset, chosen, bars, seconds), chosen)
    series = {name: [row.folds for row in rows if row.setting["metric"] == name] for name in metric_names}
    title = f"{dataset.name}: k-NN, {folds}-fold cross-validation"
    outcome = crossval_outcome(dataset, rows, predictions, seconds)
    outcome.figures["crossval.png"] = lambda: plots.cross_validation(
        options.ks,
        series,
        best=(best.setting["metric"], best.setting["k"]),
        log_x=max(options.ks) >= 20 * min(options.ks),
        title=title,
    )
    return outcome
