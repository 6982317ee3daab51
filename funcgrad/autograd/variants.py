"""What `jit` compiles: a variant for each nesting of the arguments and each set of constants, with its paths."""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FunctionType
from typing import Any, NamedTuple

from funcgrad.autograd import pytrees
from funcgrad.autograd.compiler import CompiledFunction, Signature, checked, compile_graphs
from funcgrad.autograd.graph import Graph
from funcgrad.autograd.jax_values import OURS
from funcgrad.autograd.path_tree import PathTree, Segment
from funcgrad.autograd.pytrees import Tree
from funcgrad.autograd.trace_graph import check_numbers, leaf_names, trace_graph
from funcgrad.autograd.tracing import Traced, concrete, run
from funcgrad.autograd.transforms import DERIVATIVES

Function = Callable[..., Any]
MAX_NESTED = 16  # paths whose conditions are written in one another
MAX_EQUATIONS = 2_000_000  # of all paths in a tree


class CallForm(NamedTuple):
    """How a function was called: what is static, how the other arguments are nested, and which leaves are inputs.

    `described` has a text for each leaf and static argument; `described`, `names` and `keywords` are by name.
    """

    fun: Function
    arity: int
    keywords: tuple[str, ...]
    static: dict[Any, Any]
    leaves: list[Any]
    tree: Tree
    places: list[int]
    names: list[str]
    described: dict[str, str]

    @classmethod
    def of(
        cls,
        fun: Function,
        free: list[Any],
        keywords: dict[str, Any],
        static: dict[Any, Any],
        leaves: list[Any],
        tree: Tree,
        places: list[int],
    ) -> "CallForm":
        names = leaf_names(fun, free, keywords)
        inputs = {*places}
        described = {
            name: "float" if i in inputs else f"{type(x).__name__} {x!r:.40}"
            for i, (name, x) in enumerate(zip(names, leaves, strict=True))
        }
        parameters = leaf_names(fun, [0.0] * len(free))
        for at, x in static.items():
            described[at if isinstance(at, str) else parameters[at]] = f"static {x!r:.40}"
        return cls(fun, len(free), tuple(keywords), static, leaves, tree, places, names, described)

    def difference(self, other: "CallForm") -> str:
        """Why the code for another call does not serve this one."""
        for name, text in self.described.items():
            if name in other.described and text != other.described[name]:
                return f"{name} is {text}, not {other.described[name]}"
        return f"the arguments are nested like {self.tree.children[0]!s:.80}, not {other.tree.children[0]!s:.80}"

    def signature(self) -> tuple[Signature, bool]:
        """Of the compiled function, and whether it takes the arguments themselves and not the list of its inputs."""
        title = getattr(self.fun, "__name__", "function")
        if not self.keywords and not self.static:
            parameters = leaf_names(self.fun, [0.0] * self.arity)
            arguments = self.tree.children[0].children
            own = Signature.nested(title, parameters, arguments, self.names, self.places, self.leaves)
            if own.simple():
                return own, True
        return Signature.of(title, [self.names[i] for i in self.places]), False

    def whole(self, leaves: Sequence[Any]) -> list[Any]:
        return pytrees.replace_at(self.places, leaves, self.leaves)

    def function(self, args: Any, keyword_values: Any) -> Any:
        """The function of what is not static."""
        keywords = dict(zip(self.keywords, keyword_values, strict=True))
        keywords |= {name: x for name, x in self.static.items() if isinstance(name, str)}
        return self.fun(*[self.static.get(i, x) for i, x in enumerate(args)], **keywords)


