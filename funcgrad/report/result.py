"""What a run leaves: result.json and pictures, whole or not at all; seconds with compilation apart; progress bars."""

import json
import math
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from funcgrad import __version__

Progress = Callable[..., None]  # (done, total), and a few words on how it goes

_compilations: list[float] = []  # seconds of each compilation in this process, appended by JAX's own monitoring


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
    """Its name, and where Linux tells them its family and model: of one name some are three times as fast as others."""
    try:
        lines = (line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    except OSError:
        return platform.processor()
    known = {name.strip(): value.strip() for name, value in lines}
    found = [known.get("model name", platform.processor())]
    return ", ".join(found + [f"{name} {known[name]}" for name in ("cpu family", "model") if name in known])


@contextmanager
def timed(seconds: dict[str, float]) -> Iterator[None]:
    """Adds the seconds within to seconds["run"], less those in which JAX compiled, which go to seconds["compile"]."""
    from jax import monitoring

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event.startswith("/jax/core/compile/"):  # tracing, lowering, compiling
            _compilations.append(duration_secs)

    if not _compilations:
        monitoring.register_event_duration_secs_listener(listen)
        _compilations.append(0.0)
    before, start = len(_compilations), time.perf_counter()
    yield
    elapsed = time.perf_counter() - start
    compiled = min(sum(_compilations[before:]), elapsed)
    seconds["compile"] = seconds.get("compile", 0.0) + compiled
    seconds["run"] = seconds.get("run", 0.0) + elapsed - compiled


@contextmanager
def output(out: Path | None) -> Iterator[Path | None]:
    """A temporary directory beside `out`, whose files move there when all has gone well; nothing is left otherwise.

    Raises `OSError` at once when nothing can be written there, or no result.json.
    """
    if out is None:
        yield None
        return
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"--out: {out} is a file, not a directory")
    if (out / "result.json").is_dir():
        raise IsADirectoryError(f"--out: {out / 'result.json'} is a directory, and a file is to be written there")
    parent = out
    while not parent.exists():
        parent = parent.parent
    try:
        aside = Path(tempfile.mkdtemp(prefix=".funcgrad-", dir=parent))
    except OSError as error:
        raise OSError(f"--out: cannot write to {parent}: {error.strerror}") from error
    try:
        yield aside
        out.mkdir(parents=True, exist_ok=True)
        for file in aside.iterdir():
            if (out / file.name).is_dir():
                raise IsADirectoryError(f"--out: {out / file.name} is a directory, and a file is to be written there")
        for file in sorted(aside.iterdir(), key=lambda file: file.name == "result.json"):  # the result comes last
            os.replace(file, out / file.name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_json(path: Path, data: Any) -> None:
    """Writes JSON aside, then renames it into place."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def plain(value: Any) -> Any:
    """What JSON can say: paths as text, NaN and infinity as null; anything else unknown is left for it to refuse."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def print_json(value: Any) -> None:
    """The value as JSON on stdout."""
    print(json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes a compressed .npz file."""
    import numpy as np

    with path.open("xb") as file:
        np.savez_compressed(file, **arrays)


@contextmanager
def progress(description: str, *, unit: str = "", shown: bool) -> Iterator[Progress | None]:
    """A bar on stderr, as a function of (done, total); None where stderr is no terminal or none is wanted.

    It shows how many of how many units are done, how many a second, and the time that is left.
    """
    if not (shown and sys.stderr.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            total = "?" if task.total is None else f"{task.total:,.0f}"
            return Text(f"{f'{task.completed:,.0f}/{total} {unit}'.rstrip()}{_rate(task.speed)}")

    columns = TextColumn("{task.description}"), BarColumn(), Rate(), TimeRemainingColumn(elapsed_when_finished=True)
    with Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=60) as bars:
        task = bars.add_task(description, total=None)

        def update(done: int, total: int, said: str = "") -> None:
            bars.update(task, completed=done, total=total, description=f"{description} {said}".rstrip())

        yield update


def _rate(speed: float | None) -> str:
    """Three digits or more; nothing as long as there is no measurement."""
    return f", {speed:,.{0 if speed >= 100 else 1 if speed >= 10 else 2}f}/s" if speed else ""


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> None:
    """A table on stdout, its title above and notes below it: names to the left, numbers to the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for number, column in enumerate(columns):
        numeric = number > 0 and any(row[number][:1].isdigit() for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    print(title)  # not as the table's own, which would be wrapped at its width
    Console(width=None if sys.stdout.isatty() else 100, highlight=False).print(table)
    for note in notes:
        print(note)
