"""Running a Python function on traced floats, which record every operation as an equation.

A `Trace` is one run of one transformation. Its `Traced` floats carry their value, which may itself be traced by an
outer transformation: each nesting level records its own graph, the innermost first. A traced float behaves like a
float: it has Python's operators, and the functions in `funcgrad.autograd.ops` take it.
"""

import itertools
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, ClassVar

from funcgrad.autograd import primitives as p
from funcgrad.autograd import pytrees
from funcgrad.autograd.errors import EscapedError, not_linear
from funcgrad.autograd.graph import Primitive, Var
from funcgrad.autograd.jax_values import JaxArgument, is_jax

_levels = itertools.count()  # of nesting: a trace that starts later is deeper
_active = threading.local()


def active() -> bool:
    """Whether this thread is inside a transformation."""
    return bool(getattr(_active, "depth", 0))


@contextmanager
def recording_equations_in(kind: type[list[Any]]) -> Iterator[None]:
    """Inside, traces of this thread keep their equations in lists of this kind."""
    before, _active.kind = getattr(_active, "kind", list), kind
    try:
        yield
    finally:
        _active.kind = before


class Trace:
    """The equations that one run records; closed when the run is over.

    A trace for derivatives records only what has a derivative. With `comparisons`, for compilation, it also records
    comparisons, and each branch taken on one as a `guard`. With `plain` it records for nobody: it only makes arithmetic
    follow IEEE 754. One for the rule of a custom_jvp function, `linear_for` its name, records what the rule does with
    its tangents, and raises where that is not linear.

    A trace of forward mode that knows its directions has their `tangents`, of which equation `pushed` is the next.
    """

    __slots__ = (
        "closed",
        "comparisons",
        "custom",
        "equations",
        "level",
        "linear_for",
        "outer",
        "plain",
        "pushed",
        "size",
        "tangents",
    )
    custom_rules: ClassVar[bool] = True  # whether functions that have them are differentiated by them

    def __init__(self, comparisons: bool = False, plain: bool = False, linear_for: str = "") -> None:
        self.level = next(_levels)
        self.linear_for = linear_for
        self.custom = False  # whether a compiled function called one with a rule of its own
        self.outer = False  # whether a compiled function met a number of an outer transformation
        self.tangents: list[Any] | None = None
        self.pushed = 0
        self.comparisons = comparisons
        self.plain = plain
        self.size = 0
        # of plain tuples, which are faster to create
        self.equations: list[tuple[Primitive, tuple[Any, ...], Any]] = getattr(_active, "kind", list)()
        self.closed = False

    def __enter__(self) -> "Trace":
        _active.depth = getattr(_active, "depth", 0) + 1
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        _active.depth -= 1
        self.closed = True

    def new(self, value: Any) -> "Traced":
        """A number of this trace: an input, or the result of an equation that the caller records."""
        index = self.size  # no call between the two lines, so that threads never take the same index
        self.size = index + 1
        return Traced(self, index, value)

    def apply(self, primitive: Primitive, args: tuple[Any, ...]) -> Any:
        """Computes with the values, at the next outer level, and records the equation."""
        if self.closed:
            raise EscapedError
        if len(args) == 1 and type(x := args[0].value) is float:  # the usual case, kept fast
            value = primitive.value(x)
        else:
            values = [x.value if type(x) is Traced and x.trace is self else x for x in args]
            if Traced in map(type, values):
                value = primitive(*values)
                self.outer |= self.comparisons and any(type(x) is Traced and x.trace is not self for x in args)
            else:
                value = primitive.value(*values)
        if not (primitive.smooth or self.comparisons):
            if self.linear_for:
                raise not_linear(self.linear_for, f"it applies {primitive} to it")
            return self.new(value)  # a constant at this level, whose arithmetic still follows IEEE 754
        output = self.new(value)
        self.equations.append((primitive, args, output))
        return output

    def owns(self, x: Any) -> bool:
        """Whether x belongs to this trace; everything else is a constant at this level."""
        return isinstance(x, Traced) and x.trace is self

    def value(self, x: Any) -> Any:
        """x at the next outer level. Raises EscapedError for a number whose trace is closed, or no outer one."""
        if isinstance(x, Traced):
            if x.trace is self:
                x = x.value
            elif x.trace.level > self.level:
                raise EscapedError
            if isinstance(x, Traced) and x.trace.closed:
                raise EscapedError
        return x


