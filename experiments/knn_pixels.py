"""Is every answer of k-NN on the raw pixels of MNIST and CIFAR-10 right, with all training and test images?

    python experiments/knn_pixels.py --data-dir DIR     # 5 minutes on 2 cores

Needs TFDS data with mnist and cifar10. Correct predictions of 10,000 test images, ties to the smaller index and label:

    MNIST, L2                  9,691  9,705  9,688         k = 1, 3, 5      (published: 3.09 % error at k = 1)
    CIFAR-10 (JPEG copy), L2   3,530  3,290  3,395  3,408  k = 1, 3, 5, 10  (course notes, original pixels: 35.4 %)
    CIFAR-10 (JPEG copy), L1   3,845  3,623  3,683  3,780  k = 1, 3, 5, 10  (course notes: 38.6 %)

Each search runs in its own process, so that its peak memory is measured alone. scikit-learn answers the first 100
queries in the same process right afterwards; the result is the ratio of the two speeds, in pairs a second.
"""

import argparse
import multiprocessing
import resource
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "knn_pixels.json"
SEARCHES = (("mnist", "l2", (1, 3, 5)), ("cifar10", "l2", (1, 3, 5, 10)), ("cifar10", "l1", (1, 3, 5, 10)))
PUBLISHED = {
    "mnist l2": [9691, 9705, 9688],
    "cifar10 l2": [3530, 3290, 3395, 3408],
    "cifar10 l1": [3845, 3623, 3683, 3780],
}
PEER_QUERIES = 100


def search(name: str, metric: str, ks: tuple[int, ...], data_dir: str) -> dict[str, Any]:
    """One search over all test images, and scikit-learn's over the first of them."""
    import jax.numpy as jnp
    import numpy as np
    from sklearn.neighbors import NearestNeighbors

    from funcgrad import datasets, neighbors, report

    _, train, test, classes, fingerprint, *_ = datasets.load(name, data_dir=data_dir)
    seconds: dict[str, float] = {}
    with report.timed(seconds):
        found = neighbors.kneighbors(test.images, train.images, max(ks), metric=metric)
        votes = neighbors.vote(found, train.labels, len(classes), ks=ks)
        right = (np.asarray(jnp.argmax(votes, axis=-1)) == test.labels).sum(axis=1).tolist()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    points, queries = (x.reshape(len(x), -1).astype(np.float32) for x in (train.images, test.images[:PEER_QUERIES]))
    peer = NearestNeighbors(n_neighbors=max(ks), metric="manhattan" if metric == "l1" else metric, algorithm="brute")
    peer.fit(points)
    start = time.perf_counter()
    peer_distances, _ = peer.kneighbors(queries)
    peer_seconds = time.perf_counter() - start
    speed = len(test.labels) / seconds["run"]
    return {
        "data": "CIFAR-10 (JPEG copy)" if name == "cifar10" else "MNIST",
        "fingerprint": fingerprint,
        "metric": metric,
        "ks": ks,
        "right": right,
        "of": len(test.labels),
        "as_expected": right == PUBLISHED[f"{name} {metric}"],
        "same_distances_as_scikit_learn": bool(np.allclose(found.distances[:PEER_QUERIES], peer_distances, rtol=1e-4)),
        "seconds": seconds,
        "queries_per_second": speed,
        "times_scikit_learn": speed / (PEER_QUERIES / peer_seconds),
        "peak_gib_above_the_data": (peak - train.images.nbytes - test.images.nbytes) / 2**30,
        "info": found.info._asdict(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True, help="TFDS data with mnist and cifar10")
    data_dir = parser.parse_args().data_dir
    from funcgrad import datasets, report

    rows = []
    for name, metric, ks in SEARCHES:
        datasets.load(name, data_dir=data_dir)  # decoded here, if at all, not where memory is measured
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows.append(pool.apply(search, (name, metric, ks, data_dir)))
        row = rows[-1]
        print(f"{row['data']} {metric}: right {row['right']} for k = {ks}, {row['seconds']['run']:.1f} s")
        print(
            f"  {row['times_scikit_learn']:.1f} × scikit-learn, {row['peak_gib_above_the_data']:.2f} GiB above the data"
        )
    report.write_json(RESULTS, {"rows": rows, "environment": report.environment()})


if __name__ == "__main__":
    main()
