"""The report of a comparison: what is compared, excluded, merged and printed."""

import math

from funcgrad.gradcheck import Case, Report
from funcgrad.gradcheck.report import FunctionSummary, merged


def test_a_report_counts_what_it_leaves_out() -> None:
    case = Case("value", "jit", 1.0, 1.0 + 2.0**-52, 2.0**-50, (1.0,))
    report = Report({"sin": FunctionSummary(100, case)}, 100, (), {"for a reason": 6})
    assert not report.ok
    assert "6.00% excluded" in str(report)
    assert "for a reason" in str(report)
    assert report._replace(excluded={"for a reason": 5}).ok
    both = merged([report, report])
    assert (both.cases, both.excluded, both.rows["sin"].cases) == (200, {"for a reason": 12}, 200)


def test_the_table_stays_narrow_whatever_the_numbers() -> None:
    cases = {
        "exp": Case("value", "jit", 1e300, 1e-300, 1e-310, (1.0,)),
        "log": Case("value", "jit", math.nan, 1.0, 1e-16, (1.0,)),
        "sin": Case("value", "jit", 1.0, 1.0 + 2.0**-52, 2.0**-50, (1.0,)),
    }
    report = Report({name: FunctionSummary(1, case) for name, case in cases.items()}, 3, (), {})
    header, *rows = str(report).splitlines()[:4]
    assert header.split() == ["function", "cases", "error", "ulp", "of", "tolerance", "where"]
    assert all(len(row) < 100 for row in rows)
    assert rows[2].split()[:5] == ["sin", "1", "2.2e-16", "1", "0.25"]
    assert {row.index("value, jit") for row in rows} == {header.index("where")}
