"""The same Python function through funcgrad.autograd and through JAX in float64: do their numbers agree?

The tolerance of a number is measured, not chosen: it is the change that the number shows when the result of every
primitive on the way to it is perturbed by its own error. So a badly conditioned number may differ, a well conditioned
one may not; infinities and nans agree exactly, unless the perturbed runs disagree about them among themselves.
"""

import inspect
import itertools
import math
import random
import runpy
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from funcgrad import autograd as ag
from funcgrad.autograd import pytrees as trees
from funcgrad.gradcheck import random_programs as programs
from funcgrad.gradcheck.error_model import OLD, Spread, spread
from funcgrad.gradcheck.random_programs import Program
from funcgrad.gradcheck.report import (
    DIRECTION,
    JIT,
    RAISED,
    RUN,
    VMAP,
    Case,
    Failure,
    Numbers,
    Report,
    Row,
    Verdict,
    judge,
    merged,
    shown,
)

Function = Callable[..., Any]
_NAMES = ["grad", "value_and_grad", "jvp", "vjp", "linearize", "jacfwd", "jacrev", "hessian", "jit", "vmap"]
JAX = SimpleNamespace(  # under the names of funcgrad.autograd
    **{name: getattr(jax, name) for name in _NAMES}, stop_gradient=jax.lax.stop_gradient
)

# The derivatives of one function at one place


def derivatives(system: Any, fun: Function, args: tuple[Any, ...], order: int, leaves: Function) -> list[Any]:
    """Value, gradient, jvp and vjp, from order 2 on the Hessian, at order 3 the third derivative: all their numbers."""
    numbers = tuple(range(len(args)))
    if system is JAX:  # its gradient is its vjp of 1, and once is faster
        value, pull = jax.vjp(fun, *args)
        gradient = pull(jax.numpy.ones_like(value))
    else:
        value, gradient = system.value_and_grad(fun, numbers)(*args)
        pull = system.vjp(fun, *args)[1]
    direction = itertools.cycle(DIRECTION)
    tangents = tuple(_like(x, direction) for x in args)
    out = [value, gradient, system.jvp(fun, args, tangents)[1], pull(-1.5)]
    if order > 1:
        out.append(system.hessian(fun, numbers)(*args))
    if order > 2:
        out.append(system.jacfwd(system.hessian(fun, numbers), numbers)(*args))
    found: list[Any] = leaves(out)
    return found


def labels(count: int, order: int) -> list[str]:
    """What `derivatives` of a function of so many floats gives, in order."""
    each = range(count)
    first = ["value", *(f"grad[{i}]" for i in each), "jvp", *(f"vjp[{i}]" for i in each)]
    second = [f"hessian[{i}][{j}]" for i in each for j in each]
    third = [f"third[{i}][{j}][{k}]" for i in each for j in each for k in each]
    return first + second * (order > 1) + third * (order > 2)


def _like(x: Any, values: Iterable[float]) -> Any:
    """x with other numbers, one after the other."""
    return trees.map_leaves(lambda _: next(values), x)  # type: ignore[call-overload]


# One function


def compare(fun: Function, *args: Any, order: int = 2) -> Report:
    """Runs fun under funcgrad.autograd and under JAX in float64, and compares value, gradient, jvp, vjp, Hessian.

    `fun` uses Python's operators and `funcgrad.autograd.ops`; it is differentiated with respect to those of `args`
    that are floats, in containers. order=1 leaves out the Hessian, order=3 adds the third derivative. Our compiled and
    mapped forms are compared too, also with the uncompiled one.

    Raises ValueError for another order, TypeError where no argument is a float or the value is no float.

    >>> compare(lambda x, y: x * y, 2.0, 3.0).ok
    True
    """
    _check_order(order)
    floats = [
        i for i, x in enumerate(args) if (leaves := trees.flatten(x)[0]) and all(type(y) is float for y in leaves)
    ]
    if not floats:
        raise TypeError(f"compare needs an argument of floats to differentiate by, got {shown(args) or 'none'}")

    def call(*chosen: Any) -> Any:
        whole = list(args)
        for i, x in zip(floats, chosen, strict=True):
            whole[i] = x
        return fun(*whole)

    chosen = tuple(args[i] for i in floats)
    ours = _ours(call, order)
    names = labels(len(trees.flatten(chosen)[0]), order)
    ag.value_and_grad(call)(*chosen)  # our errors, for a function that has no derivative, come before those of JAX
    numbers = Numbers(_forms(ours, [chosen]), _single(call, chosen, order), _spread_at(ours, chosen))
    verdict = judge(numbers, names, [chosen], lambda _: numbers.jax[:, 0])
    name = getattr(fun, "__name__", "function")
    failures = tuple(Failure(case, f"# in {name}") for case in verdict.failures)
    return Report(
        {name: Row(verdict.cases, verdict.worst)}, verdict.cases, failures, verdict.excluded, most_excluded=1.0
    )


