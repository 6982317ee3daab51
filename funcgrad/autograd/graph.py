"""The expression graph: what a function did with its arguments, one equation after the other.

An equation names its result and is never changed (single static assignment, as in JAX's jaxpr), and it comes after
the equations it depends on. So every question about a function is answered by walking its equations once, in a loop:
forwards for values and tangents, backwards for gradients. A small one, z = x·y + sin(x):

    a = mul x y
    b = sin x
    c = add a b
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from funcgrad.autograd import pytrees as trees

if TYPE_CHECKING:
    from funcgrad.autograd.primitives import Primitive


class Var:
    """A number that a graph defines. `index` is its place: first the inputs, then the results of the equations.

    While a function runs, its numbers are `tracing.Traced`, which know their `value` and the `trace` they belong to.
    """

    __slots__ = ("index", "trace", "value")
    index: int
    trace: Any
    value: Any


class Equation(NamedTuple):
    """output = primitive(*inputs). An input is a Var or a constant. (A `Call` of a user's rule has several outputs.)"""

    primitive: "Primitive"
    inputs: tuple[Any, ...]
    output: Any


class Graph(NamedTuple):
    """A function as equations.

    `outputs` are Vars or constants, in the order of the leaves of `out_tree`; `names` are those of the inputs, after
    the function's own arguments; `in_tree` says how the arguments were nested, `leaves` what they were, and `places`
    which of these are inputs: the others, ints and the like, are constants.
    """

    inputs: tuple[Var, ...]
    equations: tuple[Equation, ...]
    outputs: tuple[Any, ...]
    names: tuple[str, ...]
    in_tree: Any
    out_tree: Any
    name: str = "function"
    places: tuple[int, ...] = ()
    leaves: tuple[Any, ...] = ()

    def eval(self, *args: Any) -> Any:
        """The function's value at other arguments, nested like those it was traced with.

        Raises ValueError where they would have taken another branch of the function: this graph holds one path.
        """
        leaves, tree = trees.flatten(args)
        if tree != self.in_tree:
            raise TypeError(f"{self.name}: the graph was traced with arguments like {self.in_tree}, got {tree}")
        for i, (given, traced) in enumerate(zip(leaves, self.leaves, strict=True)):
            if i not in self.places and (type(given) is not type(traced) or given != traced):
                raise ValueError(
                    f"{self.name}: the graph holds for {traced!r} in this place, which is no float, got {given!r}"
                )
        return trees.unflatten(self.out_tree, evaluate(self, [leaves[i] for i in self.places]))

    def source(self) -> str:
        """The graph as Python source, as `jit` compiles it."""
        from funcgrad.autograd import compiler as compile  # the layer above

        return compile.graph_source(self)

    def to_dot(self) -> str:
        """The graph in Graphviz's DOT language, with the values it was traced with."""
        from funcgrad.autograd import draw  # the layer above

        return draw.to_dot(self)

    def __str__(self) -> str:
        named = variable_names(self)
        show = lambda x: named[x.index] if isinstance(x, Var) else repr(x)  # noqa: E731
        lines = [f"{{ lambda {' '.join(map(show, self.inputs))} . let"]
        lines += [
            f"    {show(output)} = {primitive.name} {' '.join(map(show, inputs))}".replace(
                f"{show(output)} = guard", "guard"
            )
            for primitive, inputs, output in self.equations
        ]
        return "\n".join([*lines, f"  in ({', '.join(map(show, self.outputs))}) }}"])


def evaluate(graph: Graph, leaves: Sequence[Any]) -> list[Any]:
    """The graph's outputs for these inputs, by its primitives: an interpreter in four lines."""
    values = {var.index: x for var, x in zip(graph.inputs, leaves, strict=True)}
    read = lambda x: values[x.index] if isinstance(x, Var) else x  # noqa: E731
    for primitive, inputs, output in graph.equations:
        values[output.index] = primitive(*map(read, inputs))
    return [read(x) for x in graph.outputs]


def variable_names(graph: Graph) -> dict[int, str]:
    """A name for each variable: the inputs' own, then a, b, …, z, aa, ab, … without those taken."""
    named = {var.index: name for var, name in zip(graph.inputs, graph.names, strict=True)}
    taken, count = set(graph.names), 0
    for _, _, output in graph.equations:
        while (name := _letters(count)) in taken:
            count += 1
        named[output.index] = name
        count += 1
    return named


def _letters(number: int) -> str:
    name = ""
    number += 1
    while number:
        number, letter = divmod(number - 1, 26)
        name = chr(ord("a") + letter) + name
    return name
