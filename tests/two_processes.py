"""Two processes that meet over gloo, each of which runs a test file as a program and says what became of its checks."""

import faulthandler
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import jax

from funcgrad import sharding

TIMEOUT = 400  # seconds of all checks


def checked_in_both(file: str, folder: Path) -> list[dict[str, str]]:
    """What each of two processes that run this file says of its checks; it calls `run_checks` with its arguments."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    folders = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "error", file, address, str(process), str(folder)],
            env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": folders},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(2)
    ]
    said = []
    try:
        for process in started:
            said.append(process.communicate(timeout=2 * TIMEOUT))
    finally:
        for process in started:
            process.kill()
    for number, (process, (output, errors)) in enumerate(zip(started, said, strict=True)):
        assert process.returncode == 0, f"process {number} ended with {process.returncode}:\n{output}\n{errors}"
    return [json.loads(output.splitlines()[-1]) for output, _ in said]


def run_checks(checks: Mapping[str, Callable[[Path], None]], address: str, process: str, folder: str) -> None:
    """Runs all checks, as one of two processes with two devices each; the last line says what became of each."""
    faulthandler.dump_traceback_later(TIMEOUT, exit=True)  # one that waits for the other for ever says where
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    sharding.start(address, 2, int(process))
    outcomes = {}
    for number, (name, check) in enumerate(checks.items()):
        try:
            check(Path(folder) / str(number))
            outcomes[name] = "passed"
        except Exception as error:
            outcomes[name] = f"{type(error).__name__}: {error}"
    print(json.dumps(outcomes), flush=True)
