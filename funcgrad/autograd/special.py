"""Special functions of one Python float, in double precision, from the standard library alone.

The scalar counterparts of `jax.scipy.special`: the normal distribution, the inverse error function, and the logarithm
of the gamma function with all its derivatives. Every function accepts any float and never raises: undefined values are
nan and poles ±inf, as in JAX's float64, except that finite values which JAX loses to overflow or underflow are returned
here. Where the function is well conditioned the result is within 4 units in the last place, measured against 50 digits.
"""

import math
from collections.abc import Iterable
from math import erf, erfc

_INF, _NAN = math.inf, math.nan
_TWO_OVER_ROOT_PI = 1.1283791670955126
_HALF_ROOT_PI = 0.886226925452758
_HALF_LOG_2_PI = 0.9189385332046728

# 1/√2 and the positive root of ψ, each as a double and the remainder.
_ROOT_HALF, _ROOT_HALF_REST = 0.7071067811865476, -4.833646656726457e-17
_PSI_ROOT, _PSI_ROOT_REST = 1.4616321449683622, 9.549995429965697e-17

# Polynomial coefficients, the highest power first.

# Fits at Chebyshev points of two functions divided by their roots, which keeps the relative accuracy there:
# log Γ(x) / ((x − 1)(x − 2)) for 1 ≤ x ≤ 2.5 in x − 1.75, and ψ(x) / (x − root) for 1 ≤ x ≤ 2 in x − 1.5.
# Their relative errors are 6.4e-18 and 1.6e-17.
_LOG_GAMMA_FIT = (
    *(8.702854149462274e-08, -1.577723410210679e-07, -1.9561462574604242e-08, 3.404324894896923e-08),
    *(4.142761109248788e-07, -7.562612463459416e-07, 9.597109616498142e-07, -1.76764375827818e-06),
    *(3.5071990932812468e-06, -6.487859797094674e-06, 1.194925036645649e-05, -2.226821449897537e-05),
    *(4.170547456941329e-05, -7.8464050392945e-05, 0.0001485167612603942, -0.00028319036037842405),
    *(0.0005448969907212743, -0.0010605660937984334, 0.0020955338799232407, -0.004226194125189418),
    *(0.008776370425257302, -0.019053957830260832, 0.044520447198509644, -0.11948158662524268),
    0.4501393121092563,
)
_DIGAMMA_FIT = (
    *(-0.00017312261802727394, 0.00025968482126430747, -0.00015148586836773365, 0.0002272331660987376),
    *(-0.0004821990530566789, 0.0007233266279287554, -0.0010376374098418604, 0.0015566317474486838),
    *(-0.002345267632540769, 0.003519006401502276, -0.005279964873257405, 0.007926944646403797),
    *(-0.011908218001568644, 0.0179072524394512, -0.02697579675613825, 0.04076083381242074),
    *(-0.061922133273064534, 0.09498872445494122, -0.14840492305390884, 0.2405424842407742),
    *(-0.4236274212814605, 0.951055876031833),
)

# Bernoulli numbers B(2k), k = 1 …, and the coefficients of three asymptotic series.
_BERNOULLI = (
    *(1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798, -174611 / 330),
    *(854513 / 138, -236364091 / 2730, 8553103 / 6),
)
_STIRLING = tuple(b / (2 * k * (2 * k - 1)) for k, b in enumerate(_BERNOULLI[:10], 1))[::-1]
_SHORT_STIRLING = tuple(1.0 / d for d in (-360360.0 / 691.0, 1188.0, -1680.0, 1260.0, -360.0, 12.0))
_DIGAMMA_SERIES = tuple(b / (2 * k) for k, b in enumerate(_BERNOULLI[:9], 1))[::-1]
_EULER_MACLAURIN = tuple(b / math.factorial(2 * k) for k, b in enumerate(_BERNOULLI, 1))

# Wichura's rational functions (AS 241, PPND16) for the middle, the tail and the far tail: the eight coefficients of the
# numerator, then those of the denominator.
_MIDDLE = (
    *(2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4),
    *(1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0),
    *(5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4),
    *(5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0),
)
_TAIL = (
    *(7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0),
    *(3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0),
    *(1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1),
    *(6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0, 1.0),
)
_FAR_TAIL = (
    *(2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2),
    *(2.96560571828504891230e-1, 1.78482653991729133580e0, 5.46378491116411436990e0, 6.65790464350110377720e0),
    *(2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4),
    *(1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0),
)


def polynomial(coefficients: Iterable[float], x: float) -> float:
    """Horner's rule, the highest power first."""
    total = 0.0
    for coefficient in coefficients:
        total = total * x + coefficient
    return total


# The normal distribution


