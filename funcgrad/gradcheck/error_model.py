"""How exactly two systems can agree on a number: a stochastic rounding-error model of the computation.

The graph of the whole computation, derivatives included, runs several times with the result of every primitive
perturbed by a random amount within that primitive's own error (the method of random perturbations: Vignes, CESTAC).
The change that a number shows is its tolerance. Nothing is tuned to the function that is checked.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from funcgrad.autograd import Graph, Var, column_function

EPS = 2.0**-52  # the spacing of floats at 1, twice the error bound of one rounding
MIN_NORMAL = 2.0**-1022
SMALLEST = 2.0**-1072  # four times the smallest subnormal: the error of a result that underflows
RUNS = 8  # perturbed runs, whose noise is up in one half and down in the other
# The tolerance over the largest change in the perturbed runs. The error of another correct result, a sum of n errors of
# primitives, uniform in [-1, 1], is above that largest change in 5 % of all cases, and above 4 times it in fewer than 1
# in 10,000 for n = 1, 3, 5, 10, 30, 100, and 2 in 1,000 for n = 2, where all runs may cancel (20,000 simulations each).
SAFETY = 4.0
# Equation i has noise vector i mod 61. Two equations that share a vector err alike, and if their errors enter a number
# with opposite signs they cancel in every run, unnoticed. For a random pair P(shared) = 1/61, near the 1/C(8, 4) = 1/70
# with which two independent vectors have the same signs in all 8 runs: more vectors would gain little. 61 is prime, so
# the same step of a loop of fewer than 61 equations meets its vector again only 61 iterations later.
NOISE_VECTORS = 61
JAX_BEFORE_0_12 = jax.__version_info__ < (0, 12)

# The error of each primitive, relative to the value and absolute, both in units of EPS.
Error = Callable[..., Any]
_none: Error = lambda *args: 0.0  # noqa: E731
_one_rounding: Error = lambda *args: 1.0  # noqa: E731
_four_ulp: Error = lambda *args: 4.0  # noqa: E731  # what libm and XLA promise of an elementary function
_of_exponential: Error = lambda x: 4.0 + np.abs(x)  # noqa: E731  # exp(x (1 + e)) = exp(x) (1 + x e)
_of_gaussian: Error = lambda x: 4.0 + x * x  # noqa: E731  # exp(-x² (1 + e)) = exp(-x²) (1 - x² e)
_of_gamma: Error = lambda x: 8.0 + 8.0 * np.abs(x) * np.log1p(np.abs(x)) + np.abs(np.log(np.abs(x)))  # noqa: E731
_of_larger: Error = lambda x, y: np.abs(x) + np.abs(y) + 1.0  # noqa: E731  # logaddexp adds to the larger argument
_EXACT_OPERATORS = {"neg", "lt", "le", "gt", "ge", "eq", "ne", "and", "or", "xor"}
_OPERATORS = {"add", "sub", "mul"} | _EXACT_OPERATORS  # Python's, which NumPy's columns have too
_PIECEWISE = "abs select max min share relu relu6 sign signbit floor ceil round rem int guard not gamma_sign label"
_EXACT = {*_EXACT_OPERATORS, *_PIECEWISE.split()}
# Rounded correctly, EPS / 2; twice that, since XLA fuses and reorders some.
_ROUNDED = {"add", "sub", "mul", "div", "square", "sqrt"}
# JAX's error where it is more than 4 ulp, as the grids of points in tests/gradcheck show it.
_JAX: dict[str, tuple[Error, Error]] = {
    **dict.fromkeys(("exp2", "sinh", "cosh"), (_of_exponential, _none)),
    **dict.fromkeys(("erfc", "ndtr"), (_of_gaussian, _none)),
    "gaussian": (_of_gaussian, lambda x: (np.abs(x) < 26.6) * 2 * MIN_NORMAL / EPS),  # a term of its sum underflows
    **dict.fromkeys(("logaddexp", "logaddexp2"), (_four_ulp, _of_larger)),
    "sech2": (lambda x: 8.0, lambda x: 4.0),  # as (1 + tanh)·(1 - tanh), which cancels near 1
    "lgamma": (lambda x: 8.0, lambda x: 8.0),  # absolute near its zeros, 1 and 2
    "betaln": (lambda a, b: 8.0, lambda a, b: 32.0),  # three of these
    "digamma": (lambda x: 8.0, lambda x: 16.0),  # absolute near its zero, 1.46
    "polygamma": (lambda n, x: 16.0, _none),
    "gamma": (_of_gamma, _none),
    "scaled_erfc": (lambda n, x: 16.0 + x * x, lambda n, x: 8.0 * n),
    # the terms of its derivatives cancel near 0, more in each order from the second on
    "bessel_i": (
        lambda n, x: 8.0 + np.abs(x),
        lambda n, x: (np.abs(x) > 1.4e-8) * 8.0 / np.abs(x) ** (n - 2 if n > 2 else 0),
    ),
    **dict.fromkeys(("log_ratio", "rel_entr", "kl_div"), (lambda x, y: 8.0, _none)),
    "log_ndtr": (lambda x: np.where(x > 0, _of_gaussian(x), 4.0), lambda x: x < 8.2),  # as log(1 - …) there
}


class Edge(NamedTuple):
    """Where JAX's function has few correct digits, or none: such numbers are excluded."""

    where: str
    holds: Error


