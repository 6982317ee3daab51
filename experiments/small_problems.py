"""What do SciPy's optimizers gain from compiled derivatives, beside finite differences and JAX?

    python experiments/small_problems.py      # 10 s on 2 cores

Rosenbrock's and Beale's functions from the standard starts of Moré, Garbow and Hillstrom (1981), by BFGS, which asks
for gradients, and by trust-ncg, which asks for Hessians too; the decay a·exp(-b·t) + c fitted to 30 noisy points by
least_squares, which asks for the Jacobian of the residuals. Each function is written once, for floats.

funcgrad and JAX give the same derivatives, so the optimizer takes the same path to the same point; the difference is
the cost of a call and the time of compiling. Finite differences need more calls of the function, and their error shifts
the point at which they vanish, far where the function is flat in one direction (along Rosenbrock's valley).
Expected: with funcgrad and with JAX the same iterations, errors below 1e-7, funcgrad in less time; with finite
differences at least twice the calls, and errors up to about 1e-5.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy  # type: ignore[import-untyped]
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from scipy import optimize

from funcgrad import autograd as ag
from funcgrad import plots, report
from funcgrad.autograd import ops

RESULTS = Path(__file__).parent / "results"
TOLERANCE = 1e-8  # of the gradient; of least_squares, relative
REPEATS = 15
Function = Callable[[np.ndarray], Any]


# The problems. These functions run on floats, under funcgrad.autograd and under JAX.


def rosenbrock(point: Any) -> Any:
    x, y = point
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def beale(point: Any) -> Any:
    x, y = point
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


TIMES = np.linspace(0.0, 4.0, 30)
MEASURED = 2.5 * np.exp(-1.3 * TIMES) + 0.5 + np.random.default_rng(0).normal(scale=0.05, size=TIMES.size)


def residuals(parameters: Any) -> list[Any]:
    """What the decay a·exp(-b·t) + c leaves of the measured points."""
    a, b, c = parameters
    return [a * ops.exp(-b * t) + c - y for t, y in zip(TIMES.tolist(), MEASURED.tolist(), strict=True)]


def fitted_decay(start: Sequence[float]) -> tuple[float, ...]:
    """The least-squares fit by the Gauss-Newton iteration, its Jacobian written by hand: what the others must find."""
    point = np.array(start)
    for _ in range(100):
        a, b, c = point
        e = np.exp(-b * TIMES)
        jacobian = np.stack([e, -a * TIMES * e, np.ones_like(e)], axis=1)
        point = point - np.linalg.lstsq(jacobian, a * e + c - MEASURED)[0]
    return tuple(point.tolist())


class Problem(NamedTuple):
    fun: Callable[[Any], Any]
    methods: tuple[str, ...]
    start: tuple[float, ...]
    minimum: tuple[float, ...]


PROBLEMS = {
    "Rosenbrock": Problem(rosenbrock, ("BFGS", "trust-ncg"), (-1.2, 1.0), (1.0, 1.0)),
    "Beale": Problem(beale, ("BFGS", "trust-ncg"), (1.0, 1.0), (3.0, 0.5)),
    "decay": Problem(residuals, ("least_squares",), (1.0, 1.0, 0.0), fitted_decay((1.0, 1.0, 0.0))),
}


# Where derivatives come from


class Derivatives(NamedTuple):
    """Functions of NumPy's vectors, as SciPy calls them. Where one is a name, SciPy makes it from the one before."""

    value: Function
    first: Function | str
    second: Function | str


def compiled(fun: Callable[[Any], Any], method: str) -> Derivatives:
    """Ours: SciPy's vectors become lists of floats, which are what our compiled functions take."""

    def on_vectors(function: Callable[[list[float]], Any]) -> Function:
        return lambda x: np.array(function(x.tolist()))

    first = ag.jacfwd if method == "least_squares" else ag.grad
    return Derivatives(*[on_vectors(ag.jit(f)) for f in (fun, first(fun), ag.hessian(fun))])


