from funcgrad.report.result import (
    _rate,
    environment,
    output,
    plain,
    print_json,
    print_table,
    progress,
    timed,
    write_arrays,
    write_json,
)

__all__ = [
    "_rate",
    "environment",
    "output",
    "plain",
    "print_json",
    "print_table",
    "progress",
    "timed",
    "write_arrays",
    "write_json",
]
