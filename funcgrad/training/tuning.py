"""What can be tuned in a training without changing its result."""

from typing import NamedTuple


class Tuning(NamedTuple):
    poll_seconds: float = 1.0  # of training between two calls of `on_steps` and `should_stop`
    resident_bytes: int = 2**32  # host inputs above this size are streamed unless `stream` says otherwise
    chunk_bytes: int = 2**27  # streamed inputs transferred at a time; two such chunks are on the device
    vmapped_bytes: int = 2**21  # of parameters beyond which trainings on a CPU gain nothing from being vmapped


TUNING = Tuning()