@contextmanager
def collecting_later() -> Iterator[None]:
    """Without garbage collection, which would walk all equations again and again: half of the time of compiling."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Variant:
    """The compiled paths for one nesting of the arguments and one set of constants among them.

    A few paths are one function, with conditions in one another; more than MAX_NESTED are a tree (see `path_tree`).
    """

    def __init__(self, owner: Any, call: CallForm, reason: str) -> None:
        self.owner, self.call, self.reason = owner, call, reason
        self.graphs: list[Graph] = []
        self.tree: PathTree | None = None
        self.derivative = DERIVATIVES.get(OURS.get(call.fun, call.fun)) if isinstance(call.fun, FunctionType) else None
        self.signature, self.direct = call.signature()
        self.code: CompiledFunction | PathTree | None = None
        self.function: Function = self.trace  # of the arguments if `direct`, else of the leaves

    @property
    def paths(self) -> int:
        return len(self.graphs) if self.tree is None else self.tree.paths

    def run(self, *leaves: float) -> Any:
        """The value at these leaves: by compiled code, or by tracing if their path is not compiled yet."""
        if self.code is None:
            return self.trace(*leaves)
        if not self.direct:
            return self.function(*leaves)
        return self.function(*pytrees.unflatten(self.call.tree, self.call.whole(leaves))[0])

    def trace(self, *leaves: float, numbers: Sequence[Any] = ()) -> Any:
        """Traces and compiles the path of these leaves. Beyond max_paths it runs uncompiled, with one warning."""
        owner, call = self.owner, self.call
        if self.paths >= owner.max_paths or (self.tree is not None and self.tree.equations > MAX_EQUATIONS):
            owner.warn_once(
                "paths",
                f"{self.paths} paths are compiled, the others run uncompiled; raise max_paths, or branch less on "
                "values (ops.where)",
            )
            return self.uncompiled(leaves)
        with owner.lock, collecting_later():
            if self.tree is None and len(self.graphs) >= MAX_NESTED:
                self._grow_tree()
            if self.tree is not None:
                return self._trace_in_tree(self.tree, leaves, numbers)
            graph, value = self._traced(call, leaves)
            if graph.closes_over:  # numbers of an outer transformation, of another thread: valid for this call alone
                return value
            self.graphs = [*(other for other in self.graphs if _agree(other, graph)), graph]
            compiled = compile_graphs(self.graphs, self.signature, self.trace, owner._slow)
            self._use(compiled, compiled.function)
        return value

    def uncompiled(self, leaves: Sequence[float]) -> Any:
        """The value as the function itself gives it."""
        out = run(self.call.function, pytrees.unflatten(self.call.tree, self.call.whole(leaves)), {})
        check_numbers(self.call.fun, pytrees.flatten(out)[0])
        return out

    def _traced(self, call: CallForm, leaves: Sequence[float]) -> tuple[Graph, Any]:
        graph, value = trace_graph(call.function, call.whole(leaves), call.places, call.tree, call.names)
        for x in graph.inputs:
            x.trace.equations = []  # so that the graph is in no cycle, and is freed without garbage collection
        return graph, value

    def _use(self, code: CompiledFunction | PathTree, function: Function) -> None:
        self.code, self.function = code, function
        if self.direct:
            self.owner.arity, self.owner.fast = len(self.signature.parameters), function

    def _grow_tree(self) -> None:
        """From here on the paths are a tree: of the function itself, or of the one whose gradient it is."""
        self.tree = PathTree()
        if self.derivative is None:
            for graph in self.graphs:
                self.tree.add(graph)
        function = checked(self.signature, self._through_tree, self.owner._slow) if self.direct else self._through_tree
        self._use(self.tree, function)

    def _trace_in_tree(self, tree: PathTree, leaves: Sequence[float], numbers: Sequence[Any]) -> Any:
        """Adds the path of these leaves to the tree."""
        call = self.call if self.derivative is None else self.call._replace(fun=self.derivative.fun)
        graph, _ = self._traced(call, leaves)
        if self.derivative is not None and not _is_scalar(graph):
            self.derivative = None
            self._grow_tree()
            assert self.tree is not None
            return self._trace_in_tree(self.tree, leaves, ())
        if graph.closes_over:
            return self.uncompiled(leaves)
        end = tree.add(graph, numbers)
        return self._result(tree, [*leaves, *(output.value for _, _, output in graph.equations)], end)

    def _through_tree(self, *leaves: float) -> Any:
        assert self.tree is not None
        numbers, end = self.tree.run(leaves)
        return self.trace(*leaves, numbers=numbers) if end is None else self._result(self.tree, numbers, end)

    def _result(self, tree: PathTree, numbers: list[Any], end: Segment) -> Any:
        """What the function returns at the end of a path that was found in the tree."""
        if self.derivative is None:
            return tree.value(numbers, end)
        argnums = self.derivative.argnums
        every = tree.gradient(numbers, end, len(self.call.places))
        arguments = pytrees.unflatten(self.call.tree, self.call.whole(every))[0]
        gradient = tuple([arguments[i] for i in argnums]) if isinstance(argnums, Sequence) else arguments[argnums]
        return (tree.value(numbers, end), gradient) if self.derivative.with_value else gradient


def _is_scalar(graph: Graph) -> bool:
    """Whether the gradient of a function is that of the equations of this graph: a float, without a rule of its own."""
    return graph.out_tree == pytrees.LEAF and type(concrete(graph.outputs[0])) is float and not graph.has_custom_rules


def _agree(one: Graph, other: Graph) -> bool:
    """Whether two paths have the same equations up to a condition with different outcomes.

    If not, a value that the function closes over has changed in between, and the earlier path is out of date.
    """
    for (p, xs, _), (q, ys, _) in zip(one.equations, other.equations, strict=False):
        if p.name == q.name == "guard" and xs[0].index == ys[0].index and xs[1] != ys[1]:
            return True
        if p is not q or [*map(_operand, xs)] != [*map(_operand, ys)]:
            return False
    return False


def _operand(x: Any) -> int | str:
    return x.index if isinstance(x, Traced) else repr(x)
