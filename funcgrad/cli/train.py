"""`funcgrad train linear|mlp`: one training, measured once on the test set."""

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcgrad import files, losses, metrics, models, plots, sharding, training
from funcgrad.cli.console import ReportProgress, percent
from funcgrad.cli.options import NetworkOptions, SweepOptions, TrainOptions, pick
from funcgrad.cli.run import DataCommand, Outcome, Run
from funcgrad.datasets import Dataset, Split
from funcgrad.folds import hold_out
from funcgrad.report import Predictions, timed

CHECKPOINT_SECONDS = 10.0  # between two checkpoints, unless they are to come after so many epochs


def train(dataset: Dataset, options: TrainOptions, run: Run) -> Outcome:
    """The parameters are those of the best epoch on the validation part.

    Raises `KeyboardInterrupt` after an interrupt, once the training is saved.
    """
    seconds: dict[str, float] = {}
    trained = train_one(dataset, options, run, seconds)
    fit, name = trained.fit, name_of(options)
    title = f"{dataset.name}: {name}"
    figures = {}
    if fit.history:
        figures["curves.png"] = curves({name: trained}, dataset.name)
    figures |= template_figures(dataset, options, trained, title)
    if plots.is_image_shape(dataset.test.images.shape[1:]) and np.isfinite(trained.scores).all():
        figures["mistakes.png"] = lambda: _mistakes(dataset, trained.scores, title)
    measured = trained.metrics
    rows = [[key.replace("_", " "), percent(x) if "accuracy" in key else f"{x:.5g}"] for key, x in measured.items()]
    rows.append(["steps", f"{trained.steps:,}"])
    course = {
        "steps": trained.steps,
        "history": fit.history,
        "epochs": fit.epochs_done,
        "stopped_by": fit.stopped_by,
        "notes": list(fit.notes),
    }
    return Outcome(
        {**measured, **course},
        seconds,
        [name, ""],
        rows,
        figures,
        failed(trained),
        predictions=predicted(dataset, trained.scores, title),
        write=trained.classifier.write,
        notes=(*trained.notes, *(fit.notes if fit.stopped_by != "diverged" else fit.notes[:-1])),
    )


MIN_STEPS = 200  # below which a training has hardly begun


