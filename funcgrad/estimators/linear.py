"""The linear classifier as a scikit-learn estimator."""

from dataclasses import dataclass, field
from typing import Any

from funcgrad import models
from funcgrad.estimators.trained import TrainedClassifier


@dataclass(kw_only=True, eq=False, repr=False)
class LinearClassifier(TrainedClassifier):
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

    loss: str = field(default="softmax", kw_only=False)
    learning_rate: float = 1e-2

    def _model(self, num_classes: int) -> models.Model:
        return models.linear(num_classes, initialization="zeros")

    def _set_attributes(self, params: Any) -> None:
        weights, bias = params["weights"], params["bias"]
        two = len(bias) == 2
        self.coef_ = weights[1:] - weights[:1] if two else weights
        self.intercept_ = bias[1:] - bias[:1] if two else bias
