"""Linear and MLP classifiers as scikit-learn estimators, trained by `funcgrad.training.fit`.

    model = make_pipeline(StandardScaler(), MLPClassifier((256,), early_stopping=True)).fit(features, labels)
    model.predict_proba(others)

Examples are rows of a dense table; scale the columns in a pipeline as above. A program is compiled once for each shape
of the data and each setting. A search over many settings of one model is faster with `funcgrad.crossval.sweep`, which
trains all of them in one program.
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
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

from funcgrad import models
from funcgrad.estimators.weights import ClassWeight, checked_weights, class_weights
from funcgrad.losses import make_loss
from funcgrad.models import Model
from funcgrad.training import fit, predict
from funcgrad.training.optimizers import make_optimizer
from funcgrad.training.steps import Examples, State, no_sums, order_of, run_steps

RandomState = int | np.random.RandomState | None

# float64 is computed in float64, the others in float32; what is none of these becomes float64.
_DTYPES = (np.float64, np.float32, np.uint8)


@contextlib.contextmanager
def _numbers(dtype: np.dtype) -> Iterator[None]:
    """Computing in float64 for float64, else in float32, whatever JAX is set to outside."""
    with jax.enable_x64(dtype == np.float64), jax.numpy_dtype_promotion("standard"):
        yield


def _gives_probabilities(estimator: Any) -> bool:
    if estimator.loss != "softmax":
        raise AttributeError(f"loss: {estimator.loss!r} gives no probabilities, only loss 'softmax' does")
    return True


class _TrainedClassifier(ClassifierMixin, BaseEstimator, ABC):
    """What both classifiers do alike. A subclass has the parameters, `_model` and `_show`."""

    loss: str
    l2: float
    optimizer: str
    learning_rate: float
    schedule: str
    batch_size: int
    max_iter: int
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    class_weight: ClassWeight
    random_state: RandomState

    @abstractmethod
    def _model(self, num_classes: int) -> Model:
        """The model that is trained."""

    @abstractmethod
    def _show(self, params: Any) -> None:
        """Sets the public attributes that hold the parameters."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Trains from the beginning on examples (N, D) and their classes (N,).

        An example of weight 2 counts as two of weight 1, one of weight 0 is none; to rounding, if all are one batch.

        Raises `ValueError` for NaN or infinity, fewer than two classes, a parameter out of range, or a training whose
        numbers do not stay finite; `TypeError` for a sparse matrix.
        """
        self._check()
        X, y = validate_data(self, X, y, dtype=_DTYPES)
        check_classification_targets(y)
        weights = checked_weights(sample_weight, X)
        if not weights.all():
            X, y, weights = X[weights > 0], y[weights > 0], weights[weights > 0]
        classes, labels = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"y: needs two classes or more, got 1 class, {classes[0]!r}")
        weights = weights * class_weights(self.class_weight, classes, np.bincount(labels, weights))[labels]
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        held_out, validation = np.zeros(len(X), bool), None
        if self.early_stopping:
            share = self.validation_fraction
            _, rows = train_test_split(np.arange(len(X)), test_size=share, random_state=seed, stratify=labels)
            held_out[rows] = True
            validation = X[held_out], labels[held_out]
            X, labels, weights = X[~held_out], labels[~held_out], weights[~held_out]
        steps = int(self.max_iter) * -(-len(X) // min(int(self.batch_size), len(X)))
        with _numbers(X.dtype):
            fitted = fit(
                jax.random.key(seed),
                self._model(len(classes)),
                X,
                labels,
                loss=make_loss(self.loss, l2=float(self.l2)),
                optimizer=make_optimizer(
                    self.optimizer, float(self.learning_rate), schedule=self.schedule, steps=steps
                ),
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
        self._keep(fitted.best_params, None)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """One more pass over these examples (N, D), of constant learning rate, from where the last call ended.

        Args:
          classes: all classes there will be; needed at the first call. After `fit` there are those of `fit`.

        Each other number of rows is another program to compile, so let all parts of the data be equally large.

        Raises `ValueError` as `fit` does, and for a class that was not announced or `class_weight="balanced"`, which
        would need all of the data.
        """
        first = not hasattr(self, "classes_")
        self._check()
        if isinstance(self.class_weight, str) and self.class_weight == "balanced":
            raise ValueError(
                "class_weight: 'balanced' needs all of the data; give partial_fit a dict, or sample_weight"
            )
        known = self._announced(classes)
        X, y = validate_data(self, X, y, dtype=_DTYPES, reset=first)
        check_classification_targets(y)
        if not np.isin(y, known).all():
            raise ValueError(f"y: has classes {np.setdiff1d(y, known).tolist()}, announced were {known.tolist()}")
        labels = np.searchsorted(known, y).astype(np.int32)
        weights = checked_weights(sample_weight, X)
        weights = weights * class_weights(self.class_weight, known, np.bincount(labels, weights, len(known)))[labels]
        model, loss = self._model(len(known)), make_loss(self.loss, l2=float(self.l2))
        optimizer = make_optimizer(self.optimizer, float(self.learning_rate))
        done = 0 if first else self.n_iter_
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        with _numbers(X.dtype if first else self._dtype):
            init_key, key = jax.random.split(jax.random.key(seed))
            params = model.init(init_key, X.shape[1:]) if first else jax.tree.map(jnp.array, self._params)
            state = State(params, optimizer.init(params))
            if not first and str(jax.tree.structure(self._opt_state)) == str(jax.tree.structure(state.opt_state)):
                state = State(params, jax.tree.map(jnp.array, self._opt_state))  # else another optimizer begins
            examples = Examples(jnp.asarray(X), jnp.asarray(labels), jnp.asarray(weights, float))
            key_data, number = jax.random.key_data(key), np.int32(done + 1)
            order = order_of(key_data, number, len(X), min(int(self.batch_size), len(X)))
            state, sums = run_steps(
                *(state, no_sums(examples.weights.dtype), key_data, number, examples, order),
                *(np.int32(0), np.int32(0), np.int32(len(order))),
                **{"model": model, "loss": loss, "optimizer": optimizer, "augment": None, "mix": None},
                finite="stop",
            )
        if int(sums.bad_step) >= 0 or not all(np.isfinite(x).all() for x in jax.tree.leaves(state.params)):
            raise _diverged(f"call {done + 1} of partial_fit")
        self.classes_ = known
        self.n_iter_ = done + 1
        self.loss_curve_ = [*([] if first else self.loss_curve_), float(sums.means[0])]
        self._keep(state.params, state.opt_state)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The class of highest score of each example (N, D) → (N,); of equal ones the first."""
        winners = np.argmax(self._scores(X), axis=1)
        return self.classes_[winners]

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores (N, classes); with two classes (N,): by how much the score of the second exceeds the first's."""
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    @available_if(_gives_probabilities)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (N, classes) float64, in the order of `classes_`; there is this method with softmax alone."""
        return np.exp(self.predict_log_proba(X))

    @available_if(_gives_probabilities)
    def predict_log_proba(self, X: Any) -> np.ndarray:
        """The logarithms of `predict_proba`, exact where those vanish."""
        scores = self._scores(X).astype(np.float64)
        scores -= scores.max(axis=1, keepdims=True)
        return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))

    def _scores(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=_DTYPES, reset=False)
        with _numbers(self._dtype):
            return predict(self._model(len(self.classes_)), self._params, X)

    def _keep(self, params: Any, opt_state: Any) -> None:
        self._params = jax.tree.map(np.array, params)
        self._dtype = jax.tree.leaves(self._params)[0].dtype
        self._opt_state = jax.tree.map(np.array, opt_state)  # None after fit: partial_fit begins a new one
        self._show(self._params)

    def _announced(self, classes: Any) -> np.ndarray:
        """All classes there will be, sorted."""
        before: Any = getattr(self, "classes_", None)
        if before is None and classes is None:
            raise ValueError("classes: the first call of partial_fit needs all classes there will be, got None")
        known = before if classes is None else np.unique(classes)
        if len(known) < 2:
            raise ValueError(f"classes: needs two classes or more, got {known.tolist()}")
        if before is not None and not np.array_equal(known, before):
            raise ValueError(f"classes: must stay as they were, {before.tolist()}, got {known.tolist()}")
        return known

    def _check(self) -> None:
        """Raises `ValueError` for what the functions below would not name as the parameter it is."""
        for name in ("batch_size", "max_iter", "n_iter_no_change"):
            _check_count(name, getattr(self, name))
        for name in ("l2", "learning_rate"):
            if not isinstance(value := getattr(self, name), Real) or isinstance(value, bool):
                raise ValueError(f"{name}: needs a number, got {value!r}")
        if not isinstance(self.validation_fraction, Real) or not 0 < self.validation_fraction < 1:
            raise ValueError(f"validation_fraction: needs a share between 0 and 1, got {self.validation_fraction!r}")


class LinearClassifier(_TrainedClassifier):
    """Scores X·coef_ᵀ + intercept_, trained from zero: softmax regression, or a multiclass SVM (CS231n, lecture 2).

    Minimised is the weighted mean of the examples' losses + l2 · Σ weights². Data in one batch makes the training
    deterministic up to the order of summation; else `random_state` decides the order of the batches.

    Args:
      loss: "softmax", "svm", "squared_svm" or "crammer_singer"; see `funcgrad.losses`.
      l2: strength of the penalty on the squares of the weights; biases are free.
      optimizer, learning_rate, schedule: see `funcgrad.training.optimizers`; it ends with the last step of `fit`.
      batch_size: examples a step; all of them if there are fewer.
      max_iter: epochs, passes over all examples.
      early_stopping: keeps a `validation_fraction` of each class aside (without its weights), stops after
        `n_iter_no_change` epochs in which its accuracy did not rise, and takes the parameters of the best epoch.
      class_weight: a dict from classes to weights, 1 for those that it lacks; "balanced": all classes weigh the same.
      random_state: as everywhere in scikit-learn; by default each training is the same.

    Attributes:
      classes_: (classes,), the labels met in `fit`, sorted; their order is that of scores and probabilities.
      coef_, intercept_: (classes, D) and (classes,); with two classes (1, D) and (1,): second minus first.
      loss_curve_: the mean loss of each epoch, penalty included, taken while the parameters change.
      n_iter_: epochs done; calls of `partial_fit` count as one each.
      validation_scores_: accuracy after each epoch, where `early_stopping` measured it.
      n_features_in_, feature_names_in_: number of columns, and their names if they came as a data frame.

    >>> model = LinearClassifier().fit([[0.0], [1.0], [2.0], [3.0]], ["low", "low", "high", "high"])
    >>> model.predict([[0.5], [2.9]]).tolist()
    ['low', 'high']
    """

    def __init__(
        self,
        loss: str = "softmax",
        *,
        l2: float = 1e-4,
        optimizer: str = "adam",
        learning_rate: float = 1e-2,
        schedule: str = "cosine",
        batch_size: int = 256,
        max_iter: int = 200,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        class_weight: ClassWeight = None,
        random_state: RandomState = 0,
    ) -> None:
        self.loss = loss
        self.l2 = l2
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.random_state = random_state

    def _model(self, num_classes: int) -> Model:
        return models.linear(num_classes, initialization="zeros")

    def _show(self, params: Any) -> None:
        weights, bias = params["weights"].T, params["bias"]
        two = len(bias) == 2
        self.coef_ = weights[1:] - weights[:1] if two else weights
        self.intercept_ = bias[1:] - bias[:1] if two else bias


class MLPClassifier(_TrainedClassifier):
    """A multilayer perceptron: dense layers, each but the last followed by an activation; see `funcgrad.models.mlp`.

    Args:
      hidden_layer_sizes: the units of each hidden layer; a number is one layer.
      activation: "relu", "gelu", "silu", "elu", "tanh" or "sigmoid".
      dropout: the share of hidden units that training drops.
      random_state: decides initialisation, order of the batches and dropout, as everywhere in scikit-learn; by
        default each training is the same.

    All other parameters and attributes are those of `LinearClassifier`, except for:
      coefs_, intercepts_: lists of each layer's weights (inputs, outputs) and biases (outputs,), as in scikit-learn.

    >>> model = MLPClassifier((16,), learning_rate=0.05).fit([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0])
    >>> model.predict([[0, 1], [1, 1]]).tolist()
    [1, 0]
    """

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        *,
        activation: str = "relu",
        dropout: float = 0.0,
        loss: str = "softmax",
        l2: float = 1e-4,
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
        schedule: str = "cosine",
        batch_size: int = 256,
        max_iter: int = 200,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        class_weight: ClassWeight = None,
        random_state: RandomState = 0,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.dropout = dropout
        self.loss = loss
        self.l2 = l2
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.random_state = random_state

    def _model(self, num_classes: int) -> Model:
        sizes = self.hidden_layer_sizes
        hidden = tuple(int(size) for size in (sizes if np.iterable(sizes) else (sizes,)))
        return models.mlp(hidden, num_classes, activation=self.activation, dropout=self.dropout)

    def _show(self, params: Any) -> None:
        layers = [*params["hidden"], params["output"]]
        self.coefs_ = [layer["weights"] for layer in layers]
        self.intercepts_ = [layer["bias"] for layer in layers]

    def _check(self) -> None:
        super()._check()
        sizes = self.hidden_layer_sizes
        if np.iterable(sizes) and not len(sizes):
            raise ValueError("hidden_layer_sizes: needs one size or more, got none; without any it is LinearClassifier")
        for size in sizes if np.iterable(sizes) else (sizes,):
            _check_count("hidden_layer_sizes", size)


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name}: needs an integer of at least 1, got {value!r}")


def _diverged(what: str) -> ValueError:
    return ValueError(f"learning_rate: training diverged ({what}); lower it, or scale the columns of X")
