"""What `funcgrad train` does: a data set and options in, an `Outcome` out."""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcgrad import losses, metrics, models, plots, sharding, training
from funcgrad.cli.outcome import Bars, Draw, Outcome, confusion, percent
from funcgrad.cli.predict import Probe
from funcgrad.datasets import Dataset
from funcgrad.folds import hold_out
from funcgrad.report import timed
from funcgrad.training import augment
from funcgrad.training import batches as feeding


class TrainOptions(NamedTuple):
    model: str = "linear"
    loss: str = "softmax"
    optimizer: str = "adamw"
    lr: float = 1e-3
    schedule: str = "cosine"
    warmup: float = 0.0  # epochs
    weight_decay: float = 0.0
    clip_norm: float | None = None
    l1: float = 0.0
    l2: float = 0.0
    label_smoothing: float = 0.0
    epochs: int = 20
    batch_size: int = 128
    hidden: tuple[int, ...] = (256,)
    activation: str = "relu"
    dropout: float = 0.0
    layer_norm: bool = False
    residual: bool = False
    initialization: str | None = None
    dtype: str = "float32"  # of the computation
    augment: str | None = None
    mixup: float = 0.0  # alpha; 0 mixes nothing
    validation: float = 0.1  # the share of the training examples that is held out to watch the training
    patience: int | None = None
    skip_nonfinite: bool = False
    devices: int | None = 1  # None: all there are
    split_hidden: int = 1
    folder: Path | None = None  # where checkpoints and metrics.jsonl go
    checkpoint_every: int | None = None
    keep: int = 3
    resume: bool = False


_ELSEWHERE = ("devices", "split_hidden", "folder", "checkpoint_every", "keep", "resume")  # where, not what
_SECONDS = 10.0  # between two checkpoints, unless it is said after how many epochs


def train(
    dataset: Dataset, options: TrainOptions, seed: int, bars: Bars, should_stop: Callable[[], bool] = lambda: False
) -> Outcome:
    """One training; the test set is measured once, with the parameters of the best epoch on the validation part.

    Raises `KeyboardInterrupt` once `should_stop` says so and the training is kept.
    """
    seconds: dict[str, float] = {}
    trained = train_one(dataset, options, seed, bars, seconds, should_stop)
    fit, title = trained.fit, f"{dataset.name}: {name_of(options)}"
    figures = {}
    if fit.history:
        figures["curves.png"] = curves({name_of(options): trained}, {name_of(options): options.loss}, dataset.name)
    figures["confusion.png"] = confusion(dataset, trained.scores.argmax(axis=1), title)
    figures["learning_rate.png"] = lambda: plots.learning_rate_curve(
        trained.rates, epochs=options.epochs, title=f"{title}: learning rate"
    )
    figures |= template_figures(dataset, options, trained, title)
    if plots.is_image_shape(dataset.test.images.shape[1:]) and np.isfinite(trained.scores).all():
        figures["mistakes.png"] = lambda: _mistakes(dataset, trained.scores, title)
    values = trained.metrics
    rows = [[name.replace("_", " "), percent(x) if "accuracy" in name else _number(x)] for name, x in values.items()]
    notes = (*missing(dataset), *(fit.notes if fit.stopped_by != "diverged" else fit.notes[:-1]))
    said = {"history": fit.history, "epochs": fit.epochs_done, "stopped_by": fit.stopped_by, "notes": list(fit.notes)}
    return Outcome(
        {**values, **said},
        seconds,
        [name_of(options), ""],
        rows,
        figures,
        failed(trained),
        writes=trained.probe.write,
        notes=notes,
    )


def _number(x: float) -> str:
    return f"{x:.4f}" if abs(x) < 1e4 else f"{x:.4g}"


def missing(dataset: Dataset) -> list[str]:
    """A line that names the classes that cannot be learned."""
    counts = np.bincount(dataset.train.labels, minlength=len(dataset.classes))
    names = [name for name, count in zip(dataset.classes, counts, strict=True) if not count]
    return [f"no training example of {', '.join(names[:10])}{', …' if len(names) > 10 else ''}"] if names else []


def failed(trained: "Trained") -> str:
    if trained.fit.stopped_by != "diverged":
        return ""
    return f"{trained.fit.notes[-1]}; lower the learning rate, or leave such steps out (--skip-nonfinite)"


class Trained(NamedTuple):
    fit: training.Fit
    probe: Probe
    scores: np.ndarray  # of the test set
    metrics: dict[str, float]
    rates: np.ndarray  # the learning rate at each step


