"""Interrupts: reported in one line, never lost."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from funcgrad.cli import signals


@pytest.mark.exhaustive
@pytest.mark.parametrize("seconds", [0.6, 2, 5])
def test_an_interrupt_says_so_and_leaves_nothing(seconds: float, tmp_path: Path) -> None:
    """During the imports, where NumPy swallows it; while compiling; in a training that is saved nowhere."""
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from funcgrad.cli import main; print(flush=True); sys.exit(main())"
    arguments = ["train", "mlp", "--epochs", "100000", *(["--out", str(tmp_path / "out")] if seconds < 1 else [])]
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=-1, stderr=-1, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(seconds)
        os.kill(child.pid, signal.SIGINT)
        try:
            out, err = child.communicate(timeout=180)
        finally:
            child.kill()
    assert (child.returncode, out) == (1, "")
    assert err == "funcgrad train mlp: interrupted; nothing was written\n"
    assert list(tmp_path.iterdir()) == []


def interrupted(code: str) -> subprocess.CompletedProcess[str]:
    """Runs a Python program in which `interrupt()` sends one to itself and waits for it."""
    code = f"""if True:
        import gc, os, signal, time
        from funcgrad.cli import signals as interrupts
        signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the shell that runs the tests set
        def interrupt(*_): gc.callbacks.clear(); os.kill(os.getpid(), signal.SIGINT); time.sleep(0.2)
{code}
        """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGINT
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"
    return done


@pytest.mark.exhaustive
@pytest.mark.parametrize("lost", ["gc.collect()", "swallow()"])
def test_an_interrupt_that_is_lost_is_raised_again(lost: str) -> None:
    """Python ignores it in a callback of the garbage collector; a library may catch it and go on."""
    done = interrupted(f"""
        def swallow():
            try: interrupt()
            except KeyboardInterrupt: pass
        gc.callbacks.append(interrupt)
        with interrupts.handle_signals():
            {lost}
            time.sleep(10)
            print("slept through it")
    """)
    assert done.stdout == ""
    assert "ignored" not in done.stderr


@pytest.mark.exhaustive
def test_an_interrupt_on_its_way_out_is_not_raised_again() -> None:
    """What tidies up may take its time, and meet errors of its own."""
    done = interrupted("""
        with interrupts.handle_signals():
            try: interrupt()
            finally:
                time.sleep(1)
                try: raise ValueError
                except ValueError: time.sleep(1)
                print("tidy")
    """)
    assert done.stdout == "tidy\n"


def test_an_interrupt_is_answered_while_a_thread_is_computing() -> None:
    """The thread, which waits for something that no interrupt reaches, ends when it next reports how far it is."""
    computing, release, ended = threading.Event(), threading.Event(), threading.Event()
    reported: list[int] = []

    def compute(report: Callable[[int, int], None]) -> int:
        report(1, 3)
        computing.set()
        release.wait(60)
        try:
            report(2, 3)
        finally:
            ended.set()
        return 3

    def interrupt() -> None:
        computing.wait(60)
        os.kill(os.getpid(), signal.SIGINT)

    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            signals.in_thread(compute, lambda done, total: reported.append(done))
    finally:
        signal.signal(signal.SIGINT, usual)
    assert not ended.is_set()
    release.set()
    assert ended.wait(60)
    assert reported == [1]


def test_what_a_thread_computes_or_raises_comes_back() -> None:
    assert signals.in_thread(lambda report: (report(1, 1), 7)[1], None) == 7
    with pytest.raises(ZeroDivisionError):
        signals.in_thread(lambda report: 1 // 0, None)
