from funcgrad.datasets.loading import PREPARABLE, Dataset, Split, available, describe, load

__all__ = ["PREPARABLE", "Dataset", "Split", "available", "describe", "load"]
