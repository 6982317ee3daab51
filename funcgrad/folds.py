"""How examples are divided: folds of a cross-validation, and a share that is held out."""

import jax
import numpy as np
from jax import Array
from jax.typing import ArrayLike


def split_folds(
    count: int, folds: int = 5, *, shuffle: Array | None = None, stratify: ArrayLike | None = None
) -> list[np.ndarray]:
    """The indices 0 … count − 1 in `folds` parts, as `numpy.array_split` cuts them: CS231n's folds.

    `shuffle` is a key that shuffles the order first. `stratify` are labels (count,): each fold then has each class in
    its share, to within one example.

    Raises `ValueError` for fewer than 2 folds, or more than there are examples.
    """
    if not 2 <= folds <= count:
        raise ValueError(f"folds: needs 2 to {count}, the number of examples; got {folds}")
    order = np.arange(count) if shuffle is None else np.asarray(jax.random.permutation(shuffle, count))
    if stratify is not None:
        labels = np.asarray(stratify)
        if labels.shape != (count,):
            raise ValueError(f"stratify: needs one label for each of {count} examples, got shape {labels.shape}")
        # Dealt like cards, class after class, every fold gets as many of each; within a class the order stays.
        by_class = order[np.argsort(labels[order], kind="stable")]
        dealt = np.arange(count) % folds
        fold_of = dealt[np.lexsort((dealt, labels[by_class]))]
        return [by_class[fold_of == fold] for fold in range(folds)]
    return np.array_split(order, folds)


def hold_out(key: Array, labels: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """The indices of a random share of the examples, with each class in its share, and those of the rest; both sorted.

    Raises `ValueError` if the share of the labels (N,) is no example, or all.
    """
    count = round(share * len(labels))
    if not 0 < count < len(labels):
        raise ValueError(
            f"validation: a share of {share:g} of {len(labels)} training examples is {count}, needs 1 or more"
        )
    order = np.asarray(jax.random.permutation(key, len(labels)))
    by_class = order[np.argsort(labels[order], kind="stable")]
    sizes = np.bincount(labels)
    rank = np.arange(len(labels)) - (np.cumsum(sizes) - sizes)[labels[by_class]]
    # Sorted by rank within its class, as a share of the class, any run of consecutive examples has all classes.
    mixed = by_class[np.argsort((rank + 0.5) / sizes[labels[by_class]], kind="stable")]
    return np.sort(mixed[:count]), np.sort(mixed[count:])
