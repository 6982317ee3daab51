"""What jit compiles, keeps and drops: static arguments, variants, arrays, and how it says so."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcgrad import autograd as ag
from funcgrad.autograd import ops


def counted(fun: Callable[..., Any]) -> tuple[Callable[..., Any], list[int]]:
    runs: list[int] = []

    def g(*args: Any) -> Any:
        runs.append(1)
        return fun(*args)

    return g, runs


# Static arguments and decorators


def power_of(x: Any, n: int = 2, *, name: str = "up") -> Any:
    return x**n if name == "up" else -(x**n)


@pytest.mark.parametrize(
    "options",
    [
        {"static_argnames": "n"},
        {"static_argnames": ("n", "name")},
        {"static_argnums": 1},
        {"static_argnums": (1,), "static_argnames": "name"},
        {"static_argnums": -2},
    ],
)
def test_static_arguments_by_position_and_by_name(options: Any) -> None:
    f = ag.jit(power_of, **options)
    for _ in range(2):
        assert (f(2.0), f(2.0, 3), f(2.0, n=4), f(x=2.0, n=4)) == (4.0, 8.0, 16.0, 16.0)
        assert f(2.0, 3, name="down") == -8.0


def test_jit_is_a_decorator_with_options_as_in_jax() -> None:
    for d in (ag, jax):

        @d.jit(static_argnames="kind")
        def f(x: Any, kind: str) -> Any:
            return x * 2.0 if kind == "twice" else x

        @d.jit()
        def g(x: Any) -> Any:
            return x + 1.0

        assert [float(y) for y in (f(3.0, kind="twice"), f(3.0, "once"), g(1.0))] == [6.0, 3.0, 2.0]
        with pytest.raises(ValueError, match="static_argnames"):
            d.jit(lambda x: x, static_argnames="q")
        with pytest.raises(ValueError, match="static_argnums"):
            d.jit(lambda x: x, static_argnums=3)
    assert f.__name__ == "f"
    with pytest.raises(TypeError, match="must be callable"):
        ag.jit(3.0)


# Variants


def test_variants_are_bounded_and_the_least_recently_used_is_dropped() -> None:
    fun, runs = counted(lambda x, n: x * n)
    f = ag.jit(fun, max_variants=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [f(2.0, n) for n in (1, 2, 3, 1)] == [2.0, 4.0, 6.0, 2.0]
    with pytest.warns(RuntimeWarning, match=r"3 variants are compiled.*is int 4, not int 1.*max_variants") as caught:
        assert [f(2.0, n) for n in (4, 5)] == [8.0, 10.0]  # drops 2, then 3
    assert [warning.filename for warning in caught] == [__file__]
    assert len(runs) == 5
    assert (f(2.0, 1), len(runs)) == (2.0, 5)
    assert (f(2.0, 2), len(runs)) == (4.0, 6)
    assert len(f.variants) == 3


def test_lengths_of_lists_are_variants_too() -> None:
    f = ag.jit(lambda xs: sum(xs), max_variants=2)
    with pytest.warns(RuntimeWarning, match="nested like") as caught:
        assert [f([1.0] * n) for n in range(1, 6)] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert len(caught) == 1


def test_the_cache_explains_itself() -> None:
    f = ag.jit(lambda x, n: x * n if x > 0 else x)
    f(1.0, 2)
    f(-1.0, 2)
    f(1.0, 3)
    f(1.0, True)
    lines = f.explain_cache().splitlines()
    assert lines[0] == "jit of <lambda>: variants 3 of at most 64"
    assert "(x=float, n=int 2): paths 2 of at most" in lines[1]
    assert lines[1].endswith("compiled because it was called for the first time")
    assert (
        lines[2].endswith("paths 1 of at most 64; compiled because n is int 3, not int 2") or "n is int 3" in lines[2]
    )
    assert lines[3].endswith("n is bool True, not int 3")


def test_each_variant_has_its_own_paths() -> None:
    f = ag.jit(lambda x, n: x * int(x) * n, max_paths=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [f(y + 0.5, n) for n in (1, 2) for y in (1, 2)] == [1.5, 5.0, 3.0, 10.0]
    with pytest.warns(RuntimeWarning, match="max_paths") as caught:
        assert f(3.5, 1) == 10.5
    assert caught[0].filename == __file__


# Arrays


def test_arrays_are_compiled_like_lists() -> None:
    fun, runs = counted(lambda v, w: ([ops.sin(x) * y for x, y in zip(v, w, strict=True)], sum(v * w)))
    f = ag.jit(fun)
    v, w = np.linspace(0.0, 1.0, 5), np.arange(5.0)
    for scale in (1.0, 2.0, 3.0):
        found, total = f(v * scale, w)
        np.testing.assert_allclose(found, np.sin(v * scale) * w, rtol=1e-15)
        assert total == pytest.approx(float(np.dot(v * scale, w)))
    f(v.astype(np.float32), w)
    assert len(runs) == 1
    f(v[:3], w[:3])
    f(v.reshape(5, 1)[:, 0][::-1], w)
    assert len(runs) == 2


def test_gradients_of_arrays_are_compiled_arrays() -> None:
    def energy(v: Any) -> Any:
        return sum(v * v * v) + v[0] * v[1]

    fun, runs = counted(ag.value_and_grad(energy))
    f = ag.jit(fun)
    v = np.array([1.0, 2.0, 3.0])
    for x in (v, 2.0 * v, -v):
        value, gradient = f(x)
        expected = jax.value_and_grad(lambda v: (v * v * v).sum() + v[0] * v[1])(jnp.array(x))
        assert value == pytest.approx(float(expected[0]))
        np.testing.assert_allclose(gradient, expected[1])
        assert isinstance(gradient, np.ndarray)
    assert len(runs) == 1
    matrix = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(ag.jit(lambda m: m.T * 2.0)(matrix), matrix.T * 2.0)
    np.testing.assert_array_equal(ag.jit(lambda m, n: m * n)(np.arange(3), 2), [0, 2, 4])
    assert ag.jit(lambda m: m)(np.zeros((0, 2))).shape == (0, 2)


def test_an_array_that_is_too_large_to_compile_says_what_happens() -> None:
    f = ag.jit(lambda v: v[0] + v[-1])
    with pytest.warns(RuntimeWarning, match=r"have 20000 elements.*uncompiled.*vmap") as caught:
        assert f(np.ones(20_000)) == f(np.ones(20_000)) == 2.0
    assert [warning.filename for warning in caught] == [__file__]


# Paths


def halving(x: Any, y: Any) -> Any:
    """A loop whose number of iterations depends on x."""
    while x > 1.0:
        x = x - 1.0
        y = y + ops.sin(x) * y * 0.125
    return x * y


def rooted(x: Any) -> Any:
    """Conditions of several kinds, containers, and numbers at which Python's operators raise."""
    total, n = 0.0, 0
    while n < abs(int(x)):
        total = total + (ops.log(x - n) if x > 2.0 * n else 1.0 / (x - n))
        n += 1
    return {"total": total, "n": n, "last": (x, None)} if x > 0 else [total]


