"""A trained classifier as files, and what it says of new data: `funcgrad predict`."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcgrad import metrics, models, training
from funcgrad.cli.console import count_of, percent
from funcgrad.cli.knn import confusion_figure
from funcgrad.cli.options import PredictOptions
from funcgrad.cli.run import DataCommand, Outcome, Run
from funcgrad.datasets import Dataset
from funcgrad.report import timed, write_json
from funcgrad.training import saved_model as parameters

_FORMAT = 1


class Probe(NamedTuple):
    """A classifier with all that is needed to use it."""

    kind: dict[str, Any]  # {"model": "linear" or "mlp", options of funcgrad.models}
    classes: tuple[str, ...]
    shape: tuple[int, ...]  # of one example
    mean: list[float]  # of the training examples, for each channel or feature
    deviation: list[float]
    loss: str
    params: Any

    @property
    def model(self) -> models.Model:
        options = {name: value for name, value in self.kind.items() if name not in ("model", "dtype")}
        if self.kind["model"] == "linear":
            model = models.linear(len(self.classes), **options)
        else:
            model = models.mlp(num_classes=len(self.classes), **options)
        if (dtype := self.kind.get("dtype", "float32")) != "float32":
            model = models.in_dtype(model, dtype)
        return models.standardized(model, np.asarray(self.mean), np.asarray(self.deviation))

    def write(self, folder: Path) -> list[str]:
        """Writes params.safetensors and config.json; returns these names."""
        said = {"format": _FORMAT, **self._replace(params=None)._asdict()}
        del said["params"]
        parameters.save_params(folder / "params.safetensors", self.params, {"config": json.dumps(said)})
        write_json(folder / "config.json", said)
        return ["config.json", "params.safetensors"]


def read(folder: Path) -> Probe:
    """What `Probe.write` has written. Raises `ValueError` or `OSError` for what is missing or damaged."""
    if not folder.is_dir():
        raise NotADirectoryError(f"--model: {folder} is no directory; needs the --out DIR of a training")
    for name in ("config.json", "params.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"--model: {folder} has no {name}; needs the --out DIR of a training")
    params, _ = parameters.load_params(folder / "params.safetensors")
    try:
        said = json.loads((folder / "config.json").read_bytes())
        assert said.pop("format") == _FORMAT
        probe = Probe(**{**said, "classes": tuple(said["classes"]), "shape": tuple(said["shape"]), "params": params})
        shapes = jax.eval_shape(lambda key: probe.model.init(key, probe.shape), jax.random.key(0))
    except Exception as error:
        raise ValueError(f"--model: {folder / 'config.json'} is damaged, or of another version of funcgrad") from error
    ours, theirs = (jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree) for tree in (shapes, params))
    if ours != theirs:
        raise ValueError(f"--model: the arrays of {folder / 'params.safetensors'} are not those of its config.json")
    return probe


def predict(dataset: Dataset, options: PredictOptions, run: Run) -> Outcome:
    """Labels and probabilities of a part of a data set, and how many are right."""
    probe, seconds, split = read(options.model), dict[str, float](), options.split
    part = dataset.train if split == "train" else dataset.test
    if part.images.shape[1:] != probe.shape:
        ours, theirs = (" × ".join(map(str, shape)) for shape in (part.images.shape[1:], probe.shape))
        raise ValueError(f"--data: examples of {ours}, and the classifier in {options.model} was trained on {theirs}")
    if unknown := [name for name in dataset.classes if name not in probe.classes]:
        listed = ", ".join(unknown[:5])
        raise ValueError(f"--data: classes {listed} are none of the classifier's, which are {', '.join(probe.classes)}")
    with run.progress("predicting"), timed(seconds):
        scores = training.predict(probe.model, jax.tree.map(jnp.asarray, probe.params), part.images)
        probabilities = np.asarray(jax.nn.softmax(jnp.asarray(scores)))
    predictions = scores.argmax(axis=1).astype(np.int32)
    labels = np.array([probe.classes.index(name) for name in dataset.classes], np.int32)[part.labels]
    right = float(metrics.accuracy(predictions, labels))
    measured = dataset._replace(classes=probe.classes, test=part._replace(labels=labels))
    rows = [[name, str(int(np.sum(predictions == number)))] for number, name in enumerate(probe.classes)]
    title = f"{dataset.name}: {probe.kind['model']}, {split} part"
    arrays = {
        "labels": predictions,
        "probabilities": probabilities,  # of the softmax of the scores, whatever the loss was
        "classes": np.array(probe.classes),
        "ids": np.asarray(part.ids),
    }
    return Outcome(
        {f"{split}_accuracy": right},
        seconds,
        ["class", "predicted"],
        [*rows, ["right", f"{count_of(right, len(labels))}, {percent(right)}"]],
        {"confusion.png": confusion_figure(measured, predictions, title)},
        arrays={"predictions.npz": lambda: arrays},
    )


COMMAND = DataCommand(PredictOptions, predict)
