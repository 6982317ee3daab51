"""Strict for every test: no silent dtype or rank promotion, four CPU devices; warnings are errors (pyproject.toml).

Half of a test's time is compiling, so XLA leaves out most of its optimizations, here and in subprocesses; with
`--optimized` it does not, for the tests with that mark, which cover what rounding and scheduling may change.
"""

import json
import os
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

from funcgrad import cli

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 4)

REPOSITORY = Path(__file__).resolve().parent.parent
peaks: dict[str, float] = {}  # GiB that each process had resident at most


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--optimized", action="store_true", help="compile with all of XLA's optimizations")


def pytest_configure(config: pytest.Config) -> None:
    fast_compilation = not config.getoption("--optimized")
    jax.config.update("jax_disable_most_optimizations", fast_compilation)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(fast_compilation))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares compiled programs runs on one worker: tests of one file, metric and dtype."""
    for item in items:
        parameters = getattr(item, "callspec", None)
        shared = (
            [str(parameters.params[name]) for name in ("metric", "dtype") if name in parameters.params]
            if parameters
            else []
        )
        item.add_marker(pytest.mark.xdist_group("-".join([item.path.stem, *shared])))


@pytest.fixture(autouse=True, scope="module")
def compiled_programs_end_with_their_file() -> Iterator[None]:
    """They would stay in memory: a worker had 5 GiB in the end."""
    yield
    jax.clear_caches()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    peaks.update(getattr(node, "workeroutput", {}).get("peak", {}))


def pytest_sessionfinish(session: pytest.Session) -> None:
    peak = {os.environ.get("PYTEST_XDIST_WORKER", "this process"): resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
    getattr(session.config, "workeroutput", {})["peak"] = {name: kib / 2**20 for name, kib in peak.items()}


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if peaks:
        sizes = ", ".join(f"{name} {size:.2f} GiB" for name, size in sorted(peaks.items()))
        terminalreporter.write_line(f"peak memory of each worker: {sizes}")


@pytest.fixture(scope="session")
def image_data() -> Path:
    """The TFDS directory with the real CIFAR-10 and MNIST; where CI expects it and it is missing, that is a failure."""
    path = Path(os.environ.get("FUNCGRAD_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if (path / "cifar10").is_dir() and (path / "mnist").is_dir():
        return path
    if os.environ.get("FUNCGRAD_REQUIRE_DATA"):
        pytest.fail(f"no cifar10 and mnist in {path}, and FUNCGRAD_REQUIRE_DATA is set")
    pytest.skip(f"no image data in {path}; set FUNCGRAD_TEST_DATA to a TFDS directory with cifar10 and mnist")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests never touch the user's cache; all workers of a session share one, so that the real data is decoded once."""
    folder = tmp_path_factory.getbasetemp()
    session = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    monkeypatch.setenv("FUNCGRAD_CACHE_DIR", str(session / "funcgrad-cache"))


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    """Threads take turns a hundred times more often than usual."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs a command that succeeds, with --json, and returns the result, the only thing on either stream."""

    def run(*arguments: object) -> Any:
        status = cli.main([*map(str, arguments), "--json"])
        out, err = capsys.readouterr()
        assert (status, err) == (0, "")
        return json.loads(out, parse_constant=pytest.fail)

    return run


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """Runs a command that is refused, leaving nothing, and returns the one line that it says."""

    def refused(*arguments: object) -> str:
        before = sorted(tmp_path.rglob("*"))
        try:
            status = cli.main([*map(str, arguments)])
        except SystemExit as exit:
            status = exit.code  # type: ignore[assignment]
        out, err = capsys.readouterr()
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert sorted(tmp_path.rglob("*")) == before
        return err

    return refused
