"""Files that are whole or not there at all, plain JSON, and messages of one line."""

import json
import math
import os
import re
import shutil
import threading
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class DifferentRun(ValueError):
    """What was saved belongs to another run; the message names every difference."""


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path`, to write a file or a folder at, which is renamed to `path` in the end.

    If the block raises, the temporary path is removed and `path` stays as it was. A folder replaces only an empty one.
    """
    path = Path(path)
    temporary_path = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        yield temporary_path
        os.replace(temporary_path, path)
    finally:
        if temporary_path.is_dir():
            shutil.rmtree(temporary_path, ignore_errors=True)
        else:
            temporary_path.unlink(missing_ok=True)


@contextmanager
def reporting(
    message: str, error: type[Exception] = ValueError, caught: type[Exception] | tuple[type[Exception], ...] = Exception
) -> Iterator[None]:
    """Whatever is raised within becomes an `error` of one line, the message and then its own text in brackets."""
    try:
        yield
    except caught as reason:
        raise error(f"{message} ({one_line(reason, 200)})") from reason


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """What a library raises about a file, each its own, becomes a ValueError of one line that names the file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with reporting(f"{path}: not a readable {kind}"):
        yield


def write_json(path: Path, data: Any) -> None:
    """Writes data as a JSON file; NaN and infinity are refused: see `plain`."""
    with replacing(path) as temporary_path:
        temporary_path.write_text(f"{json_text(data)}\n", encoding="utf-8")


def json_text(data: Any) -> str:
    """The data as JSON, lists of numbers on one line; all but ASCII is escaped where a name cannot be printed."""
    texts = (json.dumps(data, indent=2, ensure_ascii=escaped, allow_nan=False) for escaped in (False, True))
    text = next(text for text in texts if text.replace("\n", "").isprintable())
    return re.sub(r"\[\n[-+\d.eE,\s]+\]", lambda found: "[" + " ".join(found[0][1:-1].split()) + "]", text)


def plain(value: Any) -> Any:
    """The value as JSON can hold it: paths as text, tuples as lists, NaN and infinity as null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def one_line(message: object, limit: int | None = None) -> str:
    """A message or an exception on one line of at most `limit` characters; the exception's type if it says nothing."""
    text = shown(" ".join(str(message).split())) or type(message).__name__
    return text if limit is None else shorten(text, limit)


def shown(name: object) -> str:
    r"""A name as text that a terminal, a picture and JSON can hold: what cannot be printed is escaped.

    Bytes that are no UTF-8 become \\xff, control characters \\x1b or \\n, what changes the order of writing \\u202e.

    >>> shown("café [1]\x1b[31m"), shown(os.fsdecode(b"caf\xe9"))
    ('café [1]\\x1b[31m', 'caf\\xe9')
    """
    text = str(name)
    return text if text.isprintable() else "".join(char if _is_shown(char) else _escaped(char) for char in text)


def _is_shown(char: str) -> bool:
    joins = "\u200c\u200d"  # letters of Persian, say, and parts of an emoji
    return char.isprintable() or char in joins or unicodedata.category(char) == "Zs"


def _escaped(char: str) -> str:
    byte = ord(char) - 0xDC00  # as Python decodes a byte of a file name that is no UTF-8
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else char.encode("unicode_escape").decode()


def shorten(value: object, limit: int = 60) -> str:
    """The value as text of at most `limit` characters, with … for what was cut off; None is "none"."""
    text = "none" if value is None else str(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def counted(count: int, what: str) -> str:
    """So many of them.

    >>> counted(1, "image"), counted(2000, "image")
    ('1 image', '2,000 images')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def listed(values: Iterable[object], limit: int = 10) -> str:
    """The first values as text, and how many more there are.

    >>> listed("abcd", 2)
    'a, b and 2 more'
    """
    texts = [str(value) for value in values]
    more = f" and {len(texts) - limit:,} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


def differences(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Every entry in which two configurations differ: "epochs 3 and not 5, seed none and not 0"; empty if none.

    Tuples and lists are equal, as they are in JSON.
    """
    return ", ".join(
        f"{name.replace('_', ' ')} {shorten(saved.get(name))} and not {shorten(wanted.get(name))}"
        for name in {**wanted, **saved}
        if plain(saved.get(name)) != plain(wanted.get(name))
    )
