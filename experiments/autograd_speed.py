"""What does a derivative cost, beside hand-written Python, jitted JAX, micrograd and HIPS autograd?

    pip install -e ".[bench]"
    python experiments/autograd_speed.py      # a minute on 2 cores

All programs run in this one process, in turn, for several rounds; a figure is the median of the rounds, without
compilation. Expected: the compiled gradient of micrograd's expression at most 1.5 × the time of the hand-written one,
10 × faster than jitted JAX called from Python, 30 × faster than micrograd; the uncompiled one faster than micrograd; a
step of micrograd's network on 100 points 300 × faster; a gradient at most 5 × the operations of its value, except for a
single x^y: of its six operations one is the value, and each partial derivative needs its own power or logarithm.
"""

import gc
import itertools
import json
import math
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import autograd as hips
import autograd.numpy as hips_numpy
import jax
import micrograd.engine
import micrograd.nn
import numpy as np
from sklearn.datasets import make_moons

from funcgrad import autograd as ag
from funcgrad import report
from funcgrad.autograd import ops

RESULT = Path(__file__).parent / "results" / "autograd_speed.json"
ROUNDS = 15


# micrograd's README expression


def expression(a: Any, b: Any, relu: Callable[[Any], Any] = ops.relu) -> Any:
    c = a + b
    d = a * b + b**3
    c += c + 1
    c += 1 + c + (-a)
    d += d * 2 + relu(b + a)
    d += 3 * d + relu(b - a)
    e = c - d
    f = e**2
    g = f / 2.0
    g += 10.0 / f
    return g


def by_hand(a: float, b: float) -> tuple[float, tuple[float, float]]:
    """Its value and gradient as one would write them: each intermediate once, then backwards."""
    c0 = a + b
    d0 = a * b + b**3
    c1 = c0 + (c0 + 1)
    c2 = c1 + (1 + c1 + (-a))
    s = b + a
    d1 = d0 + (d0 * 2 + (s if s > 0 else 0.0))
    r = b - a
    d2 = d1 + (3 * d1 + (r if r > 0 else 0.0))
    e = c2 - d2
    f = e**2
    g = f / 2.0 + 10.0 / f
    de = (0.5 - 10.0 / f**2) * 2 * e
    dd2 = -de
    dd1 = 4 * dd2
    dr = dd2 if r > 0 else 0.0
    dd0 = 3 * dd1
    ds = dd1 if s > 0 else 0.0
    dc0 = 4 * de
    da = dc0 - de + dd0 * b + ds - dr
    db = dc0 + dd0 * (a + 3 * b**2) + ds + dr
    return g, (da, db)


def with_micrograd(a: float, b: float) -> tuple[float, tuple[float, float]]:
    x, y = micrograd.engine.Value(a), micrograd.engine.Value(b)
    g = expression(x, y, lambda value: value.relu())
    g.backward()
    return g.data, (x.grad, y.grad)


def expression_rows() -> dict[str, Any]:
    uncompiled = ag.value_and_grad(expression, (0, 1))
    compiled = ag.jit(uncompiled)
    jitted = jax.jit(jax.value_and_grad(expression, (0, 1)))
    of_hips = hips.value_and_grad(lambda ab: expression(ab[0], ab[1], lambda x: hips_numpy.maximum(x, 0.0)))
    programs: dict[str, Callable[[], Any]] = {
        "by hand": lambda: by_hand(-4.0, 2.0),
        "compiled": lambda: compiled(-4.0, 2.0),
        "uncompiled": lambda: uncompiled(-4.0, 2.0),
        "jax.jit": lambda: jitted(-4.0, 2.0),
        "micrograd": lambda: with_micrograd(-4.0, 2.0),
        "HIPS autograd": lambda: of_hips((-4.0, 2.0)),
    }
    expected = by_hand(-4.0, 2.0)
    for name, program in programs.items():
        value, gradient = jax.block_until_ready(program())
        assert math.isclose(value, expected[0], rel_tol=1e-5), name
        assert np.allclose(np.array(gradient, float), expected[1], rtol=1e-5), name
    microseconds = {name: 1e6 * seconds for name, seconds in medians(programs).items()}
    times = {name: value / microseconds["by hand"] for name, value in microseconds.items()}
    return {"microseconds": microseconds, "times_by_hand": times}