def jax_compiled(fun: Callable[[Any], Any], method: str) -> Derivatives:
    """JAX's, to be called where float64 is enabled."""

    def on_vectors(function: Callable[[jax.Array], Any]) -> Function:
        jitted = jax.jit(lambda x: jnp.asarray(function(x)))
        return lambda x: np.asarray(jitted(x))

    first = jax.jacfwd if method == "least_squares" else jax.grad
    return Derivatives(*[on_vectors(f) for f in (fun, first(fun), jax.hessian(fun))])


def differences(fun: Callable[[Any], Any], method: str) -> Derivatives:
    """SciPy's finite differences of the function itself."""

    def value(x: np.ndarray) -> Any:
        return np.array(fun(x.tolist()))

    return Derivatives(value, "2-point", "2-point")


SOURCES = {"ours": compiled, "JAX": jax_compiled, "differences": differences}


# Measuring


class Counted:
    """A function, with the number of its calls and the seconds in them."""

    def __init__(self, function: Function) -> None:
        self.function, self.calls, self.seconds = function, 0, 0.0

    def __call__(self, x: np.ndarray) -> Any:
        start = time.perf_counter()
        result = self.function(x)
        self.seconds += time.perf_counter() - start
        self.calls += 1
        return result


class Run(NamedTuple):
    result: Any
    path: list[np.ndarray]
    calls: tuple[int, int, int]  # of the function, its first and its second derivative
    seconds: float
    seconds_in_calls: float


def minimize(problem: Problem, method: str, derivatives: Derivatives) -> Run:
    counted: list[Any] = [Counted(f) if callable(f) else f for f in derivatives]
    value, first, second = counted
    path = [np.array(problem.start)]
    start = time.perf_counter()
    if method == "least_squares":
        tolerances = {"ftol": TOLERANCE, "xtol": TOLERANCE, "gtol": TOLERANCE}
        result = optimize.least_squares(value, problem.start, jac=first, **tolerances)
    else:
        if method == "trust-ncg" and first == "2-point":  # which it does not make by itself
            first = partial(optimize.approx_fprime, f=value)
        hessian = {"hess": second} if method == "trust-ncg" else {}
        result = optimize.minimize(
            *(value, problem.start),
            method=method,
            jac=first,
            **hessian,
            callback=lambda x: path.append(np.array(x)),
            options={"gtol": TOLERANCE},
        )
    seconds = time.perf_counter() - start
    calls = [f.calls if isinstance(f, Counted) else 0 for f in counted]
    inside = sum(f.seconds for f in counted if isinstance(f, Counted))
    return Run(result, path, (calls[0], calls[1], calls[2]), seconds, inside)


def compile_seconds(derivatives: Derivatives, method: str, start: Sequence[float]) -> float:
    """The seconds of the first call of each function that the method asks for."""
    needed = derivatives if method == "trust-ncg" else derivatives[:2]
    before = time.perf_counter()
    for function in needed:
        if callable(function):
            function(np.array(start))
    return time.perf_counter() - before


def measure(name: str, method: str, source: str, repeats: int = REPEATS) -> tuple[dict[str, Any], Run]:
    """One row of the result, and the last run."""
    problem = PROBLEMS[name]
    with jax.enable_x64(True):
        derivatives = SOURCES[source](problem.fun, method)
        compiling = 0.0 if source == "differences" else compile_seconds(derivatives, method, problem.start)
        runs = [minimize(problem, method, derivatives) for _ in range(repeats)]
    last = runs[-1]
    row = {
        "problem": name,
        "method": method,
        "derivatives": source,
        "iterations": int(last.result.njev if method == "least_squares" else last.result.nit),
        "calls": dict(zip(("value", "first", "second"), last.calls, strict=True)),
        "error": float(np.max(np.abs(last.result.x - problem.minimum))),
        "reached_the_tolerance": bool(last.result.success),
        "seconds": {
            "compile": compiling,
            "run": statistics.median(run.seconds for run in runs),
            "in_calls": statistics.median(run.seconds_in_calls for run in runs),
        },
    }
    return row, last


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"{'problem':10} {'method':13} {'derivatives':11} {'iterations':>10} {'calls':>11} {'error':>7} "
        f"{'ms':>6} {'in calls':>8} {'compile':>7}"
    ]
    for row in rows:
        calls = "/".join(map(str, row["calls"].values()))
        ms = {name: 1e3 * seconds for name, seconds in row["seconds"].items()}
        lines.append(
            f"{row['problem']:10} {row['method']:13} {row['derivatives']:11} {row['iterations']:10} {calls:>11} "
            f"{row['error']:7.0e} {ms['run']:6.2f} {ms['in_calls']:8.2f} {ms['compile']:7.1f}"
        )
    return "\n".join(lines)


