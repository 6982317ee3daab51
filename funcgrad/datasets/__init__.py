"""Data sets in one form: images or feature vectors with labels, in the order of their source, as train and test.

Read `loading` first (`load`, `load_examples`), then `sources`, which finds out what a name stands for. Numbers come
from `archives` (named arrays) and `tables` (columns of `table_files`); `arrays` defines a `Dataset` and makes one of
them, with `features` and `labels` of any kind in one form. Images are found by `folders`, `manifests` (tables of them)
and `tfds_reader`; `selection` takes some, `images` decodes them, and `cache` stores what was `decoded`. `descriptions`
says what there is. `tfds_writer` stands alone: it prepares CIFAR-10, MNIST and Fashion-MNIST from their archives. JAX
and TensorFlow are never imported.
"""

from funcgrad.datasets.arrays import Dataset, Examples, Split
from funcgrad.datasets.cache import cache_entries, cache_root, clear_cache
from funcgrad.datasets.descriptions import Description, available, describe
from funcgrad.datasets.images import Progress
from funcgrad.datasets.loading import load, load_examples
from funcgrad.datasets.sources import PREPARABLE
from funcgrad.datasets.tfds_writer import prepare

__all__ = [
    "PREPARABLE",
    "Dataset",
    "Description",
    "Examples",
    "Progress",
    "Split",
    "available",
    "cache_entries",
    "cache_root",
    "clear_cache",
    "describe",
    "load",
    "load_examples",
    "prepare",
]
