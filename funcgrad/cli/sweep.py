"""What `funcgrad crossval linear|mlp` does: all settings trained at once, the best one again on all and tested once."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from funcgrad import crossval, losses, plots
from funcgrad.cli.outcome import Bars, Draw, Outcome, crossval_outcome
from funcgrad.cli.train import TrainOptions, failed, make_optimizer, missing, name_of, probe_of, train_one
from funcgrad.datasets import Dataset
from funcgrad.report import timed

SWEPT = ("lr", "l1", "l2", "weight_decay", "label_smoothing")  # the options that take several values


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
    memory: str = "2GiB",
) -> Outcome:
    """All combinations of the swept values, trained at once; the best one is trained again on all, and tested once."""
    key, shuffle_key = jax.random.split(jax.random.key(seed))
    grid = np.array(list(itertools.product(*swept.values())), float).T
    settings = dict(zip(swept, grid, strict=True))
    examples, seconds = len(dataset.train.labels), dict[str, float]()
    for setting in zip(*grid, strict=True):  # what is wrong raises before anything is compiled
        values: dict[str, Any] = dict(zip(swept, map(float, setting), strict=True))
        chosen = options._replace(**values)
        make_optimizer(chosen, examples)
        losses.make_loss(chosen.loss, l1=chosen.l1, l2=chosen.l2, smoothing=chosen.label_smoothing)

    def loss(scores: jax.Array, label: jax.Array, params: Any, setting: Any) -> jax.Array:
        l1, l2, smoothing = (setting.get(name, getattr(options, name)) for name in ("l1", "l2", "label_smoothing"))
        return losses.make_loss(options.loss, l1=l1, l2=l2, smoothing=smoothing)(scores, label, params)

    with bars(f"{folds * seeds * grid.shape[1]} trainings") as bar, timed(seconds):
        rows = crossval.sweep(
            key,
            probe_of(dataset, options, dataset.train.images).model,
            dataset.train.images,
            dataset.train.labels,
            settings,
            loss=loss,
            optimizer=lambda setting: make_optimizer(options, examples, **setting),
            epochs=options.epochs,
            batch_size=options.batch_size,
            folds=folds,
            seeds=seeds,
            shuffle=shuffle_key,
            stratified=stratified,
            memory=memory,
            on_epoch=bar,
        )
    best = crossval.best(rows)
    chosen = options._replace(**best.setting, validation=0.0)
    trained = train_one(dataset, chosen, seed, bars, seconds)
    outcome = crossval_outcome(dataset, rows, trained.scores.argmax(axis=1), seconds)
    outcome.figures.update(
        _sweep_figures(rows, swept, f"{dataset.name}: {name_of(options)}, {folds}-fold cross-validation")
    )
    return outcome._replace(failed=failed(trained), writes=trained.probe.write, notes=missing(dataset))


_AXES = {"lr": "learning rate", "l1": "L1 penalty", "l2": "L2 penalty"}


def _sweep_figures(rows: Sequence[crossval.Row], swept: Mapping[str, Sequence[float]], title: str) -> dict[str, Draw]:
    """A curve over the first of the swept values, and a heat map where two of them have several."""
    first, *others = swept
    several = [name for name, values in swept.items() if len(values) > 1]
    best, figures = crossval.best(rows), dict[str, Draw]()
    if len(swept[first]) > 1:
        series: dict[str, list[tuple[float, ...]]] = {}
        for row in rows:
            series.setdefault(_series_name(row, others), []).append(row.folds)
        figures["crossval.png"] = lambda: plots.cross_validation(
            swept[first],
            series,
            x_label=_axis(first),
            best=(_series_name(best, others), best.setting[first]),
            log_x=min(swept[first]) > 0,
            title=title,
        )
    if len(several) == 2:
        across, down = several
        shape = len(swept[across]), len(swept[down])
        table, lost = (np.reshape(x, shape).T for x in ([row.mean for row in rows], [row.diverged > 0 for row in rows]))
        figures["heat_map.png"] = lambda: plots.heat_map(
            table,
            swept[down],
            swept[across],
            row_label=_axis(down),
            column_label=_axis(across),
            best=(swept[down].index(best.setting[down]), swept[across].index(best.setting[across])),
            diverged=lost,
            title=title,
        )
    return figures


def _axis(name: str) -> str:
    return _AXES.get(name, name.replace("_", " "))


def _series_name(row: crossval.Row, names: Sequence[str]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {row.setting[name]:g}" for name in names) or "accuracy"
