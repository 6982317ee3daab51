"""The command line: options are parsed, one command runs, and an exit status comes out.

JAX and all else that is slow to import is imported after the options were read, so that --help and a mistyped option
are answered at once. Exit status: 0 done, 1 the run failed, 2 the request was wrong.
"""

import errno
import io
import os
import shlex
import sys
import traceback
from collections.abc import Sequence

from funcgrad.cli import console, data, explain, gradcheck
from funcgrad.cli.parser import parser
from funcgrad.cli.run import DataCommand, ShowProgress, Unfinished, run_on_data
from funcgrad.cli.signals import handle_signals


def main(
    argv: Sequence[str] | None = None,
    *,
    progress: ShowProgress = console.progress,
    chunk: int | None = None,
) -> int:
    """Runs one command and returns its exit status.

    Args:
      argv: the process's own by default.
      progress: what shows how far a command is, called as `console.progress` is.
      chunk: queries in each saved part of a search that can be resumed; some seconds of work by default.
    """
    if argv is None:  # the process is ours alone
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a name may have what their encoding lacks
    arguments = parser().parse_args(argv)
    arguments.command_line = shlex.join(["funcgrad", *(sys.argv[1:] if argv is None else argv)])
    if argv is not None:  # the process is not ours alone, and has its own settings of JAX
        arguments.compile_cache = "off"
    try:
        with handle_signals() as defer_interrupts:
            if run := _COMMANDS.get(arguments.command):
                status = run(arguments, progress)
            else:
                # An interrupt would break off an import, which libraries report as an error of their own, or abort on.
                with defer_interrupts() as interrupted:
                    command = _data_commands()[arguments.command]
                if interrupted():
                    raise KeyboardInterrupt
                given = {"progress": progress, "defer_interrupts": defer_interrupts, "chunk": chunk}
                status = run_on_data(command, arguments, **given)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever read the output, like `head`, has enough
        _write_no_more()
        return 1
    except (Exception, KeyboardInterrupt) as raised:
        if arguments.debug:
            traceback.print_exc()
        error = raised.__cause__ if isinstance(raised, Unfinished) else raised
        saved = f"; {raised}" if isinstance(raised, Unfinished) else ""
        status, message = 1, f"{type(error).__name__}: {error} (--debug shows where){saved}"
        if isinstance(error, KeyboardInterrupt):
            message = f"interrupted{saved or '; nothing was written'}"
        elif full := _of_the_system(error):
            message = f"{error}{'' if full in str(error) else f': {full}'}{saved}"
        elif isinstance(error, ValueError | TypeError | OSError):
            status, message = 2, f"{error}{saved}"
        console.print_error(arguments.command, message)
        if isinstance(error, KeyboardInterrupt) and argv is None:
            os._exit(status)  # Python's own way out crashes while JAX is still computing
        try:
            sys.stdout.flush()
        except OSError:
            _write_no_more()
        return status


def _of_the_system(error: BaseException | None) -> str:
    """What the system could not do, if that is behind an error: a full disk is no wrong request."""
    numbers = [getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EMFILE", "ENFILE")]
    while error is not None and not (isinstance(error, OSError) and error.errno in numbers):
        error = error.__cause__ or error.__context__
    return "" if error is None else str(error.strerror)


def _write_no_more() -> None:
    """Python would try again on its way out, and report an error of its own."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_COMMANDS = {
    "data list": data.list_all,
    "data info": data.info,
    "data cache": data.cache,
    "data prepare": data.prepare,
    "explain": explain.run,
    "gradcheck": gradcheck.run,
}


def _data_commands() -> dict[str, DataCommand]:
    """Those that work on a data set; their modules import JAX."""
    from funcgrad.cli import crossval, demo, duplicates, knn, predict, train

    return {
        "demo": demo.COMMAND,
        "knn": knn.COMMAND,
        "data duplicates": duplicates.COMMAND,
        **dict.fromkeys(("train linear", "train mlp"), train.COMMAND),
        "predict": predict.COMMAND,
        "crossval knn": crossval.KNN,
        **dict.fromkeys(("crossval linear", "crossval mlp"), crossval.TRAINING),
    }
