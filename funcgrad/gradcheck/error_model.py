"""How exactly two systems can agree on a number: what each primitive's own error does to it.

Nothing here is chosen for a function of the user's: the graph of the whole computation, derivatives and all, is run
again and again with every primitive's result changed by its own error, and the number's change is its tolerance.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from funcgrad.autograd.batching import column_function
from funcgrad.autograd.codegen import INFIX
from funcgrad.autograd.graph import Graph, Var

EPS = 2.0**-52
RUNS = 8  # perturbed ones
OLD = jax.__version_info__ < (0, 12)
SAFETY = 4.0  # the tolerance over the largest change that they showed
_PIECES = "abs select max min share relu relu6 sign signbit floor ceil round rem int guard not sinc_at_zero"
_EXACT = {
    *INFIX,
    *_PIECES.split(),
}
_EXACT -= {"add", "sub", "mul"}
_ROUNDED = {"add", "sub", "mul", "div", "square", "sqrt"}  # half an ulp each, but JAX fuses and reorders some
Error = Callable[..., Any]
_none: Error = lambda *args: 0.0  # noqa: E731
_half: Error = lambda *args: 1.0  # noqa: E731
_usual: Error = lambda *args: 4.0  # noqa: E731
_grows: Error = lambda x: 4.0 + np.abs(x)  # noqa: E731
_tail: Error = lambda x: 4.0 + x * x  # noqa: E731
_sum: Error = lambda x, y: np.abs(x) + np.abs(y) + 1.0  # noqa: E731
# JAX's own error where that is more than 4 ulp: relative to the value, and absolute, in units of 2**-52
_JAX: dict[str, tuple[Error, Error]] = {
    **dict.fromkeys(("exp2", "sinh", "cosh"), (_grows, _none)),  # by exponentials of a rounded argument
    **dict.fromkeys(("erfc", "ndtr", "gaussian"), (_tail, _none)),
    **dict.fromkeys(("logaddexp", "logaddexp2"), (_usual, _sum)),  # they add to the larger one
    "sech2": (lambda x: 8.0, lambda x: 4.0),  # as (1 + tanh)·(1 - tanh)
    "lgamma": (lambda x: 8.0, lambda x: 8.0),  # it does not know its zeros at 1 and 2
    "betaln": (lambda a, b: 8.0, lambda a, b: 32.0),
    "digamma": (lambda x: 8.0, lambda x: 16.0),  # nor its own
    "polygamma": (lambda n, x: 16.0, _none),
    "log_ndtr": (lambda x: np.where(x > 0, _tail(x), 4.0), lambda x: x < 8.2),  # as log(1 - …) there
}
# Where JAX's own function has few correct digits, or none
_POOR: dict[str, Error] = {
    "erf_inv": lambda x: np.abs(x) > 0.998,  # 1e-11
    "log_ndtr": lambda x: x < -19.5,  # 1e-11: its asymptotic series is short
    "betaln": lambda a, b: (np.minimum(a, b) <= 1e-150) | (np.maximum(a, b) >= 8.0),  # 1e-7 above, nan below
    # 0 · nan or 0 · inf in a derivative, or not, by JAX's mode
    "xlogy": lambda x, y: (y < 0.0) | (np.equal(x, 0.0) & np.logical_not((y > 0.0) & (y < np.inf))),
    "xlog1py": lambda x, y: (y < -1.0) | (np.equal(x, 0.0) & np.logical_not((y > -1.0) & (y < np.inf))),
    "signbit": np.isnan,  # of a nan it is the processor's
    "polygamma": lambda n, x: (x < 0.0) | (np.abs(x) > 10.0 ** (307 / (n + 1))),  # the zeta function below 0; overflow
}

# Before 0.12 the logarithm of 1 + x lost up to 120 ulp where its two series met, and what stands on it with it
_JAX_BEFORE_12: dict[str, tuple[Error, Error]] = {
    "log1p": (lambda x: np.where((x > -0.42) & (x < -0.35), 128.0, 4.0), _none),
    "xlog1py": (lambda x, y: np.where((y > -0.42) & (y < -0.35), 128.0, 4.0), _none),
    "atanh": (lambda x: np.where((np.abs(x) > 0.3) & (np.abs(x) < 0.42), 80.0, 4.0), _none),
    "erf_inv": (lambda x: np.where((np.abs(x) > 0.58) & (np.abs(x) < 0.65), 20.0, 4.0), _none),
}
# and the rules of these overflowed, cancelled, or gave nan at edges where the newer ones have a number
_POOR_BEFORE_12: dict[str, Error] = {
    **dict.fromkeys(("asin", "acos"), lambda x: np.logical_not(np.abs(x) < 0.9)),
    **dict.fromkeys(("erf", "erfc", "ndtr"), lambda x: np.abs(x) > 1e100),
    **dict.fromkeys(("lgamma", "digamma"), lambda x: x == 0.0),
    "atanh": lambda x: np.logical_not((np.abs(x) > 0.1) & (np.abs(x) < 0.9)),
    "asinh": lambda x: np.abs(x) > 1e150,
    "acosh": lambda x: np.logical_not((x > 1.1) & (x < 1e150)),
    "tanh": lambda x: np.abs(x) < 0.1,
    "ndtri": lambda x: x == x,  # its derivatives are those of its polynomials
    "hypot": lambda x, y: x == x,
    "expm1": lambda x: x < -0.1,
    "betaln": lambda a, b: a == a,
}
if OLD:
    _JAX |= _JAX_BEFORE_12
    _POOR |= _POOR_BEFORE_12


class Spread(NamedTuple):
    """What a graph gives at many points (lanes): of runs × outputs × lanes, and for each lane why it is out of use.

    Run 0 is exact, run 1 flushes subnormals to zero, the others are perturbed. `infinite` is where anything is inf or
    nan in run 0.
    """

    runs: Any
    subnormal: Any
    poor: Any
    elsewhere: Any
    infinite: Any


def spread(graph: Graph, columns: Sequence[Any], seed: int) -> Spread:
    """Runs a graph over columns of inputs, RUNS times with the result of each primitive perturbed by its own error."""
    lanes = len(columns[0])
    rng = np.random.default_rng(seed)
    signs = np.broadcast_to(np.resize((-1.0, 1.0), (RUNS, 1)), (61, RUNS, lanes))  # as many up as down
    noise = rng.uniform(0.5, 1.0, (61, RUNS, lanes)) * rng.permuted(signs, axis=1) * EPS
    values: dict[int, Any] = {}
    subnormal, poor, elsewhere, infinite = np.zeros((4, lanes), bool)

    def ready(value: Any) -> Any:
        value = np.array(np.broadcast_to(value, (2 + RUNS, lanes)))
        if value.dtype == float:
            np.logical_or(subnormal, (value[0] != 0.0) & (np.abs(value[0]) < 2.0**-1022), out=subnormal)
            np.logical_or(infinite, ~np.isfinite(value[0]), out=infinite)
            value[1][np.abs(value[1]) < 2.0**-1022] *= 0.0
        return value

    def read(x: Any) -> Any:
        return values[x.index] if isinstance(x, Var) else x

    with np.errstate(all="ignore"):
        for var, column in zip(graph.inputs, columns, strict=True):
            values[var.index] = ready(column)
        for number, (primitive, inputs, output) in enumerate(graph.equations):
            name, args = primitive.name, [read(x) for x in inputs]
            if name == "guard":
                elsewhere |= np.any(np.broadcast_to(args[0] != args[1], (2 + RUNS, lanes)), axis=0)
                continue
            value = ready((primitive.value if name in INFIX else column_function(primitive))(*args))
            if name in _POOR:
                poor |= np.any(np.broadcast_to(_POOR[name](*args), (2 + RUNS, lanes)), axis=0)
            if name not in _EXACT:
                relative, absolute = _JAX.get(name, (_half if name in _ROUNDED else _usual, _none))
                error = _perturbed(absolute, args)
                away = np.copysign(error, value[2:])  # both errors the same way, lest they cancel
                value[2:] = (
                    value[2:] * (1.0 + _perturbed(relative, args) * noise[number % 61]) + away * noise[number % 61]
                )
                value[2] *= np.abs(value[0]) > np.broadcast_to(error, (RUNS, lanes))[0] * EPS  # it may lose all digits
            if value.dtype == bool or name == "share":  # a comparison, or how a tie is shared
                elsewhere |= np.any(value != value[0], axis=0)
            values[output.index] = value
        outputs = [np.array(np.broadcast_to(read(x), (2 + RUNS, lanes)), float) for x in graph.outputs]
    return Spread(np.stack(outputs, axis=1), subnormal, poor, elsewhere, infinite)


def _perturbed(error: Error, args: Sequence[Any]) -> Any:
    size = error(*args)
    size = size[2:] if np.ndim(size) > 1 else size
    return np.where(np.isfinite(size), size, 0.0)


def same(a: Any, b: Any, tolerance: Any = 0.0) -> Any:
    """Whether numbers agree: nans and infinities alike, or finite and within the tolerance."""
    with np.errstate(all="ignore"):
        close = np.isfinite(a) & np.isfinite(b) & (np.abs(a - b) <= tolerance)
    return (a == b) | (np.isnan(a) & np.isnan(b)) | close


def tolerances(runs: Any) -> Any:
    """SAFETY times the largest change in a perturbed run, and 4 ulp; nan where one is inf or nan and another is not."""
    exact, perturbed = runs[0], runs[2:]
    alike = np.all(same(perturbed, exact, np.inf), axis=0)
    with np.errstate(all="ignore"):
        change = np.max(np.abs(perturbed - exact), axis=0)
        tolerance = SAFETY * change + 4 * EPS * np.abs(exact) + 2.0**-1072
    return np.where(alike, np.where(np.isfinite(change), tolerance, 0.0), np.nan)
