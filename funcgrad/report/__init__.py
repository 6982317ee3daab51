"""What a run leaves: result.json, and the folder that it lies in with pictures and arrays; all of it is in `result`."""

from funcgrad.files import write_json
from funcgrad.report.result import environment, make_result, output, timed, write_arrays

__all__ = ["environment", "make_result", "output", "timed", "write_arrays", "write_json"]
