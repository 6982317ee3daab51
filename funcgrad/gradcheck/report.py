"""The verdict on two systems' numbers: which agree, which cannot be compared and why, which fail."""

import math
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from funcgrad.autograd import text_table
from funcgrad.gradcheck.error_model import EDGES, EPS, Spread, same, tolerances

UNCOMPILED, JIT, VMAP, RAISED = "uncompiled", "jit", "vmap", "raised"  # the forms in which a number is computed
NEAR_SUBNORMAL = 2.0**-1021  # below it, a rounding may cross the border of the subnormals, 2**-1022

# Why a number that differs is excluded
SUBNORMAL = "are or come from subnormals, which JAX flushes to zero"
UNSTABLE = "are inf or nan in some perturbed runs and not in others"
BRANCH_CHANGES = "take another branch in some perturbed runs"


class Case(NamedTuple):
    """One number, here and under JAX: what it is, in which form it was computed, at which arguments."""

    what: str
    form: str
    ours: float
    jax: float
    tolerance: float
    args: tuple[Any, ...]

    @property
    def error(self) -> float:
        """Relative to JAX's number."""
        return _ratio(abs(self.ours - self.jax), abs(self.jax))

    @property
    def share(self) -> float:
        """The error as a share of the tolerance; inf for an exception, and where inf or nan stands against a number."""
        if self.form == RAISED or not same(self.ours, self.jax, math.inf):
            return math.inf
        return _ratio(abs(self.ours - self.jax), self.tolerance)

    @property
    def where(self) -> str:
        """What was computed, how and at which arguments."""
        return f"{self.what}, {self.form}, at {', '.join(map(repr, self.args))}"

    def __str__(self) -> str:
        if self.form == RAISED:
            return self.where
        if self.ours == self.jax or (self.ours != self.ours and self.jax != self.jax):
            return f"{self.where}: no difference"
        return f"{self.where}: {self.ours!r} here, {self.jax!r} under JAX (tolerance {self.tolerance:.2g})"


class FunctionSummary(NamedTuple):
    """How many numbers came from programs that call one function, and the one that is closest to its tolerance."""

    cases: int
    worst: Case


class Failure(NamedTuple):
    """A number that differs, and Python that shows it."""

    case: Case
    source: str

    def __str__(self) -> str:
        return f"# {self.case}\n{self.source}"


