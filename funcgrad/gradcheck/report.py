"""The verdict on two systems' numbers: which agree, which differ for a known reason, which fail."""

import itertools
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from funcgrad.gradcheck.error_model import EPS, Spread, same, tolerances


class Case(NamedTuple):
    """One number, here and under JAX: what it is, in which form it was computed, at which arguments."""

    what: str
    form: str
    ours: float
    jax: float
    tolerance: float
    args: tuple[Any, ...]
    program: Any = None  # the random program, if it is one

    @property
    def error(self) -> float:
        """Relative to JAX's number."""
        return _ratio(abs(self.ours - self.jax), abs(self.jax))

    @property
    def share(self) -> float:
        """Of the tolerance; inf for an error, and where one number is inf or nan and the other another."""
        if self.form == RAISED or not same(self.ours, self.jax, math.inf):
            return math.inf
        return _ratio(abs(self.ours - self.jax), self.tolerance)

    def __str__(self) -> str:
        if self.form == RAISED:
            return f"{self.what}, raised at {shown(self.args)}"
        if self.ours == self.jax or (self.ours != self.ours and self.jax != self.jax):
            return f"{self.what}, {self.form}, at {shown(self.args)}: no difference"
        numbers = f"{self.ours!r} here, {self.jax!r} under JAX (tolerance {self.tolerance:.2g})"
        return f"{self.what}, {self.form}, at {shown(self.args)}: {numbers}"


class Row(NamedTuple):
    """The numbers of the programs that call one function: how many, and the one that comes closest to its tolerance."""

    cases: int
    worst: Case