def _halves(x: float) -> tuple[float, float]:
    """x as two numbers of 26 bits, whose products with such numbers are exact: Veltkamp's split."""
    big = 134217729.0 * x  # 2²⁷ + 1
    high = big - (big - x)
    return high, x - high


_ROOT_HALF_HIGH, _ROOT_HALF_LOW = _halves(_ROOT_HALF)


def _over_root_2(x: float) -> tuple[float, float]:
    """x/√2 as a double and its rounding error: Dekker, A floating-point technique, Numer. Math. 18 (1971)."""
    product = x * _ROOT_HALF
    high, low = _halves(x)
    rest = ((high * _ROOT_HALF_HIGH - product) + high * _ROOT_HALF_LOW + low * _ROOT_HALF_HIGH) + low * _ROOT_HALF_LOW
    return product, rest + x * _ROOT_HALF_REST


def ndtr(x: float) -> float:
    """Φ(x), the normal distribution function: erfc(−x/√2)/2, corrected for the rounding error of x/√2.

    That error costs the left tail x² units in the last place, up to a thousand; one step of Taylor's series removes
    it. Abramowitz & Stegun, 7.1.1 and 26.2.29.
    """
    if x < -39.0:
        return 0.0
    if x > 9.0:
        return 1.0
    w, rest = _over_root_2(x)
    return 0.5 * (erfc(-w) + _TWO_OVER_ROOT_PI * math.exp(-w * w) * rest)


def log_ndtr(x: float) -> float:
    """log Φ(x), accurate in both tails: −Φ(−x) far to the right, −x²/2 − log(−x√(2π)) + … far to the left.

    Abramowitz & Stegun, 26.2.12, is the asymptotic series, used where Φ itself would be near the smallest doubles.
    """
    if x > 0.0:
        return math.log1p(-ndtr(-x))
    if not x < -37.0:
        return math.log(ndtr(x))
    if x == -_INF:
        return x
    u = 1.0 / (x * x)
    series = polynomial((945.0, -105.0, 15.0, -3.0, 1.0), u)
    return -0.5 * x * x - (math.log(-x) + _HALF_LOG_2_PI - math.log1p(-u * series))


def _normal_middle(q: float) -> float:
    """Φ⁻¹(0.5 + q) for |q| ≤ 0.425, to 4 units in the last place."""
    r = 0.180625 - q * q
    return q * polynomial(_MIDDLE[:8], r) / polynomial(_MIDDLE[8:], r)


def _normal_tail(p: float) -> float:
    """−Φ⁻¹(p) for 0 < p ≤ 0.075: Wichura's value and a Newton step for the logarithm, which has no underflow."""
    log_p = math.log(p)
    r = math.sqrt(-log_p)
    fit, r = (_TAIL, r - 1.6) if r <= 5.0 else (_FAR_TAIL, r - 5.0)
    z = polynomial(fit[:8], r) / polynomial(fit[8:], r)
    # The slope of −log Φ(−z), to the digit or two that so small a step needs: Sampford, Ann. Math. Stat. 24.
    slope = 0.25 * (3.0 * z + math.sqrt(z * z + 8.0))
    return z + (log_ndtr(-z) - log_p) / slope


def ndtri(p: float) -> float:
    """Φ⁻¹(p), the normal quantile: −inf at 0, inf at 1 and nan outside [0, 1].

    Wichura, Algorithm AS 241: The Percentage Points of the Normal Distribution, Applied Statistics 37 (1988), and a
    Newton step, which halves the rounding error.
    """
    if not 0.0 < p < 1.0:
        return -_INF if p == 0.0 else _INF if p == 1.0 else _NAN
    q = p - 0.5
    if abs(q) <= 0.425:
        z = _normal_middle(q)
        w, rest = _over_root_2(z)
        slope = _TWO_OVER_ROOT_PI * math.exp(-w * w)
        return z + (2.0 * q - (erf(w) + slope * rest)) / (slope * _ROOT_HALF)
    return -_normal_tail(p) if q < 0.0 else _normal_tail(1.0 - p)


def erfinv(x: float) -> float:
    """The inverse of erf: ±inf at ±1 and nan outside [−1, 1].

    erf⁻¹(x) = Φ⁻¹((1 + x)/2)/√2, as `ndtri` has it; Wichura's functions need (1 ± x)/2 only where it is exact.
    """
    size = abs(x)
    if not size < 1.0:
        return math.copysign(_INF, x) if size == 1.0 else _NAN
    if size < 1e-8:  # the cube is below rounding, and half a subnormal number is not exact
        return x * _HALF_ROOT_PI
    if size <= 0.85:
        w = _ROOT_HALF * _normal_middle(0.5 * x)
        return w + (x - erf(w)) * _HALF_ROOT_PI * math.exp(w * w)
    return math.copysign(_ROOT_HALF * _normal_tail(0.5 * (1.0 - size)), x)


# The gamma function


