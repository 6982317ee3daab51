"""What the linear and the MLP classifier share: a scikit-learn estimator trained by `funcgrad.training.fit`."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from funcgrad import training
from funcgrad.estimators.weights import ClassWeight, check_count, class_weights, sample_weights
from funcgrad.losses import make_loss
from funcgrad.models import Model

RandomState = int | np.random.RandomState | None

# float64 is computed in float64, the others in float32; any other dtype becomes float64.
_DTYPES = (np.float64, np.float32, np.uint8)


@contextlib.contextmanager
def _precision(dtype: np.dtype) -> Iterator[None]:
    """Computes in float64 for float64, else in float32, whatever JAX's configuration is."""
    with jax.enable_x64(dtype == np.float64), jax.numpy_dtype_promotion("standard"):
        yield


def _gives_probabilities(estimator: Any) -> bool:
    if estimator.loss != "softmax":
        raise AttributeError(f"loss: {estimator.loss!r} gives no probabilities, only loss 'softmax' does")
    return True


@dataclass(kw_only=True, eq=False, repr=False)
class TrainedClassifier(ClassifierMixin, BaseEstimator, ABC):
    """What both classifiers share. A subclass adds parameters, `_model` and `_set_attributes`."""

    loss: str = "softmax"
    l2: float = 1e-4
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    batch_size: int = 256
    max_iter: int = 200
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 10
    class_weight: ClassWeight = None
    random_state: RandomState = 0

    @abstractmethod
    def _model(self, num_classes: int) -> Model:
        """The model that is trained."""

    @abstractmethod
    def _set_attributes(self, params: Any) -> None:
        """Sets the public attributes that hold the parameters."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Trains from the beginning on examples (N, D) and their classes (N,).

        An example of weight 2 counts as two of weight 1, one of weight 0 as none; up to rounding, if all are one batch.

        Raises `ValueError` for NaN or infinity, fewer than two classes, a parameter out of range, or a training whose
        numbers do not stay finite; `TypeError` for a sparse matrix.
        """
        self._check()
        X, y = validate_data(self, X, y, dtype=_DTYPES)
        check_classification_targets(y)
        weights = sample_weights(sample_weight, X)
        if not weights.all():
            X, y, weights = X[weights > 0], y[weights > 0], weights[weights > 0]
        classes, labels = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"y: needs two classes or more, got 1 class, {classes[0]!r}")
        weights = weights * class_weights(self.class_weight, classes, np.bincount(labels, weights))[labels]
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        validation = None
        if self.early_stopping:
            _, rows = train_test_split(
                np.arange(len(X)), test_size=self.validation_fraction, random_state=seed, stratify=labels
            )
            held_out = np.isin(np.arange(len(X)), rows)
            validation = X[held_out], labels[held_out]
            X, labels, weights = X[~held_out], labels[~held_out], weights[~held_out]
        steps = int(self.max_iter) * training.steps_per_epoch(len(X), int(self.batch_size))
        with _precision(X.dtype):
            fitted = training.fit(
                jax.random.key(seed),
                inputs=X,
                labels=labels,
                **self._recipe(len(classes), schedule=self.schedule, steps=steps)._asdict(),
                epochs=int(self.max_iter),
                batch_size=int(self.batch_size),
                weights=weights,
                validation=validation,
                patience=int(self.n_iter_no_change) if self.early_stopping else None,
            )
        if fitted.stopped_by == "diverged":
            raise _diverged(fitted.notes[-1])
        self.classes_ = classes
        self.loss_curve_ = fitted.history["train_loss"]
        self.n_iter_ = fitted.epochs_done
        if self.early_stopping:
            self.validation_scores_ = fitted.history["validation_accuracy"]
        self._store(fitted.best_params, None)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """One more pass over these examples (N, D), at a constant learning rate, from where the last call ended.

        Args:
          classes: all classes there will be; required in the first call. After `fit` they are those of `fit`.

        Each new number of rows compiles another program, so give parts of equal size.

        Raises `ValueError` as `fit` does, and for a class not in `classes` or `class_weight="balanced"`, which would
        need all of the data.
        """
        first = not hasattr(self, "classes_")
        self._check()
        if isinstance(self.class_weight, str) and self.class_weight == "balanced":
            raise ValueError(
                "class_weight: 'balanced' needs all of the data; give partial_fit a dict, or sample_weight"
            )
        known = self._all_classes(classes)
        X, y = validate_data(self, X, y, dtype=_DTYPES, reset=first)
        check_classification_targets(y)
        if not np.isin(y, known).all():
            raise ValueError(f"y: has classes {np.setdiff1d(y, known).tolist()} that are not among {known.tolist()}")
        labels = np.searchsorted(known, y).astype(np.int32)
        weights = sample_weights(sample_weight, X)
        weights = weights * class_weights(self.class_weight, known, np.bincount(labels, weights, len(known)))[labels]
        recipe = self._recipe(len(known))
        done = 0 if first else self.n_iter_
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        with _precision(X.dtype if first else self._dtype):
            init_key, key = jax.random.split(jax.random.key(seed))
            params = recipe.model.init(init_key, X.shape[1:]) if first else jax.tree.map(jnp.array, self._params)
            state = training.ModelState(params, recipe.optimizer.init(params))
            if not first and str(jax.tree.structure(self._opt_state)) == str(jax.tree.structure(state.opt_state)):
                state = training.ModelState(params, jax.tree.map(jnp.array, self._opt_state))  # of the same optimizer
            examples = training.Examples(jnp.asarray(X), jnp.asarray(labels), jnp.asarray(weights, float))
            state, loss, finite = training.run_epoch(key, done + 1, state, examples, int(self.batch_size), recipe)
        if not finite:
            raise _diverged(f"call {done + 1} of partial_fit")
        self.classes_ = known
        self.n_iter_ = done + 1
        self.loss_curve_ = [*([] if first else self.loss_curve_), loss]
        self._store(state.params, state.opt_state)
        return self

    def _recipe(self, num_classes: int, **schedule: Any) -> training.Recipe:
        optimizer = training.make_optimizer(self.optimizer, float(self.learning_rate), **schedule)
        return training.Recipe(self._model(num_classes), make_loss(self.loss, l2=float(self.l2)), optimizer)

    def predict(self, X: Any) -> np.ndarray:
        """The class of highest score of each example (N, D) → (N,); ties go to the first."""
        winners = np.argmax(self._scores(X), axis=1)
        return self.classes_[winners]

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores (N, classes); with two classes (N,): the score of the second minus that of the first."""
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    @available_if(_gives_probabilities)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (N, classes) float64, in the order of `classes_`; only with loss "softmax"."""
        return np.exp(self.predict_log_proba(X))

    @available_if(_gives_probabilities)
    def predict_log_proba(self, X: Any) -> np.ndarray:
        """The logarithms of `predict_proba`, accurate where those underflow."""
        scores = self._scores(X).astype(np.float64)
        scores -= scores.max(axis=1, keepdims=True)
        return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))

    def _scores(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=_DTYPES, reset=False)
        with _precision(self._dtype):
            return training.predict(self._model(len(self.classes_)), self._params, X)

    def _store(self, params: Any, opt_state: Any) -> None:
        self._params = jax.tree.map(np.array, params)
        self._dtype = jax.tree.leaves(self._params)[0].dtype
        self._opt_state = jax.tree.map(np.array, opt_state)  # None after fit: partial_fit starts a new one
        self._set_attributes(self._params)

    def _all_classes(self, classes: Any) -> np.ndarray:
        """All classes there will be, sorted."""
        before: Any = getattr(self, "classes_", None)
        if before is None and classes is None:
            raise ValueError("classes: the first call of partial_fit needs all classes there will be, got None")
        known = before if classes is None else np.unique(classes)
        if len(known) < 2:
            raise ValueError(f"classes: needs two classes or more, got {known.tolist()}")
        if before is not None and not np.array_equal(known, before):
            raise ValueError(f"classes: must not change from {before.tolist()}, got {known.tolist()}")
        return known

    def _check(self) -> None:
        """Raises `ValueError` for values that `fit` would not report under the parameter's name."""
        for name in ("batch_size", "max_iter", "n_iter_no_change"):
            check_count(name, getattr(self, name))
        for name in ("l2", "learning_rate"):
            if not isinstance(value := getattr(self, name), Real) or isinstance(value, bool):
                raise ValueError(f"{name}: needs a number, got {value!r}")
        if not isinstance(self.validation_fraction, Real) or not 0 < self.validation_fraction < 1:
            raise ValueError(f"validation_fraction: needs a share between 0 and 1, got {self.validation_fraction!r}")


def _diverged(what: str) -> ValueError:
    return ValueError(f"learning_rate: training diverged ({what}); lower it, or scale the columns of X")
