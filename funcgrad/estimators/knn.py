"""Exact k-nearest neighbors as a scikit-learn estimator."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from funcgrad.estimators.weights import check_count
from funcgrad.neighbors import Metric, Neighbors, Weights, as_index, kneighbors, vote


@dataclass(eq=False, repr=False)
class KNeighborsClassifier(ClassifierMixin, BaseEstimator):
    """The class that most of the k nearest training points have (Cover and Hart 1967; CS231n, lecture 2).

    The search is `funcgrad.neighbors.kneighbors`: neighbors come in the order of (distance, index). float64 is computed
    in float64, and uint8 stays uint8, so that images are ranked by exact integers. Equal votes go to the smaller class.

    Args:
      n_neighbors: how many points vote.
      weights: "uniform", one vote each; "distance", 1 / distance, where exact matches outvote all others; "softmax",
        exp(−distance / temperature); or a function, written with `jax.numpy`, from the distances (n_neighbors,) of one
        query to weights of the same shape.
      metric, p: a name from `funcgrad.distances`, or a function of two vectors written with `jax.numpy`; p ≥ 1 is for
        "minkowski" alone, which needs it.
      temperature: of the weights "softmax"; the others ignore it.
      precision: "exact", or "fast", which proves nothing about neighbors of floats.
      memory: a limit in bytes, or as "500MiB", for what a search needs beside points, queries and result.

    Attributes:
      classes_: (classes,), the labels met in `fit`, sorted; the columns of `predict_proba`.
      n_features_in_: the number of columns of the training points.
      feature_names_in_: their names, if they came as a data frame whose columns are named by strings.

    >>> model = KNeighborsClassifier(n_neighbors=1).fit([[0.0], [1.0]], ["no", "yes"])
    >>> model.predict([[0.9], [0.2]]).tolist()
    ['yes', 'no']
    """

    n_neighbors: int = 5
    _: KW_ONLY
    weights: Weights = "uniform"
    metric: Metric = "euclidean"
    p: float | None = None
    temperature: float = 0.07
    precision: str = "exact"
    memory: str | int = "1GiB"

    def fit(self, X: Any, y: Any) -> Self:
        """Keeps the training points (N, D), without a copy if they are an array, and their labels (N,).

        Raises `ValueError` for NaN or infinity, labels that are no classes, or a parameter that is out of range;
        `TypeError` for a sparse matrix.
        """
        X, y = validate_data(self, X, y)
        check_classification_targets(y)
        check_count("n_neighbors", self.n_neighbors)
        # One vote of nobody, so that wrong weights are known now and not after a long search.
        nobody = Neighbors(np.ones((1, self.n_neighbors)), np.full((1, self.n_neighbors), -1), None)  # type: ignore[arg-type]
        self._vote(nobody, np.zeros(1, np.int32), 1)
        count = len(X) if self.precision == "exact" else 0
        self._index = as_index(X, self.metric, self.p, k=self.n_neighbors, queries=count, memory=self.memory)
        self.classes_, labels = np.unique(y, return_inverse=True)
        self._labels = labels.astype(np.int32)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The class of each query (Q, D) → (Q,); None stands for the training points, as in `kneighbors`."""
        winners = np.argmax(self._votes(X), axis=1)
        return self.classes_[winners]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Each class's share of the votes → (Q, classes) float64, rows of sum 1."""
        votes = self._votes(X)
        return votes / votes.sum(axis=1, keepdims=True)

    def kneighbors(
        self, X: Any = None, n_neighbors: int | None = None, return_distance: bool = True
    ) -> tuple[np.ndarray, np.ndarray] | np.ndarray:
        """The nearest training points of each query → distances (Q, k) and indices (Q, k), or the indices alone.

        Args:
          X: queries (Q, D); None: the training points, none of which is its own neighbor.
          n_neighbors: k, if another than the estimator's.
          return_distance: whether the distances are wanted, too.

        Raises `ValueError` if there are fewer than k points to choose from.
        """
        distances, indices, _ = self._neighbors(X, self.n_neighbors if n_neighbors is None else n_neighbors)
        return (distances, indices.astype(np.intp)) if return_distance else indices.astype(np.intp)

    def _neighbors(self, X: Any, k: int) -> Neighbors:
        check_is_fitted(self)
        alone = X is None
        points = self._index.points
        queries = points if alone else validate_data(self, X, reset=False)
        check_count("n_neighbors", k)
        if k > (available := len(points) - alone):
            raise ValueError(f"n_neighbors: {k} is more than the {available} training points there are to choose from")
        return kneighbors(
            queries, self._index, int(k), precision=self.precision, memory=self.memory, exclude_self=alone
        )

    def _votes(self, X: Any) -> np.ndarray:
        """(Q, classes) float64, each row with something in it."""
        return self._vote(self._neighbors(X, self.n_neighbors), self._labels, len(self.classes_))

    def _vote(self, neighbors: Neighbors, labels: np.ndarray, num_classes: int) -> np.ndarray:
        ks = (neighbors.indices.shape[1],)
        votes = vote(neighbors, labels, num_classes, ks=ks, weights=self.weights, temperature=self.temperature)
        return np.asarray(votes[0], np.float64)
