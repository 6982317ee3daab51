"""How examples are divided."""

import jax
import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from funcgrad import datasets
from funcgrad.folds import classification_folds, hold_out, split_folds


@pytest.mark.parametrize(("share", "count"), [(0.1, 144), (0.3, 431), (0.4, 575), (0.5, 718)])
def test_the_share_that_is_held_out_has_all_classes_and_the_size_asked_for(share: float, count: int) -> None:
    labels = datasets.load("digits").train.labels
    held_out, kept = hold_out(jax.random.key(0), labels, share)
    assert len(held_out) == count
    np.testing.assert_array_equal(np.sort(np.concatenate([held_out, kept])), np.arange(1437))
    assert np.all(np.abs(np.bincount(labels[held_out]) - share * np.bincount(labels)) <= 1.5)


def test_folds_are_shuffled_and_stratified_unless_asked_for_in_order() -> None:
    labels = np.repeat(np.arange(4), 25)  # sorted by class, as folders are
    parts = classification_folds(labels, 5)
    assert [np.bincount(labels[part], minlength=4).tolist() for part in parts] == [[5] * 4] * 5
    assert np.any(np.diff(np.sort(parts[0])) > 1)
    again, other = classification_folds(labels, 5), classification_folds(labels, 5, shuffle=jax.random.key(1))
    assert all(np.array_equal(*pair) for pair in zip(parts, again, strict=True))
    assert not np.array_equal(parts[0], other[0])
    unstratified = classification_folds(labels, 5, stratified=False)
    assert any(np.bincount(labels[part], minlength=4).tolist() != [5] * 4 for part in unstratified)
    for part, expected in zip(classification_folds(labels, 5, in_order=True), np.split(np.arange(100), 5), strict=True):
        np.testing.assert_array_equal(part, expected)


@pytest.mark.parametrize("shuffle", [None, jax.random.key(3)], ids=["in order", "shuffled"])
def test_a_group_is_in_one_fold_and_classes_are_as_equal_as_scikit_learn_makes_them(shuffle: jax.Array | None) -> None:
    rng = np.random.default_rng(0)
    groups = np.sort(rng.integers(0, 30, 300))
    labels = rng.integers(0, 3, 300) * (groups % 2)
    names = np.array([f"person {number}" for number in groups], object)
    parts = split_folds(300, 5, shuffle=shuffle, stratify=labels, groups=names)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(300))
    assert sum(len(set(groups[part])) for part in parts) == 30
    seed = None if shuffle is None else int(jax.random.bits(shuffle))
    reference = StratifiedGroupKFold(5, shuffle=shuffle is not None, random_state=seed)
    _, numbers = np.unique(names.astype(str), return_inverse=True)
    for part, (_, expected) in zip(parts, reference.split(labels, labels, numbers), strict=True):
        np.testing.assert_array_equal(part, expected)
    shares = np.array([np.bincount(labels[part], minlength=3) / len(part) for part in parts])
    assert np.ptp(shares, axis=0).max() < 0.15


def test_groups_that_cannot_be_are_refused_and_rare_classes_are_not() -> None:
    with pytest.raises(ValueError, match=r"^folds: needs 2 to 3, the number of groups; got 4$"):
        split_folds(9, 4, groups=np.arange(9) // 3)
    with pytest.raises(ValueError, match=r"^groups: needs one for each of 9 examples, got shape \(8,\)$"):
        split_folds(9, 3, groups=np.arange(8))
    parts = split_folds(9, 5, stratify=np.arange(9), groups=np.arange(9))  # no class has five examples
    assert sorted(map(len, parts)) == [1, 2, 2, 2, 2]


def test_whole_groups_are_held_out() -> None:
    groups = np.arange(200) // 4
    labels = np.random.default_rng(0).integers(0, 3, 200)
    held_out, others = hold_out(jax.random.key(0), labels, 0.1, groups)
    np.testing.assert_array_equal(np.sort(np.concatenate([held_out, others])), np.arange(200))
    assert not set(groups[held_out]) & set(groups[others])
    assert 12 <= len(held_out) <= 28
