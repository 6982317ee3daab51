"""Cross-validation: folds, k-NN over many k and metrics in one pass, many trainings in one vmapped program."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from funcgrad import training
from funcgrad.folds import fold_neighbors
from funcgrad.metrics import accuracy
from funcgrad.neighbors import Metric, Neighbors, Weights, prepare, vote


class Row(NamedTuple):
    """One setting: its accuracy on each fold, which was held out, and their mean and standard deviation."""

    setting: dict[str, Any]
    mean: float
    std: float  # of the folds as a population (divided by their number), as `numpy.std`
    folds: tuple[float, ...]


def best(rows: Sequence[Row]) -> Row:
    """The row of highest mean; of equals the first."""
    return max(rows, key=lambda row: row.mean)


def split_folds(
    count: int, folds: int = 5, *, shuffle: Array | None = None, stratify: ArrayLike | None = None
) -> list[np.ndarray]:
    """The indices 0 … count − 1 in `folds` parts, as `numpy.array_split` cuts them: CS231n's folds.

    `shuffle` is a key that shuffles the order first. `stratify` are labels (count,): each fold then has each class in
    its share, to within one example.

    Raises `ValueError` for fewer than 2 folds, or more than there are examples.
    """
    if not 2 <= folds <= count:
        raise ValueError(f"folds: needs 2 to {count}, the number of examples; got {folds}")
    order = np.arange(count) if shuffle is None else np.asarray(jax.random.permutation(shuffle, count))
    if stratify is not None:
        labels = np.asarray(stratify)
        if labels.shape != (count,):
            raise ValueError(f"stratify: needs one label for each of {count} examples, got shape {labels.shape}")
        # Dealt like cards, class after class, every fold gets as many of each; within a class the order stays.
        by_class = order[np.argsort(labels[order], kind="stable")]
        dealt = np.arange(count) % folds
        fold_of = dealt[np.lexsort((dealt, labels[by_class]))]
        return [by_class[fold_of == fold] for fold in range(folds)]
    return np.array_split(order, folds)


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
    search: Callable[..., Neighbors] = fold_neighbors,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> list[Row]:
    """Accuracy of k-NN for every metric and k, each fold in turn answered from the others → rows in that order.

    images (N, …), labels (N,) integers; p is of metric "minkowski"; options, such as `memory`, are those of
    `funcgrad.neighbors.kneighbors`. All k share one search, which for bytes measures each pair of images once: see
    `funcgrad.folds`, whose `fold_neighbors` is the default of `search`. `progress` is called with (queries done, all
    queries); each image is one under every metric. Row settings are {"metric": …, "k": …}.
    """
    images, labels = images if hasattr(images, "dtype") else np.asarray(images), np.asarray(labels)
    if len(images) != len(labels):
        raise ValueError(f"labels: needs one for each of the {len(images)} images, got {len(labels)}")
    parts = split_folds(len(labels), folds, shuffle=shuffle, stratify=labels if stratified else None)
    num_classes = int(labels.max()) + 1
    rows = []
    for number, metric in enumerate(metrics):
        index = prepare(images, metric, p=p if metric == "minkowski" else None)
        bar = None if progress is None else _counting(number * len(labels), len(metrics) * len(labels), progress)
        found = search(index, parts, max(ks, default=0), progress=bar, **options)
        accuracies = []
        for fold in parts:
            neighbors = found._replace(distances=found.distances[fold], indices=found.indices[fold])
            votes = vote(neighbors, labels, num_classes, ks=ks, weights=weights)
            accuracies.append(accuracy(jnp.argmax(votes, axis=-1), labels[fold]))
        name = metric if isinstance(metric, str) else getattr(metric, "__name__", str(metric))
        for k, right in zip(ks, np.stack(accuracies, axis=1), strict=True):
            rows.append(_row({"metric": name, "k": int(k)}, right))
    return rows


def _counting(before: int, total: int, progress: Callable[[int, int], None]) -> Callable[[int, int], None]:
    return lambda done, _: progress(before + done, total)


def sweep(
    key: Array,
    model: training.Model,
    inputs: ArrayLike,
    labels: ArrayLike,
    settings: Mapping[str, ArrayLike],
    *,
    loss: Callable[..., Array],
    optimizer: Callable[[Any], Any],
    epochs: int,
    batch_size: int,
    folds: int = 5,
    seeds: int = 1,
    shuffle: Array | None = None,
    stratified: bool = False,
    on_epoch: Callable[[int, int], None] | None = None,
) -> list[Row]:
    """Trains every setting × fold × seed in one vmapped program and measures each on its held-out fold.

    All share the data and the order of the minibatches; a fold is left out by giving its examples weight 0, and seeds
    differ in initialisation and dropout. A training that diverges counts with what its parameters then predict.

    Args:
      settings: {name: (S,) numbers}: one entry a setting.
      loss: (scores, label, params, setting) → the loss of one example, setting being {name: one number}.
      optimizer: setting → Optax transformation.
      on_epoch: called with (epochs done, epochs).

    Raises `ValueError` for settings of different lengths, and for what `funcgrad.training.fit` refuses.

    Returns rows in the order of the settings; `Row.folds` has fold after fold, in each one seed after another.
    """
    inputs, labels = training.checked_examples("", inputs, labels)
    training.check_counts(epochs=epochs, batch_size=batch_size)
    columns = {name: jnp.asarray(values) for name, values in settings.items()}
    lengths = {name: len(values) for name, values in columns.items()}
    if not columns or len(set(lengths.values())) != 1 or seeds < 1:
        raise ValueError(f"settings: needs arrays of one length, and seeds ≥ 1; got lengths {lengths}, seeds={seeds}")
    parts = split_folds(len(labels), folds, shuffle=shuffle, stratify=labels if stratified else None)
    fold_of = np.empty(len(labels), np.int32)
    for number, part in enumerate(parts):
        fold_of[part] = number
    count = next(iter(lengths.values()))
    setting, fold, seed = map(jnp.asarray, np.indices((count, folds, seeds), np.int32).reshape(3, -1))
    runs = {name: values[setting] for name, values in columns.items()}, fold, seed
    batch_size = min(batch_size, len(labels))
    seed_key, order_key = jax.random.split(key)

    def functions(setting: Any) -> dict[str, Any]:
        return {"model": model, "loss": partial(_bound_loss, loss, setting), "optimizer": optimizer(setting)}

    def init(setting: Any, seed: Array) -> training.State:
        return training.init_state(jax.random.fold_in(seed_key, seed), model, optimizer(setting), inputs.shape[1:])

    @partial(jax.jit, donate_argnums=0)
    def run_epoch(
        states: training.State, number: Array, inputs: Array, labels: Array, fold_of: Array
    ) -> training.State:
        key = jax.random.fold_in(order_key, number)
        order = training.shuffled(key, len(labels), batch_size)

        def one_run(state: training.State, setting: Any, fold: Array, seed: Array) -> training.State:
            weights = (fold_of != fold).astype(float)
            own_key = jax.random.fold_in(jax.random.fold_in(key, 1), seed)
            options = {"batch_size": batch_size, **functions(setting)}
            return training.epoch(state, own_key, inputs, labels, weights, order, **options)[0]

        return jax.vmap(one_run)(states, *runs)

    @jax.jit
    def held_out_accuracy(params: Any, inputs: Array, labels: Array, fold_of: Array) -> Array:
        def one_run(params: Any, setting: Any, fold: Array) -> Array:
            _, right = training.evaluate(model, params, inputs, labels, functions(setting)["loss"])
            held_out = fold_of == fold
            return jnp.sum(held_out & right) / jnp.sum(held_out)

        return jax.vmap(one_run)(params, *runs[:2])

    states = jax.jit(jax.vmap(init))(runs[0], seed)
    training.check_range("labels", labels, model, jax.tree.map(lambda x: x[0], states.params), inputs)
    for number in range(1, epochs + 1):
        states = run_epoch(states, np.int32(number), inputs, labels, fold_of)
        if on_epoch is not None:
            on_epoch(number, epochs)
    accuracies = np.asarray(held_out_accuracy(states.params, inputs, labels, fold_of), float).reshape(count, -1)
    names = [{name: np.asarray(values)[i].item() for name, values in settings.items()} for i in range(count)]
    return [_row(name, right) for name, right in zip(names, accuracies, strict=True)]


def _bound_loss(loss: Callable[..., Array], setting: Any, scores: Array, label: Array, params: Any) -> Array:
    return loss(scores, label, params, setting)


def _row(setting: dict[str, Any], accuracies: np.ndarray) -> Row:
    return Row(setting, float(accuracies.mean()), float(accuracies.std()), tuple(accuracies.tolist()))
