"""jit: a function that compiles itself, path by path.

It is traced at the first call; later calls run the compiled Python source. A branch on a value is a condition in the
source; a call that takes another branch is traced, and its path is added.
"""

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import update_wrapper
from inspect import Parameter, signature
from operator import attrgetter
from types import MethodType
from typing import Any
from weakref import WeakSet

from funcgrad.autograd import pytrees
from funcgrad.autograd.errors import warn
from funcgrad.autograd.jax_values import is_jax, of_jax
from funcgrad.autograd.trace_graph import check_numbers
from funcgrad.autograd.tracing import Traced, active, is_float, run
from funcgrad.autograd.variants import CallForm, Variant

Function = Callable[..., Any]
MAX_ELEMENTS = 10_000  # of the arrays among the arguments: each is an input of the compiled function


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

    def __init__(
        self,
        fun: Function,
        static_argnums: int | Sequence[int],
        max_paths: int,
        static_argnames: str | Iterable[str],
        max_variants: int,
    ) -> None:
        update_wrapper(self, fun)
        self.fun = fun
        self.title = getattr(fun, "__name__", "a function")
        self.static, self.static_names = _static(fun, static_argnums, static_argnames)
        self.max_paths, self.max_variants = max_paths, max_variants
        self.options = (static_argnums, max_paths, static_argnames, max_variants)
        self.variants: OrderedDict[Any, Variant] = OrderedDict()  # the least recently used first
        self.warned: set[str] = set()
        self.lock = threading.RLock()
        self.arity = -1
        self.fast: Function = self._slow
        _INSTANCES.add(self)
        _INSTANCES.add(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != self.arity:
            return self._slow(*args, **kwargs)
        return self.fast(*args)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<compiled {getattr(self.fun, '__name__', self.fun)!s}>"

    def __reduce__(self) -> Any:
        """A copy compiles for itself; what a module holds by its name is pickled as that name."""
        name = str(getattr(self, "__qualname__", ""))
        try:
            if attrgetter(name)(sys.modules[self.__module__]) is self:
                return name
        except (AttributeError, KeyError):
            pass
        return Jitted, (self.fun, *self.options)

    @property
    def source(self) -> str:
        """The Python source compiled so far."""
        return "\n".join(variant.code.source for variant in self.variants.values() if variant.code)

    @property
    def operations(self) -> int:
        """The number of computations in the source; a function call counts as one."""
        return sum(variant.code.operations for variant in self.variants.values() if variant.code)

    def explain_cache(self) -> str:
        """A line for each compiled variant, the last used last: its arguments, its paths, and why it was compiled."""
        with self.lock:
            variants = list(self.variants.values())
        lines = [f"jit of {self.title}: variants {len(variants)} of at most {self.max_variants}"]
        for variant in variants:
            given = ", ".join(f"{name}={text}" for name, text in variant.call.described.items())
            count = f"paths {variant.paths} of at most {self.max_paths}"
            lines.append(f"  ({given:.120}): {count}; compiled because {variant.reason}")
        return "\n".join(lines)

    def warn_once(self, kind: str, message: str) -> None:
        """Warns at the line of the caller, once for each kind of message."""
        with self.lock:
            if kind in self.warned:
                return
            self.warned.add(kind)
        warn(f"jit of {self.title}: {message}")

    def _slow(self, *args: Any, **kwargs: Any) -> Any:
        """Any call: finds or compiles the variant for its arguments, or runs the function uncompiled."""
        if self.static_names and kwargs:  # a static argument may be given by its name
            bound = signature(self.fun).bind(*args, **kwargs)
            args, kwargs = bound.args, bound.kwargs
        fixed = {i % len(args): args[i] for i in self.static if -len(args) <= i < len(args)}
        named = {name: x for name, x in kwargs.items() if name in self.static_names}
        free = [None if i in fixed else x for i, x in enumerate(args)]
        keywords = {name: x for name, x in kwargs.items() if name not in named}
        leaves, tree = pytrees.flatten((tuple(free), list(keywords.values())))
        places, constants = [], []
        for i, x in enumerate(leaves):
            if type(x) is float or is_float(x):
                places.append(i)
                leaves[i] = float(x)
            elif isinstance(x, Traced):
                return self.uncompiled(*args, **kwargs)
            elif is_jax(x):
                static = {"static_argnums": self.static, "static_argnames": tuple(self.static_names)}
                return of_jax("jit")(self.fun, **static)(*args, **kwargs)
            elif isinstance(x, bool | int | str | bytes | complex) or pytrees.numpy_kind(x):
                constants.append(pytrees.exact(x))
            else:
                raise TypeError(
                    f"jit of {self.title}: arguments must be floats (ints, bools, strings) in containers, got "
                    f"{type(x).__name__}: {x!r:.80}; pass other values as static_argnums or static_argnames"
                    f"{pytrees.how_to_register(x)}"
                )
        if pytrees.has_array(tree):
            if getattr(self.fun, "compiles_arrays", False):
                return self.fun(*args, **kwargs)
            if len(leaves) > MAX_ELEMENTS:
                self.warn_once(
                    "elements",
                    f"the arrays among the arguments have {len(leaves)} elements, each of which would be an input: "
                    f"beyond {MAX_ELEMENTS} it runs uncompiled. For an elementwise function use vmap, which computes "
                    "by columns",
                )
                return self.uncompiled(*args, **kwargs)
        fixed_key = tuple([(name, *pytrees.exact(x)) for name, x in (*fixed.items(), *named.items())])
        key = (tree, tuple(keywords), tuple(constants), fixed_key)
        try:
            variant = self.variants.get(key)
        except TypeError as error:
            raise ValueError(
                f"jit of {self.title}: an argument in static_argnums or static_argnames must be hashable: {error}"
            ) from error
        if active():  # inside another transformation, which may trace what this function closes over
            return self.uncompiled(*args, **kwargs)
        if variant is None:
            call = CallForm.of(self.fun, free, keywords, {**fixed, **named}, leaves, tree, places)
            variant = self._new_variant(key, call)
        elif len(self.variants) > 1:
            with self.lock:
                if key in self.variants:
                    self.variants.move_to_end(key)
        return variant.run(*[leaves[i] for i in places])

    def uncompiled(self, *args: Any, **kwargs: Any) -> Any:
        """The value as the function itself gives it."""
        out = run(self.fun, args, kwargs)
        check_numbers(self.fun, pytrees.flatten(out)[0])
        return out

    def _new_variant(self, key: Any, call: CallForm) -> Variant:
        """Adds a variant, and drops the least recently used beyond max_variants, with one warning."""
        with self.lock:
            last = next(reversed(self.variants.values()), None)
            reason = "it was called for the first time" if last is None else call.difference(last.call)
            variant = self.variants.setdefault(key, Variant(self, call, reason))
            dropped = len(self.variants) > self.max_variants
            if dropped:
                self.variants.popitem(last=False)
        if dropped:
            self.warn_once(
                "variants",
                f"{self.max_variants} variants are compiled, and it is compiled again because {reason}; the least "
                "recently used one is dropped. Pass numbers that change from call to call as floats, or raise "
                "max_variants; explain_cache() shows the variants",
            )
        return variant


def _static(
    fun: Function, static_argnums: int | Sequence[int], static_argnames: str | Iterable[str]
) -> tuple[tuple[int, ...], frozenset[str]]:
    """The positions and the names of the static arguments; where only one kind is given, the other is inferred."""
    numbers = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)
    names = (static_argnames,) if isinstance(static_argnames, str) else tuple(static_argnames)
    try:
        parameters = list(signature(fun).parameters.values())
    except (TypeError, ValueError):  # a function without a signature
        return numbers, frozenset(names)
    kinds = [parameter.kind for parameter in parameters]
    positional = [x.name for x in parameters if x.kind in (x.POSITIONAL_ONLY, x.POSITIONAL_OR_KEYWORD)]
    count = len(positional)
    for i in numbers:
        if not -count <= i < count and Parameter.VAR_POSITIONAL not in kinds:
            raise ValueError(
                f"jit of {getattr(fun, '__name__', 'a function')}: static_argnums {i} is out of range for "
                f"{count} positional arguments"
            )
    unknown = [name for name in names if name not in {x.name for x in parameters}]
    if unknown and Parameter.VAR_KEYWORD not in kinds:
        raise ValueError(
            f"jit of {getattr(fun, '__name__', 'a function')}: static_argnames {', '.join(unknown)}: no such argument; "
            f"it takes {', '.join(x.name for x in parameters)}"
        )
    if Parameter.VAR_POSITIONAL not in kinds:
        numbers = tuple([i % count for i in numbers])
    if not names:
        names = tuple([positional[i] for i in numbers if 0 <= i < count])
    elif not numbers:
        numbers = tuple([positional.index(name) for name in names if name in positional])
    return numbers, frozenset(names)