# The paths

STYLES: dict[tuple[str, str], dict[str, Any]] = {
    ("BFGS", "differences"): {
        "color": "#D55E00",
        "marker": "o",
        "markersize": 9,
        "fillstyle": "none",
        "linestyle": ":",
    },
    ("BFGS", "ours"): {"color": "#000000", "marker": "o", "markersize": 4},
    ("trust-ncg", "ours"): {"color": "#CC79A7", "marker": "s", "markersize": 4},
}
LABELS = ("BFGS, finite differences", "BFGS, our gradients", "trust-ncg, our Hessians")
LEGENDS: dict[str, Any] = {"Rosenbrock": "upper center", "Beale": "lower right"}  # where there is no path


def draw_paths(axes: Axes, name: str, paths: list[list[np.ndarray]]) -> None:
    """The function's level lines, a constant factor apart, and the points that each optimizer went through."""
    problem = PROBLEMS[name]
    points = np.concatenate([np.array(path) for path in paths])
    low, high = points.min(axis=0) - 0.4, points.max(axis=0) + 0.4
    x, y = np.meshgrid(np.linspace(low[0], high[0], 600), np.linspace(low[1], high[1], 600))
    heights = ag.vmap(problem.fun)([x.ravel(), y.ravel()]).reshape(x.shape)
    levels = np.logspace(-3, np.ceil(np.log10(heights.max())), 19)
    axes.contourf(x, y, np.maximum(heights, levels[0]), levels, norm=LogNorm(), cmap="Blues_r", alpha=0.8)
    axes.contour(x, y, heights, levels, colors="white", linewidths=0.5)
    for path, label, style in zip(paths, LABELS, STYLES.values(), strict=True):
        array = np.array(path)
        axes.plot(array[:, 0], array[:, 1], linewidth=1.2, label=f"{label}: {len(path) - 1} steps", **style)
    axes.plot(*problem.minimum, marker="*", markersize=14, color="#E69F00", linestyle="", zorder=1.9, label="minimum")
    axes.legend(loc=LEGENDS[name], fontsize=9)
    axes.set_title(name, fontsize=10)


def draw(runs: dict[tuple[str, str, str], Run]) -> Figure:
    """The paths on the two functions of two variables, by (problem, method, where its derivatives come from)."""
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), LEGENDS, strict=True):
        draw_paths(axes, name, [runs[name, method, source].path for method, source in STYLES])
    figure.suptitle("The paths to the minimum (level lines a constant factor apart)", fontsize=12)
    return figure


def main() -> None:
    rows, runs = [], {}
    for name, problem in PROBLEMS.items():
        for method in problem.methods:
            for source in SOURCES:
                row, runs[name, method, source] = measure(name, method, source)
                rows.append(row)
    print(table(rows))
    plots.save(draw(runs), RESULTS / "small_problems.png")
    result = {
        "command": "python experiments/small_problems.py",
        "settings": {
            "tolerance": TOLERANCE,
            "repeats": REPEATS,
            "scipy": scipy.__version__,
            "measured_points": len(MEASURED),
        },
        "rows": rows,
        "environment": report.environment(),
    }
    report.write_json(RESULTS / "small_problems.json", result)


if __name__ == "__main__":
    main()
