"""Graphs drawn: the gradients on each node, and pictures in which nothing overlaps, whatever the names."""

import random
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pytest

from funcgrad import autograd as ag
from funcgrad.autograd import draw, ops
from funcgrad.autograd import graph_layout as layout
from funcgrad.autograd.graph import Graph

SVG = "{http://www.w3.org/2000/svg}"


def micrograd_readme(a: Any, b: Any) -> Any:
    """The expression of micrograd's README."""
    c = a + b
    d = a * b + b**3
    c += c + 1
    c += 1 + c + (-a)
    d += d * 2 + ops.relu(b + a)
    d += 3 * d + ops.relu(b - a)
    e = c - d
    f = e**2
    g = f / 2.0
    g += 10.0 / f
    return g


def network(p: Any, x: Any) -> Any:
    """A small MLP; with layers 2-4-3-1 its graph has 87 boxes."""
    for weights, biases in p:
        x = [ops.tanh(ops.dot(w, x) + b) for w, b in zip(weights, biases, strict=True)]
    return x[0]


def random_layer(rng: random.Random, inputs: int, outputs: int) -> tuple[list[list[float]], list[float]]:
    return [[rng.gauss(0, 1) for _ in range(inputs)] for _ in range(outputs)], [rng.gauss(0, 1) for _ in range(outputs)]


def branching(x: Any, y: Any) -> Any:
    z = ops.where(x > y, x, y) * ops.logsumexp([x, y, x * y])
    if z > 1.0:
        z = z / 3
    return z, ops.max([x, y, z]), 3.0, x


def tangled(seed: int, count: int) -> Graph:
    """A graph whose operations take their arguments from anywhere before them."""
    rng = random.Random(seed)

    def f(*xs: Any) -> Any:
        known = list(xs)
        for _ in range(count):
            a, b = rng.choice(known[-20:]), rng.choice(known)
            choice: list[Callable[[], Any]] = [
                lambda a=a, b=b: a + b,
                lambda a=a, b=b: a * b,
                lambda a=a: ops.tanh(a),
                lambda a=a: a - 2.0,
            ]
            known.append(rng.choice(choice)())
        return known[-1]

    return ag.make_graph(f)(1.0, 0.5, -0.3)


def graphs() -> dict[str, Graph]:
    rng = random.Random(0)
    parameters = [random_layer(rng, 2, 4), random_layer(rng, 4, 3), random_layer(rng, 3, 1)]
    hostile = {"<b>&\"'": 1.0, "a|b{c}\\": 2.0, "new\nline\x00\x1b": 3.0, "\ud800": 4.0, "変数" * 9: 5.0}
    return {
        "micrograd": ag.make_graph(micrograd_readme)(-4.0, 2.0),
        "network": ag.make_graph(network)(parameters, [0.5, -1.2]),
        "branching": ag.make_graph(branching)(1.5, 2.0),
        "constant": ag.make_graph(lambda: 3.0)(),
        "empty": ag.make_graph(lambda: ())(),
        "identity": ag.make_graph(lambda x, y: (x, x))(3.0, 2.0),
        "edges": ag.make_graph(lambda x, y: x * 1e-300 / y + y)(float("inf"), float("nan")),
        "hostile": ag.make_graph(lambda p: ops.sum([p[key] * p[key] for key in p]))(hostile),
        "tangled 0": tangled(0, 100),
        "tangled 1": tangled(1, 40),
    }


GRAPHS = graphs()
each_graph = pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)


# Gradients


def test_inputs_have_the_gradient_of_grad() -> None:
    for fun, args in ((micrograd_readme, (-4.0, 2.0)), (lambda x, y: branching(x, y)[0], (1.5, 2.0))):
        graph = ag.make_graph(fun)(*args)
        found = draw.gradients(graph)
        expected = ag.grad(fun, (0, 1))(*args)
        assert [found[x.index] for x in graph.inputs] == pytest.approx(expected, rel=1e-14)


def test_the_gradient_of_a_node_is_the_effect_of_a_change_there() -> None:
    def with_changes(x: Any, first: Any, second: Any) -> Any:
        y = ops.sin(x) + first
        z = y * x + second
        return ops.exp(z) * y

    graph = ag.make_graph(lambda x: with_changes(x, 0.0, 0.0))(0.7)
    found = draw.gradients(graph)
    by_name = {name: found[index] for index, name in draw.names_of(graph).items()}
    _, first, second = ag.grad(with_changes, (0, 1, 2))(0.7, 0.0, 0.0)
    assert first in by_name.values()
    assert second in by_name.values()


