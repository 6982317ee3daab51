"""No number of another trace is taken for the function's own: the result is JAX's, or an error."""

import copy
import itertools
import math
import pickle
import queue
import threading
import types
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcgrad import autograd as ag
from funcgrad.autograd import ops

Function = Callable[..., Any]


# Numbers of an outer transformation


def test_threads_share_a_number_of_the_function_that_started_them() -> None:
    def f(x: Any) -> Any:
        g = ag.jit(lambda i: x * i)
        with ThreadPoolExecutor() as pool:
            return sum(pool.map(g, [1.0, 2.0, 3.0]))

    assert ag.value_and_grad(f)(3.0) == (18.0, 6.0)
    assert ag.jit(ag.value_and_grad(f))(3.0) == (18.0, 6.0)


def test_lanes_in_a_thread_share_it_too() -> None:
    def f(x: Any) -> Any:
        g = ag.vmap(lambda i: x * i if i > 1.5 else 2.0 * x * i)
        with ThreadPoolExecutor() as pool:
            return sum(pool.submit(g, np.array([1.0, 2.0, 3.0])).result())

    assert ag.value_and_grad(f)(3.0) == (21.0, 7.0)


def test_a_compiled_function_that_met_such_a_number_is_right_afterwards() -> None:
    factor: list[Any] = [1.0]
    scaled = ag.jit(lambda i: factor[0] * i)

    def f(x: Any) -> Any:
        factor[0] = x
        with ThreadPoolExecutor() as pool:
            return pool.submit(scaled, 2.0).result()

    assert ag.value_and_grad(f)(3.0) == (6.0, 2.0)
    factor[0] = 10.0
    assert scaled(2.0) == scaled(2.0) == 20.0


def test_a_graph_holds_a_number_of_an_outer_transformation_as_a_constant() -> None:
    graphs: list[Any] = []

    def f(x: Any) -> Any:
        graphs.append(ag.make_graph(lambda y: y * x + 1.0)(2.0))
        return graphs[0].eval(5.0)

    assert ag.value_and_grad(f)(3.0) == (16.0, 5.0)
    assert str(graphs[0]) == "{ lambda y . let\n    a = mul y 3.0\n    b = add a 1.0\n  in (b) }"
    with pytest.raises(ag.EscapedError):
        graphs[0].eval(5.0)


def test_threads_record_in_one_trace_at_the_same_time() -> None:
    def f(x: Any) -> Any:
        with ThreadPoolExecutor(4) as pool:
            return sum(pool.map(lambda i: sum(x * i for _ in range(300)), [1.0, 2.0, 3.0, 4.0]))

    for _ in range(3):
        assert ag.value_and_grad(f)(1.0) == (3000.0, 3000.0)


def test_a_number_of_another_threads_transformation_is_no_result() -> None:
    handed, done = queue.Queue[Any](), threading.Event()

    def lend(x: Any) -> Any:
        handed.put(x)
        assert done.wait(30)
        return x

    started = threading.Barrier(2)

    def borrow(y: Any) -> Any:
        started.wait(30)
        return handed.get(timeout=30) * y

    with ThreadPoolExecutor(2) as pool:
        borrowed = pool.submit(ag.jit(borrow), 2.0)

        def lender() -> Any:
            started.wait(30)
            return ag.grad(lend)(3.0)

        lent = pool.submit(lender)
        with pytest.raises(ag.EscapedError):
            borrowed.result(30)
        done.set()
        assert lent.result(30) == 1.0


# Numbers kept from a run that was not compiled


