"""The multilayer perceptron as a scikit-learn estimator."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from funcgrad import models
from funcgrad.estimators.trained import TrainedClassifier
from funcgrad.estimators.weights import check_count


@dataclass(kw_only=True, eq=False, repr=False)
class MLPClassifier(TrainedClassifier):
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

    hidden_layer_sizes: int | Sequence[int] = field(default=(100,), kw_only=False)
    activation: str = "relu"
    dropout: float = 0.0

    def _model(self, num_classes: int) -> models.Model:
        return models.mlp(self.hidden_layer_sizes, num_classes, activation=self.activation, dropout=self.dropout)

    def _set_attributes(self, params: Any) -> None:
        layers = [*params["hidden"], params["output"]]
        self.coefs_ = [layer["weights"].T for layer in layers]
        self.intercepts_ = [layer["bias"] for layer in layers]

    def _check(self) -> None:
        super()._check()
        sizes: Any = self.hidden_layer_sizes if np.iterable(self.hidden_layer_sizes) else [self.hidden_layer_sizes]
        if not len(sizes):
            raise ValueError("hidden_layer_sizes: needs one size or more, got none; without any, use LinearClassifier")
        for size in sizes:
            check_count("hidden_layer_sizes", size)
