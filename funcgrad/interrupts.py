"""Ctrl-C and SIGTERM while a command runs: at once, or once a training has reached a point from which it can go on."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple


class Interrupts(NamedTuple):
    raise_if_any: Callable[[], None]  # NumPy swallows them while it is imported
    deferred: Callable[[], AbstractContextManager[Callable[[], bool]]]  # within, the first only makes this say so


@contextmanager
def watched() -> Iterator[Interrupts]:
    """An interrupt raises KeyboardInterrupt.

    Where Python itself must ignore it, in a destructor or a callback of the garbage collector, it is raised again.
    SIGTERM, which is how batch systems stop a run, does the same. What someone else handles or ignores is left alone.
    """
    came = 0
    waiting = False
    usual_unraisable = sys.unraisablehook

    def note(number: int, _: Any) -> None:
        nonlocal came
        first, came = not came, number
        if not (waiting and first):
            raise KeyboardInterrupt

    def raise_if_any() -> None:
        if came:
            raise KeyboardInterrupt

    @contextmanager
    def deferred() -> Iterator[Callable[[], bool]]:
        nonlocal waiting
        waiting = True
        try:
            yield lambda: bool(came)
        finally:
            waiting = False

    def again(ignored: Any) -> None:
        if ignored.exc_type is not KeyboardInterrupt:
            return usual_unraisable(ignored)
        return threading.Timer(0.05, os.kill, [os.getpid(), came]).start()  # when we are out of the callback

    usual: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    main_thread = threading.current_thread() is threading.main_thread()
    ours = [number for number, handler in usual.items() if main_thread and signal.getsignal(number) is handler]
    for number in ours:
        signal.signal(number, note)
    if ours:
        sys.unraisablehook = again
    try:
        yield Interrupts(raise_if_any, deferred)
    finally:
        for number in ours:
            signal.signal(number, usual[number])
        if ours:
            sys.unraisablehook = usual_unraisable
