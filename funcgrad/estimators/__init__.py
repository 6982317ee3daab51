"""Estimators for scikit-learn's pipelines, grid searches and cross-validation: exact k-NN, linear, MLP.

    model = KNeighborsClassifier(n_neighbors=3, metric="l1").fit(images.reshape(len(images), -1), labels)
    model.predict(others)                              # the classes
    GridSearchCV(model, {"n_neighbors": [1, 3, 5]})    # works as with scikit-learn's own

    model = make_pipeline(StandardScaler(), MLPClassifier((256,), early_stopping=True)).fit(features, labels)
    model.predict_proba(others)

Examples are rows of a dense table: flatten images first, and call `toarray()` of a sparse matrix. Scale the columns of
what is trained in a pipeline as above. A training compiles once for each shape of the data and each setting; a search
over many settings of one model is faster with `funcgrad.crossval.sweep`, which trains all of them in one program.

`n_jobs` of scikit-learn works: joblib starts processes afresh. A process that is forked once JAX has started, as by
`multiprocessing` with "fork", may hang: start it by "spawn".

Read `knn`; then `trained`, which `linear` and `mlp` fill in; `weights` is `sample_weight` and `class_weight`.
"""

from funcgrad.estimators.knn import KNeighborsClassifier
from funcgrad.estimators.linear import LinearClassifier
from funcgrad.estimators.mlp import MLPClassifier

__all__ = ["KNeighborsClassifier", "LinearClassifier", "MLPClassifier"]
