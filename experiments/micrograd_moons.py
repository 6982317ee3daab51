"""Does micrograd's network, trained on scalars by pure functions, agree with JAX at every step?

    python experiments/micrograd_moons.py      # 15 s on 2 cores, most of it JAX compiling 337 scalars

The network, the data, the loss and the schedule are those of micrograd's demo notebook (github.com/karpathy/micrograd):
two inputs, two layers of 16 ReLUs, one score; 100 points of two moons; the max-margin loss and an L2 penalty; 100 steps
of gradient descent whose rate falls from 1 to 0.1. With its seed the losses are micrograd's own, 0.8958 the first.

The difference is that nothing changes in place. The parameters are floats in nested lists, the loss of ONE point is a
function of them, `ag.vmap(ag.value_and_grad(…))` gives it and its gradient for all points, a step returns new lists.

At every step the whole gradient is compared with `jax.grad` of the same function body; then the same network is trained
in JAX as one would write it there, with a matrix for each layer, on its own gradients.
Expected: all 100 points right in both, no gradient further from JAX's than 1e-12 of its largest component, the same
losses to 1e-9.
"""

import itertools
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.datasets import make_moons

from funcgrad import autograd as ag
from funcgrad import plots, report
from funcgrad.autograd import ops

RESULTS = Path(__file__).parent / "results"
SIZES = (2, 16, 16, 1)
POINTS, NOISE, SEED = 100, 0.1, 1337
STEPS, PENALTY = 100, 1e-4
TOLERANCE = 1e-12  # of the largest component of the gradient

Params = list[list[tuple[list[Any], Any]]]  # layers of neurons, each its weights and its bias
Arrays = list[tuple[jax.Array, jax.Array]]  # for each layer a matrix and a vector


def moons() -> tuple[np.ndarray, np.ndarray]:
    """Points (100, 2) and labels (100,), -1.0 or 1.0."""
    points, labels = make_moons(n_samples=POINTS, noise=NOISE, random_state=SEED)
    return points, 2.0 * labels - 1.0


def init(seed: int, sizes: Sequence[int] = SIZES) -> Params:
    """Weights between -1 and 1, biases 0: the numbers that micrograd draws after `random.seed(seed)`."""
    draw = random.Random(seed).uniform
    return [
        [([draw(-1, 1) for _ in range(inputs)], 0.0) for _ in range(outputs)]
        for inputs, outputs in itertools.pairwise(sizes)
    ]


def learning_rate(step: int) -> float:
    return 1.0 - 0.9 * step / 100


# The network on scalars. These functions run under funcgrad.autograd and under JAX.


def score(params: Params, point: Any) -> Any:
    """The network's output for one point: above 0 is the class 1."""
    *hidden, [(weights, bias)] = params
    values = point
    for layer in hidden:
        values = [ops.relu(ops.dot(neuron_weights, values) + neuron_bias) for neuron_weights, neuron_bias in layer]
    return ops.dot(weights, values) + bias


def example_loss(params: Params, point: Any, label: Any) -> Any:
    """The max-margin loss of one point: 0 where the score is beyond 1 on the right side."""
    return ops.relu(1 - label * score(params, point))


def penalty(params: Params) -> Any:
    return PENALTY * ops.sum([x * x for layer in params for weights, bias in layer for x in (*weights, bias)])


# Training on scalars

Gradient = Callable[[Params, np.ndarray, np.ndarray], tuple[float, Params]]


def make_gradient() -> Gradient:
    """A function of (params, points, labels): the full loss and its gradient. Its first call compiles it."""
    of_examples = ag.vmap(ag.value_and_grad(example_loss), in_axes=(None, 0, 0))
    of_penalty = ag.jit(ag.value_and_grad(penalty))

    def gradient(params: Params, points: np.ndarray, labels: np.ndarray) -> tuple[float, Params]:
        losses, slopes = of_examples(params, points, labels)
        extra, shrinkage = of_penalty(params)
        return float(losses.mean()) + extra, jax.tree.map(lambda x, y: float(x.mean()) + y, slopes, shrinkage)

    return gradient


