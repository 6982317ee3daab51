"""Ctrl-C and SIGTERM while a command runs: at once, or once a training has reached a point from which it can go on."""

import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

Deferred = Callable[[], AbstractContextManager[Callable[[], bool]]]

_PATIENCE = 0.5  # seconds until an interrupt that nothing came of is raised again


@contextmanager
def watched() -> Iterator[Deferred]:
    """An interrupt raises KeyboardInterrupt; within what this gives, the first one only makes that say so.

    One that is lost is raised again: Python ignores it in a destructor, NumPy while it is imported.
    SIGTERM, which is how batch systems stop a run, does the same. What someone else handles or ignores is left alone.
    """
    came = 0
    waiting = False
    raised: queue.SimpleQueue[int] = queue.SimpleQueue()  # a signal's handler may put; 0 is the end
    usual_unraisable = sys.unraisablehook

    def note(number: int, _: Any) -> None:
        nonlocal came
        first, came = not came, number
        if not (waiting and first):
            raised.put(number)
            raise KeyboardInterrupt

    def insist() -> None:
        number = raised.get()
        while number:
            try:
                number = raised.get(timeout=_PATIENCE)
            except queue.Empty:
                if not _handles_interrupt(threading.main_thread()):
                    os.kill(os.getpid(), number)

    @contextmanager
    def deferred() -> Iterator[Callable[[], bool]]:
        nonlocal waiting
        waiting = True
        try:
            yield lambda: bool(came)
        finally:
            waiting = False

    def unraisable(ignored: Any) -> None:
        if ignored.exc_type is not KeyboardInterrupt:
            usual_unraisable(ignored)

    usual: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    main_thread = threading.current_thread() is threading.main_thread()
    ours = [number for number, handler in usual.items() if main_thread and signal.getsignal(number) is handler]
    if not ours:
        yield deferred
        return
    insisting = threading.Thread(target=insist, daemon=True)
    insisting.start()
    for number in ours:
        signal.signal(number, note)
    sys.unraisablehook = unraisable
    try:
        yield deferred
    finally:
        raised.put(0)
        insisting.join()
        for number in ours:
            signal.signal(number, usual[number])
        sys.unraisablehook = usual_unraisable


def _handles_interrupt(thread: threading.Thread) -> bool:
    """Whether an interrupt is on its way out of the thread, through whatever has to be tidied up first."""
    current: Any = sys._current_exceptions().get(thread.ident or 0)
    error = current[1] if isinstance(current, tuple) else current  # Python 3.11
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None
