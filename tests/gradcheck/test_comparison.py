"""Every function of `ops` and programs of them against JAX in float64; a wrong rule is found; the command."""

import itertools
import json
import math
import os
import subprocess
import sys
from ast import literal_eval
from collections.abc import Sequence
from pathlib import Path

import jax
import pytest

from funcgrad import cli, gradcheck
from funcgrad.autograd import ops
from funcgrad.cli import own_function
from funcgrad.gradcheck.comparison import check_program
from funcgrad.gradcheck.random_programs import FORMS, OPERATORS, RandomProgram, Statement, slots

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


def single_call(function: str, expression: str) -> RandomProgram:
    """The program that is one call of a function."""
    count = slots(expression)
    return RandomProgram(count, 0, (Statement(function, expression, tuple(range(count))),))


CALLS = {form: single_call(name, form) for name, forms in {**FORMS, **OPERATORS}.items() for form in forms}


# The functions


def test_there_is_a_program_for_every_function() -> None:
    assert set(FORMS) == set(ops.__all__)


@pytest.mark.exhaustive
@pytest.mark.parametrize("expression", CALLS)
def test_a_function_and_its_derivatives_are_those_of_jax(expression: str) -> None:
    """Value, first and second derivative at ordinary points, kinks, ties, zeros, infinities and nan."""
    program = CALLS[expression]
    points = GRIDS[program.inputs]
    if "heaviside" in expression and jax.__version_info__ < (0, 10, 2):
        points = [point for point in points if point[0] == point[0]]  # of nan it was not nan
    report = check_program(program, points, 2)
    assert not report.failures, str(report)


# Random programs


def test_random_programs_agree_with_jax() -> None:
    done: list[tuple[int, int]] = []
    report = gradcheck.fuzz(2, 10, progress=lambda *counts: done.append(counts))
    assert report.ok, str(report)
    assert report.cases > 100
    assert done == [(1, 2), (2, 2)]


@pytest.mark.exhaustive
@pytest.mark.parametrize(("programs", "order"), [(100, 2), (3, 3)])
def test_more_random_programs_agree_with_jax(programs: int, order: int) -> None:
    report = gradcheck.fuzz(programs, 100, seed=order, order=order)
    assert report.ok, str(report)


# A wrong rule

MISTAKEN = """
import jax
from funcgrad import autograd as ag
from funcgrad.autograd import ops


@ag.custom_jvp
def ours(x):
    return ops.tan(x)


@ours.defjvp
def rule(primals, tangents):
    (x,), (t,) = primals, tangents
    return ops.tan(x), 1.000001 * t / ops.cos(x) ** 2


def tan(x):
    return ops.tan(x) if isinstance(x, jax.Array) else ours(x)
"""


@pytest.fixture
def mistaken(tmp_path: Path) -> Path:
    """A module with a function `tan` whose derivative here is off by a millionth; under JAX it is JAX's own."""
    path = tmp_path / "mistaken.py"
    path.write_text(MISTAKEN, encoding="utf-8")
    return path


def test_compare_finds_a_wrong_rule(mistaken: Path) -> None:
    tan = own_function.load_function(f"{mistaken}:tan")
    report = gradcheck.compare(lambda x: tan(x) * x, 0.5)
    assert not report.ok
    assert {failure.case.what.split("[")[0] for failure in report.failures} == {"grad", "jvp", "vjp", "hessian"}
    assert report.worst.share > 1
    assert 1e-7 < report.worst.error < 1e-5


