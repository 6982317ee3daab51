"""The rules of each primitive, compiled: what makes derivatives fast that are not compiled themselves.

`Primitive.jvp` and `Primitive.vjp` apply the rules of the table one by one. Here they are replaced by one compiled
function each, when they are first called. For what is traced these call the rules themselves.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from funcgrad.autograd import pytrees
from funcgrad.autograd.codegen import INFIX, Node, build
from funcgrad.autograd.compiler import Signature, compile_graphs
from funcgrad.autograd.graph import Primitive, Rule, apply_rules
from funcgrad.autograd.trace_graph import trace_graph

Function = Callable[..., Any]


def compile_on_first_use(primitives: Iterable[Primitive]) -> None:
    """Makes `jvp` and `vjp` of these primitives compile themselves when they are first called."""
    for primitive in primitives:
        primitive.jvp = _compiled_later(primitive, "jvp", primitive.rules)
        primitive.vjp = _compiled_later(primitive, "vjp", primitive.reverse)


def _compiled_later(primitive: Primitive, attribute: str, rules: tuple[Rule | None, ...]) -> Function:
    def first_call(*args: Any) -> Any:
        compiled = _compile_rules(primitive.name, rules)
        setattr(primitive, attribute, compiled)
        return compiled(*args)

    return first_call


# Primitives of two arguments, and the position of the one that is no float.
_STATIC = {"integer_pow": 1, "label": 1, "polygamma": 0, "bessel_i": 0, "scaled_erfc": 0}


def _compile_rules(name: str, rules: tuple[Rule | None, ...]) -> Function:
    """(tangent, result, *args) → what `apply_rules` gives. An int argument is compiled in: one function for each."""
    if (place := _STATIC.get(name)) is None:
        return _compiled(name, rules, (None,) * len(rules))
    static = (lambda n: (n, None)) if place == 0 else (lambda n: (None, n))
    return lambda t, ans, *args: _compiled(name, rules, static(args[place]))(t, ans, args[1 - place])


@lru_cache(maxsize=1024)
def _compiled(name: str, rules: tuple[Rule | None, ...], ints: tuple[Any, ...]) -> Function:
    """The rules as a compiled function of the float arguments; `ints` has a value for each of the others."""
    places = [i for i, n in enumerate(ints) if n is None]

    def by_the_rules(t: Any, ans: Any, *floats: Any) -> tuple[Any, ...]:
        return apply_rules(
            rules, t, ans, *(floats if len(places) == len(ints) else pytrees.replace_at(places, floats, ints))
        )

    names = ["ct", "ans", *(f"x{i}" for i in range(len(places)))]
    leaves = [1.0] * len(names)
    graph, _ = trace_graph(by_the_rules, leaves, list(range(len(names))), pytrees.tuple_of_leaves(len(names)), names)
    signature = Signature.of(name, names)
    if all(isinstance(step, Node) and step.primitive.name in {*INFIX, "square"} for step in build([graph]).steps):
        signature = signature._replace(leaves=[])  # operators do what is right for traced floats too: nothing to check
    return compile_graphs([graph], signature, by_the_rules, by_the_rules).function
