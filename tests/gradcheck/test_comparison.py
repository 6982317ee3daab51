"""Every function of `ops` and random programs of them against JAX in float64; what is wrong is found; the command."""

import itertools
import json
import math
import random
import subprocess
import sys
from ast import literal_eval
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
import pytest

from funcgrad import autograd as ag
from funcgrad import cli, gradcheck
from funcgrad.autograd import ops, primitives
from funcgrad.gradcheck import error_model as tolerances
from funcgrad.gradcheck import random_programs as programs
from funcgrad.gradcheck import report as verdicts
from funcgrad.gradcheck.random_programs import Program, Statement

inf, nan = math.inf, math.nan
LINE = (
    *(
        0.0,
        -0.0,
        5e-324,
        -1e-310,
        1e-300,
        -1e-300,
        1e-20,
        1e-8,
        -1e-8,
        0.01,
        0.1,
        -0.1,
        0.25,
        0.3,
        0.5,
        -0.5,
        0.75,
        0.9,
    ),
    *(-0.9, 0.999, 1 - 1e-9, 1.0, -1.0, 1 + 1e-9, 1.1, 1.4616, 1.5, -1.5, 2.0, -2.0, 2.5, -2.5, 3.0, -3.0, 3.3, -3.7),
    *(4.5, 6.0, -6.0, 7.25, -7.25, 10.0, -10.0, 20.0, -20.0, 30.0, -30.0, 38.5, -38.5, 100.5, -100.5, 709.0, 710.0),
    *(
        -745.0,
        -746.0,
        1e5,
        -1e5,
        1e10,
        1e16,
        -1e16,
        1e20,
        -1e20,
        1e154,
        1e160,
        -1e160,
        1e300,
        -1e300,
        1.7e308,
        -1.7e308,
    ),
    *(inf, -inf, nan),
)
PLANE = (
    *(0.0, -0.0, 1e-310, 1e-8, -0.1, 0.25, 0.5, 1.0, -1.0, 1.5, -1.5, 2.0, -2.0, 3.0, -3.7, 10.0, -40.0, 710.0),
    *(1e20, 1e160, -1e300, inf, -inf, nan),
)
SPACE = (0.0, -0.0, 0.5, 1.0, -1.0, 2.0, -3.7, 40.0, 1e100, inf, -inf, nan)
GRIDS: dict[int, Sequence[tuple[float, ...]]] = {
    count: list(itertools.product(*[line] * count)) for count, line in ((1, LINE), (2, PLANE), (3, SPACE))
}
SINGLES = {program.statements[0].expression: program for program in programs.singles()}


# The functions


def test_there_is_a_program_for_every_function() -> None:
    assert set(programs.FORMS) == set(ops.__all__)


@pytest.mark.exhaustive
@pytest.mark.parametrize("expression", SINGLES)
def test_a_function_and_its_derivatives_are_those_of_jax(expression: str) -> None:
    """Value, first and second derivative at ordinary points, kinks, ties, zeros, infinities and nan."""
    program = SINGLES[expression]
    points = GRIDS[program.inputs]
    if "heaviside" in expression and jax.__version_info__ < (0, 10, 2):
        points = [point for point in points if point[0] == point[0]]  # of nan it was not nan
    report = gradcheck.check_program(program, points, 2, shrink=False)
    assert not report.failures, str(report)


# Random programs


@pytest.mark.exhaustive
def test_random_programs_agree_with_jax() -> None:
    report = gradcheck.fuzz(200, 100)
    assert report.ok, str(report)
    assert set(ops.__all__) <= set(report.rows)
    assert sum(report.excluded.values()) <= 0.05 * report.cases


@pytest.mark.exhaustive
def test_a_few_random_programs_agree_in_their_third_derivatives() -> None:
    report = gradcheck.fuzz(5, 100, seed=3, order=3)
    assert report.ok, str(report)


def test_the_same_seed_gives_the_same_programs_and_points() -> None:
    def some(seed: int) -> list[object]:
        rng = random.Random(seed)
        return [(one := programs.random_program(rng), programs.points(rng, one.inputs, 5)) for _ in range(5)]

    assert repr(some(1)) == repr(some(1))
    assert repr(some(1)) != repr(some(2))


