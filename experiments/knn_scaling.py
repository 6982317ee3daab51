"""What do more devices and a second process cost, or gain, in a search, and do they find the same?

    python experiments/knn_scaling.py    # 2 minutes on 2 cores

Exact search of random bytes (L2) and random directions in float32 (cosine), k = 10, over 1, 2, 4 and 8 devices that
split the queries or the points, and by two processes connected by gloo. Each measurement has its own processes,
compiles first, and takes the median of five runs. On CPU the devices are virtual: they share the same cores, so the
ratio to one device shows what splitting costs; real devices show what it gains.

Expected: every answer is that of one device, bit for bit, or the run fails. On CPU, splitting costs little: the median
time of a split is 0.6 to 1.4 × that of one device.
"""

import argparse
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).parent / "results" / "knn_scaling.json"
DEVICES, K, REPEATS = (1, 2, 4, 8), 10, 5
SEARCHES = (  # metric, dtype, points, queries, dimensions
    ("l2", "uint8", 20_000, 2_000, 1_024),
    ("cosine", "float32", 50_000, 2_000, 256),
)


def one_measurement(devices: int, processes: int, points: int, address: str, process: int) -> dict[str, Any]:
    """Seconds and a digest of the answer for each search, in this process, which has `devices` of all devices."""
    import jax
    import numpy as np

    from funcgrad import neighbors, report, sharding

    if processes > 1:
        sharding.start(address, processes, process)
    one = devices == processes == 1
    mesh = None if one else sharding.make_mesh(devices * processes, points=points)
    rows: dict[str, Any] = {}
    for metric, dtype, count, num_queries, dimensions in SEARCHES:
        rng = np.random.default_rng(0)
        if dtype == "uint8":
            data = rng.integers(0, 256, (count + num_queries, dimensions), np.uint8)
        else:
            data = rng.standard_normal((count + num_queries, dimensions), np.float32)
            data /= np.linalg.norm(data, axis=1, keepdims=True)
        index = neighbors.prepare(data[num_queries:], metric)
        seconds: dict[str, float] = {}
        with report.timed(seconds):
            found = neighbors.kneighbors(data[:num_queries], index, K, mesh=mesh)
        times = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            found = neighbors.kneighbors(data[:num_queries], index, K, mesh=mesh)
            times.append(time.perf_counter() - start)
        digest = hashlib.sha256(found.distances.tobytes() + found.indices.tobytes()).hexdigest()
        rows[f"{metric} {dtype}"] = {"seconds": median(times), "compile": seconds["compile"], "answer": digest}
    return {"platform": jax.default_backend(), "searches": rows}


def measured(script: str, devices: int, processes: int, shares: int) -> list[dict[str, Any]]:
    """The outputs of the processes of one measurement by a script."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    virtual = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    started = []
    for process in range(processes):
        arguments = ["--one", *map(str, (devices, processes, shares, address, process))]
        environment = os.environ | {"XLA_FLAGS": virtual}
        if processes > 1:
            environment["CUDA_VISIBLE_DEVICES"] = str(process)  # one each, where there are GPUs
        command = [sys.executable, script, *arguments]
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    outputs = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit(f"{processes} processes with {devices} devices each: a process failed")
    return [json.loads(text.splitlines()[-1]) for text in outputs]


def real_devices() -> int | None:
    """The number of real devices; None on CPU, where any number of virtual ones can be requested."""
    code = "import jax; print(0 if jax.default_backend() == 'cpu' else jax.device_count())"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.splitlines()[-1]) or None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", nargs=5, metavar=("DEVICES", "PROCESSES", "POINTS", "ADDRESS", "PROCESS"))
    one = parser.parse_args().one
    if one:
        devices, processes, points, address, process = one
        outputs = one_measurement(int(devices), int(processes), int(points), address, int(process))
        print("\n" + json.dumps(outputs), flush=True)
        return
    from funcgrad import report

    available = real_devices()
    rows: list[dict[str, Any]] = []
    first: dict[str, Any] = {}
    splits = [(count, 1) for count in DEVICES] + [(1, 2)]
    for devices, processes in splits:
        everything = devices * processes
        if available is not None and everything > available:
            continue
        for points in sorted({1, everything}):
            outputs = measured(__file__, devices, processes, points)
            first = first or outputs[0]["searches"]
            row: dict[str, Any] = {"processes": processes, "devices_each": devices, "shares_of_the_points": points}
            for name, expected in first.items():
                each = [x["searches"][name] for x in outputs]
                if any(x["answer"] != expected["answer"] for x in each):
                    raise SystemExit(f"{name}: {row} found another answer than one device")
                seconds = max(x["seconds"] for x in each)
                row[name] = {
                    "seconds": seconds,
                    "times_one_device": seconds / expected["seconds"],
                    "compile_seconds": max(x["compile"] for x in each),
                }
            rows.append(row)
            ratios = ", ".join(
                f"{name} {row[name]['seconds']:.2f} s ({row[name]['times_one_device']:.2f} ×)" for name in first
            )
            print(f"{processes} × {devices} devices, {points} shares of the points: {ratios}", flush=True)
    results = {
        "k": K,
        "searches": [
            dict(zip(("metric", "dtype", "points", "queries", "dimensions"), x, strict=True)) for x in SEARCHES
        ],
        "devices": "virtual, on the same cores" if available is None else "real",
        "same_answers": True,
        "rows": rows,
        "environment": report.environment(),
    }
    report.write_json(RESULTS, results)


if __name__ == "__main__":
    main()
