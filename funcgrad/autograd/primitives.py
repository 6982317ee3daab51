"""The primitives: for each its value, its derivative and its source code, in one table.

A rule `lambda t, ans, x: …` is the derivative with respect to one argument as a linear map: it takes a tangent `t` of
that argument, the primitive's result and its arguments, and gives the tangent of the result. The linear map of one
number to one number is its own transpose, so the same rule takes a cotangent backwards: forward mode, reverse mode
and, as rules are made of primitives, derivatives of any order come from this one table. `None` is a derivative that
is zero everywhere. Where a tangent is multiplied twice, JAX's transpose multiplies the other way round, and overflows
elsewhere: such a row has its `reverse` rules too.

Values follow IEEE 754, where Python would raise; derivatives at kinks, zeros and infinities are those of JAX.

`source` is a Python expression that may raise where the value is inf or nan: the compiled code then starts again with
the values of this table. Where no source is given, the compiled code calls the primitive's value by its name.
"""

import math
import operator
from collections.abc import Callable
from functools import partial
from typing import Any

from funcgrad.autograd import bessel, entropy, special
from funcgrad.autograd.graph import Primitive, Rule

inf, nan, pi = math.inf, math.nan, math.pi


TABLE: dict[str, Primitive] = {}


def primitive(
    name: str, value: Callable[..., Any], *rules: Rule | None, source: str = "", reverse: dict[int, Rule] | None = None
) -> Primitive:
    """Adds a row to the table. `reverse` has the rules of reverse mode that differ, by the position of the argument."""
    backwards = tuple([(reverse or {}).get(i, rule) for i, rule in enumerate(rules)])
    TABLE[name] = Primitive(name, value, rules, source, backwards if reverse else ())
    return TABLE[name]


def ieee(function: Callable[..., float], otherwise: float | Callable[..., float]) -> Callable[..., float]:
    """The function; where it raises, `otherwise`: the value of IEEE 754, or a function of the arguments."""

    def value(*args: float) -> float:
        try:
            return function(*args)
        except (ValueError, OverflowError, ZeroDivisionError):
            return otherwise(*args) if callable(otherwise) else otherwise

    return value


def of_math(name: str, *rules: Rule | None, otherwise: float | Callable[..., float] | None = None) -> Primitive:
    """Adds the row of the function of `math` that has this name; where it raises, the value is `otherwise`."""
    function = getattr(math, name)
    value = function if otherwise is None else ieee(function, otherwise)
    return primitive(name, value, *rules, source=f"math.{name}({', '.join(['{}'] * len(rules))})")


# Arithmetic


def _divide(x: float, y: float) -> float:
    try:
        return x / y
    except ZeroDivisionError:
        return nan if x == 0 or x != x else math.copysign(inf, x) * math.copysign(1.0, y)


def _power_at_the_edge(x: float, y: float) -> float:
    if x < 0 and not float(y).is_integer():
        return nan
    size = inf if (abs(x) > 1) == (y > 0) else 0.0  # overflow, or zero to a negative power
    return math.copysign(size, x) if abs(y) < 2**53 and y % 2 == 1 else size  # from 2**53 on every float is even


def _integer_power(x: float, n: int) -> float:
    if n == 2 or n == 3:  # as the compiled code computes them
        return x * x if n == 2 else x * x * x
    if n == -1 or n == -2:
        return _divide(1.0, x if n == -1 else x * x)
    if abs(n) < 2**53:
        return pow.value(x, n)
    return math.copysign(pow.value(abs(x), float(n)), x) if n % 2 else pow.value(abs(x), float(n))


add = primitive("add", operator.add, lambda t, ans, x, y: t, lambda t, ans, x, y: t, source="{} + {}")
sub = primitive("sub", operator.sub, lambda t, ans, x, y: t, lambda t, ans, x, y: neg(t), source="{} - {}")
mul: Primitive = primitive(
    "mul", operator.mul, lambda t, ans, x, y: mul(t, y), lambda t, ans, x, y: mul(x, t), source="{} * {}"
)
neg: Primitive = primitive("neg", operator.neg, lambda t, ans, x: neg(t), source="-{}")
div: Primitive = primitive(
    "div",
    _divide,
    lambda t, ans, x, y: div(t, y),
    lambda t, ans, x, y: mul(mul(neg(t), x), integer_pow(y, -2)),
    source="{} / {}",
    reverse={1: lambda t, ans, x, y: mul(mul(neg(t), integer_pow(y, -2)), x)},
)
square = primitive("square", lambda x: x * x, lambda t, ans, x: mul(t, mul(2.0, x)), source="{0} * {0}")


