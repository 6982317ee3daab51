"""micrograd's network on MNIST: both ways compute JAX's gradient, take the steps they say, and learn."""

from types import ModuleType

import numpy as np
import pytest
from scripts import recorded, script

SMALL = 6, 4, 3


@pytest.fixture(scope="module")
def mnist() -> ModuleType:
    return script("micrograd_mnist")


IMAGES = np.random.default_rng(0).uniform(size=(6, 6))
TARGETS = np.eye(3)[[0, 1, 2, 0, 1, 2]]


def test_both_gradients_are_those_of_jax(mnist: ModuleType) -> None:
    assert mnist.difference(mnist.init(0, SMALL), IMAGES[:2], TARGETS[:2]) <= mnist.TOLERANCE


def test_a_wrong_gradient_is_caught(mnist: ModuleType) -> None:
    with pytest.raises(AssertionError, match=r"a gradient differs from jax\.grad's by nan"):
        mnist.difference(mnist.init(0, SMALL), IMAGES[:1] * np.nan, TARGETS[:1])


def test_one_step_by_columns_is_along_the_mean_of_the_gradients_one_by_one(mnist: ModuleType) -> None:
    start = mnist.init(0, SMALL)
    (after,) = mnist.by_columns(start, IMAGES, TARGETS)
    gradients = [mnist.value_and_grad(start, *one)[1] for one in zip(IMAGES.tolist(), TARGETS.tolist(), strict=True)]
    slopes = [gradient[0][1][0][2] for gradient in gradients]  # of the third weight of the second neuron
    assert after[0][1][0][2] == pytest.approx(start[0][1][0][2] - mnist.RATES["by_columns"] * np.mean(slopes))
    *_, last = mnist.one_by_one(start, IMAGES[:1], TARGETS[:1])
    bias = start[1][2][1] - mnist.RATES["one_by_one"] * gradients[0][1][2][1]
    assert last[1][2][1] == pytest.approx(bias, rel=1e-14)


def test_the_recorded_epoch_is_as_the_docstring_says(mnist: ModuleType) -> None:
    result = recorded("micrograd_mnist")
    assert result["published"] == mnist.PUBLISHED
    assert result["worst_gradient_difference"] <= mnist.TOLERANCE
    assert result["by_columns"]["images"] == 60_000
    assert result["by_columns"]["test_accuracy"] >= 0.9
    assert result["by_columns"]["times_faster_than_interpreted"] >= 500
    assert result["one_by_one"]["times_faster_than_interpreted"] >= 25
    assert "EPYC" in result["environment"]["processor"]
