"""`funcgrad demo`: k-NN, its cross-validation, two linear classifiers and an MLP on one data set, each timed apart."""

from collections.abc import Callable, Mapping
from typing import Any

from funcgrad.cli import crossval, knn, train
from funcgrad.cli.console import count_of, percent
from funcgrad.cli.options import CrossvalKnnOptions, DemoOptions, KnnOptions, TrainOptions
from funcgrad.cli.run import DataCommand, Outcome, Run
from funcgrad.datasets import Dataset

# Chosen by accuracy on held-out training images (5 folds in file order, so that most writers are new), never on the
# test set: of learning rates, penalties, 30 or 60 epochs, batches of 32 to 128, dropout and width those that did best.
COLUMNS = ["classifier", "test accuracy", "right", "compile s", "run s"]
RECIPES = {
    "linear softmax": TrainOptions(lr=1e-2, l2=1e-4, epochs=60, batch_size=32),
    "linear SVM": TrainOptions(loss="svm", lr=1e-2, l2=3e-3, epochs=60, batch_size=32),
    "MLP, 256 hidden units": TrainOptions(
        model="mlp", lr=1e-2, weight_decay=0.1, dropout=0.5, epochs=30, batch_size=64
    ),
}


def demo(dataset: Dataset, options: DemoOptions, run: Run) -> Outcome:
    run = run._replace(out=None)  # nothing of it can be resumed
    total = {"compile": 0.0, "run": 0.0}
    table, collected, figures = [], dict[str, Any](), dict[str, Callable[[], Any]]()

    def add(rows: Mapping[str, float], seconds: Mapping[str, float]) -> None:
        """Rows of the table; the seconds stand in the first, for all of them."""
        times = [f"{seconds[name]:.2f}" for name in total]
        for what, accuracy in rows.items():
            table.append([what, percent(accuracy), count_of(accuracy, len(dataset.test.labels)), *times])
            times = ["", ""]
        for name in total:
            total[name] += seconds[name]

    collected["knn"] = {}
    for metric in ("l1", "l2"):
        found = knn.knn(dataset, KnnOptions(metric=metric), run)
        accuracies = found.metrics["test_accuracy"]
        add({f"k-NN, {metric}, k = {k}": share for k, share in accuracies.items()}, found.seconds)
        collected["knn"][metric] = accuracies
        figures |= found.figures

    validated = crossval.crossval_knn(dataset, CrossvalKnnOptions(k=(1, 3, 5, 8, 10, 12, 15, 20, 50, 100)), run)
    best = validated.metrics["best"]
    label = f"k-NN, chosen: {best['metric']}, k = {best['k']}"
    add({label: validated.metrics["test_accuracy"]}, validated.seconds)
    collected["crossval"] = validated.metrics
    figures |= validated.figures

    trained = {}
    for name, recipe in RECIPES.items():
        seconds: dict[str, float] = {}
        trained[name] = train.train_one(dataset, recipe, run, seconds)
        add({name: trained[name].metrics["test_accuracy"]}, seconds)
        collected[name] = {**trained[name].metrics, "history": trained[name].fit.history}
    figures["curves.png"] = train.curves(trained, dataset.name)
    first = next(iter(RECIPES))
    figures |= train.template_figures(dataset, RECIPES[first], trained[first], f"{dataset.name}: {first}")
    return Outcome(collected, total, COLUMNS, table, figures, predictions=validated.predictions)


COMMAND = DataCommand(DemoOptions, demo)
