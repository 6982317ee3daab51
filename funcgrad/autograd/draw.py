"""Graphs as text, as DOT and as SVG: each number with its value and its gradient, as micrograd's picture has them.

The gradients are those of the first output. `graph_layout` places the boxes of the SVG, which needs no Graphviz.
"""

import unicodedata
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

from funcgrad.autograd.graph import Equation, Graph, Var, outputs_of, variable_names
from funcgrad.autograd.graph_layout import STEM, BoxSize, layout
from funcgrad.autograd.pytrees import LEAF
from funcgrad.autograd.tracing import concrete
from funcgrad.autograd.transforms import Recording, pull

# Numbers and names


def gradients(graph: Graph, output: int = 0) -> dict[int, float]:
    """The derivative of an output with respect to each float of the graph, by the index of its Var.

    A graph of primitives does not know what `stop_gradient` and custom rules changed; `reverse_graph` makes one that
    does. Raises IndexError if there is no such output.

    >>> from funcgrad import autograd as ag
    >>> gradients(ag.make_graph(lambda x, y: x * y + 1.0)(2.0, 3.0))
    {0: 3.0, 1: 2.0, 2: 1.0, 3: 1.0}
    """
    target = graph.outputs[output]
    known = [*graph.inputs, *(x for equation in graph.equations for x in outputs_of(equation))]
    floats: list[Any] = [x for x in known if type(concrete(x)) is float]
    if not floats:
        return {}
    cotangents = pull(Recording(floats[0].trace, floats, [target], LEAF, None), [1.0])  # of all floats, as if inputs
    return dict(zip([x.index for x in floats], cotangents, strict=True))


def names_of(graph: Graph) -> dict[int, str]:
    """A name for each variable, as `str(graph)` has them; those that cannot be printed are replaced."""
    return {index: _printable(name) for index, name in variable_names(graph).items()}


def _printable(name: str) -> str:
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in name)


def format_number(x: Any) -> str:
    """A number in six digits; anything else as it is."""
    return f"{x:.6g}" if type(x) is float else _printable(repr(x))


# Text


def equation_text(equation: Equation, names: dict[int, str]) -> str:
    """An equation as a jaxpr has it: `c = mul a 2.0`, or `guard c True`."""
    written = [names[x.index] if isinstance(x, Var) else _printable(repr(concrete(x))) for x in equation.inputs]
    computed = " ".join([equation.primitive.name, *written])
    if equation.primitive.name == "guard":
        return computed
    return f"{' '.join(names[x.index] for x in outputs_of(equation))} = {computed}"


def to_text(graph: Graph) -> str:
    """A table: each input and equation with its value and the gradient of the first output.

    >>> from funcgrad import autograd as ag
    >>> print(to_text(ag.make_graph(lambda x, y: x * y + 1.0)(2.0, 3.0)))
                   data  grad
    x                 2     3
    y                 3     2
    a = mul x y       6     1
    b = add a 1.0     7     1
    out b
    """
    names, gradient = names_of(graph), gradients(graph) if graph.outputs else {}
    rows = [("", "data", "grad")]
    texts: list[tuple[str, tuple[Var, ...]]] = [(names[x.index], (x,)) for x in graph.inputs]
    texts += [(equation_text(equation, names), outputs_of(equation)) for equation in graph.equations]
    for text, defined in texts:
        for x in defined:
            grad = format_number(gradient[x.index]) if x.index in gradient else ""
            rows.append((text, format_number(concrete(x)), grad))
    outputs = [names[x.index] if isinstance(x, Var) else format_number(concrete(x)) for x in graph.outputs]
    return "\n".join([*text_table(rows, "<>>"), f"out {' '.join(outputs)}".rstrip()])


def text_table(rows: Sequence[Sequence[str]], sides: str) -> list[str]:
    """Rows as lines with aligned columns: `sides` has < (left) or > (right) for each, its last letter for all further.

    A long text at the left of its column moves only the rest of its own row.
    """
    lengths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    every = zip(sides.ljust(len(lengths), sides[-1]), lengths, strict=False)
    formats = [f"{side}{min(length, 48) if side == '<' else length}" for side, length in every]
    return ["  ".join(map(format, row, formats)).rstrip() for row in rows]


