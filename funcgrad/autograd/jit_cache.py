"""jit: a function that compiles itself, path by path.

It is traced at the first call; later calls run the compiled Python source. A branch on a value is a condition in the
source; a call that takes another branch is traced, and its path is added.
"""

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import update_wrapper
from inspect import Parameter, signature
from types import MethodType
from typing import Any
from weakref import WeakSet

from funcgrad.autograd import pytrees
from funcgrad.autograd.compiler import CompiledFunction, Signature, compile_graphs
from funcgrad.autograd.graph import Graph
from funcgrad.autograd.jax_values import is_jax, of_jax
from funcgrad.autograd.pytrees import Tree
from funcgrad.autograd.trace_graph import leaf_names, trace_graph
from funcgrad.autograd.tracing import Traced, active, is_float, run

Function = Callable[..., Any]


_INSTANCES: "WeakSet[Jitted]" = WeakSet()


@contextmanager
def uncompiled(on: bool = True) -> Iterator[None]:
    """Inside a transformation with this, compiled functions find that they are inside one: they run uncompiled."""
    arities = [(compiled, compiled.arity) for compiled in _INSTANCES if on]
    for compiled, _ in arities:
        compiled.arity = -1
    try:
        yield
    finally:
        for compiled, arity in arities:
            compiled.arity = arity


class Jitted:
    """A function that compiles itself, path by path. Its cache of paths is the only mutable state here."""

    def __init__(self, fun: Function, static_argnums: int | Sequence[int], max_paths: int) -> None:
        update_wrapper(self, fun)
        self.fun = fun
        self.static = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)
        self.max_paths = max_paths
        self.variants: dict[Any, _Variant] = {}
        self.paths = 0
        self.warned = False
        self.lock = threading.RLock()
        self.arity = -1
        self.fast: Function = self._slow
        _INSTANCES.add(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != self.arity:
            return self._slow(*args, **kwargs)
        return self.fast(*args)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<compiled {getattr(self.fun, '__name__', self.fun)!s}>"

    @property
    def source(self) -> str:
        """The Python source compiled so far."""
        return "\n".join(variant.compiled.source for variant in self.variants.values() if variant.compiled)

    @property
    def operations(self) -> int:
        """The number of computations in the source; a function call counts as one."""
        return sum(variant.compiled.operations for variant in self.variants.values() if variant.compiled)

    def _slow(self, *args: Any, **kwargs: Any) -> Any:
        """Any call: finds or compiles the variant for its arguments, or runs the function uncompiled."""
        if self.static and kwargs:  # a static argument may be given by its name
            bound = signature(self.fun).bind(*args, **kwargs)
            args, kwargs = bound.args, bound.kwargs
        static = [i % len(args) for i in self.static if -len(args) <= i < len(args)]
        if len(static) < len(self.static):  # the others have defaults
            self._check_static(len(args))
        free = tuple(None if i in static else x for i, x in enumerate(args))
        leaves, tree = pytrees.flatten((free, list(kwargs.values())))
        places, constants = [], []
        for i, x in enumerate(leaves):
            if type(x) is float or is_float(x):
                places.append(i)
                leaves[i] = float(x)
            elif isinstance(x, Traced):
                return run(self.fun, args, kwargs)
            elif is_jax(x):
                return of_jax("jit")(self.fun, static_argnums=self.static)(*args, **kwargs)
            elif isinstance(x, bool | int | str | bytes | complex) or pytrees.numpy_kind(x):
                constants.append((type(x), x))
            else:
                raise TypeError(
                    f"jit of {getattr(self.fun, '__name__', 'a function')}: arguments must be floats (ints, bools, "
                    f"strings) in containers, got {type(x).__name__}: {x!r:.80}; pass other values as static_argnums"
                    f"{pytrees.how_to_register(x)}"
                )
        if pytrees.has_array(
            tree
        ):  # only `vmap` compiles for arrays: an input for each element would be a long program
            if getattr(self.fun, "compiles_arrays", False):
                return self.fun(*args, **kwargs)
            return run(self.fun, args, kwargs)
        key = (tree, tuple(kwargs), tuple(constants), tuple((type(args[i]), args[i]) for i in static))
        try:
            variant = self.variants.get(key)
        except TypeError as error:
            raise ValueError(f"jit of {self!r}: an argument in static_argnums must be hashable: {error}") from error
        if active():  # inside another transformation, which may trace what this function closes over
            return run(self.fun, args, kwargs)
        if variant is None:
            with self.lock:
                variant = self.variants.setdefault(key, _Variant(self, args, kwargs, static, leaves, tree, places))
        return variant.run(*[leaves[i] for i in places])

    def _check_static(self, given: int) -> None:
        """Raises ValueError for a static argument that the function does not have."""
        kinds = [parameter.kind for parameter in signature(self.fun).parameters.values()]
        count = sum(kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD) for kind in kinds)
        for i in self.static:
            if not -count <= i < count and Parameter.VAR_POSITIONAL not in kinds:
                raise ValueError(
                    f"jit of {self!r}: static_argnums {i} is out of range for {given} positional arguments"
                )