def largest(x: Any, y: Any) -> Any:
    """A function with a rule of its own."""
    while x > 1.0:
        x = x - 1.0
        y = ops.max([x, y * x, 0.5])
    return y * x


PATHS: dict[str, tuple[Any, list[tuple[float, ...]]]] = {
    "value": (halving, [(k + 0.5, 0.3) for k in range(40)]),
    "value and gradient": (ag.value_and_grad(halving, (0, 1)), [(k + 0.5, 0.3) for k in range(40)]),
    "gradient": (ag.grad(halving, 1), [(k + 0.5, 0.3) for k in range(40)]),
    "gradient backwards": (ag.grad(halving), [(40.5 - k, 0.3) for k in range(40)]),
    "hessian": (ag.hessian(halving), [(k + 0.5, 0.3) for k in range(30)]),
    "with a rule": (ag.value_and_grad(largest), [(k + 0.5, 0.3) for k in range(40)]),
    "at the edges": (rooted, [(0.5 * k,) for k in range(-50, 50)]),
    "overflowing": (ag.value_and_grad(lambda x: halving(x, 1e308) * 1e3), [(k + 0.5,) for k in range(40)]),
}


def same(x: Any, y: Any) -> bool:
    return repr(x) == repr(y)


@pytest.mark.parametrize("name", PATHS)
def test_many_paths_give_what_the_uncompiled_function_gives(name: str) -> None:
    fun, points = PATHS[name]
    counting, runs = counted(fun)
    uncompiled = ag.jit(fun, max_paths=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = [uncompiled(*point) for point in points]
    for compiled in (ag.jit(fun), ag.jit(counting)):
        assert all(map(same, expected, [compiled(*point) for point in points]))
        count = len(runs)
        assert all(map(same, expected, [compiled(*point) for point in points]))
        assert len(runs) == count


def test_the_paths_of_a_gradient_share_the_code_of_their_iterations() -> None:
    compiled = ag.jit(ag.value_and_grad(halving, (0, 1)))
    for count in (50, 100):
        for k in range(count):
            assert same(compiled(k + 0.5, 0.3), ag.value_and_grad(halving, (0, 1))(k + 0.5, 0.3))
        assert compiled.operations < 30
    assert "sin" in compiled.source
    assert "paths 100 of at most 10000" in compiled.explain_cache()


def test_a_path_is_as_long_as_memory_and_not_as_the_stack() -> None:
    compiled = ag.jit(halving)
    for k in range(20):
        compiled(k + 0.5, 0.3)
    for _ in range(2):
        assert compiled(5000.5, 1e-3) == halving(5000.5, 1e-3)


def test_a_changed_closure_drops_the_paths_before_it() -> None:
    step = [1.0]

    def f(x: Any) -> Any:
        while x > 1.0:
            x = x - step[0]
        return x

    compiled = ag.jit(f)
    for k in range(40):
        compiled(k + 0.5)
    step[0] = 0.5
    assert [compiled(100.25 + k) for k in range(3)] == [0.75] * 3
    assert [compiled(k + 0.25) for k in (50, 60, 20)] == [0.75] * 3


@pytest.mark.exhaustive
def test_ten_thousand_paths_of_a_loop() -> None:
    def f(x: Any) -> Any:
        while x > 1.0:
            x = x * 0.5 - x * 0.5 + x - 1.0
        return x

    compiled = ag.jit(f)
    assert [compiled(k + 0.5) for k in range(0, 10_000, 7)] == [0.5] * 1429
    assert "paths 1429" in compiled.explain_cache()
