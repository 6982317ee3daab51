"""The content of result.json, and seconds with compilation apart."""

import functools
import hashlib
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from funcgrad import __version__
from funcgrad.files import plain


def make_result(
    command: str,
    config: Mapping[str, Any],
    data: Any,
    metrics: Mapping[str, Any],
    seconds: Mapping[str, float],
    notes: Sequence[str] = (),
    files: Sequence[str] = (),
    command_line: str | None = None,
) -> dict[str, Any]:
    """The content of result.json; `data` is a `funcgrad.datasets.Dataset` or its `Examples`, whose notes are added."""
    content = {"command": command, "config": config, "dataset": _description(data), "metrics": metrics}
    content |= {"seconds": seconds, "environment": environment(command_line)}
    return plain({**content, "notes": [*data.notes, *notes], "files": files})


def _description(data: Any) -> dict[str, Any]:
    """The data without its examples. `test_ids` is a hash of the ids of the test part, which tells two parts apart."""
    parts = {name: part for name in ("train", "validation", "test") if (part := getattr(data, name, None))}
    sizes = {name: len(part.images) for name, part in parts.items()} or {"examples": len(data.images)}
    labels = {name: part.labels for name, part in parts.items()} or {"examples": data.labels}
    tested = "\n".join(map(str, data.test.ids if parts else data.ids)).encode("utf-8", "surrogateescape")
    return {
        "name": data.name,
        **sizes,
        "classes": data.classes,
        "shape": (data.train if parts else data).images.shape[1:],
        "fingerprint": getattr(data, "fingerprint", None),
        "split": getattr(data, "split", None),
        "test_ids": hashlib.sha256(tested).hexdigest()[:16],
        "class_counts": {
            name: {kind: int((part == number).sum()) for number, kind in enumerate(data.classes)}
            for name, part in labels.items()
            if part is not None
        },
        "details": dict(data.details),
    }


def environment(command_line: str | None = None) -> dict[str, Any]:
    """Versions and devices, the command, when and from which commit: what a figure depends on beside the program."""
    import jax

    packages = ("jax", "jaxlib", "optax", "numpy", "scikit-learn", "pillow", "tensorflow-datasets")
    return {
        "python": platform.python_version(),
        "packages": {"funcgrad": __version__, **{name: version(name) for name in packages}},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "processors": os.cpu_count(),
        "devices": [device.device_kind for device in jax.devices()],
        "command_line": shlex.join(sys.argv) if command_line is None else command_line,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
    }


@functools.cache
def _commit() -> str | None:
    """The commit of funcgrad's source, "-dirty" after it if it was changed since; None where it was installed."""
    git = ["git", "-C", str(Path(__file__).parent)]
    options: dict[str, Any] = {"capture_output": True, "text": True, "check": True, "timeout": 10}
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", __file__], **options)  # else another project's
        return subprocess.run(
            [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"], **options
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


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
