"""Special functions of one float: true values, JAX's edges, SciPy's curves and the identities that define them."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from funcgrad.autograd import special

INF, NAN = math.inf, math.nan
FUNCTIONS = ("digamma", "erf", "erfc", "erfinv", "gammaln", "log_ndtr", "ndtr", "ndtri")
ORDERS = (0, 1, 2, 3, 6, 11, 40, 170)
unhurried = settings(deadline=None)

# True values to 17 digits, computed once with mpmath at 50 digits from the doubles that Python reads here.
TRUE_VALUES = {
    "erfinv": [
        *((1e-300, 8.8622692545275804e-301), (0.1, 0.088855990494257692), (0.5, 0.47693627620446987)),
        *((0.8499, 1.0176527650769829), (0.86, 1.0435418436397588), (0.999, 2.3267537655135245)),
        (0.9999999999999999, 5.8635847487551679),
    ],
    "gammaln": [
        *((1e-300, 690.77552789821371), (0.3, 1.0957979948180756), (0.9999, 5.7729791561193863e-5)),
        *((1.0000000000000002, -1.2816762426960008e-16), (1.5, -0.12078223763524522), (2.25, 0.12487171489239659)),
        *((2.0000001, 4.2278436665324979e-8), (5.5, 3.9578139676187163), (9.5, 11.689333420797268)),
        *((171.25, 707.85792962271009), (1e305, 7.0128845336318389e307), (-0.4, 1.3145245899433899)),
        *((-0.9999, 9.2103826636344057), (-1.5, 0.86004701537648101), (-20.25, -41.600961915340524)),
        (-1234.5625, -7556.9501190028972),
    ],
    "digamma": [
        *((1e-300, -9.9999999999999997e299), (0.3, -3.5025242222001331), (0.9, -0.75492694994705135)),
        *((1.25, -0.22745353337626541), (1.4616321449683622, -9.2412655217294275e-17), (1.5, 0.036489973978576521)),
        *((2.5, 0.70315664064524319), (9.75, 2.225109535044576), (12.5, 2.485195651274912)),
        *((1e300, 690.77552789821371), (-0.1, 9.245073050052948), (-1.25, 3.7141391202135278)),
        *((-20.125, 10.611077432912593), (-1234.5625, 6.4939752503165396)),
    ],
    "ndtr": [
        *((-38.25, 2.0796826933904511e-320), (-37.0, 5.7255712225245768e-300), (-20.5, 1.076467325879096e-93)),
        *((-5.125, 1.4876887318776629e-7), (-1.0, 0.15865525393145705), (-0.001, 0.49960105778608894)),
        *((0.5, 0.6914624612740131), (3.0, 0.99865010196836991), (8.0, 0.99999999999999938)),
    ],
    "ndtri": [
        *((1e-320, -38.269125343032651), (1e-300, -37.047096299361199), (1e-20, -9.2623400897984076)),
        *((0.001, -3.0902323061678135), (0.08, -1.4050715603096325), (0.2, -0.84162123357291417)),
        *((0.49, -0.025068908258711058), (0.5000001, 2.5066282733116483e-7), (0.7, 0.52440051270804066)),
        *((0.95, 1.6448536269514723), (0.9999999999999, 7.3487545403000425)),
    ],
    "log_ndtr": [
        *((-1e150, -4.9999999999999998e299), (-1e5, -5000000012.431864), (-40.0, -804.60844201375379)),
        *((-37.0, -689.03058557689059), (-20.5, -214.0667289632638), (-1.0, -1.8410216450092635)),
        *(
            (-1.5e154, -1.1250000000000002e308),
            (-0.125, -0.79792614275302409),
            (0.125, -0.59831306891242499),
            (1.0, -0.17275377902344989),
        ),
        *((7.5, -3.1908916729109471e-14), (20.0, -2.7536241186062337e-89), (38.25, -2.0796826933904511e-320)),
    ],
}
TRUE_POLYGAMMA = [
    *((1, 1e-100, 9.9999999999999996e199), (1, 0.3, 12.245364546107731), (1, 1.0, 1.6449340668482264)),
    *((1, 9.875, 0.10656593004328111), (1, 1e200, 1.0e-200), (1, -0.25, 18.541879647671606)),
    *((1, -20.25, 19.691025351008711), (1, -1e10 - 0.25, 19.739208802078717), (2, 0.75, -5.3026332163376396)),
    *((2, 4.5, -0.061556821321027695), (2, -0.75, -124.58699919679618), (2, -20.5, -0.0022662899196377969)),
    *((3, 6.25, 0.010365197597940157), (5, 0.125, 31457340.659602646), (10, 3.5, -4.0266930412329948)),
    *((10, -1.5, -156.22959659323299), (50, 20.5, -0.004208993535798365), (50, -20.25, 1.542177740101971e95)),
    *((100, 2000.0, -7.5477428357949731e-175), (170, 37.0, -5.0449818868305597e38)),
]

# What has no finite value, and signed zeros. Subnormals are IEEE's: XLA takes them for zeros.
EDGES = {
    "erf": [(INF, 1.0), (-INF, -1.0), (NAN, NAN), (-0.0, -0.0), (30.0, 1.0)],
    "erfc": [(INF, 0.0), (-INF, 2.0), (NAN, NAN), (30.0, 0.0), (-0.0, 1.0)],
    "erfinv": [
        *((1.0, INF), (-1.0, -INF), (1.0000000000000002, NAN), (-1.5, NAN), (INF, NAN), (-INF, NAN), (NAN, NAN)),
        *((0.0, 0.0), (-0.0, -0.0), (5e-324, 5e-324), (-1e-310, -1e-310 * 0.886226925452758)),
    ],
    "gammaln": [
        *((0.0, INF), (-0.0, INF), (-1.0, INF), (-1e300, INF), (INF, INF), (-INF, INF), (NAN, NAN), (3e305, INF)),
        *((1.0, 0.0), (2.0, 0.0), (5e-324, 744.4400719213812), (-5e-324, 744.4400719213812)),
    ],
    "digamma": [
        *((0.0, -INF), (-0.0, -INF), (-1.0, NAN), (-1e300, NAN), (INF, INF), (-INF, NAN), (NAN, NAN)),
        *((5e-324, -INF), (-5e-324, INF)),
    ],
    "ndtr": [(INF, 1.0), (-INF, 0.0), (NAN, NAN), (0.0, 0.5), (-0.0, 0.5), (1e300, 1.0), (-1e300, 0.0)],
    "ndtri": [
        *((0.0, -INF), (-0.0, -INF), (1.0, INF), (-1e-300, NAN), (1.0000000000000002, NAN), (NAN, NAN)),
        *((INF, NAN), (-INF, NAN), (0.5, 0.0), (5e-324, -38.467405617144344)),
    ],
    "log_ndtr": [
        *((INF, -0.0), (-INF, -INF), (NAN, NAN), (1e300, -0.0), (-1e300, -INF)),
        *((0.0, -0.6931471805599453), (-0.0, -0.6931471805599453)),
    ],
}
POLYGAMMA_EDGES = [
    *((0, 0.0, -INF), (0, -1.0, NAN), (0, INF, INF)),
    *((n, x, INF) for n in (1, 3, 169) for x in (0.0, -0.0, -1.0, -1e300, -INF)),
    *((n, x, NAN) for n in (2, 4, 170) for x in (0.0, -0.0, -1.0, -1e300, -INF)),
    *((n, x, NAN) for n in (1, 2, 170) for x in (INF, NAN)),
    *((-1, 1.0, NAN), (1, 1e-300, INF), (2, 1e-300, -INF), (2, -1e-300, INF), (4, 5e-324, -INF), (4, -5e-324, INF)),
    *((1, 1.7e308, 1 / 1.7e308), (2, 1e300, -0.0), (3, 1e300, 0.0), (171, 0.5, NAN), (10**9, 2.5, NAN)),
]


def same(ours: float, theirs: float) -> bool:
    """Equal with the sign of zero, or both nan."""
    return (ours == theirs and math.copysign(1, ours) == math.copysign(1, theirs)) or (
        ours != ours and theirs != theirs
    )


def ulps(value: float, truth: float) -> float:
    return abs(value - truth) / math.ulp(truth)


def jax_values(name: str, points: Sequence[float]) -> list[float]:
    """jax.scipy.special in float64; `polygamma/n` is its polygamma of order n."""
    name, _, order = name.partition("/")
    function: Callable = getattr(jax.scipy.special, name)
    with jax.enable_x64(True):
        x = jnp.array(points, jnp.float64)
        if not order:
            return function(x).tolist()
        with jax.numpy_dtype_promotion("standard"):
            return function(jnp.full(x.shape, int(order)), x).tolist()


# True values


@pytest.mark.parametrize("name", TRUE_VALUES)
def test_values_are_within_four_units_in_the_last_place(name: str) -> None:
    for x, truth in TRUE_VALUES[name]:
        assert ulps(getattr(special, name)(x), truth) <= 4, x


def test_polygamma_is_within_four_units_in_the_last_place() -> None:
    for n, x, truth in TRUE_POLYGAMMA:
        assert ulps(special.polygamma(n, x), truth) <= 4, (n, x)


def test_functions_with_a_reflection_keep_it_exactly() -> None:
    for x in np.random.default_rng(0).uniform(0, 1, 200).tolist():
        assert special.erfinv(-x) == -special.erfinv(x)
        assert special.ndtri(0.5 - x / 4) == pytest.approx(-special.ndtri(0.5 + x / 4), rel=1e-14)


# Edges


@pytest.mark.parametrize("name", EDGES)
def test_edges(name: str) -> None:
    for x, expected in EDGES[name]:
        assert same(getattr(special, name)(x), expected), x


def test_edges_of_polygamma() -> None:
    for n, x, expected in POLYGAMMA_EDGES:
        assert same(special.polygamma(n, x), expected), (n, x)


@pytest.mark.parametrize("name", [*FUNCTIONS, *(f"polygamma/{n}" for n in ORDERS)])
def test_what_is_not_finite_is_what_jax_has(name: str) -> None:
    points = [*(0.0, -0.0, 1.0, -1.0, 2.0, -2.0, -3.0, 0.5, 1.5, 1e10, 3e305, -1e300, INF, -INF, NAN), 1e-30, -1e-30]
    if name in ("digamma", "polygamma/0"):
        points = points[2:]  # ψ(±0) was nan in JAX 0.10, and is −inf in 0.12
    function = _function(name)
    for x, theirs in zip(points, jax_values(name, points), strict=True):
        ours = function(x)
        assert math.isfinite(ours) == math.isfinite(theirs), x
        assert math.isfinite(ours) or same(ours, theirs), x


@unhurried
@given(st.floats(), st.integers(0, 300))
def test_no_float_raises(x: float, n: int) -> None:
    for name in FUNCTIONS:
        assert type(getattr(special, name)(x)) is float
    assert type(special.polygamma(n, x)) is float
    assert type(special.polygamma(10 ** (n + 3), x)) is float


# JAX and SciPy


def _function(name: str) -> Callable[[float], float]:
    name, _, order = name.partition("/")
    return (lambda x: special.polygamma(int(order), x)) if order else getattr(special, name)


def _grid(low: float, high: float, count: int = 301) -> list[float]:
    return np.linspace(low, high, count).tolist()


# Absolute tolerances: JAX takes log Γ from 1 ≈ 0 and ψ from its root by subtraction, and log Φ(8) from log(1 − 6e-16).
CURVES = {
    "erf": (_grid(-6, 6), 1e-14, 0.0),
    "erfc": (_grid(-6, 26), 1e-12, 0.0),
    "erfinv": (_grid(-0.999, 0.999), 1e-13, 0.0),
    "gammaln": ([*_grid(-9.9, 40.013), *np.geomspace(1e-300, 1e300, 200).tolist()], 1e-13, 4e-14),
    "digamma": ([*_grid(-9.9, 40.013), *np.geomspace(1e-300, 1e300, 200).tolist()], 1e-12, 1e-12),
    "ndtr": (_grid(-37, 9), 1e-12, 0.0),
    "ndtri": ([*np.geomspace(1e-300, 0.5, 200).tolist(), *_grid(0.5, 0.999)], 1e-13, 0.0),
    "log_ndtr": (_grid(-300, 8), 1e-9, 1e-15),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", CURVES)
def test_curves_are_those_of_jax(name: str) -> None:
    points, relative, absolute = CURVES[name]
    ours = [getattr(special, name)(x) for x in points]
    np.testing.assert_allclose(ours, jax_values(name, points), rtol=relative, atol=absolute)


@pytest.mark.parametrize("name", CURVES)
def test_curves_are_those_of_scipy(name: str) -> None:
    points, relative, absolute = CURVES[name]
    ours = [getattr(special, name)(x) for x in points]
    np.testing.assert_allclose(ours, getattr(scipy.special, name)(points), rtol=min(relative, 1e-12), atol=absolute)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 12, 30])
def test_polygamma_is_that_of_jax_and_scipy(n: int) -> None:
    points = _grid(0.05, 60)
    ours = [special.polygamma(n, x) for x in points]
    np.testing.assert_allclose(ours, jax_values(f"polygamma/{n}", points), rtol=2e-13)
    np.testing.assert_allclose(ours, scipy.special.polygamma(n, points), rtol=2e-13)


@pytest.mark.parametrize("n", [1, 3, 5])
def test_polygamma_left_of_zero_is_that_of_jax_as_far_as_jax_sums(n: int) -> None:
    """XLA adds ten terms of ζ's series: it errs by 1e-12 at −6, by 1e-5 at −8, and wholly beyond."""
    points = [x for x in _grid(-4.93, -0.03) if abs(x - round(x)) > 1e-3]
    ours = [special.polygamma(n, x) for x in points]
    np.testing.assert_allclose(ours, jax_values(f"polygamma/{n}", points), rtol=1e-13)


