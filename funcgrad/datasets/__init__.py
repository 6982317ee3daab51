"""Data sets in one form: images or feature vectors with labels, in the order of their source, as train and test.

Read `loading` first (`load`, `describe`, `available`); `arrays` defines a `Dataset` and checks one; `images` decodes a
folder of images, `tfds_reader` reads what TFDS has prepared, and `cache` stores what was decoded. `tfds_writer` stands
alone: it prepares CIFAR-10, MNIST and Fashion-MNIST from their archives. JAX and TensorFlow are never imported.
"""

from funcgrad.datasets.arrays import Dataset, Split
from funcgrad.datasets.images import Progress
from funcgrad.datasets.loading import PREPARABLE, Description, available, describe, load
from funcgrad.datasets.tfds_writer import prepare

__all__ = ["PREPARABLE", "Dataset", "Description", "Progress", "Split", "available", "describe", "load", "prepare"]