def _integer_pow_rule(t: Any, ans: Any, x: Any, n: int) -> Any:
    if n == 0:
        return 0.0  # as in JAX: a number in forward mode, where 0 · inf is nan, but no cotangent in reverse mode
    if n == 1:
        return t
    return mul(t, mul(float(n), x if n == 2 else integer_pow(x, n - 1)))


integer_pow: Primitive = primitive(  # its source depends on n
    "integer_pow",
    _integer_power,
    _integer_pow_rule,
    None,
    reverse={0: lambda t, ans, x, n: _integer_pow_rule(t, ans, x, n) if n else None},
)
pow: Primitive = of_math(
    "pow",
    lambda t, ans, x, y: mul(t, mul(y, pow(x, sub(y, 1.0)))),
    lambda t, ans, x, y: mul(t, mul(log_or_zero(x), ans)),
    otherwise=_power_at_the_edge,
)


# Roots, exponentials and logarithms

sqrt = of_math("sqrt", lambda t, ans, x: mul(t, div(0.5, ans)), otherwise=nan)
rsqrt = primitive(
    "rsqrt",
    lambda x: _divide(1.0, sqrt.value(x)),
    lambda t, ans, x: mul(t, mul(-0.5, div(ans, x))),
    source="1.0 / math.sqrt({})",
)
cbrt = of_math("cbrt", lambda t, ans, x: mul(t, mul(1 / 3, integer_pow(ans, -2))))
exp: Primitive = of_math("exp", lambda t, ans, x: mul(t, ans), otherwise=inf)
exp2 = of_math("exp2", lambda t, ans, x: mul(math.log(2), mul(t, ans)), otherwise=inf)
expm1 = of_math("expm1", lambda t, ans, x: mul(t, exp(x)), otherwise=inf)


def _at_the_pole(x: float) -> float:
    return -inf if x == 0 else nan


log: Primitive = of_math("log", lambda t, ans, x: div(t, x), otherwise=_at_the_pole)
log_or_zero: Primitive = primitive(  # as in JAX, keeps log(0) out of the derivative of a power
    "log_or_zero", lambda x: log.value(x) if x else 0.0, lambda t, ans, x: select(eq(x, 0.0), 0.0, div(t, x))
)
log2 = of_math("log2", lambda t, ans, x: div(div(t, math.log(2)), x), otherwise=_at_the_pole)
log10 = of_math("log10", lambda t, ans, x: div(mul(t, 1 / math.log(10)), x), otherwise=_at_the_pole)
log1p = of_math("log1p", lambda t, ans, x: div(t, add(x, 1.0)), otherwise=lambda x: _at_the_pole(x + 1.0))


def _logistic(x: float) -> float:
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    e = math.exp(x)
    return e / (1.0 + e)


def _finite(x: Any) -> Any:  # as in JAX, keeps inf - inf out of a derivative
    return select(eq(x, inf), 0.0, x)


def _log_add(name: str, exponential: Primitive, scale: float) -> Primitive:
    """The row of log(b^x + b^y), where `exponential` is b^x and `scale` is 1 / log(b)."""

    def value(x: float, y: float) -> float:
        delta = x - y
        return x + y if delta != delta else (x if x > y else y) + scale * math.log1p(exponential.value(-abs(delta)))

    def rule(t: Any, ans: Any, x: Any) -> Any:
        return mul(t, exponential(sub(_finite(x), _finite(ans))))

    return primitive(name, value, lambda t, ans, x, y: rule(t, ans, x), lambda t, ans, x, y: rule(t, ans, y))


logistic = primitive("logistic", _logistic, lambda t, ans, x: mul(t, mul(ans, sub(1.0, ans))))
logaddexp = _log_add("logaddexp", exp, 1.0)
logaddexp2 = _log_add("logaddexp2", exp2, 1 / math.log(2))
logit = primitive("logit", lambda x: log.value(_divide(x, 1.0 - x)), lambda t, ans, x: div(t, mul(x, sub(1.0, x))))


