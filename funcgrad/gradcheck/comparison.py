"""The same Python function through funcgrad.autograd and through JAX in float64: do their numbers agree?

The tolerance of a number is measured, not chosen: it is the change that the number shows when the result of every
primitive on the way to it is perturbed by its own error. So a badly conditioned number may differ, a well conditioned
one may not; infinities and nans agree exactly, unless the perturbed runs disagree about them among themselves.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from funcgrad import autograd as ag
from funcgrad.gradcheck import random_programs
from funcgrad.gradcheck import report as reports
from funcgrad.gradcheck.error_model import Spread, inaccurate_functions, spread
from funcgrad.gradcheck.random_programs import RandomProgram
from funcgrad.gradcheck.report import Case, Failure, Report, judge

Function = Callable[..., Any]
_NAMES = ["grad", "value_and_grad", "jvp", "vjp", "linearize", "jacfwd", "jacrev", "hessian", "jit", "vmap"]
JAX = SimpleNamespace(  # under the names of funcgrad.autograd
    **{name: getattr(jax, name) for name in _NAMES}, stop_gradient=jax.lax.stop_gradient
)
DIRECTION = (1.0, -2.0, 0.5)  # of the jvp, over and over
UNCOMPILED_POINTS = 8  # the uncompiled form is slow
BRANCHED_POINTS = 6  # of a program with Python branches: under JAX they run one by one

# The derivatives of one function at one place


def derivatives(system: Any, fun: Function, args: tuple[Any, ...], order: int, forward: bool = True) -> list[Any]:
    """Value, gradient, jvp and vjp, from order 2 on the Hessian, at order 3 the third derivative: all their numbers.

    `system` is `funcgrad.autograd` or `JAX`; `number_names` has the names. Without `forward`, as a custom_vjp function
    needs it, there is no jvp, and the higher derivatives are those of reverse mode.
    """
    argnums = tuple(range(len(args)))
    if system is JAX:  # its gradient is its vjp of 1, and once is faster
        value, pull = jax.vjp(fun, *args)
        gradient = pull(jax.numpy.ones_like(value))
    else:
        value, gradient = system.value_and_grad(fun, argnums)(*args)
        pull = system.vjp(fun, *args)[1]
    direction = itertools.cycle(DIRECTION)
    tangents = jax.tree.map(lambda _: next(direction), args)
    results = [value, gradient, system.jvp(fun, args, tangents)[1] if forward else (), pull(-1.5)]
    jacobian = system.jacfwd if forward else system.jacrev
    hessian = jacobian(system.jacrev(fun, argnums), argnums)
    if order > 1:
        results.append(hessian(*args))
    if order > 2:
        results.append(jacobian(hessian, argnums)(*args))
    return jax.tree.leaves(results)


def number_names(inputs: int, order: int, forward: bool = True) -> list[str]:
    """The names of the numbers that `derivatives` returns for a function of so many floats."""
    each = range(inputs)
    first = ["value", *(f"grad[{i}]" for i in each), *["jvp"] * forward, *(f"vjp[{i}]" for i in each)]
    second = [f"hessian[{i}][{j}]" for i in each for j in each]
    third = [f"third[{i}][{j}][{k}]" for i in each for j in each for k in each]
    return first + second * (order > 1) + third * (order > 2)


def _ours(fun: Function, order: int, forward: bool = True) -> Function:
    return lambda *args: derivatives(ag, fun, args, order, forward)


def _forms(ours: Function, args: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    """Our numbers: compiled and mapped at all points, uncompiled at the first few."""
    compiled = ag.jit(ours)
    mapped = ag.vmap(ours)(*jax.tree.map(lambda *xs: np.array(xs), *args))
    return {
        reports.UNCOMPILED: np.array([ours(*one) for one in args[:UNCOMPILED_POINTS]]).T,
        reports.JIT: np.array([compiled(*one) for one in args]).T,
        reports.VMAP: np.array(mapped, float),
    }


def _jax_at(fun: Function, args: tuple[Any, ...], order: int, forward: bool = True) -> Any:
    """JAX's numbers at one point, operation by operation."""
    with jax.enable_x64(True), jax.disable_jit():
        ready = jax.tree.map(jax.numpy.float64, args)
        return np.array([float(x) for x in derivatives(JAX, fun, ready, order, forward)])


def _jax_mapped(fun: Function, args: tuple[Any, ...], order: int) -> Any:
    """JAX's numbers over columns of points, operation by operation: far faster than compiling each program."""
    with jax.enable_x64(True), jax.disable_jit():
        ready = jax.tree.map(jax.numpy.asarray, args)
        found = jax.vmap(lambda *args: derivatives(JAX, fun, args, order))(*ready)
        return np.stack([np.asarray(x, float) for x in found])


def _spread_at(ours: Function, args: tuple[Any, ...]) -> Spread:
    return spread(ag.make_graph(ours)(*args), [np.array([x]) for x in jax.tree.leaves(args)], 0)


# One function


