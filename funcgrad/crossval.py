"""Cross-validation: k-NN over many k and metrics in one pass, many trainings in one vmapped program."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh
from jax.typing import ArrayLike

from funcgrad.folds import classification_folds
from funcgrad.folds import split_folds as split_folds
from funcgrad.metrics import accuracy
from funcgrad.neighbors import (
    Index,
    Metric,
    Tuning,
    Weights,
    as_index,
    open_saved,
    parse_memory,
    resumable_kneighbors,
    vote,
)
from funcgrad.training import Checkpoint, Hooks, Model, Sweep, train_settings


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
    ks: int | Sequence[int],
    metrics: Metric | Sequence[Metric] = ("l1", "l2"),
    folds: int = 5,
    shuffle: Array | None = None,
    stratified: bool = True,
    groups: ArrayLike | None = None,
    in_order: bool = False,
    weights: Weights = "uniform",
    temperature: float | None = None,
    p: float | None = None,
    precision: str = "exact",
    memory: str | int = "1GiB",
    mesh: Mesh | None = None,
    mask: ArrayLike | None = None,
    folder: Path | None = None,
    resume: bool = False,
    data: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    tuning: Tuning = Tuning(),  # noqa: B008, a tuple of constants
) -> list[Row]:
    """Accuracy of k-NN for every metric and k, each fold in turn answered from the others → rows in that order.

    All k share one search. Row settings are {"metric": …, "k": …}.

    Args:
      images (N, …), labels (N,) integers.
      ks, metrics: one of each, or several.
      shuffle, stratified, groups, in_order: how folds are made: `funcgrad.folds.classification_folds`.
      weights, temperature: of `funcgrad.neighbors.vote`; only "softmax" has a temperature.
      p: of metric "minkowski".
      mask: (N,) bool, which images may be neighbours; all are queries.
      folder, resume, data: where each finished chunk of a fold is saved, as by `funcgrad.neighbors.open_saved`; `data`
        must tell the images from others.
      progress: called with (queries done, all queries); each image is one under every metric.
      precision, memory, mesh, tuning: of `funcgrad.neighbors.kneighbors`.

    Raises `ValueError` for an argument out of range, or one that has no effect on what was asked for.
    """
    images, labels = images if hasattr(images, "dtype") else np.asarray(images), np.asarray(labels)
    ks = tuple(ks) if np.iterable(ks) else (ks,)
    metrics = (metrics,) if isinstance(metrics, str) or callable(metrics) else tuple(metrics)
    if bad := [k for k in ks if isinstance(k, bool) or not isinstance(k, int | np.integer)]:
        raise TypeError(f"ks: needs whole numbers, got {bad[0]!r}")
    if not ks or not metrics:
        raise ValueError(f"{'metrics' if ks else 'ks'}: needs one or more, got none")
    if np.shape(labels)[:1] != np.shape(images)[:1]:
        raise ValueError(f"labels: needs one for each of the {len(images)} images, got shape {labels.shape}")
    if p is not None and "minkowski" not in metrics:
        raise ValueError(f"p: only metric 'minkowski' has p, got {p}")
    if temperature is not None and weights != "softmax":
        raise ValueError(f"temperature: only weights 'softmax' have one, got {temperature} with {weights!r}")
    allowed = np.ones(len(labels), bool) if mask is None else np.asarray(mask)
    if allowed.shape != labels.shape or allowed.dtype != bool:
        raise ValueError(f"mask: needs ({len(labels)},) of bool, got {allowed.dtype} of shape {allowed.shape}")
    division: dict[str, Any] = {"shuffle": shuffle, "stratified": stratified, "groups": groups, "in_order": in_order}
    parts = classification_folds(labels, folds, **division)
    names = [metric if isinstance(metric, str) else getattr(metric, "__name__", str(metric)) for metric in metrics]
    k, total, num_classes = max(ks), len(metrics) * len(labels), int(labels.max()) + 1
    search = {"metrics": ", ".join(names), "largest k": k, "training examples": len(labels), **(data or {})}
    search["fold assignment"] = zlib.crc32(np.concatenate(parts).astype(np.int64))
    saved = open_saved(folder, resume, search, total)
    voting: dict[str, Any] = {
        "ks": ks,
        "weights": weights,
        **({} if temperature is None else {"temperature": temperature}),
    }
    options: dict[str, Any] = {"precision": precision, "mesh": mesh, "tuning": tuning, "progress": progress}
    rows, start = [], 0
    for name, metric in zip(names, metrics, strict=True):
        p_of_metric = p if metric == "minkowski" else None
        missing = len(labels) - saved.done_among(start, start + len(labels))
        count = missing if precision == "exact" else 0
        if missing:
            index = as_index(images, metric, p_of_metric, k=k, queries=count, memory=memory, mesh=mesh, tuning=tuning)
        else:  # nothing is searched
            index = Index(images.reshape(len(images), -1), metric, p_of_metric)
        accuracies = []
        for fold in parts:
            others = allowed & np.isin(np.arange(len(labels)), fold, invert=True)
            found = resumable_kneighbors(
                index.points[fold], index, k, saved, start=start, mask=others, memory=memory, **options
            )
            start += len(fold)
            votes = vote(found, labels, num_classes, **voting)
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
    stratified: bool = True,
    groups: ArrayLike | None = None,
    in_order: bool = False,
    weights: ArrayLike | None = None,
    memory: str | int = "2GiB",
    checkpoint: Checkpoint | None = None,
    on_epoch: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Row]:
    """Trains every setting × fold × seed in one vmapped program and measures each on its held-out fold.

    All share the data and the order of the minibatches; a fold is left out by giving its examples weight 0, and seeds
    differ in initialisation and dropout. A training that diverges changes no other, and is counted in its row.

    Args:
      settings: a tree of arrays (S, …), such as {"lr": …, "l2": …}: one entry a setting.
      loss: (scores, label, params, setting) → the loss of one example, setting having one entry of each array.
      optimizer: setting → Optax transformation.
      shuffle, stratified, groups, in_order: how folds are made: `funcgrad.folds.classification_folds`.
      weights: (N,) how much each example counts in training; 1 by default.
      memory: of the trainings that run at once; they run in rounds where all do not fit.
      checkpoint: where the sweep is saved after each round of trainings and in between, and whether it is resumed from
        there, which gives the same rows to the bit; `keep` and `every` epochs as in `funcgrad.training.fit`.
      on_epoch: called with (epochs done, epochs), of all rounds.
      should_stop: called about every second; once it returns true, the sweep is saved and raises `KeyboardInterrupt`.

    Raises `ValueError` for settings of different lengths, and for what `funcgrad.training.fit` refuses.

    Returns rows in the order of the settings; `Row.folds` has fold after fold, in each one seed after another.
    """
    arrays, labels = jax.tree.map(np.asarray, settings, is_leaf=_numbers), np.asarray(labels)
    division: dict[str, Any] = {"shuffle": shuffle, "stratified": stratified, "groups": groups, "in_order": in_order}
    parts = classification_folds(labels, folds, **division)
    fold_of = np.empty(len(labels), np.int32)
    for number, part in enumerate(parts):
        fold_of[part] = number
    plan = Sweep(model, loss, optimizer, epochs, batch_size, seeds, parse_memory(memory))
    hooks = Hooks(checkpoint or Checkpoint(), on_epoch, should_stop)
    accuracies, diverged = train_settings(key, inputs, labels, fold_of, arrays, plan, weights=weights, hooks=hooks)
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
