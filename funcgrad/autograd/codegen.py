"""Graphs as Python source: straight-line code without common subexpressions and dead code.

A function that branches on values has one graph for each path that was taken. Two of them agree up to the first
condition with different outcomes, so together they form a tree: `Block`s of computations that end in a condition, or
in the outputs.
"""

import builtins
import itertools
import keyword
import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

from funcgrad.autograd import pytrees
from funcgrad.autograd.graph import Graph, Primitive, Var
from funcgrad.autograd.primitives import TABLE

# Written with an operator that never raises, and that means the same for NumPy arrays.
INFIX = frozenset({"add", "sub", "mul", "neg", "lt", "le", "gt", "ge", "eq", "ne", "and", "or", "xor"})
LARGEST = 5000  # computations in one Python function; longer sequences are split
PIECE = 500  # into pieces of this length


class Node:
    """A computation on nodes and constants. An input of the function is a node without a primitive."""

    __slots__ = ("number", "operands", "primitive")

    def __init__(self, number: int, primitive: Any, operands: tuple[Any, ...]) -> None:
        self.number, self.primitive, self.operands = number, primitive, operands


class Check(NamedTuple):
    """A condition of which only this outcome has been seen."""

    condition: Node
    outcome: Any


class Block(NamedTuple):
    """Steps, then either a condition and a block for each outcome seen, or the outputs of one path."""

    steps: list[Node | Check]
    condition: Node | None
    outcomes: dict[Any, "Block"]
    outputs: list[Any]
    path: int


def build(graphs: Sequence[Graph]) -> Block:
    """The tree of all paths of one function."""
    live = [_needed(graph) for graph in graphs]
    numbers = itertools.count()

    def block(
        paths: list[int], start: int, known: dict[int, Any], shared: dict[Any, Node], seen: dict[Node, Any]
    ) -> Block:
        graph = graphs[paths[0]]
        needed = set().union(*[live[i] for i in paths])
        steps: list[Node | Check] = []

        def read(x: Any) -> Any:
            return known[x.index] if isinstance(x, Var) else x

        def make(primitive: Primitive, *operands: Any) -> Any:
            """The value of primitive(*operands): something simpler, an existing node, or a new one."""
            if Node not in map(type, operands):
                return primitive.value(*operands)
            simplify = _SIMPLER.get(primitive.name)
            if simplify is not None and (simpler := simplify(make, *operands)) is not None:
                return simpler
            key = (primitive, *map(_key, operands))
            if key not in shared:
                shared[key] = Node(next(numbers), primitive, operands)
                steps.append(shared[key])
            return shared[key]

        for at in range(start, len(graph.equations)):
            primitive, inputs, output = graph.equations[at]
            if primitive.name != "guard":
                if output.index in needed:
                    known[output.index] = make(primitive, *map(read, inputs))
                continue
            condition = read(inputs[0])
            if type(condition) is not Node or condition in seen:
                continue  # its outcome is already known
            groups: dict[Any, list[int]] = {}
            for i in paths:
                groups.setdefault(graphs[i].equations[at][1][1], []).append(i)
            if len(groups) > 1:
                below = {
                    outcome: block(group, at + 1, dict(known), dict(shared), {**seen, condition: outcome})
                    for outcome, group in groups.items()
                }
                return Block(steps, condition, below, [], -1)
            seen[condition] = inputs[1]
            steps.append(Check(condition, inputs[1]))
        return Block(steps, None, {}, [read(x) for x in graph.outputs], paths[0])

    inputs = {var.index: Node(-1 - i, None, ()) for i, var in enumerate(graphs[0].inputs)}
    return block(list(range(len(graphs))), 0, inputs, {}, {})


def _needed(graph: Graph) -> set[int]:
    """The indices of the variables on which an output or a condition depends."""
    needed = {x.index for x in graph.outputs if isinstance(x, Var)}
    for primitive, inputs, output in reversed(graph.equations):
        if primitive.name == "guard" or output.index in needed:
            needed.update([x.index for x in inputs if isinstance(x, Var)])
    return needed


def _key(x: Any) -> Any:
    """An operand so that 1.0 and 1, or 0.0 and -0.0, differ."""
    return x if type(x) is Node else pytrees.exact(x)


# Something simpler with exactly the same value, whatever the inputs, or None if there is nothing: `make` makes a
# computation, and at least one of the operands is a node.


def _negated(x: Any) -> Any:
    """The operand of a negation, None for everything else."""
    return x.operands[0] if type(x) is Node and x.primitive is TABLE["neg"] else None


def _sum(make: Callable[..., Any], x: Any, y: Any) -> Any:
    if (inner := _negated(y)) is not None:
        return make(TABLE["sub"], x, inner)
    return None if (inner := _negated(x)) is None else make(TABLE["sub"], y, inner)


