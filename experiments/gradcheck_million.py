"""Are a million gradients of twenty thousand random programs those of JAX, without a miss?

    python experiments/gradcheck_million.py      # 80 minutes on half a core

Program i of seed 0 is the one that `funcgrad gradcheck --seed 0` draws: 3 to 12 statements over all functions of `ops`
and Python's operators, with sharing, containers, branches, and transformations within; at every point, edges and ties
among them, its value, gradient, jvp and vjp are compared with JAX's in float64: uncompiled, compiled and mapped. A
gradient counts where every number could be compared; what was excluded is counted by its reason, with the edges at
which this version of JAX is known to be wrong. Programs with branches run under JAX point by point, so at few points.

A run that was interrupted goes on where it stopped: finished batches lie beside the result, in a folder.
Expected: at least 1,000,000 gradients of 20,000 distinct programs, half of them with branches or nesting, no failure;
on the oldest JAX, with --programs 2000, none either, and the edges at which it is wrong among the excluded.
"""

import argparse
import hashlib
import json
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jax

from funcgrad import gradcheck, report

RESULTS = Path(__file__).parent / "results"
BATCH = 100  # programs
KINDS = "plain", "nested", "branched"


def kind(program: Any) -> str:
    """What is special about a program: a branch on a value, else a transformation within, else nothing."""
    return "branched" if program.branches() else "nested" if program.nests() else "plain"


def check_batch(settings: dict[str, Any]) -> dict[str, Any]:
    """So many `programs` from number `first` on: what was compared, by kind, and the report as data by function."""
    start = time.perf_counter()
    programs, gradients, excluded = Counter[str](), Counter[str](), Counter[str]()
    functions: dict[str, dict[str, Any]] = {}
    batch: dict[str, Any] = {"settings": settings, "cases": 0, "sources": [], "failures": []}
    for number in range(settings["first"], settings["first"] + settings["programs"]):
        program, points = gradcheck.numbered_program(settings["seed"], number, settings["points"])
        found = gradcheck.check_program(program, points, settings["order"])
        programs[kind(program)] += 1
        gradients[kind(program)] += found.gradients
        excluded.update(found.excluded)
        data = found.as_data()
        functions = merged_functions(functions, {name: worst_number(row) for name, row in data["functions"].items()})
        batch["cases"] += found.cases
        batch["sources"].append(hashlib.sha256(program.source().encode()).hexdigest()[:16])
        batch["failures"] += [{"number": number, **failure} for failure in data["failures"]]
    batch |= {"programs": programs, "gradients": gradients, "excluded": excluded, "functions": functions}
    return batch | {"seconds": time.perf_counter() - start}


def worst_number(row: dict[str, Any]) -> dict[str, Any]:
    """A function's row without its relative error, whose share of the tolerance may be infinite in a failure only."""
    return {"cases": row["cases"], "of_tolerance": min(row["of_tolerance"], 1e9), "where": row["where"]}


def merged_functions(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Both tables as one: for each function the cases of both, and of the two worst numbers the worse."""
    merged = dict(one)
    for name, row in other.items():
        known = merged.get(name, row | {"cases": 0})
        worst = max(known, row, key=lambda row: row["of_tolerance"])
        merged[name] = worst | {"cases": known["cases"] + row["cases"]}
    return merged


def summary(batches: list[dict[str, Any]]) -> dict[str, Any]:
    """The batches as one table."""
    total = {key: Counter[str]() for key in ("programs", "gradients", "excluded")}
    functions: dict[str, Any] = {}
    for batch in batches:
        for key, counts in total.items():
            counts.update(batch[key])
        functions = merged_functions(functions, batch["functions"])
    return {
        "programs": {name: total["programs"][name] for name in KINDS} | {"all": total["programs"].total()},
        "distinct_programs": len({source for batch in batches for source in batch["sources"]}),
        "gradients": {name: total["gradients"][name] for name in KINDS} | {"all": total["gradients"].total()},
        "numbers": sum(batch["cases"] for batch in batches),
        "failures": [failure for batch in batches for failure in batch["failures"]],
        "excluded": dict(total["excluded"].most_common()),
        "functions": dict(sorted(functions.items())),
        "seconds": sum(batch["seconds"] for batch in batches),
    }


def checked_batches(settings: dict[str, Any], parts: Path) -> list[dict[str, Any]]:
    """Every batch; those that lie in the folder `parts` with these settings are read, the others run and are saved."""
    batches = []
    for first in range(0, settings["programs"], BATCH):
        wanted = settings | {"first": first, "programs": min(BATCH, settings["programs"] - first)}
        path = parts / f"{first:06}.json"
        saved = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if saved.get("settings") != wanted:
            saved = check_batch(wanted)
            report.write_json(path, saved)
            for failure in saved["failures"]:
                print(f"program {failure['number']}: {failure['case']}\n{failure['program']}\n", flush=True)
        batches.append(saved)
        done = sum(sum(batch["gradients"].values()) for batch in batches)
        failed = sum(len(batch["failures"]) for batch in batches)
        print(f"{first + wanted['programs']:,} programs, {done:,} gradients, {failed} failures", flush=True)
    return batches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", type=int, default=20_500)
    parser.add_argument("--points", type=int, default=54, help="of each program; 6 of one with branches")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--order", type=int, default=1, help="2 compares Hessians too, 3 third derivatives")
    parser.add_argument("--out", type=Path, help="the results file (default: one for this version of JAX)")
    options = parser.parse_args()
    out = options.out or RESULTS / f"gradcheck_million_jax_{'.'.join(jax.__version__.split('.')[:2])}.json"
    parts = out.with_suffix(".parts")
    parts.mkdir(parents=True, exist_ok=True)
    settings = {name: getattr(options, name) for name in ("programs", "points", "seed", "order")}
    settings |= {"jax": jax.__version__}
    found = summary(checked_batches(settings, parts))
    result = {"command": "python experiments/gradcheck_million.py", "settings": settings, **found}
    report.write_json(out, result | {"environment": report.environment()})
    shutil.rmtree(parts)
    print(f"{found['gradients']['all']:,} gradients of {found['distinct_programs']:,} programs", flush=True)


if __name__ == "__main__":
    main()