def _x_log(name: str, logarithm: Primitive, denominator: Callable[[Any], Any]) -> Primitive:
    """The row of x · logarithm(y), 0 where x is; the derivative of the logarithm is 1 / denominator(y)."""
    return primitive(
        name,
        lambda x, y: 0.0 if x == 0 and y == y else x * logarithm.value(y),
        lambda t, ans, x, y: mul(t, logarithm(y)),
        lambda t, ans, x, y: div(mul(t, x), denominator(y)),
        reverse={1: lambda t, ans, x, y: mul(div(t, denominator(y)), x)},
    )


xlogy = _x_log("xlogy", log, lambda y: y)
xlog1py = _x_log("xlog1py", log1p, lambda y: add(1.0, y))
xlogx = primitive("xlogx", lambda x: 0.0 if x == 0 else x * log.value(x), lambda t, ans, x: mul(t, add(log(x), 1.0)))

# Trigonometric and hyperbolic functions


def _signed_infinity(x: float) -> float:
    return math.copysign(inf, x)


def _sech2(x: float) -> float:
    e = math.exp(-2.0 * abs(x))
    return 4.0 * e / ((1.0 + e) * (1.0 + e))


sin = of_math("sin", lambda t, ans, x: mul(t, cos(x)), otherwise=nan)
cos: Primitive = of_math("cos", lambda t, ans, x: neg(mul(t, sin(x))), otherwise=nan)
tan = of_math("tan", lambda t, ans, x: mul(t, add(1.0, square(ans))), otherwise=nan)
asin = of_math("asin", lambda t, ans, x: mul(t, rsqrt(one_minus_square(x))), otherwise=nan)
acos = of_math("acos", lambda t, ans, x: mul(t, neg(rsqrt(one_minus_square(x)))), otherwise=nan)
atan = of_math("atan", lambda t, ans, x: div(t, add(1.0, square(x))))
atan2 = of_math(
    "atan2",
    lambda t, ans, x, y: mul(t, div(y, add(square(x), square(y)))),
    lambda t, ans, x, y: mul(t, div(neg(x), add(square(x), square(y)))),
)
sinh = of_math("sinh", lambda t, ans, x: mul(t, cosh(x)), otherwise=_signed_infinity)
cosh: Primitive = of_math("cosh", lambda t, ans, x: mul(t, sinh(x)), otherwise=inf)
tanh = of_math("tanh", lambda t, ans, x: mul(t, sech2(x)))
sech2: Primitive = primitive(  # 1 - tanh², without cancellation
    "sech2", _sech2, lambda t, ans, x: mul(t, mul(-2.0, mul(tanh(x), ans)))
)
asinh = of_math("asinh", lambda t, ans, x: div(t, hypot(x, 1.0)))
acosh = of_math("acosh", lambda t, ans, x: mul(t, mul(rsqrt(sub(x, 1.0)), rsqrt(add(x, 1.0)))), otherwise=nan)
atanh = of_math(
    "atanh",
    lambda t, ans, x: div(t, one_minus_square(x)),
    otherwise=lambda x: _signed_infinity(x) if abs(x) == 1 else nan,
)
hypot: Primitive = of_math(
    "hypot", lambda t, ans, x, y: mul(t, part_of_hypot(x, y)), lambda t, ans, x, y: mul(t, part_of_hypot(y, x))
)
part_of_hypot: Primitive = primitive(  # x / √(x² + y²): a sine, whose derivative has a cosine of the same kind
    "part_of_hypot",
    lambda x, y: _divide(x, math.hypot(x, y)),
    lambda t, ans, x, y: div(mul(t, one_minus_square(ans)), hypot(x, y)),
    lambda t, ans, x, y: neg(div(mul(t, mul(ans, part_of_hypot(y, x))), hypot(x, y))),
)
one_minus_square: Primitive = primitive(  # 1 - x², without cancellation
    "one_minus_square", lambda x: (1.0 - x) * (1.0 + x), lambda t, ans, x: mul(t, mul(-2.0, x))
)

# Piecewise: comparisons, selection, rounding


def _round(function: Callable[[float], int], x: float) -> float:
    return math.copysign(float(function(x)), x) if abs(x) < 2**52 else x


def _maximum(x: float, y: float) -> float:
    if x > y or x != x:
        return x
    return y if y > x or y != y or x else x + y  # +0 for +0 and -0