def compare(fun: Function, *args: Any, order: int = 2) -> Report:
    """Runs fun under funcgrad.autograd and under JAX in float64, and compares value, gradient, jvp, vjp, Hessian.

    `fun` uses Python's operators and `funcgrad.autograd.ops`; it is differentiated with respect to those of `args`
    that are floats, in containers. order=1 leaves out the Hessian, order=3 adds the third derivative. A function with a
    custom_vjp rule has no forward mode: it is checked by reverse mode alone. Our compiled and
    mapped forms are compared too, also with the uncompiled one.

    Raises ValueError for another order, TypeError where no argument is a float or the value is no float.

    >>> compare(lambda x, y: x * y, 2.0, 3.0).ok
    True
    """
    _check_order(order)
    floats = [i for i, x in enumerate(args) if (leaves := jax.tree.leaves(x)) and all(type(y) is float for y in leaves)]
    if not floats:
        given = ", ".join(map(repr, args)) or "none"
        raise TypeError(f"compare needs an argument of floats to differentiate by, got {given}")

    def call(*chosen: Any) -> Any:
        whole = list(args)
        for i, x in zip(floats, chosen, strict=True):
            whole[i] = x
        return fun(*whole)

    chosen = tuple(args[i] for i in floats)
    forward = True
    ag.value_and_grad(call)(*chosen)  # our errors, for a function that has no derivative, come before those of JAX
    try:
        ag.jvp(call, chosen, chosen)
    except TypeError as error:
        if "custom_vjp" not in str(error):
            raise
        forward = False
    ours = _ours(call, order, forward)
    theirs = _jax_at(call, chosen, order, forward)[:, None]
    names = number_names(len(jax.tree.leaves(chosen)), order, forward)
    name = getattr(fun, "__name__", "function")
    report = judge(_forms(ours, [chosen]), theirs, _spread_at(ours, chosen), names, [chosen], [name])
    failures = tuple([failure._replace(source=f"# in {name}") for failure in report.failures])
    return report._replace(failures=failures, most_excluded=1.0)


def _check_order(order: int) -> None:
    if order not in (1, 2, 3):
        raise ValueError(
            f"order must be 1 (the gradient), 2 (and the Hessian) or 3 (and the third derivative), got {order!r}"
        )


# Random programs


def fuzz(
    programs: int = 200,
    points: int = 100,
    seed: int = 0,
    order: int = 2,
    *,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Compares random programs over all functions of `ops`, each at many points, edges among them.

    The same seed gives the same programs; a program that fails is printed as Python that runs. With several `processes`
    the script that calls this needs the usual `if __name__ == "__main__":`. `progress` is called with the number of
    programs done and of all. Raises ValueError where a count is below 1 or for another order than 1, 2 and 3.
    """
    _check_order(order)
    for name, count in (("programs", programs), ("points", points), ("processes", processes)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    one = partial(_fuzz_one, points=points, seed=seed, order=order)
    with ExitStack() as stack:
        run: Function = map
        if processes > 1:
            run = stack.enter_context(ProcessPoolExecutor(processes, get_context("spawn"))).map
        done = []
        for report in run(one, range(programs)):
            done.append(report)
            if progress is not None:
                progress(len(done), programs)
    return reports.merged(done)


def _fuzz_one(number: int, points: int, seed: int, order: int) -> Report:
    program, chosen = random_programs.numbered_program(seed, number, points)
    report = check_program(program, chosen, order)
    failures = [case._replace(source=f"# program {number} of seed {seed}\n{case.source}") for case in report.failures]
    return report._replace(failures=tuple(failures))


def check_program(program: RandomProgram, points: Sequence[tuple[float, ...]], order: int) -> Report:
    """Compares one program at these points; of its failures the report has the first. An exception is a failure too."""
    try:
        report = _judged(program, points, order)
    except Exception as error:
        message = f"{type(error).__name__}: {error}".split("\n")[0]
        case = Case(message, reports.RAISED, math.nan, math.nan, 0.0, program.arguments(points[0]))
        rows = {name: reports.FunctionSummary(1, case) for name in program.functions()}
        report = Report(rows, 1, (Failure(case, ""),), {})
    failures = [failure._replace(source=runnable(program, failure.case, order)) for failure in report.failures[:1]]
    return report._replace(failures=tuple(failures))


def _judged(program: RandomProgram, points: Sequence[tuple[float, ...]], order: int) -> Report:
    fun, theirs = random_programs.build(program)(ag), random_programs.build(program)(JAX)
    if program.branches():
        points = points[:BRANCHED_POINTS]
    args = [program.arguments(point) for point in points]
    ours = _ours(fun, order)
    if program.branches():
        spreads = [_spread_at(ours, one) for one in args]
        joined = Spread(*[np.concatenate(parts, axis=-1) for parts in zip(*spreads, strict=True)])
        found = np.stack([_jax_at(theirs, one, order) for one in args], axis=1)
    else:
        columns = program.arguments([np.array(column) for column in zip(*points, strict=True)])
        graph = ag.make_graph(ours)(*program.arguments([0.7, 0.4, 1.2][: program.inputs]))
        joined = spread(graph, jax.tree.leaves(columns), 0)
        found = _jax_mapped(theirs, columns, order)
    forms = _forms(ours, args)
    inaccurate = inaccurate_functions(joined, program.functions(), forms[reports.VMAP], found)
    joined = joined._replace(inaccurate=inaccurate)
    return judge(forms, found, joined, number_names(program.inputs, order), args, program.functions())


def runnable(program: RandomProgram, case: Case, order: int) -> str:
    """A program that prints a number as computed here and by JAX, or all numbers where computing them raised."""
    names = number_names(program.inputs, order)
    chosen = f"[{names.index(case.what)}]" if case.what in names else ""
    return f"""import math
from math import inf, nan
import jax
from funcgrad import autograd as ag
from funcgrad.autograd import ops
from funcgrad.gradcheck import JAX, derivatives

{program.source()}

args = {case.args!r}
with jax.enable_x64(True):
    for system in (ag, JAX):
        print(jax.tree.map(float, derivatives(system, program(system), args, {order}){chosen}))"""