class Report(NamedTuple):
    """What was compared: rows by function; `excluded` counts the numbers that differ for a known reason.

    Of random programs no more than `most_excluded` may be; one point of one function is what its user chose.
    """

    rows: dict[str, Row]
    cases: int
    failures: tuple["Failure", ...]
    excluded: dict[str, int]
    most_excluded: float = 0.05

    @property
    def ok(self) -> bool:
        """Whether nothing failed and no more than `most_excluded` of the numbers was excluded."""
        return not self.failures and sum(self.excluded.values()) <= self.most_excluded * self.cases

    @property
    def worst(self) -> Case:
        """The number that comes closest to its tolerance, or goes furthest beyond it."""
        return max((row.worst for row in self.rows.values()), key=lambda case: case.share)

    def table(self) -> list[list[str]]:
        """For each function the cases, and of the number closest to its tolerance: error, in ulp, share, where."""
        return [
            [
                name,
                f"{row.cases:,}",
                f"{row.worst.error:.1e}",
                f"{row.worst.error / EPS:.3g}",
                f"{row.worst.share:.2f}",
                f"{row.worst.what}, {row.worst.form}, at {shown(row.worst.args)}",
            ]
            for name, row in sorted(self.rows.items())
        ]

    def as_data(self) -> dict[str, Any]:
        """The report as JSON has it."""
        rows = {
            name: {
                "cases": row.cases,
                "error": row.worst.error,
                "of_tolerance": row.worst.share,
                "where": str(row.worst),
            }
            for name, row in sorted(self.rows.items())
        }
        failures = [{"case": str(failure.case), "program": failure.source} for failure in self.failures]
        return {"ok": self.ok, "cases": self.cases, "excluded": self.excluded, "failures": failures, "functions": rows}

    def notes(self) -> list[str]:
        """How many numbers were compared and excluded, and why; the failures."""
        share = sum(self.excluded.values()) / max(self.cases, 1)
        reasons = [f"  {count:,} {reason}" for reason, count in sorted(self.excluded.items())]
        summary = f"{self.cases:,} numbers compared, {len(self.failures)} failures, {share:.2%} excluded"
        return [summary + (":" if reasons else ""), *reasons, *(f"\n{failure}" for failure in self.failures)]

    def __str__(self) -> str:
        rows = [COLUMNS, *self.table()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
        lines = [
            "  ".join(
                text.rjust(width) if 0 < i < 5 else text.ljust(width)
                for i, (text, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        return "\n".join([*(line.rstrip() for line in lines), *self.notes()])


class Failure(NamedTuple):
    """A number that differs, in the smallest program found that shows it, as Python that runs."""

    case: Case
    source: str

    def __str__(self) -> str:
        return f"# {self.case}\n{self.source}"


COLUMNS = ["function", "cases", "error", "ulp", "of tolerance", "where"]


def _ratio(part: float, whole: float) -> float:
    if part != part:  # of infinities and nans: the same, or not at all
        return 0.0
    return part / whole if whole else math.inf if part else 0.0


def shown(args: tuple[Any, ...]) -> str:
    """The arguments as in a call."""
    return ", ".join(map(repr, args))


class Numbers(NamedTuple):
    """All that is known of one function at some points: of outputs × lanes, by form ours, and JAX's."""

    ours: dict[str, Any]
    jax: Any
    spread: Spread


class Verdict(NamedTuple):
    cases: int
    worst: Case
    failures: list[Case]
    excluded: dict[str, int]


RUN, JIT, VMAP, RAISED = "uncompiled", "jit", "vmap", "raised"
TINY = 2.0**-1021
SUBNORMAL = "are or come from subnormals, which JAX flushes to zero"
UNSTABLE = "are inf or nan in some perturbed runs and not in others"
POOR = "come from a function in which JAX has few correct digits, or 0 · inf for a constant"
ELSEWHERE = "take another branch in some perturbed runs"
MODES = "are nan in JAX's forward mode, and not in its reverse mode"
DIRECTION = (1.0, -2.0, 0.5)  # of the jvp, over and over
ITSELF = "differ under JAX itself between vmapped and not"


def judge(
    numbers: Numbers, names: Sequence[str], args: Sequence[tuple[Any, ...]], again: Callable[[int], Any]
) -> Verdict:
    """Compares each of our forms with JAX, the compiled with the uncompiled. `again(lane)` is JAX, not vmapped."""
    ours, theirs, (runs, subnormal, poor, elsewhere, _) = numbers
    tolerance = tolerances(runs)
    limit = np.where(np.isnan(tolerance), 0.0, tolerance)
    excuses = {
        SUBNORMAL: subnormal | ~same(runs[0], runs[1], limit / 2),
        UNSTABLE: np.isnan(tolerance) | (np.abs(runs[0]) > sys.float_info.max - limit),
        POOR: np.broadcast_to(poor, tolerance.shape),
        ELSEWHERE: np.broadcast_to(elsewhere, tolerance.shape),
        MODES: _modes_differ(np.asarray(theirs), names),
    }
    excluded: dict[str, int] = {}
    theirs = np.array(theirs)

    def excused(bad: Any, reason: str, mask: Any) -> Any:
        if count := int(np.sum(bad & mask)):
            excluded[reason] = excluded.get(reason, 0) + count
        return bad & ~mask

    bad = {}
    for form, mine in ours.items():
        lanes = mine.shape[1]
        bad[form] = ~same(mine, theirs[:, :lanes], limit[:, :lanes])
        both = (np.abs(mine) < TINY) & (np.abs(theirs[:, :lanes]) < TINY)
        bad[form] = excused(bad[form], SUBNORMAL, both)
        for reason, mask in excuses.items():
            bad[form] = excused(bad[form], reason, mask[:, :lanes])
    doubtful = sorted({int(lane) for wrong in bad.values() for lane in np.flatnonzero(wrong.any(axis=0))})
    if doubtful:
        for lane in doubtful[:3]:
            theirs[:, lane] = again(lane)
        settled = np.isin(np.arange(theirs.shape[1]), doubtful[:3])
        for form, mine in ours.items():
            lanes = mine.shape[1]
            still = bad[form] & ~same(mine, theirs[:, :lanes], limit[:, :lanes])
            if not (still & settled[:lanes]).any():
                still = excused(still, ITSELF, np.ones_like(still))
            bad[form] = still & settled[:lanes]
    failures = [
        Case(names[i], form, float(mine[i, k]), float(theirs[i, k]), float(limit[i, k]), args[k])
        for form, mine in ours.items()
        for i, k in zip(*np.nonzero(bad[form]), strict=True)
    ]
    for form, exact in ((JIT, True), (VMAP, False)):
        mine, other = ours[RUN], ours[form][:, : ours[RUN].shape[1]]
        wrong = ~same(other, mine, 0.0 if exact else limit[:, : mine.shape[1]])
        for mask in () if exact else excuses.values():
            wrong &= ~mask[:, : mine.shape[1]]
        failures += [
            Case(names[i], f"{form} (here) against {RUN} (as JAX)", float(other[i, k]), float(mine[i, k]), 0.0, args[k])
            for i, k in zip(*np.nonzero(wrong), strict=True)
        ]
    return Verdict(
        sum(mine.size for mine in ours.values()),
        _closest(ours, theirs, limit, names, args, failures),
        failures,
        excluded,
    )


def _modes_differ(theirs: Any, names: Sequence[str]) -> Any:
    """Where JAX's jvp is nan and its gradient in that direction is not, as 0 · log(y) of a constant in xlogy's rule."""
    slopes = [i for i, name in enumerate(names) if name.startswith("grad")]
    with np.errstate(all="ignore"):
        parts = [theirs[i] * x for i, x in zip(slopes, itertools.cycle(DIRECTION), strict=False)]
        reverse = np.sum(parts, axis=0)
    forward = np.zeros(theirs.shape, bool)
    forward[names.index("jvp")] = ~np.isnan(reverse)
    return forward & np.isnan(theirs)


def _closest(ours: Any, theirs: Any, limit: Any, names: Sequence[str], args: Any, failures: list[Case]) -> Case:
    """The number that takes most of its tolerance, of those within it; or a failure."""
    if failures:
        return failures[0]
    found = []
    for form, mine in ours.items():
        lanes = mine.shape[1]
        with np.errstate(all="ignore"):
            share = np.abs(mine - theirs[:, :lanes]) / limit[:, :lanes]
        share = np.where((share >= 0) & (share <= 1) & (np.abs(mine) > TINY), share, 0.0)
        i, k = map(int, np.unravel_index(np.argmax(share), share.shape))
        found.append(Case(names[i], form, float(mine[i, k]), float(theirs[i, k]), float(limit[i, k]), args[k]))
    return max(found, key=lambda case: case.share)


def merged(reports: Iterable[Report]) -> Report:
    """The reports of parts as one."""
    rows: dict[str, Row] = {}
    excluded: dict[str, int] = {}
    failures: list[Failure] = []
    cases = 0
    for report in reports:
        cases += report.cases
        failures += report.failures
        for reason, count in report.excluded.items():
            excluded[reason] = excluded.get(reason, 0) + count
        for name, row in report.rows.items():
            old = rows.get(name, row._replace(cases=0))
            rows[name] = Row(old.cases + row.cases, max(old.worst, row.worst, key=lambda case: case.share))
    return Report(rows, cases, tuple(failures), excluded)
