"""The bridge: micrograd's network on scalars is JAX's on matrices, and SciPy finds minima with compiled derivatives."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest
from scripts import recorded, script

FINITE_DIFFERENCES = "differences"
SMALL = 2, 3, 3, 1  # units of a network that JAX compiles quickly


@pytest.fixture(scope="module")
def moons() -> ModuleType:
    return script("micrograd_moons")


@pytest.fixture(scope="module")
def problems() -> ModuleType:
    return script("small_problems")


# micrograd's moons


def test_the_first_losses_are_those_of_micrograd(moons: ModuleType) -> None:
    _, losses = moons.train(moons.init(moons.SEED), 3, moons.make_gradient())
    # micrograd 0.1.0, MLP(2, [16, 16, 1]) after random.seed(1337), on the same points
    assert losses == pytest.approx([0.8958441028683222, 1.723590533697202, 0.7429006313851131], rel=1e-12)


def test_the_gradient_is_that_of_jax_at_every_step(moons: ModuleType) -> None:
    gradient = moons.make_gradient()
    passed, _ = moons.train(moons.init(0, SMALL), 5, gradient)
    assert len(passed) == 6
    assert moons.worst_difference(passed, gradient) <= moons.TOLERANCE


@pytest.mark.exhaustive
def test_the_gradient_of_the_whole_network_is_that_of_jax(moons: ModuleType) -> None:
    gradient = moons.make_gradient()
    passed, _ = moons.train(moons.init(moons.SEED), 5, gradient)
    assert moons.worst_difference(passed, gradient) <= moons.TOLERANCE


@pytest.mark.parametrize("wrong", [1e-9, float("nan")])
def test_a_wrong_gradient_is_caught(moons: ModuleType, wrong: float) -> None:
    gradient = moons.make_gradient()

    def shifted(*args: Any) -> Any:
        loss, slope = gradient(*args)
        ((weights, bias), *_) = slope[-1]
        return loss, [*slope[:-1], [(weights, bias + wrong)]]

    with pytest.raises(AssertionError, match=r"step 0: the gradient differs from jax\.grad's by"):
        moons.worst_difference([moons.init(0, SMALL)], shifted)


def test_a_step_changes_nothing_in_place(moons: ModuleType) -> None:
    start, same = moons.init(0, SMALL), moons.init(0, SMALL)
    passed, _ = moons.train(start, 2, moons.make_gradient())
    assert start == same
    assert passed[0] == start
    assert passed[1] != passed[2]


@pytest.mark.exhaustive
def test_matrices_learn_what_the_scalars_learn(moons: ModuleType) -> None:
    points, labels = moons.moons()
    start = moons.init(0, SMALL)
    passed, losses = moons.train(start, 10, moons.make_gradient())
    with jax.enable_x64(True):
        arrays, array_losses = moons.train_arrays(moons.to_arrays(start), 10)
        scores = np.asarray(moons.array_scores(arrays, points))
    np.testing.assert_allclose(losses, array_losses, rtol=1e-9)
    np.testing.assert_allclose(moons.scalar_scores(passed[-1], points), scores, rtol=1e-6, atol=1e-9)
    assert moons.accuracy(scores, labels) > moons.accuracy(-scores, labels)


def test_accuracy_counts_the_right_signs(moons: ModuleType) -> None:
    assert moons.accuracy(np.array([0.1, -2.0, 3.0, -1.0]), np.array([1.0, -1.0, -1.0, -1.0])) == 0.75


def test_both_boundaries_are_drawn(moons: ModuleType) -> None:
    params = moons.init(0, SMALL)
    with jax.enable_x64(True):
        figure = moons.draw(params, moons.to_arrays(params), (0.5, 1.0))
    assert [axes.get_title() for axes in figure.axes] == [
        "funcgrad.autograd, scalars: 50% right",
        "JAX, matrices: 100% right",
    ]


def test_the_recorded_training_is_as_the_docstring_says(moons: ModuleType) -> None:
    result = recorded("micrograd_moons")
    assert result["settings"]["parameters"] == 337
    assert result["scalars"]["accuracy"] == result["jax"]["accuracy"] == 1.0
    assert len(result["scalars"]["losses"]) == len(result["jax"]["losses"]) == moons.STEPS
    assert result["gradients_checked"] >= moons.STEPS
    assert result["worst_gradient_difference"] <= moons.TOLERANCE
    assert result["worst_loss_difference"] <= 1e-9


# Small problems

POINTS = [(-1.2, 1.0), (0.3, -0.7), (2.0, 0.0)]


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["Rosenbrock", "Beale"])
def test_gradients_and_hessians_are_those_of_jax(problems: ModuleType, name: str) -> None:
    fun = problems.PROBLEMS[name].fun
    ours = problems.compiled(fun, "trust-ncg")
    with jax.enable_x64(True):
        theirs = problems.jax_compiled(fun, "trust-ncg")
        for point in map(np.array, POINTS):
            for f, g in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(f(point), g(point), rtol=1e-12, atol=1e-12)


def test_the_jacobian_of_the_residuals_is_the_one_written_by_hand(problems: ModuleType) -> None:
    a, b, c = point = np.array([1.5, 0.7, 0.2])
    ours = problems.compiled(problems.residuals, "least_squares")
    e = np.exp(-b * problems.TIMES)
    by_hand = np.stack([e, -a * problems.TIMES * e, np.ones_like(e)], axis=1)
    np.testing.assert_allclose(ours.value(point), a * e + c - problems.MEASURED, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ours.first(point), by_hand, rtol=1e-12)


def test_the_fit_is_where_the_gradient_of_the_squares_is_zero(problems: ModuleType) -> None:
    ours = problems.compiled(problems.residuals, "least_squares")
    point = np.array(problems.PROBLEMS["decay"].minimum)
    np.testing.assert_allclose(ours.first(point).T @ ours.value(point), 0, atol=1e-12)


CASES = [(name, method) for name in ("Rosenbrock", "Beale") for method in ("BFGS", "trust-ncg")]
CASES.append(("decay", "least_squares"))
RUNS = [
    # JAX compiles the 30 residuals and their Jacobian in seconds
    pytest.param(name, method, source, marks=[pytest.mark.exhaustive] if (name, source) == ("decay", "JAX") else [])
    for name, method in CASES
    for source in ("ours", "JAX", FINITE_DIFFERENCES)
]


@pytest.mark.parametrize(("name", "method", "source"), RUNS)
def test_the_minimum_is_found(problems: ModuleType, name: str, method: str, source: str) -> None:
    row, run = problems.measure(name, method, source, repeats=1)
    assert row["error"] < (1e-4 if source == FINITE_DIFFERENCES else 1e-6)
    calls = row["calls"]
    assert calls["value"] >= row["iterations"]
    assert (calls["first"] > 0) == (source != FINITE_DIFFERENCES)
    assert (calls["second"] > 0) == (source != FINITE_DIFFERENCES and method == "trust-ncg")
    assert tuple(run.path[0]) == problems.PROBLEMS[name].start
    assert source != FINITE_DIFFERENCES or row["seconds"]["compile"] == 0


def test_a_counted_function_is_the_function(problems: ModuleType) -> None:
    counted = problems.Counted(np.sum)
    assert [counted(np.ones(2)), counted(np.ones(3))] == [2, 3]
    assert counted.calls == 2
    assert counted.seconds > 0


def test_the_paths_and_the_table_show_every_run(problems: ModuleType) -> None:
    runs, rows = {}, []
    for name in ("Rosenbrock", "Beale"):
        for method, source in problems.STYLES:
            row, runs[name, method, source] = problems.measure(name, method, source, repeats=1)
            rows.append(row)
    drawn = [{line.get_label() for line in axes.lines} for axes in problems.draw(runs).axes]
    steps = [f"{label}: {row['iterations']} steps" for label, row in zip(problems.LABELS * 2, rows, strict=True)]
    assert drawn == [{*steps[:3], "minimum"}, {*steps[3:], "minimum"}]
    head, *lines = problems.table(rows).splitlines()
    assert all(len(line) == len(head) for line in lines)
    assert [line.split()[:3] for line in lines] == [
        [row[k] for k in ("problem", "method", "derivatives")] for row in rows
    ]


def test_the_recorded_minima_are_as_the_docstring_says(problems: ModuleType) -> None:
    rows = recorded("small_problems")["rows"]
    pick: Callable[[str], list[Any]] = lambda source: [row for row in rows if row["derivatives"] == source]  # noqa: E731
    ours, theirs, differences = pick("ours"), pick("JAX"), pick(FINITE_DIFFERENCES)
    assert [(row["problem"], row["method"]) for row in ours] == CASES
    for mine, other, rough in zip(ours, theirs, differences, strict=True):
        assert mine["iterations"] == other["iterations"]
        assert max(mine["error"], other["error"]) < 1e-7
        assert mine["error"] / 2 < rough["error"] < 1e-4
        assert rough["calls"]["value"] >= 2 * mine["calls"]["value"]
