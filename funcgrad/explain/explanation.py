"""`funcgrad explain`: an expression, its value and derivatives, and every step in which they are computed."""

import inspect
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from funcgrad import autograd as ag
from funcgrad import files
from funcgrad.autograd import Equation, Graph, Var, format_number
from funcgrad.explain.parser import assigned, parse

WIDEST = 12  # variables of a Hessian that is printed

# Explaining


class Forward(NamedTuple):
    """One step of the computation: the equation, the same with numbers, and the result."""

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
    """An expression explained. `hessian` has a row for each variable, in the order of `variables`.

    `output` is the name of the result, `picture` the graph whose steps are explained.
    """

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
    """Explains an expression at the values of "name=value" pairs. Raises ValueError for one that cannot be read.

    >>> explanation = explain("a*b + a", ["a=2", "b=-3"])
    >>> explanation.value, explanation.gradient
    (-4.0, {'a': -2.0, 'b': 2.0})
    """
    expression = parse(text)
    variables = assigned(pairs, expression)
    result = expression.run(variables)
    if isinstance(result, list):
        raise ValueError(f"the expression is a list of {len(result)}, not a number; take one of it, with [0] after it")
    if type(result) is not float:
        raise ValueError(f"the expression is {result}, not a float; a condition becomes one by 1 if … else 0")

    def f(*args: Any) -> Any:
        return expression.run(dict(zip(variables, args, strict=True)))

    return _explained(f, variables, expression.text)


def explain_function(fun: Callable[..., Any], at: Sequence[float], title: str = "") -> Explanation:
    """Explains a Python function at these floats, its positional arguments. `title` is its name by default.

    Raises TypeError where it does not return one float; what it raises itself is not caught.

    >>> def f(a, b):
    ...     return a * b + a
    >>> explain_function(f, [2.0, -3.0]).gradient
    {'a': -2.0, 'b': 2.0}
    """
    names: list[str] = []
    parameters = inspect.signature(fun).parameters.values()
    for parameter in parameters:
        count = len(at) - len(names)
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}_{i}" for i in range(count)]
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD) and count:
            names.append(parameter.name)
    title = title or getattr(fun, "__name__", "function")
    return _explained(lambda *args: fun(*args), dict(zip(names, map(float, at), strict=True)), title)


def _explained(f: Any, variables: dict[str, float], text: str) -> Explanation:
    point = tuple(variables.values())
    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in variables]
    f.__signature__ = inspect.Signature(parameters)  # the names that the graph shows
    f.__name__ = "f"
    every = tuple(range(len(point)))
    graph: Graph = ag.make_graph(f)(*point)
    compiled = ag.jit(ag.value_and_grad(f, every))
    value, gradient = compiled(*point)
    by_primitives = ag.gradients(graph)
    same = all(map(_equal_but_for_rounding, [by_primitives[x.index] for x in graph.inputs], gradient))
    # Custom rules differ from the primitives where numbers are equal: the largest of them share the derivative.
    picture = graph if same else ag.reverse_graph(f)(*point)
    names = ag.names_of(picture)
    (output,) = picture.outputs
    return Explanation(
        expression=text,
        variables=variables,
        value=value,
        gradient=dict(zip(variables, gradient, strict=True)),
        hessian=[list(row) for row in _hessian(f, every)(*point)],
        graph=str(graph) if same else ag.to_text(picture),
        forward=list(_forward(picture, names)),
        backward=list(_backward(picture, names)),
        source=compiled.source,
        output=_text(output, names),
        picture=picture,
    )


def _hessian(f: Any, every: tuple[int, ...]) -> Callable[..., Any]:
    """The Hessian, by reverse mode alone of a function with a custom_vjp rule, which has no forward mode."""

    def hessian(*point: float) -> Any:
        try:
            return ag.hessian(f, every)(*point)
        except TypeError:
            return ag.jacrev(ag.jacrev(f, every), every)(*point)

    return hessian


