"""Exact k-nearest neighbours: the same answer whatever the blocks, the memory limit and the number of devices.

Read in this order: `search` (what a user calls), `index` (points made ready once), `strategies` (which scans of the
points find and prove an answer), `block_search` (a scan, block by block, and its compiled step), `plan` (how large
blocks may be). What proves an answer: `bounds`, `prefilter`, `exact_distances`, `certificate`. Around it:
`tuning`, `validation`, `voting`, `saved_chunks`, `mesh` and `distributed` (several devices and processes).
"""

from funcgrad.distances import Metric
from funcgrad.neighbors.index import Index, as_index, load_index, prepare, save_index
from funcgrad.neighbors.saved_chunks import describe_saved, open_saved, remove_saved
from funcgrad.neighbors.search import PRECISIONS, RadiusNeighbors, kneighbors, radius_neighbors, resumable_kneighbors
from funcgrad.neighbors.strategies import Info, Neighbors
from funcgrad.neighbors.tuning import Tuning
from funcgrad.neighbors.validation import parse_memory
from funcgrad.neighbors.voting import WEIGHTS, Weights, classify, vote

__all__ = [
    "PRECISIONS",
    "WEIGHTS",
    "Index",
    "Info",
    "Metric",
    "Neighbors",
    "RadiusNeighbors",
    "Tuning",
    "Weights",
    "as_index",
    "classify",
    "describe_saved",
    "kneighbors",
    "load_index",
    "open_saved",
    "parse_memory",
    "prepare",
    "radius_neighbors",
    "remove_saved",
    "resumable_kneighbors",
    "save_index",
    "vote",
]
