"""Ctrl-C and SIGTERM while a command runs: at once, or when a training next reaches a point where it can be resumed."""

import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

RETRY_SECONDS = 0.5  # until an interrupt that had no effect is raised again


@contextmanager
def handle_signals() -> Iterator[Callable[[], AbstractContextManager[Callable[[], bool]]]]:
    """An interrupt raises KeyboardInterrupt. Yields `defer`: inside `with defer() as interrupted`, the first one only
    makes `interrupted()` true.

    One that is lost is raised again: Python ignores it in a destructor, NumPy while it is imported.
    SIGTERM, by which batch systems stop a run, does the same. Signals that someone else handles or ignores stay so.
    """
    received = False
    deferring = False
    usual_unraisable = sys.unraisablehook

    def handle(*_: Any) -> None:
        nonlocal received
        first, received = not received, True
        if not (deferring and first):
            signal.setitimer(signal.ITIMER_REAL, RETRY_SECONDS, RETRY_SECONDS)  # calls `retry` until all is over
            raise KeyboardInterrupt

    def retry(*_: Any) -> None:
        if not _is_handling_interrupt():
            raise KeyboardInterrupt

    @contextmanager
    def defer() -> Iterator[Callable[[], bool]]:
        nonlocal deferring
        deferring = True
        try:
            yield lambda: received
        finally:
            deferring = False

    def unraisable(ignored: Any) -> None:
        if ignored.exc_type is not KeyboardInterrupt:
            usual_unraisable(ignored)

    usual: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    possible = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGALRM")  # not on Windows
    ours = [number for number, handler in usual.items() if possible and signal.getsignal(number) is handler]
    if not ours:
        yield defer
        return
    usual_alarm = signal.signal(signal.SIGALRM, retry)
    for number in ours:
        signal.signal(number, handle)
    sys.unraisablehook = unraisable
    try:
        yield defer
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, usual_alarm)
        for number in ours:
            signal.signal(number, usual[number])
        sys.unraisablehook = usual_unraisable


def in_thread(work: Callable[[Callable[..., None]], T], report_progress: Callable[..., None] | None) -> T:
    """work(report_progress), in a thread of its own, so that an interrupt is answered while compiled code is running.

    After an interrupt the thread ends when it next reports its progress.
    """
    finished: queue.SimpleQueue[T | BaseException] = queue.SimpleQueue()
    interrupted = threading.Event()

    def report(*progress: Any) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        if report_progress is not None:
            report_progress(*progress)

    def run() -> None:
        try:
            finished.put(work(report))
        except BaseException as error:
            finished.put(error)

    try:
        threading.Thread(target=run, daemon=True).start()
        result = finished.get()  # a signal is handled while it waits
    except KeyboardInterrupt:
        interrupted.set()
        raise
    if isinstance(result, BaseException):
        raise result
    return result


def _is_handling_interrupt() -> bool:
    """Whether this thread is unwinding from an interrupt, and may be in a `finally` block."""
    error = sys.exception()
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None
