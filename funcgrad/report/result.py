"""The content of result.json, seconds with compilation apart, and files that are written all or not at all."""

import functools
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from funcgrad import __version__
from funcgrad.files import plain


def make_result(
    command: str,
    config: Mapping[str, Any],
    dataset: Any,
    metrics: Mapping[str, Any],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """The content of result.json; `dataset` is a `funcgrad.datasets.Dataset`."""
    data = {
        "name": dataset.name,
        "train": len(dataset.train.labels),
        "test": len(dataset.test.labels),
        "classes": dataset.classes,
        "shape": dataset.train.images.shape[1:],
        "fingerprint": dataset.fingerprint,
    }
    content = {"command": command, "config": config, "dataset": data, "metrics": metrics, "seconds": seconds}
    return plain({**content, "environment": environment()})


def environment() -> dict[str, Any]:
    """Versions and devices: what a figure depends on beside the program."""
    import jax

    packages = ("jax", "jaxlib", "optax", "numpy", "scikit-learn")
    return {
        "python": platform.python_version(),
        "packages": {"funcgrad": __version__, **{name: version(name) for name in packages}},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "processors": os.cpu_count(),
        "devices": [device.device_kind for device in jax.devices()],
    }


def _processor() -> str:
    """Its name, and on Linux its family and model: one name may cover processors that differ threefold in speed."""
    try:
        lines = (line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    except OSError:
        return platform.processor()
    known = {name.strip(): value.strip() for name, value in lines}
    found = [known.get("model name", platform.processor())]
    return ", ".join(found + [f"{name} {known[name]}" for name in ("cpu family", "model") if name in known])


@functools.cache
def _compilations() -> list[float]:
    """The seconds of each compilation in this process since the first call; JAX's own monitoring appends them."""
    from jax import monitoring

    durations: list[float] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event.startswith("/jax/core/compile/"):  # tracing, lowering, compiling
            durations.append(duration_secs)

    monitoring.register_event_duration_secs_listener(listen)
    return durations


@contextmanager
def timed(seconds: dict[str, float]) -> Iterator[None]:
    """Adds the seconds within to seconds["run"], less those in which JAX compiled, which go to seconds["compile"]."""
    before, start = len(_compilations()), time.perf_counter()
    yield
    elapsed = time.perf_counter() - start
    compiled = min(sum(_compilations()[before:]), elapsed)
    seconds["compile"] = seconds.get("compile", 0.0) + compiled
    seconds["run"] = seconds.get("run", 0.0) + elapsed - compiled


@contextmanager
def output(out: Path | None) -> Iterator[Path | None]:
    """A temporary folder beside `out`, whose files move there if the block succeeds; nothing is left otherwise.

    Raises `OSError` at once when nothing can be written there, or no result.json.
    """
    if out is None:
        yield None
        return
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"--out: {out} is a file, not a directory")
    _check_no_directory(out / "result.json")
    parent = next(folder for folder in (out, *out.parents) if folder.exists())
    try:
        temporary_path = Path(tempfile.mkdtemp(prefix=".funcgrad-", dir=parent))
    except OSError as error:
        raise OSError(f"--out: cannot write to {parent}: {error.strerror}") from error
    try:
        yield temporary_path
        out.mkdir(parents=True, exist_ok=True)
        files = sorted(temporary_path.iterdir(), key=lambda file: file.name == "result.json")  # the result comes last
        for file in files:
            _check_no_directory(out / file.name)
        for file in files:
            os.replace(file, out / file.name)
    finally:
        shutil.rmtree(temporary_path, ignore_errors=True)


def _check_no_directory(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(f"--out: {path} is a directory, and a file is to be written there")


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes a compressed .npz file."""
    import numpy as np

    np.savez_compressed(path, **arrays)
