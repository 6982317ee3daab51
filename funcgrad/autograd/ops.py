"""Functions of floats that may be traced, under the names of jax.numpy, jax.nn and jax.scipy.special.

Each takes a float, a traced float, a NumPy array, element by element, or a JAX value, which it passes to JAX's own
function of that name: one function body runs under both systems. Values and derivatives are JAX's, in double precision.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import reduce, wraps
from inspect import signature
from itertools import accumulate
from types import MappingProxyType
from typing import Any

from funcgrad.autograd import primitives as p
from funcgrad.autograd import pytrees, tracing
from funcgrad.autograd.custom_rules import custom_jvp, stop_gradient
from funcgrad.autograd.graph import Primitive
from funcgrad.autograd.jax_values import is_jax, of_jax
from funcgrad.autograd.tracing import Traced, concrete, is_int, number

Function = Callable[..., Any]
_MODULES = {"nn": "nn", "special": "scipy.special", "linalg": "numpy.linalg", "numpy": "numpy"}  # of JAX
__all__: list[str] = []


def _of_numbers(module: str = "numpy", name: str = "") -> Callable[[Function], Function]:
    """Makes a function of numbers one of `ops`: ints become floats, and JAX values go to JAX's function."""

    def make(function: Function) -> Function:
        op_name = name or function.__name__

        @wraps(function)
        def op(*args: Any, **kwargs: Any) -> Any:
            for x in args:
                if type(x) is not float and type(x) is not Traced:
                    break
            else:
                return function(*args, **kwargs)
            ready = [number(x) for x in args]
            if any(x is NotImplemented for x in ready):
                return _call_other(module, op_name, args, kwargs)
            return function(*ready, **kwargs)

        op.__name__ = op_name
        __all__.append(op_name)
        return op

    return make


def _of_sequences(module: str = "numpy") -> Callable[[Function], Function]:
    """The same for a function of sequences: lists, tuples or NumPy arrays of numbers.

    An array of several axes is a sequence along `axis`, or of all its elements where this is None.
    """

    def make(function: Function) -> Function:
        name, parameters = function.__name__, signature(function).parameters
        sequences = len({"xs", "ys"} & {*parameters})
        place = [*parameters].index("axis") if "axis" in parameters else len(parameters)

        @wraps(function)
        def op(*args: Any, **kwargs: Any) -> Any:
            if any(is_jax(x) for arg in args for x in (arg if isinstance(arg, list | tuple) else (arg,))):
                jnp = sys.modules["jax"].numpy
                ready = lambda x: jnp.stack([*map(jnp.asarray, x)]) if isinstance(x, list | tuple) else x  # noqa: E731
                return _call_other(module, name, (*map(ready, args),), {key: ready(x) for key, x in kwargs.items()})
            if "axis" in parameters and args and pytrees.is_array(args[0]) and args[0].ndim > 1:
                return _along_axis(name, parameters, args, kwargs)
            axis = args[place] if len(args) > place else kwargs.get("axis")
            if axis not in (None, 0, -1):
                raise ValueError(f"ops.{name}: axis must be 0, -1 or None for a sequence of numbers, got {axis!r}")
            return function(*[_numbers(name, arg) if i < sequences else arg for i, arg in enumerate(args)], **kwargs)

        __all__.append(name)
        return op

    return make


