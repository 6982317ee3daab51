from funcgrad.neighbors.search import (
    Index,
    Info,
    Metric,
    Neighbors,
    Weights,
    classify,
    index_for,
    kneighbors,
    load_index,
    prepare,
    radius_neighbors,
    save_index,
    vote,
)
from funcgrad.neighbors.voting import WEIGHTS

__all__ = [
    "WEIGHTS",
    "Index",
    "Info",
    "Metric",
    "Neighbors",
    "Weights",
    "classify",
    "index_for",
    "kneighbors",
    "load_index",
    "prepare",
    "radius_neighbors",
    "save_index",
    "vote",
]