def uncompiled(fun: Function) -> Function:
    return ag.jit(fun, max_paths=0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("run", [ag.jit, uncompiled, ag.grad, ag.vmap, lambda f: lambda x: ag.jvp(f, (x,), (1.0,))])
def test_a_kept_number_is_an_error_in_the_next_run(run: Any) -> None:
    kept: list[Any] = []

    def f(x: Any) -> Any:
        kept.append(x * 7.0)
        return kept[0] * 1.0 if len(kept) > 1 else kept[0]

    argument = np.array([1.0]) if run is ag.vmap else 1.0
    run(f)(argument)
    for use in (f, ag.jit(f), uncompiled(f), ag.grad(f), lambda x: ag.vmap(f)(np.array([x]))):
        with pytest.raises(ag.EscapedError):
            use(2.0)
    for constant in (lambda x: kept[0], lambda x: [x, kept[0]]):
        for use in (ag.jit(constant), uncompiled(constant), lambda x, f=constant: ag.jvp(f, (x,), (1.0,))):
            with pytest.raises(ag.EscapedError):
                use(2.0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_unregistered_container_gives_no_traced_number_away() -> None:
    def f(x: Any) -> Any:
        return types.SimpleNamespace(value=x * 2.0)

    for run in (
        ag.jit(f),
        uncompiled(f),
        ag.jit(lambda x: (y for y in (x, x))),
        uncompiled(lambda x: (y for y in (x,))),
    ):
        with pytest.raises(TypeError, match="which is no number"):
            run(1.0)


def test_what_a_forward_rule_keeps_is_closed_with_it() -> None:
    kept: list[Any] = []
    f = ag.custom_vjp(lambda x: x * x)

    def forwards(x: Any) -> Any:
        kept.append(x * 3.0)
        return x * x, types.SimpleNamespace(x=x)

    f.defvjp(forwards, lambda residual, ct: (ct * residual.x * 2.0,))
    with pytest.raises(ag.EscapedError):
        ag.grad(f)(3.0)
    with pytest.raises(ag.EscapedError):
        f(kept[0])
    with pytest.raises(ag.EscapedError):
        ag.grad(lambda y: y)(kept[0])


def test_a_generator_of_traced_numbers_ends_with_its_transformation() -> None:
    def powers(x: Any) -> Any:
        for n in itertools.count(1):
            yield x**n

    streams: list[Any] = []

    def f(x: Any) -> Any:
        streams.append(powers(x))
        return next(streams[-1]) + next(streams[-1])

    assert ag.grad(f)(3.0) == ag.jit(ag.grad(f))(3.0) == 7.0
    for stream in streams:
        with pytest.raises(ag.EscapedError):
            next(stream)


# Rules that are not linear


def _with_rule(system: Any, rule: Function) -> Any:
    f = system.custom_jvp(lambda x: x * x)
    f.defjvp(rule)
    return f


NOT_LINEAR: dict[str, Function] = {
    "a branch": lambda p, t: (p[0] * p[0], (2.0 if t[0] > 0 else 5.0) * p[0] * t[0]),
    "no tangent": lambda p, t: (p[0] * p[0], 2.0 * p[0]),
    "its square": lambda p, t: (p[0] * p[0], t[0] * t[0]),
    "a constant added": lambda p, t: (p[0] * p[0], t[0] + 1.0),
    "divided by it": lambda p, t: (p[0] * p[0], p[0] / t[0]),
    "a function of it": lambda p, t: (p[0] * p[0], abs(t[0])),
    "a power of it": lambda p, t: (p[0] * p[0], t[0] ** 2),
    "clipped": lambda p, t: (p[0] * p[0], ops.clip(t[0], -1.0, 1.0)),
    "rounded": lambda p, t: (p[0] * p[0], round(t[0])),
}


@pytest.mark.parametrize("name", NOT_LINEAR)
def test_a_rule_that_is_not_linear_serves_forward_mode_alone(name: str) -> None:
    f = _with_rule(ag, NOT_LINEAR[name])
    for tangent in (1.5, -0.5):
        value, found = ag.jvp(f, (3.0,), (tangent,))
        by_the_rule = ag.jit(NOT_LINEAR[name])((3.0,), (tangent,))
        assert (value, found) == by_the_rule == ag.jit(lambda x, t: ag.jvp(f, (x,), (t,)))(3.0, tangent)
    for transformed in (ag.grad(f), ag.jacfwd(f), ag.jit(ag.grad(f)), ag.hessian(f), lambda x: ag.linearize(f, x)):
        with pytest.raises(TypeError, match=r"jvp rule of <lambda> is not linear in its tangent"):
            transformed(3.0)


def test_a_branch_on_the_tangent_is_taken_as_in_jax() -> None:
    rule = NOT_LINEAR["a branch"]
    for tangent in (2.0, -2.0):
        expected = jax.jvp(_with_rule(jax, rule), (3.0,), (tangent,))
        assert ag.jvp(_with_rule(ag, rule), (3.0,), (tangent,)) == tuple(map(float, expected))


LINEAR: dict[str, Function] = {
    "a factor": lambda o, p, t: 2.0 * p[0] * t[0],
    "a branch on the primal": lambda o, p, t: t[0] if p[0] > 0 else -t[0],
    "selected": lambda o, p, t: o.where(p[0] > 0, t[0], 0.0) + 0.0,
    "a quotient": lambda o, p, t: -t[0] / p[0] + t[0] * 1.5 - (-t[0]),
    "a jvp": lambda o, p, t: o.jvp(lambda x: x * x * x, p, t)[1],
    "zero": lambda o, p, t: 0.0 * t[0],
}


@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_rule_gives_what_jax_gives(name: str) -> None:
    ours = types.SimpleNamespace(where=ops.where, jvp=ag.jvp)
    theirs = types.SimpleNamespace(where=jnp.where, jvp=jax.jvp)
    f = _with_rule(ag, lambda p, t: (p[0] * p[0], LINEAR[name](ours, p, t)))
    g = _with_rule(jax, lambda p, t: (p[0] * p[0], LINEAR[name](theirs, p, t)))
    for x in (3.0, -2.0):
        assert ag.grad(f)(x) == pytest.approx(float(jax.grad(g)(x)), rel=1e-6)
        assert ag.jvp(f, (x,), (0.5,))[1] == pytest.approx(float(jax.jvp(g, (x,), (0.5,))[1]), rel=1e-6)
        assert ag.grad(lambda x: ag.jvp(f, (x * x,), (2.0,))[1])(x) == pytest.approx(
            float(jax.grad(lambda x: jax.jvp(g, (x * x,), (2.0,))[1])(x)), rel=1e-6
        )


def test_forward_mode_goes_on_behind_a_rule() -> None:
    rule = lambda p, t: (p[0] * p[0], 10.0 * t[0])  # noqa: E731
    f, g = _with_rule(ag, rule), _with_rule(jax, rule)
    ours = ag.jvp(lambda x, y: f(x * y) * f(y) + f(2.0) * x, (2.0, 3.0), (1.0, -1.0))
    theirs = jax.jvp(lambda x, y: g(x * y) * g(y) + g(2.0) * x, (2.0, 3.0), (1.0, -1.0))
    assert ours == tuple(map(float, theirs))


# Copies, constants and edges


@ag.jit
def doubled(x: Any) -> Any:
    return 2.0 * x


def cubed(x: Any) -> Any:
    return x * x * x


def raise_escaped(_: int) -> None:
    raise ag.EscapedError


def test_what_jit_returns_is_copied_and_pickled() -> None:
    for f in (doubled, ag.jit(cubed, max_paths=3), ag.jit(cubed)):
        f(1.0)
        for again in (copy.deepcopy(f), copy.copy(f), pickle.loads(pickle.dumps(f))):
            assert again(3.0) == f(3.0)
    assert pickle.loads(pickle.dumps(doubled)) is doubled
    assert copy.deepcopy({"f": ag.jit(lambda x: x + 1.0)})["f"](1.0) == 2.0
    assert pickle.loads(pickle.dumps(ag.jit(cubed, max_paths=3))).max_paths == 3


def test_an_escaped_error_can_be_unpickled() -> None:
    error = pickle.loads(pickle.dumps(ag.EscapedError()))
    assert isinstance(error, ag.EscapedError)
    assert "escaped" in str(error)


@pytest.mark.exhaustive
def test_an_escaped_error_leaves_a_pool_of_processes_usable() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        with pytest.raises(ag.EscapedError):
            pool.submit(raise_escaped, 1).result()
        assert pool.submit(abs, -2).result() == 2


def test_constants_differ_by_each_of_their_bits() -> None:
    f = ag.jit(lambda z, x: (z, x))
    nan = math.nan
    for z in (complex(0.0, 0.0), complex(0.0, -0.0), complex(-0.0, 0.0), complex(1.0, -0.0), complex(1.0, 0.0)):
        assert repr(f(z, 1.0)[0]) == repr(f(z, 2.0)[0]) == repr(z)
    f(complex(nan, 1.0), 1.0)
    count = len(f.variants)
    f(complex(float("nan"), 1.0), 1.0)
    assert len(f.variants) == count
    g = ag.jit(lambda z, x: x if str(z).startswith("-") else -x, static_argnums=0)
    assert (g(0.0, 1.0), g(-0.0, 1.0)) == (-1.0, 1.0)
    lanes = np.array([complex(0.0, 0.0), complex(0.0, -0.0)])
    np.testing.assert_array_equal(ag.vmap(lambda z: math.copysign(1.0, z.imag))(lanes), [1.0, -1.0])


@pytest.mark.parametrize("weights", [(-1.0, 2.0), (1.0, -2.0), (-1.0, -2.0), (1.0, -1.0), (0.0, -1.0)])
def test_logsumexp_with_negative_weights(weights: tuple[float, float]) -> None:
    xs = [1.0, 1.0]
    with jax.enable_x64(True):
        theirs = lambda xs, b: jax.scipy.special.logsumexp(jnp.array(xs), b=jnp.array(b))  # noqa: E731
        expected = [float(theirs(xs, weights)), *map(float, jax.grad(theirs)(xs, weights))]
        expected += map(float, jax.grad(theirs, 1)(xs, weights))
    ours = lambda xs, b: ops.logsumexp(xs, b=b)  # noqa: E731
    found = [ours(xs, weights), *ag.grad(ours)(xs, weights), *ag.grad(ours, 1)(xs, weights)]
    np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize("name", ["jacfwd", "jacrev", "hessian"])
@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
def test_derivatives_of_an_empty_output_have_the_shape_of_jax(name: str, shape: tuple[int, ...]) -> None:
    for x in (2.0, np.ones(2), np.zeros(0)):
        ours = getattr(ag, name)(lambda _: np.zeros(shape))(x)
        theirs = getattr(jax, name)(lambda _: jnp.zeros(shape))(x)
        assert ours.shape == theirs.shape
    assert getattr(ag, name)(lambda x: [])([1.0, 2.0]) == []
    assert getattr(ag, name)(lambda x: {"a": [x], "b": []})(1.0)["b"] == []


def test_defaults_of_keyword_only_arguments_stay_under_a_rule() -> None:
    def make(system: Any) -> Any:
        f = system.custom_jvp(lambda x, *, scale=2.0: scale * x)
        f.defjvp(lambda primals, tangents: (f(*primals), 5.0 * tangents[0]))
        return f

    ours, theirs = make(ag), make(jax)
    assert (ours(3.0), ag.grad(ours)(3.0)) == (float(theirs(3.0)), float(jax.grad(theirs)(3.0))) == (6.0, 5.0)
    with pytest.raises(TypeError, match="keyword-only arguments, got scale"):
        ours(3.0, scale=1.0)


def test_check_grads_has_tolerances_where_none_are_given() -> None:
    ag.check_grads(lambda x: x**3, (2.0,), order=2, atol=None, rtol=None, eps=None)
    with pytest.raises(AssertionError):
        ag.check_grads(lambda x: ag.stop_gradient(x) * x, (2.0,), order=1, atol=None)
