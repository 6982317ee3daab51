"""Random programs over the functions of `ops`, as data that prints as the Python that runs.

A program is a list of statements, each one expression of earlier names and constants. Its source is one function,
`program(system)`, where system is `funcgrad.autograd` or `jax`: transformations within it are those of the system.
"""

import math
import random
import string
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from funcgrad import autograd as ag
from funcgrad.autograd import ops

Operand = int | float  # the number of an input or of a statement, counted from the inputs; or a constant


class Statement(NamedTuple):
    """One line: an expression with {0}, {1}, … for its operands. `function` is its row in the report."""

    function: str
    expression: str
    operands: tuple[Operand, ...]


_UNARY = """negative positive absolute abs sign reciprocal square sqrt cbrt exp exp2 expm1 log log2 log10 log1p
sin cos tan arcsin arccos arctan sinh cosh tanh arcsinh arccosh arctanh sinc deg2rad rad2deg floor ceil trunc
relu relu6 selu silu swish softplus sigmoid log_sigmoid soft_sign hard_tanh hard_sigmoid hard_silu hard_swish mish
erf erfc erfinv gammaln digamma logit expit entr ndtr ndtri log_ndtr
fabs rint radians degrees asin acos atan asinh acosh atanh gamma factorial i0 i1 erfcx"""
_BINARY = """add subtract multiply divide true_divide floor_divide remainder mod fmod power float_power logaddexp
logaddexp2 arctan2 hypot maximum minimum fmax fmin copysign heaviside betaln xlogy xlog1py
atan2 pow beta rel_entr kl_div"""
_WITH_DEFAULT = {"leaky_relu": 0.2, "elu": 0.7, "celu": 0.7, "squareplus": 0.5}
_SEQUENCES = "sum mean prod max min norm logsumexp var std median"

# Every function of `ops` with the ways in which a program may call it
FORMS: dict[str, list[str]] = {
    **{name: [f"ops.{name}({{0}})"] for name in _UNARY.split()},
    **{name: [f"ops.{name}({{0}}, {{1}})"] for name in _BINARY.split()},
    **{name: [f"ops.{name}([{{0}}, {{1}}])", f"ops.{name}(({{0}}, {{1}}, {{2}}))"] for name in _SEQUENCES.split()},
    **{name: [f"ops.{name}({{0}})", f"ops.{name}({{0}}, {x})"] for name, x in _WITH_DEFAULT.items()},
    "clip": ["ops.clip({0}, -1.0, 2.0)", "ops.clip({0}, min={1})", "ops.clip({0}, {1}, {2})"],
    "where": ["ops.where({0} > {1}, {0}, {2})", "ops.where({0} <= 0.5, {1}, {2})", "ops.where({0} == {1}, {0}, {2})"],
    "round": ["ops.round({0})", "ops.round({0}, 1)"],
    "nan_to_num": ["ops.nan_to_num({0})", "ops.nan_to_num({0}, nan=0.5, posinf=3.0, neginf=-3.0)"],
    "gelu": ["ops.gelu({0})", "ops.gelu({0}, approximate=False)"],
    "power": ["ops.power({0}, {1})", "ops.power({0}, 3)", "ops.power({0}, -2)", "ops.power({0}, 0.5)"],
    "norm": [
        *("ops.norm([{0}, {1}])", "ops.norm([{0}, {1}, {2}], ord=1)", "ops.norm([{0}, {1}], ord=3)"),
        *("ops.norm([{0}, {1}], ord=math.inf)", "ops.norm([{0}, {1}], ord=-math.inf)"),
    ],
    "logsumexp": ["ops.logsumexp([{0}, {1}])", "ops.logsumexp([{0}, {1}, {2}], b=[0.5, -1.0, 2.0])"],
    "var": ["ops.var([{0}, {1}])", "ops.var([{0}, {1}, {2}], ddof=1)"],
    "cumsum": ["ops.cumsum([{0}, {1}, {2}])[1]", "ops.cumsum([{0}, {1}, {2}])[2]"],
    "sort": ["ops.sort([{0}, {1}, {2}])[0]", "ops.sort([{0}, {1}, {2}], descending=True)[1]"],
    "polygamma": ["ops.polygamma(0, {0})", "ops.polygamma(1, {0})", "ops.polygamma(2, {0})"],
    "isnan": ["ops.where(ops.isnan({0}), 1.0, {0})"],
    "isinf": ["ops.where(ops.isinf({0}), 1.0, {0})"],
    "isfinite": ["ops.where(ops.isfinite({0}), {0}, 2.0)"],
    "isclose": ["ops.where(ops.isclose({0}, {1}), {0}, {1})", "ops.where(ops.isclose({0}, {1}, rtol=0.5), {0}, 2.0)"],
    "dot": ["ops.dot([{0}, {1}], [{1}, {2}])", "ops.dot([{0}], [{0}])"],
    "softmax": ["ops.softmax([{0}, {1}])[0]", "ops.softmax([{0}, {1}, {2}])[1]"],
    "log_softmax": ["ops.log_softmax([{0}, {1}])[0]", "ops.log_softmax([{0}, {1}, {2}])[1]"],
}
OPERATORS: dict[str, list[str]] = {
    "operators": [
        *("{0} + {1}", "{0} - {1}", "{0} * {1}", "{0} / {1}", "{0} % {1}", "{0} // {1}", "{0} ** {1}", "2.0 ** {0}"),
        *("{0} ** 2", "{0} ** 3", "{0} ** -1", "{0} ** 0", "-{0}", "+{0}", "abs({0})", "round({0}, 1)"),
        *("1.0 - {0}", "0.5 / {0}", "3 * {0}", "divmod({0}, {1})[1]"),
    ],
}
# Transformations of one function of ops within the program: {f} is its call on u, {0} where it is differentiated
NESTED = [
    "system.grad(lambda u: {f})({0})",
    "system.grad(lambda u: u * {f})({0})",
    "system.jvp(lambda u: {f}, ({0},), ({1},))[1]",
    "system.vjp(lambda u: {f}, {0})[1]({1})[0]",
    "system.value_and_grad(lambda u: {f})({0})[1]",
    "system.jit(lambda u: {f})({0})",
    "system.jit(system.grad(lambda u: {f}))({0})",
    "system.stop_gradient({0}) + {1}",
    "system.grad(lambda u: system.grad(lambda v: u * v * {0})(u * u))({0})",
]
BRANCHES = ["({1} if {0} > 0.5 else {2})", "({0} if {0} > {1} else {2})", "({1} if {0} < 0 else -{2})"]