_ZERO_TIMES_INF = "where one of JAX's two modes has 0 · nan or 0 · inf in its derivative"
_INACCURATE: dict[str, Edge] = {
    "erf_inv": Edge("beyond ±0.998: 11 digits", lambda x: np.abs(x) > 0.998),
    "log_ndtr": Edge("below -19.5: 11 digits, its asymptotic series is short", lambda x: x < -19.5),
    "betaln": Edge(
        "of an argument above 8: 7 digits; of both below 1e-25 or one below 1e-150: nan",
        lambda a, b: (np.minimum(a, b) <= 1e-150) | (np.maximum(a, b) <= 1e-25) | (np.maximum(a, b) >= 8.0),
    ),
    "xlogy": Edge(
        _ZERO_TIMES_INF,
        lambda x, y: (y < 0.0) | (np.equal(x, 0.0) & np.logical_not((y > 0.0) & (y < np.inf))),
    ),
    "xlog1py": Edge(
        _ZERO_TIMES_INF,
        lambda x, y: (y < -1.0) | (np.equal(x, 0.0) & np.logical_not((y > -1.0) & (y < np.inf))),
    ),
    # Of the result no digit is left, and of its reciprocal no order of magnitude
    "tan": Edge("beyond ±1e15, where an ulp is much of a period", lambda x: np.abs(x) > 1e15),
    "rem": Edge("of more than 1e15 divisors, where an ulp is much of one", lambda x, y: np.abs(x) > 1e15 * np.abs(y)),
    "hypot": Edge("of inf, where JAX has 0 · nan for a constant", lambda x, y: np.isinf(x) | np.isinf(y)),
    "signbit": Edge("of nan: it depends on the processor", np.isnan),
    "ndtri": Edge(
        "below 1e-100: its derivatives overflow on the way; 5 digits near 1e-300", lambda x: (x > 0.0) & (x < 1e-100)
    ),
    "bessel_i": Edge("beyond ±709: inf - inf in the derivatives of i1", lambda n, x: np.abs(x) > 709.0),
    "kl_div": Edge("near p = q: 7 digits, its series has five terms", lambda x, y: np.abs((x - y) / y) < 0.1),
    "polygamma": Edge(
        "of x < 0, or where it overflows: its zeta function",
        lambda n, x: (x < 0.0) | (np.abs(x) > 10.0 ** (307 / (n + 1))),
    ),
}
# Before 0.12 log1p lost up to 120 ulp where its two series meet, and so did what JAX computes from it;
_JAX_BEFORE_0_12: dict[str, tuple[Error, Error]] = {
    "log1p": (lambda x: np.where((x > -0.42) & (x < -0.35), 128.0, 4.0), _none),
    "xlog1py": (lambda x, y: np.where((y > -0.42) & (y < -0.35), 128.0, 4.0), _none),
    "atanh": (lambda x: np.where((np.abs(x) > 0.3) & (np.abs(x) < 0.42), 80.0, 4.0), _none),
    "erf_inv": (lambda x: np.where((np.abs(x) > 0.58) & (np.abs(x) < 0.65), 20.0, 4.0), _none),
}
# and the derivatives of these overflowed, cancelled, or were nan at edges where they are numbers now.
_INACCURATE_BEFORE_0_12: dict[str, Edge] = {
    **dict.fromkeys(("asin", "acos"), Edge("beyond ±0.9", lambda x: np.logical_not(np.abs(x) < 0.9))),
    **dict.fromkeys(("erf", "erfc", "ndtr"), Edge("beyond ±1e100", lambda x: np.abs(x) > 1e100)),
    **dict.fromkeys(("lgamma", "digamma"), Edge("at 0", lambda x: x == 0.0)),
    "atanh": Edge("within ±0.1, beyond ±0.9", lambda x: np.logical_not((np.abs(x) > 0.1) & (np.abs(x) < 0.9))),
    "asinh": Edge("beyond ±1e150", lambda x: np.abs(x) > 1e150),
    "acosh": Edge("below 1.1, above 1e150", lambda x: np.logical_not((x > 1.1) & (x < 1e150))),
    "tanh": Edge("within ±0.1", lambda x: np.abs(x) < 0.1),
    "ndtri": Edge("everywhere: its derivatives were those of its polynomials", lambda x: x == x),
    "hypot": Edge("everywhere", lambda x, y: x == x),
    "expm1": Edge("below -0.1", lambda x: x < -0.1),
    "betaln": Edge("everywhere", lambda a, b: a == a),
    **dict.fromkeys(("bessel_i", "scaled_erfc", "rel_entr", "kl_div"), Edge("everywhere", lambda *args: True)),
}
if JAX_BEFORE_0_12:
    _JAX |= _JAX_BEFORE_0_12
    _INACCURATE |= _INACCURATE_BEFORE_0_12

