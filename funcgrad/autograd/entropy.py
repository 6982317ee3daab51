"""Relative entropy of two Python floats, in double precision, with the values of SciPy and JAX at zero."""

import math

from funcgrad.autograd.special import polynomial

_INF = math.inf
_KL_SERIES = tuple((-1.0) ** k / (k * (k - 1)) for k in range(18, 1, -1))


def log_ratio(p: float, q: float) -> float:
    """log(p / q) of positive numbers, without cancellation near 1 and where the quotient overflows; else nan."""
    if not (p > 0.0 and q > 0.0):
        return math.nan
    ratio = p / q
    if 0.5 < ratio < 2.0:
        return math.log1p((p - q) / q)
    return math.log(ratio) if 2.0**-1022 < ratio < _INF else math.log(p) - math.log(q)


def rel_entr(p: float, q: float) -> float:
    """p log(p / q) of positive numbers, 0 where p is, inf for a negative one and for q = 0."""
    if p > 0.0 and q > 0.0:
        return p * log_ratio(p, q)
    return p + q if p != p or q != q else 0.0 if p == 0.0 <= q else _INF


def kl_div(p: float, q: float) -> float:
    """p log(p / q) - p + q of positive numbers, q where p is 0, inf for a negative one and for q = 0.

    Near p = q it is the sum of (-u)ᵏ q / (k (k - 1)) over k ≥ 2, u = (p - q) / q.
    """
    if not (p > 0.0 and q > 0.0):
        return q if p == 0.0 <= q else rel_entr(p, q)
    u = (p - q) / q
    return (p - q) * u * polynomial(_KL_SERIES, u) if abs(u) < 0.1 else p * log_ratio(p, q) - (p - q)
