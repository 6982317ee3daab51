"""The graphs of a function's paths as one compiled Python function."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from funcgrad.autograd import pytrees
from funcgrad.autograd.codegen import Block, Node, Writer, build, input_names
from funcgrad.autograd.graph import Graph
from funcgrad.autograd.pytrees import Tree

Function = Callable[..., Any]


class CompiledFunction(NamedTuple):
    """The compiled paths of one function of leaves, its source, and the number of computations in it."""

    function: Function
    source: str
    operations: int


def compile_graphs(
    graphs: Sequence[Graph], signature: "Signature", missed: Function, again: Function
) -> CompiledFunction:
    """Compiles all paths to one function.

    It checks that its arguments are nested like those it was traced with and that their leaves are floats; if not, it
    returns `again(*args)`. Where the arguments take a path that is not compiled it returns `missed(*leaves)`. Python's
    operators and `math` raise where IEEE 754 gives inf or nan: then the same computations run again, carefully, with
    the primitives' own values.
    """
    tree = build(graphs)
    writer = Writer(signature.names)
    writer.count(tree)
    writer.write(tree, "        ", lambda block: _return(block, graphs, writer), "raise missing")
    checks, constants = signature.checks()
    lines = [
        *writer.parts,
        f"def {signature.title}({', '.join(signature.parameters)}):",
        *("    " + line for line in checks),
        "    try:",
        *writer.lines,
        "    except missing:",
        "        then = missed",
        "    except (ValueError, OverflowError, ZeroDivisionError):",
        "        then = careful",
        f"    return then({', '.join(signature.names)})",
    ]
    source = "\n".join(lines) + "\n"

    def careful(*leaves: Any) -> Any:
        return _interpreted(tree, graphs, leaves, missed)

    names = {**writer.names, **constants, "again": again, "missed": missed, "careful": careful}
    names |= {"missing": _MissingPath, "rebuild": lambda tree, *leaves: pytrees.unflatten(tree, leaves)}
    return CompiledFunction(execute(source, names, signature.title), source, writer.operations)


def _interpreted(block: Block, graphs: Sequence[Graph], leaves: Sequence[Any], missed: Function) -> Any:
    """The value by the primitives, one after the other."""
    values = {-1 - i: x for i, x in enumerate(leaves)}
    read = lambda x: values[x.number] if type(x) is Node else x  # noqa: E731
    while True:
        for step in block.steps:
            if isinstance(step, Node):
                values[step.number] = step.primitive.value(*map(read, step.operands))
            elif read(step.condition) != step.outcome:
                return missed(*leaves)
        if block.condition is None:
            return pytrees.unflatten(graphs[block.path].out_tree, [read(x) for x in block.outputs])
        if read(block.condition) not in block.outcomes:
            return missed(*leaves)
        block = block.outcomes[read(block.condition)]


def checked(signature: "Signature", function: Function, again: Function) -> Function:
    """The function of leaves as one of arguments, which are checked like those of a compiled function."""
    checks, constants = signature.checks()
    lines = [f"def {signature.title}({', '.join(signature.parameters)}):", *("    " + line for line in checks)]
    source = "\n".join([*lines, f"    return missed({', '.join(signature.names)})"]) + "\n"
    return execute(source, {**constants, "again": again, "missed": function}, signature.title)


class _MissingPath(Exception):  # never leaves the compiled code
    """The arguments take a path that has not been compiled."""


def _return(block: Block, graphs: Sequence[Graph], writer: Writer) -> str:
    leaves = iter([writer.operand(x) for x in block.outputs])
    return f"return {_nested(graphs[block.path].out_tree, leaves, writer)}"


def _nested(tree: Tree, leaves: Any, writer: Writer) -> str:
    """The expression that puts the outputs into their containers."""
    if tree == pytrees.LEAF:
        return str(next(leaves))
    if tree.kind in (tuple, list):
        inside = [_nested(child, leaves, writer) for child in tree.children]
        return f"({', '.join(inside)}{',' * (len(inside) == 1)})" if tree.kind is tuple else f"[{', '.join(inside)}]"
    if tree.kind is type(None):
        return "None"
    if tree.kind is dict:
        keys = [writer.constant(key) for key in tree.extra]
        pairs = zip(keys, tree.children, strict=True)
        return f"{{{', '.join(f'{key}: {_nested(child, leaves, writer)}' for key, child in pairs)}}}"
    inside = [str(next(leaves)) for _ in range(pytrees.size(tree))]
    return f"rebuild({', '.join([writer.constant(tree), *inside])})"


def execute(source: str, names: dict[str, Any], title: str) -> Function:
    """Runs the source with these values of names, and returns the function called `title` that it defines."""
    space = dict(names)
    exec(
        compile(source, f"<compiled {title}>", "exec"), space
    )  # only our own text: names are checked, strings passed by name
    function: Function = space[title]
    return function


class Signature(NamedTuple):
    """How a function was called: its parameters, the trees of its arguments, and the names of its inputs.

    `places` are the positions of the inputs among the `leaves`; the others are constants. All names are valid Python.
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
        return cls.nested(title, names, (pytrees.LEAF,) * count, names, list(range(count)), [0.0] * count)

    @classmethod
    def nested(
        cls,
        title: str,
        parameters: Sequence[str],
        arguments: tuple[Tree, ...],
        names: Sequence[str],
        places: list[int],
        leaves: list[Any],
    ) -> "Signature":
        """Of a function of containers, whose leaves have these names."""
        title, *safe = input_names([title, *parameters, *names])
        parameters, safe = safe[: len(parameters)], safe[len(parameters) :]
        at = 0
        for parameter, tree in zip(parameters, arguments, strict=True):
            if tree == pytrees.LEAF:
                safe[at] = parameter  # the argument itself is a leaf
            at += pytrees.size(tree)
        return cls(title, parameters, arguments, [safe[i] for i in places], places, leaves)

    def checks(self) -> tuple[list[str], dict[str, Any]]:
        """Lines that unpack the arguments into the leaves, or return `again`; and the constants they refer to."""
        constants: dict[str, Any] = {}
        lines: list[str] = []
        known: set[str] = set()  # to be floats
        if not self.leaves:
            return lines, constants
        leaf = iter(range(len(self.leaves)))
        inputs = dict(zip(self.places, self.names, strict=True))
        again = f"    return again({', '.join(self.parameters)})"

        def named(prefix: str, number: int, value: Any) -> str:
            constants[f"{prefix}_{number}"] = value
            return f"{prefix}_{number}"

        def unpack(tree: Tree, text: str) -> None:
            if tree == pytrees.LEAF:
                at = next(leaf)
                if at not in inputs:
                    name = named("given", at, self.leaves[at])
                    lines.extend([f"if type({text}) is not type({name}) or {text} != {name}:", again])
                elif inputs[at] != text:
                    lines.append(f"{inputs[at]} = {text}")
                return
            if pytrees.is_array_kind(tree):
                names = [inputs[next(leaf)] for _ in tree.children]
                known.update(names)
                kind = named("kind", len(constants), tree.kind)
                wrong = f"type({text}) is not {kind} or {text}.shape != {tree.extra} or {text}.dtype.char not in 'def'"
                lines.extend([f"if {wrong}:", again, f"[{', '.join(names)}] = {text}.ravel().tolist()"])
                return
            kind = named("kind", len(constants), tree.kind)
            size = f" or len({text}) != {len(tree.children)}" if tree.kind is not type(None) else ""
            lines.extend([f"if type({text}) is not {kind}{size}:", again])
            if tree.kind is dict:
                keys = named("keys", len(constants), tree.extra)
                lines.extend([f"if not all(key in {text} for key in {keys}):", again])
            for i, child in enumerate(tree.children):
                part = f"{text}[{keys}[{i}]]" if tree.kind is dict else f"{text}[{i}]"
                if child != pytrees.LEAF:
                    lines.append(f"within_{len(lines)} = {part}")
                    part = f"within_{len(lines) - 1}"
                unpack(child, part)

        for parameter, tree in zip(self.parameters, self.arguments, strict=True):
            unpack(tree, parameter)
        if floats := [f"type({name}) is float" for name in self.names if name not in known]:
            lines += [f"if not ({' and '.join(floats)}):", again]
        return lines, constants

    def simple(self) -> bool:
        """Whether `checks` can unpack all containers."""

        def known(tree: Tree) -> bool:
            usual = tree.kind in (None, tuple, list, dict, type(None)) or pytrees.is_named_tuple(tree.kind)
            return (usual or pytrees.is_array_kind(tree)) and all(map(known, tree.children))

        constants = [x for i, x in enumerate(self.leaves) if i not in {*self.places}]
        if any(isinstance(x, complex) for x in constants) or (
            constants and any(map(pytrees.has_array, self.arguments))
        ):
            return False  # == is not enough to compare them
        return all(map(known, self.arguments))
