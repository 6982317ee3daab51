"""`funcgrad explain`: an expression, its value and derivatives, and every step in which they are computed."""

import inspect
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from funcgrad import autograd as ag
from funcgrad.autograd import draw
from funcgrad.autograd import pytrees as trees
from funcgrad.autograd.graph import Equation, Graph, Var
from funcgrad.autograd.tracing import concrete
from funcgrad.autograd.transforms import record
from funcgrad.explain.parser import assigned, parse

WIDEST = 12  # variables of a Hessian that is printed

# Explaining


class Forward(NamedTuple):
    """One step of the computation: the equation, the same with numbers, and what it gives."""

    equation: str
    numbers: str
    value: Any


class Backward(NamedTuple):
    """One step of backpropagation: a rule sends `sent` to a variable, whose cotangent is `total` from then on."""

    equation: str
    to: str
    rule: str
    numbers: str
    sent: float
    total: float


class Explanation(NamedTuple):
    """All that is told of an expression. `hessian` has a row for each variable, in the order of `variables`."""

    expression: str
    variables: dict[str, float]
    value: float
    gradient: dict[str, float]
    hessian: list[list[float]]
    graph: str
    forward: list[Forward]
    backward: list[Backward]
    source: str
    output: str
    picture: Graph


def explain(text: str, pairs: Sequence[str]) -> Explanation:
    """Explains an expression at the values of "name=value" pairs. Raises ValueError for what it does not understand.

    >>> explained = explain("a*b + a", ["a=2", "b=-3"])
    >>> explained.value, explained.gradient
    (-4.0, {'a': -2.0, 'b': 2.0})
    """
    expression = parse(text)
    variables = assigned(pairs, expression)
    point = tuple(variables.values())

    def f(*args: Any) -> Any:
        return _a_number(expression.run(dict(zip(variables, args, strict=True))))

    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in variables]
    f.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # the names that the graph shows
    every = tuple(range(len(point)))
    graph: Graph = ag.make_graph(f)(*point)
    compiled = ag.jit(ag.value_and_grad(f, every)) if point else ag.jit(f)
    value, gradient = compiled(*point) if point else (compiled(), ())
    walked = draw.gradients(graph)
    picture = graph
    if not all(map(_alike, [walked[x.index] for x in graph.inputs], gradient)):
        picture = _recorded(f, variables)
    names = draw.names_of(picture)
    (output,) = picture.outputs
    return Explanation(
        expression=expression.text,
        variables=variables,
        value=value,
        gradient=dict(zip(variables, gradient, strict=True)),
        hessian=[list(row) for row in ag.hessian(f, every)(*point)] if point else [],
        graph=str(graph) if picture is graph else draw.to_text(picture),
        forward=list(_forward(picture, names)),
        backward=list(_backward(picture, names)),
        source=compiled.source,
        output=names[output.index] if isinstance(output, Var) else _number(concrete(output)),
        picture=picture,
    )


def _a_number(result: Any) -> Any:
    if isinstance(result, list):
        raise ValueError(f"the expression is a list of {len(result)}, not a number; take one of it, with [0] after it")
    if type(concrete(result)) is not float:
        raise ValueError(f"the expression is {concrete(result)}, not a float; it may be a condition: 1 if … else 0")
    return result


def _alike(x: float, y: float) -> bool:
    """Whether two gradients are the same but for rounding."""
    return math.isclose(x, y, rel_tol=1e-9, abs_tol=1e-300) or x == y or (x != x and y != y)


