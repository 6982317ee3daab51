"""The linear classifier as a scikit-learn estimator."""

from dataclasses import dataclass, field
from typing import Any

from funcgrad import models
from funcgrad.estimators.trained import TrainedClassifier


@dataclass(kw_only=True, eq=False, repr=False)
class LinearClassifier(TrainedClassifier):
    """Scores X·coef_ᵀ + intercept_, initialized at zero: softmax regression, or a multiclass SVM (CS231n, lecture 2).

    The objective is the weighted mean loss + l2 · Σ weights². `random_state` determines the order of the minibatches;
    full-batch training (`batch_size` at least N) depends on it only through the order of summation.

    Args:
      loss: "softmax", "svm", "squared_svm" or "crammer_singer"; see `funcgrad.losses`.
      l2: coefficient of the penalty on squared weights; biases are not penalized.
      optimizer, learning_rate, schedule: see `funcgrad.training.optimizers`; the schedule spans all steps of `fit`.
      batch_size: examples per step; all of them if there are fewer.
      max_iter: epochs.
      early_stopping: holds out a stratified `validation_fraction` (whose sample weights are ignored), stops after
        `n_iter_no_change` epochs without an improvement of its accuracy, and returns the parameters of the best epoch.
      class_weight: a dict from classes to weights (1 for missing ones), or "balanced": equal total weight per class.
      random_state: as in scikit-learn; the default makes every `fit` the same.

    Attributes:
      classes_: (classes,), the sorted labels seen in `fit`, in the order of scores and probabilities.
      coef_, intercept_: (classes, D) and (classes,); with two classes (1, D) and (1,): second minus first.
      loss_curve_: each epoch's mean training loss, penalty included, averaged over its steps.
      n_iter_: epochs completed; each call of `partial_fit` is one.
      validation_scores_: accuracy after each epoch; only with `early_stopping`.
      n_features_in_, feature_names_in_: number of columns, and their names if X was a data frame.

    >>> model = LinearClassifier().fit([[0.0], [1.0], [2.0], [3.0]], ["low", "low", "high", "high"])
    >>> model.predict([[0.5], [2.9]]).tolist()
    ['low', 'high']
    """

    loss: str = field(default="softmax", kw_only=False)
    learning_rate: float = 1e-2

    def _model(self, num_classes: int) -> models.Model:
        return models.linear(num_classes, initialization="zeros")

    def _set_attributes(self, params: Any) -> None:
        weights, bias = params["weights"], params["bias"]
        two = len(bias) == 2
        self.coef_ = weights[1:] - weights[:1] if two else weights
        self.intercept_ = bias[1:] - bias[:1] if two else bias
