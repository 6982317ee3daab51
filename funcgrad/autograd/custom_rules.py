"""Functions with custom derivatives: a user's rule replaces the derivative of the function's own operations."""

import operator
from collections.abc import Callable, Sequence
from functools import reduce, update_wrapper
from inspect import signature
from typing import Any

from funcgrad.autograd import primitives, pytrees
from funcgrad.autograd.errors import EscapedError, not_linear
from funcgrad.autograd.jax_values import is_jax, of_jax
from funcgrad.autograd.pytrees import Tree
from funcgrad.autograd.tracing import Trace, Traced, concrete, number, run
from funcgrad.autograd.transforms import Call, Recording, or_zero, pair, pull, push, tangents_at_hand

Function = Callable[..., Any]


def stop_gradient(x: Any) -> Any:
    """x, as a constant: its derivative is zero, to any order."""
    constant = lambda x: of_jax("lax.stop_gradient")(x) if is_jax(x) else primitives.stop_gradient(x)  # noqa: E731
    return pytrees.map_leaves(constant, x)


class _Custom:
    """Shared by custom_jvp and custom_vjp: the arguments, and the call at the innermost level that differentiates.

    `fixed(x)` is an argument in nondiff_argnums as the function and the rule receive it, a constant.
    `differentiated(trace, args, fixed, leaves, tree)` is the value as numbers of this trace, by the rule.
    """

    fixed: Function
    differentiated: Function
    under_jax: Function  # () -> the function with JAX's own custom rule

    def __init__(self, fun: Function, nondiff_argnums: Sequence[int] = ()) -> None:
        update_wrapper(self, fun)
        self.fun = fun
        self.name = getattr(fun, "__name__", "the function")
        self.nondiff = tuple(nondiff_argnums)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else lambda *args, **kwargs: self(instance, *args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        args = self._positional(args, kwargs)
        places = self._places(args)
        args = tuple([x if i in places else self.fixed(x) for i, x in enumerate(args)])
        leaves, tree = pytrees.flatten(tuple([args[i] for i in places]))
        leaves = [_outside(x, lambda trace: trace.plain) for x in leaves]
        for x in leaves:
            if isinstance(x, Traced):
                x.trace.custom = True
        traces = [x.trace for x in leaves if isinstance(x, Traced) and not (x.trace.comparisons or x.trace.linear_for)]
        if not traces:
            return self.under_jax()(*args) if any(map(is_jax, leaves)) else self.fun(*args)
        trace = max(traces, key=lambda trace: trace.level)
        if trace.closed:
            raise EscapedError
        if not trace.custom_rules:
            return self.fun(*args)
        constant = lambda x: _outside(x, lambda inner: inner.level >= trace.level)  # noqa: E731
        fixed = [pytrees.map_leaves(constant, args[i]) for i in self.nondiff]
        return self.differentiated(trace, args, fixed, leaves, tree)

    def _places(self, args: Sequence[Any]) -> list[int]:
        """The positions of the arguments that are not in nondiff_argnums."""
        fixed = {i % len(args) for i in self.nondiff}
        return [i for i in range(len(args)) if i not in fixed]

    def _positional(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """All arguments by position, defaults filled in. Raises TypeError for keyword-only ones."""
        try:
            bound = signature(self.fun).bind(*args, **kwargs)
        except ValueError:  # a function without a signature
            return args
        bound.apply_defaults()
        if names := ", ".join(name for name in bound.kwargs if name in kwargs):
            raise TypeError(f"{self.name}: a function with a custom rule takes no keyword-only arguments, got {names}")
        return bound.args

    def _missing(self, what: str) -> AttributeError:
        return AttributeError(f"{self.name} has no derivative rule: define one with {self.name}.{what}")


def _outside(x: Any, is_inside: Callable[[Trace], bool]) -> Any:
    """x at the first level outwards whose trace is not inside."""
    while isinstance(x, Traced) and is_inside(x.trace):
        if x.trace.closed:
            raise EscapedError
        x = x.value
    return x


def called(trace: Trace, call: Call, leaves: list[Any], values: list[Any], out_tree: Tree) -> Any:
    """Records a call whose value has these leaves, and returns it."""
    results = [trace.new(x) for x in values]
    trace.equations.append((call, tuple(leaves), tuple(results)))
    return pytrees.unflatten(out_tree, results)


class custom_jvp(_Custom):
    """A function with a custom derivative: decorate it with `@custom_jvp`, then the rule with `@f.defjvp`.

    The rule is `rule(*nondiff_args, primals, tangents) -> (value, tangent)`, the tangent linear in the tangents;
    reverse mode is its transpose. `nondiff_argnums` are positions of arguments without a derivative, such as functions.

    >>> from funcgrad import autograd as ag
    >>> @ag.custom_jvp
    ... def cube(x):
    ...     return x * x * x
    >>> @cube.defjvp
    ... def rule(primals, tangents):
    ...     (x,), (t,) = primals, tangents
    ...     return cube(x), 3 * x * x * t
    >>> ag.grad(cube)(2.0)
    12.0
    """

    jvp: Function | None = None

    def defjvp(self, jvp: Function) -> Function:
        """Sets the rule, and returns it."""
        self.jvp = jvp
        return jvp

    def under_jax(self) -> Function:
        function = of_jax("custom_jvp")(self.fun, nondiff_argnums=self.nondiff)
        if self.jvp is None:
            raise self._missing("defjvp")
        function.defjvp(self.jvp)
        return function

    def defjvps(self, *jvps: Function | None) -> None:
        """Sets a rule for each argument, `rule(tangent, value, *primals)`, whose results are added; None for zero."""

        def jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
            value = self(*primals)
            parts = [rule(t, value, *primals) for rule, t in zip(jvps, tangents, strict=True) if rule is not None]
            add = lambda total, part: pytrees.map_leaves(operator.add, total, part)  # noqa: E731
            return value, reduce(add, parts) if parts else pytrees.map_leaves(lambda _: 0.0, value)

        self.jvp = jvp

    def fixed(self, x: Any) -> Any:
        return stop_gradient(x)

    def differentiated(self, trace: Trace, args: Any, fixed: list[Any], leaves: list[Any], tree: Tree) -> Any:
        """The rule at the tangents at hand in forward mode, else recorded as a linear function of the tangents."""
        primals = [trace.value(x) for x in leaves]
        if trace.tangents is not None:
            table = tangents_at_hand(trace)
            at_hand = [or_zero(table[x.index]) if trace.owns(x) else 0.0 for x in leaves]
            values, outputs, out_tree = self._by_the_rule(fixed, primals, at_hand, tree)
            results = [trace.new(x) for x in values]
            table += [None] * (trace.size - len(table))
            for x, tangent in zip(results, outputs, strict=True):
                table[x.index] = tangent
            return pytrees.unflatten(out_tree, results)
        with Trace(linear_for=self.name) as linear:
            tangents = [linear.new(0.0) for _ in primals]
            values, outputs, out_tree = self._by_the_rule(fixed, primals, list(tangents), tree)
        _check_linear(self.name, linear, outputs)
        recording = Recording(linear, tangents, outputs, out_tree)
        return called(
            trace,
            Call(
                self.name,
                lambda given: push(recording, [or_zero(t) for t in given]),
                lambda given: pull(recording, [or_zero(ct) for ct in given]),
            ),
            leaves,
            values,
            out_tree,
        )

    def _by_the_rule(
        self, fixed: list[Any], primals: list[Any], tangents: list[Any], tree: Tree
    ) -> tuple[list[Any], list[Any], Tree]:
        """The leaves of the value and of the tangent that the rule gives, and their tree."""
        if self.jvp is None:
            raise self._missing("defjvp")
        result = run(self.jvp, (*fixed, pytrees.unflatten(tree, primals), pytrees.unflatten(tree, tangents)), {})
        value, tangent = pair(f"the jvp rule of {self.name} must return a pair (value, tangent)", result)
        values, out_tree = pytrees.flatten(value)
        outputs, its = pytrees.flatten(tangent)
        if its != out_tree:
            kinds = f"{out_tree} and {its}"
            raise TypeError(f"the jvp rule of {self.name} must return value and tangent nested alike, got {kinds}")
        return values, [number(x) for x in outputs], out_tree


def _check_linear(name: str, linear: Trace, outputs: Sequence[Any]) -> None:
    """Raises TypeError unless the outputs are linear functions of the inputs of this trace."""
    zero = lambda x: type(x) is float and x == 0.0  # noqa: E731
    for primitive, inputs, _ in linear.equations:
        parts = [linear.owns(x) for x in inputs]
        if not (
            (
                primitive.name in ("add", "sub", "neg")
                and all(own or zero(x) for own, x in zip(parts, inputs, strict=True))
            )
            or (primitive.name == "mul" and parts.count(True) == 1)
            or (primitive.name == "div" and parts == [True, False])
            or (primitive.name == "integer_pow" and inputs[1] == 1)
            or (primitive.name == "select" and not parts[0] and all(linear.owns(x) or zero(x) for x in inputs[1:]))
        ):
            described = ", ".join("tangent" if own else repr(concrete(x)) for own, x in zip(parts, inputs, strict=True))
            raise not_linear(name, f"it computes {primitive}({described})")
    for x in outputs:
        if not linear.owns(x) and not zero(x):
            raise not_linear(name, f"it gives {concrete(x)!r} whatever the tangent is")


class custom_vjp(_Custom):
    """A function with a custom reverse-mode derivative, given by two rules: `f.defvjp(fwd, bwd)`.

    `fwd` takes f's arguments and returns (value, residuals); `bwd(*nondiff_args, residuals, cotangent)` returns a
    tuple with a cotangent for each argument, None for zero. Forward mode raises TypeError.
    """

    fwd: Function | None = None
    bwd: Function | None = None

    def defvjp(self, fwd: Function, bwd: Function) -> None:
        """Sets the rules."""
        self.fwd, self.bwd = fwd, bwd

    def under_jax(self) -> Function:
        function = of_jax("custom_vjp")(self.fun, nondiff_argnums=self.nondiff)
        if self.fwd is None:
            raise self._missing("defvjp")
        function.defvjp(self.fwd, self.bwd)
        return function

    def fixed(self, x: Any) -> Any:
        for leaf in pytrees.flatten(x)[0]:
            leaf = _outside(leaf, lambda trace: trace.plain)
            if isinstance(leaf, Traced) and not leaf.trace.comparisons:
                raise TypeError(
                    f"{self.name}: an argument in nondiff_argnums of a custom_vjp function depends on a differentiated "
                    f"argument; make it an ordinary argument, for which the backward rule returns None"
                )
        return x

    def differentiated(self, trace: Trace, args: Any, fixed: list[Any], leaves: list[Any], tree: Tree) -> Any:
        if self.fwd is None or self.bwd is None:
            raise self._missing("defvjp")
        bwd, name = self.bwd, self.name
        args = pytrees.replace_at(self.nondiff, fixed, args)
        primals = pytrees.unflatten(tree, [trace.value(x) for x in leaves])
        args = pytrees.replace_at(self._places(args), primals, args)
        result = run(self.fwd, tuple(args), {})
        value, residuals = pair(f"the forward rule of {name} must return a pair (value, residuals)", result)
        values, out_tree = pytrees.flatten(value)

        def push(_: list[Any]) -> list[Any]:
            raise TypeError(f"can't apply forward-mode differentiation (jvp) to a custom_vjp function, here {name}")

        def pull(given: list[Any]) -> list[Any]:
            cotangent = pytrees.unflatten(out_tree, [or_zero(ct) for ct in given])
            cotangents = run(bwd, (*fixed, residuals, cotangent), {})
            if not isinstance(cotangents, tuple | list) or len(cotangents) != len(tree.children):
                expected = f"a tuple of {len(tree.children)} cotangents, one for each argument"
                raise TypeError(f"the backward rule of {name} must return {expected}, got {cotangents!r:.80}")
            sent: list[Any] = []
            for cotangent, child in zip(cotangents, tree.children, strict=True):
                parts, its = pytrees.flatten(cotangent)
                if cotangent is None:
                    parts, its = [0.0] * pytrees.size(child), child
                if its != child:
                    raise TypeError(f"the backward rule of {name}: a cotangent must be nested like {child}, got {its}")
                sent += parts
            return sent

        return called(trace, Call(name, push, pull), leaves, values, out_tree)