def _difference(make: Callable[..., Any], x: Any, y: Any) -> Any:
    if _key(y) == _key(0.0):
        return x
    return None if (inner := _negated(y)) is None else make(TABLE["add"], x, inner)


def _product(make: Callable[..., Any], x: Any, y: Any) -> Any:
    if type(x) is type(y):
        return make(TABLE["square"], x) if x is y else None
    factor, other = (y, x) if type(x) is Node else (x, y)
    return other if factor == 1.0 else make(TABLE["neg"], other) if factor == -1.0 else None


def _whole_power(make: Callable[..., Any], x: Any, n: int) -> Any:
    if n in (0, 1):
        return x if n else 1.0
    if n not in (2, 3, -1, -2):
        return None
    product = x if n == -1 else make(TABLE["square"], x)  # as the value of the primitive is computed
    return make(TABLE["div"], 1.0, product) if n < 0 else product if n == 2 else make(TABLE["mul"], product, x)


_SIMPLER: dict[str, Callable[..., Any]] = {
    "add": _sum,
    "sub": _difference,
    "mul": _product,
    "div": lambda make, x, y: x if y == 1.0 else None,
    "neg": lambda make, x: _negated(x),
    "integer_pow": _whole_power,
    "select": lambda make, condition, x, y: x if _key(x) == _key(y) else None,
    "stop_gradient": lambda make, x: x,
    "label": lambda make, x, name: x,
}