def _equal_but_for_rounding(x: float, y: float) -> bool:
    return math.isclose(x, y, rel_tol=1e-9, abs_tol=1e-300) or x == y or (x != x and y != y)


def _value(x: Any) -> Any:
    return x.value if isinstance(x, Var) else x


def _text(x: Any, names: Mapping[int, str]) -> str:
    return names[x.index] if isinstance(x, Var) else format_number(x)


def _forward(graph: Graph, names: Mapping[int, str]) -> Iterator[Forward]:
    for equation in graph.equations:
        primitive, inputs, _ = equation
        symbols = [_text(x, names) for x in inputs]
        if primitive.name == "guard":
            yield Forward(f"branch: {symbols[0]} is {symbols[1]}", "", _value(inputs[0]))
            continue
        computed = _formula(primitive.name, symbols)
        numbers = _formula(primitive.name, [format_number(_value(x)) for x in inputs])
        for x in ag.outputs_of(equation):
            yield Forward(f"{names[x.index]} = {computed}", numbers, x.value)


def _backward(graph: Graph, names: dict[int, str]) -> Iterator[Backward]:
    """Backpropagation from the graph's output, step by step."""
    (target,) = graph.outputs
    totals = {target.index: 1.0} if isinstance(target, Var) else {}
    for equation in reversed(graph.equations):
        outputs = ag.outputs_of(equation)
        if not any(x.index in totals for x in outputs):
            continue
        cotangents = [totals.get(x.index, 0.0) for x in outputs]
        text = ag.equation_text(equation, names)
        for x, part in zip(equation.inputs, _parts(equation, cotangents, names), strict=True):
            if isinstance(x, Var) and part is not None and type(x.value) is float:
                rule, numbers, sent = part
                totals[x.index] = totals[x.index] + sent if x.index in totals else sent
                yield Backward(text, names[x.index], rule, numbers, sent, totals[x.index])


def _parts(equation: Equation, cotangents: list[float], names: Mapping[int, str]) -> Iterator[Any]:
    """For each argument the rule of its cotangent, the same with numbers, and the cotangent; None for zero."""
    primitive, inputs, _ = equation
    outputs = ag.outputs_of(equation)
    if pull := getattr(primitive, "pull", None):  # a call of a function with a custom rule
        text = f"{primitive.name.strip('_')}'s own rule"
        yield from [None if sent is None else (text, text, sent) for sent in pull(cotangents)]
        return
    given = [(cotangents[0], f"ct({names[outputs[0].index]})"), (outputs[0].value, names[outputs[0].index])]
    operands = [*given, *((_value(x), names[x.index] if isinstance(x, Var) else "") for x in inputs)]
    for rule in primitive.reverse:
        yield rule and _traced_rule(rule, operands)


def _traced_rule(rule: Any, operands: Sequence[tuple[Any, str]]) -> tuple[str, str, float]:
    """A rule applied to operands, (value, name) each: the formula with names, the same with values, and the result."""
    graph = ag.make_graph(lambda *args: rule(*args))(*[value for value, _ in operands])
    floats = [(value, name or format_number(value)) for value, name in operands if type(value) is float]
    named = {x.index: name for x, (_, name) in zip(graph.inputs, floats, strict=True)}
    valued = {x.index: format_number(value) for x, (value, _) in zip(graph.inputs, floats, strict=True)}
    return _written(graph, named), _written(graph, valued), _value(graph.outputs[0])


def _written(graph: Graph, texts: dict[int, str]) -> str:
    """The first output of a small graph as one formula of `texts`, those of its inputs."""
    for primitive, inputs, output in graph.equations:
        texts[output.index] = _formula(primitive.name, [_text(x, texts) for x in inputs])
    return _text(graph.outputs[0], texts)


_INFIX = {
    **{"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**", "integer_pow": "**", "and": "and", "or": "or"},
    **{"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="},
}
_NOTATION = {name: f"{{}} {sign} {{}}" for name, sign in _INFIX.items()} | {
    "neg": "-{}",
    "select": "{1} if {0} else {2}",
}


