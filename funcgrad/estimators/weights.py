"""Arguments in scikit-learn's terms: counts, and how much examples count (`sample_weight` and `class_weight`)."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from sklearn.utils.validation import _check_sample_weight

ClassWeight = Mapping[Any, float] | Literal["balanced"] | None


def sample_weights(sample_weight: Any, X: np.ndarray) -> np.ndarray:
    """(N,) float64, 1 by default. Raises `ValueError` unless all are finite and at least 0, and one above 0."""
    weights = np.array(_check_sample_weight(sample_weight, X, dtype=np.float64))
    if not ((weights >= 0).all() and weights.any()):
        raise ValueError("sample_weight: needs finite numbers of at least 0, and one above 0")
    return weights


def class_weights(class_weight: ClassWeight, classes: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """The weight of each class, (classes,); "balanced": makes their `totals` equal and keeps the sum."""
    if class_weight is None:
        return np.ones(len(classes))
    if isinstance(class_weight, str) and class_weight == "balanced":
        return np.sum(totals) / (len(classes) * totals)
    if not isinstance(class_weight, Mapping):
        raise ValueError(f"class_weight: needs None, 'balanced' or a dict, got {class_weight!r}")
    names = classes.tolist()
    if unknown := [name for name in class_weight if name not in names]:
        raise ValueError(f"class_weight: has classes that are not in y: {', '.join(map(repr, unknown))}")
    weights = np.array([class_weight.get(name, 1.0) for name in names], float)
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError(f"class_weight: needs finite numbers of at least 0, and one above 0; got {class_weight!r}")
    return weights


def check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name}: needs an integer of at least 1, got {value!r}")
