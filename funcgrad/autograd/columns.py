"""The primitives on NumPy columns: what the code that `vmap` compiles calls."""

from collections.abc import Callable
from functools import cache
from typing import Any

from funcgrad.autograd.graph import Primitive

Function = Callable[..., Any]


@cache
def _column_functions() -> dict[str, Function]:
    import numpy as np

    same = "exp exp2 expm1 log log2 log10 log1p sin cos tan sinh cosh tanh sqrt cbrt square logaddexp logaddexp2"
    same += " asin acos atan atan2 asinh acosh atanh signbit floor ceil abs"

    def power(
        x: Any, y: Any
    ) -> Any:  # of arrays only: for a scalar exponent NumPy may take a root, which differs at -0, -inf
        x, y = np.broadcast_arrays(x, y)
        return np.power(x, y.copy())

    def logistic(x: Any) -> Any:
        e = np.exp(-np.abs(x))
        return np.where(x >= 0, 1.0, e) / (1.0 + e)

    def sech2(x: Any) -> Any:
        e = np.exp(-2.0 * np.abs(x))
        return 4.0 * e / ((1.0 + e) * (1.0 + e))

    def maximum(x: Any, y: Any) -> Any:  # of +0 and -0 always +0
        return np.where(np.equal(x, 0.0) & np.equal(y, 0.0), x + y, np.maximum(x, y))

    return {
        **{name: getattr(np, name) for name in same.split()},
        "div": np.divide,
        "pow": power,
        "integer_pow": lambda x, n: np.power(x, float(n)),
        "rsqrt": lambda x: 1.0 / np.sqrt(x),
        "logistic": logistic,
        "sech2": sech2,
        "max": maximum,
        "min": lambda x, y: -maximum(-x, -y),
        "share": lambda x, z, y: np.where(x == z, np.where(y == z, 0.5, 1.0), 0.0),
        "relu": lambda x: np.maximum(x, 0.0),
        "relu6": lambda x: np.minimum(np.maximum(x, 0.0), 6.0),
        "select": np.where,
        "not": np.logical_not,
        "round": np.rint,
        "rem": np.fmod,
        "int": np.trunc,
    }


def column_function(primitive: Primitive) -> Function:
    """The primitive on columns: NumPy's function, or its own value lane by lane."""
    import numpy as np

    known = _column_functions().get(primitive.name)
    return known if known is not None else np.vectorize(primitive.value, otypes=[float])