@pytest.mark.exhaustive
def test_random_programs_have_all_that_the_table_promises() -> None:
    rng = random.Random(0)
    made = [programs.random_program(rng) for _ in range(300)]
    text = "\n".join(program.source() for program in made)
    for part in (" if ", "system.grad(", "system.jvp(", "system.vjp(", "system.jit(", "p['w']", "(y, z) = p"):
        assert part in text
    assert {program.inputs for program in made} == {1, 2, 3}
    assert all(3 <= len(program.statements) <= 12 for program in made)
    edges = {x for one in programs.points(rng, 2, 500) for x in one}
    assert {0.0, inf, -inf, 5e-324, -1e300} <= edges
    assert any(x != x for x in edges)
    assert any(x == y for x, y in programs.points(rng, 2, 500))


def test_the_source_of_a_program_is_the_program() -> None:
    rng = random.Random(5)
    program = programs.random_program(rng)
    space: dict[str, object] = {"ops": ops, "math": math}
    exec(program.source(), space)
    args = program.arguments([0.3] * program.inputs)
    assert space["program"](ag)(*args) == programs.build(program)(ag)(*args)  # type: ignore[operator]


# A wrong rule


@pytest.fixture
def wrong_tan(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The derivative of tan is off by a millionth."""
    tan = primitives.TABLE["tan"]
    right = tan.rules[0]
    assert right is not None
    rule = lambda t, ans, x: primitives.mul(1.000001, right(t, ans, x))  # noqa: E731
    wrong = ag.Primitive("tan", tan.value, (rule,), tan.source)
    for attribute in ("rules", "reverse", "jvp", "vjp"):
        monkeypatch.setattr(tan, attribute, getattr(wrong, attribute))
    yield
    monkeypatch.undo()


@pytest.mark.exhaustive
@pytest.mark.usefixtures("wrong_tan")
def test_a_wrong_rule_is_found_and_made_small() -> None:
    """It is buried in a program, and what is printed is little more than the function; run, it shows both numbers."""
    lines = [
        Statement("exp", "ops.exp({0})", (0,)),
        Statement("tan", "ops.tan({0})", (2,)),
        Statement("logaddexp", "ops.logaddexp({0}, {1})", (3, 1)),
        Statement("operators", "{0} * {1}", (4, 2)),
        Statement("sin", "ops.sin({0})", (5,)),
    ]
    report = gradcheck.check_program(Program(2, 1, tuple(lines)), [(0.3, 0.7), (0.123456, -1.5)], 2)
    assert not report.ok
    (failure,) = report.failures
    assert "ops.tan(" in failure.source
    assert len(failure.case.program.statements) == 1
    assert failure.case.program.inputs == 1
    assert "under JAX" in str(report)
    done = subprocess.run([sys.executable, "-c", failure.source], capture_output=True, text=True, check=True)
    ours, jax = (literal_eval(line) for line in done.stdout.splitlines())
    assert ours == pytest.approx(jax, rel=1e-12)  # in a process of its own, where the rule is right


@pytest.mark.exhaustive
@pytest.mark.usefixtures("wrong_tan")
def test_compare_finds_a_wrong_rule() -> None:
    report = gradcheck.compare(lambda x: ops.tan(x) * x, 0.5)
    assert not report.ok
    assert {failure.case.what.split("[")[0] for failure in report.failures} == {"grad", "jvp", "vjp", "hessian"}
    assert report.worst.share > 1


# The tolerance


def test_the_tolerance_is_small_where_well_conditioned_and_large_where_digits_cancel() -> None:
    def tolerance(fun: object, x: float) -> float:
        graph = ag.make_graph(fun)(x)  # type: ignore[arg-type]
        runs = tolerances.spread(graph, [np.array([x])], 0).runs
        return float(tolerances.tolerances(runs)[0, 0])

    assert tolerance(lambda x: ops.exp(x), 1.0) < 100 * 2.0**-52
    assert tolerance(lambda x: ops.exp(x) * 1e10 - 1e10, 1e-3) > 1e-7
    assert math.isnan(tolerance(lambda x: ops.log(1.0 - ops.exp(x) / ops.exp(x)), 0.3))


def test_infinities_and_nans_agree_exactly_or_not_at_all() -> None:
    numbers = np.array([inf, -inf, nan, 1.0])
    assert tolerances.same(numbers, numbers).all()
    assert not tolerances.same(numbers, np.array([-inf, nan, inf, inf]), 1e300).any()


# One function


@pytest.mark.exhaustive
def test_compare_takes_containers_branches_and_fixed_arguments() -> None:
    def f(p: dict[str, float], n: int) -> float:
        return p["a"] ** n if p["b"] > 0 else ops.exp(p["a"])

    for b in (1.0, -1.0):
        report = gradcheck.compare(f, {"a": 0.7, "b": b}, 3)
        assert report.ok, str(report)
        assert list(report.rows) == ["f"]
    assert gradcheck.compare(lambda x, y: x * y, 2.0, 3.0, order=1).cases < report.cases


def test_compare_refuses_what_has_no_derivative() -> None:
    with pytest.raises(TypeError, match="argument of floats"):
        gradcheck.compare(lambda n: n * 2.0, 3)
    with pytest.raises(TypeError, match="scalar-output"):
        gradcheck.compare(lambda x: (x, x), 3.0)
    with pytest.raises(ValueError, match="order must be 1"):
        gradcheck.compare(lambda x: x, 3.0, order=4)
    with pytest.raises(ValueError, match="programs must be at least 1"):
        gradcheck.fuzz(0)


def test_a_report_counts_what_it_leaves_out() -> None:
    case = verdicts.Case("value", "jit", 1.0, 1.0 + 2.0**-52, 2.0**-50, (1.0,))
    report = verdicts.Report({"sin": verdicts.Row(100, case)}, 100, (), {"for a reason": 6})
    assert not report.ok
    assert "6.00% excluded" in str(report)
    assert "for a reason" in str(report)
    assert report._replace(excluded={"for a reason": 5}).ok
    both = verdicts.merged([report, report])
    assert (both.cases, both.excluded, both.rows["sin"].cases) == (200, {"for a reason": 12}, 200)


# The command


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(
        "from funcgrad.autograd import ops\n\ndef f(x, y):\n    return ops.sin(x) * y\n\nnumber = 3\n", encoding="utf-8"
    )
    return path


def test_the_command_checks_a_function_of_the_users_own(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["gradcheck", "--fun", f"{own}:f", "--at", "1.0", "-2.5"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("function  cases")
    assert "0 failures" in out
    assert err == ""
    assert cli.main(["gradcheck", "--fun", f"{own}:f", "--at", "1.0", "-inf", "--order", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["ok"] is True
    assert list(result["functions"]) == ["f"]


@pytest.mark.exhaustive
def test_the_command_runs_random_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["gradcheck", "--programs", "2", "--points", "5", "--order", "1", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("wrong_tan")
def test_the_command_fails_where_a_number_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from funcgrad.autograd import ops\nf = ops.tan\n", encoding="utf-8")
    assert cli.main(["gradcheck", "--fun", f"{path}:f", "--at", "0.5"]) == 1
    out, err = capsys.readouterr()
    assert "under JAX" in out
    assert "failures" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fun", "{}:g", "--at", "1"], "defines no g; its functions: f"),
        (["--fun", "{}:number", "--at", "1"], "is no function but int"),
        (["--fun", "{}:f", "--at", "1"], "cannot be called with 1 numbers"),
        (["--fun", "{}", "--at", "1"], "takes FILE.py:NAME"),
        (["--fun", "nowhere.py:f", "--at", "1"], "there is no file nowhere.py"),
        (["--fun", "{}:f"], "belong together"),
        (["--fun", "{}:f", "--at", "one", "2"], "invalid float value"),
        (["--order", "4"], "invalid choice: "),
        (["--programs", "0"], "needs a whole number from 1 up"),
    ],
)
def test_the_command_says_in_one_line_what_is_wrong(
    arguments: list[str], said: str, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = cli.main(["gradcheck", *(argument.format(own) for argument in arguments)])
    except SystemExit as exit:
        status = exit.code  # type: ignore[assignment]
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_a_file_that_does_not_run_is_a_wrong_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "broken.py"
    path.write_text("1 / 0\n", encoding="utf-8")
    assert cli.main(["gradcheck", "--fun", f"{path}:f", "--at", "1"]) == 2
    assert "does not run: ZeroDivisionError" in capsys.readouterr().err
