"""Functions with many paths: what the paths have in common is compiled once.

A path is a chain of segments, each of which ends at a condition. Two paths share their segments up to the first
condition with another outcome, and segments that compute the same, as the iterations of a loop do, share their code: so
a new path costs what it adds. The derivative of a path is that of its segments, one after the other, backwards.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from funcgrad.autograd import pytrees
from funcgrad.autograd.codegen import Writer, build
from funcgrad.autograd.compiler import execute
from funcgrad.autograd.graph import Equation, Graph, Primitive, Var
from funcgrad.autograd.pytrees import LEAF, Tree
from funcgrad.autograd.tracing import Trace
from funcgrad.autograd.transforms import pull_through

Function = Callable[..., Any]


class Place(NamedTuple):
    """A reference to a number of a segment, by its position: first those it reads, then those it defines."""

    position: int


class Code:
    """The computations of a segment: `forward` and, for each pattern of cotangents, a pullback.

    The pullbacks are compiled when they are first needed; segments of one kind share them.
    """

    def __init__(self, reads: int, equations: Sequence[tuple[Primitive, tuple[Any, ...]]]) -> None:
        self.reads, self.equations = reads, equations
        self.pullbacks: dict[tuple[bool, ...], Function] = {}
        numbers = [_variable(i) for i in range(reads + len(equations))]
        inside = [
            Equation(primitive, tuple([numbers[x.position] if type(x) is Place else x for x in operands]), output)
            for (primitive, operands), output in zip(equations, numbers[reads:], strict=True)
        ]
        self.forward, self.source, self.operations = _compiled(numbers[:reads], inside, numbers[reads:])

    def values(self, given: Sequence[Any]) -> list[Any]:
        """What `forward` gives, by the primitives: where IEEE 754 has inf or nan, Python's operators raise."""
        known = list(given)
        for primitive, operands in self.equations:
            known.append(primitive.value(*[known[x.position] if type(x) is Place else x for x in operands]))
        return known[self.reads :]

    def pulled(self, numbers: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        """The cotangents of what the segment reads, for these of all its numbers: by the rules of the primitives."""
        trace = Trace()
        traced = [trace.new(x) for x in numbers]
        equations = [
            (primitive, tuple([traced[x.position] if type(x) is Place else x for x in operands]), output)
            for (primitive, operands), output in zip(self.equations, traced[self.reads :], strict=True)
        ]
        table = list(cotangents)
        pull_through(trace, equations, table)
        return table[: self.reads]

    def pullback(self, numbers: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        """As `pulled`, compiled."""
        pattern = tuple([ct is None for ct in cotangents])
        function = self.pullbacks.get(pattern)
        if function is None:
            function = self.pullbacks[pattern] = self._compiled_pullback(pattern, numbers, cotangents)
        try:
            pulled: list[Any] = function(*numbers, *[ct for ct in cotangents if ct is not None])
        except (ArithmeticError, ValueError):
            pulled = self.pulled(numbers, cotangents)
        return pulled

    def _compiled_pullback(
        self, pattern: tuple[bool, ...], numbers: Sequence[Any], cotangents: Sequence[Any]
    ) -> Function:
        with Trace(comparisons=True) as trace:
            inputs = [trace.new(x) for x in numbers]
            given = [None if absent else trace.new(ct) for absent, ct in zip(pattern, cotangents, strict=True)]
            outputs = self.pulled(inputs, given)
        if any(primitive.name == "guard" for primitive, _, _ in trace.equations):  # a rule that branches on a value
            return lambda *leaves: self._pulled_flat(pattern, leaves)
        equations = [Equation(*equation) for equation in trace.equations]
        return _compiled([*inputs, *[ct for ct in given if ct is not None]], equations, outputs)[0]

    def _pulled_flat(self, pattern: tuple[bool, ...], leaves: Sequence[Any]) -> list[Any]:
        cotangents = iter(leaves[len(pattern) :])
        return self.pulled(leaves[: len(pattern)], [None if absent else next(cotangents) for absent in pattern])


def _variable(index: int) -> Var:
    variable = Var()
    variable.index = index
    return variable


def _compiled(
    inputs: Sequence[Any], equations: Sequence[Equation], outputs: Sequence[Any]
) -> tuple[Function, str, int]:
    """A function of numbers that returns the list of the outputs, its source, and the number of computations in it."""
    block = build([Graph(tuple(inputs), tuple(equations), tuple(outputs), (), LEAF, LEAF)])
    writer = Writer([f"x{i}" for i in range(len(inputs))])
    writer.count(block)
    writer.write(block, "    ", lambda block: f"return [{', '.join(map(writer.operand, block.outputs))}]", "")
    source = "\n".join([*writer.parts, f"def segment({', '.join(writer.inputs)}):", *writer.lines]) + "\n"
    return execute(source, writer.names, "segment"), source, writer.operations


class Segment:
    """A part of a path: it reads numbers `reads` of the path, and defines those from `first` on.

    `below` has the next segment for each outcome of the condition that ends it; at the end of a path it has the leaves
    of the result, and their tree.
    """

    __slots__ = (
        "above",
        "below",
        "code",
        "condition",
        "equations",
        "first",
        "last",
        "out_tree",
        "outputs",
        "primitives",
        "reads",
    )

    def __init__(
        self, above: "Segment | None", code: Code, equations: Sequence[Equation], reads: list[int], first: int
    ):
        self.above, self.code, self.equations, self.reads, self.first = above, code, equations, reads, first
        self.last = first + len(equations)
        self.primitives = [primitive for primitive, _, _ in equations]
        self.condition = -1
        self.below: dict[Any, Segment] = {}
        self.outputs: Sequence[Any] = ()
        self.out_tree: Tree | None = None

    def is_like(self, equations: Sequence[Equation], guard: Equation | None, numbers: Sequence[Any]) -> bool:
        """Whether it has these equations; if not, a value that the function closes over has changed in between."""
        if self.condition != (-1 if guard is None else guard[1][0].index):
            return False
        if self.primitives != [primitive for primitive, _, _ in equations]:
            return False
        if [output.value for _, _, output in equations] == numbers[self.first : self.last]:
            return True
        operands = zip([xs for _, xs, _ in self.equations], [xs for _, xs, _ in equations], strict=True)
        return all(_operand(x) == _operand(y) for xs, ys in operands for x, y in zip(xs, ys, strict=True))


def _operand(x: Any) -> Any:
    return x.index if isinstance(x, Var) else pytrees.exact(x)


class PathTree:
    """The paths of one function of floats that have been met. It grows; nothing that is in it changes."""

    def __init__(self) -> None:
        self.roots: dict[Any, Segment] = {}
        self.codes: dict[Any, Code] = {}
        self.paths = 0
        self.equations = 0

    @property
    def source(self) -> str:
        return "\n".join(code.source for code in list(self.codes.values()))

    @property
    def operations(self) -> int:
        return sum(code.operations for code in list(self.codes.values()))

    def add(self, graph: Graph, numbers: Sequence[Any] = ()) -> Segment:
        """Adds a path and returns its last segment. Where the function itself has changed, its past is dropped.

        `numbers` are those that `run` found on the way: what computes the same numbers by the same primitives is taken
        for the same, without a look at each operand.
        """
        children, outcome, above = self.roots, None, None
        for start, stop in _pieces(graph):
            equations = graph.equations[start:stop]
            guard = graph.equations[stop] if stop < len(graph.equations) else None
            found = children.get(outcome)
            if found is None or not found.is_like(equations, guard, numbers):
                found = children[outcome] = self._segment(above, graph, start, equations, guard)
                self.equations += len(equations) + 1
            segment = found
            if guard is not None:
                children, outcome, above = segment.below, guard[1][1], segment
        self.paths += 1
        return segment

    def _segment(
        self, above: Segment | None, graph: Graph, start: int, equations: Sequence[Equation], guard: Equation | None
    ) -> Segment:
        first = len(graph.inputs) + start
        places: dict[int, int] = {}  # where the numbers of the path are in the segment
        for _, inputs, _ in equations:
            for x in inputs:
                if isinstance(x, Var) and x.index < first:
                    places.setdefault(x.index, len(places))
        reads = list(places)
        places.update({first + i: len(reads) + i for i in range(len(equations))})
        body, key = [], []
        for primitive, inputs, _ in equations:
            operands = tuple([Place(places[x.index]) if isinstance(x, Var) else x for x in inputs])
            body.append((primitive, operands))
            key.append((primitive, *[x if type(x) is Place else pytrees.exact(x) for x in operands]))
        whole_key = (len(reads), *key)
        if whole_key not in self.codes:
            self.codes[whole_key] = Code(len(reads), body)
        segment = Segment(above, self.codes[whole_key], equations, reads, first)
        if guard is None:
            segment.outputs, segment.out_tree = graph.outputs, graph.out_tree
        else:
            segment.condition = guard[1][0].index
        return segment

    def run(self, leaves: Sequence[Any]) -> tuple[list[Any], Segment | None]:
        """All numbers of the path that these leaves take, and its last segment; None if it has not been met."""
        numbers = list(leaves)
        segment = self.roots.get(None)
        while segment is not None:
            given = [numbers[i] for i in segment.reads]
            try:
                numbers += segment.code.forward(*given)
            except (ArithmeticError, ValueError):
                numbers += segment.code.values(given)
            if segment.out_tree is not None:
                return numbers, segment
            numbers.append(None)  # the guard
            segment = segment.below.get(numbers[segment.condition])
        return numbers, None

    def value(self, numbers: Sequence[Any], end: Segment) -> Any:
        """What the function returns at the end of a path."""
        assert end.out_tree is not None
        outputs = [numbers[x.index] if isinstance(x, Var) else x for x in end.outputs]
        return outputs[0] if end.out_tree == LEAF else pytrees.unflatten(end.out_tree, outputs)

    def gradient(self, numbers: Sequence[Any], end: Segment, count: int) -> list[Any]:
        """The derivatives of the one output with respect to the first `count` numbers, the inputs."""
        table: list[Any] = [None] * len(numbers)
        if isinstance(end.outputs[0], Var):
            table[end.outputs[0].index] = 1.0
        segment: Segment | None = end
        while segment is not None:
            reads = segment.reads
            own = table[segment.first : segment.last]
            if own.count(None) < len(own):
                cotangents = [table[i] for i in reads] + own
                given = [numbers[i] for i in reads] + list(numbers[segment.first : segment.last])
                for i, ct in zip(reads, segment.code.pullback(given, cotangents), strict=True):
                    table[i] = ct
            segment = segment.above
        return [0.0 if ct is None else ct for ct in table[:count]]


def _pieces(graph: Graph) -> Iterator[tuple[int, int]]:
    """Where each segment of a path begins and ends: a guard, or the end of the path, follows."""
    start = 0
    for at, (primitive, _, _) in enumerate(graph.equations):
        if primitive.name == "guard":
            yield start, at
            start = at + 1
    yield start, len(graph.equations)