def jit(
    fun: Function | None = None,
    /,
    static_argnums: int | Sequence[int] = (),
    max_paths: int = 10_000,
    *,
    static_argnames: str | Iterable[str] = (),
    max_variants: int = 64,
) -> Any:
    """fun, compiled to straight-line Python when it is first called. `.source` shows it.

    Floats, in any containers and arrays, are its inputs. Ints, bools and strings are constants, and so are arguments
    of any hashable type in `static_argnums` or `static_argnames`: for other values it is compiled anew, and of more
    than `max_variants` the least recently used is dropped, with one warning. Each new path through branches on values
    is compiled too, up to `max_paths` for each variant; beyond that, calls run uncompiled, with one warning.
    `.explain_cache()` says what was compiled and why. Values that the function closes over are constants, as in JAX.

    Without a function it is a decorator: `@jit(static_argnames="n")`.

    >>> from funcgrad import autograd as ag
    >>> double = ag.jit(lambda x: 2.0 * x)
    >>> double(3.0)
    6.0
    """
    if fun is None:
        return lambda fun: Jitted(fun, static_argnums, max_paths, static_argnames, max_variants)
    if not callable(fun):
        raise TypeError(f"jit: the function to compile must be callable, got {fun!r:.80}")
    return Jitted(fun, static_argnums, max_paths, static_argnames, max_variants)
