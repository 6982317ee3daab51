"""A million gradients: what a batch counts, that a run goes on where it stopped, what is recorded."""

import json
from pathlib import Path
from types import ModuleType

import pytest
from scripts import recorded, script

SETTINGS = {"programs": 2, "points": 3, "seed": 4, "order": 1, "jax": "any"}


@pytest.fixture(scope="module")
def million() -> ModuleType:
    return script("gradcheck_million")


def test_a_run_goes_on_where_it_stopped(million: ModuleType, tmp_path: Path) -> None:
    (batch,) = million.checked_batches(SETTINGS, tmp_path)
    assert batch["failures"] == []
    assert len(set(batch["sources"])) == 2
    assert sum(batch["programs"].values()) == 2
    assert 0 < sum(batch["gradients"].values()) <= 6
    path = tmp_path / "000000.json"
    saved = json.loads(path.read_text())
    path.write_text(json.dumps(saved | {"seconds": 1234.5}))
    (again,) = million.checked_batches(SETTINGS, tmp_path)
    assert again == saved | {"seconds": 1234.5}
    found = million.summary([again, again])
    assert (found["programs"]["all"], found["distinct_programs"], found["seconds"]) == (4, 2, 2469.0)
    assert found["gradients"]["all"] == 2 * sum(batch["gradients"].values())
    assert found["numbers"] == 2 * batch["cases"]


def test_of_two_worst_numbers_the_worse_is_kept(million: ModuleType) -> None:
    one = {"sin": {"cases": 2, "of_tolerance": 0.25, "where": "here"}}
    other = {"sin": {"cases": 3, "of_tolerance": 0.5, "where": "there"}, "cos": {"cases": 1, "of_tolerance": 0.0}}
    merged = million.merged_functions(one, other)
    assert merged == {"sin": {"cases": 5, "of_tolerance": 0.5, "where": "there"}, "cos": other["cos"]}
    assert million.worst_number({"cases": 1, "of_tolerance": float("inf"), "where": "x"})["of_tolerance"] < 1e300


def test_a_million_gradients_were_compared_without_a_miss() -> None:
    result = recorded("gradcheck_million_jax_0.12")
    assert result["gradients"]["all"] >= 1_000_000
    assert result["distinct_programs"] >= 20_000
    special = [result[key]["nested"] + result[key]["branched"] for key in ("programs", "gradients")]
    assert [part >= result[key]["all"] / 2 for part, key in zip(special, ("programs", "gradients"), strict=True)]
    assert result["failures"] == []
    assert all(row["of_tolerance"] <= 1.0 for row in result["functions"].values())


def test_on_the_oldest_jax_what_it_has_wrong_is_listed_and_counted() -> None:
    result = recorded("gradcheck_million_jax_0.10")
    assert result["settings"]["jax"].startswith("0.10.")
    assert result["failures"] == []
    assert result["distinct_programs"] >= 2000
    assert sum(result["excluded"].values()) < 0.05 * result["numbers"]
    assert any("ndtri, everywhere" in edge for edge in result["excluded"])