def _recorded(fun: Callable[..., Any], variables: Mapping[str, float]) -> Graph:
    """The graph that reverse mode walks, where it is another than the primitives tell: it has calls of own rules.

    So it is for the largest of three equal numbers, which share the derivative.
    """
    leaves, tree = trees.flatten(tuple(variables.values()))
    recording = record("explain", fun, leaves, tree)
    inputs, outputs = tuple(recording.inputs), tuple(recording.outputs)
    defined = {x.index for x in inputs}
    equations: list[Equation] = []
    for primitive, given, output in recording.trace.equations:  # a comparison has no derivative, and no equation
        known = tuple([x if isinstance(x, Var) and x.index in defined else concrete(x) for x in given])
        equations.append(Equation(primitive, known, output))
        defined.update(x.index for x in draw.outputs_of(equations[-1]))
    return Graph(inputs, tuple(equations), outputs, tuple(variables), tree, recording.out_tree, "f")


def _forward(graph: Graph, names: Mapping[int, str]) -> list[Forward]:
    steps = []
    for equation in graph.equations:
        primitive, inputs, _ = equation
        symbols = [names[x.index] if isinstance(x, Var) else _number(concrete(x)) for x in inputs]
        if primitive.name == "guard":
            steps.append(Forward(f"branch: {symbols[0]} is {symbols[1]}", "", concrete(inputs[0])))
            continue
        computed = _formula(primitive.name, symbols)
        numbers = _formula(primitive.name, [_number(concrete(x)) for x in inputs])
        for x in draw.outputs_of(equation):
            steps.append(Forward(f"{names[x.index]} = {computed}", numbers, concrete(x)))
    return steps


def _backward(graph: Graph, names: Mapping[int, str]) -> list[Backward]:
    steps = []
    for pull in draw.pulls(graph):
        equation = graph.equations[pull.step]
        outputs = draw.outputs_of(equation)
        given = [*zip(pull.cotangents, [f"ct({names[x.index]})" for x in outputs], strict=True)]
        rule = numbers = f"{_called(equation)}'s own rule"
        if equation.primitive.rules:
            answer = concrete(outputs[0]), names[outputs[0].index]
            args = [(concrete(x), names[x.index] if isinstance(x, Var) else "") for x in equation.inputs]
            rule, numbers = _rule(equation.primitive.reverse[pull.argument], [*given, answer, *args])
        text = draw.equation_text(equation, dict(names))
        steps.append(Backward(text, names[pull.to.index], rule, numbers, pull.sent, pull.total))
    return steps


def _called(equation: Equation) -> str:
    return equation.primitive.name.strip("_")


def _rule(rule: Any, operands: Sequence[tuple[Any, str]]) -> tuple[str, str]:
    """What a rule computes of its operands, (value, name) each: with their names, and with their values."""
    graph = ag.make_graph(lambda *args: rule(*args))(*[value for value, _ in operands])
    floats = [(value, name or _number(value)) for value, name in operands if type(value) is float]
    named = {x.index: name for x, (_, name) in zip(graph.inputs, floats, strict=True)}
    valued = {x.index: _number(value) for x, (value, _) in zip(graph.inputs, floats, strict=True)}
    return _written(graph, named), _written(graph, valued)


def _written(graph: Graph, texts: dict[int, str]) -> str:
    """The first output of a small graph as one formula of its inputs' texts."""
    read = lambda x: texts[x.index] if isinstance(x, Var) else _number(concrete(x))  # noqa: E731
    for primitive, inputs, output in graph.equations:
        texts[output.index] = _formula(primitive.name, [read(x) for x in inputs])
    return read(graph.outputs[0])


_INFIX = {
    **{"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**", "integer_pow": "**", "and": "and", "or": "or"},
    **{"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="},
}


def _formula(name: str, operands: Sequence[str]) -> str:
    """A primitive of operands as one writes it."""
    inner = [f"({x})" if " " in x or x.startswith("-") else x for x in operands]
    if name in _INFIX:
        return f" {_INFIX[name]} ".join(inner)
    if name == "neg":
        return f"-{inner[0]}"
    if name == "select":
        return f"{inner[1]} if {inner[0]} else {inner[2]}"
    return f"{name.strip('_')}({', '.join(operands)})"


def _number(x: Any) -> str:
    return draw.shown(x)


# Showing