class Writer:
    """Writes the blocks of one function.

    `function_of` gives the function that the source calls for a primitive; without it, it is the primitive's value, and
    it is called only where the primitive has no source.
    """

    def __init__(self, inputs: Sequence[str], function_of: Callable[[Primitive], Any] | None = None) -> None:
        self.inputs = inputs
        self.function_of = function_of
        self.lines: list[str] = []
        self.parts: list[str] = []  # functions that hold a piece of a large graph
        self.names: dict[str, Any] = {"math": math}
        self.operations = 0
        self.bodies: dict[str, str] = {}  # of the parts: the name of each
        self.text: dict[int, str] = {-1 - i: name for i, name in enumerate(inputs)}
        self.refers: dict[int, list[tuple[int, int]]] = {}
        self.uses: dict[int, int] = {}

    def count(self, block: Block) -> None:
        """Counts how often the source refers to each node, in all blocks; an unused node is not computed."""
        for below in block.outcomes.values():
            self.count(below)
        self._refer([(x.number, 1) for x in [block.condition, *block.outputs] if type(x) is Node])
        for step in reversed(block.steps):
            if isinstance(step, Check):
                self._refer([(step.condition.number, 1)])
            elif step.number in self.uses:
                self._refer(self.references(step))

    def _refer(self, references: Iterable[tuple[int, int]]) -> None:
        for number, times in references:
            self.uses[number] = self.uses.get(number, 0) + times

    def references(self, node: Node) -> list[tuple[int, int]]:
        """The nodes and inputs to which the expression of this node refers, and how often."""
        if node.number not in self.refers:
            template = self.template(node)
            self.refers[node.number] = [
                (x.number, _times(template, i)) for i, x in enumerate(node.operands) if type(x) is Node
            ]
        return self.refers[node.number]

    def template(self, node: Node) -> str:
        """The format string of the computation; empty for a call of the primitive by name."""
        name = node.primitive.name
        if self.function_of is not None and name not in INFIX:
            return ""
        if name == "integer_pow":
            return "{0} ** {1}" if abs(node.operands[1]) < 2**53 else ""
        return node.primitive.source

    def write(self, block: Block, indent: str, finish: Callable[[Block], str], missed: str) -> None:
        """Writes a block and those below it; `finish` gives the statement at the end of a path."""
        nodes: list[Node] = []
        for step in block.steps:
            if isinstance(step, Node):
                if step.number in self.uses:
                    nodes.append(step)
                continue
            self.write_nodes(nodes, indent, [step.condition])
            self._check(step.condition, step.outcome, indent, missed)
            nodes = []
        self.write_nodes(nodes, indent, [block.condition, *block.outputs])
        if block.condition is None:
            self.lines.append(indent + finish(block))
            return
        *others, last = sorted(block.outcomes, key=lambda outcome: _paths(block.outcomes[outcome]))
        for outcome in others:  # the outcome with most paths below it is not indented further
            self.lines.append(f"{indent}if {_is(self.operand(block.condition), outcome)}:")
            self.write(block.outcomes[outcome], indent + "    ", finish, missed)
        if type(last) is not bool:
            self._check(block.condition, last, indent, missed)
        self.write(block.outcomes[last], indent, finish, missed)

    def _check(self, condition: Node, outcome: Any, indent: str, missed: str) -> None:
        text = self.operand(condition)
        other = _is(text, not outcome) if type(outcome) is bool else f"{text} != {outcome!r}"
        self.lines += [f"{indent}if {other}:", f"{indent}    {missed}"]

    def write_nodes(self, nodes: list[Node], indent: str, ends: Sequence[Any]) -> None:
        """Writes consecutive computations; `ends` are the operands of the statement after them."""
        if len(nodes) > LARGEST:
            self._write_parts(nodes, indent)
        else:
            self._write_nodes(nodes, indent, ends)

    def _write_nodes(self, nodes: Sequence[Node], indent: str, ends: Sequence[Any] = (), first: int = 0) -> None:
        """Writes each node as an expression inside its only use, if that is near, else on a line of its own.

        `first` is the number of the node that is called t0.
        """
        used = {*ends}.union(*[node.operands for node in nodes])
        for node in nodes:
            text = self.expression(node)
            if self.uses[node.number] == 1 and node in used and len(text) < 60:
                self.text[node.number] = f"({text})"
            else:
                self.text[node.number] = name = f"t{node.number - first}"
                self.lines.append(f"{indent}{name} = {text}")

    def _write_parts(self, nodes: list[Node], indent: str) -> None:
        """Writes many nodes in pieces, each a function of the values it needs that returns those needed later.

        The names in a piece do not depend on where it is, so that pieces that compute the same are one function.
        """
        for piece in (nodes[i : i + PIECE] for i in range(0, len(nodes), PIECE)):
            own = {node.number: self.uses[node.number] for node in piece}
            needs: dict[int, str] = {}
            for number, times in itertools.chain.from_iterable(map(self.references, piece)):
                if number in own:
                    own[number] -= times
                elif number not in needs:
                    needs[number] = f"a{len(needs)}"
            results = [number for number, left in own.items() if left]
            (text, lines), self.text, self.lines = (self.text, self.lines), dict(needs), []
            self._write_nodes(piece, "    ", first=piece[0].number)
            returned = "".join(f"{self.text[number]}, " for number in results)
            body = "\n".join([*self.lines, f"    return ({returned})", ""])
            self.text, self.lines = text, lines
            if body not in self.bodies:
                self.bodies[body] = f"part_{len(self.bodies)}"
                self.parts += [f"def {self.bodies[body]}({', '.join(needs.values())}):", body]
            self.text.update({number: f"t{number}" for number in results})
            taken = "".join(f"t{number}, " for number in results)
            lines.append(f"{indent}({taken}) = {self.bodies[body]}({', '.join([text[number] for number in needs])})")

    def expression(self, node: Node) -> str:
        """The computation as a Python expression."""
        self.operations += 1
        operands = [self.operand(x) for x in node.operands]
        if template := self.template(node):
            return template.format(*operands)
        called = node.primitive.name
        called = called if called.isidentifier() and not keyword.iskeyword(called) else f"{called}_"
        self.names[called] = (self.function_of or attrgetter("value"))(node.primitive)
        return f"{called}({', '.join(operands)})"

    def operand(self, x: Any) -> str:
        """A constant or a node as source. Constants that are not numbers, strings too, are passed by name."""
        if type(x) is Node:
            return self.text[x.number]
        if type(x) is float:
            if x != x or x in (math.inf, -math.inf):
                return "math.nan" if x != x else "math.inf" if x > 0 else "(-math.inf)"
            return repr(x) if math.copysign(1.0, x) > 0 else f"({x!r})"
        if type(x) is bool or x is None:
            return repr(x)
        if type(x) is int:
            return hex(x) if abs(x) > 10**15 else repr(x) if x >= 0 else f"({x!r})"
        return self.constant(x)

    def constant(self, x: Any) -> str:
        """The name by which the source refers to an object."""
        name = f"constant_{len(self.names)}"
        self.names[name] = x
        return name


@lru_cache(maxsize=1024)
def _times(template: str, operand: int) -> int:
    """How often a template refers to an operand; a call by name does so once."""
    return template.count(f"{{{operand}}}") if f"{{{operand}}}" in template else 1


def _is(condition: str, outcome: Any) -> str:
    return condition if outcome is True else f"not {condition}" if outcome is False else f"{condition} == {outcome!r}"


def _paths(block: Block) -> int:
    return sum(map(_paths, block.outcomes.values())) or 1


def input_names(names: Iterable[str]) -> list[str]:
    """Valid and distinct Python names that clash with nothing else in the source."""
    given: dict[str, None] = {}
    for i, name in enumerate(names):
        if not name.isidentifier() or keyword.iskeyword(name) or not name.isascii() or name.startswith("__"):
            name = f"x{i}"
        while name in _TAKEN or name in given or _OURS.fullmatch(name):
            name += "_"
        given[name] = None
    return list(given)


_TAKEN = {"math", "again", "careful", "missed", "missing", "rebuild", "then", "all", "key", "len", "type"}
_TAKEN |= {*dir(builtins), *TABLE, *(f"{name}_" for name in TABLE)}
_OURS = re.compile(r"(t|constant_|given_|keys_|kind_|part_|within_)\d+")