def _formula(name: str, operands: Sequence[str]) -> str:
    """A primitive applied to operands, in Python's notation."""
    inner = [f"({x})" if " " in x or x.startswith("-") else x for x in operands]
    return _NOTATION[name].format(*inner) if name in _NOTATION else f"{name.strip('_')}({', '.join(operands)})"


# Showing


def sections(explanation: Explanation) -> list[tuple[str, list[str]]]:
    """What is printed: titles, and the lines under each."""
    gradient = [[name, repr(x)] for name, x in explanation.gradient.items()] or [["no variables"]]
    names = list(explanation.variables)
    rows = zip(names, explanation.hessian, strict=True)
    table = [["", *names], *([name, *map(format_number, row)] for name, row in rows)]
    if len(names) > WIDEST:
        table = [[f"{len(names)} x {len(names)} numbers: see --json"]]
    forward = [
        [step.equation, f"= {step.numbers}" * bool(step.numbers), f"= {format_number(step.value)}"]
        for step in explanation.forward
    ]
    backward = [["", f"ct({explanation.output}) = 1", "", "", ""]]
    met, before = {explanation.output}, ""
    for one in explanation.backward:
        again = one.to in met
        met.add(one.to)
        rule = f"ct({one.to}) {'+=' if again else '='} {one.rule}"
        numbers = f"= {one.numbers}" * (one.numbers not in (one.rule, format_number(one.sent)))
        total = f"now {format_number(one.total)}" if again else ""
        backward.append([one.equation * (one.equation != before), rule, numbers, f"= {format_number(one.sent)}", total])
        before = one.equation
    point = ", ".join(f"{name} = {x!r}" for name, x in explanation.variables.items())
    return [
        ("expression", [explanation.expression, *([f"at {point}"] if point else [])]),
        ("value", [repr(explanation.value)]),
        ("gradient", ag.text_table(gradient, "<")),
        ("Hessian", ag.text_table(table, "<>") if names else ["no variables"]),
        ("graph", explanation.graph.splitlines()),
        ("forward", _numbered(ag.text_table(forward, "<")) or ["nothing to compute"]),
        (
            f"backward: ct(v), the cotangent of v, is the derivative of {explanation.output} with respect to v",
            _numbered(ag.text_table(backward, "<"), start=0)
            if explanation.picture.equations
            else ["nothing to propagate"],
        ),
        ("compiled value and gradient", explanation.source.rstrip().splitlines()),
    ]


def _numbered(lines: Sequence[str], start: int = 1) -> list[str]:
    width = len(str(len(lines) - 1 + start))
    return [f"{number or '':>{width}}  {line}" for number, line in enumerate(lines, start)]


def show(explanation: Explanation) -> None:
    """Prints an explanation: in colour on a terminal, as plain text elsewhere."""
    from rich.console import Console

    console = Console(soft_wrap=True, force_terminal=sys.stdout.isatty())
    for title, lines in sections(explanation):
        console.print(title, style="bold cyan", markup=False, highlight=False)
        console.print("\n".join(f"  {line}".rstrip() for line in lines), markup=False, emoji=False)
        console.print()


def as_data(explanation: Explanation) -> dict[str, Any]:
    """An explanation as data for JSON."""
    data = {key: value for key, value in explanation._asdict().items() if key not in ("picture", "output")}
    return data | {key: [step._asdict() for step in data[key]] for key in ("forward", "backward")}


def write_svg(explanation: Explanation, path: Path) -> None:
    """Writes the graph's picture. Raises OSError if it cannot be written; then `path` is as it was before."""
    try:
        with files.replacing(path) as temporary_path:
            temporary_path.write_text(ag.to_svg(explanation.picture), encoding="utf-8")
    except OSError as error:
        raise OSError(f"--svg: cannot write {path}: {error.strerror}") from error