def medians(programs: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Seconds a call: the programs run in turn, 30 ms each; the median of the rounds."""
    calls = {}
    for name, program in programs.items():
        start = time.perf_counter()
        program()
        calls[name] = max(1, int(0.03 / (time.perf_counter() - start)))
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(ROUNDS):
        for name, program in programs.items():
            gc.collect()
            repeats = range(calls[name])
            start = time.perf_counter()
            for _ in repeats:
                program()
            times[name].append((time.perf_counter() - start) / calls[name])
    return {name: statistics.median(of_one) for name, of_one in times.items()}


# A step of micrograd's network: 2-16-16-1 on 100 points of the two moons, SVM loss


def scores(layers: Any, x: list[Any]) -> Any:
    for i, (weights, biases) in enumerate(layers):
        x = [ops.dot(row, x) + bias for row, bias in zip(weights, biases, strict=True)]
        x = x if i == len(layers) - 1 else [ops.relu(unit) for unit in x]
    return x[0]


def network_rows() -> dict[str, Any]:
    points, labels = make_moons(n_samples=100, noise=0.1, random_state=1)
    signs = labels * 2.0 - 1.0
    random.seed(1337)
    model = micrograd.nn.MLP(2, [16, 16, 1])
    units = [layer.neurons for layer in model.layers]
    layers = [([[w.data for w in n.w] for n in layer], [float(n.b.data) for n in layer]) for layer in units]
    each = ag.vmap(ag.value_and_grad(lambda layers, x, y: ops.relu(1.0 - y * scores(layers, list(x)))), (None, 0, 0))

    def penalty(layers: Any) -> Any:
        return 1e-4 * ops.sum([p * p for p in flat(layers)])

    decay = ag.jit(ag.value_and_grad(penalty))

    def ours() -> Any:
        losses, gradients = each(layers, points, signs)
        extra, slopes = decay(layers)
        return losses.mean() + extra, np.array(flat(gradients)).mean(1) + flat(slopes)

    def theirs() -> Any:
        model.zero_grad()
        found = [model([micrograd.engine.Value(v) for v in row]) for row in points]
        losses = [(1 + -y * score).relu() for y, score in zip(signs, found, strict=True)]
        total = sum(losses) * (1.0 / len(losses)) + 1e-4 * sum(p * p for p in model.parameters())
        total.backward()
        gradients = [([[w.grad for w in n.w] for n in layer], [n.b.grad for n in layer]) for layer in units]
        return total.data, flat(gradients)

    value, gradient = ours()
    other, reference = theirs()
    assert math.isclose(value, other, rel_tol=1e-12)
    assert np.allclose(gradient, reference, rtol=1e-9, atol=1e-12)
    milliseconds = {"compiled, vmapped": 1e3 * medians({"ours": ours})["ours"]}
    start = time.perf_counter()
    rounds = 3
    for _ in range(rounds):
        theirs()
    milliseconds["micrograd"] = 1e3 * (time.perf_counter() - start) / rounds
    return {
        "milliseconds": milliseconds,
        "times_micrograd": milliseconds["micrograd"] / milliseconds["compiled, vmapped"],
    }


def flat(layers: Any) -> list[Any]:
    """The entry of each parameter, in a list."""
    return [x for weights, biases in layers for part in (*weights, biases) for x in part]


# Operations: a gradient over its value


def _rosenbrock(xs: list[Any]) -> Any:
    return ops.sum([100.0 * (y - x * x) ** 2 + (1.0 - x) ** 2 for x, y in itertools.pairwise(xs)])


def _newton(a: Any) -> Any:
    x = 1.0
    for _ in range(8):
        x = 0.5 * (x + a / x)
    return x


PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "micrograd's expression": (expression, (-4.0, 2.0)),
    "tanh(a*b + c)": (lambda a, b, c: ops.tanh(a * b + c), (2.0, -3.0, 10.0)),
    "Rosenbrock, 10 variables": (_rosenbrock, ([0.1 * i for i in range(10)],)),
    "product of 20": (lambda xs: ops.prod(xs), ([1.0 + 0.01 * i for i in range(20)],)),
    "log-sum-exp of 10": (lambda xs: ops.logsumexp(xs), ([0.1 * i for i in range(10)],)),
    "norm of 10": (lambda xs: ops.norm(xs), ([1.0 + i for i in range(10)],)),
    "sin(x)/x": (lambda x: ops.sin(x) / x, (0.7,)),
    "x^y": (lambda x, y: x**y, (2.0, 3.0)),
    "8 Newton steps": (_newton, (2.0,)),
    "normal log density": (lambda x, m, s: -0.5 * ((x - m) / s) ** 2 - ops.log(s), (0.3, 0.1, 2.0)),
    "gelu": (lambda x: ops.gelu(x), (0.3,)),
    "logistic loss of 5": (
        lambda w, x: ops.softplus(-ops.dot(w, x)),
        ([0.1, -0.2, 0.3, 0.4, -0.5], [1.0, 2.0, 3.0, 4.0, 5.0]),
    ),
    "network 2-16-16-1": (
        lambda layers, x, y: scores(layers, [x, y]),
        ([([[0.1] * 2] * 16, [0.0] * 16), ([[0.1] * 16] * 16, [0.0] * 16), ([[0.1] * 16], [0.0])], 1.0, 2.0),
    ),
}


def operation_rows() -> list[dict[str, Any]]:
    rows = []
    for name, (function, arguments) in PROGRAMS.items():
        value = ag.jit(function)
        gradient = ag.jit(ag.value_and_grad(function, tuple(range(len(arguments)))))
        value(*arguments), gradient(*arguments)
        counted = {"value": value.operations, "value_and_gradient": gradient.operations}
        rows.append({"program": name, **counted, "ratio": gradient.operations / value.operations})
    return rows


# Compile cost, and a chain that is long


def chain(x: Any, length: int) -> Any:
    for i in range(length):
        x = ops.sin(x) if i % 2 else x * 1.01
    return x


def compile_seconds() -> float:
    start = time.perf_counter()
    gradient = ag.jit(ag.grad(lambda x: chain(x, 10_000)))
    gradient(0.5)
    gradient(0.5)  # the first call traces and compiles, the second runs what was compiled
    return time.perf_counter() - start


def long_chain() -> dict[str, float]:
    """A chain of a million operations, in a separate process, which measures its memory."""
    code = "import autograd_speed; autograd_speed.print_long_chain()"
    command, here = [sys.executable, "-c", code], Path(__file__).parent
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=here)
    return dict(json.loads(done.stdout))


def print_long_chain() -> None:
    start = time.perf_counter()
    ag.grad(lambda x: chain(x, 1_000_000))(0.5)
    seconds = time.perf_counter() - start
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # the imports too
    print(json.dumps({"seconds": seconds, "gib": gib}))


def main() -> None:
    jax.config.update("jax_enable_x64", False)  # as installed
    result = {
        "expression": expression_rows(),
        "network": network_rows(),
        "operations": operation_rows(),
        "compile_10_000_seconds": compile_seconds(),
        "chain_of_1_000_000": long_chain(),
        "environment": report.environment(),
    }
    report.write_json(RESULT, result)
    times = result["expression"]["times_by_hand"]
    for name, microseconds in result["expression"]["microseconds"].items():
        print(f"{name:14} {microseconds:9.2f} µs  {times[name]:8.2f} × by hand")
    print(f"a step of the network: {result['network']['times_micrograd']:.0f} × faster than micrograd")
    for row in result["operations"]:
        counts = f"{row['value']:5} operations, with gradient {row['value_and_gradient']:5}"
        print(f"{row['program']:24} {counts}: {row['ratio']:.2f} ×")
    print(f"10,000 operations compiled and run: {result['compile_10_000_seconds']:.2f} s")
    print("1,000,000 operations: {seconds:.1f} s, {gib:.2f} GiB".format(**result["chain_of_1_000_000"]))


if __name__ == "__main__":
    main()
