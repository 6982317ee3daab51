"""What the commands do: a data set and options in, an `Outcome` out. Nothing is printed or written here."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcgrad import crossval, losses, metrics, models, neighbors, plots, resume, training
from funcgrad.datasets import Dataset, Split
from funcgrad.report import timed

Draw = Callable[[], Any]  # draws one matplotlib figure
Arrays = Callable[[], Mapping[str, np.ndarray]]  # computes what an .npz file is to hold
Bars = Callable[..., Any]  # bars(what, unit="") is a context manager: a function of (done, total), or None


class Outcome(NamedTuple):
    """The result of a command."""

    metrics: dict[str, Any]
    seconds: dict[str, float]  # "compile" and "run"
    columns: list[str]
    rows: list[list[str]]  # of the printed table
    figures: dict[str, Draw]  # file name → what draws it, when there is somewhere to write it
    failed: str = ""  # what went wrong, where the run came to its end and is worth nothing
    arrays: Mapping[str, Arrays] = MappingProxyType({})  # file name → what computes its content, likewise


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


class TrainOptions(NamedTuple):
    model: str = "linear"
    loss: str = "softmax"
    optimizer: str = "adamw"
    lr: float = 1e-3
    schedule: str = "cosine"
    warmup: float = 0.0  # epochs
    weight_decay: float = 0.0
    l2: float = 0.0
    smoothing: float = 0.0
    epochs: int = 20
    batch_size: int = 128
    hidden: tuple[int, ...] = (256,)
    activation: str = "relu"
    dropout: float = 0.0
    layer_norm: bool = False
    validation: float = 0.1  # the share of the training examples that is held out to watch the training


SWEPT = ("lr", "l2", "weight_decay")  # the options of which `crossval linear|mlp` takes several values


# k-NN


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
    rows = [[k, percent(share), _of(share, dataset.test)] for k, share in accuracies.items()]
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
            data={"data": dataset.fingerprint, "classes": ", ".join(dataset.classes)},
            progress=bar,
        )


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
    figures = {"confusion.png": _confusion(dataset, predictions, f"{title}, k = {k}")}
    if plots.is_image_shape(dataset.test.images.shape[1:]):
        figures["neighbors.png"] = lambda: _neighbors_grid(dataset, found, predictions, k, title)
    return figures


def _confusion(dataset: Dataset, predictions: np.ndarray, title: str) -> Draw:
    labels, classes = dataset.test.labels, dataset.classes
    return lambda: plots.confusion_matrix(
        metrics.confusion_matrix(predictions, labels, len(classes)), classes, title=title
    )


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


# Training


def train(dataset: Dataset, options: TrainOptions, seed: int, bars: Bars) -> Outcome:
    """One training; the test set is measured once, with the parameters of the best epoch on the validation part."""
    seconds: dict[str, float] = {}
    trained = _train(dataset, options, seed, bars, seconds)
    title = f"{dataset.name}: {_name(options)}"
    figures = {"curves.png": _curves({_name(options): trained}, {_name(options): options.loss}, dataset.name)}
    figures["confusion.png"] = _confusion(dataset, trained.predictions, title)
    figures |= _template_figures(dataset, options, trained, title)
    values = trained.metrics
    rows = [[name.replace("_", " "), percent(x) if "accuracy" in name else f"{x:.4f}"] for name, x in values.items()]
    history = {"history": trained.fit.history, "epochs": trained.fit.epochs_done, "stopped_by": trained.fit.stopped_by}
    return Outcome({**values, **history}, seconds, [_name(options), ""], rows, figures, _failed(trained))


def _failed(trained: "Trained") -> str:
    return "the loss is no longer finite; lower the learning rate" if trained.fit.stopped_by == "diverged" else ""


class Trained(NamedTuple):
    fit: training.Fit
    predictions: np.ndarray  # labels of the test set
    metrics: dict[str, float]


def _train(dataset: Dataset, options: TrainOptions, seed: int, bars: Bars, seconds: dict[str, float]) -> Trained:
    key, split_key = jax.random.split(jax.random.key(seed))
    inputs, labels = dataset.train.images, dataset.train.labels
    validation = None
    if options.validation:
        held_out, kept = _hold_out(split_key, labels, options.validation)
        validation = inputs[held_out], labels[held_out]
        inputs, labels = inputs[kept], labels[kept]
    optimizer = _optimizer(options, len(labels))
    loss = losses.make_loss(options.loss, l2=options.l2, smoothing=options.smoothing)
    with bars(_name(options)) as bar, timed(seconds):
        model = _model(options, inputs, len(dataset.classes))
        fit = training.fit(
            key,
            model,
            inputs,
            labels,
            loss=loss,
            optimizer=optimizer,
            epochs=options.epochs,
            batch_size=options.batch_size,
            validation=validation,
            on_epoch=None if bar is None else lambda number, _: bar(number, options.epochs),
        )
        train_scores = training.predict(model, fit.best_params, inputs)
        test_scores = training.predict(model, fit.best_params, dataset.test.images)
        mean_loss = jax.jit(
            lambda scores, labels: jnp.mean(jax.vmap(loss, (0, 0, None))(scores, labels, fit.best_params))
        )
        test_loss = float(mean_loss(test_scores, dataset.test.labels))
    predictions = test_scores.argmax(axis=1)
    measured = {
        "test_accuracy": float(metrics.accuracy(predictions, dataset.test.labels)),
        "train_accuracy": float(metrics.accuracy(train_scores.argmax(axis=1), labels)),
        "test_loss": test_loss,
    }
    if validation is not None:
        measured["validation_accuracy"] = max(fit.history["validation_accuracy"])
    return Trained(fit, predictions, measured)


def _model(options: TrainOptions, inputs: np.ndarray, num_classes: int) -> models.Model:
    if options.model == "linear":
        model = models.linear(num_classes)
    else:
        model = models.mlp(
            options.hidden,
            num_classes,
            activation=options.activation,
            dropout=options.dropout,
            layer_norm=options.layer_norm,
        )
    return models.standardized(model, *models.mean_and_deviation(inputs))


def _hold_out(key: jax.Array, labels: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """The indices of a share of the examples, with each class in its share, and those of the rest."""
    count = round(share * len(labels))
    if not 0 < count < len(labels):
        raise ValueError(
            f"validation: a share of {share:g} of {len(labels)} training examples is {count}, needs 1 or more"
        )
    order = np.asarray(jax.random.permutation(key, len(labels)))
    by_class = order[np.argsort(labels[order], kind="stable")]
    sizes = np.bincount(labels)
    rank = np.arange(len(labels)) - (np.cumsum(sizes) - sizes)[labels[by_class]]
    # Sorted by its place in its class, as a share of the class, every stretch has all classes.
    mixed = by_class[np.argsort((rank + 0.5) / sizes[labels[by_class]], kind="stable")]
    return np.sort(mixed[:count]), np.sort(mixed[count:])


def _optimizer(options: TrainOptions, examples: int, **swept: Any) -> Any:
    if options.warmup >= options.epochs:
        raise ValueError(f"warmup: needs fewer than all {options.epochs} epochs, got {options.warmup:g}")
    steps = -(-examples // min(options.batch_size, examples))
    return training.make_optimizer(
        options.optimizer,
        swept.get("lr", options.lr),
        schedule=options.schedule,
        steps=steps * options.epochs,
        warmup_steps=round(steps * options.warmup),
        weight_decay=swept.get("weight_decay", options.weight_decay),
    )


def _name(options: TrainOptions) -> str:
    shape = "" if options.model == "linear" else " " + "-".join(map(str, options.hidden))
    return f"{options.model}{shape}, {options.loss}"


def _curves(runs: Mapping[str, Trained], kinds: Mapping[str, str], title: str) -> Draw:
    names = {"softmax": "softmax cross-entropy", "svm": "multiclass hinge (SVM)"}
    histories = {name: trained.fit.history for name, trained in runs.items()}
    loss_names = {name: names[kind] for name, kind in kinds.items()}
    return lambda: plots.training_curves(histories, losses=loss_names, title=f"{title}: loss and accuracy by epoch")


def _template_figures(dataset: Dataset, options: TrainOptions, trained: Trained, title: str) -> dict[str, Draw]:
    shape = dataset.train.images.shape[1:]
    if options.model != "linear" or not plots.is_image_shape(shape):
        return {}
    weights = np.asarray(trained.fit.best_params["weights"])
    return {
        "templates.png": lambda: plots.templates(weights, shape, dataset.classes, title=f"{title}: weight templates")
    }


# Cross-validation


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
    with bars("cross-validation") as bar, timed(seconds):
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
            progress=bar,
            memory=options.memory,
        )
    best = crossval.best(rows)
    metric = best.setting["metric"]
    chosen = options._replace(metric=metric, ks=(best.setting["k"],), p=options.p if metric == "minkowski" else None)
    (predictions,), _ = _classify(dataset, _search(dataset, chosen, bars, seconds), chosen)
    series = {name: [row.folds for row in rows if row.setting["metric"] == name] for name in metric_names}
    title = f"{dataset.name}: k-NN, {folds}-fold cross-validation"
    outcome = _crossval_outcome(dataset, rows, predictions, seconds)
    outcome.figures["crossval.png"] = lambda: plots.cross_validation(
        options.ks,
        series,
        best=(best.setting["metric"], best.setting["k"]),
        log_x=max(options.ks) >= 20 * min(options.ks),
        title=title,
    )
    return outcome


def crossval_training(
    dataset: Dataset,
    options: TrainOptions,
    seed: int,
    bars: Bars,
    *,
    swept: Mapping[str, Sequence[float]],
    folds: int = 5,
    seeds: int = 1,
    stratified: bool = False,
) -> Outcome:
    """All combinations of the swept values, trained at once; the best one is trained again on all, and tested once."""
    key, shuffle_key = jax.random.split(jax.random.key(seed))
    grid = np.array(list(itertools.product(*swept.values())), float).T
    settings = dict(zip(swept, grid, strict=True))
    examples, seconds = len(dataset.train.labels), dict[str, float]()
    losses.make_loss(options.loss, smoothing=options.smoothing)  # what is wrong raises before anything is compiled
    for setting in zip(*grid, strict=True):
        _optimizer(options, examples, **dict(zip(swept, map(float, setting), strict=True)))

    def loss(scores: jax.Array, label: jax.Array, params: Any, setting: Any) -> jax.Array:
        l2 = setting.get("l2", options.l2)
        return losses.make_loss(options.loss, l2=l2, smoothing=options.smoothing)(scores, label, params)

    with bars(f"{folds * seeds * grid.shape[1]} trainings") as bar, timed(seconds):
        rows = crossval.sweep(
            key,
            _model(options, dataset.train.images, len(dataset.classes)),
            dataset.train.images,
            dataset.train.labels,
            settings,
            loss=loss,
            optimizer=lambda setting: _optimizer(options, examples, **setting),
            epochs=options.epochs,
            batch_size=options.batch_size,
            folds=folds,
            seeds=seeds,
            shuffle=shuffle_key,
            stratified=stratified,
            on_epoch=bar,
        )
    best = crossval.best(rows)
    chosen: dict[str, Any] = {**best.setting, "validation": 0.0}
    trained = _train(dataset, options._replace(**chosen), seed, bars, seconds)
    outcome = _crossval_outcome(dataset, rows, trained.predictions, seconds)
    first, *others = swept
    if len(swept[first]) > 1:
        series: dict[str, list[tuple[float, ...]]] = {}
        for row in rows:
            series.setdefault(_series_name(row, others), []).append(row.folds)
        outcome.figures["crossval.png"] = lambda: plots.cross_validation(
            swept[first],
            series,
            x_label={"lr": "learning rate"}.get(first, first.replace("_", " ")),
            best=(_series_name(best, others), best.setting[first]),
            log_x=min(swept[first]) > 0,
            title=f"{dataset.name}: {_name(options)}, {folds}-fold cross-validation",
        )
    return outcome._replace(failed=_failed(trained))


def _series_name(row: crossval.Row, names: Sequence[str]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {row.setting[name]:g}" for name in names) or "accuracy"


def _crossval_outcome(
    dataset: Dataset, rows: Sequence[crossval.Row], predictions: np.ndarray, seconds: dict[str, float]
) -> Outcome:
    best = crossval.best(rows)
    test = float(metrics.accuracy(predictions, dataset.test.labels))
    table = [
        [*map(_short, row.setting.values()), percent(row.mean), percent(row.std), "chosen" if row is best else ""]
        for row in rows
    ]
    table.append([*[""] * (len(best.setting) - 1), "test", percent(test), "", "once"])
    cv = [{**row.setting, "mean": row.mean, "std": row.std, "folds": list(row.folds)} for row in rows]
    label = ", ".join(f"{name} = {value}" for name, value in best.setting.items())
    return Outcome(
        {"cv": cv, "best": best.setting, "test_accuracy": test},
        seconds,
        [*(name.replace("_", " ") for name in best.setting), "mean", "deviation", ""],
        table,
        {"confusion.png": _confusion(dataset, predictions, f"{dataset.name}: {label}")},
    )


# The tour


# Chosen by accuracy on held-out training images (5 folds in file order, so that most writers are new), never on the
# test set: of learning rates, penalties, 30 or 60 epochs, batches of 32 to 128, dropout and width those that did best.
RECIPES = {
    "linear softmax": TrainOptions(lr=1e-2, l2=1e-4, epochs=60, batch_size=32),
    "linear SVM": TrainOptions(loss="svm", lr=1e-2, l2=3e-3, epochs=60, batch_size=32),
    "MLP, 256 hidden units": TrainOptions(
        model="mlp", lr=1e-2, weight_decay=0.1, dropout=0.5, epochs=30, batch_size=64
    ),
}


def demo(dataset: Dataset, seed: int, bars: Bars) -> Outcome:
    """k-NN, its cross-validation, two linear classifiers and an MLP on one data set, each timed by itself."""
    total = {"compile": 0.0, "run": 0.0}
    table, collected, figures = [], dict[str, Any](), dict[str, Draw]()

    def add(rows: Mapping[str, float], seconds: Mapping[str, float]) -> None:
        """Rows of the table; the seconds stand in the first, for all of them."""
        times = [f"{seconds[name]:.2f}" for name in total]
        for what, accuracy in rows.items():
            table.append([what, percent(accuracy), _of(accuracy, dataset.test), *times])
            times = ["", ""]
        for name in total:
            total[name] += seconds[name]

    collected["knn"] = {}
    for metric in ("l1", "l2"):
        found = knn(dataset, KnnOptions(metric=metric), bars)
        accuracies = found.metrics["test_accuracy"]
        add({f"k-NN, {metric.upper()}, k = {k}": share for k, share in accuracies.items()}, found.seconds)
        collected["knn"][metric] = accuracies
        figures |= found.figures

    options = KnnOptions(ks=(1, 3, 5, 8, 10, 12, 15, 20, 50, 100))
    validated = crossval_knn(dataset, options, seed, bars, metric_names=("l1", "l2"))
    best = validated.metrics["best"]
    label = f"k-NN, chosen: {best['metric'].upper()}, k = {best['k']}"
    add({label: validated.metrics["test_accuracy"]}, validated.seconds)
    collected["crossval"] = validated.metrics
    figures["crossval.png"] = validated.figures["crossval.png"]

    trained = {}
    for name, recipe in RECIPES.items():
        seconds: dict[str, float] = {}
        trained[name] = _train(dataset, recipe, seed, bars, seconds)
        add({name: trained[name].metrics["test_accuracy"]}, seconds)
        collected[name] = {**trained[name].metrics, "history": trained[name].fit.history}
    figures["curves.png"] = _curves(trained, {name: recipe.loss for name, recipe in RECIPES.items()}, dataset.name)
    first = next(iter(RECIPES))
    figures |= _template_figures(dataset, RECIPES[first], trained[first], f"{dataset.name}: {first}")
    return Outcome(collected, total, ["classifier", "test accuracy", "right", "compile s", "run s"], table, figures)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _of(share: float, split: Split) -> str:
    return f"{round(share * len(split.labels)):,} of {len(split.labels):,}"