def gammaln(x: float) -> float:
    """log |Γ(x)|: inf at zero, at the negative integers, at both infinities and where it overflows (x > 2.55e305).

    Stirling's series from 8 on (Abramowitz & Stegun, 6.1.41); recurrence and a polynomial without the roots 1 and 2
    below (6.1.15); reflection left of −1 (6.1.17), where near the roots, and all along from −2.75 to −2.45 between two
    of them, only the absolute error is small: 3e-16 there.
    """
    if x != x or math.isinf(x):
        return x * x
    if x >= 8.0:
        return (x - 0.5) * (math.log(x) - 1.0) + (_HALF_LOG_2_PI - 0.5 + polynomial(_STIRLING, 1.0 / (x * x)) / x)
    if x >= 1.0:
        product = 1.0
        while x > 2.5:
            x -= 1.0
            product *= x
        return (x - 1.0) * (x - 2.0) * polynomial(_LOG_GAMMA_FIT, x - 1.75) + math.log(product)
    if x > 0.0:
        return x * (x - 1.0) * polynomial(_LOG_GAMMA_FIT, x - 0.75) - math.log(x)
    if x == math.floor(x):
        return _INF
    if x > -1.0:
        return (x + 1.0) * x * polynomial(_LOG_GAMMA_FIT, x + 0.25) - math.log(-x * (x + 1.0))
    return math.log(math.pi / abs(x * math.sin(math.pi * (x - round(x))))) - gammaln(-x)


def _pi_cotangent(x: float) -> float:
    """π cot(πx) for a non-integer x, from its exact distance to the nearest one."""
    f = x - round(x)
    if abs(f) <= 0.25:
        return math.pi / math.tan(math.pi * f)
    return math.copysign(math.pi * math.tan(math.pi * (0.5 - abs(f))), f)


def digamma(x: float) -> float:
    """ψ(x) = d/dx log Γ(x): −inf at zero of either sign, nan at the negative integers and −inf.

    Bernardo, Algorithm AS 103: Psi (Digamma) Function, Applied Statistics 25 (1976): the asymptotic series from 10
    on and recurrence below, here to 1 ≤ x ≤ 2, where a polynomial without the root 1.46… keeps the relative accuracy.
    Reflection left of zero (Abramowitz & Stegun, 6.3.7), where near ψ's roots only the absolute error is small.
    """
    if x >= 10.0:
        u = 1.0 / (x * x)
        return math.log(x) - (0.5 / x + u * polynomial(_DIGAMMA_SERIES, u))
    if x > 0.0:
        recurrence = 0.0
        while x > 2.0:
            x -= 1.0
            recurrence += 1.0 / x
        if x < 1.0:
            recurrence = -1.0 / x
            x += 1.0
        fit = polynomial(_DIGAMMA_FIT, x - 1.5)
        return ((x - _PSI_ROOT) - _PSI_ROOT_REST) * fit + recurrence
    if x == 0.0:
        return -_INF
    if math.isinf(x) or x != x or x == math.floor(x):
        return _NAN
    return digamma(1.0 - x) - _pi_cotangent(x)


def _hurwitz(s: int, x: float, unit: float) -> float:
    """unitˢ ζ(s, x) = Σ ((x + k)/unit)⁻ˢ over k ≥ 0, for s ≥ 2 and x > 0, by Euler and Maclaurin.

    Johansson, Rigorous high-precision computation of the Hurwitz zeta function, Numer. Algorithms 69 (2015), eq. 5.
    """
    terms: list[float] = []
    a = x
    while a < 10.0 + s:
        terms.append((a / unit) ** -s)
        if terms[-1] <= 1e-18 * terms[0]:
            return math.fsum(terms)
        a = x + len(terms)
    rest, factor, square = 0.5, s / a, a * a
    for k, coefficient in enumerate(_EULER_MACLAURIN):
        rest += coefficient * factor
        factor *= (s + 2 * k + 1) * (s + 2 * k + 2) / square
    terms.append((a / unit) ** -s * (a / (s - 1) + rest))
    return math.fsum(terms)


def _factorial_zeta(n: int, zeta: float, exponent: int) -> float:
    """n! ζ 2^exponent for 1 ≤ n ≤ 170: no factor overflows or underflows before the product does."""
    fraction, power = math.frexp(math.factorial(n))
    try:
        return math.ldexp(fraction * zeta, power + exponent)
    except OverflowError:
        return math.copysign(_INF, zeta)


