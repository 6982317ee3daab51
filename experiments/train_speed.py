"""How fast is training, beside PyTorch and scikit-learn on the same data in the same run?

    pip install -e ".[bench]"
    python experiments/train_speed.py --data-dir DIR                   # 20 minutes on 2 cores, 6 GB
    python experiments/train_speed.py --data-dir DIR --only steps      # or sweeps, or checkpoints

CIFAR-10 (JPEG copy), Adam, batches of 256 in a new order each epoch. All programs run in turn, a figure is the median
of the rounds, and compilation is not included: the first epoch of a program is never counted. The parts:

- steps: images a second of `training.fit`, which stores the images as bytes, against PyTorch's eager mode on as many
  threads, which has them ready as normalised float32 (beside it, with its fused Adam, and with bytes like funcgrad);
  scikit-learn's `partial_fit` on the first images.
- sweeps: many settings in one program against one setting trained by `fit`; and, with five folds, against
  scikit-learn's `GridSearchCV(n_jobs=2)`, which runs a sample of the same grid and one epoch over fewer images: its
  time is scaled to all of them, without what it does once a search.
- checkpoints: an epoch of about a second or two with a checkpoint, against one without.

Claims: the MLPs at 1.3 × PyTorch, the linear classifier at 1.2 ×; 64 settings of the linear classifier, and of an MLP
of 32 units on digits, for 12 × the time of one; 16 settings of the MLP of 256 units on CIFAR-10 no slower than one
after another; a checkpoint each epoch for 3 %. The results file says which hold on the machine used.
"""

import argparse
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax
import numpy as np

from funcgrad import crossval, datasets, losses, models, report, training

RESULTS = Path(__file__).parent / "results" / "train_speed.json"
BATCH_SIZE, LEARNING_RATE, CORES = 256, 1e-3, 2
NETWORKS = {"linear": ((), 1.2), "256": ((256,), 1.3), "1024-512": ((1024, 512), 1.3)}  # hidden units, the claim
PEER_IMAGES = 10_000  # of scikit-learn
FOLDS = 5


def epoch_seconds(train: Callable[[Callable[..., None]], Any]) -> list[float]:
    """The seconds of each epoch but the first, in which the program is compiled; `train` takes what an epoch calls."""
    ends: list[float] = []
    train(lambda *_: ends.append(time.perf_counter()))
    return np.diff(ends).tolist()


def sweep_seconds(train: Callable[[Callable[[int, int], None]], Any], epochs: int) -> list[float]:
    """The same of a sweep, which trains its groups one after another: an epoch of one group, times the groups."""
    ends: list[tuple[float, int, int]] = []
    train(lambda done, total: ends.append((time.perf_counter(), done, total)))
    groups = ends[-1][2] // epochs
    return [groups * (b[0] - a[0]) for a, b in itertools.pairwise(ends) if a[1] % epochs]


def network(hidden: tuple[int, ...]) -> models.Model:
    return models.mlp(hidden, 10) if hidden else models.linear(10)


def normalized(hidden: tuple[int, ...], images: np.ndarray) -> models.Model:
    return models.standardized(network(hidden), *models.mean_and_deviation(images))


# Images a second.


def our_epoch(hidden: tuple[int, ...], train: datasets.Split) -> Callable[[], float]:
    """→ a function that trains for two epochs and returns the seconds of the second."""
    model, optimizer = normalized(hidden, train.images), training.make_optimizer("adam", LEARNING_RATE)
    fit = partial(training.fit, jax.random.key(0), model, train.images, train.labels, loss=losses.make_loss("softmax"))
    fit = partial(fit, optimizer=optimizer, batch_size=BATCH_SIZE, epochs=2)
    return lambda: epoch_seconds(lambda on_epoch: fit(on_epoch=on_epoch))[0]


