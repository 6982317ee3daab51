"""Derivatives of functions of nested floats: each is one walk over the equations that the function recorded.

Forward mode pushes tangents through the equations in order; reverse mode pulls cotangents through them in reverse. Both
keep the tangents or cotangents in a local table and take the rules from the table of primitives. A rule is made of
primitives, so it works on floats and on floats that an outer transformation traces: derivatives nest.

Signatures and results are those of JAX's functions of the same names, with Python floats for arrays.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from funcgrad.autograd import pytrees
from funcgrad.autograd.graph import Primitive
from funcgrad.autograd.jax_values import or_jax, or_jax_later
from funcgrad.autograd.pytrees import Tree
from funcgrad.autograd.tracing import Trace, Traced, concrete, differentiable, is_int, leaves_of

Function = Callable[..., Any]


class Recording(NamedTuple):
    """A run of a function: its trace, the leaves of its inputs and outputs there, and how these are nested.

    `whole` are the positions of the outputs that are ints or bools, which have no derivative.
    """

    trace: Trace
    inputs: list[Traced]
    outputs: list[Any]
    out_tree: Tree
    aux: Any = None
    in_tree: Tree = pytrees.LEAF
    whole: frozenset[int] = frozenset()

    def tangent(self, tangents: Sequence[Any]) -> Any:
        """These tangents nested like the output; float0, as in JAX, where it is an int or a bool."""
        if self.whole:
            tangents = [_float0() if i in self.whole else t for i, t in enumerate(tangents)]
        return pytrees.unflatten(self.out_tree, tangents)

    def value(self) -> Any:
        """What the function returned, as the caller of the transformation sees it."""
        return pytrees.unflatten(self.out_tree, [self.trace.value(x) for x in self.outputs])


def _float0() -> Any:
    """The zero of the space that has no other element: JAX's tangent of what is no real number."""
    import numpy

    return numpy.zeros((), [("float0", numpy.void, 0)])


def record(
    name: str,
    fun: Function,
    leaves: Sequence[Any],
    tree: Tree,
    has_aux: bool = False,
    tangents: Sequence[Any] | None = None,
) -> Recording:
    """Runs fun on traced floats. Raises TypeError if a result is not a float.

    `tangents` of the inputs are at hand for the rules of custom_jvp functions; `push` takes the others.
    """
    with Trace() as trace:
        inputs = [trace.new(x) for x in leaves]
        trace.tangents = None if tangents is None else list(tangents)
        out = fun(*pytrees.unflatten(tree, inputs))
    aux = None
    if has_aux:
        out, aux = pair(f"{name} with has_aux=True: the function must return a pair (output, aux)", out)
        aux = pytrees.map_leaves(trace.value, aux)
    if type(out) is Traced and out.trace is trace and type(out.value) is float:  # the usual case, kept fast
        return Recording(trace, inputs, [out], pytrees.LEAF, aux, tree)
    outputs, out_tree = pytrees.flatten(out)
    for x in outputs:
        trace.value(x)  # raises if it escaped from another transformation
    whole = frozenset([i for i, x in enumerate(outputs) if name in ("jvp", "vjp", "linearize") and is_int(concrete(x))])
    outputs = [x if i in whole else differentiable(name, x, "outputs") for i, x in enumerate(outputs)]
    return Recording(trace, inputs, outputs, out_tree, aux, tree, whole)


def pair(requirement: str, x: Any) -> tuple[Any, Any]:
    """The two elements of x. Raises TypeError with this requirement if x is not a pair."""
    if not isinstance(x, tuple | list) or len(x) != 2:
        raise TypeError(f"{requirement}, got {x!r:.80}")
    return x[0], x[1]


class Derivative(NamedTuple):
    """What a function that `grad` or `value_and_grad` returned is: the gradient of `fun`, with its value or without."""

    fun: Function
    argnums: int | Sequence[int]
    with_value: bool


