"""`funcgrad predict`: the labels that a trained classifier gives to new data, which may have labels or not."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcgrad import datasets, metrics, training
from funcgrad.cli.console import ReportProgress, count_of, percent
from funcgrad.cli.options import DataOptions, PredictOptions, declared, flag_of
from funcgrad.cli.run import DataCommand, Outcome, Run, data_arguments
from funcgrad.datasets import Examples
from funcgrad.files import listed
from funcgrad.report import Predictions, timed

FEW = 20  # of so many examples each is printed
_ARRAYS = {".npy", ".npz", ".safetensors"}  # which are taken as they are


def load(values: Mapping[str, Any], report_progress: ReportProgress | None) -> Examples:
    """All that a source has, or one part of it; images come in the size and channels that the classifier takes."""
    given, shape = data_arguments(values), training.saved_model.load(values["model"]).shape
    names = values["data"]
    if len(shape) == 3 and "digits" not in names and not _ARRAYS & {Path(name).suffix for name in names}:
        given["size"] = given["size"] or shape[:2]
        given["channels"] = given["channels"] or shape[2]
    if values["split"] == "all":
        accepted = inspect.signature(datasets.load_examples).parameters
        for one in declared(DataOptions):
            if one.name not in ("data", *accepted) and given.pop(one.name) != one.default:
                raise ValueError(f"{flag_of(one)}: does nothing for --split all; --split train and test take it")
        return datasets.load_examples(**given, progress=report_progress)
    dataset = datasets.load(**given, progress=report_progress)
    part = dataset.train if values["split"] == "train" else dataset.test
    details = {**dataset.details, "split": dataset.split}
    return Examples(dataset.name, part.images, part.ids, part.labels, dataset.classes, dataset.notes, details)


def predict(data: Examples, options: PredictOptions, run: Run) -> Outcome:
    """Labels and probabilities, and how many are right where that is known."""
    saved, seconds = training.saved_model.load(options.model), dict[str, float]()
    if data.images.shape[1:] != saved.shape:
        ours, theirs = (" × ".join(map(str, shape)) for shape in (data.images.shape[1:], saved.shape))
        raise ValueError(f"--data: examples of {ours}, and the classifier in {options.model} was trained on {theirs}")
    images, notes = scaled_as_trained(data.images, saved.numbers)
    truth, more = true_labels(data, saved.classes)
    with run.progress("predicting"), timed(seconds):
        scores = training.predict(saved.model, jax.tree.map(jnp.asarray, saved.params), images)
        probabilities = np.asarray(jax.nn.softmax(jnp.asarray(scores)))  # whatever the loss was
    labels = scores.argmax(axis=1).astype(np.int32)
    title = f"{data.name}: {saved.kind['model']}" + ("" if options.split == "all" else f", {options.split} part")
    measured = {}
    counts = np.bincount(labels, minlength=len(saved.classes))
    counts = np.bincount(labels, minlength=len(saved.classes))
    rows = [[name, f"{count:,}"] for name, count in zip(saved.classes, counts, strict=True)]
    columns = ["class", "predicted"]
    if len(labels) <= FEW:
        columns = ["example", "label", "probability"]
        rows = [
            [str(one), saved.classes[label], percent(share)]
            for one, label, share in zip(data.ids, labels, probabilities.max(axis=1), strict=True)
        ]
    if truth is not None:
        right = float(metrics.accuracy(labels[truth >= 0], truth[truth >= 0]))
        measured["accuracy" if options.split == "all" else f"{options.split}_accuracy"] = right
        rows.append(["right", f"{count_of(right, int((truth >= 0).sum()))}, {percent(right)}", ""][: len(columns)])
    predictions = Predictions(data.ids, saved.classes, labels, lambda: probabilities, title, truth)
    return Outcome(measured, seconds, columns, rows, {}, predictions=predictions, notes=[*notes, *more])


def scaled_as_trained(images: np.ndarray, numbers: Mapping[str, Any] | None) -> tuple[np.ndarray, list[str]]:
    """The images in the range of numbers that the classifier was trained on, and what a user should know of that.

    Pixels 0…255 and 0…1 are converted into one another; any other difference is only told.
    """
    if numbers is None or images.dtype == numbers["dtype"] == np.uint8:
        return images, []
    low, high = float(images.min()), float(images.max())
    ranges = f"numbers from {low:.4g} to {high:.4g}; training had {numbers['low']:.4g} to {numbers['high']:.4g}"
    was_bytes, were_shares = numbers["dtype"] == "uint8", 0 <= numbers["low"] <= numbers["high"] <= 1
    if was_bytes and numbers["high"] > 127 and 0 <= low <= high <= 1:
        return (images * 255).astype(np.float32), [f"{ranges}: multiplied by 255, as pixels"]
    if images.dtype == np.uint8 and were_shares and high > 1:
        return (images / 255).astype(np.float32), [f"{ranges}: divided by 255, as pixels"]
    span, trained_span = high - low, numbers["high"] - numbers["low"]
    if trained_span / 10 <= span <= trained_span * 10:
        return images, []
    return images, [f"{ranges}: taken as they are; if they are scaled in another way, the labels are wrong"]


def true_labels(data: Examples, classes: tuple[str, ...]) -> tuple[np.ndarray | None, list[str]]:
    """The labels as numbers of the classifier's classes, -1 for others; None if none is known."""
    if data.labels is None:
        return None, []
    others = [name for name in data.classes if name not in classes]
    if len(others) == len(data.classes):
        return None, [f"{listed(others, 5)}: none of the classifier's classes, so the data is taken as without labels"]
    numbers = np.array([classes.index(name) if name in classes else -1 for name in data.classes], np.int32)
    labels = numbers[data.labels]
    missing = f"{np.sum(labels < 0):,} examples of {listed(others, 5)}, which the classifier does not know"
    return labels, [f"{missing}: predicted, and not counted as right or wrong"] if others else []


COMMAND = DataCommand(PredictOptions, predict, load=load)