def train(params: Params, steps: int, gradient: Gradient) -> tuple[list[Params], list[float]]:
    """The parameters before each step and after the last, and the loss before each step."""
    points, labels = moons()
    passed, losses = [params], []
    for step in range(steps):
        loss, slope = gradient(passed[-1], points, labels)
        rate = learning_rate(step)
        passed.append(jax.tree.map(lambda x, g, rate=rate: x - rate * g, passed[-1], slope))
        losses.append(loss)
    return passed, losses


# Held against JAX


def full_loss(params: Params, points: jax.Array, labels: jax.Array) -> jax.Array:
    """The same function bodies as above, for jax.grad."""
    losses = jax.vmap(example_loss, in_axes=(None, 0, 0))(params, points, labels)
    return jnp.mean(losses) + penalty(params)


def worst_difference(passed: list[Params], gradient: Gradient) -> float:
    """The largest difference from jax.grad in float64 at any of these parameters, as a share of the largest component.

    Raises AssertionError where it is more than TOLERANCE.
    """
    points, labels = moons()
    worst = 0.0
    with jax.enable_x64(True):
        jax_gradient = jax.jit(jax.grad(full_loss))
        for step, params in enumerate(passed):
            ours = np.array(jax.tree.leaves(gradient(params, points, labels)[1]))
            expected = np.array(jax.tree.leaves(jax_gradient(params, points, labels)))
            difference = float(np.max(np.abs(ours - expected)) / np.max(np.abs(expected)))
            if not difference <= TOLERANCE:
                raise AssertionError(f"step {step}: the gradient differs from jax.grad's by {difference:.1e}")
            worst = max(worst, difference)
    return worst


# The same network in JAX


def to_arrays(params: Params) -> Arrays:
    return [(jnp.array([weights for weights, _ in layer]), jnp.array([bias for _, bias in layer])) for layer in params]


def array_score(params: Arrays, point: jax.Array) -> jax.Array:
    *hidden, (weights, bias) = params
    values = point
    for hidden_weights, hidden_bias in hidden:
        values = jax.nn.relu(hidden_weights @ values + hidden_bias)
    return (weights @ values + bias)[0]


array_scores = jax.jit(jax.vmap(array_score, in_axes=(None, 0)))


def array_loss(params: Arrays, points: jax.Array, labels: jax.Array) -> jax.Array:
    losses = jax.nn.relu(1 - labels * array_scores(params, points))
    return jnp.mean(losses) + PENALTY * sum(jnp.sum(x**2) for x in jax.tree.leaves(params))


@jax.jit
def array_step(params: Arrays, rate: float, points: jax.Array, labels: jax.Array) -> tuple[Arrays, jax.Array]:
    loss, slope = jax.value_and_grad(array_loss)(params, points, labels)
    return jax.tree.map(lambda x, g: x - rate * g, params, slope), loss


def train_arrays(params: Arrays, steps: int) -> tuple[Arrays, list[float]]:
    """The parameters after the last step, and the loss before each."""
    points, labels = map(jnp.asarray, moons())
    losses = []
    for step in range(steps):
        params, loss = array_step(params, learning_rate(step), points, labels)
        losses.append(loss)
    return params, [float(loss) for loss in losses]


# What comes out


def accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean((np.asarray(scores) > 0) == (labels > 0)))


scalar_scores = ag.vmap(score, in_axes=(None, 0))