DERIVATIVES: WeakKeyDictionary[Function, Derivative] = WeakKeyDictionary()  # `jit` shares the code of their paths


class Call(Primitive):
    """One call of a function with a custom rule: a primitive with an output for each leaf of its value."""

    __slots__ = ("pull", "push")

    def __init__(self, name: str, push: Callable[..., list[Any]], pull: Callable[..., list[Any]]) -> None:
        super().__init__(name, lambda: None, ())
        self.push, self.pull = push, pull


def push(recording: Recording, tangents: Sequence[Any]) -> list[Any]:
    """Forward mode: the tangents of the outputs for these tangents of the inputs."""
    table = list(tangents)
    push_through(recording.trace, recording.trace.equations, table)
    return _tangents_of(recording, table)


def _tangents_of(recording: Recording, table: Sequence[Any]) -> list[Any]:
    if type(recording.trace.equations) is not list:
        recording.trace.equations.check_tangents(table)  # type: ignore[attr-defined]  # by `debug_nans`
    return [or_zero(table[x.index]) if recording.trace.owns(x) else 0.0 for x in recording.outputs]


def tangents_at_hand(trace: Trace) -> list[Any]:
    """The tangents, so far, of a trace that knows its directions."""
    table: Any = trace.tangents
    start, trace.pushed = trace.pushed, len(trace.equations)
    push_through(trace, trace.equations[start : trace.pushed], table)
    return table


def push_through(trace: Trace, equations: Sequence[Any], table: list[Any]) -> None:
    """Adds the tangents of these equations to the table."""
    table += [None] * (trace.size - len(table))  # None: zero, because it does not depend on the inputs
    for primitive, inputs, output in equations:
        given = [table[x.index] if type(x) is Traced and x.trace is trace else None for x in inputs]
        if given.count(None) == len(given):
            continue
        if type(primitive) is Call:
            for x, tangent in zip(output, primitive.push(given), strict=True):
                table[x.index] = tangent
            continue
        args = [x.value if type(x) is Traced and x.trace is trace else x for x in inputs]
        total = None
        for i, (tangent, rule) in enumerate(zip(given, primitive.rules, strict=True)):
            if tangent is None or rule is None:
                continue
            if type(tangent) is float and type(output.value) is float:  # by the compiled rules
                part = primitive.jvp(tangent, output.value, *args)[i]
            else:
                part = rule(tangent, output.value, *args)
            total = part if total is None else total + part
        table[output.index] = total


def pull(recording: Recording, cotangents: Sequence[Any]) -> list[Any]:
    """Reverse mode: the cotangents of the inputs for these cotangents of the outputs. Backpropagation is this loop."""
    trace = recording.trace
    table: list[Any] = [None] * trace.size
    for x, ct in zip(recording.outputs, cotangents, strict=True):
        if trace.owns(x):
            old = table[x.index]
            table[x.index] = ct if old is None else old + ct
    pull_through(trace, trace.equations, table)
    if type(trace.equations) is not list:
        trace.equations.check_cotangents(table)  # type: ignore[attr-defined]  # by `debug_nans`
    return [or_zero(table[x.index]) for x in recording.inputs]


def pull_through(trace: Trace, equations: Sequence[Any], table: list[Any]) -> None:
    """Adds to the table, for each number, the cotangents from its uses in these equations, the last use first."""
    for primitive, inputs, output in reversed(equations):
        if type(primitive) is Call:
            given = [table[x.index] for x in output]
            if given.count(None) == len(given):  # no output depends on it
                continue
            parts = primitive.pull(given)
        else:
            ct = table[output.index]
            if ct is None:
                continue
            # One and two arguments are unrolled: by the loop below alone `grad` takes 60 to 80 % longer (measured).
            if len(inputs) == 1:
                (x,) = inputs
                (part,) = primitive.vjp(ct, output.value, x.value)
                if part is not None:
                    old = table[x.index]
                    table[x.index] = part if old is None else old + part
                continue
            if len(inputs) == 2:
                x, y = inputs
                i = x.index if type(x) is Traced and x.trace is trace else -1
                j = y.index if type(y) is Traced and y.trace is trace else -1
                part, other = primitive.vjp(ct, output.value, x if i < 0 else x.value, y if j < 0 else y.value)
                if i >= 0 and part is not None:
                    old = table[i]
                    table[i] = part if old is None else old + part
                if j >= 0 and other is not None:
                    old = table[j]
                    table[j] = other if old is None else old + other
                continue
            parts = primitive.vjp(ct, output.value, *[trace.value(x) for x in inputs])
        for x, part in zip(inputs, parts, strict=True):
            if part is not None and trace.owns(x):
                old = table[x.index]
                table[x.index] = part if old is None else old + part


