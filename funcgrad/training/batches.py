"""Feeding a training: examples that lie on the device, or stretches of them that are fetched while others train."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from funcgrad import sharding
from funcgrad.training.steps import Examples, order_of

_RESIDENT = 2**32  # bytes of inputs that are put on the device as a whole, unless told otherwise
_STRETCH = 2**27  # bytes of inputs that are fetched at a time; two such stretches are on the device


class Stretch(NamedTuple):
    """Consecutive steps of an epoch."""

    first: int  # the number in the epoch of its first step,
    stop: int  # and of the one after its last
    examples: Examples
    order: Array  # (S, B): which examples each of its steps takes


class Selected:
    """Some rows of an array that is too large to be copied, read when they are asked for."""

    def __init__(self, inputs: Any, rows: np.ndarray) -> None:
        self._inputs, self._rows = inputs, rows
        self.shape, self.dtype, self.ndim = (len(rows), *inputs.shape[1:]), inputs.dtype, inputs.ndim
        self.nbytes = len(rows) * inputs[:1].nbytes

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, which: Any) -> np.ndarray:
        return self._inputs[self._rows[which]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


def selected(inputs: Any, rows: np.ndarray) -> Any:
    """The rows of the inputs: copied, or read when they are needed if they are above 4 GiB."""
    return inputs[rows] if len(rows) * inputs[:1].nbytes <= _RESIDENT else Selected(inputs, rows)


Feed = Callable[[Any, int, int], Iterator[Stretch]]  # (key data, epoch, first step) → its stretches from there on


def make_feed(
    inputs: Any,
    labels: np.ndarray,
    weights: np.ndarray,
    batch_size: int,
    *,
    mesh: Mesh | None,
    stream: bool | None,
) -> Feed:
    """A feed of all examples in a new random order each epoch.

    stream: None streams what lies on the host and is above 4 GiB. Streamed inputs are read in the order of their rows,
    a stretch at a time, by a thread that is one stretch ahead; the order of the training is that of resident inputs.
    """
    count = len(labels)

    def order(key_data: Any, epoch: int) -> Array:
        return order_of(key_data, np.int32(epoch), count, batch_size)

    if stream is None:
        stream = not isinstance(inputs, Array) and inputs.nbytes > _RESIDENT
    if not stream:
        examples = sharding.replicate(mesh, Examples(jnp.asarray(inputs), labels, weights))

        def resident(key_data: Any, epoch: int, step: int) -> Iterator[Stretch]:
            rows = sharding.split_batches(mesh, order(key_data, epoch))
            yield Stretch(0, len(rows), examples, rows)

        return resident

    size = max(1, _STRETCH // (batch_size * max(1, inputs[:1].nbytes)))  # steps
    places = np.arange(size * batch_size, dtype=np.int32).reshape(size, batch_size)

    def fetch(rows: np.ndarray, first: int) -> Stretch:
        flat = np.pad(rows[first : first + size], ((0, max(0, first + size - len(rows))), (0, 0)), constant_values=-1)
        taken = np.where(flat < 0, count - 1, flat).ravel()  # none is row −1, here as among resident inputs
        read = np.argsort(taken, kind="stable")  # a file is read from its beginning to its end
        block = np.empty((len(taken), *inputs.shape[1:]), inputs.dtype)
        block[read] = inputs[taken[read]]
        examples = sharding.replicate(mesh, Examples(jnp.asarray(block), labels[taken], weights[taken]))
        stop = min(first + size, len(rows))
        return Stretch(first, stop, examples, sharding.split_batches(mesh, np.where(flat < 0, np.int32(-1), places)))

    def streamed(key_data: Any, epoch: int, step: int) -> Iterator[Stretch]:
        rows = np.asarray(order(key_data, epoch))
        firsts = range(step - step % size, len(rows), size)
        with ThreadPoolExecutor(1, "feeding") as thread:
            coming = thread.submit(fetch, rows, firsts[0])
            for following in [*firsts[1:], None]:
                stretch = coming.result()
                if following is not None:
                    coming = thread.submit(fetch, rows, following)
                yield stretch

    return streamed
