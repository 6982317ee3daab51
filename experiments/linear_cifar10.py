"""A linear classifier on CIFAR-10's pixels: softmax and multiclass SVM, and what their weights look like.

    python experiments/linear_cifar10.py --data-dir DIR      # TFDS data with cifar10; about 5 minutes on 2 cores

Learning rate and L2 penalty are chosen by the accuracy on 5,000 training images that are held out; the chosen setting
is trained again on all 50,000, and the test set is measured once. CIFAR-10 (JPEG copy); asked: 0.395 and 0.375.
"""

import argparse
import itertools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from funcgrad import datasets, losses, metrics, models, plots, report, training

RESULTS = Path(__file__).parent / "results"
GRID = {"lr": (1e-4, 3e-4, 1e-3), "l2": (1e-2, 1e-1)}
EPOCHS, BATCH_SIZE, HELD_OUT = 12, 256, 5000


def fit(loss: str, lr: float, l2: float, train: datasets.Split, validation: datasets.Split | None) -> Any:
    """Adam with a cosine schedule → (the model, what `training.fit` gives)."""
    model = models.standardized(models.linear(10), *models.mean_and_deviation(train.images))
    steps = EPOCHS * -(-len(train.labels) // BATCH_SIZE)
    fitted = training.fit(
        jax.random.key(0),
        model,
        train.images,
        train.labels,
        loss=losses.make_loss(loss, l2=l2),
        optimizer=training.make_optimizer("adam", lr, schedule="cosine", steps=steps),
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        validation=None if validation is None else (validation.images, validation.labels),
    )
    return model, fitted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True, help="TFDS data with cifar10")
    dataset = datasets.load("cifar10", data_dir=parser.parse_args().data_dir)
    kept = datasets.Split(*(x[:-HELD_OUT] for x in dataset.train))
    held_out = datasets.Split(*(x[-HELD_OUT:] for x in dataset.train))
    results = {}
    for loss in ("softmax", "svm"):
        tried = []
        for lr, l2 in itertools.product(*GRID.values()):
            _, fitted = fit(loss, lr, l2, kept, held_out)
            tried.append({"lr": lr, "l2": l2, "validation_accuracy": fitted.history["validation_accuracy"][-1]})
            print(loss, tried[-1], flush=True)
        best = max(tried, key=lambda row: row["validation_accuracy"])
        seconds: dict[str, float] = {}
        with report.timed(seconds):
            model, fitted = fit(loss, best["lr"], best["l2"], dataset.train, None)
        scores = training.predict(model, fitted.params, dataset.test.images)
        accuracy = float(metrics.accuracy(np.argmax(scores, axis=1), dataset.test.labels))
        print(f"{loss}: test accuracy {accuracy:.4f}, {seconds['run']:.1f} s", flush=True)
        results[loss] = {"chosen": best, "tried": tried, "test_accuracy": accuracy, "seconds": seconds}
        title = f"CIFAR-10 (JPEG copy), linear {loss}: weight templates, test accuracy {100 * accuracy:.1f} %"
        weights = np.asarray(fitted.params["weights"])
        figure = plots.templates(weights, dataset.train.images.shape[1:], dataset.classes, title=title)
        plots.save(figure, RESULTS / f"linear_cifar10_{loss}.png")
    settings = {"epochs": EPOCHS, "batch_size": BATCH_SIZE, "optimizer": "adam, cosine schedule"}
    result = {"data": "CIFAR-10 (JPEG copy)", "settings": settings, **results, "environment": report.environment()}
    report.write_json(RESULTS / "linear_cifar10.json", result)


if __name__ == "__main__":
    main()
