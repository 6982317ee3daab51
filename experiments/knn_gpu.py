"""How fast is exact k-NN on a GPU: the L1 kernels beside XLA's own form, the whole search beside PyTorch?

    python experiments/knn_gpu.py --data-dir DIR      # 2 minutes on an NVIDIA GPU

Needs TFDS data with cifar10, and PyTorch. CIFAR-10 (JPEG copy): 50,000 × 10,000 × 3,072 pixels, k = 10, medians without
compilation. XLA's form and PyTorch's L1 answer 1,000 queries, scaled to all. PyTorch measures float32 and selects with
`topk`; it proves nothing. funcgrad measures bytes as integers, and the last candidates of floats in float64 on the
host. Answers are compared with float64 by definition for a sample of queries; "right" counts the predictions at k = 1,
3, 5 and 10, for which an integer brute force has 3,530, 3,290, 3,395 and 3,408 (L2) and 3,845, 3,623, 3,683 and 3,780
(L1).
"""

import argparse
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcgrad import datasets, distances, neighbors, report

RESULTS = Path(__file__).parent / "results" / "knn_gpu.json"
K, CHECKED = 10, 30
SEARCHES = (("l1", "uint8"), ("l2", "uint8"), ("l2", "float32"), ("cosine", "float32"), ("l1", "float32"))
KERNELS = ("uint8", "float32")


def seconds_of(call: Callable[[], Any], repeats: int) -> float:
    """The median of the calls after a first one, which compiles."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return median(times[1:])


def kernel_row(dtype: str, queries: Any, points: Any) -> dict[str, Any]:
    """All pairs by the kernel, and by XLA from the same definition."""
    queries, points = jnp.asarray(queries), jnp.asarray(points)
    kernel = jax.jit(lambda a, b: distances.fastest_ranking_distances(a, b, "l1"))
    plain = jax.jit(lambda a, b: distances.ranking_distances(a, b, "l1"))
    seconds = seconds_of(lambda: kernel(queries, points), 20)
    sample = queries[:1000]
    difference = np.max(np.abs(np.asarray(kernel(sample, points), np.float64) / np.asarray(plain(sample, points)) - 1))
    pairs = len(queries) * points.size
    return {
        "kernel": f"l1_{dtype}",
        "seconds": seconds,
        "tera_pairs_per_second": pairs / seconds / 1e12,
        "times_xla": seconds_of(lambda: plain(sample, points), 5) * len(queries) / len(sample) / seconds,
        "largest_relative_difference": float(difference),
    }


def exact_nearest(metric: str, query: np.ndarray, points: Any) -> tuple[np.ndarray, np.ndarray]:
    """In float64, by definition; points (N, D) float64 on the device."""
    a = jnp.asarray(query, jnp.float64)
    if metric == "cosine":
        units = a / jnp.linalg.norm(a), points / jnp.linalg.norm(points, axis=1, keepdims=True)
        table = jnp.sum(jnp.square(units[1] - units[0]), axis=1) / 2
    elif metric == "l1":
        table = jnp.sum(jnp.abs(points - a), axis=1)
    else:
        table = jnp.sqrt(jnp.sum(jnp.square(points - a), axis=1))
    distances_to = np.asarray(table)
    order = np.lexsort((np.arange(len(distances_to)), distances_to))[:K]
    return order, distances_to[order]


def in_torch(metric: str, queries: np.ndarray, points: np.ndarray) -> Callable[[], Any]:
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    a, b = (torch.tensor(x, dtype=torch.float32, device="cuda") for x in (queries, points))
    if metric == "cosine":
        a, b = (torch.nn.functional.normalize(x) for x in (a, b))

    def nearest() -> Any:
        found = []
        for part in a.split(1000):
            table = 1 - part @ b.T if metric == "cosine" else torch.cdist(part, b, p=float(metric[1]))
            found.append(torch.topk(table, K, largest=False).indices.cpu())
        return [x.numpy() for x in found]

    return nearest


def search_row(metric: str, dtype: str, queries: np.ndarray, points: np.ndarray, labels: Any) -> dict[str, Any]:
    start = time.perf_counter()
    index = neighbors.prepare(points, metric)
    preparing = time.perf_counter() - start
    placed = neighbors.prepare(jnp.asarray(points), metric), jnp.asarray(queries)
    found, same = neighbors.kneighbors(queries, index, K), neighbors.kneighbors(placed[1], placed[0], K)
    seconds = {
        "from_numpy": seconds_of(lambda: neighbors.kneighbors(queries, index, K).indices, 3),
        "placed": seconds_of(lambda: neighbors.kneighbors(placed[1], placed[0], K).indices, 3),
        "placed_fast": seconds_of(lambda: neighbors.kneighbors(*placed[::-1], K, precision="fast").indices, 3),
    }
    wrong, worst = int(np.sum(same.indices != found.indices)), 0.0
    with jax.enable_x64(True):
        wide = jnp.asarray(points, jnp.float64)
        for row in np.linspace(0, len(queries) - 1, CHECKED).astype(int):
            order, expected = exact_nearest(metric, queries[row], wide)
            wrong += int(np.sum(order != found.indices[row]))
            worst = max(worst, float(np.max(np.abs(found.distances[row] / expected - 1))))
        del wide
    votes = neighbors.vote(found, labels[0], 10, ks=(1, 3, 5, K))
    pairs = len(queries) * points.size
    sample = queries[:1000] if metric == "l1" else queries
    seconds["torch"] = seconds_of(in_torch(metric, sample, points), 2) * len(queries) / len(sample)
    return {
        "metric": metric,
        "dtype": dtype,
        "prepare_seconds": preparing,
        "seconds": seconds,
        "tera_pairs_per_second": pairs / seconds["placed"] / 1e12,
        "times_torch": seconds["torch"] / seconds["placed"],
        "right": [int(np.sum(np.argmax(x, axis=1) == labels[1])) for x in votes],
        "wrong_neighbors": wrong,
        "largest_relative_error": worst,
        "info": found.info._asdict(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="cifar10", help="as `funcgrad knn --data` takes it, ten classes")
    parser.add_argument("--data-dir", help="TFDS data with cifar10")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the results file")
    options = parser.parse_args()
    if jax.default_backend() != "gpu":
        raise SystemExit(f"this needs an NVIDIA GPU, the device here is {jax.devices()[0].device_kind}")
    data = datasets.load(options.data, data_dir=options.data_dir)
    bytes_ = [x.reshape(len(x), -1) for x in (data.test.images, data.train.images)]
    pixels = {"uint8": bytes_, "float32": [x.astype(np.float32) / 255 for x in bytes_]}
    kernels = [kernel_row(dtype, *pixels[dtype]) for dtype in KERNELS]
    for row in kernels:
        print(row, flush=True)
    result = {"data": "CIFAR-10 (JPEG copy)", "k": K, "queries": len(bytes_[0]), "points": len(bytes_[1])}
    result |= {"environment": report.environment() | {"torch": version("torch")}, "kernels": kernels, "searches": []}
    for metric, dtype in SEARCHES:
        result["searches"].append(search_row(metric, dtype, *pixels[dtype], (data.train.labels, data.test.labels)))
        print(result["searches"][-1], flush=True)
    report.write_json(options.out, result)


if __name__ == "__main__":
    main()