# Functions that are arrays in JAX, where a constant element adds 0 · inf, and sums have an order of their own.
_OF_ARRAYS = {"sum", "mean", "prod", "max", "min", "dot", "norm", "logsumexp", "softmax", "log_softmax"}
_OF_ARRAYS |= {"var", "std", "median", "sort", "cumsum"}
EDGES = (
    *(f"come from {name}, {edge.where}" for name, edge in _INACCURATE.items()),
    "come from sums of arrays with inf or nan, or a nan of xlogy's in JAX alone: 0 · inf for a constant",
    "come from the derivatives of log(p / q) that are 0, to which JAX adds what cancels",
    "come from sinc, whose derivative JAX before 0.12 computes otherwise",
)


class Spread(NamedTuple):
    """A graph's outputs in all runs, (runs, outputs, points), and for each point whether comparing makes sense.

    Run 0 is exact, run 1 flushes subnormals to zero, the others are perturbed. `subnormal`: a subnormal occurs;
    `inaccurate`: JAX has few correct digits, (edges, points) in the order of `EDGES`; `branch_changes`: runs take
    different branches; `infinite`: an intermediate result is inf or nan.
    """

    runs: Any
    subnormal: Any
    inaccurate: Any
    branch_changes: Any
    infinite: Any


def spread(graph: Graph, columns: Sequence[Any], seed: int) -> Spread:
    """Runs a graph over columns of inputs, one element a point: exactly, without subnormals, RUNS times perturbed."""
    points = len(columns[0])
    shape = (2 + RUNS, points)
    noise = _noise(points, seed)
    values: dict[int, Any] = {}
    subnormal, branch_changes, infinite = np.zeros((3, points), bool)
    inaccurate = np.zeros((len(EDGES), points), bool)
    row = {name: i for i, name in enumerate(_INACCURATE)}

    def ready(value: Any) -> Any:
        value = np.array(np.broadcast_to(value, shape))
        if value.dtype == float:
            np.logical_or(subnormal, (value[0] != 0.0) & (np.abs(value[0]) < MIN_NORMAL), out=subnormal)
            np.logical_or(infinite, ~np.isfinite(value[0]), out=infinite)
            value[1][np.abs(value[1]) < MIN_NORMAL] *= 0.0
        return value

    def read(x: Any) -> Any:
        return values[x.index] if isinstance(x, Var) else x

    with np.errstate(all="ignore"):
        for var, column in zip(graph.inputs, columns, strict=True):
            values[var.index] = ready(column)
        for number, (primitive, inputs, output) in enumerate(graph.equations):
            name, args = primitive.name, [read(x) for x in inputs]
            if name == "guard":
                branch_changes |= np.any(np.broadcast_to(args[0] != args[1], shape), axis=0)
                continue
            value = ready((primitive.value if name in _OPERATORS else column_function(primitive))(*args))
            if name in _INACCURATE:
                inaccurate[row[name]] |= np.any(np.broadcast_to(_INACCURATE[name].holds(*args), shape), axis=0)
            if name not in _EXACT:
                _perturb(value, name, args, noise[number % NOISE_VECTORS])
            if value.dtype == bool or name == "share":  # a comparison, or how a tie is shared
                branch_changes |= np.any(value != value[0], axis=0)
            values[output.index] = value
        outputs = [np.array(np.broadcast_to(read(x), shape), float) for x in graph.outputs]
    return Spread(np.stack(outputs, axis=1), subnormal, inaccurate, branch_changes, infinite)