def _check_order(order: int) -> None:
    if order not in (1, 2, 3):
        raise ValueError(
            f"order must be 1 (the gradient), 2 (and the Hessian) or 3 (and the third derivative), got {order!r}"
        )


def _ours(fun: Function, order: int) -> Function:
    return lambda *args: derivatives(ag, fun, args, order, lambda x: trees.flatten(x)[0])


def _forms(ours: Function, args: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    """Our numbers, uncompiled at the first few points."""
    compiled = ag.jit(ours)
    columns = [trees.map_leaves(lambda *xs: np.array(xs), *same) for same in zip(*args, strict=True)]
    mapped = ag.vmap(ours)(*columns)
    return {
        RUN: np.array([ours(*one) for one in args[:UNCOMPILED]]).T,
        JIT: np.array([compiled(*one) for one in args]).T,
        VMAP: np.array(mapped, float),
    }


UNCOMPILED = 8  # points at which the uncompiled form runs too: it is slow


def _single(fun: Function, args: tuple[Any, ...], order: int) -> Any:
    """JAX's numbers at one place, operation by operation: a column."""
    with jax.enable_x64(True), jax.disable_jit():
        ready = trees.map_leaves(jax.numpy.float64, args)
        return np.array([[float(x)] for x in derivatives(JAX, fun, ready, order, jax.tree.leaves)])


def _spread_at(ours: Function, args: tuple[Any, ...]) -> Spread:
    return spread(ag.make_graph(ours)(*args), [np.array([x]) for x in trees.flatten(args)[0]], 0)


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

    The same seed gives the same programs. A program that fails is made smaller while it does. With several `processes`
    the script that calls this needs the usual `if __name__ == "__main__":`. `progress` is called with the number of
    programs done and of all. Raises ValueError where a count is below 1 or the order is none.
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
        reports = []
        for report in run(one, range(programs)):
            reports.append(report)
            if progress is not None:
                progress(len(reports), programs)
    return merged(reports)


def _fuzz_one(number: int, points: int, seed: int, order: int) -> Report:
    rng = random.Random(f"{seed} {number}")
    names = list(programs.FORMS)
    random.Random(seed).shuffle(names)
    program = programs.random_program(rng, names[number % len(names)])
    return check_program(program, programs.points(rng, program.inputs, points), order)


# Of arrays under JAX, which add 0 · inf for what is constant, and have their own order of sums and products
ARRAYS = {"sum", "mean", "prod", "max", "min", "dot", "norm", "logsumexp", "softmax", "log_softmax"}
BRANCHED = 6  # points of a program with Python branches: under JAX they run one by one


def check_program(program: Program, points: Sequence[tuple[float, ...]], order: int, shrink: bool = True) -> Report:
    """Compares one program at these points; a failure is made smaller."""
    verdict = _tried(program, points, order)
    failures: tuple[Failure, ...] = ()
    if verdict.failures:
        case = verdict.failures[0]._replace(program=program)
        case = smallest(case, order, len(points)) if shrink else case
        failures = (Failure(case, runnable(case)),)
    rows = {name: Row(verdict.cases, verdict.worst) for name in program.functions()}
    return Report(rows, verdict.cases, failures, verdict.excluded)


def _tried(program: Program, points: Sequence[tuple[float, ...]], order: int) -> Verdict:
    """The verdict on a program; an error is one, too."""
    try:
        return _verdict(program, points, order)
    except Exception as error:
        said = f"{type(error).__name__}: {error}".split("\n")[0]
        case = Case(said, RAISED, math.nan, math.nan, 0.0, program.arguments(points[0]), program)
        return Verdict(1, case, [case], {})


def _verdict(program: Program, points: Sequence[tuple[float, ...]], order: int) -> Verdict:
    fun, theirs = programs.build(program)(ag), programs.build(program)(JAX)
    names = labels(program.inputs, order)
    if program.branches():
        points = points[:BRANCHED]
    args = [program.arguments(point) for point in points]
    ours = _ours(fun, order)

    def single(lane: int) -> Any:
        return _single(theirs, args[lane], order)[:, 0]

    if program.branches():
        parts = [_spread_at(ours, one) for one in args]
        joined = (np.concatenate([part[i] for part in parts], axis=-1) for i in range(5))
        found = Numbers(_forms(ours, args), np.stack([single(i) for i in range(len(args))], axis=1), Spread(*joined))
    else:
        columns = [np.array(column) for column in zip(*points, strict=True)]
        graph = ag.make_graph(ours)(*program.arguments([0.7, 0.4, 1.2][: program.inputs]))
        inputs = [columns[i] for i in _order(program)]
        found = Numbers(_forms(ours, args), _columns(program, theirs, columns, order), spread(graph, inputs, 0))
    if program.functions() & (ARRAYS | {"xlogy", "xlog1py"}):
        found.spread.poor[:] |= np.any(np.isnan(found.jax) & np.isfinite(found.ours[VMAP]), axis=0)
    if program.functions() & ARRAYS:
        found.spread.poor[:] |= found.spread.infinite
    if OLD and "sinc" in program.functions():  # likewise, but it is no primitive here
        found.spread.poor[:] = True
    return judge(found, names, args, single)


def _order(program: Program) -> list[int]:
    """Which input each leaf of the arguments is."""
    order: list[int] = trees.flatten(program.arguments(range(program.inputs)))[0]
    return order


def _columns(program: Program, theirs: Function, columns: Sequence[Any], order: int) -> Any:
    """JAX's numbers over all points, vmapped, operation by operation: far faster than compiling each program."""
    with jax.enable_x64(True), jax.disable_jit():
        args = program.arguments([jax.numpy.asarray(column) for column in columns])
        found = jax.vmap(lambda *args: derivatives(JAX, theirs, args, order, jax.tree.leaves))(*args)
        return np.stack([np.asarray(x, float) for x in found])


# Failures


def smallest(case: Case, order: int, lanes: int = 1, most: int = 100) -> Case:
    """The case in a program that is smaller, at a point that is simpler, while any number of it fails.

    The point is repeated in so many lanes, for which JAX has its operations compiled already.
    """
    tried = 0
    improved = True
    while improved:
        improved = False
        assert case.program is not None
        point = [trees.flatten(case.args)[0][_order(case.program).index(i)] for i in range(case.program.inputs)]
        for program, simpler in programs.smaller(case.program, point):
            tried += 1
            if tried > most:
                return case
            found = _tried(program, [simpler] * lanes, order).failures
            if found and _kind(found[0]) == _kind(case):  # a change that makes no program raises another error
                case, improved = found[0]._replace(program=program), True
                break
    return case


def _kind(case: Case) -> str:
    return case.what.split(":")[0] if case.form == RAISED else ""


_HOW = {
    "value": "f(*args)",
    "grad": "system.grad(f, numbers)(*args)",
    "jvp": "system.jvp(f, args, {tangents})[1]",
    "vjp": "system.vjp(f, *args)[1](-1.5)",
    "hessian": "system.hessian(f, numbers)(*args)",
    "third": "system.jacfwd(system.hessian(f, numbers), numbers)(*args)",
}


def runnable(case: Case) -> str:
    """The case as a Python program that prints both numbers."""
    assert case.program is not None
    direction = itertools.cycle(DIRECTION)
    how = _HOW.get(case.what.split("[")[0], _HOW["hessian"]).format(
        tangents=tuple(_like(x, direction) for x in case.args)
    )
    lines = [
        "import math",
        "from math import inf, nan",
        "import jax",
        "from funcgrad import autograd as ag",
        "from funcgrad.autograd import ops",
        "from funcgrad.gradcheck.comparison import JAX",
        "",
        case.program.source(),
        "",
        f"args = {case.args!r}",
        f"numbers = {tuple(range(len(case.args)))!r}",
        "with jax.enable_x64(True):",
        "    for system in (ag, JAX):",
        "        f = program(system)",
        f"        print(jax.tree.map(float, {how}))",
    ]
    return "\n".join(lines)


# The user's own function


def load_function(place: str) -> Function:
    """The function that FILE.py:NAME names. Raises ValueError, in one line, if there is none."""
    file, _, name = place.rpartition(":")
    path = Path(file)
    if not file.endswith(".py") or not name:
        raise ValueError(f"--fun takes FILE.py:NAME, got {place!r}")
    if not path.is_file():
        raise ValueError(f"--fun: there is no file {file}")
    sys.path.insert(0, str(path.resolve().parent))  # what lies beside it can be imported, as when Python runs it
    try:
        found = runpy.run_path(file, run_name=path.stem)
    except (Exception, SystemExit) as error:
        raise ValueError(f"--fun: {file} does not run: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    if name not in found:
        names = ", ".join(key for key, x in found.items() if callable(x) and not key.startswith("_")) or "none"
        raise ValueError(f"--fun: {file} defines no {name}; its functions: {names}")
    function: Function = found[name]
    if not callable(function):
        raise ValueError(f"--fun: {name} in {file} is no function but {type(function).__name__}")
    return function


def check_call(fun: Function, at: Sequence[float]) -> None:
    """Raises ValueError if fun does not take so many positional arguments."""
    try:
        inspect.signature(fun).bind(*at)
    except TypeError as error:
        name = getattr(fun, "__name__", "the function")
        raise ValueError(
            f"--at: {name}{inspect.signature(fun)} cannot be called with {len(at)} numbers: {error}"
        ) from error
