from funcgrad.estimators.knn import KNeighborsClassifier, LinearClassifier, MLPClassifier, kneighbors

__all__ = ["KNeighborsClassifier", "LinearClassifier", "MLPClassifier", "kneighbors"]