# How inputs reach the function: its parameters, the line that unpacks them, and how floats become arguments
LAYOUTS: dict[int, list[tuple[str, str, Callable[..., tuple[Any, ...]]]]] = {
    1: [("x", "", lambda x: (x,)), ("p", "(x,) = p", lambda x: ([x],))],
    2: [
        ("x, y", "", lambda x, y: (x, y)),
        ("p", "x, y = p", lambda x, y: ((x, y),)),
        ("x, p", "y = p['w']", lambda x, y: (x, {"w": y})),
    ],
    3: [
        ("x, y, z", "", lambda x, y, z: (x, y, z)),
        ("p", "x, (y, z) = p", lambda x, y, z: ([x, (y, z)],)),
        ("p, z", "x, y = p['a'], p['b']", lambda x, y, z: ({"b": y, "a": x}, z)),
    ],
}
INPUTS = "xyz"
_NAMES = "abcdeghijklmnoqrst"  # of the statements: without f, the inputs, p, and u and v, which are bound within
_CONSTANTS = (-2.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 10.0)


class RandomProgram(NamedTuple):
    """Its last statement's value, of `inputs` floats in the containers of `LAYOUTS[inputs][layout]`."""

    inputs: int
    layout: int
    statements: tuple[Statement, ...]

    def arguments(self, point: Sequence[Any]) -> tuple[Any, ...]:
        """The inputs in the containers that the function takes."""
        return LAYOUTS[self.inputs][self.layout][2](*point)

    def functions(self) -> set[str]:
        """The functions of `ops` that it calls."""
        return {statement.function for statement in self.statements}

    def branches(self) -> bool:
        """Whether it has a Python branch on a value: such programs run under JAX point by point."""
        return any(" if " in statement.expression for statement in self.statements)

    def nests(self) -> bool:
        """Whether it calls a transformation within."""
        return any("system." in statement.expression for statement in self.statements)

    def source(self) -> str:
        """The program as Python: a function of the system, `funcgrad.autograd` or gradcheck's `JAX`."""
        parameters, unpack, _ = LAYOUTS[self.inputs][self.layout]
        names = [*INPUTS[: self.inputs], *_NAMES]
        read = lambda x: names[x] if isinstance(x, int) else f"({x!r})" if x < 0 else repr(x)  # noqa: E731
        lines = [f"        {unpack}"] if unpack else []
        for name, (_, expression, operands) in zip(names[self.inputs :], self.statements, strict=False):
            lines.append(f"        {name} = {expression.format(*map(read, operands))}")
        last = names[self.inputs + len(self.statements) - 1]
        return "\n".join(
            ["def program(system):", f"    def f({parameters}):", *lines, f"        return {last}", "    return f"]
        )


