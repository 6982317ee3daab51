"""Ctrl-C and SIGTERM while a command runs: at once, or when a training next reaches a point where it can be resumed."""

import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

RETRY_SECONDS = 0.5  # until an interrupt that had no effect is raised again


@contextmanager
def handle_signals() -> Iterator[Callable[[], AbstractContextManager[Callable[[], bool]]]]:
    """An interrupt raises KeyboardInterrupt. Yields `defer`: inside `with defer() as interrupted`, the first one only
    makes `interrupted()` true.

    One that is lost is raised again: Python ignores it in a destructor, NumPy while it is imported.
    SIGTERM, by which batch systems stop a run, does the same. Signals that someone else handles or ignores stay so.
    """
    received = 0
    deferring = False
    raised: queue.SimpleQueue[int] = queue.SimpleQueue()  # safe to use in a signal handler; 0 is the end
    usual_unraisable = sys.unraisablehook

    def handle(number: int, _: Any) -> None:
        nonlocal received
        first, received = not received, number
        if not (deferring and first):
            raised.put(number)
            raise KeyboardInterrupt

    def retry() -> None:
        number = raised.get()
        while number:
            try:
                number = raised.get(timeout=RETRY_SECONDS)
            except queue.Empty:
                if not _handles_interrupt(threading.main_thread()):
                    os.kill(os.getpid(), number)

    @contextmanager
    def defer() -> Iterator[Callable[[], bool]]:
        nonlocal deferring
        deferring = True
        try:
            yield lambda: bool(received)
        finally:
            deferring = False

    def unraisable(ignored: Any) -> None:
        if ignored.exc_type is not KeyboardInterrupt:
            usual_unraisable(ignored)

    usual: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    main_thread = threading.current_thread() is threading.main_thread()
    ours = [number for number, handler in usual.items() if main_thread and signal.getsignal(number) is handler]
    if not ours:
        yield defer
        return
    retrying = threading.Thread(target=retry, daemon=True)
    retrying.start()
    for number in ours:
        signal.signal(number, handle)
    sys.unraisablehook = unraisable
    try:
        yield defer
    finally:
        raised.put(0)
        retrying.join()
        for number in ours:
            signal.signal(number, usual[number])
        sys.unraisablehook = usual_unraisable


def _handles_interrupt(thread: threading.Thread) -> bool:
    """Whether the thread is unwinding from an interrupt, and may still be in a `finally` block."""
    current: Any = sys._current_exceptions().get(thread.ident or 0)
    error = current[1] if isinstance(current, tuple) else current  # Python 3.11
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None