def test_another_output_has_other_gradients() -> None:
    graph = ag.make_graph(lambda x, y: (x * y, x - y))(2.0, 3.0)
    x, y = (x.index for x in graph.inputs)
    assert [draw.gradients(graph, 0)[i] for i in (x, y)] == [3.0, 2.0]
    assert [draw.gradients(graph, 1)[i] for i in (x, y)] == [1.0, -1.0]
    with pytest.raises(IndexError):
        draw.gradients(graph, 2)


# Text and DOT


def test_text_has_the_numbers_of_micrograds_readme() -> None:
    lines = draw.to_text(GRAPHS["micrograd"]).splitlines()
    assert re.fullmatch(r"a +-4 +138\.834", lines[1])
    assert re.fullmatch(r"b +2 +645\.577", lines[2])
    assert lines[-2].split()[-2:] == ["24.7041", "1"]
    assert lines[-1] == "out aa"


def test_text_has_a_line_for_each_input_equation_and_guard() -> None:
    graph = GRAPHS["branching"]
    lines = draw.to_text(graph).splitlines()
    assert len(lines) == len(graph.inputs) + len(graph.equations) + 2
    assert sum(line.split()[0] == "guard" for line in lines if line.strip()) == 1


@each_graph
def test_dot_is_one_statement_a_line_with_all_quotes_closed(graph: Graph) -> None:
    lines = draw.to_dot(graph).splitlines()
    assert (lines[0], lines[-1]) == ("digraph {", "}")
    quoted = r'"(?:[^"\\\n]|\\.)*"'
    for line in lines[1:-1]:
        assert re.fullmatch(rf"  (?:[^\"\n]|{quoted})*;", line), line
    assert sum("shape=record" in line for line in lines) == len(draw.boxes_of(graph))


def test_the_method_of_graphs_is_the_function() -> None:
    assert GRAPHS["micrograd"].to_dot() == draw.to_dot(GRAPHS["micrograd"])


# SVG


class Rectangle(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: "Rectangle") -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def holds(self, x: float, y: float) -> bool:
        rounded = 0.2  # in the file
        return self.left + rounded < x < self.right - rounded and self.top + rounded < y < self.bottom - rounded


def picture(graph: Graph) -> ElementTree.Element:
    return ElementTree.fromstring(draw.to_svg(graph))


def rectangles(root: ElementTree.Element) -> list[Rectangle]:
    found = []
    for rect in root.iterfind(f"{SVG}g/{SVG}rect"):
        x, y, width, height = (float(rect.get(key, "")) for key in ("x", "y", "width", "height"))
        found.append(Rectangle(x, y, x + width, y + height))
    return found


def texts(root: ElementTree.Element) -> Iterator[Rectangle]:
    """The letters of each text: 0.602 of their height wide in DejaVu Sans Mono, twice that in Chinese fonts."""
    for text in root.iterfind(f"{SVG}g/{SVG}text"):
        size = float(root.get("font-size", ""))
        wide = sum(2 if 0x2E80 < ord(letter) < 0xFF00 else 1 for letter in text.text or "") * 0.602 * size
        x, y = float(text.get("x", "")), float(text.get("y", ""))
        left = x - wide / 2 if text.get("text-anchor") == "middle" else x
        yield Rectangle(left, y - 0.76 * size, left + wide, y + 0.24 * size)


def curves(root: ElementTree.Element) -> list[str]:
    """The edges from column to column."""
    paths = (path.get("d", "") for path in root.iterfind(f"{SVG}g[@fill='none']/{SVG}path"))
    return [path for path in paths if "C" in path]


def curve_ends(root: ElementTree.Element) -> list[tuple[float, ...]]:
    """For each of them where the curve starts and ends in the space between the columns: (x, y, …, x, y)."""
    numbers = [[float(number) for number in re.findall(r"-?[\d.]+", path)] for path in curves(root)]
    return [(one[2], one[1], *one[3:9]) for one in numbers]


def curve_points(root: ElementTree.Element) -> Iterator[tuple[float, float]]:
    """Points of all edges."""
    number = r"(-?[\d.]+)"
    for path in root.iterfind(f"{SVG}g[@fill='none']/{SVG}path"):
        text = path.get("d", "")
        if found := re.fullmatch(f"M{number} {number}H{number}C{' '.join([number] * 6)}H{number}", text):
            start, y0, x0, x1, y1, x2, y2, x3, y3, end = map(float, found.groups())
            yield from ((start + 0.2 + (x0 - start - 0.2) * i / 20, y0) for i in range(21))
            for t in (i / 20 for i in range(21)):
                weights = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3
                yield (
                    sum(w * x for w, x in zip(weights, (x0, x1, x2, x3), strict=True)),
                    sum(w * y for w, y in zip(weights, (y0, y1, y2, y3), strict=True)),
                )
            yield from ((x3 + (end - 0.2 - x3) * i / 20, y3) for i in range(21))
        else:
            assert re.fullmatch(f"M{number} {number}h{number}", text), text


