"""JAX values where floats are expected: then JAX's own function is called, so that one body runs under both systems.

JAX is never imported here: where there is a JAX value, it has been.
"""

import importlib
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary

Function = Callable[..., Any]
OURS: WeakKeyDictionary[Function, Function] = WeakKeyDictionary()  # what the functions of `or_jax_later` call first


def is_jax(x: Any) -> bool:
    """Whether x is a value of JAX, or one that it traces."""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(x, jax.Array)


def has_jax(x: Any) -> bool:
    """Whether there is a JAX value in x: in tuples, lists and dicts."""
    if isinstance(x, tuple | list):
        return any(map(has_jax, x))
    return any(map(has_jax, x.values())) if isinstance(x, dict) else is_jax(x)


def of_jax(path: str) -> Function:
    """A function of JAX by its path: "numpy.linalg.norm"."""
    module, _, name = f"jax.{path}".rpartition(".")
    function: Function = getattr(importlib.import_module(module), name)
    return function


class JaxArgument(TypeError):
    """An argument is a JAX value: this transformation is JAX's own to do."""


def or_jax(transform: Function) -> Function:
    """A transformation called with its arguments, as `jvp` is: JAX's of the same name where one is a JAX value."""

    @wraps(transform)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return transform(*args, **kwargs)
        except JaxArgument:
            if not has_jax((args, kwargs)):
                raise
        return of_jax(transform.__name__)(*args, **kwargs)

    return call


def or_jax_later(transform: Function) -> Function:
    """The same for a transformation that returns a function of the arguments, as `grad` does."""

    @wraps(transform)
    def make(fun: Function, *options: Any, **named: Any) -> Function:
        ours = transform(fun, *options, **named)

        @wraps(fun)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return ours(*args, **kwargs)
            except JaxArgument:
                if not has_jax((args, kwargs)):
                    raise
            return of_jax(transform.__name__)(fun, *options, **named)(*args, **kwargs)

        OURS[call] = ours
        return call

    return make
