"""Graphs as they are looked at: labels, pictures, and those that reverse mode walks."""

from typing import Any

import numpy as np
import pytest

from funcgrad import autograd as ag
from funcgrad.autograd import ops


def loss(w: Any, x: Any) -> Any:
    h = ag.label(ops.tanh(ag.label(w * x, "pre")), "h")
    for _ in range(2):
        h = ag.label(h * h, "h")
    return ag.label(h + ops.max([w, x]), "loss")


def plain(w: Any, x: Any) -> Any:
    h = ops.tanh(w * x)
    for _ in range(2):
        h = h * h
    return h + ops.max([w, x])


def test_labels_are_the_names_of_numbers_and_nothing_else() -> None:
    graph = ag.make_graph(loss)(0.5, 1.5)
    assert (
        str(graph)
        == """{ lambda w x . let
    pre = mul w x
    h = tanh pre
    h_1 = mul h h
    h_2 = mul h_1 h_1
    a = max w x
    loss = add h_2 a
  in (loss) }"""
    )
    assert graph.source() == ag.make_graph(plain)(0.5, 1.5).source().replace("plain", "loss")
    assert graph.eval(0.7, 0.3) == plain(0.7, 0.3) == loss(0.7, 0.3)
    assert "pre" in graph.to_dot()
    assert ag.to_text(graph).splitlines()[-2].startswith("loss = add h_2 a")
    both = ag.grad(loss, (0, 1)), ag.grad(plain, (0, 1))
    assert both[0](0.5, 1.5) == both[1](0.5, 1.5) == ag.jit(both[0])(0.5, 1.5)
    assert ag.hessian(loss)(0.5, 1.5) == ag.hessian(plain)(0.5, 1.5)
    np.testing.assert_allclose(ag.vmap(both[0])(np.array([0.5]), np.array([1.5])), np.array([both[1](0.5, 1.5)]).T)


def test_labels_in_the_graph_of_reverse_mode_and_of_inputs() -> None:
    lines = str(ag.reverse_graph(loss)(0.5, 1.5)).splitlines()
    assert lines[-3:] == ["    a = max w x", "    loss = add h_2 a", "  in (loss) }"]
    named = ag.make_graph(lambda x: ag.label([x, x * 2.0], "pair"))(3.0)
    assert str(named).splitlines()[1:] == ["    pair_1 = mul pair 2.0", "  in (pair, pair_1) }"]
    assert ag.label(3.0, "three") == 3.0
    with pytest.raises(TypeError, match="label: the name must be a string, got int: 3"):
        ag.label(3.0, 3)  # type: ignore[arg-type]


def test_a_graph_shows_itself_in_a_notebook() -> None:
    graph = ag.make_graph(loss)(0.5, 1.5)
    assert graph.to_svg() == ag.to_svg(graph) == graph._repr_svg_()
    assert ">loss<" in graph.to_svg()
    assert ag.reverse_graph(loss)(0.5, 1.5)._repr_svg_() is not None

    def deep(x: Any) -> Any:
        first = x
        for _ in range(400):
            x = x * first
        return x

    large = ag.make_graph(deep)(1.0)
    assert large._repr_svg_() is None or "<svg" in str(large._repr_svg_())