def boundary(axes: Axes, scores: Callable[[np.ndarray], np.ndarray], title: str) -> None:
    """The plane coloured by the class that `scores` predicts, the margins dashed, the points on top."""
    points, labels = moons()
    low, high = points.min(axis=0) - 0.5, points.max(axis=0) + 0.5
    x, y = np.meshgrid(np.linspace(low[0], high[0], 200), np.linspace(low[1], high[1], 150))
    z = np.asarray(scores(np.column_stack([x.ravel(), y.ravel()]))).reshape(x.shape)
    axes.contourf(x, y, z, levels=[-np.inf, 0, np.inf], colors=["#BBD6EA", "#F6D2B3"])
    axes.contour(x, y, z, levels=[-1, 0, 1], colors="#444444", linewidths=[0.8, 1.6, 0.8], linestyles=["--", "-", "--"])
    for label, color, marker in ((-1, "#0072B2", "o"), (1, "#D55E00", "s")):
        chosen = points[labels == label]
        style: dict[str, Any] = {"markersize": 5.5, "markeredgecolor": "white", "markeredgewidth": 0.6, "linestyle": ""}
        axes.plot(chosen[:, 0], chosen[:, 1], marker, color=color, label=f"class {label}", **style)
    axes.set_title(title, fontsize=10)
    axes.set_aspect("equal")


def draw(params: Params, arrays: Arrays, shares: tuple[float, float]) -> Figure:
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    boundary(left, lambda grid: scalar_scores(params, grid), f"funcgrad.autograd, scalars: {shares[0]:.0%} right")
    boundary(right, lambda grid: np.asarray(array_scores(arrays, grid)), f"JAX, matrices: {shares[1]:.0%} right")
    left.legend(loc="lower left", fontsize=9)
    figure.suptitle("micrograd's moons: where the score changes sign (solid), and where it is ±1 (dashed)", fontsize=12)
    return figure


def timed_twice(train_steps: Callable[[int], Any]) -> tuple[Any, dict[str, float]]:
    """One step, which compiles, then the whole training: its result, and the seconds of each."""
    start = time.perf_counter()
    train_steps(1)
    compiled = time.perf_counter()
    result = train_steps(STEPS)
    return result, {"compile": compiled - start, "run": time.perf_counter() - compiled}


def main() -> None:
    points, labels = moons()
    start = init(SEED)
    gradient = make_gradient()
    (passed, losses), seconds = timed_twice(lambda steps: train(start, steps, gradient))
    params = passed[-1]
    share = accuracy(scalar_scores(params, points), labels)
    print(f"funcgrad.autograd: loss {losses[-1]:.4f}, accuracy {share:.0%}, {seconds['run']:.2f} s", flush=True)

    clock = time.perf_counter()
    worst = worst_difference(passed, gradient)
    checking = time.perf_counter() - clock
    print(f"gradients of {len(passed)} steps against jax.grad: worst {worst:.1e}, {checking:.1f} s", flush=True)

    with jax.enable_x64(True):
        first = to_arrays(start)
        (arrays, array_losses), array_seconds = timed_twice(lambda steps: train_arrays(first, steps))
        array_share = accuracy(np.asarray(array_scores(arrays, points)), labels)
        print(f"JAX: loss {array_losses[-1]:.4f}, accuracy {array_share:.0%}, {array_seconds['run']:.2f} s", flush=True)
        plots.save(draw(params, arrays, (share, array_share)), RESULTS / "micrograd_moons.png")

    result = {
        "command": "python experiments/micrograd_moons.py",
        "data": f"make_moons, {POINTS} points, noise {NOISE}, seed {SEED}",
        "settings": {"sizes": SIZES, "parameters": len(jax.tree.leaves(start)), "steps": STEPS, "l2": PENALTY},
        "scalars": {"accuracy": share, "losses": losses, "seconds": seconds},
        "jax": {"accuracy": array_share, "losses": array_losses, "seconds": array_seconds},
        "gradients_checked": len(passed),
        "worst_gradient_difference": worst,
        "worst_loss_difference": max(abs(x - y) for x, y in zip(losses, array_losses, strict=True)),
        "seconds_of_the_check": checking,
        "environment": report.environment(),
    }
    report.write_json(RESULTS / "micrograd_moons.json", result)


if __name__ == "__main__":
    main()
