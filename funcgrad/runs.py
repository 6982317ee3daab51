"""What the commands do: a data set and options in, an `Outcome` out. Nothing is printed or written here."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcgrad import crossval, losses, metrics, models, plots, training
from funcgrad.datasets import Dataset
from funcgrad.knn_runs import KnnOptions, crossval_knn, knn
from funcgrad.outcomes import Bars, Draw, Outcome, confusion, crossval_outcome, of_all, percent
from funcgrad.report import timed


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


# Training


def train(dataset: Dataset, options: TrainOptions, seed: int, bars: Bars) -> Outcome:
    """One training; the test set is measured once, with the parameters of the best epoch on the validation part."""
    seconds: dict[str, float] = {}
    trained = _train(dataset, options, seed, bars, seconds)
    title = f"{dataset.name}: {_name(options)}"
    figures = {"curves.png": _curves({_name(options): trained}, {_name(options): options.loss}, dataset.name)}
    figures["confusion.png"] = confusion(dataset, trained.predictions, title)
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
    outcome = crossval_outcome(dataset, rows, trained.predictions, seconds)
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
            table.append([what, percent(accuracy), of_all(accuracy, dataset.test), *times])
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
