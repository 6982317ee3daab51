"""Modified Bessel functions of one Python float, in double precision, from the standard library alone."""

import math


def bessel_i(n: int, x: float) -> float:
    """Iₙ(x), the modified Bessel function of an order from 0 up; where exp(|x|) overflows inf, at ±inf nan, as in JAX.

    Its power series, whose terms have one sign, up to 20 (NIST Digital Library of Mathematical Functions, 10.25.2), and
    beyond that and 2n the asymptotic one (10.40.1), whose terms are least near exp(-2|x|).
    """
    size = abs(x)
    sign = -1.0 if x < 0.0 and n % 2 else 1.0
    if size <= 20.0 + n * n:
        factorials, terms = math.factorial(n), [(0.5 * size) ** n / math.factorial(n)]
        while terms[-1] > 1e-18 * terms[0] or len(terms) < 0.5 * size:
            k = len(terms)
            factorials *= k * (k + n)  # an exact int: the errors of a recurrence of the terms would add up
            terms.append((0.5 * size) ** (2 * k + n) / factorials)
        return sign * math.fsum(terms)
    try:
        e = math.exp(size)
    except OverflowError:
        return sign * math.inf
    total, term, k = 1.0, 1.0, 1
    while abs(term) > 1e-18 and k < 200:
        term *= ((2 * k - 1) ** 2 - 4 * n * n) / (8.0 * k * size)
        total += term
        k += 1
    return sign * e * (total / math.sqrt(math.tau * size))
