"""Features of any kind as arrays of bytes or floats."""

from collections.abc import Mapping

import numpy as np

from funcgrad.datasets.labels import Named
from funcgrad.files import listed

_DTYPES = {  # what is accepted, and what it becomes
    "bool": "uint8",
    "uint8": "uint8",
    "bfloat16": "float32",
    "float16": "float32",
    "float32": "float32",
    "float64": "float64",
}
_UNTYPED = "void16"  # as what a file of NumPy holds bfloat16
_INTEGERS = {"float32": 2**24, "float64": 2**53}  # up to which size each holds every integer


def read_features(parts: Mapping[str, Named]) -> tuple[dict[str, np.ndarray], list[str]]:
    """The features of all parts, in one form: uint8, float32 or float64 (N, …); and what was converted.

    Integers become uint8 if all of them are within 0..255, else floats that hold each of them. uint8 (N, H, W) gets a
    channel axis. Raises ValueError for what is accepted in no form.
    """
    arrays, notes = {part: _native(*named) for part, named in parts.items()}, list[str]()
    if raw := [name for name, array in parts.values() if array.dtype.name == _UNTYPED]:
        notes.append(f"{listed(raw)}: numbers of two bytes without a type are taken as bfloat16, which NumPy writes so")
    kinds = {part: array.dtype for part, array in arrays.items()}
    if converted := [part for part, dtype in kinds.items() if dtype.kind in "iu" and dtype != np.uint8]:
        integers = [array for array in arrays.values() if array.dtype.kind in "iu"]
        low, high = min(int(array.min()) for array in integers), max(int(array.max()) for array in integers)
        name = parts[converted[0]][0]
        dtype = _integers_as(name, low, high)
        arrays |= {part: arrays[part].astype(dtype) for part in kinds if kinds[part].kind in "iu"}
        how = "bytes, like pixels" if dtype == "uint8" else f"{dtype}, not scaled"
        notes.append(f"{name}: integers from {low:,} to {high:,} are taken as {how}")
    for part, (what, _) in parts.items():
        if arrays[part].dtype.name not in _DTYPES:
            accepted = "numbers: bool, integers, float16, bfloat16, float32 and float64 are accepted"
            raise ValueError(f"{what} has dtype {arrays[part].dtype}; {accepted}")
        array = arrays[part].astype(_DTYPES[arrays[part].dtype.name], copy=False)
        arrays[part] = array[..., None] if array.dtype == np.uint8 and array.ndim == 3 else array
    forms = {f"{array.dtype} {array.shape[1:]}": parts[part][0] for part, array in arrays.items()}
    if len(forms) > 1:
        listing = ", ".join(f"{name} is {form}" for form, name in forms.items())
        raise ValueError(f"the parts differ: {listing}; one form is accepted")
    return arrays, notes


def _native(what: str, array: np.ndarray) -> np.ndarray:
    """The array, as bfloat16 where it is two bytes without a type, as which NumPy writes these."""
    if array.ndim < 2 or 0 in array.shape:
        raise ValueError(f"{what} has shape {array.shape}; (examples, …features) with no empty axis is accepted")
    if array.dtype.name == _UNTYPED:
        import ml_dtypes

        return array.view(ml_dtypes.bfloat16)
    return array


def _integers_as(what: str, low: int, high: int) -> str:
    if low >= 0 and high <= 255:
        return "uint8"
    largest = max(-low, high)
    dtype = next((dtype for dtype, limit in _INTEGERS.items() if largest <= limit), None)
    if dtype is None:
        why = "beyond 2**53, where float64 no longer holds every integer; are they ids?"
        raise ValueError(f"{what} has integers from {low:,} to {high:,}, {why}")
    return dtype