# Boxes: what DOT and SVG have in common

SYMBOLS = {
    **{"add": "+", "sub": "−", "mul": "×", "div": "÷", "neg": "−", "pow": "xʸ", "integer_pow": "xⁿ", "square": "x²"},
    **{"sqrt": "√", "cbrt": "∛", "lt": "<", "le": "≤", "gt": ">", "ge": "≥", "eq": "=", "ne": "≠", "select": "?"},
    **{"and": "and", "or": "or", "not": "not"},
}


class Box(NamedTuple):
    """A number of the picture: where it comes from and what stands in its box. A constant has neither name nor grad."""

    name: str
    data: str
    grad: str
    operation: str
    sources: tuple[int, ...]
    equation: str
    role: str  # "input", "output", "constant", or "" for what lies between


def boxes_of(graph: Graph) -> list[Box]:
    """The boxes, each after its sources, which are places in this list. A constant has a box at each use."""
    names, gradient = names_of(graph), gradients(graph) if graph.outputs else {}
    taken = {inputs[0].index for p, inputs, _ in graph.equations if p.name == "guard" and isinstance(inputs[0], Var)}
    ends = {x.index for x in graph.outputs if isinstance(x, Var)}
    boxes: list[Box] = []
    at: dict[int, int] = {}

    def add(x: Any, role: str, operation: str = "", sources: tuple[int, ...] = (), equation: str = "") -> int:
        data = format_number(concrete(x))
        if not isinstance(x, Var):
            boxes.append(Box("", data, "", "", (), "", role))
            return len(boxes) - 1
        i = x.index
        grad = f"grad {format_number(gradient[i])}" if i in gradient else "branch" if i in taken else ""
        role = "output" if i in ends else role
        boxes.append(Box(names[i], f"data {data}", grad, operation, sources, equation or names[i], role))
        at[i] = len(boxes) - 1
        return at[i]

    for x in graph.inputs:
        add(x, "input")
    for equation in graph.equations:
        name = equation.primitive.name
        if name == "guard":  # the box of its condition shows it
            continue
        sources = tuple([at[x.index] if isinstance(x, Var) else add(x, "constant") for x in equation.inputs])
        for x in outputs_of(equation):
            add(x, "", SYMBOLS.get(name, _printable(name).strip("_")), sources, equation_text(equation, names))
    for x in graph.outputs:
        if not isinstance(x, Var):
            add(x, "output")
    return boxes


FILLS = {"input": "#e3f0fb", "output": "#e4f5e1", "constant": "#f2f2f2", "": "#ffffff"}


# DOT


def to_dot(graph: Graph) -> str:
    """The picture in Graphviz's DOT language. The circles are operations; their arguments come from top to bottom."""
    lines = [
        "digraph {",
        "  rankdir=LR;",
        '  node [fontname="Helvetica", fontsize=11, style=filled, fillcolor=white];',
        "  edge [color=gray40, arrowsize=0.7];",
    ]
    for number, box in enumerate(boxes_of(graph)):
        cells = [_dot(text, '\\{}|<>" ') for text in (box.name, box.data, box.grad) if text]
        color = FILLS[box.role]
        lines.append(f'  n{number} [shape=record, fillcolor="{color}", label="{{ {" | ".join(cells)} }}"];')
        if box.operation:
            lines.append(f'  o{number} [shape=circle, margin=0.03, label="{_dot(box.operation, "")}"];')
            lines.append(f"  o{number} -> n{number};")
            lines += [f"  n{source} -> o{number};" for source in box.sources]
    return "\n".join([*lines, "}"]) + "\n"


def _dot(text: str, special: str) -> str:
    return "".join("\\" + letter if letter in special or letter in '\\"' else letter for letter in text)


# SVG

_FONT_SIZE = 12.0
_LINE = 17.0
_PAD = 7.0
_LETTER = 0.63 * _FONT_SIZE  # the widest of the fonts below
_FONTS = "'DejaVu Sans Mono', Menlo, Consolas, 'Liberation Mono', monospace"
_MAX_NAME = 20  # characters of a name; a longer one is cut, and whole in the tooltip


