"""What the tests of several commands share: a small data set, and runs that are stopped midway."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcgrad import cli

CHUNK = 100  # queries in each saved part of a search
STOPPED = """if True:
    import os, signal, sys, time
    from contextlib import contextmanager
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the shell that runs the tests set
    from funcgrad import cli
    @contextmanager
    def progress(description, **_):
        def report_progress(done, total, message=""):
            if description.startswith({task!r}) and done > {after}:
                os.kill(os.getpid(), {number})
                time.sleep({sleep})
        yield report_progress
    sys.exit(cli.main(progress=progress, chunk={chunk}))
"""


@pytest.fixture
def embeddings(tmp_path: Path) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    labels = np.arange(120) % 3
    vectors = (3 * np.eye(3, 8)[labels] + random.normal(size=(120, 8))).astype(np.float32)
    return {"x_train": vectors[:90], "y_train": labels[:90], "x_test": vectors[90:], "y_test": labels[90:]}


@pytest.fixture
def fails() -> Callable[..., int]:
    """Runs a command, its search in chunks, that an error ends once more than `after` is done of a task."""

    def fails(*arguments: object, task: str, after: int, error: BaseException) -> int:
        @contextmanager
        def progress(description: str, **_: Any) -> Iterator[Callable[..., None]]:
            def report_progress(done: int, total: int, message: str = "") -> None:
                if description.startswith(task) and done > after:
                    raise error

            yield report_progress

        return cli.main([*map(str, arguments)], progress=progress, chunk=CHUNK)

    return fails


@pytest.fixture
def stopped() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command as a process that sends itself a signal likewise, and would then sleep."""

    def stopped(
        *arguments: object, task: str, after: int, number: signal.Signals, sleep: float = 0
    ) -> subprocess.CompletedProcess[str]:
        code = STOPPED.format(task=task, after=after, number=int(number), sleep=sleep, chunk=CHUNK)
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)

    return stopped