def _along_axis(name: str, parameters: Mapping[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A function of sequences along one axis of an array, or of all its elements."""
    import numpy as np

    options = dict(zip(parameters, args, strict=False)) | kwargs
    xs, axis = options.pop("xs"), options.pop("axis", parameters["axis"].default)
    if axis is None:
        if options.get("ord") is not None or options.get("b") is not None:
            raise ValueError(f"ops.{name} of an array of shape {xs.shape}: give the axis, such as axis=-1")
        return globals()[name](xs.ravel(), axis=None, **options)
    moved = np.moveaxis(xs, axis, -1)
    found = [globals()[name](row, axis=0, **options) for row in moved.reshape(-1, moved.shape[-1])]
    if not found or not isinstance(found[0], list):
        return pytrees.array(found, moved.shape[:-1])
    return np.moveaxis(pytrees.array([x for row in found for x in row], moved.shape), -1, axis)


def _call_other(module: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """JAX's function of JAX values; our own of each element of NumPy arrays. Raises TypeError for anything else."""
    if any(map(is_jax, args)):
        return of_jax(f"{_MODULES[module]}.{name}")(*args, **kwargs)
    if not any(map(pytrees.is_array, args)):
        wrong = next(x for x in args if number(x) is NotImplemented)
        raise _wrong_type(f"ops.{name} takes floats, traced floats, NumPy arrays or JAX values, got", wrong)
    return map_elements(globals()[name], args, kwargs)


def map_elements(function: Function, args: Sequence[Any], kwargs: Mapping[str, Any] = MappingProxyType({})) -> Any:
    """The function of each element of the arrays among `args`, broadcast; of the arguments themselves without one."""
    if not any(map(pytrees.is_array, args)):
        return function(*args, **kwargs)
    import numpy as np

    columns = np.broadcast_arrays(*[x if pytrees.is_array(x) else np.array(x, dtype=object) for x in args])
    rows = zip(*[column.ravel().tolist() for column in columns], strict=True)
    return pytrees.array([function(*row, **kwargs) for row in rows], columns[0].shape)


def _wrong_type(requirement: str, x: Any) -> TypeError:
    return TypeError(f"{requirement} {type(x).__name__}: {x!r:.80}")


def _numbers(name: str, xs: Any) -> list[Any]:
    if pytrees.is_array(xs):
        if xs.ndim != 1:
            raise ValueError(f"ops.{name} takes a sequence of numbers, got an array of shape {xs.shape}")
        xs = xs.tolist()
    if not isinstance(xs, list | tuple):
        raise _wrong_type(f"ops.{name} takes a list, tuple or array of numbers, got", xs)
    for x in xs:
        if number(x) is NotImplemented:
            raise _wrong_type(f"ops.{name} takes a sequence of numbers, got an element of type", x)
    return [float(x) if type(x) is bool else number(x) for x in xs]


def _primitive(name: str, primitive: Primitive, module: str = "numpy") -> Function:
    """The op that is one primitive."""

    def unary(x: Any, /) -> Any:
        if type(x) is Traced:
            return x.trace.apply(primitive, (x,))
        if type(x) is not float:
            x, original = number(x), x
            if x is NotImplemented:
                return _call_other(module, name, (original,), {})
        return primitive.value(x)

    def binary(x: Any, y: Any, /) -> Any:
        return primitive(x, y)

    function: Function = unary if len(primitive.rules) == 1 else binary
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"JAX's `jax.{_MODULES[module]}.{name}`: the primitive `{primitive.name}`."
    if function is unary:
        __all__.append(name)
        return function
    return _of_numbers(module)(function)


# Arithmetic

add = _primitive("add", p.add)
subtract = _primitive("subtract", p.sub)
multiply = _primitive("multiply", p.mul)
divide = _primitive("divide", p.div)
true_divide = _primitive("true_divide", p.div)
negative = _primitive("negative", p.neg)
absolute = _primitive("absolute", p.abs_)
abs = _primitive("abs", p.abs_)
sign = _primitive("sign", p.sign)
square = _primitive("square", p.square)
sqrt = _primitive("sqrt", p.sqrt)
cbrt = _primitive("cbrt", p.cbrt)
float_power = _primitive("float_power", p.pow)
fmod = _primitive("fmod", p.rem)
fabs = _primitive("fabs", p.abs_)


@_of_numbers()
def positive(x: Any) -> Any:
    """x itself."""
    return x


@_of_numbers()
def reciprocal(x: Any) -> Any:
    """1 / x."""
    return p.integer_pow(x, -1)


floor_divide = _of_numbers()(tracing.floor_divide)
remainder = _of_numbers()(tracing.remainder)
mod = _of_numbers(name="mod")(tracing.remainder)


def power(x: Any, y: Any) -> Any:
    """x to the power y: for an int y a product of x with itself; a float y requires x >= 0 or an integral y."""
    if is_int(y) and not is_int(x) and number(x) is not NotImplemented:
        return tracing.power(number(x), y)
    return _real_power(x, y)


_real_power = _primitive("power", p.pow)


def pow(x: Any, y: Any) -> Any:
    """x to the power y, as `power`."""
    return power(x, y)


# Exponentials, logarithms

exp = _primitive("exp", p.exp)
exp2 = _primitive("exp2", p.exp2)
expm1 = _primitive("expm1", p.expm1)
log = _primitive("log", p.log)
log2 = _primitive("log2", p.log2)
log10 = _primitive("log10", p.log10)
log1p = _primitive("log1p", p.log1p)
logaddexp = _primitive("logaddexp", p.logaddexp)
logaddexp2 = _primitive("logaddexp2", p.logaddexp2)

# Trigonometry

sin = _primitive("sin", p.sin)
cos = _primitive("cos", p.cos)
tan = _primitive("tan", p.tan)
arcsin = _primitive("arcsin", p.asin)
arccos = _primitive("arccos", p.acos)
arctan = _primitive("arctan", p.atan)
arctan2 = _primitive("arctan2", p.atan2)
sinh = _primitive("sinh", p.sinh)
cosh = _primitive("cosh", p.cosh)
tanh = _primitive("tanh", p.tanh)
arcsinh = _primitive("arcsinh", p.asinh)
arccosh = _primitive("arccosh", p.acosh)
arctanh = _primitive("arctanh", p.atanh)
asin = _primitive("asin", p.asin)
acos = _primitive("acos", p.acos)
atan = _primitive("atan", p.atan)
atan2 = _primitive("atan2", p.atan2)
asinh = _primitive("asinh", p.asinh)
acosh = _primitive("acosh", p.acosh)
atanh = _primitive("atanh", p.atanh)


hypot = _primitive("hypot", p.hypot)


@_of_numbers()
def sinc(x: Any) -> Any:
    """sin(πx) / (πx), and 1 at 0: by the Taylor series of the sine at the nearest integer, exact to order 8 of jet."""
    whole = p.round_(x)
    rest = p.select(p.lt(p.abs_(x), math.inf), p.sub(x, whole), 0.0)
    squared = p.square(rest)
    series: Any = 0.0
    for k in range(14, -1, -1):
        series = p.add(p.mul(series, squared), (-1) ** k * math.pi ** (2 * k) / math.factorial(2 * k + 1))
    near_zero = p.eq(whole, 0.0)
    odd = p.ne(p.rem(whole, 2.0), 0.0)
    below = p.select(near_zero, 1.0, p.select(odd, p.neg(x), x))
    return p.select(near_zero, series, p.div(p.mul(rest, series), below))


@_of_numbers()
def deg2rad(x: Any) -> Any:
    """Degrees to radians."""
    return p.mul(x, math.pi / 180)


@_of_numbers()
def rad2deg(x: Any) -> Any:
    """Radians to degrees."""
    return p.mul(x, 180 / math.pi)


radians = _of_numbers(name="radians")(deg2rad)
degrees = _of_numbers(name="degrees")(rad2deg)

# Comparisons: a bool, or a traced one, as `where` and Python's `if` take it


@_of_numbers()
def isnan(x: Any) -> Any:
    """Whether x is nan."""
    return p.ne(x, x)


@_of_numbers()
def isinf(x: Any) -> Any:
    """Whether x is infinite."""
    return p.eq(p.abs_(x), math.inf)


@_of_numbers()
def isfinite(x: Any) -> Any:
    """Whether x is neither infinite nor nan."""
    return p.lt(p.abs_(x), math.inf)


@_of_numbers()
def isclose(a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False) -> Any:
    """Whether |a - b| ≤ atol + rtol · |b|, or both are the same infinity (or with equal_nan both nan)."""
    near = p.le(p.abs_(p.sub(a, b)), p.add(number(atol), p.mul(number(rtol), p.abs_(b))))
    close = p.or_(p.eq(a, b), p.and_(p.lt(p.abs_(b), math.inf), near))
    return p.or_(close, p.and_(p.ne(a, a), p.ne(b, b))) if equal_nan else close


# Piecewise

maximum = _primitive("maximum", p.max_)
minimum = _primitive("minimum", p.min_)
floor = _primitive("floor", p.floor)
ceil = _primitive("ceil", p.ceil)
rint = _primitive("rint", p.round_)


def where(condition: Any, x: Any, y: Any) -> Any:
    """x if the condition holds, else y. Both are computed: the other one contributes 0 times its derivative."""
    if any(is_jax(arg) or pytrees.is_array(arg) for arg in (condition, x, y)):
        return _call_other("numpy", "where", (condition, x, y), {})
    x, y = (number(branch) for branch in (x, y))
    if x is NotImplemented or y is NotImplemented:
        raise TypeError("ops.where takes a condition and two floats, traced floats, NumPy arrays or JAX values")
    if not isinstance(condition, Traced):
        condition = bool(condition)
    elif type(concrete(condition)) is not bool:
        condition = p.ne(condition, 0.0)
    return p.select(condition, x, y)


@_of_numbers()
def fmax(x: Any, y: Any) -> Any:
    """The larger of two numbers, the other one if one is nan."""
    return p.select(p.or_(p.gt(x, y), p.ne(y, y)), x, y)


@_of_numbers()
def fmin(x: Any, y: Any) -> Any:
    """The smaller of two numbers, the other one if one is nan."""
    return p.select(p.or_(p.lt(x, y), p.ne(y, y)), x, y)


def clip(x: Any, min: Any = None, max: Any = None) -> Any:
    """x, at least min and at most max; None is no limit."""
    if min is not None:
        x = maximum(min, x)
    return x if max is None else minimum(max, x)


@_of_numbers()
def trunc(x: Any) -> Any:
    """x without its fraction."""
    return p.select(p.lt(x, 0.0), p.ceil(x), p.floor(x))


@_of_numbers()
def round(x: Any, decimals: Any = 0) -> Any:
    """x rounded to this number of decimals, halves to even."""
    if not is_int(decimals) and not (type(decimals) is float and decimals.is_integer()):
        raise _wrong_type("ops.round: decimals must be an int, got", decimals)
    return tracing.round_decimals(x, decimals)


@_of_numbers()
def copysign(x: Any, y: Any) -> Any:
    """|x| with the sign of y."""
    return p.select(p.signbit(y), p.neg(p.abs_(x)), p.abs_(x))


@_of_numbers()
def heaviside(x: Any, at_zero: Any) -> Any:
    """0 below 0, 1 above, `at_zero` at 0."""
    at_zero = p.select(p.ne(x, x), x, at_zero)
    return p.select(p.lt(x, 0.0), 0.0, p.select(p.gt(x, 0.0), 1.0, at_zero))


@_of_numbers()
def nan_to_num(x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    """x, with nan and infinities replaced, by default by 0 and the largest floats. `copy` is ignored."""
    x = p.select(p.ne(x, x), number(nan), x)
    x = p.select(p.eq(x, math.inf), sys.float_info.max if posinf is None else number(posinf), x)
    return p.select(p.eq(x, -math.inf), -sys.float_info.max if neginf is None else number(neginf), x)


# Activations

relu = _primitive("relu", p.relu, "nn")
relu6 = _primitive("relu6", p.relu6, "nn")
sigmoid = _primitive("sigmoid", p.logistic, "nn")


@_of_numbers("nn")
def leaky_relu(x: Any, negative_slope: Any = 0.01) -> Any:
    """x where it is not negative, else negative_slope · x."""
    return p.select(p.ge(x, 0.0), x, p.mul(negative_slope, x))


@_of_numbers("nn")
def elu(x: Any, alpha: Any = 1.0) -> Any:
    """x where it is positive, else alpha · (exp(x) - 1)."""
    positive = p.gt(x, 0.0)
    return p.select(positive, x, p.mul(alpha, p.expm1(p.select(positive, 0.0, x))))


@_of_numbers("nn")
def selu(x: Any) -> Any:
    """elu with the constants that keep activations normalised (Klambauer et al. 2017)."""
    return p.mul(1.0507009873554804934193349852946, elu(x, 1.6732632423543772848170429916717))


@_of_numbers("nn")
def celu(x: Any, alpha: Any = 1.0) -> Any:
    """max(x, 0) + alpha · (exp(min(x, 0) / alpha) - 1)."""
    return p.add(p.max_(x, 0.0), p.mul(alpha, p.expm1(p.div(p.min_(x, 0.0), alpha))))


@_of_numbers("nn")
def gelu(x: Any, approximate: bool = True) -> Any:
    """x times the normal distribution function, by default approximated with tanh (Hendrycks and Gimpel 2016)."""
    if not approximate:
        return p.mul(p.mul(0.5, x), p.erfc(p.mul(p.neg(x), math.sqrt(0.5))))
    inner = p.mul(math.sqrt(2 / math.pi), p.add(x, p.mul(0.044715, p.integer_pow(x, 3))))
    return p.mul(x, p.mul(0.5, p.add(1.0, p.tanh(inner))))


@_of_numbers("nn")
def silu(x: Any) -> Any:
    """x · sigmoid(x)."""
    return p.mul(x, p.logistic(x))


swish = _of_numbers("nn", "swish")(silu)


@_of_numbers("nn")
def softplus(x: Any) -> Any:
    """log(1 + exp(x))."""
    return p.logaddexp(x, 0.0)


@_of_numbers("nn")
def log_sigmoid(x: Any) -> Any:
    """log(sigmoid(x))."""
    return p.neg(p.logaddexp(p.neg(x), 0.0))


@_of_numbers("nn")
def soft_sign(x: Any) -> Any:
    """x / (1 + |x|)."""
    return p.div(x, p.add(p.abs_(x), 1.0))


@_of_numbers("nn")
def hard_tanh(x: Any) -> Any:
    """x, at least -1 and at most 1."""
    return p.select(p.gt(x, 1.0), 1.0, p.select(p.lt(x, -1.0), -1.0, x))


@_of_numbers("nn")
def hard_sigmoid(x: Any) -> Any:
    """relu6(x + 3) / 6."""
    return p.div(p.relu6(p.add(x, 3.0)), 6.0)


@_of_numbers("nn")
def hard_silu(x: Any) -> Any:
    """x · hard_sigmoid(x)."""
    return p.mul(x, p.div(p.relu6(p.add(x, 3.0)), 6.0))


hard_swish = _of_numbers("nn", "hard_swish")(hard_silu)


@_of_numbers("nn")
def mish(x: Any) -> Any:
    """x · tanh(softplus(x))."""
    return p.mul(x, p.tanh(p.logaddexp(x, 0.0)))


@_of_numbers("nn")
def squareplus(x: Any, b: Any = 4.0) -> Any:
    """(x + √(x² + b)) / 2."""
    return p.div(p.add(x, p.sqrt(p.add(p.square(x), b))), 2.0)


# Special functions

erf = _primitive("erf", p.erf, "special")
erfc = _primitive("erfc", p.erfc, "special")
erfinv = _primitive("erfinv", p.erf_inv, "special")
gammaln = _primitive("gammaln", p.lgamma, "special")
digamma = _primitive("digamma", p.digamma, "special")
betaln = _primitive("betaln", p.betaln, "special")
logit = _primitive("logit", p.logit, "special")
expit = _primitive("expit", p.logistic, "special")
xlogy = _primitive("xlogy", p.xlogy, "special")
xlog1py = _primitive("xlog1py", p.xlog1py, "special")
ndtr = _primitive("ndtr", p.ndtr, "special")
ndtri = _primitive("ndtri", p.ndtri, "special")
log_ndtr = _primitive("log_ndtr", p.log_ndtr, "special")
gamma = _primitive("gamma", p.gamma, "special")
rel_entr = _primitive("rel_entr", p.rel_entr, "special")
kl_div = _primitive("kl_div", p.kl_div, "special")


@_of_numbers("special")
def entr(x: Any) -> Any:
    """-x · log(x), 0 at 0, -inf below."""
    return p.select(p.lt(x, 0.0), -math.inf, p.neg(p.xlogx(x)))


@_of_numbers("special")
def beta(a: Any, b: Any) -> Any:
    """Γ(a) Γ(b) / Γ(a + b)."""
    sign = p.mul(p.mul(p.gamma_sign(a), p.gamma_sign(b)), p.gamma_sign(p.add(a, b)))
    return p.mul(sign, p.exp(p.betaln(a, b)))


@_of_numbers("special")
def factorial(n: Any) -> Any:
    """n! = Γ(n + 1), 0 for a negative n."""
    return p.select(p.lt(n, 0.0), 0.0, p.gamma(p.add(n, 1.0)))


@_of_numbers("special")
def i0(x: Any) -> Any:
    """The modified Bessel function of order 0."""
    return p.bessel_i(0, x)


@_of_numbers("special")
def i1(x: Any) -> Any:
    """The modified Bessel function of order 1."""
    return p.bessel_i(1, x)


@_of_numbers("special")
def erfcx(x: Any) -> Any:
    """exp(x²) · erfc(x)."""
    return p.scaled_erfc(0, x)


def polygamma(n: int, x: Any) -> Any:
    """The derivative of `digamma` of order n, an int from 0 up."""
    if not is_int(n) or n < 0:
        raise _wrong_type("ops.polygamma: the order n must be an int from 0 up, got", n)
    if (ready := number(x)) is NotImplemented:
        return _call_other("special", "polygamma", (int(n), x), {})
    return p.polygamma(int(n), ready) if n else p.digamma(ready)


# Sequences


@_of_sequences()
def sum(xs: Sequence[Any], axis: int | None = None) -> Any:
    """The sum; 0 for no elements."""
    return reduce(p.add, xs) if xs else 0.0


@_of_sequences()
def mean(xs: Sequence[Any], axis: int | None = None) -> Any:
    """The mean; nan for no elements."""
    return p.div(sum(xs), float(len(xs)))


@_of_sequences()
def var(xs: Sequence[Any], axis: int | None = None, *, ddof: float = 0, correction: float | None = None) -> Any:
    """The variance, with the divisor n - ddof (or n - correction, its other name); nan where that is not positive."""
    if ddof and correction is not None:
        raise ValueError("ops.var: ddof and correction are two names of one number; give one of them")
    divisor, middle = len(xs) - (correction or ddof), mean(xs)
    return p.div(sum([p.square(p.sub(x, middle)) for x in xs]), float(divisor)) if divisor > 0 else math.nan


@_of_sequences()
def std(xs: Sequence[Any], axis: int | None = None, *, ddof: float = 0, correction: float | None = None) -> Any:
    """The standard deviation: the square root of `var`."""
    return p.sqrt(var(xs, ddof=ddof, correction=correction))


@_of_sequences()
def cumsum(xs: Sequence[Any], axis: int | None = None) -> list[Any]:
    """The sums of the first 1, 2, … elements."""
    return [*accumulate(xs, p.add)]


@_of_sequences()
def sort(xs: Sequence[Any], axis: int | None = -1, *, descending: bool = False) -> list[Any]:
    """The elements in ascending order, nan last; in the opposite order with `descending`.

    Traced elements are compared and exchanged one by one, n² / 2 times, so that there is no branch on their order.
    """
    ordered = list(xs)
    if not any(isinstance(x, Traced) for x in xs):
        ordered.sort(key=lambda x: (x != x, x))
    else:
        for last in range(len(ordered) - 1, 0, -1):
            for i in range(last):
                x, y = ordered[i : i + 2]
                wrong = p.or_(p.lt(y, x), p.and_(p.ne(x, x), p.eq(y, y)))
                ordered[i : i + 2] = p.select(wrong, y, x), p.select(wrong, x, y)
    return ordered[::-1] if descending else ordered


@_of_sequences()
def median(xs: Sequence[Any], axis: int | None = None) -> Any:
    """The middle element, or the mean of the two in the middle; nan if one element is."""
    if not xs:
        raise ValueError("ops.median of an empty sequence has no value")
    ordered, count = sort(xs), len(xs)
    middle = p.mul(0.5, p.add(ordered[(count - 1) // 2], ordered[count // 2]))
    return p.select(p.eq(ordered[-1], ordered[-1]), middle, math.nan)


@_of_sequences()
def prod(xs: Sequence[Any], axis: int | None = None) -> Any:
    """The product; 1 for no elements."""
    return reduce(p.mul, xs) if xs else 1.0


def _extreme(name: str, primitive: Primitive) -> Function:
    """max or min of a sequence: the elements that attain it share the derivative equally."""

    def extreme(xs: list[Any]) -> Any:
        return reduce(primitive, xs)

    def rule(primals: Any, tangents: Any) -> Any:
        (xs,), (ts,) = primals, tangents
        best = with_rule(xs)
        attained = [p.select(p.eq(x, best), 1.0, 0.0) for x in xs]
        return best, p.div(dot(ts, attained), sum(attained))

    def op(xs: Sequence[Any], axis: int | None = None) -> Any:
        if not xs:
            raise ValueError(f"ops.{name} of an empty sequence has no value")
        return xs[0] if len(xs) == 1 else with_rule(list(xs))

    extreme.__name__ = op.__name__ = op.__qualname__ = name
    op.__doc__ = f"The {name}imum; equal elements share the derivative."
    with_rule: Any = custom_jvp(extreme)
    with_rule.defjvp(rule)
    return _of_sequences()(op)


max = _extreme("max", p.max_)
min = _extreme("min", p.min_)


@_of_sequences()
def dot(xs: Sequence[Any], ys: Sequence[Any]) -> Any:
    """The sum of the products of two sequences of equal length."""
    if len(xs) != len(ys):
        raise ValueError(f"ops.dot takes two sequences of equal length, got {len(xs)} and {len(ys)}")
    return sum([p.mul(x, y) for x, y in zip(xs, ys, strict=True)])


@_of_sequences("linalg")
def norm(xs: Sequence[Any], ord: float | None = None, axis: int | None = None) -> Any:
    """The norm of a vector: Euclidean, or of order 0, 1, 2, inf, -inf or any other number."""
    if ord is None or ord == 2:
        return p.sqrt(sum([p.mul(x, x) for x in xs]))
    sizes = [p.abs_(x) for x in xs]
    if ord in (math.inf, -math.inf):
        return (p.max_(max(sizes), 0.0) if ord > 0 else min(sizes)) if sizes else 0.0
    if ord == 0:
        return sum([p.select(p.ne(x, 0.0), 1.0, 0.0) for x in xs])
    if ord == 1:
        return sum(sizes)
    return p.pow(sum([p.pow(size, float(ord)) for size in sizes]), 1.0 / ord)


@_of_sequences("special")
def logsumexp(xs: Sequence[Any], axis: int | None = None, b: Sequence[Any] | None = None) -> Any:
    """log(Σ exp(x)), without overflow; with weights b, log(Σ b · exp(x)), nan where that sum is negative."""
    if not xs:
        return -math.inf
    weights = None if b is None else _numbers("logsumexp", b)
    if weights is not None:
        if len(weights) != len(xs):
            raise ValueError(f"ops.logsumexp takes a weight b for each number, got {len(weights)} for {len(xs)}")
        xs = [p.select(p.ne(weight, 0.0), x, -math.inf) for x, weight in zip(xs, weights, strict=True)]
    largest = stop_gradient(max(xs))
    largest = p.select(p.lt(p.abs_(largest), math.inf), largest, 0.0)
    scaled = lambda x: p.exp(p.sub(x, largest))  # noqa: E731
    terms = [scaled(x) for x in xs]
    total = sum(terms if weights is None else [p.mul(*pair) for pair in zip(weights, terms, strict=True)])
    result = p.add(p.log(p.abs_(total)), largest)
    return result if weights is None else p.select(p.lt(total, 0.0), math.nan, result)


def _shifted(xs: Sequence[Any]) -> list[Any]:
    """The numbers less the largest of them, lest their exponentials overflow."""
    largest = stop_gradient(max(xs)) if xs else 0.0
    return [p.sub(x, largest) for x in xs]


@_of_sequences("nn")
def softmax(xs: Sequence[Any], axis: int | None = -1) -> list[Any]:
    """exp(x) / Σ exp(x) for each x."""
    weights = [p.exp(x) for x in _shifted(xs)]
    total = sum(weights)
    return [p.div(weight, total) for weight in weights]


@_of_sequences("nn")
def log_softmax(xs: Sequence[Any], axis: int | None = -1) -> list[Any]:
    """The logarithm of softmax."""
    shifted = _shifted(xs)
    total = p.log(sum([p.exp(x) for x in shifted]))
    return [p.sub(x, total) for x in shifted]


__all__ = sorted([*__all__, "clip", "polygamma", "pow", "where"])
