"""Input vectors: their shape, and the dtype in which they are compared."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from funcgrad.distances.metrics import Metric

BYTES = np.dtype(np.uint8), np.dtype(np.int8)


def as_vectors(name: str, x: Any) -> Any:
    """`x` (N, …) as (N, D), not copied where it is contiguous; lists and data frames become what NumPy makes of them.

    Raises `TypeError` for what is no dense array of integers or floats, such as a sparse matrix, and `ValueError` for
    fewer than two axes or an empty one, for values that are masked, and for integers that float64 cannot tell apart.
    """
    given = type(x).__name__
    if hasattr(x, "todense"):
        raise TypeError(f"{name}: needs a dense array, got {given}, which is sparse; pass its .toarray() or .todense()")
    if missing := np.ma.count_masked(x) if isinstance(x, np.ma.MaskedArray) else 0:
        raise ValueError(f"{name}: {missing} values are masked; fill them first, as by .filled(0)")
    is_like_an_array = isinstance(getattr(x, "dtype", None), np.dtype) and hasattr(x, "reshape")
    if isinstance(x, np.ma.MaskedArray | np.matrix) or not is_like_an_array:
        try:
            x = np.asarray(x)
        except (TypeError, ValueError):
            raise TypeError(f"{name}: needs an array of numbers, got {given}") from None
    if not any(jnp.issubdtype(x.dtype, kind) for kind in (jnp.bool, jnp.integer, jnp.floating)):
        raise TypeError(f"{name}: needs integers or floats, got {given} of dtype {x.dtype}")
    if x.ndim < 2 or 0 in x.shape:
        raise ValueError(f"{name}: needs shape (number of vectors, dimensions), none of them 0; got {x.shape}")
    if x.dtype in (np.int64, np.uint64) and max(-int(x.min()), int(x.max())) > 2**53:
        raise ValueError(f"{name}: integers beyond 2⁵³ cannot be told apart in float64, in which they are compared")
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
    half = jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize <= 2
    return np.dtype(np.float32 if half else np.float64)


def needs_64_bits(dtype: Any, dimensions: int) -> bool:
    """Whether distances need `jax.enable_x64`: float64, or bytes whose distances or sort keys may overflow an int32.

    No distance of bytes, and no range of their products, is above D · 255². A search turns int32 distances into float32
    sort keys by adding 2²³, and these must stay below the bits of infinity, 2³¹ − 2²³.
    """
    return dtype == jnp.float64 or (dtype in BYTES and dimensions * 255**2 >= 2**31 - 2**24)
