"""The expression graph: what a function did with its arguments, one equation after the other.

An equation names its result and is never changed (single static assignment, as in JAX's jaxpr), and it comes after
the equations it depends on. So every question about a function is answered by walking its equations once, in a loop:
forwards for values and tangents, backwards for gradients. A small one, z = x·y + sin(x):

    a = mul x y
    b = sin x
    c = add a b
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from funcgrad.autograd import pytrees

Rule = Callable[..., Any]


class Var:
    """A number that a graph defines. `index` is its position: first the inputs, then the results of the equations.

    While a function runs, its numbers are `tracing.Traced`, which know their `value` and the `trace` they belong to.
    """

    __slots__ = ("index", "trace", "value")
    index: int
    trace: Any
    value: Any


class Primitive:
    """An operation with its value and its derivatives. Calling it computes with floats, and records with traced floats.

    `rules` has a derivative for each argument, `reverse` those of reverse mode where they differ. `jvp` and `vjp` apply
    all of them at once: `jvp(tangent, result, *args)` gives what each argument would contribute to the tangent of the
    result if this were its tangent, `vjp(cotangent, result, *args)` the cotangent of each argument; None is zero.
    These two are replaced once, when `compiled_rules` has compiled them; nothing else here ever changes.
    """

    __slots__ = ("jvp", "name", "reverse", "rules", "smooth", "source", "value", "vjp")

    def __init__(
        self,
        name: str,
        value: Callable[..., Any],
        rules: tuple[Rule | None, ...],
        source: str = "",
        reverse: tuple[Rule | None, ...] = (),
    ) -> None:
        self.name, self.value, self.rules, self.source = name, value, rules, source
        self.reverse = reverse or rules
        self.smooth = any(rule is not None for rule in rules)  # else the derivative is zero everywhere
        self.jvp: Callable[..., tuple[Any, ...]] = partial(apply_rules, self.rules)
        self.vjp: Callable[..., tuple[Any, ...]] = partial(apply_rules, self.reverse)

    def __repr__(self) -> str:
        return self.name

    def __call__(self, *args: Any) -> Any:
        trace = None
        for x in args:
            if type(x) is not float and isinstance(x, Var) and (trace is None or x.trace.level > trace.level):
                trace = x.trace
        return self.value(*args) if trace is None else trace.apply(self, args)


def apply_rules(rules: tuple[Rule | None, ...], tangent: Any, result: Any, *args: Any) -> tuple[Any, ...]:
    """Each rule at this tangent (or cotangent), result and arguments; None for one that is zero everywhere."""
    return tuple([None if rule is None else rule(tangent, result, *args) for rule in rules])


class Outer(float):
    """A number of an outer transformation that a function closes over, as a constant of its graph.

    It shows its value in that run; `number` is the number itself, with which `Graph.eval` computes.
    """

    number: Any


class Equation(NamedTuple):
    """output = primitive(*inputs). An input is a Var or a constant. (A `Call` of a user's rule has several outputs.)"""

    primitive: Primitive
    inputs: tuple[Any, ...]
    output: Any


def outputs_of(equation: Equation) -> tuple[Var, ...]:
    """The results of an equation: one, or those of a call of a function with a custom rule."""
    return equation.output if isinstance(equation.output, tuple) else (equation.output,)


class Graph(NamedTuple):
    """A function as equations.

    `outputs` are Vars or constants, in the order of the leaves of `out_tree`; `names` are those of the inputs, after
    the function's own arguments; `in_tree` says how the arguments were nested, `leaves` what they were, and `places`
    which of these are inputs: the others, ints and the like, are constants. `labels` are names given by `label`.
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
    labels: tuple[tuple[int, str], ...] = ()
    closes_over: bool = False  # numbers of an outer transformation
    has_custom_rules: bool = False  # of functions whose own equations it holds

    def eval(self, *args: Any) -> Any:
        """The function's value at other arguments, nested like those it was traced with.

        Raises TypeError for another nesting, and ValueError where these arguments would take another branch of the
        function: a graph holds one path.
        """
        leaves, tree = pytrees.flatten(args)
        if tree != self.in_tree:
            raise TypeError(f"{self.name}: the graph was traced with arguments like {self.in_tree}, got {tree}")
        for i, (given, traced) in enumerate(zip(leaves, self.leaves, strict=True)):
            if i not in self.places and (type(given) is not type(traced) or given != traced):
                raise ValueError(
                    f"{self.name}: leaf {i} of the arguments is no float, so the graph holds it as the constant "
                    f"{traced!r}; got {given!r}"
                )
        return pytrees.unflatten(self.out_tree, evaluate(self, [leaves[i] for i in self.places]))

    def __str__(self) -> str:
        names = variable_names(self)
        show = lambda x: names[x.index] if isinstance(x, Var) else repr(x)  # noqa: E731
        lines = [f"{{ lambda {' '.join(map(show, self.inputs))} . let"]
        for equation in self.equations:
            computed = " ".join([equation.primitive.name, *map(show, equation.inputs)])
            results = f"{' '.join(map(show, outputs_of(equation)))} = " if equation.primitive.name != "guard" else ""
            lines.append(f"    {results}{computed}")
        return "\n".join([*lines, f"  in ({', '.join(map(show, self.outputs))}) }}"])


def evaluate(graph: Graph, leaves: Sequence[Any]) -> list[Any]:
    """The graph's outputs for these inputs, by its primitives: an interpreter in four lines."""
    values = {var.index: x for var, x in zip(graph.inputs, leaves, strict=True)}
    read = lambda x: values[x.index] if isinstance(x, Var) else x.number if type(x) is Outer else x  # noqa: E731
    for primitive, inputs, output in graph.equations:
        values[output.index] = primitive(*map(read, inputs))
    return [read(x) for x in graph.outputs]


def variable_names(graph: Graph) -> dict[int, str]:
    """A name for each variable: the inputs' own, then a, b, …, z, aa, ab, … without those taken."""
    names = {var.index: name for var, name in zip(graph.inputs, graph.names, strict=True)}
    for index, label in graph.labels:
        taken = {name for other, name in names.items() if other != index}
        names[index] = next(name for name in _with_numbers(label) if name not in taken)
    free = (name for name in map(_letters, itertools.count()) if name not in names.values())
    results = [x for equation in graph.equations for x in outputs_of(equation) if x.index not in names]
    return names | {x.index: name for x, name in zip(results, free, strict=False)}


def _with_numbers(label: str) -> Iterator[str]:
    """loss, loss_1, loss_2, …"""
    return itertools.chain([label], (f"{label}_{i}" for i in itertools.count(1)))


def _letters(number: int) -> str:
    """a, b, …, z, aa, ab, …: the columns of a spreadsheet."""
    name = ""
    while number >= 0:
        number, letter = divmod(number, 26)
        name = chr(ord("a") + letter) + name
        number -= 1
    return name
