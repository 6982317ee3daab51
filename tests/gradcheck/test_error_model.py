"""The tolerance follows the conditioning of a number; infinities and nans agree exactly or not at all."""

import math
from typing import Any

import numpy as np

from funcgrad import autograd as ag
from funcgrad.autograd import ops
from funcgrad.gradcheck import error_model

inf, nan = math.inf, math.nan


def test_the_tolerance_is_small_where_well_conditioned_and_large_where_digits_cancel() -> None:
    def tolerance(fun: Any, x: float) -> float:
        graph = ag.make_graph(fun)(x)
        runs = error_model.spread(graph, [np.array([x])], 0).runs
        return float(error_model.tolerances(runs)[0, 0])

    assert tolerance(lambda x: ops.exp(x), 1.0) < 100 * 2.0**-52
    assert tolerance(lambda x: ops.exp(x) * 1e10 - 1e10, 1e-3) > 1e-7
    assert math.isnan(tolerance(lambda x: ops.log(1.0 - ops.exp(x) / ops.exp(x)), 0.3))


def test_infinities_and_nans_agree_exactly_or_not_at_all() -> None:
    numbers = np.array([inf, -inf, nan, 1.0])
    assert error_model.same(numbers, numbers).all()
    assert not error_model.same(numbers, np.array([-inf, nan, inf, inf]), 1e300).any()


def test_points_at_which_nothing_can_be_compared_are_marked() -> None:
    def f(x: Any) -> Any:
        return ops.where(x - 1.0 / 3.0 * 3.0 * x > 0.0, 1.0, 2.0) * x

    column = np.array([1.0, 1e-310, inf])
    found = error_model.spread(ag.make_graph(f)(1.0), [column], 0)
    assert found.subnormal.tolist() == [False, True, False]
    assert found.infinite.tolist() == [False, False, True]
    assert found.branch_changes[0]
    assert found.runs.shape == (2 + error_model.RUNS, 1, 3)
    assert found.runs[1, 0, 1] == 0.0  # the run that flushes subnormals
