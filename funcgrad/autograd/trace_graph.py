"""Tracing a function into a `Graph`: the equations of the path that one set of arguments takes."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from funcgrad.autograd import pytrees
from funcgrad.autograd.graph import Graph, Outer
from funcgrad.autograd.pytrees import Tree
from funcgrad.autograd.tracing import Trace, Traced, concrete

Function = Callable[..., Any]


def trace_graph(fun: Function, leaves: list[Any], places: list[int], tree: Tree, names: list[str]) -> tuple[Graph, Any]:
    """The graph of fun as a function of the leaves at these places, and its value. The other leaves are constants.

    `tree` is that of the tuple of all arguments; `names` has a name for each leaf.
    """
    with Trace(comparisons=True) as trace:
        inputs = [trace.new(float(leaves[i])) for i in places]
        out = fun(*pytrees.unflatten(tree, pytrees.replace_at(places, inputs, leaves)))
    outputs, out_tree = pytrees.flatten(out)
    check_numbers(fun, outputs)
    value = pytrees.unflatten(out_tree, [trace.value(x) for x in outputs])
    closes_over = trace.outer or any(isinstance(x, Traced) and not trace.owns(x) for x in outputs)
    equations: Any = trace.equations  # plain triples: `make_graph` gives them names
    if closes_over:
        equations = [(p, tuple([_constant(trace, x) for x in xs]), output) for p, xs, output in equations]
        outputs = [_constant(trace, x) for x in outputs]
    chosen = tuple([names[i] for i in places])
    name = getattr(fun, "__name__", "function")
    graph = Graph(
        inputs=tuple(inputs),
        equations=tuple(equations),
        outputs=tuple(outputs),
        names=chosen,
        in_tree=tree,
        out_tree=out_tree,
        name=name,
        places=tuple(places),
        leaves=tuple(leaves),
        closes_over=closes_over,
        has_custom_rules=trace.custom,
    )
    return graph, value


def check_numbers(fun: Function, leaves: Sequence[Any]) -> None:
    """Raises TypeError if a leaf of what fun returned is not a number, nor a string."""
    for x in leaves:
        if not isinstance(x, Traced | bool | int | float | str | complex) and not pytrees.numpy_kind(x):
            title = getattr(fun, "__name__", "the function")
            raise TypeError(f"{title} returned a value of type {type(x).__name__}, which is no number: {x!r:.80}")


def _constant(trace: Trace, x: Any) -> Any:
    """A number of an outer transformation as a constant, everything else unchanged."""
    if not isinstance(x, Traced) or trace.owns(x):
        return x
    constant = Outer(concrete(x))
    constant.number = x
    return constant


def leaf_names(fun: Function, args: Sequence[Any], kwargs: dict[str, Any] | None = None) -> list[str]:
    """A name for each leaf of the arguments: x, or p_0, p_w_1 within containers."""
    try:
        parameters = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    simple = [x.name for x in parameters if x.kind in (x.POSITIONAL_ONLY, x.POSITIONAL_OR_KEYWORD)]
    rest = next((x.name for x in parameters if x.kind is x.VAR_POSITIONAL), "x")
    names = simple[: len(args)] + [f"{rest}_{i}" for i in range(len(args) - len(simple))]
    arguments = [*zip(names, args, strict=True), *(kwargs or {}).items()]
    return [name for argument, x in arguments for name in _names_within(argument, x)]


def _names_within(name: str, x: Any) -> Iterator[str]:
    parts = pytrees.children(x)
    if parts is None:
        yield name
        return
    keys = pytrees.dict_keys(x) or (x._fields if pytrees.is_named_tuple(type(x)) else range(len(parts[0])))
    for key, child in zip(keys, parts[0], strict=True):
        yield from _names_within(f"{name}_{key}", child)
