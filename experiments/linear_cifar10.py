"""How good is a linear classifier on CIFAR-10's pixels, softmax or SVM, and what do its weights look like?

    python experiments/linear_cifar10.py --data-dir DIR      # 2 minutes on 2 cores

Needs TFDS data with cifar10. Learning rate and L2 penalty are chosen by the accuracy on the last 5,000 training images,
which are held out; the chosen setting is trained again on all 50,000, and the test set is measured once for each of
three seeds. CIFAR-10 (JPEG copy); expected: at least 0.405 for softmax, and 0.39 for the SVM.
"""

import argparse
import itertools
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from funcgrad import datasets, losses, metrics, models, plots, report, training

RESULTS = Path(__file__).parent / "results"
GRID = {"lr": (1e-4, 3e-4, 1e-3), "l2": (1e-2, 1e-1)}
BATCH_SIZE, HELD_OUT = 256, 5000


def prepared(loss: str, lr: float, l2: float, epochs: int, train: datasets.Split) -> tuple[models.Model, Any]:
    """→ the model, and `training.fit` by Adam with a cosine schedule, which lacks a key."""
    model = models.standardized(models.linear(10), *models.mean_and_deviation(train.images))
    steps = epochs * -(-len(train.labels) // BATCH_SIZE)
    optimizer = training.make_optimizer("adam", lr, schedule="cosine", steps=steps)
    fit = partial(training.fit, model=model, inputs=train.images, labels=train.labels, optimizer=optimizer)
    return model, partial(fit, loss=losses.make_loss(loss, l2=l2), epochs=epochs, batch_size=BATCH_SIZE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True, help="TFDS data with cifar10")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of results and pictures")
    options = parser.parse_args()
    dataset = datasets.load("cifar10", data_dir=options.data_dir)
    rest = datasets.Split(*(x[:-HELD_OUT] for x in dataset.train))
    held_out = datasets.Split(*(x[-HELD_OUT:] for x in dataset.train))
    results = {}
    for loss in ("softmax", "svm"):
        tried = []
        for lr, l2 in itertools.product(*GRID.values()):
            _, fit = prepared(loss, lr, l2, options.epochs, rest)
            fitted = fit(jax.random.key(0), validation=(held_out.images, held_out.labels))
            tried.append({"lr": lr, "l2": l2, "validation_accuracy": fitted.history["validation_accuracy"][-1]})
            print(loss, tried[-1], flush=True)
        best = max(tried, key=lambda row: row["validation_accuracy"])
        model, fit = prepared(loss, best["lr"], best["l2"], options.epochs, dataset.train)
        accuracies = []
        with report.timed(seconds := {}):
            for seed in range(options.seeds):
                fitted = fit(jax.random.key(seed))
                scores = training.predict(model, fitted.params, dataset.test.images)
                accuracies.append(float(metrics.accuracy(np.argmax(scores, axis=1), dataset.test.labels)))
                print(f"{loss}, seed {seed}: test accuracy {accuracies[-1]:.4f}", flush=True)
        results[loss] = {
            "chosen": best,
            "tried": tried,
            "test_accuracies": accuracies,
            "test_accuracy": float(np.mean(accuracies)),
            "seconds": {name: x / options.seeds for name, x in seconds.items()},
        }
        title = f"CIFAR-10 (JPEG copy), linear {loss}: weight templates, test accuracy {100 * accuracies[-1]:.1f} %"
        weights = np.asarray(fitted.params["weights"])
        figure = plots.templates(weights, dataset.train.images.shape[1:], dataset.classes, title=title)
        plots.save(figure, options.out / f"linear_cifar10_{loss}.png")
    settings = {"epochs": options.epochs, "batch_size": BATCH_SIZE, "optimizer": "adam, cosine schedule"}
    result = {"data": "CIFAR-10 (JPEG copy)", "settings": settings, **results, "environment": report.environment()}
    report.write_json(options.out / "linear_cifar10.json", result)


if __name__ == "__main__":
    main()
