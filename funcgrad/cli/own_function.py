"""A function of the user's own, FILE.py:NAME, and one line for whatever it raises."""

import inspect
import runpy
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from funcgrad import files

Function = Callable[..., Any]
# What an error of NumPy or JAX says where a function calls the one on values of the other, or on traced floats.
_FOREIGN = {
    "Error interpreting argument to": "jax.numpy takes JAX values alone; the functions of funcgrad.autograd.ops take "
    "these and traced floats",
    "numpy.ndarray conversion method __array__()": "NumPy cannot compute with what JAX traces; the functions of "
    "funcgrad.autograd.ops can",
}


def load_function(place: str) -> Function:
    """The function that FILE.py:NAME names. Raises ValueError, in one line, if there is none."""
    file, _, name = place.rpartition(":")
    path = Path(file)
    if not file.endswith(".py") or not name:
        raise ValueError(f"--fun takes FILE.py:NAME, got {place!r}")
    if not path.is_file():
        raise ValueError(f"--fun: there is no file {file}")
    sys.path.insert(0, str(path.resolve().parent))  # so that it can import its neighbours, as when Python runs it
    try:
        found = runpy.run_path(file, run_name=path.stem)
    except (Exception, SystemExit) as error:
        raise ValueError(f"--fun: {file} does not run: {_what(error, file)}") from error
    finally:
        sys.path.pop(0)
    if name not in found:
        names = ", ".join(key for key, x in found.items() if callable(x) and not key.startswith("_")) or "none"
        raise ValueError(f"--fun: {file} defines no {name}; its functions: {names}")
    function: Function = found[name]
    if not callable(function):
        raise ValueError(f"--fun: {name} in {file} is not a function but {type(function).__name__}")
    return function


def check_call(fun: Function, at: Sequence[float]) -> None:
    """Raises ValueError if fun does not take so many positional arguments."""
    try:
        inspect.signature(fun).bind(*at)
    except TypeError as error:
        called = f"{getattr(fun, '__name__', 'the function')}{inspect.signature(fun)}"
        raise ValueError(f"--at: {called} cannot be called with {len(at)} numbers: {error}") from error


def status_of_failure(command: str, place: str, error: BaseException, debug: bool) -> int:
    """Prints what the user's function raised, as one line on stderr, and returns the exit status: 1."""
    if debug:
        traceback.print_exception(error)
    message = f"{place} raised {_what(error, place.rpartition(':')[0])}"
    print(f"funcgrad {command}: {files.one_line(message)}", file=sys.stderr, flush=True)
    return 1


def _what(error: BaseException, file: str) -> str:
    """The type, the message and the innermost line of this file."""
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == file]
    message = next((advice for start, advice in _FOREIGN.items() if start in str(error)), str(error).split("\n")[0])
    return f"{type(error).__name__}{f' in line {lines[-1]}' if lines else ''}: {message}".rstrip(": ")
