"""How examples are divided."""

import jax
import numpy as np
import pytest

from funcgrad import datasets
from funcgrad.folds import hold_out


@pytest.mark.parametrize(("share", "count"), [(0.1, 144), (0.3, 431), (0.4, 575), (0.5, 718)])
def test_the_share_that_is_held_out_has_all_classes_and_the_size_asked_for(share: float, count: int) -> None:
    labels = datasets.load("digits").train.labels
    held_out, kept = hold_out(jax.random.key(0), labels, share)
    assert len(held_out) == count
    np.testing.assert_array_equal(np.sort(np.concatenate([held_out, kept])), np.arange(1437))
    assert np.all(np.abs(np.bincount(labels[held_out]) - share * np.bincount(labels)) <= 1.5)
