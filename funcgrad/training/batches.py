"""The examples of a training: all on the device, or chunks that are transferred while the one before is trained on."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from funcgrad.training.placement import replicate, split_batches
from funcgrad.training.steps import Examples, order_of
from funcgrad.training.tuning import TUNING, Tuning


class Chunk(NamedTuple):
    """Consecutive steps of an epoch."""

    first: int  # the number in the epoch of its first step,
    stop: int  # and of the one after its last
    examples: Examples
    order: Array  # (S, B): which examples each of its steps takes


class SelectedRows:
    """Some rows of an array that is too large to be copied, read on access."""

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


def select_rows(inputs: Any, rows: np.ndarray) -> Any:
    """The rows of the inputs: copied, or read on access if they exceed 4 GiB."""
    return inputs[rows] if len(rows) * inputs[:1].nbytes <= TUNING.resident_bytes else SelectedRows(inputs, rows)


class Source(NamedTuple):
    """All examples of a training, and how they come to the device."""

    examples: Examples  # on the device, or on the host if they are streamed
    batch_size: int
    mesh: Mesh | None
    chunk_steps: int | None  # steps of a chunk; None: the examples are on the device


def make_source(
    examples: Examples, batch_size: int, *, mesh: Mesh | None, stream: bool | None, tuning: Tuning = TUNING
) -> Source:
    """Examples given on the host. stream: None streams inputs that are on the host and exceed `resident_bytes`.

    Streamed inputs are read in the order of their rows, a chunk at a time, by a thread that is one chunk ahead; the
    order of the training is that of resident inputs.
    """
    inputs = examples.inputs
    if stream is None:
        stream = not isinstance(inputs, Array) and inputs.nbytes > tuning.resident_bytes
    if not stream:
        return Source(replicate(mesh, examples._replace(inputs=jnp.asarray(inputs))), batch_size, mesh, None)
    steps = max(1, tuning.chunk_bytes // (batch_size * max(1, inputs[:1].nbytes)))
    return Source(examples, batch_size, mesh, steps)


def chunks(source: Source, key_data: Any, epoch: int, step: int) -> Iterator[Chunk]:
    """The chunks of an epoch from the one that contains this step on, in the epoch's own random order."""
    order = order_of(key_data, np.int32(epoch), len(source.examples.labels), source.batch_size)
    if source.chunk_steps is None:
        yield Chunk(0, len(order), source.examples, split_batches(source.mesh, order))
        return
    rows = np.asarray(order)
    firsts = range(step - step % source.chunk_steps, len(rows), source.chunk_steps)
    with ThreadPoolExecutor(1, "streaming") as thread:
        upcoming = thread.submit(_transferred, source, rows, firsts[0])
        for following in [*firsts[1:], None]:
            chunk = upcoming.result()
            if following is not None:
                upcoming = thread.submit(_transferred, source, rows, following)
            yield chunk


def _transferred(source: Source, rows: np.ndarray, first: int) -> Chunk:
    """The chunk whose first step has this number; its order is padded so that all chunks share one program."""
    inputs, labels, weights = source.examples
    size = source.chunk_steps or len(rows)
    stop = min(first + size, len(rows))
    padded = np.pad(rows[first:stop], ((0, first + size - stop), (0, 0)), constant_values=-1)
    taken = np.where(padded < 0, len(labels) - 1, padded).ravel()  # -1 is the last row here too, of weight 0
    by_row = np.argsort(taken, kind="stable")  # a file is read from its beginning to its end
    block = np.empty((len(taken), *inputs.shape[1:]), inputs.dtype)
    block[by_row] = inputs[taken[by_row]]
    examples = replicate(source.mesh, Examples(jnp.asarray(block), labels[taken], weights[taken]))
    places = np.arange(padded.size, dtype=np.int32).reshape(padded.shape)
    order = split_batches(source.mesh, np.where(padded < 0, np.int32(-1), places))
    return Chunk(first, stop, examples, order)
