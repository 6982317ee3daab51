"""A function's recorded equations as straight-line Python that runs by itself."""

import inspect
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

from funcgrad.autograd import pytrees as trees
from funcgrad.autograd.codegen import INFIX, Block, Node, Writer, build, input_names
from funcgrad.autograd.graph import Equation, Graph
from funcgrad.autograd.primitives import Primitive, Rule
from funcgrad.autograd.pytrees import Tree
from funcgrad.autograd.tracing import Trace, Traced, concrete

Function = Callable[..., Any]


# Graphs


def make_graph(fun: Function) -> Callable[..., Graph]:
    """A function that returns the graph of fun at its arguments, like `jax.make_jaxpr`.

    >>> from funcgrad import autograd as ag
    >>> print(ag.make_graph(lambda x, y: x * y + 1.0)(2.0, 3.0))
    { lambda x y . let
        a = mul x y
        b = add a 1.0
      in (b) }
    """

    def graph_of(*args: Any) -> Graph:
        leaves, tree = trees.flatten(args)
        kept = [concrete(x) for x in leaves]
        places = [i for i, x in enumerate(kept) if is_float(x)]
        return trace_graph(fun, kept, places, tree, leaf_names(fun, args))[0]

    return graph_of


def trace_graph(fun: Function, leaves: list[Any], places: list[int], tree: Tree, names: list[str]) -> tuple[Graph, Any]:
    """The graph of fun, of the leaves at these places, and its value. The other leaves are constants."""
    with Trace(comparisons=True) as trace:
        inputs = [trace.new(float(leaves[i])) for i in places]
        whole = list(leaves)
        for i, x in zip(places, inputs, strict=True):
            whole[i] = x
        out = _call(fun, trees.unflatten(tree, whole))
    outputs, out_tree = trees.flatten(out)
    for x in outputs:
        if not isinstance(x, Traced | bool | int | float | str | complex) and not trees.numpy_kind(x):
            title = getattr(fun, "__name__", "the function")
            raise TypeError(f"{title} returned a value of type {type(x).__name__}, which is no number: {x!r:.80}")
    value = trees.unflatten(out_tree, [trace.value(x) for x in outputs])
    equations = tuple([Equation(*equation) for equation in trace.equations])
    chosen = tuple([names[i] for i in places])
    name = getattr(fun, "__name__", "function")
    graph = Graph(tuple(inputs), equations, tuple(outputs), chosen, tree, out_tree, name, tuple(places), tuple(leaves))
    return graph, value


def _call(fun: Function, args: Any) -> Any:
    """fun of (args, kwargs), or of args alone."""
    if len(args) == 2 and type(args[0]) is tuple and type(args[1]) is Keywords:
        return fun(*args[0], **args[1])
    return fun(*args)


class Keywords(dict[str, Any]):
    """Keyword arguments, as one container."""


trees.register_tree(
    Keywords,
    lambda keywords: (list(keywords.values()), tuple(keywords)),
    lambda names, values: Keywords(zip(names, values, strict=True)),
)


def is_float(x: Any) -> bool:
    """Whether a leaf is an input: a Python float or a NumPy one."""
    return isinstance(x, float) or trees.numpy_kind(x) == "f"


def leaf_names(fun: Function, args: Sequence[Any], kwargs: dict[str, Any] | None = None) -> list[str]:
    """A name for each leaf of the arguments: x, or p_0, p_w_1 within containers."""
    try:
        parameters = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    simple = [x.name for x in parameters if x.kind in (x.POSITIONAL_ONLY, x.POSITIONAL_OR_KEYWORD)]
    rest = next((x.name for x in parameters if x.kind is x.VAR_POSITIONAL), "x")
    names = simple[: len(args)] + [f"{rest}_{i}" for i in range(len(args) - len(simple))]
    found: list[str] = []
    for name, x in [*zip(names, args, strict=True), *(kwargs or {}).items()]:
        _name_leaves(name, x, found)
    return found


def _name_leaves(name: str, x: Any, found: list[str]) -> None:
    parts = trees.children(x)
    if parts is None:
        found.append(name)
        return
    inside, extra = parts
    keys = range(len(inside))
    if isinstance(x, dict):
        keys = extra[1] if isinstance(x, defaultdict) else extra
    elif trees.is_named_tuple(type(x)):
        keys = x._fields
    for key, child in zip(keys, inside, strict=True):
        _name_leaves(f"{name}_{key}", child, found)


# The emitted function


class Program(NamedTuple):
    """The compiled paths of one function of leaves, its source, and the number of computations in it."""

    function: Function
    source: str
    operations: int


