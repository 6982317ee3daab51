"""`funcgrad predict`: the labels that a trained classifier gives to new data."""

import jax
import jax.numpy as jnp
import numpy as np

from funcgrad import metrics, training
from funcgrad.cli.console import count_of, percent
from funcgrad.cli.options import PredictOptions
from funcgrad.cli.run import DataCommand, Outcome, Run
from funcgrad.datasets import Dataset
from funcgrad.report import Predictions, timed


def predict(dataset: Dataset, options: PredictOptions, run: Run) -> Outcome:
    """Labels and probabilities of a part of a data set, and how many are right."""
    saved, seconds, split = training.saved_model.load(options.model), dict[str, float](), options.split
    part = dataset.train if split == "train" else dataset.test
    if part.images.shape[1:] != saved.shape:
        ours, theirs = (" × ".join(map(str, shape)) for shape in (part.images.shape[1:], saved.shape))
        raise ValueError(f"--data: examples of {ours}, and the classifier in {options.model} was trained on {theirs}")
    if unknown := [name for name in dataset.classes if name not in saved.classes]:
        listed = ", ".join(unknown[:5])
        raise ValueError(f"--data: classes {listed} are none of the classifier's, which are {', '.join(saved.classes)}")
    with run.progress("predicting"), timed(seconds):
        scores = training.predict(saved.model, jax.tree.map(jnp.asarray, saved.params), part.images)
        probabilities = np.asarray(jax.nn.softmax(jnp.asarray(scores)))  # whatever the loss was
    predictions = scores.argmax(axis=1).astype(np.int32)
    labels = np.array([saved.classes.index(name) for name in dataset.classes], np.int32)[part.labels]
    right = float(metrics.accuracy(predictions, labels))
    rows = [[name, str(int(np.sum(predictions == number)))] for number, name in enumerate(saved.classes)]
    title = f"{dataset.name}: {saved.kind['model']}, {split} part"
    return Outcome(
        {f"{split}_accuracy": right},
        seconds,
        ["class", "predicted"],
        [*rows, ["right", f"{count_of(right, len(labels))}, {percent(right)}"]],
        {},
        predictions=Predictions(part.ids, saved.classes, predictions, lambda: probabilities, title, labels),
    )


COMMAND = DataCommand(PredictOptions, predict)