class Traced(Var):
    """A float that records the operations on it. `value` is its value in this run."""

    __slots__ = ()

    def __init__(self, trace: Trace, index: int, value: Any) -> None:
        self.trace = trace
        self.index = index
        self.value = value

    def __repr__(self) -> str:
        return f"Traced({concrete(self)!r})"

    def __copy__(self) -> "Traced":
        return self  # immutable, and operations on a copy would not be recorded

    def __deepcopy__(self, memo: Any) -> "Traced":
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("a traced float cannot be pickled: its derivative would be lost")

    def __bool__(self) -> bool:
        value = self.value
        if type(value) is bool and self.trace.comparisons and not self.trace.closed:  # the usual case, kept fast
            self.trace.equations.append((p.guard, (self, value), self.trace.new(value)))
            return value
        if type(concrete(self)) is not bool:
            return bool(p.ne(self, 0.0))
        return bool(self._outcome())

    def __int__(self) -> int:
        whole = p.to_int(self)
        return int(whole._outcome() if isinstance(whole, Traced) else whole)

    def _outcome(self) -> Any:
        """The plain Python value. A trace for compilation is valid for this outcome only from here on."""
        if self.trace.closed:
            raise EscapedError
        if not self.trace.comparisons:
            return self.value._outcome() if isinstance(self.value, Traced) else self.value
        self.trace.apply(p.guard, (self, concrete(self)))
        return concrete(self)

    def __round__(self, ndigits: int | None = None) -> Any:
        if ndigits is None:
            return int(p.round_(self)) if p.lt(p.abs_(self), math.inf) else p.round_(self)
        return round_decimals(self, ndigits)

    def __floor__(self) -> int:
        return int(p.floor(self))

    def __ceil__(self) -> int:
        return int(p.ceil(self))

    def __trunc__(self) -> int:
        return int(self)

    def __float__(self) -> float:
        raise TypeError(
            "a traced float cannot be converted to a plain float: its derivative would be lost. The functions of "
            "math take plain floats only: use those of funcgrad.autograd.ops (ops.sin, ops.isclose, …) or NumPy's"
        )

    __complex__ = __index__ = __float__
    __hash__ = None  # type: ignore[assignment]

    real = property(lambda self: self)
    imag = property(lambda self: 0.0)

    def conjugate(self) -> "Traced":
        return self

    def __format__(self, spec: str) -> str:
        x: Any = self
        while spec and isinstance(x, Traced):
            if x.trace.comparisons:
                raise TypeError(f"{self!r} cannot be formatted inside jit, vmap or make_graph: it would be frozen")
            x = x.value
        return format(x, spec) if spec else repr(self)

    def __neg__(self) -> Any:
        return self.trace.apply(p.neg, (self,))

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return p.abs_(self)

    def __invert__(self) -> Any:
        return p.not_(self)


