"""Ints of a fixed number of bits, as the elements of an array are: what `vmap` gives a function for a lane of ints."""

from collections.abc import Callable
from typing import Any


class FixedInt(int):
    """An int of an array: with others it wraps around like NumPy's and JAX's ints of its dtype."""

    dtype: Any

    def __new__(cls, value: int, dtype: Any) -> "FixedInt":
        bits = 8 * dtype.itemsize
        wrapped = int(value) % 2**bits
        self = super().__new__(cls, wrapped - 2**bits if dtype.kind == "i" and wrapped >= 2 ** (bits - 1) else wrapped)
        self.dtype = dtype
        return self


def _fixed_operator(name: str) -> Callable[..., Any]:
    def method(self: FixedInt, *others: Any) -> Any:
        import numpy as np

        dtype = self.dtype
        for other in others:
            if not isinstance(other, int):
                return NotImplemented
            dtype = np.promote_types(dtype, other.dtype) if isinstance(other, FixedInt) else dtype
            if not isinstance(other, FixedInt | bool) and FixedInt(other, dtype) != other:
                raise OverflowError(f"the int {other} is out of bounds for {dtype}")
        result = getattr(int, name)(int(self), *map(int, others))
        return FixedInt(result, dtype) if type(result) is int and dtype.kind in "iu" else result

    return method


for _name in ("add", "sub", "mul", "floordiv", "mod", "pow", "lshift", "rshift", "and", "or", "xor"):
    for _prefix in ("", "r"):
        setattr(FixedInt, f"__{_prefix}{_name}__", _fixed_operator(f"__{_prefix}{_name}__"))
for _name in ("neg", "pos", "abs", "invert"):
    setattr(FixedInt, f"__{_name}__", _fixed_operator(f"__{_name}__"))
