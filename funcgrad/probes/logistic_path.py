"""`logistic`: multinomial or binary logistic regression for many values of C, each with its certificate."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from funcgrad.probes.certificate import Certificate, certified
from funcgrad.probes.newton import TUNING, Tuning
from funcgrad.probes.objective import SIGMOID, SOFTMAX, Data, Params, Setting, scores, standardized
from funcgrad.probes.solver import Problem, State, solve

ClassWeight = Mapping[Any, float] | Literal["balanced"] | None


class Probes(NamedTuple):
    """Linear classifiers, one for each of S values of C, for features (…, D) as they came.

    K is the number of classes, 1 for two of them (whose score is that of the second), and of columns for labels (N, L).
    """

    classes: np.ndarray  # (classes,), sorted; of labels (N, L) the numbers of the columns
    Cs: np.ndarray  # (S,)
    coef: np.ndarray  # (S, K, D)
    intercept: np.ndarray  # (S, K)
    objective: np.ndarray  # (S,)
    gap: np.ndarray  # (S,) the objective is at most so much above the optimum,
    radius: np.ndarray  # (S,) and the weights of the standardised features at most so far from the optimal ones
    passes: np.ndarray  # (S,) over the examples
    predictions: np.ndarray | None = None  # (S, M), or (S, M, L), of the features to certify, as places in `classes`
    is_certified: np.ndarray | None = None  # (S, M): the optimum predicts the same

    @property
    def certified(self) -> np.ndarray:
        """(S,) how many predictions are certified."""
        if self.is_certified is None:
            raise ValueError("certified: no features to certify were given")
        return self.is_certified.sum(axis=1)


def logistic(
    features: ArrayLike,
    labels: ArrayLike,
    Cs: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    class_weight: ClassWeight = None,
    standardize: bool = True,
    intercept: bool = True,
    certify: ArrayLike | None = None,
    tolerance: float = 1e-9,
    max_passes: int = 20_000,
    tuning: Tuning = TUNING,
) -> Probes:
    """Minimises C · Σ wᵢ · log loss(yᵢ, W xᵢ + b) + ½‖W‖² for every C, scikit-learn's LogisticRegression's objective.

    Two classes have one vector of weights, more classes one each; labels (N, L) of 0 and 1 are L problems of two.

    Args:
      features: (N, D) numbers. labels: (N,) of any kind that can be sorted, or (N, L) of 0 and 1.
      Cs: (S,) above 0, in any order: the inverse strength of the penalty.
      weights: (N,) how much each example counts; 1 by default.
      class_weight: a factor for each class (1 for those that a dict does not name), or "balanced": equal totals.
      standardize: to mean 0 and deviation 1 (features that do not vary stay 0); the penalty is on the weights of these.
      intercept: whether there is b, which is not penalised.
      certify: (M, D), whose predictions are to be those of the optimum; a setting goes on until each is certain.
      tolerance: else until the gap is at most so much of the objective.
      max_passes: over the examples, for each setting; what was reached until then is returned, with its certificate.

    Raises `ValueError` for NaN or infinity, other shapes, a C that is not above 0, fewer than two classes, and a class
    without weight.
    """
    x, y, classes = _checked(features, labels)
    strengths = np.atleast_1d(np.asarray(Cs, float))
    if strengths.ndim != 1 or not len(strengths) or not (np.isfinite(strengths).all() and (strengths > 0).all()):
        raise ValueError(f"Cs: needs finite numbers above 0, got {Cs!r}")
    example_weights = _weights(weights, class_weight, y, classes)
    test = None if certify is None else _matrix("certify", certify)
    if test is not None and test.shape[1] != x.shape[1]:
        raise ValueError(f"certify: has {test.shape[1]} columns, the features have {x.shape[1]}")
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        data = _data(x, y, example_weights, standardize, tuning)
        link, outputs = (SIGMOID, 1) if y.ndim == 2 or len(classes) == 2 else (SOFTMAX, len(classes))
        columns = len(data.labels)
        order = np.argsort(strengths, kind="stable")
        setting = Setting(np.repeat(strengths[order], columns), np.tile(np.arange(columns, dtype=np.int32), len(order)))
        judge = _Judge(test, data, link, tolerance)
        zero = Params(np.zeros((outputs, x.shape[1])), np.zeros(outputs))
        solved = solve(Problem(data, link, intercept, judge, max_passes, tuning), setting, zero)
        return _probes(solved, np.argsort(order, kind="stable"), strengths, classes, columns, data, judge)


class _Judge:
    """Whether a setting is good enough, which keeps what it predicts."""

    def __init__(self, test: np.ndarray | None, data: Data, link: Any, tolerance: float) -> None:
        self.link, self.tolerance, self.rows = link, tolerance, None
        self.found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        if test is not None:
            self.rows = standardized(jnp.asarray(test), jax.tree.map(jnp.asarray, data), jnp.float64)
            self.norms = np.linalg.norm(self.rows, axis=1)

    def __call__(self, place: int, params: Params, value: float, bound: Certificate) -> bool:
        if self.rows is None:
            return bound.gap <= self.tolerance * value
        z = np.asarray(_scores(jax.tree.map(lambda x: jnp.asarray(x)[None], params), self.rows))[0]
        sure = certified(z, self.norms, params, bound, self.link)
        self.found[place] = (z[:, 0] > 0 if z.shape[1] == 1 else z.argmax(axis=1)).astype(np.int32), sure
        return bool(sure.all())


_scores = jax.jit(scores)


def _probes(
    solved: Sequence[State],
    back: np.ndarray,
    Cs: np.ndarray,
    classes: np.ndarray,
    columns: int,
    data: Data,
    judge: _Judge,
) -> Probes:
    """From settings in the order of C, column after column, to the order that was asked for."""

    def stacked(of: Any) -> np.ndarray:
        array = np.array([of(one) for one in solved])
        return array.reshape(len(Cs), columns, *array.shape[1:])[back]

    coef = stacked(lambda one: one.params.coef) * np.asarray(data.inverse_scale)
    intercept = stacked(lambda one: one.params.intercept) - coef @ np.asarray(data.mean)
    shape = len(Cs), -1
    predictions = sure = None
    if judge.rows is not None:
        kept = [judge.found[place] for place in range(len(solved))]
        found, certain = (np.array(x).reshape(len(Cs), columns, -1)[back] for x in zip(*kept, strict=True))
        predictions, sure = found[:, 0] if columns == 1 else np.moveaxis(found, 1, 2), certain.all(axis=1)
    return Probes(
        classes,
        Cs,
        coef.reshape(*shape, coef.shape[-1]),
        intercept.reshape(shape),
        stacked(lambda one: one.found.value).sum(axis=1),
        stacked(lambda one: one.bound.gap).sum(axis=1),
        np.linalg.norm(stacked(lambda one: one.bound.radius), axis=1),
        stacked(lambda one: one.passes).sum(axis=1),
        predictions,
        sure,
    )


def _data(x: np.ndarray, y: np.ndarray, weights: np.ndarray, standardize: bool, tuning: Tuning) -> Data:
    rows = min(tuning.block_rows, len(x))
    padding = -len(x) % rows
    mean, scale = np.zeros(x.shape[1]), np.ones(x.shape[1])
    if standardize:
        mean = np.average(x, axis=0, weights=weights)
        scale = np.sqrt(np.average(np.square(x - mean), axis=0, weights=weights))
    # A column that does not vary has a deviation of a few roundings, and is left out.
    varies = scale > 1e-12 * np.abs(mean)
    inverse_scale = np.where(varies, 1 / np.where(varies, scale, 1), 0)
    padded = [np.pad(part, [(0, padding), *[(0, 0)] * (part.ndim - 1)]) for part in (x, y, weights)]
    labels = padded[1].reshape(len(padded[1]), -1).T.astype(np.int32)
    return Data(
        padded[0].reshape(-1, rows, x.shape[1]),
        labels.reshape(len(labels), -1, rows),
        padded[2].reshape(-1, rows),
        mean,
        inverse_scale,
    )


# Checks


def _matrix(name: str, values: ArrayLike) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "biuf":
        raise ValueError(f"{name}: needs numbers (N, D), got {array.dtype} of shape {array.shape}")
    array = array if array.dtype in (np.float32, np.float64, np.uint8) else array.astype(np.float64)
    if not np.isfinite(array).all():
        row = int(np.argmin(np.isfinite(array).all(axis=1)))
        raise ValueError(f"{name}: row {row} holds NaN or infinity")
    return array


def _checked(features: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The features, labels as places in the classes, or (N, L) of 0 and 1, and the classes."""
    x, y = _matrix("features", features), np.asarray(labels)
    if y.ndim not in (1, 2) or len(y) != len(x) or 0 in y.shape:
        raise ValueError(f"labels: needs one row for each of {len(x)} examples, got shape {y.shape}")
    if y.ndim == 2:
        if not np.isin(y, (0, 1)).all():
            raise ValueError("labels: of shape (N, L), so each has to be 0 or 1")
        if constant := [i for i in range(y.shape[1]) if len(np.unique(y[:, i])) < 2]:
            raise ValueError(f"labels: column {constant[0]} is {y[0, constant[0]]} everywhere; needs both 0 and 1")
        return x, y.astype(np.int32), np.arange(y.shape[1])
    classes, places = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"labels: needs two classes or more, got only {classes.tolist()[0]!r}")
    return x, places.astype(np.int32), classes


