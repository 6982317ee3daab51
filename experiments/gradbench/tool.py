"""How does funcgrad.autograd do on the scalar evals of GradBench, ADBench's successor? The tool that it speaks to.

    python experiments/gradbench/tool.py      # as long as the eval runs

GradBench (github.com/gradbench/gradbench) runs an eval and a tool as two processes that exchange lines of JSON, an
answer for every message. This is the tool, for hello, lse, particle and saddle. In a checkout of GradBench:

    ./gradbench run --eval "./gradbench repo eval saddle" --tool "python PATH/experiments/gradbench/tool.py"

Each function is specified in evals/NAME/README.md there; particle and saddle are those of Pearlmutter and Siskind,
"Using Programming Language Theory to Make Automatic Differentiation Sound and Efficient" (2008): gradient descent on a
function that itself takes derivatives. In their names the first letter is the mode of the outer derivative, the second
that of the inner one: f for forward, r for reverse.
Expected: every output as GradBench expects it, to the last digits (it allows for 1e-4).
"""

import json
import math
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TextIO

from funcgrad import autograd as ag
from funcgrad.autograd import ops

Function = Callable[..., Any]
GRADIENTS: dict[str, Function] = {"f": ag.jacfwd, "r": ag.grad}
MODES = [outer + inner for outer in GRADIENTS for inner in GRADIENTS]


# hello


def square(x: Any) -> Any:
    return x * x


# lse


def logsumexp(x: Any) -> Any:
    """log Σ exp(xᵢ), by its elements; the largest xᵢ, subtracted first, has no part in the derivative."""
    largest = ag.stop_gradient(ops.max(x))
    return largest + ops.log(ops.sum([ops.exp(value - largest) for value in x]))


# Gradient descent, as specified for both of the evals that follow: cpp/gradbench/gd.hpp

SMALLEST = 1e-5  # of the gradient's length, and of a step's
FIRST_RATE = 1e-5
STEPS_AT_A_RATE = 10


def argmin(fun: Function, gradient: Function, start: list[Any]) -> list[Any]:
    """Where descent from `start` ends; the rate doubles after ten good steps, and halves after one that is not."""
    point, rate, steps = start, FIRST_RATE, 0
    value, slope = fun(point), gradient(point)
    while length(slope) > SMALLEST:
        if steps == STEPS_AT_A_RATE:
            rate, steps = 2 * rate, 0
            continue
        following = [x - rate * g for x, g in zip(point, slope, strict=True)]
        if length([x - y for x, y in zip(point, following, strict=True)]) <= SMALLEST:
            break
        lower = fun(following)
        if lower < value:
            point, value, slope, steps = following, lower, gradient(following), steps + 1
        else:
            rate, steps = rate / 2, 0
    return point


def argmax(fun: Function, gradient: Function, start: list[Any]) -> list[Any]:
    return argmin(lambda point: -fun(point), lambda point: [-g for g in gradient(point)], start)


def length(vector: list[Any]) -> Any:
    return ops.sqrt(ops.sum([x * x for x in vector]))


# saddle: min over p of max over q of |p|² - |q|²


def height(p: list[Any], q: list[Any]) -> Any:
    return (p[0] * p[0] + p[1] * p[1]) - (q[0] * q[0] + q[1] * q[1])


def saddle(outer: str, inner: str) -> Function:
    def highest(p: list[Any], mode: str, start: list[float]) -> list[Any]:
        over_q = lambda q: height(p, q)  # noqa: E731
        return argmax(over_q, GRADIENTS[mode](over_q), start)

    def solve(start: list[float]) -> list[float]:
        ceiling = lambda p: height(p, highest(p, inner, start))  # noqa: E731
        p = argmin(ceiling, GRADIENTS[outer](ceiling), start)
        return p + highest(p, outer, start)

    return solve


# particle: the charge that w moves is such that a particle, drawn by it and by another one, passes the origin

TIME_STEP = 0.1


