"""Looking at a function: its graph, and the graph as text, as Python source and as DOT."""

from collections.abc import Callable
from typing import Any

from funcgrad.autograd import pytrees
from funcgrad.autograd.compiler import Signature, compile_graphs
from funcgrad.autograd.draw import to_dot
from funcgrad.autograd.graph import Graph
from funcgrad.autograd.trace_graph import leaf_names, trace_graph
from funcgrad.autograd.tracing import concrete, is_float


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


def _other_path(*_: Any) -> Any:
    raise ValueError("these arguments take another path than the one this graph holds")
