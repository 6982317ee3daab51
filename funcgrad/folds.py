"""How examples are divided: folds of a cross-validation, and a share that is held out."""

import warnings

import jax
import numpy as np
from jax import Array
from jax.typing import ArrayLike


def classification_folds(
    labels: ArrayLike,
    folds: int = 5,
    *,
    shuffle: Array | None = None,
    stratified: bool = True,
    groups: ArrayLike | None = None,
    in_order: bool = False,
) -> list[np.ndarray]:
    """The folds of every cross-validation here: the indices of each, shuffled, with every class in its share.

    Args:
      labels: (N,) integers.
      shuffle: the key that shuffles the examples; `jax.random.key(0)` by default.
      stratified: whether each fold has each class in its share.
      groups: (N,) labels of any kind, such as of persons; all examples of a group are in one fold.
      in_order: CS231n's folds: consecutive examples, neither shuffled nor stratified. On data sorted by class, a fold
        then has classes that the others lack.

    Raises `ValueError` for what `split_folds` refuses, and for in_order with shuffle or groups.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(f"labels: needs integers (N,), got {labels.dtype} of shape {labels.shape}")
    if in_order:
        if shuffle is not None or groups is not None:
            given = "groups" if shuffle is None else "shuffle"
            raise ValueError(f"in_order: takes the examples as they come; got {given} as well")
        return split_folds(len(labels), folds)
    shuffle = jax.random.key(0) if shuffle is None else shuffle
    return split_folds(len(labels), folds, shuffle=shuffle, stratify=labels if stratified else None, groups=groups)


def split_folds(
    count: int,
    folds: int = 5,
    *,
    shuffle: Array | None = None,
    stratify: ArrayLike | None = None,
    groups: ArrayLike | None = None,
) -> list[np.ndarray]:
    """The indices 0 … count − 1 in `folds` parts, by default as `numpy.array_split` cuts them: CS231n's folds.

    Args:
      shuffle: a key that shuffles the order first.
      stratify: labels (count,): each fold then has each class in its share, to within one example.
      groups: (count,) labels of any kind: each group is in one fold, the folds as nearly equal in size, and in classes
        with `stratify`, as scikit-learn's `StratifiedGroupKFold` makes them.

    Raises `ValueError` for fewer than 2 folds, or more than there are examples or groups, and `TypeError` for folds
    that are not a whole number or a shuffle that is not a key.
    """
    if isinstance(folds, bool) or not isinstance(folds, int | np.integer):
        raise TypeError(f"folds: needs a whole number, got {folds!r}")
    if shuffle is not None and not jax.dtypes.issubdtype(getattr(shuffle, "dtype", None), jax.dtypes.prng_key):
        raise TypeError(f"shuffle: needs a key such as jax.random.key(0), got {shuffle!r}")
    if not 2 <= folds <= count:
        raise ValueError(f"folds: needs 2 to {count}, the number of examples; got {folds}")
    labels = np.zeros(count, int) if stratify is None else np.asarray(stratify)
    if labels.shape != (count,):
        raise ValueError(f"stratify: needs one label for each of {count} examples, got shape {labels.shape}")
    if groups is not None:
        return _grouped(labels, np.asarray(groups), folds, shuffle)
    order = np.arange(count) if shuffle is None else np.asarray(jax.random.permutation(shuffle, count))
    if stratify is None:
        return np.array_split(order, folds)
    # Dealt like cards, class after class, every fold gets as many of each; within a class the order stays.
    by_class = order[np.argsort(labels[order], kind="stable")]
    dealt = np.arange(count) % folds
    fold_of = dealt[np.lexsort((dealt, labels[by_class]))]
    return [by_class[fold_of == fold] for fold in range(folds)]


def _grouped(labels: np.ndarray, groups: np.ndarray, folds: int, shuffle: Array | None) -> list[np.ndarray]:
    from sklearn.model_selection import StratifiedGroupKFold  # imported here because it is slow

    if groups.shape != labels.shape:
        raise ValueError(f"groups: needs one for each of {len(labels)} examples, got shape {groups.shape}")
    names, groups = np.unique(groups.astype(str) if groups.dtype == object else groups, return_inverse=True)
    if folds > len(names):
        raise ValueError(f"folds: needs 2 to {len(names)}, the number of groups; got {folds}")
    labels = np.unique(labels, return_inverse=True)[1]
    if max(np.bincount(labels)) < folds:  # scikit-learn cannot stratify these
        labels = np.zeros_like(labels)
    seed = None if shuffle is None else int(jax.random.bits(shuffle))
    splitter = StratifiedGroupKFold(folds, shuffle=shuffle is not None, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some class has fewer examples than there are folds
        parts = [held_out for _, held_out in splitter.split(labels, labels, groups)]
    if not all(map(len, parts)):
        raise ValueError(f"folds: the {len(names)} groups fill only {sum(map(bool, map(len, parts)))} of {folds}")
    return parts


def hold_out(
    key: Array, labels: np.ndarray, share: float, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The indices of a random share of the examples, with each class in its share, and those of the rest; both sorted.

    With groups (N,), whole groups are held out, so that the share is about that of one of round(1 / share) folds.

    Raises `ValueError` if the share of the labels (N,) is no example, or all.
    """
    count = round(share * len(labels))
    if not 0 < count < len(labels):
        raise ValueError(
            f"validation: a share of {share:g} of {len(labels)} training examples is {count}, needs 1 or more"
        )
    if groups is not None:
        folds = min(round(1 / share), len(set(groups.tolist())))
        held_out = np.sort(split_folds(len(labels), folds, shuffle=key, stratify=labels, groups=groups)[0])
        return held_out, np.setdiff1d(np.arange(len(labels)), held_out)
    order = np.asarray(jax.random.permutation(key, len(labels)))
    by_class = order[np.argsort(labels[order], kind="stable")]
    sizes = np.bincount(labels)
    rank = np.arange(len(labels)) - (np.cumsum(sizes) - sizes)[labels[by_class]]
    # Sorted by rank within its class, as a share of the class, any run of consecutive examples has all classes.
    mixed = by_class[np.argsort((rank + 0.5) / sizes[labels[by_class]], kind="stable")]
    return np.sort(mixed[:count]), np.sort(mixed[count:])