def or_zero(tangent: Any) -> Any:
    return 0.0 if tangent is None else tangent


# Reverse mode


@or_jax
def vjp(fun: Function, *primals: Any, has_aux: bool = False) -> Any:
    """The value of fun and the function that takes a cotangent of it to a tuple of cotangents of the primals.

    Returns (value, vjp_fun), with has_aux=True (value, vjp_fun, aux). `vjp_fun` may be called any number of times.
    """
    leaves, tree = leaves_of("vjp", primals)
    recording = record("vjp", fun, leaves, tree, has_aux)

    def vjp_fun(cotangent: Any) -> Any:
        cotangents, its = pytrees.flatten(cotangent)
        if its != recording.out_tree:
            raise TypeError(f"vjp: the cotangent must be nested like the output, {recording.out_tree}, got {its}")
        whole = recording.whole
        cotangents = [0.0 if i in whole else differentiable("vjp: the cotangent", x) for i, x in enumerate(cotangents)]
        return pytrees.unflatten(tree, pull(recording, cotangents))

    value = recording.value()
    return (value, vjp_fun, recording.aux) if has_aux else (value, vjp_fun)


@or_jax_later
def value_and_grad(fun: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """A function that returns fun's value and its gradient with respect to the arguments at `argnums`.

    The gradient is nested like the argument; a tuple of gradients where argnums is a sequence. With has_aux=True fun
    returns (value, aux) and this ((value, aux), gradient). Raises TypeError if such an argument or the value is not
    a float.

    >>> from funcgrad import autograd as ag
    >>> ag.value_and_grad(lambda x, y: x * y)(3.0, 4.0)
    (12.0, 4.0)
    """

    @wraps(fun)
    def value_and_grad_f(*args: Any, **kwargs: Any) -> Any:
        recording = record_call("grad", fun, argnums, has_aux, args, kwargs)
        if recording.out_tree != pytrees.LEAF:
            raise TypeError(
                f"Gradient only defined for scalar-output functions. Output was nested: {recording.out_tree}"
            )
        gradient = nested_like_arguments(recording, argnums, pull(recording, [1.0]))
        value = recording.trace.value(recording.outputs[0])
        return ((value, recording.aux), gradient) if has_aux else (value, gradient)

    if not has_aux:
        DERIVATIVES[value_and_grad_f] = Derivative(fun, argnums, with_value=True)
    return value_and_grad_f


def grad(fun: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """A function that returns the gradient of fun, by reverse mode: see `value_and_grad`. With has_aux=True
    (gradient, aux).

    >>> from funcgrad import autograd as ag
    >>> ag.grad(lambda x: x**3)(2.0)
    12.0
    """
    both = value_and_grad(fun, argnums, has_aux)

    @wraps(fun)
    def grad_f(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    if not has_aux:
        DERIVATIVES[grad_f] = Derivative(fun, argnums, with_value=False)
    return grad_f


# Forward mode


@or_jax
def linearize(fun: Function, *primals: Any, has_aux: bool = False) -> Any:
    """The value of fun and its derivative there, a linear function of tangents that may be called any number of times.

    Returns (value, jvp_fun), with has_aux=True (value, jvp_fun, aux).
    """
    leaves, tree = leaves_of("linearize", primals)
    recording = record("linearize", fun, leaves, tree, has_aux)

    def jvp_fun(*tangents: Any) -> Any:
        return recording.tangent(push(recording, _tangents("linearize", tangents, tree)))

    value = recording.value()
    return (value, jvp_fun, recording.aux) if has_aux else (value, jvp_fun)


@or_jax
def jvp(fun: Function, primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> Any:
    """The value of fun and its derivative in the direction of `tangents`: (value, tangent), or (value, tangent, aux).

    `primals` and `tangents` are tuples or lists of arguments, nested alike. Raises TypeError if they are not.

    >>> from funcgrad import autograd as ag
    >>> ag.jvp(lambda x: x * x, (3.0,), (1.0,))
    (9.0, 6.0)
    """
    if not isinstance(primals, tuple | list) or not isinstance(tangents, tuple | list):
        kinds = f"{type(primals).__name__} and {type(tangents).__name__}"
        raise TypeError(f"primal and tangent arguments to jvp must be tuples or lists, got {kinds}")
    if type(primals) is not type(tangents):
        raise TypeError(f"jvp: primals and tangents must be of one type, got {type(primals)} and {type(tangents)}")
    leaves, tree = leaves_of("jvp", primals)
    directions = _tangents("jvp", tangents, tree)
    recording = record("jvp", fun, leaves, tree, has_aux, directions)
    table = tangents_at_hand(recording.trace)
    tangent = recording.tangent(_tangents_of(recording, table))
    return (recording.value(), tangent, recording.aux) if has_aux else (recording.value(), tangent)


def hvp(fun: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """The Hessian of fun times a vector, without the Hessian: the derivative of the gradient in a direction.

    A tuple like `primals`; for a single primal its one element.
    """
    argnums = 0 if len(primals) == 1 else tuple(range(len(primals)))
    return jvp(grad(fun, argnums), primals, tangents)[1]


# Arguments


def record_call(
    name: str, fun: Function, argnums: int | Sequence[int], has_aux: bool, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Recording:
    """Records fun as a function of the arguments at argnums only. Raises TypeError for invalid argnums."""
    numbers = tuple(argnums) if isinstance(argnums, Sequence) else (argnums,)
    if not all(isinstance(i, int) or pytrees.numpy_kind(i) in ("i", "u") for i in numbers):
        raise TypeError(f"{name}: argnums must be an int or a sequence of ints, got {argnums!r}")
    count = len(args)
    for i in numbers:
        if not -count <= i < count:
            need = i + 1 if i >= 0 else -i
            raise TypeError(
                f"differentiating with respect to {argnums=} requires at least {need} positional arguments to be "
                f"passed by the caller, but got only {count} positional arguments."
            )
    places = [i % count for i in numbers]
    if len(set(places)) < len(places):
        raise TypeError(f"{name}: argnums must name each argument once, got {argnums!r}")
    leaves, tree = leaves_of(name, [args[i] for i in places])
    if not kwargs and places == list(range(count)):
        return record(name, fun, leaves, tree, has_aux)
    call = lambda *chosen: fun(*pytrees.replace_at(places, chosen, args), **kwargs)  # noqa: E731
    return record(name, call, leaves, tree, has_aux)


def nested_like_arguments(recording: Recording, argnums: int | Sequence[int], leaves: Sequence[Any]) -> Any:
    """The leaves nested like the arguments at argnums."""
    arguments = pytrees.unflatten(recording.in_tree, leaves)
    return arguments if isinstance(argnums, Sequence) else arguments[0]


def _tangents(name: str, tangents: Sequence[Any], tree: Tree) -> list[Any]:
    leaves, its = leaves_of(f"{name}: the tangents: it", tangents)
    if its != tree:
        raise TypeError(f"{name}: primals and tangents must be nested alike, got {tree} and {its}")
    return leaves
