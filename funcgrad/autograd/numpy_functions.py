"""NumPy's functions of traced floats: `np.exp(x)` is `ops.exp(x)`, and so is that of an array of traced floats.

NumPy asks an argument for `__array_ufunc__` and `__array_function__`, and calls a method of its own name, such as
`exp`, of the elements of an array of objects. Importing this module gives `Traced` all of these. NumPy is not imported.
"""

import operator
from collections.abc import Callable
from inspect import signature
from typing import Any

from funcgrad.autograd import ops
from funcgrad.autograd import primitives as p
from funcgrad.autograd.tracing import Traced, number

_COMPARISONS: dict[str, Callable[..., Any]] = {
    **{"greater": operator.gt, "greater_equal": operator.ge, "less": operator.lt, "less_equal": operator.le},
    **{"equal": operator.eq, "not_equal": operator.ne},
    "logical_and": lambda x, y: p.and_(p.ne(x, 0.0), p.ne(y, 0.0)),
    "logical_or": lambda x, y: p.or_(p.ne(x, 0.0), p.ne(y, 0.0)),
    "logical_not": lambda x: p.eq(x, 0.0),
    "bitwise_and": lambda x, y: p.and_(number(x), number(y)),
    "bitwise_or": lambda x, y: p.or_(number(x), number(y)),
    "bitwise_xor": lambda x, y: p.xor(number(x), number(y)),
    "invert": p.not_,
    "signbit": p.signbit,
    "conjugate": lambda x: x,
}
# The universal functions that NumPy computes of an object by its method of this name.
_METHODS = """arccos arccosh arcsin arcsinh arctan arctan2 arctanh cbrt cos cosh deg2rad degrees exp exp2 expm1 fabs
fmod hypot log log10 log1p log2 logaddexp logaddexp2 rad2deg radians rint sin sinh sqrt tan tanh"""


def _array_ufunc(self: Traced, ufunc: Any, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
    """A universal function of NumPy or SciPy, element by element where an argument is an array."""
    name = ufunc.__name__
    if method != "__call__" or kwargs:
        raise TypeError(f"{name} of a traced float takes no {', '.join(kwargs) or method}")
    if name in _COMPARISONS:
        result = ops.map_elements(_COMPARISONS[name], inputs)
    elif name in ops.__all__:
        result = getattr(ops, name)(*inputs)
    else:
        raise _unknown(name)
    if out is None:
        return result
    (target,) = out
    if target.dtype != object:
        raise TypeError(f"{name}: traced floats cannot be written into an array of {target.dtype}; make a new array")
    target[...] = result
    return target


def _array_function(self: Traced, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
    """Another function of NumPy: that of `ops` with its name, or NumPy's own on arrays of objects."""
    name = function.__name__
    if name in ops.__all__ and "xs" not in signature(getattr(ops, name)).parameters:
        return getattr(ops, name)(*args, **kwargs)
    own: Any = getattr(function, "__wrapped__", None)
    try:
        return own(*map(_as_array, args), **{key: _as_array(x) for key, x in kwargs.items()})
    except (TypeError, AttributeError) as error:
        raise _unknown(name) from error


def _as_array(x: Any) -> Any:
    import numpy as np

    if isinstance(x, Traced):
        array = np.empty((), object)
        array[()] = x
        return array
    return type(x)(map(_as_array, x)) if type(x) in (list, tuple) else x


def _unknown(name: str) -> TypeError:
    advice = "it would lose the derivative; the functions that have one are those of funcgrad.autograd.ops"
    return TypeError(f"{name} of a traced float: {advice}")


def _method(name: str) -> Callable[..., Any]:
    function = getattr(ops, name)
    return lambda self, *others: function(self, *others)


def install() -> None:
    """Gives `Traced` the methods that NumPy asks for."""
    for name in _METHODS.split():
        setattr(Traced, name, _method(name))
    for name, protocol in (("__array_ufunc__", _array_ufunc), ("__array_function__", _array_function)):
        setattr(Traced, name, protocol)
