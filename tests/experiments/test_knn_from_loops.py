"""The lesson's claim: every step from two loops to one compiled function gives the same distances, exactly."""

import json
import textwrap
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scripts import script


@pytest.fixture(scope="module")
def lesson() -> ModuleType:
    return script("knn_from_loops")


def test_every_step_gives_the_same_distances(lesson: ModuleType) -> None:
    queries, points = lesson.digits(12, 20)
    rows = lesson.measure(queries, points, [(name, step, 1) for name, step, _ in lesson.STEPS])
    assert [row["step"] for row in rows] == [name for name, _, _ in lesson.STEPS]
    assert rows[0]["times_faster_than_two_loops"] == 1
    assert all(row["median_seconds"] > 0 for row in rows)


def test_two_loops_are_the_squared_distances(lesson: ModuleType) -> None:
    queries, points = np.array([[0, 0], [1, 2]], np.float32), np.array([[3, 4], [1, 2], [0, 1]], np.float32)
    np.testing.assert_array_equal(lesson.two_loops(queries, points), [[25, 5, 1], [8, 0, 2]])


@pytest.mark.parametrize("wrong", ["one pair off by one", "transposed", "bytes that wrap around"])
def test_a_wrong_step_is_caught(lesson: ModuleType, wrong: str) -> None:
    def step(queries: np.ndarray, points: np.ndarray) -> np.ndarray:
        queries, points = np.asarray(queries), np.asarray(points)
        if wrong == "transposed":
            return lesson.no_loop(points, queries)
        if wrong == "bytes that wrap around":
            return lesson.one_loop(queries.astype(np.uint8), points.astype(np.uint8))
        distances = lesson.no_loop(queries, points)
        distances[-1, -1] += 1
        return distances

    queries, points = lesson.digits(7, 7)
    with pytest.raises(AssertionError, match="step 'mine' differs from two loops"):
        lesson.measure(queries, points, [("mine", step, 1)])


def test_the_recorded_result_has_every_step_and_no_path_of_a_machine(lesson: ModuleType) -> None:
    text = lesson.RESULT.read_text()
    result = json.loads(text)
    assert [row["step"] for row in result["steps"]] == [name for name, _, _ in lesson.STEPS]
    assert result["data"] == {"name": "digits", "queries": lesson.QUERIES, "points": lesson.POINTS, "pixels": 64}
    assert set(result["environment"]) == {"python", "jax", "numpy", "processor", "cpus", "device"}
    assert not any(part in text for part in ("/home", "/work", "/tmp", str(Path.home())))


def test_the_figures_in_the_docstring_are_the_recorded_ones(lesson: ModuleType) -> None:
    rows = json.loads(lesson.RESULT.read_text())["steps"]
    assert textwrap.indent(lesson.table(rows), "    ") in lesson.__doc__