def sections(told: Explanation) -> list[tuple[str, list[str]]]:
    """What is printed: titles, and the lines under each."""
    gradient = [[name, repr(x)] for name, x in told.gradient.items()] or [["no variables"]]
    names = list(told.variables)
    table = [["", *names], *([name, *map(_number, row)] for name, row in zip(names, told.hessian, strict=True))]
    if len(names) > WIDEST:
        table = [[f"{len(names)} x {len(names)} numbers: see --json"]]
    forward = [
        [step.equation, f"= {step.numbers}" * bool(step.numbers), f"= {_number(step.value)}"] for step in told.forward
    ]
    backward = [["", f"ct({told.output}) = 1", "", "", ""]]
    met, before = {told.output}, ""
    for one in told.backward:
        again = one.to in met
        met.add(one.to)
        rule = f"ct({one.to}) {'+=' if again else '='} {one.rule}"
        numbers = f"= {one.numbers}" * (one.numbers not in (one.rule, _number(one.sent)))
        total = f"now {_number(one.total)}" if again else ""
        backward.append([one.equation * (one.equation != before), rule, numbers, f"= {_number(one.sent)}", total])
        before = one.equation
    point = ", ".join(f"{name} = {x!r}" for name, x in told.variables.items())
    return [
        ("expression", [told.expression, *([f"at {point}"] if point else [])]),
        ("value", [repr(told.value)]),
        ("gradient", _columns(gradient)),
        ("Hessian", _columns(table, right=True) if names else ["no variables"]),
        ("graph", told.graph.splitlines()),
        ("forward", _numbered(_columns(forward)) or ["nothing to compute"]),
        (
            f"backward: ct(v), the cotangent of v, is the derivative of {told.output} by v",
            _numbered(_columns(backward), start=0) if told.picture.equations else ["nothing to send"],
        ),
        ("compiled value and gradient" if names else "compiled value", told.source.rstrip().splitlines()),
    ]


def _columns(rows: Sequence[Sequence[str]], right: bool = False) -> list[str]:
    """Rows with their columns aligned; a column that is long in a few rows does not push the others away."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if not right:
        widths = [min(width, 48) for width in widths]
    lines = []
    for row in rows:
        cells = [f"{x:>{w}}" if right and i else f"{x:<{w}}" for i, (x, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return lines


def _numbered(lines: Sequence[str], start: int = 1) -> list[str]:
    width = len(str(len(lines) - 1 + start))
    return [f"{number or '':>{width}}  {line}" for number, line in enumerate(lines, start)]


def show(told: Explanation) -> None:
    """Prints an explanation: in colour on a terminal, as plain text elsewhere."""
    if not sys.stdout.isatty():
        for title, lines in sections(told):
            print(title, *("  " + line if line else "" for line in lines), "", sep="\n")
        return
    from rich.console import Console
    from rich.syntax import Syntax

    console = Console(soft_wrap=True)
    for title, lines in sections(told):
        console.print(title, style="bold cyan", markup=False, highlight=False)
        if title.startswith("compiled"):
            source = Syntax("\n".join(lines), "python", theme="ansi_dark", background_color="default")
            console.print(source, "")
            continue
        for line in lines:
            console.print("  " + line, markup=False, emoji=False)
        console.print()


def as_data(told: Explanation) -> dict[str, Any]:
    """An explanation as what JSON can say."""
    data = {key: value for key, value in told._asdict().items() if key not in ("picture", "output")}
    return data | {
        "forward": [step._asdict() for step in told.forward],
        "backward": [step._asdict() for step in told.backward],
    }


def write_svg(told: Explanation, path: Path) -> None:
    """Writes the graph's picture aside, then renames it into place. Raises OSError if it cannot be written there."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(draw.to_svg(told.picture), encoding="utf-8")
        os.replace(aside, path)
    except OSError as error:
        raise OSError(f"--svg: cannot write {path}: {error.strerror}") from error
    finally:
        aside.unlink(missing_ok=True)