@lru_cache(maxsize=256)
def build(program: RandomProgram) -> Callable[[Any], Callable[..., Any]]:
    """The program as a function of a system: what its source does."""
    space: dict[str, Any] = {"ops": ops, "math": math}
    exec(program.source(), space)  # only the expressions above, so it is safe
    made: Callable[[Any], Callable[..., Any]] = space["program"]
    return made


def slots(expression: str) -> int:
    """How many operands an expression takes."""
    return 1 + max((int(name) for _, name, _, _ in string.Formatter().parse(expression) if name), default=-1)


def random_program(rng: random.Random, first: str = "") -> RandomProgram:
    """A program of 3 to 12 statements that is finite at some ordinary point; `first` is a function it calls first.

    Its statements depend on the inputs: what does not, as the gradient of a linear function, is computed once and for
    all by both systems, outside the graph in which the error model perturbs each primitive.
    """
    inputs = rng.choice((1, 2, 2, 3))
    program = RandomProgram(inputs, rng.randrange(len(LAYOUTS[inputs])), ())
    probe = [rng.uniform(0.2, 1.5) for _ in range(inputs)]
    branch = rng.randrange(20) == 0
    for i in range(rng.randint(3, 12)):
        before = program
        for _ in range(6):  # a program that is nan everywhere says little
            known = inputs + len(before.statements)
            statement = _random_statement(rng, known, first if i == 0 else "", branch and i == 1)
            longer = before._replace(statements=(*before.statements, statement))
            args = longer.arguments(probe)
            graph = ag.make_graph(build(longer)(ag))(*args)
            if not isinstance(graph.outputs[0], ag.Var):
                continue
            program = longer
            if abs(graph.eval(*args)) < 1e3:  # by IEEE arithmetic also where Python's own would raise
                break
    return program


def numbered_program(seed: int, number: int, count: int) -> tuple[RandomProgram, list[tuple[float, ...]]]:
    """The program of this number, and points for it. Programs 0, 1, 2, … call every function of `ops` in turn."""
    rng = random.Random(f"{seed} {number}")
    names = list(FORMS)
    random.Random(seed).shuffle(names)
    program = random_program(rng, names[number % len(names)])
    return program, points(rng, program.inputs, count)


def _random_statement(rng: random.Random, known: int, function: str, branch: bool) -> Statement:
    function = function or rng.choice([*FORMS, "operators", "operators", "operators"])
    expression = rng.choice({**FORMS, **OPERATORS}[function])
    if branch:
        function, expression = "branches", rng.choice(BRANCHES)
    elif rng.random() < 0.12:
        expression = rng.choice(NESTED).replace("{f}", expression.replace("{0}", "u"))
    recent = range(max(0, known - 3), known)
    operands: list[Operand] = []
    for i in range(slots(expression)):
        chance = rng.random()
        constant = i > 0 and chance < 0.15
        operands.append(rng.choice(_CONSTANTS) if constant else rng.choice(recent if chance < 0.8 else range(known)))
    return Statement(function, expression, tuple(operands))


def points(rng: random.Random, inputs: int, count: int) -> list[tuple[float, ...]]:
    """Points to evaluate at: ordinary ones, and among them edges and ties."""
    return [tuple(_tied(rng, [_number(rng) for _ in range(inputs)])) for _ in range(count)]


EDGES = (
    *(0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 6.0, math.inf, -math.inf, math.nan),
    *(5e-324, -1e-310, 1e-300, 1e-20, -1e-8, 1e-8, 40.0, -40.0, 710.0, -745.0, 1e5, 1e20, -1e20, 1e160, -1e300),
)


def _number(rng: random.Random) -> float:
    chance = rng.random()
    if chance < 0.2:
        return rng.choice(EDGES)
    if chance < 0.3:
        return rng.randint(-8, 8) / 4
    if chance < 0.4:
        return math.copysign(10.0 ** rng.uniform(-12, 12), rng.random() - 0.5)
    return rng.uniform(0.0, 1.0) if chance < 0.6 else rng.gauss(0.0, 2.0)


def _tied(rng: random.Random, point: list[float]) -> list[float]:
    if len(point) > 1 and rng.random() < 0.1:
        point[rng.randrange(len(point))] = rng.choice(point)
    return point