@pytest.mark.exhaustive
def test_a_wrong_rule_in_a_program_is_found_and_printed_as_python_that_runs(
    mistaken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(mistaken.parent))
    lines = [
        Statement("exp", "ops.exp({0})", (0,)),
        Statement("tan", "__import__('mistaken').tan({0})", (2,)),
        Statement("logaddexp", "ops.logaddexp({0}, {1})", (3, 1)),
        Statement("operators", "{0} * {1}", (4, 2)),
        Statement("sin", "ops.sin({0})", (5,)),
    ]
    report = check_program(RandomProgram(2, 1, tuple(lines)), [(0.3, 0.7), (0.123456, -1.5)], 2)
    assert not report.ok
    (failure,) = report.failures
    assert ".tan(" in failure.source
    assert "under JAX" in str(report)
    paths = os.pathsep.join([str(mistaken.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", failure.source],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    ours, theirs = (literal_eval(line) for line in done.stdout.splitlines())
    assert (ours, theirs) == pytest.approx((failure.case.ours, failure.case.jax), rel=1e-12)
    assert abs(ours - theirs) > 1e-8 * abs(theirs)


def test_a_program_that_raises_is_a_failure() -> None:
    report = check_program(RandomProgram(1, 0, (Statement("sin", "ops.sin({0}, {0})", (0,)),)), [(0.3,)], 1)
    (failure,) = report.failures
    assert failure.case.what.startswith("TypeError")
    assert "raised" in str(report)


# One function


@pytest.mark.parametrize("b", [1.0, -1.0])
def test_compare_takes_containers_branches_and_fixed_arguments(b: float) -> None:
    def f(p: dict[str, float], n: int) -> float:
        return p["a"] ** n if p["b"] > 0 else ops.exp(p["a"])

    report = gradcheck.compare(f, {"a": 0.7, "b": b}, 3)
    assert report.ok, str(report)
    assert list(report.rows) == ["f"]
    assert report.cases == 3 * (1 + 2 + 1 + 2 + 4)  # value, gradient, jvp, vjp and Hessian in three forms


def test_what_is_excluded_is_no_worst_number_and_no_gradient() -> None:
    report = gradcheck.compare(lambda x: x / x, 5e-324)  # JAX flushes it to zero, and 0 / 0 is nan
    assert report.ok
    assert sum(report.excluded.values()) == 3
    assert report.worst.share <= 1
    assert report.gradients == 0
    assert gradcheck.compare(lambda x: x / x, 0.5).gradients == 1


@pytest.mark.parametrize(("order", "numbers"), [(1, 1 + 2 + 1 + 2), (3, 1 + 2 + 1 + 2 + 4 + 8)])
def test_the_order_is_that_of_the_highest_derivative(order: int, numbers: int) -> None:
    report = gradcheck.compare(lambda x, y: ops.sin(x) * y * y, 2.0, 3.0, order=order)
    assert (report.ok, report.cases) == (True, 3 * numbers)


def test_compare_refuses_what_has_no_derivative() -> None:
    with pytest.raises(TypeError, match="argument of floats"):
        gradcheck.compare(lambda n: n * 2.0, 3)
    with pytest.raises(TypeError, match="scalar-output"):
        gradcheck.compare(lambda x: (x, x), 3.0)
    with pytest.raises(ValueError, match="order must be 1"):
        gradcheck.compare(lambda x: x, 3.0, order=4)
    with pytest.raises(ValueError, match="programs must be at least 1"):
        gradcheck.fuzz(0)


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


def test_the_command_fails_where_a_number_differs(mistaken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["gradcheck", "--fun", f"{mistaken}:tan", "--at", "0.5"]) == 1
    out, err = capsys.readouterr()
    assert "under JAX" in out
    assert "failures" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fun", "{}:g", "--at", "1"], "defines no g; its functions: f"),
        (["--fun", "{}:number", "--at", "1"], "is not a function but int"),
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
    arguments: list[str], message: str, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = cli.main(["gradcheck", *(argument.format(own) for argument in arguments)])
    except SystemExit as exit:
        status = exit.code  # type: ignore[assignment]
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


RAISING = """
import jax.numpy as jnp
import numpy as np
from funcgrad.autograd import ops

def quits(x):
    raise SystemExit(3)

def divides(x):
    return [1.0][int(x)]

def of_jax(x):
    return jnp.sin(x)

def of_numpy(x):
    return ops.exp(x) * np.sin(x)
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("quits", "raised SystemExit in line 7: 3"),
        ("divides", "raised IndexError in line 10: list index out of range"),
        ("of_jax", "raised TypeError in line 13: jax.numpy takes JAX values alone; the functions of funcgrad.autogr"),
        ("of_numpy", "raised TracerArrayConversionError in line 16: NumPy cannot compute with what JAX traces"),
    ],
)
def test_what_the_function_raises_is_one_line_and_status_1(
    name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "raising.py"
    path.write_text(RAISING, encoding="utf-8")
    assert cli.main(["gradcheck", "--fun", f"{path}:{name}", "--at", "1.0"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"funcgrad gradcheck: {path}:{name} {message}")


def test_a_file_that_does_not_run_is_a_wrong_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "broken.py"
    path.write_text("1 / 0\n", encoding="utf-8")
    assert cli.main(["gradcheck", "--fun", f"{path}:f", "--at", "1"]) == 2
    assert "does not run: ZeroDivisionError" in capsys.readouterr().err
