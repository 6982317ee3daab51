"""Matrices of derivatives: a pass for each output, or for each input."""

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any

from funcgrad.autograd import pytrees
from funcgrad.autograd.jax_values import or_jax_later
from funcgrad.autograd.pytrees import Tree
from funcgrad.autograd.transforms import Recording, nested_like_arguments, pull, push, record_call

Function = Callable[..., Any]


@or_jax_later
def jacrev(fun: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """A function that returns the Jacobian of fun, one backward pass for each output: best for few outputs.

    It is nested like the output, and in it each leaf is nested like the argument (or a tuple, for a sequence of
    argnums).
    """

    @wraps(fun)
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        recording = record_call("jacrev", fun, argnums, has_aux, args, kwargs)
        result = _jacobian(recording, argnums, [pull(recording, one) for one in _basis(len(recording.outputs))])
        return (result, recording.aux) if has_aux else result

    return jacobian


@or_jax_later
def jacfwd(fun: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """A function that returns the Jacobian of fun, one forward pass for each input; it is nested as by `jacrev`."""

    @wraps(fun)
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        recording = record_call("jacfwd", fun, argnums, has_aux, args, kwargs)
        columns = [push(recording, one) for one in _basis(len(recording.inputs))]
        rows = zip(*columns, strict=True) if columns else [()] * len(recording.outputs)
        result = _jacobian(recording, argnums, rows)
        return (result, recording.aux) if has_aux else result

    return jacobian


def hessian(fun: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """A function that returns the matrix of second derivatives of fun, forward over reverse mode."""
    return jacfwd(jacrev(fun, argnums, has_aux), argnums, has_aux)


def _jacobian(recording: Recording, argnums: int | Sequence[int], rows: Iterable[Sequence[Any]]) -> Any:
    """The rows nested like the output."""
    (argument, *_) = recording.in_tree.children or (pytrees.LEAF,)

    def of_rows(tree: Tree) -> Tree:  # an array without rows does not show their shape
        if pytrees.is_array_kind(tree) and not tree.children and pytrees.is_array_kind(argument):
            return tree._replace(extra=tree.extra + argument.extra)
        return tree._replace(children=tuple(map(of_rows, tree.children)))

    nested = [nested_like_arguments(recording, argnums, row) for row in rows]
    return pytrees.unflatten(recording.out_tree if nested else of_rows(recording.out_tree), nested)


def _basis(size: int) -> list[list[float]]:
    return [[float(i == j) for j in range(size)] for i in range(size)]
