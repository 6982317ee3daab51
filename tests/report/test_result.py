"""The content of result.json; seconds with compilation apart."""

import json
import re
from datetime import UTC, datetime

import jax
import jax.numpy as jnp

from funcgrad import datasets, report


def test_compiling_is_timed_apart_from_running() -> None:
    @jax.jit
    def function(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 10, lambda _, y: jnp.sin(y @ y), x)

    x = jnp.ones((50, 50))
    first: dict[str, float] = {}
    with report.timed(first):
        function(x).block_until_ready()
    second: dict[str, float] = {}
    with report.timed(second):
        function(x).block_until_ready()
    assert first["compile"] > 0.005
    assert second["compile"] < 0.001
    assert min(first["run"], second["run"]) >= 0
    before = dict(second)
    with report.timed(second):  # adds to what is there
        function(x).block_until_ready()
    assert second["run"] > before["run"]


def test_the_environment_names_versions_and_devices() -> None:
    found = report.environment()
    assert found["packages"]["jax"] == jax.__version__
    assert found["devices"] == ["cpu"] * 4
    json.dumps(found, allow_nan=False)


def test_the_environment_says_what_was_run_when_and_by_which_source() -> None:
    found = report.environment("funcgrad knn --k 1")
    assert found["command_line"] == "funcgrad knn --k 1"
    assert abs((datetime.now(UTC) - datetime.fromisoformat(found["date"])).total_seconds()) < 60
    assert {"pillow", "tensorflow-datasets"} <= found["packages"].keys()
    assert found["commit"] is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", found["commit"])


def test_the_result_describes_the_data() -> None:
    digits = datasets.load("digits", limit_test=20)
    result = report.make_result("knn", {}, digits, {}, {}, ["so it is"], ["a.png"])
    data = result["dataset"]
    assert (result["notes"], result["files"]) == ([*digits.notes, "so it is"], ["a.png"])
    assert (data["train"], data["test"], data["shape"]) == (1437, 20, [8, 8, 1])
    assert data["class_counts"]["test"] == {str(c): int(sum(digits.test.labels == c)) for c in range(10)}
    assert sum(data["class_counts"]["train"].values()) == 1437
    other = report.make_result("knn", {}, datasets.load("digits", limit_test=19), {}, {})["dataset"]
    assert data["test_ids"] != other["test_ids"]
    assert data["details"] == {}
