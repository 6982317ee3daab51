"""Checks of `funcgrad.autograd` against JAX: one Python function under both systems, its numbers compared.

`compare` checks a function of your own at one point, `fuzz` random programs at many; both return a `Report`. Read it in
this order: `comparison` (what is computed), `random_programs`, `error_model` (how far two correct results may be
apart), `report` (the verdict and the table).
"""

from funcgrad.gradcheck.comparison import JAX, check_program, compare, derivatives, fuzz
from funcgrad.gradcheck.random_programs import numbered_program
from funcgrad.gradcheck.report import Case, Failure, Report

__all__ = [
    "JAX",
    "Case",
    "Failure",
    "Report",
    "check_program",
    "compare",
    "derivatives",
    "fuzz",
    "numbered_program",
]
