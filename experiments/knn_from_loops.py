"""How fast are all distances between two sets of images, from two Python loops to one compiled function?

    python experiments/knn_from_loops.py      # 10 s on 2 cores

300 test digits × 600 training digits; JAX 0.10.2, NumPy 2.4.6. The first call of a JAX step compiles it; the median is
that of the calls after it, and shows how much faster than two loops the step is.

    step       median, ms  first call, ms  times faster
    two loops      574.31          587.99             1
    one loop         9.49            9.68            61
    no loop          0.29            3.40          2004
    vmap            29.57          120.27            19
    vmap, jit        0.91           18.24           629
    library          0.51          112.96          1117

Six ways to the same table, in the order of CS231n's first assignment and then one step further:

1. two loops: the definition, one pair at a time. Easy to trust, so every later step is compared with it.
2. one loop: NumPy subtracts one query from all points at once; Python's own work shrinks from Q·N to Q rounds.
3. no loop: (a − b)² = a² − 2ab + b² turns nearly all of the work into one matrix product.
4. vmap: back to the definition for one pair, in jax.numpy; the loops are two calls of `jax.vmap`. Nothing was
   rewritten, but each operation still runs alone and writes the whole (Q, N, 64) array to memory.
5. jit: the same function compiled. XLA fuses subtract, square and sum, so that array is never written. Step 3 may
   still be faster: a compiler does not change the formula, and a matrix product is what processors do best.
6. the library: `funcgrad.distances.pairwise_distances`, which takes the form of step 3 where that is exact (these
   images are bytes) and the form of step 5 where it is not, and the square root at the end.

Steps 1 to 5 give squared distances. Digits are integers from 0 to 16, so a squared distance is an integer of at most
64·16² = 16,384; float32 holds every integer up to 2²⁴ exactly, and the order of a sum cannot change it. The steps are
therefore compared for equality, not to a tolerance. With other data the third step would lose digits to cancellation.
The square root changes no neighbour, since it preserves order; the library's is compared with NumPy's, equal too.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from funcgrad import report
from funcgrad.datasets import load
from funcgrad.distances import pairwise_distances

Step = Callable[..., ArrayLike]

QUERIES, POINTS = 300, 600
RESULT = Path(__file__).parent / "results" / "knn_from_loops.json"


def two_loops(queries: np.ndarray, points: np.ndarray) -> np.ndarray:
    distances = np.empty((len(queries), len(points)), np.float32)
    for i in range(len(queries)):
        for j in range(len(points)):
            distances[i, j] = np.sum((queries[i] - points[j]) ** 2)
    return distances


def one_loop(queries: np.ndarray, points: np.ndarray) -> np.ndarray:
    distances = np.empty((len(queries), len(points)), np.float32)
    for i in range(len(queries)):
        distances[i] = np.sum((points - queries[i]) ** 2, axis=1)
    return distances


def no_loop(queries: np.ndarray, points: np.ndarray) -> np.ndarray:
    query_norms, point_norms = np.sum(queries**2, axis=1), np.sum(points**2, axis=1)
    return query_norms[:, None] - 2 * queries @ points.T + point_norms


def squared_distance(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.sum((a - b) ** 2)


one_query = jax.vmap(squared_distance, in_axes=(None, 0))  # one query, every point
vmapped = jax.vmap(one_query, in_axes=(0, None))  # every query, every point

jitted = jax.jit(vmapped)


def library(queries: jax.Array, points: jax.Array) -> jax.Array:
    return pairwise_distances(queries.astype(jnp.uint8), points.astype(jnp.uint8), "euclidean")


# name, function, and how often it is timed
STEPS: list[tuple[str, Step, int]] = [
    ("two loops", two_loops, 3),
    ("one loop", one_loop, 7),
    ("no loop", no_loop, 51),
    ("vmap", vmapped, 21),
    ("vmap, jit", jitted, 51),
    ("library", library, 51),
]


def digits(queries: int, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Test and training images as vectors. Not uint8: there 3 − 5 is 254."""
    data = load("digits")
    flat = [split.images.reshape(len(split.images), -1) for split in (data.test, data.train)]
    return flat[0][:queries].astype(np.float32), flat[1][:points].astype(np.float32)


def check(name: str, distances: ArrayLike, expected: np.ndarray) -> None:
    """Raises AssertionError, with the first differences, unless the two tables are equal."""
    np.testing.assert_array_equal(np.asarray(distances), expected, err_msg=f"step {name!r} differs from two loops")


def seconds(step: Step, queries: ArrayLike, points: ArrayLike) -> tuple[float, ArrayLike]:
    """One call, until its result is ready: JAX returns before it has finished."""
    start = time.perf_counter()
    distances = jax.block_until_ready(step(queries, points))
    return time.perf_counter() - start, distances


def measure(
    queries: np.ndarray, points: np.ndarray, steps: list[tuple[str, Step, int]] = STEPS
) -> list[dict[str, Any]]:
    """Each step: its first call (which compiles, under JAX), the check of its result, the median of its later calls."""
    reference = two_loops(queries, points)
    rows: list[dict[str, Any]] = []
    for name, step, repeats in steps:
        # JAX's steps get their arrays on the device, so that a copy is not what is timed.
        arrays = (
            (queries, points) if step in (two_loops, one_loop, no_loop) else (jnp.array(queries), jnp.array(points))
        )
        first, distances = seconds(step, *arrays)
        check(name, distances, np.sqrt(reference) if step is library else reference)
        median = statistics.median(seconds(step, *arrays)[0] for _ in range(repeats))
        rows.append({"step": name, "median_seconds": median, "first_call_seconds": first, "repeats": repeats})
    for row in rows:
        row["times_faster_than_two_loops"] = rows[0]["median_seconds"] / row["median_seconds"]
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'step':9}  {'median, ms':>10}  {'first call, ms':>14}  {'times faster':>12}"]
    for row in rows:
        median, first = 1e3 * row["median_seconds"], 1e3 * row["first_call_seconds"]
        lines.append(f"{row['step']:9}  {median:10.2f}  {first:14.2f}  {row['times_faster_than_two_loops']:12.0f}")
    return "\n".join(lines)


def main() -> None:
    start = time.perf_counter()
    queries, points = digits(QUERIES, POINTS)
    rows = measure(queries, points)
    print(
        f"{len(queries)} queries × {len(points)} points, {queries.shape[1]} pixels; every step gives the same distances"
    )
    print(table(rows))

    environment = {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "numpy": np.__version__,
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
    }
    result = {
        "command": "python experiments/knn_from_loops.py",
        "data": {"name": "digits", "queries": len(queries), "points": len(points), "pixels": queries.shape[1]},
        "steps": rows,
        "seconds": time.perf_counter() - start,
        "environment": environment,
    }
    report.write_json(RESULT, result)


if __name__ == "__main__":
    main()