@each_graph
def test_no_boxes_overlap_and_all_lie_on_the_page(graph: Graph) -> None:
    root = picture(graph)
    boxes = rectangles(root)
    for i, box in enumerate(boxes):
        assert box.left >= 0
        assert box.top >= 0
        assert box.right <= float(root.get("width", ""))
        assert box.bottom <= float(root.get("height", ""))
        assert not any(box.overlaps(other) for other in boxes[:i])


@each_graph
def test_every_text_lies_inside_a_box(graph: Graph) -> None:
    root = picture(graph)
    boxes = rectangles(root)
    for text in texts(root):
        assert any(
            box.left <= text.left and text.right <= box.right and box.top <= text.top and text.bottom <= box.bottom
            for box in boxes
        ), text


@each_graph
def test_no_edge_passes_behind_a_box(graph: Graph) -> None:
    root = picture(graph)
    boxes = [box for box in rectangles(root) if round(box.bottom - box.top) != 26]  # edges do enter the circles
    for x, y in curve_points(root):
        assert not any(box.holds(x, y) for box in boxes), (x, y)


def test_shared_nodes_stand_once_and_constants_at_each_use() -> None:
    graph = ag.make_graph(lambda x: (lambda y: y * y + 2.0 * y + 2.0)(ops.sin(x)))(1.0)
    boxes = draw.boxes_of(graph)
    assert sorted(box.name for box in boxes if box.name) == sorted(draw.names_of(graph).values())
    assert sum(box.role == "constant" for box in boxes) == 2
    shown = [text.text for text in picture(graph).iter(f"{SVG}text")]
    assert shown.count("2") == 2
    assert shown.count("data 0.841471") == 1
    assert [box.role for box in boxes if box.role in ("input", "output")] == ["input", "output"]


def test_every_box_shows_name_value_and_gradient() -> None:
    shown = [text.text for text in picture(GRAPHS["micrograd"]).iter(f"{SVG}text")]
    for text in ("a", "data -4", "grad 138.834", "b", "data 2", "grad 645.577", "data 24.7041", "grad 1", "relu"):
        assert text in shown


def test_a_condition_that_was_branched_on_says_so() -> None:
    roles = {box.name: box.grad for box in draw.boxes_of(GRAPHS["branching"]) if box.data == "data True"}
    assert sorted(roles.values()) == ["", "branch"]


def test_names_are_shown_as_text_whatever_is_in_them() -> None:
    written = draw.to_svg(GRAPHS["hostile"])
    assert "<b>" not in written
    whole = [title.text for title in ElementTree.fromstring(written).iter(f"{SVG}title")]
    assert "p_<b>&\"'" in whole
    assert any("変数" * 9 in (title or "") for title in whole)


@pytest.mark.exhaustive
def test_a_deep_graph_is_laid_out_without_recursion() -> None:
    def chain(x: Any) -> Any:
        for _ in range(1500):
            x = x * ops.tanh(x)
        return x

    assert len(rectangles(picture(ag.make_graph(chain)(0.5)))) == 2 * 3000 + 1


def test_a_picture_that_would_be_too_large_is_refused() -> None:
    sources: list[tuple[int, ...]] = [(), *((i,) for i in range(600)), *((i, 600) for i in range(600))]
    with pytest.raises(ValueError, match="too large to lay out; use to_dot or to_text"):
        layout.layout([layout.BoxSize(50.0, 40.0, 26.0)] * len(sources), sources)


def test_a_tree_is_drawn_without_crossings() -> None:
    def f(*xs: Any) -> Any:
        left = xs[3] * xs[0] + ops.sin(ops.exp(xs[5] * xs[1]))
        return ops.tanh(left - (xs[2] / xs[4] + ops.exp(xs[6])))

    graph = ag.make_graph(f)(*[float(i + 1) for i in range(7)])
    ends = curve_ends(picture(graph))
    assert len(ends) == 16 + 4  # an edge for each operand, and for each column that one passes
    for x, y, *_, x_end, y_end in ends:
        others = [(other[1], other[7]) for other in ends if (other[0], other[6]) == (x, x_end)]
        assert not any((y - y_other) * (y_end - y_end_other) < 0 for y_other, y_end_other in others)


def test_crossings_are_seen_where_there_must_be_some() -> None:
    """The check of the test above: each of two pairs uses both inputs."""
    graph = ag.make_graph(lambda x, y: (x * y) / (x + y))(1.0, 2.0)
    ends = curve_ends(picture(graph))
    assert any((a[1] - b[1]) * (a[7] - b[7]) < 0 for a in ends for b in ends if (a[0], a[6]) == (b[0], b[6]))
