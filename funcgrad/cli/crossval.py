"""`funcgrad crossval knn|linear|mlp`: a setting is chosen on the training set and measured once on the test set."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

from funcgrad import crossval, metrics, plots, sharding, training
from funcgrad.cli import knn, train
from funcgrad.cli import options as groups
from funcgrad.cli.console import percent
from funcgrad.cli.duplicates import leakage
from funcgrad.cli.run import DataCommand, Outcome, Run
from funcgrad.cli.signals import in_thread
from funcgrad.datasets import Dataset
from funcgrad.report import Predictions, timed


def _division(dataset: Dataset, options: groups.FoldOptions, key: jax.Array) -> dict[str, Any]:
    """How the training examples are divided: arguments of the functions of `funcgrad.crossval`."""
    in_order, grouped = options.folds_in_order, dataset.train.groups
    return {"folds": options.folds, "shuffle": None if in_order else key, "groups": grouped, "in_order": in_order}


def _division_in_words(dataset: Dataset, options: groups.FoldOptions, seed: int) -> str:
    if options.folds_in_order:
        return f"{options.folds} folds of consecutive examples"
    grouping = dataset.train.groups
    grouped = "" if grouping is None else f", each of {len(set(grouping))} groups in one fold"
    return f"{options.folds} folds, stratified and shuffled by seed {seed}{grouped}"


def crossval_knn(dataset: Dataset, options: groups.CrossvalKnnOptions, run: Run) -> Outcome:
    seconds: dict[str, float] = {}
    division = _division_in_words(dataset, options, run.seed)
    validate = partial(
        crossval.knn,
        dataset.train.images,
        dataset.train.labels,
        ks=options.k,
        metrics=options.metric,
        **_division(dataset, options, jax.random.key(run.seed)),
        weights=options.weights,
        temperature=options.temperature,
        p=options.p,
        precision=options.precision,
        memory=options.memory,
        mesh=sharding.make_mesh(options.devices) if options.devices > 1 else None,
        folder=knn.saved_in(run.out),
        resume=run.resume,
        data={"p": options.p, "precision": options.precision, "division": division, **knn.identity(dataset)},
    )
    with run.progress("cross-validation", unit="queries") as report_progress, timed(seconds):
        rows = in_thread(lambda report: validate(progress=report), report_progress)
    best = crossval.best(rows).setting
    p = options.p if best["metric"] == "minkowski" else None
    chosen = groups.pick(groups.KnnOptions, {**vars(options), "metric": best["metric"], "k": (best["k"],), "p": p})
    found = knn.search(dataset, chosen, run._replace(out=None), seconds)  # what is saved of the folds stays
    labels, _ = knn.classify(dataset, found, chosen)
    series = {name: [row.folds for row in rows if row.setting["metric"] == name] for name in options.metric}
    outcome = _outcome(dataset, rows, knn.predicted(dataset, found, labels, chosen, 0), seconds, division)
    outcome = outcome._replace(notes=[*outcome.notes, *train.shared_groups(dataset)])
    outcome.figures["crossval.png"] = lambda: plots.cross_validation(
        options.k,
        series,
        best=(best["metric"], best["k"]),
        log_x=max(options.k) >= 20 * min(options.k),
        title=f"{dataset.name}: k-NN, {division}",
    )
    return outcome


def crossval_training(dataset: Dataset, options: groups.SweepOptions, run: Run) -> Outcome:
    """All combinations of the swept values, trained at once; the best one is trained again on all, and tested once."""
    key, shuffle_key = jax.random.split(jax.random.key(run.seed))
    examples, seconds = len(dataset.train.labels), dict[str, float]()
    swept, base = _swept(options)
    base, epoch_notes = train.with_epochs(base, examples)
    grid = np.array(list(itertools.product(*swept.values())), float).T
    settings = dict(zip(swept, grid, strict=True))
    for setting in zip(*grid, strict=True):  # what is wrong raises before anything is compiled
        values: dict[str, Any] = dict(zip(swept, map(float, setting), strict=True))
        one = replace(base, **values)
        train.make_optimizer(one, examples)
        train.make_loss(one)

    def loss(scores: jax.Array, label: jax.Array, params: Any, setting: Any) -> jax.Array:
        return train.make_loss(replace(base, **setting))(scores, label, params)

    count = options.folds * options.seeds * grid.shape[1]
    division = _division_in_words(dataset, options, run.seed)
    defer_interrupts = Run().defer_interrupts if run.out is None else run.defer_interrupts
    with (
        run.progress(f"{count} trainings") as report_progress,
        timed(seconds),
        defer_interrupts() as should_stop,
    ):
        rows = crossval.sweep(
            key,
            train.untrained(dataset, base, dataset.train.images).model,
            dataset.train.images,
            dataset.train.labels,
            settings,
            loss=loss,
            optimizer=lambda setting: train.make_optimizer(replace(base, **setting), examples),
            epochs=base.num_epochs,
            batch_size=options.batch_size,
            seeds=options.seeds,
            **_division(dataset, options, shuffle_key),
            memory=options.memory,
            checkpoint=train.checkpoint(dataset, options, run, division=division),
            on_epoch=report_progress,
            should_stop=should_stop,
        )
    chosen = replace(base, **crossval.best(rows).setting, validation=0.0)
    trained = train.train_one(dataset._replace(validation=None), chosen, run._replace(out=None), seconds)
    best = crossval.best(rows).setting.items()
    label = ", ".join(f"{name.replace('_', ' ')} = {plots.number(value)}" for name, value in best)
    predicted = train.predicted(dataset, trained.scores, f"{dataset.name}: {label}")
    outcome = _outcome(dataset, rows, predicted, seconds, division)
    title = f"{dataset.name}: {train.name_of(base)}, {division}"
    outcome.figures.update(_sweep_figures(rows, swept, title))
    return outcome._replace(
        failed=train.failed(trained),
        write=trained.classifier.write,
        notes=[*outcome.notes, *epoch_notes, *trained.notes],
    )


def _unused(dataset: Dataset) -> list[str]:
    """A line on the examples that take no part."""
    part = dataset.validation
    return [] if part is None else [f"the validation part of {len(part.labels):,} examples is not used"]


def _swept(options: groups.SweepOptions) -> tuple[dict[str, Sequence[float]], groups.TrainOptions]:
    """The options that have several values, or else the learning rate; and all others, as those of one training."""
    names = [one.name for one in groups.declared(groups.PenaltyOptions)]
    values = {name: getattr(options, name) for name in names}
    swept = {name: several for name, several in values.items() if len(several) > 1} or {"lr": options.lr}
    fixed = {name: several[0] for name, several in values.items()}
    return swept, groups.pick(groups.TrainOptions, {**vars(options), **fixed})


def _outcome(
    dataset: Dataset, rows: Sequence[crossval.Row], predictions: Predictions, seconds: dict[str, float], division: str
) -> Outcome:
    best = crossval.best(rows)
    test = float(metrics.accuracy(predictions.labels, dataset.test.labels))
    table, cv = [], []
    for row in rows:
        diverged = {"diverged": row.diverged} if row.diverged else {}
        cv.append({**row.setting, "mean": row.mean, "std": row.std, "folds": row.folds, **diverged})
        setting = [plots.number(value) if isinstance(value, float) else str(value) for value in row.setting.values()]
        remarks = ["chosen"] * (row is best) + [f"{row.diverged} of {len(row.folds)} diverged"] * bool(row.diverged)
        table.append([*setting, percent(row.mean), percent(row.std), ", ".join(remarks)])
    indent = [""] * (len(best.setting) - 1)
    table += [[*indent, "test", percent(test), "", "once"], [*indent, "cut", "", "", division]]
    return Outcome(
        {"cv": cv, "division": division, "best": best.setting, "test_accuracy": test},
        seconds,
        [*(name.replace("_", " ") for name in best.setting), "mean", "deviation", ""],
        table,
        {},
        predictions=predictions,
        notes=[*_unused(dataset), *leakage(dataset)],
    )


def _sweep_figures(
    rows: Sequence[crossval.Row], swept: Mapping[str, Sequence[float]], title: str
) -> dict[str, Callable[[], Any]]:
    """A curve over the first of the swept values, and a heat map where two of them have several."""
    first, *others = swept
    several = [name for name, values in swept.items() if len(values) > 1]
    best, figures = crossval.best(rows), dict[str, Callable[[], Any]]()
    if several:
        series: dict[str, list[tuple[float, ...]]] = {}
        for row in rows:
            series.setdefault(_series_name(row, others), []).append(row.folds)
        figures["crossval.png"] = lambda: plots.cross_validation(
            swept[first],
            series,
            x_label=first.replace("_", " "),
            best=(_series_name(best, others), best.setting[first]),
            log_x=min(swept[first]) > 0,
            title=title,
        )
    if len(several) == 2:
        across, down = several
        shape = len(swept[across]), len(swept[down])
        mean, diverged = (np.reshape(x, shape).T for x in ([r.mean for r in rows], [r.diverged > 0 for r in rows]))
        figures["heat_map.png"] = lambda: plots.heat_map(
            mean,
            swept[down],
            swept[across],
            row_label=down.replace("_", " "),
            column_label=across.replace("_", " "),
            best=(swept[down].index(best.setting[down]), swept[across].index(best.setting[across])),
            diverged=diverged,
            title=title,
        )
    return figures


def _series_name(row: crossval.Row, names: Sequence[str]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {plots.number(row.setting[name])}" for name in names) or "accuracy"


KNN = knn.COMMAND._replace(options=groups.CrossvalKnnOptions, run=crossval_knn)
TRAINING = DataCommand(
    groups.SweepOptions,
    crossval_training,
    describe_saved=train.describe_saved,
    remove_saved=lambda out: training.checkpoint.remove(train.saved_in(out)),
)
