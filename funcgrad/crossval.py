"""Cross-validation: k-NN over many k and metrics in one pass, many trainings in one vmapped program."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from funcgrad.folds import split_folds as split_folds
from funcgrad.metrics import accuracy
from funcgrad.neighbors import Metric, Weights, as_index, open_saved, parse_memory, resumable_kneighbors, vote
from funcgrad.training import Model, Sweep, train_settings


class Row(NamedTuple):
    """One setting: its accuracy on each fold, which was held out, and their mean and standard deviation."""

    setting: dict[str, Any]
    mean: float
    std: float  # of the folds as a population (divided by their number), as `numpy.std`
    folds: tuple[float, ...]
    diverged: int = 0  # how many of its trainings


def best(rows: Sequence[Row]) -> Row:
    """The row of highest mean; of equals the first. One that diverged is chosen only if all did."""
    return max(rows, key=lambda row: (not row.diverged, row.mean))


def knn(
    images: Any,
    labels: ArrayLike,
    *,
    ks: Sequence[int],
    metrics: Sequence[Metric] = ("l1", "l2"),
    folds: int = 5,
    shuffle: Array | None = None,
    stratified: bool = False,
    weights: Weights = "uniform",
    p: float | None = None,
    memory: str | int = "1GiB",
    folder: Path | None = None,
    resume: bool = False,
    data: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> list[Row]:
    """Accuracy of k-NN for every metric and k, each fold in turn answered from the others → rows in that order.

    All k share one search. Row settings are {"metric": …, "k": …}.

    Args:
      images (N, …), labels (N,) integers.
      p: of metric "minkowski".
      folder, resume, data: where each finished fold is saved, as by `funcgrad.neighbors.resumable_kneighbors`; `data`
        must tell the images and their folds from others.
      progress: called with (queries done, all queries); each image is one under every metric.
      memory, options: of `funcgrad.neighbors.kneighbors`.
    """
    images, labels = images if hasattr(images, "dtype") else np.asarray(images), np.asarray(labels)
    if len(images) != len(labels):
        raise ValueError(f"labels: needs one for each of the {len(images)} images, got {len(labels)}")
    parts = split_folds(len(labels), folds, shuffle=shuffle, stratify=labels if stratified else None)
    names = [metric if isinstance(metric, str) else getattr(metric, "__name__", str(metric)) for metric in metrics]
    k, total, num_classes = max(ks, default=0), len(metrics) * len(labels), int(labels.max()) + 1
    search = {"metrics": ", ".join(names), "largest k": k, "training examples": len(labels), **(data or {})}
    saved = open_saved(folder, resume, search, total)
    count = len(labels) if options.get("precision", "exact") == "exact" else 0
    shared = {name: options[name] for name in ("mesh", "tuning") if name in options}
    rows, start = [], 0
    for name, metric in zip(names, metrics, strict=True):
        p_of_metric = p if metric == "minkowski" else None
        index = as_index(images, metric, p_of_metric, k=k, queries=count, memory=memory, **shared)
        accuracies = []
        for fold in parts:
            queries, others = index.points[fold], np.isin(np.arange(len(labels)), fold, invert=True)
            given: dict[str, Any] = {"start": start, "mask": others, "memory": memory, "progress": progress}
            found = resumable_kneighbors(queries, index, k, saved, **given, **options)
            start += len(fold)
            votes = vote(found, labels, num_classes, ks=ks, weights=weights)
            accuracies.append(accuracy(np.argmax(votes, axis=-1), labels[fold]))
        for k_of_row, of_folds in zip(ks, np.stack(accuracies, axis=1), strict=True):
            rows.append(_row({"metric": name, "k": int(k_of_row)}, of_folds))
    return rows


def sweep(
    key: Array,
    model: Model,
    inputs: Any,
    labels: ArrayLike,
    settings: Any,
    *,
    loss: Callable[..., Array],
    optimizer: Callable[[Any], Any],
    epochs: int,
    batch_size: int,
    folds: int = 5,
    seeds: int = 1,
    shuffle: Array | None = None,
    stratified: bool = False,
    weights: ArrayLike | None = None,
    memory: str | int = "2GiB",
    on_epoch: Callable[[int, int], None] | None = None,
) -> list[Row]:
    """Trains every setting × fold × seed in one vmapped program and measures each on its held-out fold.

    All share the data and the order of the minibatches; a fold is left out by giving its examples weight 0, and seeds
    differ in initialisation and dropout. A training that diverges changes no other, and is counted in its row.

    Args:
      settings: a tree of arrays (S, …), such as {"lr": …, "l2": …}: one entry a setting.
      loss: (scores, label, params, setting) → the loss of one example, setting having one entry of each array.
      optimizer: setting → Optax transformation.
      weights: (N,) how much each example counts in training; 1 by default.
      memory: of the trainings that run at once; they run in groups where all do not fit.
      on_epoch: called with (epochs done, epochs), of all groups.

    Raises `ValueError` for settings of different lengths, and for what `funcgrad.training.fit` refuses.

    Returns rows in the order of the settings; `Row.folds` has fold after fold, in each one seed after another.
    """
    arrays, labels = jax.tree.map(np.asarray, settings, is_leaf=_numbers), np.asarray(labels)
    parts = split_folds(len(labels), folds, shuffle=shuffle, stratify=labels if stratified else None)
    fold_of = np.empty(len(labels), np.int32)
    for number, part in enumerate(parts):
        fold_of[part] = number
    plan = Sweep(model, loss, optimizer, epochs, batch_size, seeds, parse_memory(memory))
    accuracies, diverged = train_settings(
        key, inputs, labels, fold_of, arrays, plan, weights=weights, on_epoch=on_epoch
    )
    each = [jax.tree.map(lambda x, i=i: x[i].tolist(), arrays) for i in range(len(accuracies))]
    if isinstance(settings, dict):  # in the caller's order; that of a tree is sorted
        each = [{name: setting[name] for name in settings} for setting in each]
    return [
        _row(setting, accuracy.ravel())._replace(diverged=int(lost.sum()))
        for setting, accuracy, lost in zip(each, accuracies, diverged, strict=True)
    ]


def _numbers(x: Any) -> bool:
    return isinstance(x, list | tuple) and len(x) > 0 and all(isinstance(value, int | float) for value in x)


def _row(setting: dict[str, Any], accuracies: np.ndarray) -> Row:
    return Row(setting, float(accuracies.mean()), float(accuracies.std()), tuple(accuracies.tolist()))
