"""Folds are a partition; k-NN by folds is the course's double loop; a sweep is its trainings, each done alone."""

import itertools
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from funcgrad import models
from funcgrad.crossval import Row, best, knn, split_folds, sweep
from funcgrad.files import DifferentRun
from funcgrad.losses import make_loss
from funcgrad.neighbors import open_saved
from funcgrad.training import Checkpoint, checkpoint

KEY = jax.random.key(0)
unhurried = settings(deadline=None, max_examples=50)
COUNTED = st.tuples(st.integers(2, 60), st.integers(2, 60)).map(lambda pair: (max(pair), min(pair)))


@cache
def digits(count: int) -> tuple[np.ndarray, np.ndarray]:
    data = load_digits()
    return data.data[:count].astype(np.uint8), data.target[:count]


# Folds


@unhurried
@given(COUNTED)
def test_folds_are_those_of_array_split(count_and_folds: tuple[int, int]) -> None:
    count, folds = count_and_folds
    parts = split_folds(count, folds)
    assert len(parts) == folds
    for part, expected in zip(parts, np.array_split(np.arange(count), folds), strict=True):
        np.testing.assert_array_equal(part, expected)


@pytest.mark.parametrize("stratified", [False, True])
def test_shuffled_folds_are_folds_of_a_permutation(stratified: bool) -> None:
    labels = np.arange(50) % 4 if stratified else None
    one, same, other = (split_folds(50, 4, shuffle=jax.random.key(seed), stratify=labels) for seed in (1, 1, 2))
    assert [len(part) for part in one] == [13, 13, 12, 12]
    np.testing.assert_array_equal(np.sort(np.concatenate(one)), np.arange(50))
    np.testing.assert_array_equal(np.concatenate(one), np.concatenate(same))
    memberships = [np.sort(parts[0]) for parts in (one, other, split_folds(50, 4, stratify=labels))]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert len(memberships[a]) != len(memberships[b]) or (memberships[a] != memberships[b]).any()


@unhurried
@given(st.lists(st.sampled_from([0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7]), min_size=2, max_size=80), st.data())
@pytest.mark.parametrize("shuffle", [None, KEY], ids=["in order", "shuffled"])
def test_stratified_folds_have_every_class_in_its_share(
    shuffle: jax.Array | None, labels: list[int], data: st.DataObject
) -> None:
    folds = data.draw(st.integers(2, len(labels)))
    shuffle = shuffle if shuffle is None or len(labels) % 20 == 0 else None  # each length compiles a permutation
    parts = split_folds(len(labels), folds, shuffle=shuffle, stratify=labels)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    np.testing.assert_array_equal([len(part) for part in parts], [len(p) for p in np.array_split(labels, folds)])
    counts = np.array([np.bincount(np.array(labels)[part], minlength=8) for part in parts])
    assert (np.abs(counts - np.bincount(labels, minlength=8) / folds) < 1).all()


def test_stratified_folds_keep_each_class_in_its_order() -> None:
    """What lies side by side, such as one writer's digits, stays in one fold."""
    labels = np.random.default_rng(0).integers(0, 3, 40)
    parts = split_folds(40, 4, stratify=labels)
    for label in range(3):
        members = np.concatenate([part[labels[part] == label] for part in parts])
        np.testing.assert_array_equal(members, np.flatnonzero(labels == label))


@pytest.mark.parametrize("folds", [-1, 0, 1, 11])
def test_folds_that_cannot_be_are_refused(folds: int) -> None:
    with pytest.raises(ValueError, match=f"folds: needs 2 to 10, the number of examples; got {folds}"):
        split_folds(10, folds)


def test_strata_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"stratify: needs one label for each of 10 examples, got shape \(9,\)"):
        split_folds(10, 2, stratify=np.zeros(9, int))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_the_best_row_is_the_first_of_those_with_the_highest_mean(means: list[int]) -> None:
    rows = [Row({"number": number}, mean / 4, 0.0, ()) for number, mean in enumerate(means)]
    assert best(rows).setting["number"] == means.index(max(means))