# Identities


@unhurried
@given(st.floats(-0.999999, 0.999999))
def test_erf_of_erfinv_is_the_identity(x: float) -> None:
    assert special.erf(special.erfinv(x)) == pytest.approx(x, rel=1e-15, abs=5e-324)


@unhurried
@given(st.floats(-37, 5))
def test_ndtri_of_ndtr_is_the_identity(x: float) -> None:
    """To what a rounding of p moves the quantile: its own p / φ(x), which grows to the right."""
    density = math.exp(-0.5 * x * x) / math.sqrt(math.tau)
    tolerance = 4 * math.ulp(x) + 4 * math.ulp(special.ndtr(x)) / density
    assert abs(special.ndtri(special.ndtr(x)) - x) <= tolerance


@unhurried
@given(st.floats(-1e4, 5))
def test_log_ndtr_is_the_logarithm_of_ndtr(x: float) -> None:
    value = special.ndtr(x)
    if value > 1e-300:
        assert special.log_ndtr(x) == pytest.approx(math.log(value), rel=1e-14, abs=2e-16)
    else:  # Φ(x) lies between φ(x)/|x| and that times 1 − 1/x²
        bound = -0.5 * x * x - math.log(-x * math.sqrt(math.tau))
        assert bound * (1 + 1e-14) + math.log1p(-1 / (x * x)) <= special.log_ndtr(x) <= bound * (1 - 1e-14)


