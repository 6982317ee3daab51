"""Kernels for NVIDIA GPUs, one file each, over the loop that they share (`tiles`); `l1` is what others call."""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array

from funcgrad.distances.kernels import l1_float32, l1_uint8

__all__ = ["l1"]

_MEASURED = "9.0"  # the compute capability of the H100 and H200


def l1(dtype: Any, dimensions: int) -> Callable[[Array, Array], Array] | None:
    """The kernel for l1 of queries (Q, D) and points (N, D) of this dtype, if all devices of this process can run it.

    On an H100 it takes a nineteenth of the time that XLA's form of the definition takes for uint8, a sixth for float32:
    experiments/knn_gpu.py.
    """
    if {getattr(device, "compute_capability", None) for device in jax.local_devices()} != {_MEASURED}:
        return None
    if dtype == "uint8" and dimensions <= l1_uint8.MAX_DIMENSIONS:
        return l1_uint8.all_pairs
    return l1_float32.all_pairs if dtype == "float32" else None