def _weights(weights: ArrayLike | None, class_weight: ClassWeight, y: np.ndarray, classes: np.ndarray) -> np.ndarray:
    own = np.ones(len(y)) if weights is None else np.asarray(weights, float)
    if own.shape != (len(y),) or not np.isfinite(own).all() or (own < 0).any():
        raise ValueError(f"weights: needs {len(y)} finite numbers of at least 0, got shape {own.shape}")
    if class_weight is not None and y.ndim == 2:
        raise ValueError("class_weight: labels (N, L) have no classes to weight")
    if y.ndim == 2:
        return own
    totals = np.bincount(y, own, len(classes))
    if isinstance(class_weight, Mapping):
        if unknown := [name for name in class_weight if name not in classes.tolist()]:
            raise ValueError(f"class_weight: {unknown[0]!r} is none of the classes {classes.tolist()}")
        factors = np.array([class_weight.get(name, 1.0) for name in classes.tolist()], float)
    else:
        if class_weight not in (None, "balanced"):
            raise ValueError(f"class_weight: needs None, 'balanced' or a dict, got {class_weight!r}")
        safe = np.where(totals > 0, totals, 1)
        factors = np.ones(len(classes)) if class_weight is None else totals.sum() / (len(classes) * safe)
    if not (np.isfinite(factors).all() and (factors * totals > 0).all()):
        without = classes.tolist()[int(np.argmin(factors * totals))]
        raise ValueError(f"weights: class {without!r} has no weight; needs some in each class")
    return own * factors[y]