def _width(text: str) -> float:
    return sum(2.0 if unicodedata.east_asian_width(letter) in "WF" else 1.0 for letter in text) * _LETTER


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_NAME else text[: _MAX_NAME - 1] + "…"


def _size(box: Box) -> BoxSize:
    """The size that a box takes with its operation at the left of it."""
    cells = max(_width(box.data), _width(box.grad)) + 2 * _PAD
    name = _width(_cut(box.name)) + 2 * _PAD if box.name else 0.0
    circle = max(26.0, _width(_cut(box.operation)) + 12.0) if box.operation else 0.0
    return BoxSize(name + cells, _LINE * (2 if box.grad else 1) + 8.0, circle)


def to_svg(graph: Graph) -> str:
    """The picture as an SVG file: boxes with name, value and gradient, each behind the circle of its operation.

    The arguments of an operation enter its circle from top to bottom in their order. Inputs are blue, outputs green,
    constants grey. What an operation computes is its tooltip. It is read best up to a hundred numbers; the time grows
    with their count times the depth of the graph.
    """
    boxes = boxes_of(graph)
    laid_out = layout([_size(box) for box in boxes], [box.sources for box in boxes])
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{laid_out.width:.0f}" height="{laid_out.height:.0f}" '
        f'viewBox="0 0 {laid_out.width:.0f} {laid_out.height:.0f}" font-family="{_FONTS}" font-size="{_FONT_SIZE:g}">',
        f"<title>{escape(_printable(graph.name))}</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        '<g fill="none" stroke="#7d8894" stroke-width="1.2">',
        *(f'<path d="{path}"/>' for path in laid_out.paths),
        "</g>",
        '<g fill="#7d8894">',
        *(f'<path d="M{x:.1f} {y:.1f}l-7 -3.2v6.4z"/>' for x, y in laid_out.heads),
        "</g>",
    ]
    for box, place in zip(boxes, laid_out.boxes, strict=True):
        lines += _svg_box(box, *place)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _svg_box(box: Box, left: float, middle: float) -> list[str]:
    width, height, circle = _size(box)
    top, start = middle - height / 2, left - STEM - circle
    name = _width(_cut(box.name)) + 2 * _PAD if box.name else 0.0
    inside = left + name
    frame = f'fill="{FILLS[box.role]}" stroke="#2f3b47" stroke-width="{2.2 if box.role == "output" else 1.2}"'
    lines = ["<g>"]
    if box.equation:
        lines.append(f"<title>{escape(box.equation)}</title>")
    if box.operation:
        lines.append(
            f'<rect x="{start:.1f}" y="{middle - 13:.1f}" width="{circle:.1f}" height="26" rx="13" '
            'fill="#fff6dc" stroke="#8a6d1f" stroke-width="1.2"/>'
        )
        lines.append(_svg_text(_cut(box.operation), start + circle / 2, middle, "middle", "#5c4813"))
    size = f'width="{width:.1f}" height="{height:.1f}" rx="{4 if name else 9}"'
    lines.append(f'<rect x="{left:.1f}" y="{top:.1f}" {size} {frame}/>')
    if name:
        lines.append(f'<path d="M{inside:.1f} {top:.1f}v{height:.1f}" stroke="#2f3b47" stroke-width="0.8"/>')
        lines.append(_svg_text(_cut(box.name), left + name / 2, middle, "middle", "#10202f", bold=True))
    up = _LINE / 2 + 1 if box.grad else 0.0
    lines.append(_svg_text(box.data, inside + _PAD, middle - up, "start", "#10202f"))
    if box.grad:
        lines.append(f'<path d="M{inside:.1f} {middle:.1f}H{left + width:.1f}" stroke="#2f3b47" stroke-width="0.4"/>')
        lines.append(_svg_text(box.grad, inside + _PAD, middle + up, "start", "#a3341b"))
    return [*lines, "</g>"]


def _svg_text(text: str, x: float, y: float, anchor: str, color: str, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    y += 0.35 * _FONT_SIZE  # from the middle to the baseline
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}"{weight}>{escape(text)}</text>'