def train_one(
    dataset: Dataset,
    options: TrainOptions,
    seed: int,
    bars: Bars,
    seconds: dict[str, float],
    should_stop: Callable[[], bool] = lambda: False,
) -> Trained:
    if len(dataset.classes) < 2:
        raise ValueError(f"--data: a classifier needs two classes or more, and all is of class {dataset.classes[0]}")
    key, split_key = jax.random.split(jax.random.key(seed))
    inputs, labels = dataset.train.images, dataset.train.labels
    validation = None
    if options.validation:
        held_out, kept = hold_out(split_key, labels, options.validation)
        validation = inputs[held_out], labels[held_out]
        inputs, labels = feeding.selected(inputs, kept), labels[kept]
    schedule = _schedule(options, len(labels))
    loss = losses.make_loss(options.loss, l1=options.l1, l2=options.l2, smoothing=options.label_smoothing)
    mesh = None
    if options.devices != 1 or options.split_hidden != 1:
        mesh = sharding.make_mesh(options.devices, hidden=options.split_hidden)
    with bars(name_of(options), unit="images") as bar, timed(seconds):
        untrained = probe_of(dataset, options, inputs)
        fit = training.fit(
            key,
            untrained.model,
            inputs,
            labels,
            loss=loss,
            optimizer=make_optimizer(options, len(labels)),
            epochs=options.epochs,
            batch_size=options.batch_size,
            augment=None if options.augment is None else augment.make_augment(options.augment),
            mix=_mixing(options.mixup) if options.mixup else None,
            validation=validation,
            patience=options.patience,
            skip_nonfinite=options.skip_nonfinite,
            checkpoint=_checkpoint(dataset, options, seed),
            mesh=mesh,
            on_epoch=None
            if options.folder is None
            else _log(options.folder / "metrics.jsonl", schedule, options, labels),
            on_steps=None if bar is None else _tell(bar, options, len(labels)),
            should_stop=should_stop,
        )
        if fit.stopped_by == "interrupt":
            raise KeyboardInterrupt
        probe = untrained._replace(params=jax.device_get(fit.best_params))
        train_scores = training.predict(probe.model, fit.best_params, inputs)
        scores = training.predict(probe.model, fit.best_params, dataset.test.images)
        mean_loss = jax.jit(
            lambda scores, labels: jnp.mean(jax.vmap(loss, (0, 0, None))(scores, labels, fit.best_params))
        )
        test_loss = float(mean_loss(scores, dataset.test.labels))
    measured = {
        "test_accuracy": float(metrics.accuracy(scores.argmax(axis=1), dataset.test.labels)),
        "train_accuracy": float(metrics.accuracy(train_scores.argmax(axis=1), labels)),
        "test_loss": test_loss,
    }
    if validation is not None and fit.history:
        measured["validation_accuracy"] = max(fit.history["validation_accuracy"])
    every_step = jnp.arange(_steps(options, len(labels)))
    rates = np.asarray(jax.vmap(lambda step: jnp.asarray(schedule(step), float))(every_step))
    return Trained(fit, probe, scores, measured, rates)


def probe_of(dataset: Dataset, options: TrainOptions, inputs: Any) -> Probe:
    """The model with what belongs to it, not yet trained."""
    kind = {"initialization": options.initialization} if options.initialization else {}
    if options.model == "mlp":
        names = ("hidden", "activation", "dropout", "layer_norm", "residual")
        kind |= {name: getattr(options, name) for name in names}
    mean, deviation = (np.asarray(x).tolist() for x in models.mean_and_deviation(inputs))
    return Probe(
        kind={"model": options.model, **kind, "dtype": options.dtype},
        classes=tuple(dataset.classes),
        shape=tuple(dataset.train.images.shape[1:]),
        mean=mean,
        deviation=deviation,
        loss=options.loss,
        params=None,
    )


def _checkpoint(dataset: Dataset, options: TrainOptions, seed: int) -> training.Checkpoint | None:
    if options.folder is None:
        return None
    config = {name: value for name, value in options._asdict().items() if name not in _ELSEWHERE}
    data = {"seed": seed, "data": dataset.fingerprint, "classes": list(dataset.classes), "devices": options.devices}
    every = options.checkpoint_every
    return training.Checkpoint(
        options.folder / "checkpoints",
        every=every or 1,
        seconds=0.0 if every else _SECONDS,
        keep=options.keep,
        resume=options.resume,
        config={**config, **data},
    )