def with_epochs(options: TrainOptions, examples: int) -> tuple[TrainOptions, list[str]]:
    """The options with their epochs: if none are given 20, or as many as make `MIN_STEPS`, which a note says."""
    if options.epochs is not None:
        return options, []
    epochs = -(-MIN_STEPS // training.steps_per_epoch(examples, options.batch_size))
    notes = [f"trained for {epochs} epochs, to make {MIN_STEPS} steps or more of few examples"] if epochs > 20 else []
    return replace(options, epochs=max(20, epochs)), notes


def shared_groups(dataset: Dataset) -> list[str]:
    """A line on groups that are in both parts, so that the test part is none of strangers."""
    train, test = dataset.train.groups, dataset.test.groups
    shared = set() if train is None or test is None else {*train.tolist()} & {*test.tolist()}
    return [f"{len(shared)} groups are in the training part and in the test part"] if shared else []


def _missing_classes(dataset: Dataset) -> list[str]:
    """A line that names the classes that cannot be learned."""
    counts = np.bincount(dataset.train.labels, minlength=len(dataset.classes))
    names = [name for name, count in zip(dataset.classes, counts, strict=True) if not count]
    return [f"no training example of {', '.join(names[:10])}{', …' if len(names) > 10 else ''}"] if names else []


def failed(trained: "Trained") -> str:
    if trained.fit.stopped_by != "diverged":
        return ""
    return f"{trained.fit.notes[-1]}; lower the learning rate, or skip such steps (--skip-nonfinite)"


class Trained(NamedTuple):
    fit: training.Fit
    classifier: training.SavedModel
    scores: np.ndarray  # of the test set
    metrics: dict[str, float]
    steps: int  # done
    notes: tuple[str, ...]  # on the data and on the options, beside those of the fit


def train_one(dataset: Dataset, options: TrainOptions, run: Run, seconds: dict[str, float]) -> Trained:
    key, split_key = jax.random.split(jax.random.key(run.seed))
    inputs, labels = dataset.train.images, dataset.train.labels
    notes, validation = [*_missing_classes(dataset), *shared_groups(dataset)], None
    if dataset.validation is not None:
        validation = dataset.validation.images, dataset.validation.labels
        count = f"{len(validation[1]):,} examples"
        notes.append(f"validated on the data's own validation part of {count}, in place of a --validation share")
    elif options.validation:
        held_out, others = hold_out(split_key, labels, options.validation, dataset.train.groups)
        validation = inputs[held_out], labels[held_out]
        inputs, labels = training.select_rows(inputs, others), labels[others]
    options, epoch_notes = with_epochs(options, len(labels))
    steps, rates = training.steps_per_epoch(len(labels), options.batch_size), _rates(options, len(labels))
    loss = make_loss(options)
    mesh = None if options.num_devices == 1 else sharding.make_mesh(options.num_devices)
    defer_interrupts = Run().defer_interrupts if run.out is None else run.defer_interrupts
    with run.progress(name_of(options), unit="images") as report_progress, timed(seconds):
        classifier = untrained(dataset, options, inputs)
        with defer_interrupts() as should_stop:
            fit = training.fit(
                key,
                classifier.model,
                inputs,
                labels,
                loss=loss,
                optimizer=make_optimizer(options, len(labels)),
                epochs=options.num_epochs,
                batch_size=options.batch_size,
                augment=None if options.augment is None else training.augment.make_augment(options.augment),
                mix=partial(training.augment.mixup, alpha=options.mixup) if options.mixup else None,
                validation=validation,
                patience=options.patience,
                skip_nonfinite=options.skip_nonfinite,
                checkpoint=checkpoint(dataset, options, run, devices=options.num_devices),
                mesh=mesh,
                on_epoch=None if run.out is None else _log(run.out / "metrics.jsonl", rates, steps),
                on_steps=None if report_progress is None else _steps_as_images(report_progress, len(labels), steps),
                should_stop=should_stop,
            )
        if fit.stopped_by == "interrupt":
            raise KeyboardInterrupt
        measured, scores = _measure(classifier.model, fit, loss, (inputs, labels), dataset.test)
    classifier = classifier._replace(params=jax.device_get(fit.best_params))
    return Trained(fit, classifier, scores, measured, fit.epochs_done * steps, (*notes, *epoch_notes))


def _measure(
    model: models.Model, fit: training.Fit, loss: losses.Loss, trained_on: tuple[Any, np.ndarray], test: Split
) -> tuple[dict[str, float], np.ndarray]:
    """Accuracies and the loss of the best parameters; and their scores of the test set."""
    params, (inputs, labels) = fit.best_params, trained_on
    train_scores = training.predict(model, params, inputs)
    scores = training.predict(model, params, test.images)
    mean_loss = jax.jit(lambda scores, labels: jnp.mean(jax.vmap(loss, (0, 0, None))(scores, labels, params)))
    measured = {
        "test_accuracy": float(metrics.accuracy(scores.argmax(axis=1), test.labels)),
        "train_accuracy": float(metrics.accuracy(train_scores.argmax(axis=1), labels)),
        "test_loss": float(mean_loss(scores, test.labels)),
    }
    if "validation_accuracy" in fit.history:
        measured["validation_accuracy"] = max(fit.history["validation_accuracy"])
    return measured, scores


def untrained(dataset: Dataset, options: TrainOptions, inputs: Any) -> training.SavedModel:
    """The model with what belongs to it, not yet trained."""
    kind = {"initialization": options.initialization} if options.initialization else {}
    if options.model == "mlp":
        kind |= vars(pick(NetworkOptions, vars(options)))
    mean, deviation = (np.asarray(x).tolist() for x in models.mean_and_deviation(inputs))
    return training.SavedModel(
        kind={"model": options.model, **kind, "dtype": options.dtype},
        classes=tuple(dataset.classes),
        shape=tuple(dataset.train.images.shape[1:]),
        mean=mean,
        deviation=deviation,
        loss=options.loss,
        params=None,
        numbers={"dtype": str(inputs.dtype), "low": float(np.min(inputs)), "high": float(np.max(inputs))},
    )


def checkpoint(
    dataset: Dataset, options: TrainOptions | SweepOptions, run: Run, **config: Any
) -> training.Checkpoint | None:
    """Where the run is saved, if anywhere; `config` is what must be the same beside its options when it is resumed."""
    if run.out is None:
        return None
    config |= {one.name: getattr(options, one.name) for one in fields(options) if not one.metadata.get("resumable")}
    config |= {"seed": run.seed, "data": dataset.fingerprint, "classes": list(dataset.classes)}
    every = getattr(options, "checkpoint_every", None)
    return training.Checkpoint(
        saved_in(run.out),
        every=every or 1,
        seconds=0.0 if every else CHECKPOINT_SECONDS,
        keep=getattr(options, "keep", 2),
        resume=run.resume,
        config=config,
    )


def saved_in(out: Path) -> Path:
    return out / "checkpoints"


def describe_saved(out: Path) -> str:
    steps = training.checkpoint.steps(saved_in(out))
    return f"the checkpoint of step {steps[-1]:,} is saved in {saved_in(out)}, and --resume continues" if steps else ""


def _log(path: Path, rates: np.ndarray, steps: int) -> Callable[[int, dict[str, float]], None]:
    """Writes a line for each epoch; the lines of an abandoned run are replaced when their epochs come again."""

    def log(epoch: int, measured: dict[str, float]) -> None:
        if jax.process_index():
            return
        line = {"epoch": epoch, **measured, "learning_rate": float(rates[epoch * steps - 1])}
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text(encoding="utf-8").splitlines()[: epoch - 1] if epoch > 1 and path.exists() else []
        with files.replacing(path) as temporary_path:
            text = "".join(f"{one}\n" for one in [*before, json.dumps(line)])
            temporary_path.write_text(text, encoding="utf-8")

    return log


def _steps_as_images(
    report_progress: ReportProgress, examples: int, steps: int
) -> Callable[[int, int, dict[str, float]], None]:
    """For `training.fit`, which counts steps; an epoch has so many examples and steps."""

    def on_steps(done: int, total: int, means: dict[str, float]) -> None:
        message = f"loss {means['train_loss']:.3f}, {percent(means['train_accuracy'])}"
        report_progress(done * examples // steps, total * examples // steps, message)

    return on_steps


def predicted(dataset: Dataset, scores: np.ndarray, title: str) -> Predictions:
    """By the scores of the test part; the probabilities are those of the softmax, whatever the loss was."""
    labels = scores.argmax(axis=1).astype(np.int32)
    given = dataset.test.ids, dataset.classes, labels, lambda: jax.nn.softmax(jnp.asarray(scores))
    return Predictions(*given, title, dataset.test.labels)


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


def _rates(options: TrainOptions, examples: int) -> np.ndarray:
    """The learning rate at each step."""
    counts = _steps(options, examples)
    schedule = training.make_schedule(options.schedule, options.lr, **counts)
    with jax.numpy_dtype_promotion("standard"):  # which is Optax's
        rates = jax.jit(jax.vmap(lambda step: jnp.asarray(schedule(step), float)))(np.arange(counts["steps"]))
    return np.asarray(rates)


def _steps(options: TrainOptions, examples: int) -> dict[str, int]:
    """The steps of a schedule, in all and of its rise."""
    if options.warmup >= options.num_epochs:
        raise ValueError(f"warmup: needs fewer than all {options.epochs} epochs, got {options.warmup:g}")
    steps = training.steps_per_epoch(examples, options.batch_size)
    return {"steps": steps * options.num_epochs, "warmup_steps": round(steps * options.warmup)}


def make_loss(options: TrainOptions) -> losses.Loss:
    return losses.make_loss(options.loss, l1=options.l1, l2=options.l2, smoothing=options.label_smoothing)


def make_optimizer(options: TrainOptions, examples: int) -> Any:
    return training.make_optimizer(
        options.optimizer,
        options.lr,
        schedule=options.schedule,
        weight_decay=options.weight_decay,
        clip_norm=options.clip_norm,
        **_steps(options, examples),
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


def curves(runs: Mapping[str, Trained], title: str) -> Callable[[], Any]:
    histories = {name: trained.fit.history for name, trained in runs.items() if trained.fit.history}
    loss_names = {name: _LOSS_NAMES[runs[name].classifier.loss] for name in histories}
    return lambda: plots.training_curves(histories, losses=loss_names, title=f"{title}: loss and accuracy by epoch")


def template_figures(
    dataset: Dataset, options: TrainOptions, trained: Trained, title: str
) -> dict[str, Callable[[], Any]]:
    shape = dataset.train.images.shape[1:]
    if options.model != "linear" or not plots.is_image_shape(shape):
        return {}
    weights = np.asarray(trained.fit.best_params["weights"])
    if not np.isfinite(weights).all():
        return {}
    return {
        "templates.png": lambda: plots.templates(weights, shape, dataset.classes, title=f"{title}: weight templates")
    }


COMMAND = DataCommand(TrainOptions, train, describe_saved)
