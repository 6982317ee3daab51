"""What a run leaves: `result` is result.json, `folder` what it lies in, `predictions` what was predicted."""

from funcgrad.files import write_json
from funcgrad.report.folder import output, replaces
from funcgrad.report.predictions import COLUMNS, Predictions, by_class, confusion_matrix, write_predictions
from funcgrad.report.result import environment, make_result, timed

__all__ = [
    "COLUMNS",
    "Predictions",
    "by_class",
    "confusion_matrix",
    "environment",
    "make_result",
    "output",
    "replaces",
    "timed",
    "write_json",
    "write_predictions",
]