def _log(
    path: Path, schedule: Callable[[int], Any], options: TrainOptions, labels: np.ndarray
) -> Callable[[int, dict[str, float]], None]:
    """Writes a line for each epoch; the lines of a run that was given up go when their epochs come again."""
    steps = _steps(options, len(labels)) // options.epochs

    def log(epoch: int, measured: dict[str, float]) -> None:
        if jax.process_index():
            return
        line = {"epoch": epoch, **measured, "learning_rate": float(schedule(epoch * steps - 1))}
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text(encoding="utf-8").splitlines()[: epoch - 1] if epoch > 1 and path.exists() else []
        aside = path.with_name(f".{path.name}")
        aside.write_text("".join(f"{one}\n" for one in [*before, json.dumps(line)]), encoding="utf-8")
        aside.replace(path)

    return log


def _tell(bar: Callable[..., None], options: TrainOptions, count: int) -> Callable[[int, int, dict[str, float]], None]:
    in_an_epoch = _steps(options, count) // options.epochs

    def tell(done: int, total: int, means: dict[str, float]) -> None:
        said = f"loss {means['train_loss']:.3f}, {percent(means['train_accuracy'])}"
        bar(done * count // in_an_epoch, total * count // in_an_epoch, said)

    return tell


@lru_cache(maxsize=256)  # for which programs are compiled
def _mixing(alpha: float) -> Callable[..., Any]:
    return lambda key, one, other: augment.mixup(key, one, other, alpha)


def _mistakes(dataset: Dataset, scores: np.ndarray, title: str) -> Any:
    probabilities = np.asarray(jax.nn.softmax(jnp.asarray(scores)))
    rows = plots.most_confident_mistakes(dataset.test.labels, probabilities)
    return plots.worst_mistakes(
        np.asarray(dataset.test.images[rows]),
        dataset.test.labels[rows],
        probabilities[rows].argmax(axis=1),
        probabilities[rows].max(axis=1),
        dataset.classes,
        title=f"{title}: what it is surest of and wrong about",
    )


def _steps(options: TrainOptions, examples: int) -> int:
    return -(-examples // min(options.batch_size, examples)) * options.epochs


def _schedule(options: TrainOptions, examples: int, **swept: Any) -> Callable[[Any], Any]:
    steps = _warmed(options, examples)
    schedule = training.make_schedule(options.schedule, swept.get("lr", options.lr), **steps)

    def rate(step: int) -> Any:
        with jax.numpy_dtype_promotion("standard"):  # which is Optax's
            return schedule(step)

    return rate


def _warmed(options: TrainOptions, examples: int) -> dict[str, int]:
    if options.warmup >= options.epochs:
        raise ValueError(f"warmup: needs fewer than all {options.epochs} epochs, got {options.warmup:g}")
    steps = _steps(options, examples)
    return {"steps": steps, "warmup_steps": round(steps // options.epochs * options.warmup)}


def make_optimizer(options: TrainOptions, examples: int, **swept: Any) -> Any:
    return training.make_optimizer(
        options.optimizer,
        swept.get("lr", options.lr),
        schedule=options.schedule,
        weight_decay=swept.get("weight_decay", options.weight_decay),
        clip_norm=options.clip_norm,
        **_warmed(options, examples),
    )


def name_of(options: TrainOptions) -> str:
    shape = "" if options.model == "linear" else " " + "-".join(map(str, options.hidden))
    return f"{options.model}{shape}, {options.loss.replace('_', ' ')}"


_LOSS_NAMES = {
    "softmax": "softmax cross-entropy",
    "svm": "multiclass hinge (SVM)",
    "squared_svm": "squared hinge (L2-SVM)",
    "crammer_singer": "hinge of Crammer and Singer",
}


def curves(runs: Mapping[str, Trained], kinds: Mapping[str, str], title: str) -> Draw:
    histories = {name: trained.fit.history for name, trained in runs.items() if trained.fit.history}
    loss_names = {name: _LOSS_NAMES[kinds[name]] for name in histories}
    return lambda: plots.training_curves(histories, losses=loss_names, title=f"{title}: loss and accuracy by epoch")


def template_figures(dataset: Dataset, options: TrainOptions, trained: Trained, title: str) -> dict[str, Draw]:
    shape = dataset.train.images.shape[1:]
    if options.model != "linear" or not plots.is_image_shape(shape):
        return {}
    weights = np.asarray(trained.fit.best_params["weights"])
    if not np.isfinite(weights).all():
        return {}
    return {
        "templates.png": lambda: plots.templates(weights, shape, dataset.classes, title=f"{title}: weight templates")
    }
