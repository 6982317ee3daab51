"""Taylor mode: many derivatives along a curve at once, by arithmetic on truncated power series.

Where the arguments of a function move along curves, x(s) = x₀ + x₁·s + x₂·s² + …, its value does too. Series are added
term by term, multiplied by convolution, and divided so that the product gives back the numerator. All else follows from
the table of primitives: for y = p(x) the rule says y′ = rule(x′, y, x), an equation between series; as the terms of y′
up to sᵏ⁻¹ give those of y up to sᵏ, each follows from those before it. (Griewank and Walther, "Evaluating Derivatives",
2008, chapter 13; as streams: McIlroy, "Power series, power serious", 1999.)

The work for K derivatives nested in each other grows like 2ᴷ, here like K².
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from funcgrad.autograd import primitives as p
from funcgrad.autograd import pytrees
from funcgrad.autograd.graph import Primitive, Var
from funcgrad.autograd.jax_values import has_jax, of_jax
from funcgrad.autograd.tracing import Trace, concrete, differentiable, is_int

Function = Callable[..., Any]


class Series(Var):
    """A power series. `following(k)` computes coefficient k from the ones before it, when it is first asked for."""

    __slots__ = ("following", "known")

    def __init__(self, trace: Trace, known: list[Any], following: Callable[[int], Any]) -> None:
        self.trace, self.known, self.following = trace, known, following

    def __getitem__(self, k: int) -> Any:
        while len(self.known) <= k:
            self.known.append(self.following(len(self.known)))
        return self.known[k]


def coefficient(x: Any, k: int) -> Any:
    """That of sᵏ in a series; everything else is a constant, whose coefficients are 0 but for the first."""
    return x[k] if isinstance(x, Series) else x if k == 0 else 0.0


class RuleTrace(Trace):
    """Where one equation is carried out, by the rule of its primitive: what the rule computes of series are series.

    The same primitive of the same arguments is one series: sin and cos, each of which is in the rule of the other, are
    two series, not one for each order.
    """

    __slots__ = ("made",)

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[Any, tuple[Any, Any]] = {}

    def apply(self, primitive: Primitive, args: tuple[Any, ...]) -> Any:
        known = self.made.get(_key(primitive, args))
        return known[0] if known else self.add(primitive, args, primitive(*[coefficient(x, 0) for x in args]))

    def add(self, primitive: Primitive, args: tuple[Any, ...], value: Any) -> Any:
        """The primitive of these arguments as a series, whose first coefficient is `value`; a constant as it is."""
        if not primitive.smooth:
            return value
        made = Series(self, [value], lambda k: 0.0)
        following = ARITHMETIC.get(primitive)
        made.following = self.integral(primitive, made, args) if following is None else partial(following, made, *args)
        self.made[_key(primitive, args)] = made, args  # with the arguments, whose ids must stay theirs
        return made

    def integral(self, primitive: Primitive, made: Series, args: tuple[Any, ...]) -> Callable[[int], Any]:
        """The coefficients of the series whose derivative is the sum of what the primitive's rules give."""
        slopes: list[Any] = []

        def following(k: int) -> Any:
            if k == 1:  # not before, as each rule may call primitives whose rules call primitives …
                for x, rule in zip(args, primitive.rules, strict=True):
                    if isinstance(x, Series) and rule is not None:
                        velocity = Series(self, [], lambda j, x=x: (j + 1) * x[j + 1])  # type: ignore[misc]
                        slopes.append(rule(velocity, made, *args))
            return _sum([coefficient(slope, k - 1) for slope in slopes]) / k

        return following


def _key(primitive: Primitive, args: tuple[Any, ...]) -> Any:
    return primitive.name, *[id(x) if isinstance(x, Var) else repr(x) for x in args]


def _sum(terms: Sequence[Any]) -> Any:
    return sum(terms[1:], terms[0]) if terms else 0.0  # the 0 with which `sum` begins would be an operation more


def _product(made: Series, x: Any, y: Any, k: int) -> Any:
    if isinstance(x, Series) and isinstance(y, Series):
        return _sum([x[j] * y[k - j] for j in range(k + 1)])
    return x[k] * y if isinstance(x, Series) else x * y[k]