def compile_graphs(graphs: Sequence[Graph], signature: "Signature", missed: Function, again: Function) -> Program:
    """Emits all paths as one function.

    It checks that its arguments are nested as those it was traced with and that their leaves are floats, and else
    returns `again(*args)`. Where an argument takes a way that is on no path it returns `missed(*leaves)`. Python's
    operators and `math` raise where IEEE 754 gives inf or nan: then the same computations run again, by the
    primitives' own values.
    """
    tree = build(graphs)
    leaves = ", ".join(signature.names)
    fast = Writer(signature.names, careful=False)
    fast.count(tree)
    fast.write(tree, "        ", lambda block: _return(block, graphs, fast), "raise missing")
    checks, constants = signature.checks()
    lines = [
        *fast.parts,
        f"def {signature.title}({', '.join(signature.parameters)}):",
        *("    " + line for line in checks),
        "    try:",
        *fast.lines,
        "    except missing:",
        "        then = missed",
        "    except (ValueError, OverflowError, ZeroDivisionError):",
        "        then = careful",
        f"    return then({leaves})",
    ]
    source = "\n".join(lines) + "\n"
    written: list[Function] = []

    def careful(*values: Any) -> Any:
        if not written:  # it is seldom needed
            slow = Writer(signature.names, careful=True)
            slow.count(tree)
            slow.write(tree, "    ", lambda block: _return(block, graphs, slow), f"return missed({leaves})")
            text = "\n".join([*slow.parts, f"def {signature.title}({leaves}):", *slow.lines]) + "\n"
            written.append(execute(text, {**slow.names, "missed": missed, "rebuild": _rebuild}, signature.title))
        return written[0](*values)

    known = {"again": again, "missed": missed, "missing": _MissingPath, "careful": careful, "rebuild": _rebuild}
    return Program(execute(source, {**fast.names, **constants, **known}, signature.title), source, fast.operations)


class _MissingPath(Exception):  # it never leaves the compiled code
    """The arguments take a way that was not met before."""


def _return(block: Block, graphs: Sequence[Graph], writer: Writer) -> str:
    leaves = iter([writer.operand(x) for x in block.outputs])
    return f"return {_nested(graphs[block.path].out_tree, leaves, writer)}"


def _rebuild(tree: Tree, *leaves: Any) -> Any:
    return trees.unflatten(tree, leaves)


def _nested(tree: Tree, leaves: Any, writer: Writer) -> str:
    """The expression that puts the outputs into their containers."""
    if tree == trees.LEAF:
        return str(next(leaves))
    if tree.kind in (tuple, list):
        inside = [_nested(child, leaves, writer) for child in tree.children]
        return f"({', '.join(inside)}{',' * (len(inside) == 1)})" if tree.kind is tuple else f"[{', '.join(inside)}]"
    if tree.kind is type(None):
        return "None"
    if tree.kind is dict:
        keys = [writer.operand(_Named(key)) for key in tree.extra]
        pairs = zip(keys, tree.children, strict=True)
        return f"{{{', '.join(f'{key}: {_nested(child, leaves, writer)}' for key, child in pairs)}}}"
    inside = [str(next(leaves)) for _ in range(trees.size(tree))]
    return f"rebuild({', '.join([writer.operand(_Named(tree)), *inside])})"


class _Named(NamedTuple):
    """An object that the source refers to by a name."""

    value: Any


def execute(source: str, names: dict[str, Any], title: str) -> Function:
    space = {name: x.value if isinstance(x, _Named | Primitive) else x for name, x in names.items()}
    exec(compile(source, f"<compiled {title}>", "exec"), space)  # our own text: names are checked, strings are objects
    function: Function = space[title]
    return function