def _minimum(x: float, y: float) -> float:
    return -_maximum(-x, -y)


def _share(x: float, z: float, y: float) -> float:
    return 0.0 if x != z else 0.5 if y == z else 1.0


def _guard(x: Any, outcome: Any) -> Any:
    if x != outcome and x == x:
        raise ValueError(f"these arguments take another branch: in this graph a condition is {outcome}, here it is {x}")
    return x


lt = primitive("lt", operator.lt, None, None, source="{} < {}")
le = primitive("le", operator.le, None, None, source="{} <= {}")
gt = primitive("gt", operator.gt, None, None, source="{} > {}")
ge = primitive("ge", operator.ge, None, None, source="{} >= {}")
eq: Primitive = primitive("eq", operator.eq, None, None, source="{} == {}")
ne = primitive("ne", operator.ne, None, None, source="{} != {}")
and_ = primitive("and", operator.and_, None, None, source="{} & {}")
or_ = primitive("or", operator.or_, None, None, source="{} | {}")
xor = primitive("xor", operator.xor, None, None, source="{} ^ {}")
not_ = primitive("not", operator.not_, None, source="not {}")
stop_gradient = primitive("stop_gradient", lambda x: x, None)
guard = primitive("guard", _guard, None, None)
select: Primitive = primitive(
    "select",
    lambda condition, x, y: x if condition else y,
    None,
    lambda t, ans, condition, x, y: select(condition, t, 0.0),
    lambda t, ans, condition, x, y: select(condition, 0.0, t),
    source="{1} if {0} else {2}",
)
abs_ = primitive("abs", operator.abs, lambda t, ans, x: select(ge(x, 0.0), t, neg(t)), source="abs({})")
_rules_of_extremes = (lambda t, ans, x, y: mul(t, share(x, ans, y)), lambda t, ans, x, y: mul(t, share(y, ans, x)))
max_ = primitive("max", _maximum, *_rules_of_extremes)
min_ = primitive("min", _minimum, *_rules_of_extremes)
share: Primitive = primitive("share", _share, None, None, None)  # the derivative of max or min with respect to x
relu = primitive(
    "relu",
    lambda x: x if x > 0.0 or x != x else 0.0,
    lambda t, ans, x: select(gt(x, 0.0), t, 0.0),
    source="{0} if {0} > 0.0 or {0} != {0} else 0.0",
)
relu6 = primitive(
    "relu6", lambda x: _minimum(_maximum(x, 0.0), 6.0), lambda t, ans, x: select(and_(gt(x, 0.0), lt(x, 6.0)), t, 0.0)
)
sign = primitive("sign", lambda x: x if x == 0 or x != x else math.copysign(1.0, x), None)
signbit = primitive("signbit", lambda x: math.copysign(1.0, x) < 0, None)
floor = primitive("floor", partial(_round, math.floor), None)
ceil = primitive("ceil", partial(_round, math.ceil), None)
round_ = primitive("round", partial(_round, round), None)  # half to even
rem = primitive(
    "rem",
    ieee(math.fmod, nan),
    lambda t, ans, x, y: t,
    lambda t, ans, x, y: mul(neg(t), mul(sign(div(x, y)), floor(abs_(div(x, y))))),
    source="math.fmod({}, {})",
)
to_int = primitive("int", int, None, source="int({})")  # only used by guards

# Special functions