# k-NN


def plain_knn(images: np.ndarray, labels: np.ndarray, ks: list[int], metric: str, folds: list) -> dict[int, list]:
    """The course's cross-validation in NumPy: order by (distance, index), vote ties to the smaller label."""
    accuracies: dict[int, list[float]] = {k: [] for k in ks}
    wide = images.astype(np.int64)
    for fold in folds:
        others = np.setdiff1d(np.arange(len(labels)), fold)
        difference = wide[fold][:, None] - wide[others][None]
        distances = np.abs(difference).sum(-1) if metric == "l1" else (difference**2).sum(-1)
        order = np.argsort(distances, axis=1, kind="stable")
        for k in ks:
            voted = [np.bincount(votes).argmax() for votes in labels[others][order[:, :k]]]
            accuracies[k].append(float(np.mean(voted == labels[fold])))
    return accuracies


@pytest.mark.exhaustive
@pytest.mark.parametrize("how", ["in order", "shuffled", "grouped", "stratified"])
def test_knn_by_folds_is_the_double_loop_of_the_course(how: str) -> None:
    images, labels = digits(120)
    ks, metrics = [1, 4, 7], ["l1", "l2"]
    options: dict[str, Any] = {
        "in order": {"in_order": True},
        "shuffled": {"shuffle": jax.random.key(1), "stratified": False},
        "grouped": {"groups": np.arange(120) // 7},
        "stratified": {},
    }[how]
    parts = {
        "in order": split_folds(120, 4),
        "shuffled": split_folds(120, 4, shuffle=jax.random.key(1)),
        "grouped": split_folds(120, 4, shuffle=KEY, stratify=labels, groups=np.arange(120) // 7),
        "stratified": split_folds(120, 4, shuffle=KEY, stratify=labels),
    }[how]
    rows = knn(images, labels, ks=ks, metrics=metrics, folds=4, **options)
    expected = {metric: plain_knn(images, labels, ks, metric, parts) for metric in metrics}
    assert [row.setting for row in rows] == [{"metric": metric, "k": k} for metric in metrics for k in ks]
    for row in rows:
        accuracies = expected[row.setting["metric"]][row.setting["k"]]
        assert row.folds == tuple(accuracies)
        np.testing.assert_allclose([row.mean, row.std], [np.mean(accuracies), np.std(accuracies)], rtol=1e-12)


@pytest.mark.exhaustive
def test_no_example_is_its_own_neighbor_or_that_of_its_fold() -> None:
    """Twins of one label lie in one fold: who could see his twin would always be right, and here nobody ever is."""
    images = np.repeat(np.arange(10, dtype=np.uint8) * 20, 2)[:, None]
    labels = np.repeat(np.arange(10), 2)
    for division in ({"in_order": True}, {"groups": labels}):
        (row,) = knn(images, labels, ks=[1], metrics=["l1"], folds=10, **division)
        assert row.folds == (0.0,) * 10
    assert knn(images, labels, ks=[1], metrics=["l1"], folds=2)[0].mean == 1  # each fold has one of the twins


def test_data_sorted_by_class_is_cross_validated_rightly() -> None:
    """Folds in order leave each class out of what its examples are compared with, and choose the smallest k."""
    images, labels = digits(300)
    order = np.argsort(labels, kind="stable")
    options: dict[str, Any] = {"ks": [1], "metrics": ["l1"], "folds": 5}
    by_class = knn(images[order], labels[order], **options)[0].mean
    assert by_class > 0.9
    assert knn(images[order], labels[order], **options, in_order=True)[0].mean < 0.2


def test_the_options_of_a_search_are_those_of_its_cross_validation() -> None:
    images, labels = digits(60)
    vectors, options = images.astype(np.float32), {"ks": [5], "folds": 3}
    one, two = (
        knn(vectors, labels, **options, metrics=["l2", "minkowski"], p=2, precision=x) for x in ("exact", "fast")
    )
    assert one[0].folds == one[1].folds == two[1].folds
    soft = knn(vectors, labels, **options, metrics=["l2"], weights="softmax", temperature=1e-3)
    assert soft[0].folds == knn(vectors, labels, ks=[1], folds=3, metrics=["l2"])[0].folds  # the nearest alone counts
    mask = labels != 3
    (row,) = knn(vectors, labels, **options, metrics=["l2"], mask=mask)
    parts = split_folds(60, 3, shuffle=KEY, stratify=labels)
    assert all(accuracy <= np.mean(mask[part]) for accuracy, part in zip(row.folds, parts, strict=True))
    for changes, message in [
        ({"metrics": ["l1", "l2"], "p": 3}, "p: only metric 'minkowski' has p, got 3"),
        ({"temperature": 0.1}, "temperature: only weights 'softmax' have one, got 0.1 with 'uniform'"),
        ({"mask": mask[1:]}, r"mask: needs \(60,\) of bool, got bool of shape \(59,\)"),
        ({"in_order": True, "groups": labels}, "in_order: takes the examples as they come; got groups as well"),
        ({"in_order": True, "shuffle": KEY}, "in_order: takes the examples as they come; got shuffle as well"),
    ]:
        with pytest.raises(ValueError, match=message):
            knn(images, labels, **options, **changes)


@pytest.mark.exhaustive
def test_a_metric_of_ones_own_is_listed_under_its_name_and_progress_is_told() -> None:
    def taxicab(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.sum(jnp.abs(a - b))

    images, labels = digits(60)
    calls: list[tuple[int, int]] = []
    progress = lambda done, count: calls.append((done, count))  # noqa: E731
    rows = knn(images.astype(np.float32), labels, ks=[3], metrics=["l1", taxicab], folds=3, progress=progress)
    assert [row.setting["metric"] for row in rows] == ["l1", "taxicab"]
    assert rows[0].folds == rows[1].folds
    assert calls == [(done, 120) for done in (20, 40, 60, 80, 100, 120)]


@pytest.mark.parametrize("finished", [0, 2, 5, 6])
def test_a_resumed_cross_validation_searches_only_the_missing_folds(tmp_path: Path, finished: int) -> None:
    images, labels = digits(90)
    options: dict[str, Any] = {"ks": [1, 3], "metrics": ["l1", "cosine"], "folds": 3, "folder": tmp_path / "saved"}
    whole = knn(images, labels, **options, data={"seed": 0})
    files = sorted((tmp_path / "saved").iterdir())
    assert [file.name for file in files] == [
        f"queries-{start:09}-{start + 30:09}-of-000000180.npz" for start in range(0, 180, 30)
    ]
    for file in files[finished:]:
        file.unlink()
    calls: list[int] = []
    progress = lambda done, _: calls.append(done)  # noqa: E731
    # Where nothing is left to search, the images are not even looked at.
    searched = np.full(images.shape, np.nan, np.float32) if finished == 6 else images
    assert knn(searched, labels, **options, data={"seed": 0}, resume=True, progress=progress) == whole
    assert calls == list(range(30 * (finished + 1), 181, 30))
    for changes, says in [
        ({"data": {"seed": 1}}, "seed 0 and not 1; without --resume"),
        ({"metrics": ["l1"]}, "metrics l1, cosine and not l1; without --resume"),
        ({"ks": [1, 4]}, "largest k 3 and not 4; without --resume"),
        ({"groups": np.arange(90) // 2}, "fold assignment [0-9]+ and not [0-9]+; without --resume"),
    ]:
        with pytest.raises(DifferentRun, match=f"was searched with {says}"):
            knn(images, labels, **{**options, "data": {"seed": 0}, **changes}, resume=True)
    with pytest.raises(DifferentRun, match="metrics l1, cosine and not none"):
        open_saved(tmp_path / "saved", True, {"largest k": 3}, 9)
    assert sorted((tmp_path / "saved").iterdir()) == files


def test_a_cross_validation_needs_neighbors_outside_the_largest_fold_and_memory() -> None:
    images, labels = digits(20)
    with pytest.raises(ValueError, match="memory: 10 bytes is too little for one query and one point, which need "):
        knn(images, labels, ks=[3], metrics=["l1"], folds=2, memory=10)
    with pytest.raises(ValueError, match=r"k: needs an integer from 1 to 13, .* got 14"):
        knn(images, labels, ks=[14], metrics=["l1"], folds=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.zeros(9, int)}, r"labels: needs one for each of the 10 images, got shape \(9,\)"),
        ({"labels": np.arange(10) - 1}, "labels: needs integers"),
        ({"labels": np.zeros(10)}, "labels: needs integers"),
        ({"ks": [1, 6]}, "k: needs an integer from 1 to 5, the number of points to choose from; got 6"),
        ({"ks": [0, 1]}, "ks: needs integers from 1"),
        ({"ks": []}, "ks: needs one or more, got none"),
        ({"metrics": []}, "metrics: needs one or more, got none"),
        ({"ks": [1, "3"]}, "ks: needs whole numbers, got '3'"),
        ({"ks": 1.5}, "ks: needs whole numbers, got 1.5"),
        ({"folds": 2.5}, "folds: needs a whole number, got 2.5"),
        ({"shuffle": True}, "shuffle: needs a key such as jax.random.key\\(0\\), got True"),
        ({"labels": np.array(list("ababababab"))}, r"labels: needs integers \(N,\), got <U1 of shape \(10,\)"),
        ({"metrics": ["l3"]}, "metric: 'l3' is unknown; choose one of"),
        ({"folds": 11}, "folds: needs 2 to 10"),
        ({"weights": "equal"}, "weights: 'equal' is unknown; choose one of"),
    ],
)
def test_a_wrong_argument_of_knn_is_named(changes: dict[str, Any], message: str) -> None:
    options = {"labels": np.arange(10) % 2, "ks": [1], "metrics": ["l1"], "folds": 2} | changes
    with pytest.raises((TypeError, ValueError), match=message):
        knn(np.arange(10, dtype=np.uint8)[:, None], options.pop("labels"), **options)


# Sweeps

SOFTMAX = make_loss("softmax")
LINEAR = models.linear(10)
NETWORK = models.mlp((8,), 10, dropout=0.5)


def penalized(scores: jax.Array, label: jax.Array, params: Any, setting: Any) -> jax.Array:
    return make_loss("softmax", l2=setting["l2"])(scores, label, params)


def unpenalized(scores: jax.Array, label: jax.Array, params: Any, setting: Any) -> jax.Array:
    return SOFTMAX(scores, label, params)


def descent(setting: Any) -> optax.GradientTransformation:
    return optax.sgd(setting["lr"])


def swept(key: jax.Array = KEY, **changes: Any) -> list[Row]:
    images, labels = digits(100)
    options = {
        "model": LINEAR,
        "inputs": (images / 16).astype(np.float32),
        "labels": labels,
        "settings": {"lr": np.array([0.5], np.float32)},
        "loss": unpenalized,
        "optimizer": descent,
        "epochs": 3,
        "batch_size": 32,
        "folds": 3,
        "in_order": "shuffle" not in changes,
    } | changes
    return sweep(key, **options)


@cache
def plain_sweep() -> Row:
    (row,) = swept()
    return row


@pytest.mark.exhaustive
def test_each_row_of_a_sweep_is_its_setting_trained_alone() -> None:
    rates, penalties = np.array([0.02, 0.2, 1.0], np.float32), np.array([0.0, 1e-2, 0.3], np.float32)
    options = {"loss": penalized, "model": NETWORK, "seeds": 2, "shuffle": KEY, "epochs": 5}
    rows = swept(settings={"lr": rates, "l2": penalties}, **options)
    assert len({row.mean for row in rows}) == 3, "settings too alike to show anything"
    for row, rate, penalty in zip(rows, rates, penalties, strict=True):
        assert row.setting == {"lr": rate.item(), "l2": penalty.item()}
        assert len(row.folds) == 6
        np.testing.assert_allclose([row.mean, row.std], [np.mean(row.folds), np.std(row.folds)], rtol=1e-12)
    (alone,) = swept(settings={"lr": rates[1:2], "l2": penalties[1:2]}, **options)
    np.testing.assert_allclose(rows[1].folds, alone.folds, atol=1e-4)


@pytest.mark.exhaustive
@pytest.mark.parametrize("float64", [False, True])
def test_a_sweep_is_gradient_descent_on_the_other_folds(float64: bool) -> None:
    """One batch an epoch, and parameters that start at 0: nothing is random, and NumPy can do the same."""
    images, labels = digits(100)
    inputs, epochs, rate = images / 16, 20, 0.5
    zero = models.Model(lambda key, shape: {"weights": jnp.zeros((10, 64)), "bias": jnp.zeros(10)}, LINEAR.apply)
    with jax.enable_x64(float64):
        options = {"inputs": inputs, "settings": {"lr": np.array([rate])}} if float64 else {}
        (row,) = swept(key=jax.random.key(0), model=zero, epochs=epochs, batch_size=1000, **options)
    expected = []
    for fold in np.array_split(np.arange(100), 3):
        others = np.setdiff1d(np.arange(100), fold)
        weights, bias = np.zeros((64, 10)), np.zeros(10)
        for _ in range(epochs):
            exps = np.exp(inputs[others] @ weights + bias)
            slopes = (exps / exps.sum(axis=1, keepdims=True) - np.eye(10)[labels[others]]) / len(others)
            weights -= rate * inputs[others].T @ slopes
            bias -= rate * slopes.sum(axis=0)
        expected.append(np.mean((inputs[fold] @ weights + bias).argmax(axis=1) == labels[fold]))
    np.testing.assert_allclose(row.folds, expected, atol=1e-4)
    assert row.mean > 0.5


@pytest.mark.exhaustive
def test_a_setting_that_diverges_changes_no_other() -> None:
    settings = {"lr": np.array([0.5, 0.5, 0.5], np.float32), "l2": np.array([0, 1e10, 0], np.float32)}
    rows = swept(settings=settings, loss=penalized)
    assert rows[0].folds == rows[2].folds == plain_sweep().folds
    _, labels = digits(100)  # scores that are not numbers have their maximum in the first class
    assert rows[1].folds == tuple(np.float32(np.mean(labels[fold] == 0)) for fold in split_folds(100, 3))
    assert [row.diverged for row in rows] == [0, 3, 0]
    assert best([rows[1]._replace(mean=1.0), rows[2]]) == rows[2]


@pytest.mark.exhaustive
def test_groups_that_fit_the_memory_give_the_same_rows() -> None:
    settings = {"lr": np.array([0.02, 0.2, 0.5, 1.0], np.float32)}
    told: list[tuple[int, int]] = []
    grouped = swept(settings=settings, memory=400_000, on_epoch=lambda *counts: told.append(counts))
    assert 2 <= told[-1][1] // 3 <= 12
    assert told == [(done, told[-1][1]) for done in range(1, told[-1][1] + 1)]
    for row, other in zip(swept(settings=settings), grouped, strict=True):
        np.testing.assert_allclose(row.folds, other.folds, atol=1e-4)


@pytest.mark.exhaustive
def test_settings_may_be_any_tree() -> None:
    settings = (np.array([0.2, 0.5], np.float32), [np.array([[0.0, 1.0], [0.0, 0.0]], np.float32)])

    def shifted(scores: jax.Array, label: jax.Array, params: Any, setting: Any) -> jax.Array:
        return SOFTMAX(scores, label, params) + jnp.sum(setting[1][0]) * 0.1 * jnp.sum(params["weights"] ** 2)

    rows = swept(settings=settings, loss=shifted, optimizer=lambda setting: optax.sgd(setting[0]))
    assert [row.setting for row in rows] == [(np.float32(0.2), [[0.0, 1.0]]), (0.5, [[0.0, 0.0]])]
    assert rows[1] == plain_sweep()._replace(setting=(0.5, [[0.0, 0.0]]))


@pytest.mark.exhaustive
def test_held_out_labels_change_no_training() -> None:
    """Of two classes, what is predicted of a held-out fold is right about its labels, or about their opposites."""
    images, labels = digits(360)
    kept = labels < 2
    options = {"model": models.linear(2), "inputs": (images[kept] / 16).astype(np.float32), "folds": 2, "epochs": 4}
    noise = np.random.default_rng(0).integers(0, 2, kept.sum())  # nothing to learn: to be right, one must have peeked
    first = split_folds(len(noise), 2)[0]
    opposite = noise.copy()
    opposite[first] = 1 - noise[first]
    ((right, _),) = (row.folds for row in swept(labels=noise, **options))
    ((wrong, _),) = (row.folds for row in swept(labels=opposite, **options))
    np.testing.assert_allclose(right + wrong, 1, atol=1e-6)
    assert 0.2 < right < 0.8


@pytest.mark.exhaustive
def test_seeds_start_differently_and_the_first_is_that_of_a_sweep_without_more() -> None:
    untrained, trained = swept(settings={"lr": np.array([1e-12, 0.5], np.float32)}, seeds=3)
    np.testing.assert_allclose(np.reshape(trained.folds, (3, 3))[:, 0], plain_sweep().folds, atol=1e-4)
    of_each_seed = np.reshape(untrained.folds, (3, 3)).T
    assert len({tuple(folds) for folds in of_each_seed}) == 3


@pytest.mark.exhaustive
def test_the_same_key_gives_the_same_rows_and_on_epoch_is_told() -> None:
    told: list[tuple[int, int]] = []
    assert swept(on_epoch=lambda done, epochs: told.append((done, epochs))) == [plain_sweep()]
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("stop_after", [1, 5, 9])
def test_a_sweep_that_was_stopped_is_resumed_to_the_same_bits(stop_after: int, tmp_path: Path) -> None:
    """In rounds of three trainings: stopped in the first, in the second, and between two."""
    options: dict[str, Any] = {"settings": {"lr": np.array([0.02, 0.5], np.float32)}, "memory": 400_000}
    calls: list[tuple[int, int]] = []
    whole = swept(**options, on_epoch=lambda *counts: calls.append(counts))
    assert len(calls) >= 6
    polls = itertools.count(1)
    where = Checkpoint(tmp_path / "saved", seconds=1e9, config={"seed": 0})
    with pytest.raises(KeyboardInterrupt):
        swept(**options, checkpoint=where, should_stop=lambda: next(polls) == stop_after)
    (done,) = checkpoint.steps(tmp_path / "saved")[-1:]
    assert done > 0
    assert swept(**options, checkpoint=where._replace(resume=True)) == whole
    for changes, says in [
        ({"settings": {"lr": [0.5]}}, "trainings"),
        ({"key": jax.random.key(1)}, "key"),
        ({"epochs": 4}, "epochs 3"),
    ]:
        with pytest.raises(DifferentRun, match=f"was saved with .*{says}"):
            swept(**(options | changes), checkpoint=where._replace(resume=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {}}, "settings: needs arrays of one length"),
        ({"settings": {"lr": [0.1, 0.2], "l2": [0.1]}}, "settings: needs .* got lengths {'l2': 1, 'lr': 2}"),
        ({"seeds": 0}, "seeds: must be at least 1, got 0"),
        ({"folds": 1}, "folds: needs 2 to 100"),
        ({"epochs": 0}, "epochs: must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size: must be at least 1, got 0"),
        ({"labels": np.zeros(99, int)}, r"labels: needs one for each of the 100 inputs, got shape \(99,\)"),
        ({"labels": np.zeros(100)}, r"labels: needs integers \(N,\), got float"),
        ({"labels": np.arange(100)}, "labels: range from 0 to 99, the model has classes 0 … 9"),
    ],
)
def test_a_wrong_argument_of_sweep_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        swept(**changes)