class Signature(NamedTuple):
    """How a function was called: its parameters, the containers and constants in its arguments, its inputs' names.

    `places` says which of the `leaves` are inputs; the others are constants. All names are fit for the source.
    """

    title: str
    parameters: list[str]
    arguments: tuple[Tree, ...]
    names: list[str]
    places: list[int]
    leaves: list[Any]

    @classmethod
    def of(cls, title: str, names: Sequence[str]) -> "Signature":
        """Of a function of plain floats."""
        count = len(names)
        title, *parameters = input_names([title, *names])
        return cls(title, parameters, (trees.LEAF,) * count, parameters, list(range(count)), [0.0] * count)

    @classmethod
    def nested(
        cls,
        title: str,
        parameters: list[str],
        arguments: tuple[Tree, ...],
        names: list[str],
        places: list[int],
        leaves: Any,
    ) -> "Signature":
        """Of a function of containers, whose leaves have these names."""
        title, *safe = input_names([title, *parameters, *names])
        parameters, safe = safe[: len(parameters)], safe[len(parameters) :]
        at = 0
        for parameter, tree in zip(parameters, arguments, strict=True):
            if tree == trees.LEAF:
                safe[at] = parameter  # it is no container: the leaf is the argument
            at += trees.size(tree)
        return cls(title, parameters, arguments, [safe[i] for i in places], places, leaves)

    def checks(self) -> tuple[list[str], dict[str, Any]]:
        """Lines that unpack the arguments into the leaves, or return `again`; and the objects that they name."""
        constants: dict[str, Any] = {}
        if not self.leaves:
            return [], constants
        leaf = iter(range(len(self.leaves)))
        chosen = dict(zip(self.places, self.names, strict=True))
        again = f"    return again({', '.join(self.parameters)})"
        lines: list[str] = []
        floats: list[str] = []

        def unpack(tree: Tree, text: str) -> None:
            if tree == trees.LEAF:
                at = next(leaf)
                if at in chosen:
                    if chosen[at] != text:
                        lines.append(f"{chosen[at]} = {text}")
                    floats.append(f"type({chosen[at]}) is float")
                else:
                    name = f"given_{at}"
                    constants[name] = self.leaves[at]
                    lines.append(f"if type({text}) is not type({name}) or {text} != {name}:")
                    lines.append(again)
                return
            kind = f"kind_{len(constants)}"
            constants[kind] = tree.kind
            size = f" or len({text}) != {len(tree.children)}" if tree.kind is not type(None) else ""
            lines.append(f"if type({text}) is not {kind}{size}:")
            lines.append(again)
            if tree.kind is dict:
                keys = f"keys_{len(constants)}"
                constants[keys] = tree.extra
                lines.append(f"if not all(key in {text} for key in {keys}):")
                lines.append(again)
            for i, child in enumerate(tree.children):
                part = f"{text}[{keys}[{i}]]" if tree.kind is dict else f"{text}[{i}]"
                if child != trees.LEAF:
                    lines.append(f"within_{len(lines)} = {part}")
                    part = f"within_{len(lines) - 1}"
                unpack(child, part)

        for parameter, tree in zip(self.parameters, self.arguments, strict=True):
            unpack(tree, parameter)
        if floats:
            lines += [f"if not ({' and '.join(floats)}):", again]
        return lines, constants

    def simple(self) -> bool:
        """Whether all containers are of kinds that `checks` can unpack."""

        def known(tree: Tree) -> bool:
            usual = tree.kind in (None, tuple, list, dict, type(None)) or trees.is_named_tuple(tree.kind)
            return usual and all(map(known, tree.children))

        return all(map(known, self.arguments))


@cache
def transposed(primitive: Primitive) -> Function:
    """The rules of a primitive as one function: (cotangent, result, *args) → a cotangent for each argument, or None.

    For floats it is compiled; for what is traced it calls the rules.
    """
    return _rules_as_one(primitive, primitive.reverse)


@cache
def pushed(primitive: Primitive) -> Function:
    """The same for forward mode: (tangent, result, *args) → what each argument's tangent adds, or None."""
    if primitive.reverse is primitive.rules:
        return transposed(primitive)
    return _rules_as_one(primitive, primitive.rules)


def _rules_as_one(primitive: Primitive, rules: tuple[Rule | None, ...]) -> Function:
    if primitive.name not in _WHOLE:
        return _compiled_rules(primitive, rules, len(rules), ())
    if _WHOLE[primitive.name] == 0:
        return lambda ct, ans, n, x: _compiled_rules(primitive, rules, 1, (n,))(ct, ans, x)
    return lambda ct, ans, x, n: _compiled_rules(primitive, rules, 1, (), (n,))(ct, ans, x)


_WHOLE = {"integer_pow": 1, "polygamma": 0}  # which argument of these is an int, and is compiled in


@lru_cache(maxsize=1024)
def _compiled_rules(
    primitive: Primitive,
    rules: tuple[Rule | None, ...],
    count: int,
    before: tuple[int, ...],
    after: tuple[int, ...] = (),
) -> Function:
    def by_the_rules(ct: Any, ans: Any, *args: Any) -> tuple[Any, ...]:
        whole = (*before, *args, *after)
        return tuple([None if rule is None else rule(ct, ans, *whole) for rule in rules])

    names = ["ct", "ans", *(f"x{i}" for i in range(count))]
    leaves = [1.0] * len(names)
    graph, _ = trace_graph(by_the_rules, leaves, list(range(len(names))), trees.row(len(names)), names)
    signature = Signature.of(primitive.name, names)
    if all(isinstance(step, Node) and step.primitive.name in {*INFIX, "square"} for step in build([graph]).steps):
        signature = signature._replace(leaves=[])  # operators do what is right for traced floats too: nothing to check
    return compile_graphs([graph], signature, by_the_rules, by_the_rules).function


def graph_source(graph: Graph) -> str:
    """The Python source of a graph."""
    return compile_graphs([graph], Signature.of(graph.name, list(graph.names)), _unreached, _unreached).source


def _unreached(*_: Any) -> Any:
    raise ValueError("these arguments take another path than the one this graph holds")