_TWO_OVER_ROOT_PI = 2 / math.sqrt(pi)
erf = of_math("erf", lambda t, ans, x: mul(_TWO_OVER_ROOT_PI, mul(t, gaussian(x))))
erfc = of_math("erfc", lambda t, ans, x: mul(-_TWO_OVER_ROOT_PI, mul(t, gaussian(x))))
gaussian: Primitive = primitive(  # exp(-x²); its derivative vanishes with it, at infinite x too
    "gaussian", special.gaussian, lambda t, ans, x: mul(t, select(eq(ans, 0.0), 0.0, mul(-2.0, mul(x, ans))))
)
erf_inv = primitive("erf_inv", special.erfinv, lambda t, ans, x: mul(1 / _TWO_OVER_ROOT_PI, mul(t, exp(square(ans)))))
lgamma = primitive("lgamma", special.gammaln, lambda t, ans, x: mul(t, digamma(x)))
digamma: Primitive = primitive("digamma", special.digamma, lambda t, ans, x: mul(t, polygamma(1, x)))
polygamma: Primitive = primitive("polygamma", special.polygamma, None, lambda t, ans, n, x: mul(t, polygamma(n + 1, x)))
betaln = primitive(
    "betaln",
    special.betaln,
    lambda t, ans, a, b: mul(t, sub(digamma(a), digamma(add(a, b)))),
    lambda t, ans, a, b: mul(t, sub(digamma(b), digamma(add(a, b)))),
)
ndtr = primitive(
    "ndtr", special.ndtr, lambda t, ans, x: mul(t, mul(1 / math.sqrt(2 * pi), gaussian(mul(math.sqrt(0.5), x))))
)
ndtri = primitive("ndtri", special.ndtri, lambda t, ans, p: mul(t, slope_of_ndtri(p, ans)))
slope_of_ndtri: Primitive = primitive(  # of p and x = ndtri(p), whose derivative overflows where that of JAX does
    "slope_of_ndtri",
    lambda p, x: math.sqrt(2 * pi) * exp.value(0.5 * x * x),
    lambda t, ans, p, x: mul(t, mul(mul(x, ans), ans)),
    None,
)
log_ndtr = primitive(
    "log_ndtr",
    special.log_ndtr,
    lambda t, ans, x: mul(t, exp(sub(sub(mul(-0.5, square(x)), math.log(2 * pi) / 2), ans))),
)
gamma_sign = primitive("gamma_sign", special.gamma_sign, None)
gamma: Primitive = primitive(
    "gamma",
    special.gamma,
    lambda t, ans, x: mul(mul(t, digamma(x)), ans),
    reverse={0: lambda t, ans, x: mul(mul(t, ans), digamma(x))},
)


def _bessel_slope(t: Any, ans: Any, n: int, x: Any) -> Any:
    if n == 0:
        return mul(t, bessel_i(1, x))
    return mul(t, mul(0.5, add(bessel_i(n - 1, x), bessel_i(n + 1, x))))


bessel_i: Primitive = primitive("bessel_i", bessel.bessel_i, None, _bessel_slope)
scaled_erfc: Primitive = primitive(
    "scaled_erfc",
    special.scaled_erfc,
    None,
    lambda t, ans, n, x: mul(t, mul(-2.0 * (n + 1), scaled_erfc(n + 1, x))),
)
log_ratio: Primitive = primitive(
    "log_ratio", entropy.log_ratio, lambda t, ans, x, y: div(t, x), lambda t, ans, x, y: neg(div(t, y))
)


def _entropy(name: str, value: Callable[[float, float], float], slope: float) -> Primitive:
    """The row of rel_entr or kl_div, whose derivatives are log(x / y) + slope and 1 - slope - x / y."""

    def safe(x: Any, y: Any, then: Callable[[Any, Any], Any], otherwise: Any) -> Any:
        """then(x, y) where both are positive; elsewhere its own derivative would be infinite."""
        positive = and_(gt(x, 0.0), gt(y, 0.0))
        inside = select(positive, then(select(positive, x, 1.0), select(positive, y, 1.0)), otherwise)
        return select(or_(ne(x, x), ne(y, y)), nan, inside)

    def by_x(x: Any, y: Any) -> Any:
        return safe(x, y, lambda x, y: add(log_ratio(x, y), slope), 0.0)

    def by_y(x: Any, y: Any) -> Any:
        return safe(x, y, below, select(and_(eq(x, 0.0), ge(y, 0.0)), 1.0 - slope, 0.0))

    def below(x: Any, y: Any) -> Any:
        if slope:
            return neg(div(x, y))
        finite = lt(y, inf)
        x, y = select(finite, x, 1.0), select(finite, y, 1.0)
        return select(finite, neg(div(sub(x, y), y)), 1.0)

    return primitive(name, value, lambda t, ans, x, y: mul(t, by_x(x, y)), lambda t, ans, x, y: mul(t, by_y(x, y)))


rel_entr = _entropy("rel_entr", entropy.rel_entr, 1.0)
kl_div = _entropy("kl_div", entropy.kl_div, 0.0)
label = primitive("label", lambda x, name: x, lambda t, ans, x, name: t, None)  # only names x
