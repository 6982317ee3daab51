"""The certificate: how few candidates are measured, and when nothing is proved."""

import numpy as np

from funcgrad.neighbors.certificate import Certified, certify


def search(lower: np.ndarray, points: np.ndarray, measured: list[int], k: int = 3) -> Certified:
    """Certifies one query at 0 among points on a line, of which the first 64 are candidates."""
    indices = np.arange(64, dtype=np.int32)[None]

    def measure(pairs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        measured.extend(pairs[1].tolist())
        return np.abs(points[pairs[1]])

    return certify(measure, lower[None], indices, np.zeros(1), k, dimensions=1, available=len(points))


def test_first_rounds_measure_few() -> None:
    """Where bounds are as good as distances, no more than the k nearest and the next round are measured."""
    measured: list[int] = []
    found = search(np.arange(64.0), np.arange(100.0), measured)
    assert found.proved.all()
    assert sorted(measured) == [0, 1, 2]
    np.testing.assert_array_equal(found.distances, [[0, 1, 2]])


def test_a_bound_at_the_k_th_distance_proves_nothing() -> None:
    measured: list[int] = []
    points = np.arange(100.0)
    found = search(np.minimum(points[:64], 2.0), points, measured)  # any other point may be at distance 2
    assert not found.proved.any()
    assert sorted(measured) == [*range(64)]
    np.testing.assert_array_equal(found.indices, [[0, 1, 2]])


def test_all_candidates_measured_are_a_proof() -> None:
    points = np.arange(64.0)
    assert search(np.zeros(64), points, []).proved.all()