def _noise(points: int, seed: int) -> Any:
    """Numbers of 0.5 to 1 times EPS, for each vector, run and point; half of the runs are negative."""
    rng = np.random.default_rng(seed)
    shape = (NOISE_VECTORS, RUNS, points)
    signs = rng.permuted(np.broadcast_to(np.resize((-1.0, 1.0), (RUNS, 1)), shape), axis=1)
    return rng.uniform(0.5, 1.0, shape) * signs * EPS


def _perturb(value: Any, name: str, args: Sequence[Any], noise: Any) -> None:
    """Adds a primitive's error to its results in the perturbed runs, in place."""
    usual = (_one_rounding if name in _ROUNDED else _four_ulp, _none)
    relative, absolute = [_finite(error, args) for error in _JAX.get(name, usual)]
    away = np.copysign(absolute, value[2:])  # the same way as the relative error, lest they cancel
    value[2:] = value[2:] * (1.0 + relative * noise) + away * noise
    value[2] *= np.abs(value[0]) > np.broadcast_to(absolute, noise.shape)[0] * EPS  # all digits may be lost


def _finite(error: Error, args: Sequence[Any]) -> Any:
    size = error(*args)
    size = size[2:] if np.ndim(size) > 1 else size
    return np.where(np.isfinite(size), size, 0.0)


def inaccurate_functions(spread: Spread, functions: set[str], ours: Any, theirs: Any) -> Any:
    """Where comparing makes no sense since the program calls these functions of `ops`, which are no primitives here.

    `ours` and `theirs` are the numbers of both systems, (numbers, points).
    """
    *edges, of_arrays, of_ratio, of_sinc = spread.inaccurate
    if functions & (_OF_ARRAYS | {"xlogy", "xlog1py"}):
        of_arrays = of_arrays | np.any(np.isnan(theirs) & np.isfinite(ours), axis=0)
    if functions & _OF_ARRAYS:
        of_arrays = of_arrays | spread.infinite
    if functions & {"rel_entr", "kl_div"}:
        cancelled = (ours == 0.0) & (np.abs(theirs) < 1e-14 * np.max(np.abs(theirs), axis=0))
        of_ratio = of_ratio | np.any(cancelled, axis=0)
    return np.stack([*edges, of_arrays, of_ratio, of_sinc | (JAX_BEFORE_0_12 and "sinc" in functions)])


def same(a: Any, b: Any, tolerance: Any = 0.0) -> Any:
    """Whether numbers agree: nans and infinities alike, or finite and within the tolerance."""
    with np.errstate(all="ignore"):
        close = np.isfinite(a) & np.isfinite(b) & (np.abs(a - b) <= tolerance)
    return (a == b) | (np.isnan(a) & np.isnan(b)) | close


def tolerances(runs: Any) -> Any:
    """SAFETY times the largest change in a perturbed run, plus 4 ulp; nan where only some runs are inf or nan."""
    exact, perturbed = runs[0], runs[2:]
    alike = np.all(same(perturbed, exact, np.inf), axis=0)
    with np.errstate(all="ignore"):
        change = np.max(np.abs(perturbed - exact), axis=0)
        tolerance = SAFETY * change + 4 * EPS * np.abs(exact) + SMALLEST
    return np.where(alike, np.where(np.isfinite(change), tolerance, 0.0), np.nan)
