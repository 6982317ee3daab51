"""The tool that GradBench speaks to: the form of its answers, and its functions against independent computation."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import logsumexp, softmax
from scripts import EXPERIMENTS, script

TOOL = script("gradbench/tool")
ONCE = {"min_runs": 1, "min_seconds": 0}


def session(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    lines = "".join(json.dumps({"id": number} | message) + "\n" for number, message in enumerate(messages))
    return [json.loads(line) for line in TOOL.answers(io.StringIO(lines))]


def evaluation(module: str, function: str, given: Any) -> dict[str, Any]:
    return {"kind": "evaluate", "module": module, "function": function, "input": given, "description": "a test"}


def test_a_session_has_an_answer_for_every_message() -> None:
    started, defined, squared, judged, doubled, ended = session(
        {"kind": "start", "eval": "hello"},
        {"kind": "define", "module": "hello"},
        evaluation("hello", "square", 3.0),
        {"kind": "analysis", "of": 2, "valid": True},
        evaluation("hello", "double", 9),  # as JavaScript's JSON writes 9.0
        {"kind": "end"},
    )
    assert started == {"id": 0, "tool": "funcgrad"}
    assert defined == {"id": 1, "success": True}
    assert (judged, ended) == ({"id": 3}, {"id": 5})
    assert (squared["id"], squared["success"], squared["output"]) == (2, True, 9.0)
    assert (doubled["id"], doubled["success"], doubled["output"]) == (4, True, 18.0)
    ((name, nanoseconds),) = [timing.values() for timing in doubled["timings"]]
    assert name == "evaluate"
    assert isinstance(nanoseconds, int)
    assert nanoseconds > 0


def test_what_cannot_be_done_is_an_answer_too() -> None:
    unknown, function, words, infinite, fine = session(
        {"kind": "define", "module": "gmm"},
        evaluation("hello", "cube", 1.0),
        evaluation("lse", "primal", {"x": ["a"], **ONCE}),
        evaluation("hello", "square", 1e200),
        evaluation("hello", "square", 2.0),
    )
    assert unknown == {"id": 0, "success": False, "error": unknown["error"]}
    assert "'gmm'" in unknown["error"]
    assert [x["success"] for x in (function, words, infinite, fine)] == [False, False, False, True]
    assert "cube" in function["error"]
    assert "the input must be numbers, got 'a'" in words["error"]


def test_log_sum_exp_is_that_of_scipy_and_runs_as_often_as_asked() -> None:
    x = np.random.default_rng(0).uniform(-100.0, 100.0, 50)
    value, gradient, longer = session(
        evaluation("lse", "primal", {"x": x.tolist(), "min_runs": 3, "min_seconds": 0}),
        evaluation("lse", "gradient", {"x": x.tolist(), **ONCE}),
        evaluation("lse", "primal", {"x": x.tolist(), "min_runs": 1, "min_seconds": 0.01}),
    )
    np.testing.assert_allclose(value["output"], logsumexp(x), rtol=1e-14)
    np.testing.assert_allclose(gradient["output"], softmax(x), rtol=1e-12)
    assert len(value["timings"]) == 3
    assert sum(timing["nanoseconds"] for timing in longer["timings"]) >= 1e7


def descend(fun: Callable[[Any], float], gradient: Callable[[Any], Any], point: Any) -> Any:
    """GradBench's descent, in NumPy."""
    rate, good = 1e-5, 0
    while np.linalg.norm(gradient(point)) > 1e-5:
        if good == 10:
            rate, good = 2 * rate, 0
        step = rate * gradient(point)
        if np.linalg.norm(step) <= 1e-5:
            break
        if fun(point - step) < fun(point):
            point, good = point - step, good + 1
        else:
            rate, good = rate / 2, 0
    return point


@pytest.mark.parametrize("modes", ["rf", pytest.param("fr", marks=pytest.mark.exhaustive)])
def test_the_saddle_is_where_gradients_written_by_hand_lead(modes: str) -> None:
    start = np.array([0.6, -0.4])
    end = descend(lambda p: p @ p, lambda p: 2 * p, start)  # of p, and of q: the two do not touch each other
    (found,) = session(evaluation("saddle", modes, {"start": start.tolist(), **ONCE}))
    np.testing.assert_allclose(found["output"], [*end, *end], rtol=1e-9)
    assert np.max(np.abs(end)) < 1e-5


def crossing(w: float) -> float:
    """Where the particle crosses the axis, with forces written by hand."""
    charges = np.array([[10.0, 10.0 - w], [10.0, 0.0]])
    position, velocity = np.array([0.0, 8.0]), np.array([0.75, 0.0])
    while True:
        away = position - charges
        force = np.sum(away / np.linalg.norm(away, axis=1, keepdims=True) ** 3, axis=0)
        position = position + 0.1 * velocity
        if position[1] <= 0:
            return float(position[0] - position[1] / velocity[1] * velocity[0])
        velocity = velocity + 0.1 * force


@pytest.mark.parametrize("modes", TOOL.MODES)
def test_the_particle_misses_by_as_much_as_in_numpy_in_every_mode(modes: str) -> None:
    outer, inner = modes
    value, slope = TOOL.miss([0.1], inner), TOOL.GRADIENTS[outer](lambda w: TOOL.miss(w, inner))([0.1])
    assert value == pytest.approx(crossing(0.1) ** 2, rel=1e-12)
    h = 1e-6
    assert slope == pytest.approx([(crossing(0.1 + h) ** 2 - crossing(0.1 - h) ** 2) / (2 * h)], rel=1e-7)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("module", "argument", "expected"),
    # what the evals themselves expect: python/gradbench/gradbench/evals/NAME/run.py
    [
        ("saddle", {"start": [1.0, 1.0]}, [8.246324826140356e-06] * 4),
        ("particle", {"w": 0.0}, 0.2071918746486116),
    ],
)
def test_the_process_gives_what_gradbench_expects(module: str, argument: dict[str, Any], expected: Any) -> None:
    messages = [evaluation(module, modes, argument | ONCE) for modes in TOOL.MODES]
    lines = "".join(json.dumps({"id": number} | message) + "\n" for number, message in enumerate(messages))
    command = [sys.executable, str(EXPERIMENTS / "gradbench" / "tool.py")]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
    for number, line in enumerate(done.stdout.splitlines()):
        response = json.loads(line)
        assert response["id"] == number
        assert response["output"] == pytest.approx(expected, rel=1e-12)


def test_the_list_of_evals_is_that_of_the_functions() -> None:
    assert (EXPERIMENTS / "gradbench" / "evals.txt").read_text().split() == sorted(TOOL.FUNCTIONS)