def torch_epoch(hidden: tuple[int, ...], train: datasets.Split, *, fused: bool, ready: bool) -> Callable[[], float]:
    """The same in PyTorch: images that are `ready` are normalised before, others for each batch."""
    import torch

    torch.set_num_threads(CORES)
    flat, labels = torch.tensor(train.images.reshape(len(train.images), -1)), torch.tensor(train.labels).long()
    mean, deviation = (torch.tensor(np.tile(x, 1024)) for x in models.mean_and_deviation(train.images))
    inputs = torch.empty(flat.shape) if ready else flat
    if ready:
        torch.sub(flat, mean, out=inputs).div_(deviation)
    sizes = itertools.pairwise((flat.shape[1], *hidden))
    layers = [layer for a, b in sizes for layer in (torch.nn.Linear(a, b), torch.nn.ReLU())]
    model = torch.nn.Sequential(*layers, torch.nn.Linear((flat.shape[1], *hidden)[-1], 10))
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, fused=fused)

    def epoch() -> float:
        start, total = time.perf_counter(), torch.zeros(())
        for rows in torch.randperm(len(inputs)).split(BATCH_SIZE):
            batch = inputs[rows] if ready else (inputs[rows] - mean) / deviation
            loss = torch.nn.functional.cross_entropy(model(batch), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
        assert torch.isfinite(total)
        return time.perf_counter() - start

    epoch()  # warms up
    return epoch


def sklearn_epoch(hidden: tuple[int, ...], train: datasets.Split) -> Callable[[], float]:
    """The same in scikit-learn, on the first images, scaled to all; its linear classifier takes one image a step."""
    from sklearn.linear_model import SGDClassifier
    from sklearn.neural_network import MLPClassifier

    mean, deviation = (np.tile(x, 1024) for x in models.mean_and_deviation(train.images))
    images, labels = train.images[:PEER_IMAGES], train.labels[:PEER_IMAGES]
    inputs = (images.reshape(len(images), -1).astype(np.float32) - mean) / deviation
    mlp = MLPClassifier(hidden, batch_size=BATCH_SIZE, alpha=0, learning_rate_init=LEARNING_RATE)
    peer = mlp if hidden else SGDClassifier(loss="log_loss", n_jobs=CORES)

    def epoch() -> float:
        start = time.perf_counter()
        peer.partial_fit(inputs, labels, classes=np.arange(10))
        return (time.perf_counter() - start) * len(train.labels) / len(labels)

    return epoch


def measure_steps(train: datasets.Split, rounds: int) -> list[dict[str, Any]]:
    rows = []
    for name, (hidden, claim) in NETWORKS.items():
        programs = {
            "funcgrad": our_epoch(hidden, train),
            "pytorch": torch_epoch(hidden, train, fused=False, ready=True),
            "pytorch, fused Adam": torch_epoch(hidden, train, fused=True, ready=True),
            "pytorch, bytes": torch_epoch(hidden, train, fused=False, ready=False),
            "scikit-learn": sklearn_epoch(hidden, train),
        }
        with report.timed(seconds := {}):
            programs["funcgrad"]()
        times: dict[str, list[float]] = {program: [] for program in programs}
        for _ in range(rounds):
            for program, epoch in programs.items():
                times[program].append(epoch())
        speed = {program: len(train.labels) / median(seconds_taken) for program, seconds_taken in times.items()}
        ratios = {peer: speed["funcgrad"] / x for peer, x in speed.items() if peer != "funcgrad"}
        row = {"network": f"3072-{name}-10" if hidden else name, "images_per_second": speed, "times": ratios}
        rows.append(row | {"claim": claim, "holds": ratios["pytorch"] >= claim, "compile_seconds": seconds["compile"]})
        print(
            row["network"], {peer: round(x, 2) for peer, x in ratios.items()}, f"{speed['funcgrad']:.0f}/s", flush=True
        )
    return rows


# Sweeps.


class Sweep(NamedTuple):
    name: str
    hidden: tuple[int, ...]
    rates: int  # number of learning rates,
    penalties: tuple[float, ...]  # each with these strengths of the L2 penalty
    images: int
    batch_size: int
    claim: float  # the time of all settings over the time of one, at most,
    each: bool  # or over the time of all, one after another
    epochs: int  # of a measurement; the first is not counted
    searched: int  # images of the search with folds, ours and scikit-learn's
    peer_settings: int  # that scikit-learn does


PENALTIES = (0.0, 1e-4, 1e-3, 1e-2)
SWEEPS = (
    Sweep("CIFAR-10 (JPEG copy), linear", (), 16, PENALTIES, 20_000, BATCH_SIZE, 12, False, 3, 5_000, 2),
    Sweep("digits, 32 units", (32,), 16, PENALTIES, 1_437, 64, 12, False, 40, 1_437, 8),
    Sweep("CIFAR-10 (JPEG copy), 256 units", (256,), 4, PENALTIES, 20_000, BATCH_SIZE, 1, True, 3, 2_000, 2),
)


def measure_sweep(sweep: Sweep, train: datasets.Split, rounds: int) -> dict[str, Any]:
    images, labels = train.images[: sweep.images], train.labels[: sweep.images]
    model = normalized(sweep.hidden, images)
    grid = [(lr, l2) for lr in np.geomspace(1e-5, 1e-2, sweep.rates).tolist() for l2 in sweep.penalties]
    settings = dict(zip(("lr", "l2"), np.asarray(grid, np.float32).T, strict=True))
    size = {"epochs": sweep.epochs, "batch_size": sweep.batch_size}

    def loss(scores: Any, label: Any, params: Any, setting: Any) -> Any:
        return losses.make_loss("softmax", l2=setting["l2"])(scores, label, params)

    def optimizer(setting: Any) -> Any:
        return training.make_optimizer("adam", setting["lr"])

    fold_of = np.where(np.arange(len(labels)) % FOLDS, -1, 0).astype(np.int32)  # one fold is held out
    plan = training.Sweep(model, loss, optimizer, **size, seeds=1, memory=2**31)
    train_all = partial(training.train_settings, jax.random.key(0), images, labels, fold_of, settings, plan)
    middle = grid[len(grid) // 2 + 1]  # with a penalty, as most
    fit = partial(
        training.fit, jax.random.key(0), model, images, labels, loss=losses.make_loss("softmax", l2=middle[1])
    )
    fit = partial(fit, optimizer=training.make_optimizer("adam", middle[0]), **size)

    all_settings, one_setting = [], []
    for _ in range(rounds):
        all_settings += sweep_seconds(lambda on_epoch: train_all(hooks=training.Hooks(on_epoch=on_epoch)), sweep.epochs)
        one_setting += epoch_seconds(lambda on_epoch: fit(on_epoch=on_epoch))
    times = median(all_settings) / median(one_setting)
    compared = times / len(grid) if sweep.each else times
    sample = images[: sweep.searched], labels[: sweep.searched]
    search = partial(crossval.sweep, jax.random.key(0), model, *sample, settings, loss=loss, optimizer=optimizer)
    searched = median(sweep_seconds(lambda on_epoch: search(**size, folds=FOLDS, on_epoch=on_epoch), sweep.epochs))
    peer = grid_search_seconds(sweep, grid, *sample)
    row = {"name": sweep.name, "settings": len(grid), "images": len(labels), "seconds_per_epoch": median(all_settings)}
    row |= {"one_setting_seconds_per_epoch": median(one_setting), "times_one_setting": times}
    row |= {"times_one_after_another": times / len(grid), "claim": sweep.claim, "holds": compared <= sweep.claim}
    searched_on = {"images": len(sample[1]), "folds": FOLDS, "settings_of_scikit_learn": sweep.peer_settings}
    row["search"] = searched_on | {"seconds_per_epoch": searched, "scikit_learn_scaled": peer, "times": peer / searched}
    print(f"{sweep.name}: {len(grid)} settings for {times:.1f} ×, GridSearchCV {peer / searched:.0f} ×", flush=True)
    return row


def grid_search_seconds(sweep: Sweep, grid: list[tuple[float, float]], images: np.ndarray, labels: np.ndarray) -> float:
    """Seconds of scikit-learn for one epoch of all settings on all folds, measured on a sample of them."""
    from sklearn.linear_model import SGDClassifier
    from sklearn.model_selection import GridSearchCV
    from sklearn.neural_network import MLPClassifier

    flat = images.reshape(len(images), -1).astype(np.float32)
    inputs = (flat - flat.mean(0)) / np.where(flat.std(0) > 0, flat.std(0), 1)
    if sweep.hidden:
        peer = MLPClassifier(sweep.hidden, batch_size=sweep.batch_size, max_iter=1)
        names = "learning_rate_init", "alpha"
    else:
        peer = SGDClassifier(loss="log_loss", learning_rate="constant", max_iter=1, tol=None)
        names = "eta0", "alpha"
    sample = grid[:: len(grid) // sweep.peer_settings][: sweep.peer_settings]
    chosen = [{name: [value] for name, value in zip(names, setting, strict=True)} for setting in sample]
    search = GridSearchCV(peer, chosen, cv=FOLDS, n_jobs=CORES, refit=False)
    os.environ["PYTHONWARNINGS"] = "ignore::UserWarning"  # its workers': one epoch does not converge
    GridSearchCV(peer, chosen[:1], cv=2, n_jobs=CORES, refit=False).fit(
        inputs[:200], labels[:200]
    )  # starts its workers
    start = time.perf_counter()
    search.fit(inputs, labels)
    return (time.perf_counter() - start) * len(grid) / len(sample)


def measure_sweeps(train: datasets.Split, rounds: int) -> list[dict[str, Any]]:
    digits = datasets.load("digits").train
    return [measure_sweep(sweep, digits if "digits" in sweep.name else train, rounds) for sweep in SWEEPS]


# Checkpoints.


def measure_checkpoints(train: datasets.Split, rounds: int) -> list[dict[str, Any]]:
    rows = []
    for hidden, count in (((256,), 50_000), ((1024, 512), 20_000)):
        images, labels = train.images[:count], train.labels[:count]
        fit = partial(
            training.fit, jax.random.key(0), normalized(hidden, images), images, labels, batch_size=BATCH_SIZE
        )
        fit = partial(fit, loss=losses.make_loss("softmax"), optimizer=training.make_optimizer("adam", LEARNING_RATE))
        fit = partial(fit, epochs=5)
        with_checkpoints: list[float] = []
        plain: list[float] = []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                checkpoint = training.Checkpoint(f"{folder}/checkpoints")
                with_checkpoints += epoch_seconds(lambda on_epoch: fit(on_epoch=on_epoch, checkpoint=checkpoint))  # noqa: B023
            plain += epoch_seconds(lambda on_epoch: fit(on_epoch=on_epoch))  # noqa: B023
        cost = median(with_checkpoints) / median(plain) - 1
        name = "-".join(map(str, (3072, *hidden, 10)))
        row = {
            "network": name,
            "images": count,
            "seconds_per_epoch": median(plain),
            "kept": median(with_checkpoints),
            "cost": cost,
        }
        rows.append(row | {"claim": 0.03, "holds": cost <= 0.03})
        print(f"{name}: an epoch of {median(plain):.2f} s, a checkpoint costs {100 * cost:.1f} %", flush=True)
    return rows


PARTS = {"steps": measure_steps, "sweeps": measure_sweeps, "checkpoints": measure_checkpoints}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True, help="TFDS data with cifar10")
    parser.add_argument("--only", choices=PARTS, help="measure this part only; the others stay in the results file")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median is taken")
    parser.add_argument("--images", type=int, default=50_000, help="the first of the training set")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the results file")
    options = parser.parse_args()
    data = datasets.load("cifar10", data_dir=options.data_dir, limit_train=options.images)
    earlier = json.loads(options.out.read_text(encoding="utf-8")) if options.only and options.out.exists() else {}
    measured = {part: PARTS[part](data.train, options.rounds) for part in ([options.only] if options.only else PARTS)}
    settings = {
        "batch_size": BATCH_SIZE,
        "optimizer": "adam",
        "rounds": options.rounds,
        "images": len(data.train.labels),
    }
    results = {"data": "CIFAR-10 (JPEG copy)", "settings": settings, **earlier, **measured}
    report.write_json(options.out, results | {"environment": report.environment()})


if __name__ == "__main__":
    main()
