"""The folder that a run writes: all of its files or none, and none of an earlier run among its pictures."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_REPLACED = {".png", ".csv", ".npz"}  # pictures and predictions; a trained model and its checkpoints stay


@contextmanager
def output(out: Path | None) -> Iterator[Path | None]:
    """A temporary folder beside `out`, whose files move there if the block succeeds; nothing is left otherwise.

    Pictures and predictions of the result that was there before are removed. Raises `OSError` at once when nothing can
    be written there, or no result.json.
    """
    if out is None:
        yield None
        return
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"--out: {out} is a file, not a directory")
    _check_no_directory(out / "result.json")
    parent = next(folder for folder in (out, *out.parents) if folder.exists())
    try:
        temporary_path = Path(tempfile.mkdtemp(prefix=".funcgrad-", dir=parent))
    except OSError as error:
        raise OSError(f"--out: cannot write to {parent}: {error.strerror}") from error
    try:
        yield temporary_path
        out.mkdir(parents=True, exist_ok=True)
        files = sorted(temporary_path.iterdir(), key=lambda file: file.name == "result.json")  # the result comes last
        for file in files:
            _check_no_directory(out / file.name)
        for name in set(_earlier(out).get("files", ())) - {file.name for file in files}:
            if Path(name).name == name and Path(name).suffix in _REPLACED:
                (out / name).unlink(missing_ok=True)
        for file in files:
            os.replace(file, out / file.name)
    finally:
        shutil.rmtree(temporary_path, ignore_errors=True)


def replaces(out: Path, command: str) -> str:
    """What is replaced in a folder that another command has written, for a reader; empty if there is nothing."""
    earlier = _earlier(out).get("command", command)
    if earlier == command:
        return ""
    return f"{out} has the result of funcgrad {earlier}, whose pictures and predictions are replaced; other files stay"


def _earlier(out: Path) -> dict[str, Any]:
    """The result.json that is there; empty if there is none."""
    with suppress(OSError, ValueError):
        result = json.loads((out / "result.json").read_bytes())
        return result if isinstance(result, dict) else {}
    return {}


def _check_no_directory(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(f"--out: {path} is a directory, and a file is to be written there")