def polygamma(n: int, x: float) -> float:
    """ψ⁽ⁿ⁾(x), the derivative of order n of `digamma`; nan for n < 0, and from 171 on, where n! overflows.

    For n > 0 this is (−1)ⁿ⁺¹ n! ζ(n + 1, x). At zero, the negative integers and −inf it is inf for odd n and nan for
    even n; at inf it is nan: JAX's values. Left of zero ζ is the sum over all the integers, which has the period 1,
    less the terms of the other side; there the functions of even n have roots, and near them only the absolute error
    is small. NIST Digital Library of Mathematical Functions, 5.15.1 and 25.11.1.
    """
    if n < 1:
        return digamma(x) if n == 0 else _NAN
    odd, s = n % 2, n + 1
    if math.isnan(x) or x == _INF:
        return _NAN
    if x <= 0.0 and (x == -_INF or x == math.floor(x)):
        return _INF if odd else _NAN
    if n > 170:
        return _NAN
    sign = 1.0 if odd else -1.0
    if x > 0.0:
        exponent = math.frexp(x)[1] - 1
        return sign * _factorial_zeta(n, _hurwitz(s, x, math.ldexp(1.0, exponent)), -s * exponent)
    f = x - round(x)
    distance = abs(f)
    if distance == 0.5 and not odd:
        return polygamma(n, 1.0 - x)  # everything below cancels
    zeta_sign = 1.0 if odd else math.copysign(1.0, f)
    exponent = math.frexp(distance)[1] - 1
    left, right, beyond = (_hurwitz(s, y, math.ldexp(1.0, exponent)) for y in (distance, 1.0 - distance, 1.0 - x))
    zeta = left + right - beyond if odd else zeta_sign * (left - right) + beyond
    return sign * _factorial_zeta(n, zeta, -s * exponent)


def gamma_sign(x: float) -> float:
    """The sign of Γ(x): -1 at -0, nan at the negative integers."""
    if x < 0.0:
        return _NAN if x % 1.0 == 0.0 or x == -_INF else 1.0 if x % 2.0 < 1.0 else -1.0
    return x if x != x else math.copysign(1.0, x)


def gamma(x: float) -> float:
    """Γ(x): ±inf at ±0, nan at the negative integers and at -inf."""
    try:
        return math.gamma(x)
    except OverflowError:
        return math.copysign(_INF, x)
    except ValueError:
        return math.copysign(_INF, x) if x == 0.0 else _NAN


def gaussian(x: float) -> float:
    """exp(-x²) without rounding the square: that of the high part of x is exact (Dekker 1971)."""
    if not abs(x) < 28:
        return x if x != x else 0.0
    large, small = _halves(x)
    return math.exp(-large * large) * math.exp(-small * (large + x))


# The scaled error function


def scaled_erfc(n: int, x: float) -> float:
    """exp(x²) iⁿerfc(x), where iⁿerfc is the n-th integral of erfc from x to ∞; exp(x²) erfc(x) for n = 0.

    By its definition for n = 0; from there by the recurrence of the integrals (Abramowitz & Stegun, 7.2.5), forwards
    left of 1/2, and right of it by the continued fraction that this is backwards.
    """
    if x != x:
        return x
    if n == 0 and x < 25.0:
        return _INF if x < -27.0 else erfc(x) / gaussian(x)
    if x < 0.5:
        before, value = _TWO_OVER_ROOT_PI, scaled_erfc(0, x)
        for k in range(1, n + 1):
            before, value = value, (before - 2.0 * x * value) / (2.0 * k)
        return value
    ratio, value = 0.0, _TWO_OVER_ROOT_PI
    for k in range(n + 20 + int(180.0 / (x * x)), 0, -1):
        ratio = 0.5 / (x + k * ratio)  # of the integral number k - 1 to the one before it
        value *= ratio if k <= n + 1 else 1.0
    return value


def betaln(a: float, b: float) -> float:
    """log B(a, b) = log Γ(a) + log Γ(b) - log Γ(a + b), without the cancellation where an argument is large.

    There log Γ is Stirling's series, whose large terms are combined by hand (Didonato and Morris, "Algorithm 708", ACM
    TOMS 18, 1992). Other arguments than positive ones give what the formula gives.
    """
    if a != a or b != b:
        return a + b
    a, b = min(a, b), max(a, b)
    if not (a > 0 and _LARGE <= b < math.inf):
        return gammaln(a) + gammaln(b) - gammaln(a + b)
    tail = _stirling_rest(b) - _stirling_rest(a + b)
    if a >= _LARGE:
        start = 0.5 * math.log(2 * math.pi / b) + _stirling_rest(a) + tail
        return start - (a - 0.5) * math.log1p(b / a) - b * math.log1p(a / b)
    return gammaln(a) - a * (math.log(b) - 1.0) - (a + b - 0.5) * math.log1p(a / b) + tail


_LARGE = 10.0


def _stirling_rest(x: float) -> float:
    """log Γ(x) - (x - 1/2) log x + x - log(2π) / 2 for x >= 10: Stirling's series."""
    return polynomial(_SHORT_STIRLING, 1.0 / (x * x)) / x
