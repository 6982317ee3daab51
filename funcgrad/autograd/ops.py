"""Functions of floats that may be traced, under the names of jax.numpy, jax.nn and jax.scipy.special.

Each takes a float, a traced float, or a JAX value, which it passes to JAX's own function of that name: one function
body runs under both systems. Values and derivatives are JAX's, in double precision.
"""

import importlib
import math
import sys
from collections.abc import Callable, Sequence
from functools import reduce, wraps
from inspect import signature
from typing import Any

from funcgrad.autograd import primitives as p
from funcgrad.autograd import pytrees, tracing
from funcgrad.autograd.custom_rules import custom_jvp, stop_gradient
from funcgrad.autograd.graph import Primitive
from funcgrad.autograd.tracing import Traced, concrete, is_int, number

Function = Callable[..., Any]
_MODULES = {"nn": "jax.nn", "special": "jax.scipy.special", "linalg": "jax.numpy.linalg", "numpy": "jax.numpy"}
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
                return _call_jax(module, op_name, args, kwargs)
            return function(*ready, **kwargs)

        op.__name__ = op_name
        __all__.append(op_name)
        return op

    return make


def _of_sequences(module: str = "numpy") -> Callable[[Function], Function]:
    """The same for a function of sequences: lists, tuples or NumPy arrays of numbers, which have the axis 0 only."""

    def make(function: Function) -> Function:
        name, parameters = function.__name__, list(signature(function).parameters)
        sequences = len({"xs", "ys"} & {*parameters})
        place = parameters.index("axis") if "axis" in parameters else len(parameters)

        @wraps(function)
        def op(*args: Any, **kwargs: Any) -> Any:
            if any(_is_jax(x) for arg in args for x in (arg if isinstance(arg, list | tuple) else (arg,))):
                jnp = importlib.import_module("jax.numpy")
                args = tuple(jnp.stack([*map(jnp.asarray, x)]) if isinstance(x, list | tuple) else x for x in args)
                return _call_jax(module, name, args, kwargs)
            axis = args[place] if len(args) > place else kwargs.get("axis")
            if axis not in (None, 0, -1):
                raise ValueError(f"ops.{name}: axis must be 0, -1 or None for a sequence of numbers, got {axis!r}")
            return function(*[_numbers(name, arg) if i < sequences else arg for i, arg in enumerate(args)], **kwargs)

        __all__.append(name)
        return op

    return make


def _is_jax(x: Any) -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(x, jax.Array)


def _call_jax(module: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of JAX's function. Raises TypeError if no argument is a JAX value."""
    if not any(map(_is_jax, args)):
        wrong = next(x for x in args if number(x) is NotImplemented)
        raise _wrong_type(f"ops.{name} takes floats, traced floats or JAX values, got", wrong)
    return getattr(importlib.import_module(_MODULES[module]), name)(*args, **kwargs)


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
                return _call_jax(module, name, (original,), {})
        return primitive.value(x)

    def binary(x: Any, y: Any, /) -> Any:
        return primitive(x, y)

    function: Function = unary if len(primitive.rules) == 1 else binary
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"JAX's `{_MODULES[module]}.{name}`: the primitive `{primitive.name}`."
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


# Piecewise

maximum = _primitive("maximum", p.max_)
minimum = _primitive("minimum", p.min_)
floor = _primitive("floor", p.floor)
ceil = _primitive("ceil", p.ceil)


def where(condition: Any, x: Any, y: Any) -> Any:
    """x if the condition holds, else y. Both are computed: the other one contributes 0 times its derivative."""
    if any(map(_is_jax, (condition, x, y))):
        return _call_jax("numpy", "where", (condition, x, y), {})
    x, y = (number(branch) for branch in (x, y))
    if x is NotImplemented or y is NotImplemented:
        raise TypeError("ops.where takes a condition and two floats, traced floats or JAX values")
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


@_of_numbers("special")
def entr(x: Any) -> Any:
    """-x · log(x), 0 at 0, -inf below."""
    return p.select(p.lt(x, 0.0), -math.inf, p.neg(p.xlogx(x)))


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
    if weights is None:
        total = p.abs_(sum([scaled(x) for x in xs]))
    else:
        total = sum([p.mul(weight, scaled(x)) for x, weight in zip(xs, weights, strict=True)])
    return p.add(p.log(total), largest)


def _shifted(xs: Sequence[Any]) -> list[Any]:
    """The numbers less the largest of them, lest their exponentials overflow."""
    largest = stop_gradient(max(xs)) if xs else 0.0
    return [p.sub(x, largest) for x in xs]


@_of_sequences("nn")
def softmax(xs: Sequence[Any], axis: int | None = None) -> list[Any]:
    """exp(x) / Σ exp(x) for each x."""
    weights = [p.exp(x) for x in _shifted(xs)]
    total = sum(weights)
    return [p.div(weight, total) for weight in weights]


@_of_sequences("nn")
def log_softmax(xs: Sequence[Any], axis: int | None = None) -> list[Any]:
    """The logarithm of softmax."""
    shifted = _shifted(xs)
    total = p.log(sum([p.exp(x) for x in shifted]))
    return [p.sub(x, total) for x in shifted]


__all__ = sorted([*__all__, "clip", "where"])
