"""Strict for every test: no silent dtype or rank promotion, four CPU devices; warnings are errors (pyproject.toml)."""

import json
import os
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
    """Tests never touch the user's cache; the session shares one so that the real data is decoded once."""
    monkeypatch.setenv("FUNCGRAD_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "funcgrad-cache"))


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
