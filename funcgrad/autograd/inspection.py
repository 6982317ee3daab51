"""Looking at a function: its graph, and the graph as text, as Python source and as DOT."""

from collections.abc import Callable
from typing import Any

from funcgrad.autograd import pytrees
from funcgrad.autograd.compiler import Signature, compile_graphs
from funcgrad.autograd.draw import to_dot
from funcgrad.autograd.graph import Equation, Graph, Var, outputs_of
from funcgrad.autograd.trace_graph import leaf_names, trace_graph
from funcgrad.autograd.tracing import concrete, is_float, leaves_of
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
        return InspectableGraph(*trace_graph(fun, leaves, places, tree, leaf_names(fun, args))[0])

    return graph_of


def reverse_graph(fun: Callable[..., Any]) -> Callable[..., Graph]:
    """A function that returns the graph of fun that reverse mode walks.

    It has one equation for each call of a function with a custom rule, and no comparisons: they have no derivative.
    """

    def graph_of(*args: Any) -> Graph:
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
        return Graph(inputs, tuple(equations), outputs, names, tree, recording.out_tree, getattr(fun, "__name__", "f"))

    return graph_of


def _other_path(*_: Any) -> Any:
    raise ValueError("these arguments take another path than the one this graph holds")