class Report(NamedTuple):
    """What was compared: `rows` by function; `excluded` counts the numbers that cannot be compared, by reason.

    `gradients` counts the points of a program at which every number was compared. `ok` allows for a share of
    `most_excluded`: little in random programs, any at a point that the user chose.
    """

    rows: dict[str, FunctionSummary]
    cases: int
    failures: tuple[Failure, ...]
    excluded: dict[str, int]
    most_excluded: float = 0.05
    gradients: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing failed and no more than `most_excluded` of the numbers was excluded."""
        return not self.failures and sum(self.excluded.values()) <= self.most_excluded * self.cases

    @property
    def worst(self) -> Case:
        """The number that is closest to its tolerance, or furthest beyond it."""
        return max((row.worst for row in self.rows.values()), key=lambda case: case.share)

    def as_data(self) -> dict[str, Any]:
        """The report as data for JSON."""
        rows = {
            name: {"cases": cases, "error": worst.error, "of_tolerance": worst.share, "where": str(worst)}
            for name, (cases, worst) in sorted(self.rows.items())
        }
        failures = [{"case": str(failure.case), "program": failure.source} for failure in self.failures]
        counts = {"ok": self.ok, "cases": self.cases, "gradients": self.gradients, "excluded": self.excluded}
        return {**counts, "failures": failures, "functions": rows}

    def notes(self) -> list[str]:
        """How many numbers were compared and excluded, and why; the failures."""
        share = sum(self.excluded.values()) / max(self.cases, 1)
        reasons = [f"  {count:,} {reason}" for reason, count in sorted(self.excluded.items())]
        summary = f"{self.cases:,} numbers compared, {len(self.failures)} failures, {share:.2%} excluded"
        return [summary + (":" if reasons else ""), *reasons, *(f"\n{failure}" for failure in self.failures)]

    def __str__(self) -> str:
        """A table with a row a function: of the number closest to its tolerance the error, its share, where it is."""
        rows = [("function", "cases", "error", "ulp", "of tolerance", "where")]
        for name, (cases, worst) in sorted(self.rows.items()):
            numbers = f"{worst.error:.1e}", f"{worst.error / EPS:.3g}", f"{worst.share:.3g}"
            rows.append((name, f"{cases:,}", *numbers, worst.where))
        return "\n".join([*text_table(rows, "<>>>><"), *self.notes()])


def _ratio(part: float, whole: float) -> float:
    if part != part:  # of infinities and nans: the same, or not at all
        return 0.0
    return part / whole if whole else math.inf if part else 0.0


def judge(
    ours: dict[str, Any],
    theirs: Any,
    spread: Spread,
    names: Sequence[str],
    args: Sequence[tuple[Any, ...]],
    functions: Iterable[str],
) -> Report:
    """Compares each of our forms with JAX, and the compiled ones with the uncompiled.

    The numbers of one function at some points are (numbers, points): `ours` by form, `theirs` JAX's; `spread` is what
    the perturbed runs show. `names` are those of the numbers, `args` the arguments at each point, `functions` the rows.
    """
    tolerance = tolerances(spread.runs)
    limit = np.where(np.isnan(tolerance), 0.0, tolerance)
    excuses = _excuses(spread, tolerance, limit)

    def cases(form: str, x: Any, y: Any, limit: Any, chosen: Any) -> list[Case]:
        return [
            Case(names[i], form, float(x[i, k]), float(y[i, k]), float(limit[i, k]), args[k])
            for i, k in zip(*np.nonzero(chosen), strict=True)
        ]

    excluded: Counter[str] = Counter()
    complete = np.ones(limit.shape[1], bool)  # points at which nothing is excluded
    wrong_cases: list[Case] = []
    closest: list[Case] = []  # to its tolerance, of the numbers within it, for each form
    for form, mine in ours.items():
        here = np.s_[:, : mine.shape[1]]
        tiny = np.maximum(np.abs(mine), np.abs(theirs[here])) < NEAR_SUBNORMAL
        agrees = same(mine, theirs[here], limit[here])
        wrong = ~agrees
        for reason, mask in [(SUBNORMAL, tiny), *((reason, mask[here]) for reason, mask in excuses.items())]:
            excluded[reason] += int(np.sum(wrong & mask))
            complete[: mine.shape[1]] &= ~np.any(wrong & mask, axis=0)
            wrong &= ~mask
        wrong_cases += cases(form, mine, theirs, limit, wrong)
        with np.errstate(all="ignore"):
            share = np.abs(mine - theirs[here]) / limit[here]
        share = np.where((share >= 0) & (share <= 1) & (np.abs(mine) > NEAR_SUBNORMAL), share, 0.0)
        nearest = np.arange(share.size).reshape(share.shape) == np.argmax(np.where(agrees, share, -1.0))
        closest += cases(form, mine, theirs, limit, nearest & agrees)
    # Our own numbers must be the same in all forms: of jit to the bit, of vmap within the tolerance.
    mine = ours[UNCOMPILED]
    here = np.s_[:, : mine.shape[1]]
    against = f"(here) against {UNCOMPILED} (as JAX)"
    jit, vmap, excused = ours[JIT][here], ours[VMAP][here], np.any([*excuses.values()], axis=0)[here]
    wrong_cases += cases(f"{JIT} {against}", jit, mine, np.zeros_like(limit), ~same(jit, mine))
    wrong_cases += cases(f"{VMAP} {against}", vmap, mine, limit, ~same(vmap, mine, limit[here]) & ~excused)
    count = sum(mine.size for mine in ours.values())
    nothing = Case("no number is compared", VMAP, math.nan, math.nan, 0.0, args[0])
    worst = wrong_cases[0] if wrong_cases else max(closest, key=lambda case: case.share, default=nothing)
    rows = {name: FunctionSummary(count, worst) for name in functions}
    failures = tuple([Failure(case, "") for case in wrong_cases])
    return Report(rows, count, failures, dict(+excluded), gradients=int(np.sum(complete)))


def _excuses(spread: Spread, tolerance: Any, limit: Any) -> dict[str, Any]:
    """For each reason which numbers cannot be compared."""
    runs = spread.runs
    return {
        SUBNORMAL: spread.subnormal | ~same(runs[0], runs[1], limit / 2),
        UNSTABLE: np.isnan(tolerance) | (np.abs(runs[0]) > sys.float_info.max - limit),
        **{edge: np.broadcast_to(mask, limit.shape) for edge, mask in zip(EDGES, spread.inaccurate, strict=True)},
        BRANCH_CHANGES: np.broadcast_to(spread.branch_changes, limit.shape),
    }


def merged(reports: Sequence[Report]) -> Report:
    """Several reports as one."""
    rows: dict[str, FunctionSummary] = {}
    for name, row in (item for report in reports for item in report.rows.items()):
        other = rows.get(name, row._replace(cases=0))
        worst = max(other.worst, row.worst, key=lambda case: case.share)
        rows[name] = FunctionSummary(other.cases + row.cases, worst)
    failures = tuple(failure for report in reports for failure in report.failures)
    excluded = sum((Counter(report.excluded) for report in reports), Counter[str]())
    gradients = sum(report.gradients for report in reports)
    return Report(rows, sum(report.cases for report in reports), failures, dict(excluded), gradients=gradients)