@unhurried
@given(st.floats(0.01, 1e6))
def test_recurrences(x: float) -> None:
    """Γ(x + 1) = x Γ(x), and what its logarithm's derivatives make of it; x + 1 must be exact."""
    x = x + 1.0 - 1.0
    small = 1e-14 * (1 + abs(special.gammaln(x)))
    assert special.gammaln(x + 1) == pytest.approx(special.gammaln(x) + math.log(x), rel=1e-14, abs=small)
    assert special.digamma(x + 1) == pytest.approx(special.digamma(x) + 1 / x, rel=1e-14, abs=1e-14 / min(x, 1))
    for n in (1, 2, 3):
        step = (-1) ** n * math.factorial(n) / x ** (n + 1)
        scale = 1e-14 * abs(special.polygamma(n, x))
        assert special.polygamma(n, x + 1) == pytest.approx(special.polygamma(n, x) + step, rel=1e-14, abs=scale)


@unhurried
@given(st.integers(0, 1000), st.floats(2**-10, 1 - 2**-10))
def test_reflections(whole: int, part: float) -> None:
    """Γ(x) Γ(1 − x) sin(πx) = π and its first three logarithmic derivatives, left of zero; 1 − x must be exact."""
    part = round(part * 2**20) / 2**20
    x = -whole - part
    near = math.pi * min(part, 1 - part)  # π · 0.998 would lose the digits of the distance to 1
    sine, cotangent = math.sin(near), math.copysign(1 / math.tan(near), 0.5 - part)
    csc2 = 1 + cotangent**2
    left = special.gammaln(x) + special.gammaln(1 - x)
    assert left == pytest.approx(math.log(math.pi / sine), abs=1e-14 * (1 + abs(special.gammaln(x))))
    scale = 1e-13 * (1 + special.digamma(1 - x) + csc2)
    assert special.digamma(1 - x) - special.digamma(x) == pytest.approx(-math.pi * cotangent, abs=scale)
    first = special.polygamma(1, 1 - x) + special.polygamma(1, x)
    assert first == pytest.approx(math.pi**2 * csc2, rel=1e-13)
    second = special.polygamma(2, 1 - x) - special.polygamma(2, x)
    assert second == pytest.approx(-2 * math.pi**3 * cotangent * csc2, rel=1e-13, abs=1e-12 * csc2)


@pytest.mark.parametrize("n", range(6))
def test_each_polygamma_is_the_derivative_of_the_one_before(n: int) -> None:
    """By Richardson's central difference, whose error is that of h⁴."""
    for x in (0.7, 1.46, 3.3, 12.5, -0.3, -2.6, -15.4):
        h = 1e-3 * min(1, abs(x - round(x))) if x < 0 else 1e-3 * x
        near, far = ((special.polygamma(n, x + k * h) - special.polygamma(n, x - k * h)) / (2 * k * h) for k in (1, 2))
        assert (4 * near - far) / 3 == pytest.approx(special.polygamma(n + 1, x), rel=1e-7)
