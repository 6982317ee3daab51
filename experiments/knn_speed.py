"""How fast is the exact search, beside FAISS, scikit-learn and SciPy on the same data in the same run?

    pip install -e ".[bench]"
    python experiments/knn_speed.py --data-dir DIR                   # 8 to 25 minutes on 2 cores, 8 GB
    python experiments/knn_speed.py --data-dir DIR --only pixels     # or sizes, or million

CIFAR-10 (JPEG copy): 50,000 × 10,000 × 3,072 pixels, k = 10, distances and selection together; the others answer the
first queries only, and all times are scaled to one query. funcgrad first searches a projection of each image to far
fewer numbers, which bounds the distances from below; the search by all numbers is measured beside it. Pairs a second
are those that an answer covers, points × dimensions for each query, whether they had to be read or not. Then 1,000,000
× 768 random directions, cosine, k = 100, from memory and from a memory-mapped file; and a table of sizes, in which cost
grows no faster than they do. FAISS proves nothing about its float32; funcgrad measures the last candidates in float64
and proves every answer. Compilation and preparing the points are not included.

Claims: L1 of bytes at 50 × scikit-learn, 10 × FAISS; L1 of floats at 3 × FAISS; L2 and cosine at 0.9 × FAISS, 3 ×
scikit-learn; a million directions at FAISS's speed. The results file says which hold on the machine used.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).parent / "results" / "knn_speed.json"
K, DIMENSIONS = 10, 3072
# metric, dtype, queries of funcgrad, of FAISS and of the others
PIXELS = (
    ("l1", "uint8", 10_000, 200, 40),
    ("l2", "uint8", 10_000, 2_000, 1_000),
    ("l1", "float32", 2_000, 200, 40),
    ("l2", "float32", 5_000, 2_000, 1_000),
    ("cosine", "float32", 5_000, 2_000, 1_000),
)
UNPROJECTED_QUERIES, ALL_NUMBERS = 2_048, "funcgrad, all numbers"
SIZES = ((10_000, 1_000), (20_000, 1_000), (40_000, 1_000), (40_000, 2_000), (40_000, 4_000))  # points, queries
MILLION = {"points": 1_000_000, "dimensions": 768, "queries": 1_000, "k": 100}


def seconds_of(call: Callable[[], Any], repeats: int = 1) -> float:
    """The median of the calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return median(times)


def pixels(data_dir: str) -> list[dict[str, Any]]:
    import faiss
    import numpy as np
    from scipy.spatial.distance import cdist
    from sklearn.neighbors import NearestNeighbors

    from funcgrad import datasets, neighbors, report

    data = datasets.load("cifar10", data_dir=data_dir)
    points, queries = (x.reshape(len(x), -1) for x in (data.train.images, data.test.images))
    wide_points, wide_queries = points.astype(np.float32), queries.astype(np.float32)
    rows = []
    for metric, dtype, ours, of_faiss, of_others in PIXELS:
        own_points, own_queries = (points, queries) if dtype == "uint8" else (wide_points, wide_queries)
        start = time.perf_counter()
        index = neighbors.prepare(own_points, metric)
        prepared = time.perf_counter() - start
        neighbors.kneighbors(own_queries[:1024], index, K)  # compiles, and warms the caches
        seconds: dict[str, float]
        runs = []
        for _ in range(3):
            with report.timed(seconds := {}):
                found = neighbors.kneighbors(own_queries[:ours], index, K)
            runs.append(seconds["run"])
        per_query = {"funcgrad": median(runs) / ours}
        unprojected = neighbors.prepare(own_points, metric, queries=0)  # too few for a projection
        with report.timed(seconds := {}):
            neighbors.kneighbors(own_queries[:UNPROJECTED_QUERIES], unprojected, K)
        per_query[ALL_NUMBERS] = seconds["run"] / UNPROJECTED_QUERIES

        flat = faiss.IndexFlat(DIMENSIONS, {"l1": faiss.METRIC_L1, "l2": faiss.METRIC_L2}.get(metric, 0))
        unit = (lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)) if metric == "cosine" else (lambda x: x)
        flat.add(unit(wide_points))
        faiss_queries = unit(wide_queries[:of_faiss])
        per_query["faiss"] = seconds_of(lambda: flat.search(faiss_queries, K), 3) / of_faiss  # noqa: B023
        name = {"l1": "manhattan", "l2": "euclidean"}.get(metric, metric)
        peer = NearestNeighbors(n_neighbors=K, metric=name, algorithm="brute").fit(wide_points)
        sample = wide_queries[:of_others]
        distances, _ = peer.kneighbors(sample)
        per_query["scikit-learn"] = seconds_of(lambda: peer.kneighbors(sample)) / of_others  # noqa: B023
        if metric == "l1":
            per_query["scipy"] = seconds_of(lambda: cdist(sample[:20], wide_points, "cityblock")) / 20  # noqa: B023
        same = np.allclose(found.distances[:of_others], distances, rtol=1e-4, atol=1e-4)
        rows.append(
            {
                "metric": metric,
                "dtype": dtype,
                "queries": ours,
                "milliseconds_per_query": {name: 1e3 * x for name, x in per_query.items()},
                "giga_pairs_per_second": len(points) * DIMENSIONS / per_query["funcgrad"] / 1e9,
                "giga_pairs_per_second_of_all_numbers": len(points) * DIMENSIONS / per_query[ALL_NUMBERS] / 1e9,
                "times": {name: x / per_query["funcgrad"] for name, x in per_query.items() if "funcgrad" not in name},
                "prepare_seconds": prepared,
                "searched_again": found.info.searched_again,
                "same_distances_as_scikit_learn": bool(same),
            }
        )
        times = ", ".join(f"{x:.2f} × {name}" for name, x in rows[-1]["times"].items())
        print(f"{metric} {dtype}: {rows[-1]['giga_pairs_per_second']:.1f} Gpairs/s, {times}", flush=True)
    return rows


