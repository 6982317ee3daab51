"""The rules of the house: who may import whom, what loads when, and that README and the files agree."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "funcgrad"

# Which modules of funcgrad each module may import. A module that is not here may import none.
ALLOWED = {
    "blocks": {"distances", "kernels", "sharding"},
    "certified": {"distances", "formulas"},
    "contractions": {"certified", "distances", "formulas"},
    "search": {"blocks", "certified", "contractions", "distances", "formulas"},
    "processes": {"formulas", "search", "sharding"},
    "neighbors": {
        "blocks",
        "certified",
        "contractions",
        "distances",
        "processes",
        "search",
        "sharding",
        "vectors",
        "votes",
    },
    "feeding": {"sharding", "steps"},
    "checked": {"steps"},
    "training": {"checked", "checkpoint", "feeding", "optimizers", "sharding", "steps"},
    "sweeps": {"steps"},
    "folds": {"blocks", "certified", "distances", "neighbors"},
    "crossval": {"blocks", "checked", "folds", "neighbors", "metrics", "steps", "sweeps"},
    "gradcheck": {"autograd", "programs", "tolerances", "verdicts"},
    "programs": {"autograd"},
    "tolerances": {"autograd"},
    "verdicts": {"tolerances"},
    "expressions": {"autograd"},
    "explain": {"autograd", "expressions"},
    "trained_estimators": {"losses", "models", "optimizers", "steps", "training", "weighting"},
    "estimators": {"neighbors", "trained_estimators"},
    "arrays": {"decoded"},
    "datasets": {"arrays", "decoded"},
    "data_commands": {"datasets", "prepare", "report"},
    "galleries": {"pages"},
    "matrices": {"pages"},
    "plots": {"galleries", "matrices", "pages"},
    "outcomes": {"crossval", "datasets", "metrics", "plots"},
    "knn_runs": {
        *{"crossval", "datasets", "metrics", "neighbors"},
        *{"outcomes", "plots", "report", "resume", "sharding"},
    },
    "train_runs": {
        *{"augment", "datasets", "feeding", "losses", "metrics", "models"},
        *{"outcomes", "plots", "probes", "report", "sharding", "training"},
    },
    "sweep_runs": {"crossval", "datasets", "losses", "outcomes", "plots", "report", "train_runs"},
    "probes": {"datasets", "metrics", "models", "outcomes", "parameters", "report", "training"},
    "runs": {"datasets", "knn_runs", "outcomes", "probes", "sweep_runs", "train_runs"},
    "resume": {"folds", "neighbors"},
    "cli": {
        *{"autograd", "checkpoint", "data_commands", "datasets", "explain", "gradcheck", "interrupts", "options"},
        *{"plots", "report", "resume", "runs", "sharding"},
    },
}
TOP = {"pyproject.toml", "funcgrad", "tests", "experiments", "README.md", ".ci", ".gitignore", "LICENSE"}


def imports(path: Path) -> set[str]:
    """The submodules of funcgrad that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "funcgrad":
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("funcgrad."):
            found.add(node.module.split(".")[1])  # type: ignore[union-attr]
        elif isinstance(node, ast.Import):
            found |= {name.name.split(".")[1] for name in node.names if name.name.startswith("funcgrad.")}
    return found - {"__version__"}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_modules_import_only_the_layer_below(path: Path) -> None:
    module = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert imports(path) - {module} <= ALLOWED.get(module, set())
    assert "cli" not in imports(path)


@pytest.mark.parametrize(
    "module", ["", ".autograd", ".autograd.ops", ".autograd.draw", ".cli", ".explain", ".plots", ".report"]
)
def test_what_a_command_line_needs_at_once_loads_nothing_slow(module: str) -> None:
    slow = ("jax", "numpy", "matplotlib", "sklearn", "tensorflow_datasets", "tensorflow")
    slow = slow[2:] if module == ".plots" else slow
    code = f"import sys, funcgrad{module}; print(sorted(set({slow!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_module_is_reached_from_the_package() -> None:
    import funcgrad

    for name in funcgrad.__all__:
        assert getattr(funcgrad, name)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = funcgrad.nonsense


def test_nothing_else_lies_at_the_top() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    assert {line.split("/")[0] for line in tracked.stdout.splitlines()} <= TOP


def test_no_file_is_pickled() -> None:
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\bimport pickle\b|allow_pickle=True", text), path


# README


def readme() -> str:
    return (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_the_table_in_readme_is_what_the_result_files_say() -> None:
    script = REPOSITORY / "experiments" / "readme_table.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_two_commands_are_in_the_first_screen_and_name_what_exists() -> None:
    first_screen = "\n".join(readme().splitlines()[:40])
    assert "pip install . && funcgrad demo" in first_screen
    assert 'pip install -e ".[test]" && pytest' in first_screen


def test_files_that_readme_names_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", readme()):
        assert (REPOSITORY / target).exists(), target
    for path in re.findall(r"`((?:funcgrad|experiments|tests)/[\w./]+\.\w+)`", readme()):
        assert (REPOSITORY / path).exists(), path


@pytest.mark.slow
def test_readme_python_runs(tmp_path: Path) -> None:
    """Each Python block runs by itself, in an empty directory that has what the text before it says there is."""
    blocks = re.findall(r"```python\n(.*?)```", readme(), re.DOTALL)
    assert blocks
    import numpy as np

    rng = np.random.default_rng(0)
    for name, count in (("train", 300), ("test", 60)):
        labels = rng.integers(0, 3, count)
        np.save(tmp_path / f"{name}_labels.npy", labels)
        np.save(tmp_path / f"{name}.npy", (rng.normal(size=(count, 8)) + labels[:, None]).astype(np.float32))
    for block in blocks:
        done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, block + done.stderr


@pytest.mark.slow
def test_readme_commands_are_understood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each `funcgrad …` line parses; those that need no data beyond the digits are run."""
    from funcgrad import cli, options

    lines = re.findall(r"^funcgrad (.+?)(?:\s+#.*)?$", readme(), re.MULTILINE)
    assert len(lines) >= 5
    for line in lines:
        options.parser().parse_args(line.split())
        if not {"--data", "--distributed"} & {*line.split()} and line.split()[0] in ("knn", "train"):
            assert cli.main([*line.split(), "--quiet", "--out", str(tmp_path / "out")]) == 0
            assert json.loads((tmp_path / "out" / "result.json").read_text())["dataset"]["name"] == "digits"


@pytest.mark.parametrize(
    "name", [".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in sorted(PACKAGE.rglob("[a-z]*.py"))]
)
def test_examples_in_docstrings(name: str) -> None:
    import doctest
    import importlib

    module = importlib.import_module(f"funcgrad.{name}")
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).failed == 0


def test_results_name_no_machine() -> None:
    for path in (REPOSITORY / "experiments" / "results").glob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r'"/(?!s)[a-z]+/', text), path
        assert os.path.expanduser("~") not in text, path