def potential(position: list[Any], charges: list[list[Any]]) -> Any:
    x, y = position
    return ops.sum([1.0 / ops.sqrt((x - u) * (x - u) + (y - v) * (y - v)) for u, v in charges])


def miss(parameters: list[Any], mode: str) -> Any:
    """The square of where the particle crosses the x axis: Euler's method, the last step straight to the axis."""
    (w,) = parameters
    charges = [[10.0, 10.0 - w], [10.0, 0.0]]
    (x, y), (u, v) = (0.0, 8.0), (0.75, 0.0)
    while True:
        slope = GRADIENTS[mode](potential)([x, y], charges)
        x, y = x + TIME_STEP * u, y + TIME_STEP * v
        if y <= 0:
            return (x - y / v * u) ** 2
        u, v = u - TIME_STEP * slope[0], v - TIME_STEP * slope[1]


def particle(outer: str, inner: str) -> Function:
    """Compiled: every simulation has the same few branches, those of `while`."""
    fun = partial(miss, mode=inner)
    value, gradient = ag.jit(fun), ag.jit(GRADIENTS[outer](fun))
    return lambda w: argmin(value, gradient, [w])[0]


# What the messages name: module → function → the function of the message's input. Where the input says how often to run
# and so is an object, the field that has the argument.

FUNCTIONS: dict[str, dict[str, Function]] = {
    "hello": {"square": square, "double": ag.grad(square)},
    "lse": {"primal": logsumexp, "gradient": ag.grad(logsumexp)},
    "saddle": {mode: saddle(*mode) for mode in MODES},
    "particle": {mode: particle(*mode) for mode in MODES},
}
ARGUMENTS = {"lse": "x", "saddle": "start", "particle": "w"}


def as_floats(value: Any) -> Any:
    """JSON's numbers as floats: it writes 1.0 as 1. Raises TypeError for anything else."""
    if isinstance(value, list):
        return [as_floats(x) for x in value]
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError(f"the input must be numbers, got {value!r:.60}")
    return float(value)


# The protocol: CONTRIBUTING.md there


def answer(message: dict[str, Any]) -> dict[str, Any]:
    """The response to a message: to `evaluate` with the output and the time of each run, to `define` whether there is
    such a module, to any other its id."""
    response = {"id": message["id"]}
    match message.get("kind"):
        case "start":
            return response | {"tool": "funcgrad"}
        case "define":
            known = message["module"] in FUNCTIONS
            failed = {"error": f"funcgrad has no module {message['module']!r}, only {', '.join(FUNCTIONS)}"}
            return response | {"success": known} | ({} if known else failed)
        case "evaluate":
            try:
                return response | {"success": True} | evaluate(message["module"], message["function"], message["input"])
            except Exception:  # whatever it is, the eval has to hear of it, and goes on
                return response | {"success": False, "error": traceback.format_exc()}
        case _:
            return response


def evaluate(module: str, name: str, given: Any) -> dict[str, Any]:
    """The function's output, and the nanoseconds of each run: as many as the input asks for, by number and seconds.

    Raises KeyError for an unknown function, TypeError for an input that is not numbers.
    """
    fun = FUNCTIONS[module][name]
    repeated = module in ARGUMENTS
    argument = as_floats(given[ARGUMENTS[module]] if repeated else given)
    runs, seconds = (given["min_runs"], given["min_seconds"]) if repeated else (1, 0)
    timings: list[dict[str, Any]] = []
    output = None
    while not timings or len(timings) < runs or sum(x["nanoseconds"] for x in timings) < 1e9 * seconds:
        start = time.perf_counter_ns()
        output = fun(argument)
        timings.append({"name": "evaluate", "nanoseconds": time.perf_counter_ns() - start})
    json.dumps(output, allow_nan=False)  # raises ValueError where JSON has no such number
    return {"output": output, "timings": timings}


def answers(messages: TextIO) -> Iterator[str]:
    """A line for every line."""
    for line in messages:
        yield json.dumps(answer(json.loads(line)), allow_nan=False)


if __name__ == "__main__":
    for line in answers(sys.stdin):
        print(line, flush=True)
