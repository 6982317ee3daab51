"""Input vectors: their shape, and the dtype in which they are compared."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from funcgrad.distances.metrics import Metric

BYTES = np.dtype(np.uint8), np.dtype(np.int8)


def as_vectors(name: str, x: Any) -> Any:
    """`x` (N, …) as (N, D), not copied where it is contiguous; lists become float32, as in `jax.numpy`.

    Raises `TypeError` for what is no array of numbers, and `ValueError` for fewer than two axes or an empty one.
    """
    if not (hasattr(x, "dtype") and hasattr(x, "reshape")):
        try:
            x = np.asarray(jnp.asarray(x))
        except (TypeError, ValueError):
            raise TypeError(f"{name}: needs an array of numbers, got {type(x).__name__}") from None
    if x.ndim < 2 or 0 in x.shape:
        raise ValueError(f"{name}: needs shape (number of vectors, dimensions), none of them 0; got {x.shape}")
    return x.reshape(x.shape[0], -1)


def same_dimensions(queries: Any, points: Any) -> None:
    """Raises `ValueError` unless queries (Q, D) and points (N, D) have equally many dimensions."""
    if queries.shape[1] != points.shape[1]:
        raise ValueError(f"queries: have {queries.shape[1]} dimensions, the points have {points.shape[1]}")


def search_dtype(*dtypes: Any) -> Any:
    """The dtype in which vectors of these dtypes are compared: uint8, int8, float32 or float64; nothing is rounded.

    bool becomes uint8, and half precision float32; wider integers, and uint8 beside int8, become float64, which holds
    sums of integers exactly up to 2⁵³.
    """
    found = {_search_dtype(np.dtype(dtype)) for dtype in dtypes}
    if len(found) == 1:
        return found.pop()
    single = np.dtype(np.float32) in found and np.dtype(np.float64) not in found
    return np.dtype(np.float32 if single else np.float64)


def ranking_dtype(metric: Metric, *dtypes: Any) -> Any:
    """`search_dtype`, but float32 for bytes under a metric that is not integer-valued."""
    dtype = search_dtype(*dtypes)
    return np.dtype(np.float32) if dtype in BYTES and metric in ("cosine", "minkowski", "hamming") else dtype


def _search_dtype(dtype: Any) -> Any:
    if dtype == np.bool_:
        return np.dtype(np.uint8)
    if dtype in (np.uint8, np.int8, np.float32, np.float64):
        return dtype
    if jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer):
        half = jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize <= 2
        return np.dtype(np.float32 if half else np.float64)
    raise TypeError(f"dtype: vectors are integers or floats, got {dtype}")


def needs_64_bits(dtype: Any, dimensions: int) -> bool:
    """Whether distances need `jax.enable_x64`: float64, or bytes whose distances or sort keys may overflow an int32.

    No distance of bytes, and no range of their products, is above D · 255². A search turns int32 distances into float32
    sort keys by adding 2²³, and these must stay below the bits of infinity, 2³¹ − 2²³.
    """
    return dtype == jnp.float64 or (dtype in BYTES and dimensions * 255**2 >= 2**31 - 2**24)
