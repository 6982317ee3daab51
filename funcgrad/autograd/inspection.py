"""Looking at a function: its graph, and the graph as text, as Python source and as DOT."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from funcgrad.autograd import primitives, pytrees
from funcgrad.autograd.compiler import Signature, compile_graphs
from funcgrad.autograd.draw import to_dot, to_svg
from funcgrad.autograd.graph import Equation, Graph, Var, outputs_of
from funcgrad.autograd.trace_graph import leaf_names, trace_graph
from funcgrad.autograd.tracing import Traced, concrete, is_float, leaves_of
from funcgrad.autograd.transforms import record


class InspectableGraph(Graph):
    """A graph as `make_graph` returns it, which can also be shown as source and as DOT."""

    __slots__ = ()

    def source(self) -> str:
        """The graph as Python source, as `jit` compiles it."""
        return compile_graphs([self], Signature.of(self.name, self.names), _other_path, _other_path).source

    def to_dot(self) -> str:
        """The graph in Graphviz's DOT language, with the values it was traced with."""
        return to_dot(self)

    def to_svg(self) -> str:
        """The graph's picture: each number with its value and gradient. Raises ValueError if it is too large."""
        return to_svg(self)

    def _repr_svg_(self) -> str | None:
        """The picture in a notebook; none of a graph that is too large."""
        with suppress(ValueError):
            return self.to_svg()
        return None


def label(x: Any, name: str) -> Any:
    """x, which graphs and their pictures call by this name; nothing else changes. Of a container all leaves are named.

    >>> from funcgrad import autograd as ag
    >>> print(ag.make_graph(lambda x: 2.0 * ag.label(x * x, "area"))(3.0))
    { lambda x . let
        area = mul x x
        a = mul 2.0 area
      in (a) }
    """
    if not isinstance(name, str):
        raise TypeError(f"label: the name must be a string, got {type(name).__name__}: {name!r:.80}")
    named = lambda leaf: primitives.label(leaf, name) if isinstance(leaf, Traced) else leaf  # noqa: E731
    return pytrees.map_leaves(named, x)


def make_graph(fun: Callable[..., Any]) -> Callable[..., InspectableGraph]:
    """A function that returns the graph of fun at its arguments, like `jax.make_jaxpr`.

    >>> from funcgrad import autograd as ag
    >>> print(ag.make_graph(lambda x, y: x * y + 1.0)(2.0, 3.0))
    { lambda x y . let
        a = mul x y
        b = add a 1.0
      in (b) }
    """

    def graph_of(*args: Any) -> InspectableGraph:
        leaves, tree = pytrees.flatten(args)
        leaves = [concrete(x) for x in leaves]
        places = [i for i, x in enumerate(leaves) if is_float(x)]
        return _labelled(trace_graph(fun, leaves, places, tree, leaf_names(fun, args))[0])

    return graph_of


def _labelled(graph: Graph) -> InspectableGraph:
    """The graph without the equations of `label`, whose names its variables have instead."""
    same: dict[int, Var] = {}  # the variable that a label was given to, by the id of the label's output
    labels: list[tuple[int, str]] = []
    equations: list[Equation] = []
    for primitive, inputs, output in graph.equations:
        inputs = tuple([same.get(id(x), x) for x in inputs])
        if primitive is primitives.label and isinstance(inputs[0], Var):
            same[id(output)] = inputs[0]
            labels.append((inputs[0].index, inputs[1]))
        else:
            equations.append(Equation(primitive, inputs, output))
    outputs = tuple([same.get(id(x), x) for x in graph.outputs])
    return InspectableGraph(*graph._replace(equations=tuple(equations), outputs=outputs, labels=tuple(labels)))


def reverse_graph(fun: Callable[..., Any]) -> Callable[..., InspectableGraph]:
    """A function that returns the graph of fun that reverse mode walks.

    It has one equation for each call of a function with a custom rule, and no comparisons: they have no derivative.
    """

    def graph_of(*args: Any) -> InspectableGraph:
        leaves, tree = leaves_of("reverse_graph", args)
        recording = record("reverse_graph", fun, leaves, tree)
        inputs, outputs = tuple(recording.inputs), tuple(recording.outputs)
        defined = {x.index for x in inputs}
        equations: list[Equation] = []
        for primitive, operands, output in recording.trace.equations:
            known = tuple([x if isinstance(x, Var) and x.index in defined else concrete(x) for x in operands])
            equations.append(Equation(primitive, known, output))
            defined.update(x.index for x in outputs_of(equations[-1]))
        names = tuple(leaf_names(fun, args))
        name = getattr(fun, "__name__", "f")
        return _labelled(Graph(inputs, tuple(equations), outputs, names, tree, recording.out_tree, name))

    return graph_of


def _other_path(*_: Any) -> Any:
    raise ValueError("these arguments take another path than the one this graph holds")
