"""What a search is given, checked: each refusal is one line that names the argument, what came and what is accepted."""

import re
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike


def addressable(name: str, x: Any) -> Any:
    """x, unless it is a JAX array of which this process has only a part: raises `ValueError`."""
    if isinstance(x, Array) and not x.is_fully_addressable:
        raise ValueError(
            f"{name}: got a JAX array that is spread over several processes; needs NumPy, a memory-mapped file, or an "
            "array on devices of this process, the same in each"
        )
    return x


def in_numpy(x: Any) -> Any:
    """What lies on one CPU as NumPy, which is the same memory."""
    on_cpu = isinstance(x, Array) and [device.platform for device in x.devices()] == ["cpu"]
    return np.asarray(x) if on_cpu else x


def allowed_points(mask: ArrayLike | None, exclude_self: bool, queries: Any, points: Any) -> np.ndarray:
    """Which points may be neighbours, (N,) bool."""
    count = len(points)
    allowed = np.ones(count, bool) if mask is None else np.asarray(mask)
    if allowed.shape != (count,) or allowed.dtype != bool:
        raise ValueError(f"mask: needs shape ({count},) and dtype bool, got {allowed.shape} {allowed.dtype}")
    if exclude_self and len(queries) != count:
        raise ValueError(f"exclude_self: the queries must be the points, got {len(queries)} queries and {count} points")
    return allowed


def check_finite(name: str, x: Any, rows: int = 4096) -> None:
    """Raises `ValueError` that names the first rows with NaN or infinity; looks at a block of rows at a time."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return
    isfinite = jnp.isfinite if isinstance(x, Array) else np.isfinite
    blocks = (np.asarray(isfinite(x[i : i + rows]).all(axis=1)) for i in range(0, len(x), rows))
    bad = np.flatnonzero(~np.concatenate(list(blocks)))
    if bad.size:
        listed = ", ".join(map(str, bad[:5])) + (", …" if bad.size > 5 else "")
        raise ValueError(f"{name}: NaN or infinity in {bad.size} of {len(x)} rows: {listed}")


def parse_memory(memory: str | int) -> int:
    """Bytes from a number or from "500MiB", "1GiB", "2GB". Raises `ValueError` for anything else."""
    units = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
    units |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(memory).lower())
    if found is None or found[2] not in units or float(found[1]) == 0:
        raise ValueError(f"memory: {memory!r} is no size; write a number of bytes, or like '500MiB' or '2GB'")
    return int(float(found[1]) * units[found[2]])