def run(fun: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """fun(*args, **kwargs), uncompiled, with IEEE 754 arithmetic: inf and nan where Python would raise."""
    leaves, tree = pytrees.flatten((args, kwargs))
    with Trace(plain=True) as trace:
        args, kwargs = pytrees.unflatten(tree, [trace.new(x) if type(x) is float else x for x in leaves])
        out = fun(*args, **kwargs)
    return pytrees.map_leaves(trace.value, out)


def concrete(x: Any) -> Any:
    """The plain float, bool or int inside all levels of tracing."""
    while isinstance(x, Traced):
        x = x.value
    return x


def number(x: Any) -> Any:
    """x as an argument of a primitive: a float, a bool, or traced. NotImplemented if x is not a number."""
    kind = type(x)
    if kind is float or kind is Traced or kind is bool:
        return x
    if kind is int:
        return float(x)
    if (numpy_kind := pytrees.numpy_kind(x)) or isinstance(x, float | int):
        return bool(x) if numpy_kind == "b" else float(x)
    return NotImplemented


def is_float(x: Any) -> bool:
    """Whether x is a float, of Python or NumPy."""
    return isinstance(x, float) or pytrees.numpy_kind(x) == "f"


def is_int(x: Any) -> bool:
    """Whether x is an int or a bool, of Python or NumPy."""
    return isinstance(x, int) or pytrees.numpy_kind(x) in ("i", "u", "b")


def remainder(x: Any, y: Any) -> Any:
    """x - floor(x / y) · y, with the sign of y, as Python's %."""
    rest = p.rem(x, y)
    wrong = p.and_(p.ne(p.lt(rest, 0.0), p.lt(y, 0.0)), p.ne(rest, 0.0))
    return p.select(wrong, p.add(rest, y), rest)


def floor_divide(x: Any, y: Any) -> Any:
    """The largest whole number that is at most x / y, as a float; its derivative is zero."""
    rest = p.rem(x, y)
    quotient = p.div(p.select(p.eq(y, 0.0), x, p.sub(x, rest)), y)
    wrong = p.and_(p.ne(rest, 0.0), p.ne(p.sign(y), p.sign(rest)))
    return p.round_(p.select(wrong, p.sub(quotient, 1.0), quotient))


def round_decimals(x: Any, decimals: int) -> Any:
    """x rounded to this number of decimals, halves to even."""
    if decimals == 0 or decimals > 308:  # every float has fewer decimals
        return p.round_(x) if decimals == 0 else x
    factor = 10.0**decimals
    return p.div(p.round_(p.mul(x, factor)), factor)


def power(x: Any, y: Any) -> Any:
    """x to the power y; a power with an int exponent is a product of x with itself."""
    return p.integer_pow(x, int(y)) if is_int(y) else p.pow(x, y)


def _operator(function: Callable[..., Any], reflected: bool, logical: bool = False) -> Callable[[Traced, Any], Any]:
    def method(self: Traced, other: Any) -> Any:
        x: Any = self
        if type(other) is not float and type(other) is not Traced:
            other = number(other)
            if other is NotImplemented:
                return NotImplemented
        if not logical:
            x, other = _bool_as_float(x), _bool_as_float(other)
        return function(other, x) if reflected else function(x, other)

    return method


def _bool_as_float(x: Any) -> Any:
    """A bool as 1.0 or 0.0, everything else unchanged: arithmetic is on floats."""
    if type(concrete(x)) is bool:
        return p.select(x, 1.0, 0.0) if isinstance(x, Traced) else float(x)
    return x


_new = object.__new__


def _arithmetic(primitive: Any, reflected: bool) -> Callable[[Traced, Any], Any]:
    """An operator that is one primitive: `_operator` with a fast path for plain floats in one trace, the usual case."""
    smooth = primitive.smooth
    general, value = _operator(primitive, reflected, logical=not smooth), primitive.value

    def method(self: Traced, other: Any) -> Any:
        trace, x = self.trace, self.value
        if type(other) is int:
            other = float(other)
        y = other.value if type(other) is Traced and other.trace is trace else other
        if type(x) is not float or type(y) is not float or trace.closed or not (smooth or trace.comparisons):
            return general(self, other)
        output: Traced = _new(Traced)  # faster than the constructor
        output.trace, output.value = trace, value(y, x) if reflected else value(x, y)
        output.index = index = trace.size  # as in `Trace.new`
        trace.size = index + 1
        trace.equations.append((primitive, (other, self) if reflected else (self, other), output))
        return output

    return method


def _power_operator(self: Traced, other: Any, modulo: None = None) -> Any:
    if modulo is not None:
        return NotImplemented
    if type(other) is int:
        return self.trace.apply(p.integer_pow, (self, other))
    if not is_int(other) and (other := number(other)) is NotImplemented:
        return NotImplemented
    return power(self, other)


_BINARY: dict[str, Callable[..., Any]] = {
    "add": p.add,
    "sub": p.sub,
    "mul": p.mul,
    "truediv": p.div,
    "mod": remainder,
    "floordiv": floor_divide,
    "divmod": lambda x, y: (floor_divide(x, y), remainder(x, y)),
    "pow": p.pow,
    "and": p.and_,
    "or": p.or_,
    "xor": p.xor,
}
for _name, _function in _BINARY.items():
    for _prefix, _reflected in (("", False), ("r", True)):
        if _function in (p.add, p.sub, p.mul, p.div):
            _method = _arithmetic(_function, _reflected)
        else:
            _method = _operator(_function, _reflected, logical=_name in ("and", "or", "xor"))
        setattr(Traced, f"__{_prefix}{_name}__", _method)
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Traced, f"__{_name}__", _arithmetic(p.TABLE[_name], reflected=False))
setattr(Traced, "__pow__", _power_operator)  # noqa: B010


def leaves_of(name: str, args: Iterable[Any]) -> tuple[list[Any], pytrees.Tree]:
    """The leaves of differentiated arguments, as floats. Raises TypeError for one that is not a float."""
    leaves, tree = pytrees.flatten(tuple(args))
    return [x if type(x) is float else differentiable(name, x) for x in leaves], tree


def differentiable(name: str, x: Any, role: str = "inputs") -> Any:
    """x as a float or traced float. Raises TypeError for anything else."""
    if type(x) is float:
        return x
    if isinstance(x, Traced) and type(concrete(x)) is float:
        if x.trace.closed and role == "inputs":
            raise EscapedError
        return x
    if is_float(x):
        return float(x)
    if is_jax(x):
        raise JaxArgument(f"{name} requires Python floats among its {role}, but got a JAX value: {x!r:.80}")
    if isinstance(x, int | Traced) or pytrees.numpy_kind(x):
        raise TypeError(
            f"{name} requires real-valued (float) {role}, but got {type(concrete(x)).__name__} {concrete(x)!r}, "
            f"which has no derivative; a float, {float(concrete(x))!r}, has one"
        )
    raise TypeError(
        f"{name} requires Python floats, nested in tuples, lists or dicts, but got {type(x).__name__}: {x!r:.80}"
        f"{pytrees.how_to_register(x)}"
    )