def _quotient(made: Series, x: Any, y: Any, k: int) -> Any:
    if not isinstance(y, Series):
        return p.div(x[k], y)
    return p.div(coefficient(x, k) - _sum([made[j] * y[k - j] for j in range(k)]), y[0])


# Of what series are made by arithmetic: coefficient k of the result, from the result so far and the arguments
ARITHMETIC: dict[Primitive, Callable[..., Any]] = {
    p.add: lambda made, x, y, k: coefficient(x, k) + coefficient(y, k),
    p.sub: lambda made, x, y, k: coefficient(x, k) - coefficient(y, k),
    p.neg: lambda made, x, k: -x[k],
    p.mul: _product,
    p.div: _quotient,
    p.select: lambda made, condition, x, y, k: p.select(condition, coefficient(x, k), coefficient(y, k)),
}


class CurveTrace(Trace):
    """The run of the function itself. One with a custom rule is differentiated by its own operations, as in JAX."""

    __slots__ = ()
    custom_rules = False

    def along(self, curves: Sequence[list[Any]], order: int) -> dict[int, list[Any]]:
        """The coefficients up to this order of all that depends on the inputs, which move along these curves."""
        table = dict(enumerate(curves))
        for primitive, inputs, output in self.equations:
            rules = RuleTrace()
            args = [
                Series(rules, table[x.index], lambda k: 0.0) if self.owns(x) and x.index in table else self.value(x)
                for x in inputs
            ]
            made = rules.add(primitive, tuple(args), output.value)
            if isinstance(made, Series) and any(isinstance(x, Series) for x in args):
                table[output.index] = [made[k] for k in range(order + 1)]
        return table


def jet(
    fun: Function, primals: Sequence[Any], series: Sequence[Sequence[Any]], factorial_scaled: bool = True
) -> tuple[Any, Any]:
    """The value of fun and its derivatives along a curve, with the signature of `jax.experimental.jet.jet`.

    Argument i moves along a curve that starts at the float `primals[i]`; its derivatives there, of the first order, the
    second, …, are `series[i]`. Returns the value, and nested like it for each of its floats a list with as many
    derivatives along the curve. With factorial_scaled=False the terms that come and go are the coefficients of the
    Taylor series, the derivatives over k!.

    Raises ValueError where the series differ in length or are not as many as the primals, TypeError for what is no
    float.

    >>> from funcgrad import autograd as ag
    >>> ag.jet(lambda x: x * x * x, (2.0,), ((1.0, 0.0, 0.0),))
    (8.0, [12.0, 12.0, 6.0])
    """
    if has_jax((primals, series)):
        found: tuple[Any, Any] = of_jax("experimental.jet.jet")(fun, primals, series, factorial_scaled)
        return found
    lengths = [len(terms) for terms in series]
    if len(set(lengths)) != 1 or len(lengths) != len(primals):
        raise ValueError(
            f"jet takes a series for each primal, all with the same number of terms, got {len(primals)} primals and "
            f"series of {lengths} terms"
        )
    order = lengths[0]
    scale = [math.prod(map(float, range(1, k + 1))) if factorial_scaled else 1.0 for k in range(order + 1)]
    curves = [
        [_number(x), *[p.div(_number(term), scale[k]) for k, term in enumerate(terms, 1)]]
        for x, terms in zip(primals, series, strict=True)
    ]
    trace = CurveTrace()
    with trace:
        out = fun(*[trace.new(curve[0]) for curve in curves])
    outputs, out_tree = pytrees.flatten(out)
    outputs = [x if is_int(concrete(x)) else differentiable("jet", x, "outputs") for x in outputs]
    table = trace.along(curves, order)
    terms = [table.get(x.index, []) if trace.owns(x) else [] for x in outputs]
    derivatives = [[c * scale[k] for k, c in enumerate(known)][1:] or [0.0] * order for known in terms]
    value = pytrees.unflatten(out_tree, [trace.value(x) for x in outputs])
    return value, pytrees.unflatten(out_tree, derivatives)


def _number(x: Any) -> Any:
    """A primal or a term as a float, also where an int was given. Raises TypeError for containers and the like."""
    return float(x) if type(x) is int else differentiable("jet", x)