def sizes(data_dir: str) -> list[dict[str, Any]]:
    import numpy as np

    from funcgrad import datasets, neighbors

    data = datasets.load("cifar10", data_dir=data_dir)
    rows = []
    for count, num_queries in SIZES:  # as long as cost is at most linear, no row is smaller than those before
        row: dict[str, Any] = {"points": count, "queries": num_queries}
        for metric, dtype in (("l1", np.uint8), ("l2", np.uint8), ("l2", np.float32)):
            points, queries = (
                x.reshape(len(x), -1).astype(dtype) for x in (data.train.images[:count], data.test.images[:num_queries])
            )
            index = neighbors.prepare(points, metric)
            neighbors.kneighbors(queries, index, K)
            seconds = seconds_of(lambda: neighbors.kneighbors(queries, index, K), 3)  # noqa: B023
            row[f"{metric} {np.dtype(dtype)}"] = count * num_queries * DIMENSIONS / seconds / 1e9
        rows.append(row)
        print({key: round(value, 1) for key, value in row.items()}, flush=True)
    return rows


def directions(path: str, *, mapped: bool) -> dict[str, Any]:
    """A million random directions, in a separate process, which measures its peak memory."""
    import faiss
    import numpy as np

    from funcgrad import neighbors

    points = np.load(path, mmap_mode="r" if mapped else None)
    rng = np.random.default_rng(1)
    queries = rng.normal(size=(MILLION["queries"], MILLION["dimensions"])).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    start = time.perf_counter()
    index = neighbors.prepare(points, "cosine")
    prepared = time.perf_counter() - start
    neighbors.kneighbors(queries, index, MILLION["k"])
    seconds = seconds_of(lambda: neighbors.kneighbors(queries, index, MILLION["k"]), 3)
    found = neighbors.kneighbors(queries, index, MILLION["k"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    row = {"seconds": seconds, "prepare_seconds": prepared, "searched_again": found.info.searched_again}
    if mapped:
        return row
    flat = faiss.IndexFlatIP(MILLION["dimensions"])
    flat.add(points)
    _, indices = flat.search(queries, MILLION["k"])
    of_faiss = seconds_of(lambda: flat.search(queries, MILLION["k"]), 3)
    return row | {
        "times_faiss": of_faiss / seconds,
        "faiss_seconds": of_faiss,
        "share_of_indices_as_faiss": float((indices == found.indices).mean()),
        "peak_gib_above_the_points": (peak - points.nbytes) / 2**30,
    }


def million(_: str) -> dict[str, Any]:
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/points.npy"
        shape = MILLION["points"], MILLION["dimensions"]
        points = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        rng = np.random.default_rng(0)
        for start in range(0, len(points), 10_000):
            block = rng.standard_normal((10_000, shape[1]), np.float32)
            points[start : start + 10_000] = block / np.linalg.norm(block, axis=1, keepdims=True)
        points.flush()
        del points
        rows = {}
        for name, mapped in (("from_memory", False), ("memory_mapped", True)):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                rows[name] = pool.apply(directions, (path,), {"mapped": mapped})
            print(name, rows[name], flush=True)
    share = rows["from_memory"]["seconds"] / rows["memory_mapped"]["seconds"]
    return {**MILLION, **rows, "memory_mapped_speed": share}


PARTS = {"pixels": pixels, "sizes": sizes, "million": million}
NAMES = {"sizes": "sizes_giga_pairs_per_second"}  # in the results file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True, help="TFDS data with cifar10")
    parser.add_argument("--only", choices=PARTS, help="measure this part only; the others stay in the results file")
    options = parser.parse_args()
    from funcgrad import report

    earlier = json.loads(RESULTS.read_text(encoding="utf-8")) if options.only else {}
    parts = [options.only] if options.only else PARTS
    measured = {NAMES.get(part, part): PARTS[part](options.data_dir) for part in parts}
    results = {"data": "CIFAR-10 (JPEG copy)", **earlier, **measured, "environment": report.environment()}
    report.write_json(RESULTS, results)


if __name__ == "__main__":
    main()
