"""Distances between vectors: each metric is a formula for ONE pair, and `jax.vmap` makes it a table of all pairs.

Read in this order: `metrics` (the definitions), `all_pairs` (the tables, with faster forms where there are any),
`pairwise` (what a user calls), `dtypes` (what comes in), `kernels` (l1 on an NVIDIA GPU).
"""

from funcgrad.distances.all_pairs import (
    LARGEST_SUM,
    fastest_ranking_distances,
    minima,
    products,
    ranking_distances,
)
from funcgrad.distances.dtypes import as_vectors, needs_64_bits, ranking_dtype, same_dimensions
from funcgrad.distances.metrics import (
    ALIASES,
    METRICS,
    Metric,
    canonical_metric,
    chebyshev,
    cosine,
    dot,
    hamming,
    l1,
    l2,
    minkowski,
    sqeuclidean,
)
from funcgrad.distances.numbers import real_number, whole_number
from funcgrad.distances.pairwise import pairwise_distances

__all__ = [
    "ALIASES",
    "LARGEST_SUM",
    "METRICS",
    "Metric",
    "as_vectors",
    "canonical_metric",
    "chebyshev",
    "cosine",
    "dot",
    "fastest_ranking_distances",
    "hamming",
    "l1",
    "l2",
    "minima",
    "minkowski",
    "needs_64_bits",
    "pairwise_distances",
    "products",
    "ranking_distances",
    "ranking_dtype",
    "real_number",
    "same_dimensions",
    "sqeuclidean",
    "whole_number",
]
