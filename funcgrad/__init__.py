"""funcgrad: exact k-nearest neighbours and linear probes as small pure functions.

Importing this package loads nothing else; a submodule is imported when it is first used, so that
`funcgrad --help` answers at once.
"""

import importlib
from types import ModuleType

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "autograd",
    "crossval",
    "datasets",
    "distances",
    "estimators",
    "explain",
    "gradcheck",
    "losses",
    "metrics",
    "models",
    "neighbors",
    "plots",
    "probes",
    "report",
    "sharding",
    "training",
]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