class _Variant:
    """The compiled paths for one nesting of the arguments and one set of constants among them."""

    def __init__(
        self, owner: Jitted, args: Any, kwargs: Any, static: list[int], leaves: list[Any], tree: Tree, places: list[int]
    ) -> None:
        self.owner = owner
        self.static = {i: args[i] for i in static}
        self.tree, self.places, self.leaves = tree, places, leaves
        self.graphs: list[Graph] = []
        self.compiled: CompiledFunction | None = None
        free = [None if i in static else x for i, x in enumerate(args)]
        self.keywords = tuple(kwargs)
        self.names = leaf_names(owner.fun, free, kwargs)
        title = getattr(owner.fun, "__name__", "function")
        parameters = leaf_names(owner.fun, [0.0] * len(args))
        arguments = tree.children[0].children
        self.signature = Signature.nested(title, parameters, arguments, self.names, places, leaves)
        self.direct = not kwargs and not static and self.signature.simple()
        if not self.direct:
            self.signature = Signature.of(title, [self.names[i] for i in places])

    def run(self, *leaves: float) -> Any:
        """The value at these leaves: by compiled code, or by tracing if their path is not compiled yet."""
        if self.compiled is None:
            return self.trace(*leaves)
        if not self.direct:
            return self.compiled.function(*leaves)
        return self.compiled.function(*pytrees.unflatten(self.tree, self.whole(leaves))[0])

    def whole(self, leaves: Sequence[Any]) -> list[Any]:
        return pytrees.replace_at(self.places, leaves, self.leaves)

    def function(self, args: Any, keyword_values: Any) -> Any:
        """The owner's function, with the static arguments filled in."""
        keywords = zip(self.keywords, keyword_values, strict=True)
        return self.owner.fun(*[self.static.get(i, x) for i, x in enumerate(args)], **dict(keywords))

    def trace(self, *leaves: float) -> Any:
        """Traces and compiles the path of these leaves. Beyond max_paths it runs uncompiled, with one warning."""
        owner = self.owner
        if owner.paths >= owner.max_paths:
            with owner.lock:
                if not owner.warned:
                    owner.warned = True
                    name = getattr(owner.fun, "__name__", "a function")
                    advice = "the others run uncompiled; raise max_paths, or branch less on values (ops.where)"
                    warnings.warn(
                        f"jit of {name}: {owner.max_paths} paths are compiled, {advice}", RuntimeWarning, stacklevel=4
                    )
            return run(self.function, pytrees.unflatten(self.tree, self.whole(leaves)), {})
        with owner.lock:
            graph, value = trace_graph(self.function, self.whole(leaves), self.places, self.tree, self.names)
            self.graphs = [*(other for other in self.graphs if _agree(other, graph)), graph]
            owner.paths += 1
            self.compiled = compile_graphs(self.graphs, self.signature, self.trace, owner._slow)
            if self.direct:
                owner.arity, owner.fast = len(self.signature.parameters), self.compiled.function
        return value


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


def jit(fun: Function, static_argnums: int | Sequence[int] = (), max_paths: int = 64) -> Jitted:
    """fun, compiled to straight-line Python when it is first called. `.source` shows it.

    Floats, in any containers, are its inputs. Ints, bools and strings are constants: other values are compiled anew.
    So is each new path through branches on values, up to `max_paths` in all; beyond that, calls run uncompiled, with
    one warning. Values that the function closes over are constants, as in JAX.

    >>> from funcgrad import autograd as ag
    >>> double = ag.jit(lambda x: 2.0 * x)
    >>> double(3.0)
    6.0
    """
    return Jitted(fun, static_argnums, max_paths)
