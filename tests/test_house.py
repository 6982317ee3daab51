"""The layout and its rules: who may import whom, what loads when, and that README and the files agree."""

import ast
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Set
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "funcgrad"

TOP = {"pyproject.toml", "funcgrad", "tests", "experiments", "README.md", ".ci", ".gitignore", "LICENSE"}

# Which packages and modules of funcgrad each may import, by the names under which users import them.
ALLOWED: dict[str, set[str]] = {
    **{name: set() for name in ("autograd", "files", "metrics", "folds", "losses", "models", "sharding", "distances")},
    "gradcheck": {"autograd"},
    "explain": {"autograd", "files"},
    "datasets": {"files", "folds"},
    "plots": {"files", "metrics"},
    "report": {"plots", "files", "metrics"},
    "neighbors": {"distances", "sharding", "files"},
    "training": {"models", "losses", "sharding", "files", "metrics"},
    "crossval": {"neighbors", "training", "folds", "metrics", "files"},
    "probes": {"training", "losses", "folds", "metrics", "sharding", "files"},
    "estimators": {"neighbors", "training", "models", "losses", "folds", "metrics"},
}
ALLOWED["cli"] = {*ALLOWED}  # everything; nobody imports it
FLOORS = 6
FILE_LINES, FUNCTION_LINES, PARAMETERS = 400, 60, 8

# Flat tables, which are read by looking up a line.
LONG_FILES = {"autograd/ops.py", "autograd/primitives.py"}
# Facades, whose arguments are options by name; and a GPU kernel, whose inner functions share its references.
LONG_FUNCTIONS = {
    "crossval.py:knn",
    "crossval.py:sweep",
    "datasets/loading.py:load",
    "datasets/loading.py:load_examples",
    "distances/kernels/tiles.py:sum_over_rows",
    "neighbors/search.py:kneighbors",
    "probes/logistic_path.py:logistic",
    "training/loop.py:fit",
}


def modules() -> dict[str, Path]:
    """Every module of funcgrad by its dotted name, without "funcgrad." itself: "neighbors.search"."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def package_of(module: str) -> str:
    return module.split(".")[0]


def imports(module: str, *, at_start: bool = False) -> set[str]:
    """The modules of funcgrad that one imports: wherever in the file, or only on being imported itself."""
    known, found = modules(), set()
    tree = ast.parse(known[module].read_text(encoding="utf-8"))
    for node in tree.body if at_start else ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "funcgrad":
            source = (node.module or "").removeprefix("funcgrad").removeprefix(".")
            inner = {f"{source}.{name.name}".removeprefix(".") for name in node.names}
            found |= (inner & known.keys()) | ({source} if inner - known.keys() else set())
        elif isinstance(node, ast.Import):
            found |= {name.name.removeprefix("funcgrad.") for name in node.names if name.name.startswith("funcgrad.")}
    return found - {module, ""}


def circle(arrows: Mapping[str, Set[str]]) -> list[str]:
    """Names of a graph that lead back to themselves, in their order; empty if there are none."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        found = next((found for other in sorted(arrows[name]) if (found := visit(other, [*path, name]))), [])
        done.add(name)
        return found

    return next((found for name in sorted(arrows) if (found := visit(name, []))), [])


@pytest.mark.parametrize("package", sorted({package_of(module) for module in modules()} - {""}))
def test_packages_import_only_what_the_table_allows(package: str) -> None:
    for module in modules():
        if package_of(module) == package:
            others = {other for other in imports(module) if package_of(other) != package}
            assert {package_of(other) for other in others} <= ALLOWED[package], module


def test_nobody_imports_the_inside_of_another_package() -> None:
    """What another package needs is exported by the package; `autograd.ops` is public, as `jax.numpy` is."""
    public = {"", "autograd.ops"}
    for module in modules():
        for other in imports(module):
            assert "." not in other or other in public or package_of(other) == package_of(module), (module, other)


def test_no_circle_of_files_and_at_most_six_floors_of_packages() -> None:
    inside = {module: imports(module) for module in modules() if module}
    assert circle({module: {x for x in found if "." in x or x in ALLOWED} for module, found in inside.items()}) == []
    floor: dict[str, int] = {}
    while len(floor) < len(ALLOWED):
        known = [name for name in ALLOWED if name not in floor and ALLOWED[name] <= floor.keys()]
        assert known, f"a circle of packages among {sorted(ALLOWED.keys() - floor.keys())}"
        floor |= {name: 1 + max((floor[other] for other in ALLOWED[name]), default=0) for name in known}
    assert max(floor.values()) <= FLOORS


def test_no_module_has_the_name_of_a_function_that_its_package_exports() -> None:
    for module, path in modules().items():
        if module and path.name == "__init__.py" and module != "autograd":
            package = importlib.import_module(f"funcgrad.{module}")
            for name in getattr(package, "__all__", ()):
                assert not (path.parent / f"{name}.py").exists() or inspect.ismodule(getattr(package, name)), name


def test_files_and_functions_are_short() -> None:
    files, functions = set(), set()
    for path in PACKAGE.rglob("*.py"):
        name, text = path.relative_to(PACKAGE).as_posix(), path.read_text(encoding="utf-8")
        if len(text.splitlines()) > FILE_LINES:
            files.add(name)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
                if node.end_lineno - node.lineno >= FUNCTION_LINES or len(arguments) > PARAMETERS:  # type: ignore[operator]
                    functions.add(f"{name}:{node.name}")
    assert files == LONG_FILES
    assert functions == LONG_FUNCTIONS


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


@pytest.mark.exhaustive
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


@pytest.mark.exhaustive
def test_readme_commands_are_understood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each `funcgrad …` line parses; those that need no data beyond the digits are run."""
    from funcgrad import cli
    from funcgrad.cli import parser

    lines = re.findall(r"^funcgrad (.+?)(?:\s+#.*)?$", readme(), re.MULTILINE)
    assert len(lines) >= 5
    for line in lines:
        parser.parser().parse_args(line.split())
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
