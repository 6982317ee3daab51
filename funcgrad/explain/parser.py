"""An expression that a user typed, as a function of its variables.

It is parsed with Python's grammar but never evaluated by Python: each kind of node that is allowed becomes a function
of `autograd.ops`, all others are refused.
"""

import ast
import difflib
import inspect
import math
import operator
import re
import unicodedata
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, NamedTuple, NoReturn

from funcgrad.autograd import ops
from funcgrad.files import shorten

MAX_LENGTH = 10_000  # characters
MAX_DEPTH = 100  # levels of nesting, each a few frames of Python's stack; a long sum or product is one level
Values = Mapping[str, Any]
Run = Callable[[Values], Any]


class Expression(NamedTuple):
    """A parsed expression: the variables in it, by the columns of their first use, and its value for given ones."""

    text: str
    variables: dict[str, int]
    run: Run


# Parsing

_OPERATORS: dict[type, Callable[..., Any]] = {
    **{ast.Add: ops.add, ast.Sub: ops.subtract, ast.Mult: ops.multiply, ast.Div: ops.divide},
    **{ast.FloorDiv: ops.floor_divide, ast.Mod: ops.remainder, ast.Pow: ops.power},
    **{ast.USub: ops.negative, ast.UAdd: ops.positive},
}
_COMPARISONS: dict[type, Callable[[Any, Any], Any]] = {
    **{ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge},
    **{ast.Eq: operator.eq, ast.NotEq: operator.ne},
}
_CONSTANTS = {"pi": math.pi, "inf": math.inf, "nan": math.nan}  # unless a variable has the name
_ALLOWED = "numbers, variables, + - * / // % **, comparisons, `x if c else y`, lists and the functions of autograd.ops"


def parse(text: str) -> Expression:
    """Parses an expression. Raises ValueError, with the column, for what is not allowed in one.

    >>> parse("a*b + max([a, 1])").run({"a": 2.0, "b": 3.0})
    8.0
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"the expression is too long: {len(text):,} characters, of at most {MAX_LENGTH:,}")
    text = re.sub(r"\s", " ", text).rstrip()
    lead = len(text) - len(text.lstrip())
    if not text:
        raise ValueError("the expression is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SyntaxWarning, such as for `1if x else 2`
            body = ast.parse(text.lstrip(), mode="eval").body
    except SyntaxError as error:
        place = f" at column {error.offset + lead}" if error.offset else ""
        raise ValueError(f"the expression cannot be read{place}: {error.msg}") from None
    except (RecursionError, MemoryError):
        raise ValueError("the expression is too long, or nested too deeply") from None
    except ValueError as error:  # a NUL, or half a surrogate pair
        raise ValueError(f"the expression cannot be read: {error}") from None
    parser = _Parser(text.lstrip(), lead, {})
    return Expression(text, parser.variables, parser.run_of(body, 0))


@dataclass(frozen=True)
class _Parser:
    """Turns nodes of the syntax tree into functions of the variables' values; `variables` is filled as they are met.

    The method for a kind of node is called visit_KIND, as in `ast.NodeVisitor`; others are not allowed.
    """

    text: str
    lead: int
    variables: dict[str, int]

    def column(self, node: ast.expr) -> int:
        """Where a node starts, counted from 1 as an editor does; Python counts bytes."""
        return self.lead + len(self.text.encode()[: node.col_offset].decode()) + 1

    def refuse(self, node: ast.expr, why: str) -> NoReturn:
        """Raises ValueError with the place of a node."""
        raise ValueError(f"column {self.column(node)}: {why}")

    def excerpt(self, node: ast.expr) -> str:
        """The text of a node, shortened."""
        return shorten(self.text.encode()[node.col_offset : node.end_col_offset].decode(), 40)

    def run_of(self, node: ast.expr, depth: int) -> Run:
        """The function of the variables' values that a node stands for."""
        if depth > MAX_DEPTH:
            self.refuse(node, f"the expression is nested too deeply, more than {MAX_DEPTH} levels")
        make = getattr(self, f"visit_{type(node).__name__}", None)
        if make is None:
            self.refuse(node, f"{self.excerpt(node)} is not allowed; an expression has {_ALLOWED}")
        run: Run = make(node, depth + 1)
        return run

    def function_of(self, node: ast.BinOp | ast.UnaryOp) -> Callable[..., Any]:
        """The function of an operator."""
        if (function := _OPERATORS.get(type(node.op))) is None:
            self.refuse(node, f"{self.excerpt(node)} has an operator that floats do not have; there are {_ALLOWED}")
        return function

    def visit_Constant(self, node: ast.Constant, _: int) -> Run:
        """Every number is a float; only powers and indices read ints."""
        value = node.value
        if isinstance(value, bool) or value is None:
            return lambda values: value
        if not isinstance(value, int | float):
            self.refuse(node, f"{self.excerpt(node)} is not a real number")
        try:
            real = float(value)
        except OverflowError:
            self.refuse(node, f"{self.excerpt(node)} is too large for a float")
        return lambda values: real

    def visit_Name(self, node: ast.Name, _: int) -> Run:
        """A variable, or a constant of that name."""
        name = node.id
        self.variables.setdefault(name, self.column(node))
        return lambda values: values[name] if name in values else _CONSTANTS[name]

    def visit_BinOp(self, node: ast.BinOp, depth: int) -> Run:
        """Operators; a long sum or product is a loop. An exponent that is an int makes a product, as in Python."""
        chain = [node]
        while isinstance(left := chain[-1].left, ast.BinOp):
            chain.append(left)
        start = self.run_of(left, depth)
        steps: list[tuple[Callable[..., Any], Run]] = []
        for one in reversed(chain):
            function, exponent = self.function_of(one), _whole(one.right) if isinstance(one.op, ast.Pow) else None
            steps.append((function, self.run_of(one.right, depth) if exponent is None else _always(exponent)))

        def run(values: Values) -> Any:
            total = start(values)
            for function, right in steps:
                total = self.applied(node, function, total, right(values))
            return total

        return run

    def visit_UnaryOp(self, node: ast.UnaryOp, depth: int) -> Run:
        """A sign."""
        function, inner = self.function_of(node), self.run_of(node.operand, depth)
        return lambda values: self.applied(node, function, inner(values))

    def visit_Compare(self, node: ast.Compare, depth: int) -> Run:
        """One comparison, or a chain of them: all must hold."""
        functions = [_COMPARISONS[type(op)] for op in node.ops if type(op) in _COMPARISONS]
        sides = [self.run_of(side, depth) for side in (node.left, *node.comparators)]
        if len(functions) < len(node.ops):
            self.refuse(node, f"{self.excerpt(node)} is not a comparison of floats; there are < <= > >= == !=")

        def run(values: Values) -> Any:
            xs = [side(values) for side in sides]
            pairs = zip(functions, xs, xs[1:], strict=False)
            return reduce(operator.and_, [self.applied(node, _compare, *pair) for pair in pairs])

        return run

    def visit_IfExp(self, node: ast.IfExp, depth: int) -> Run:
        """`x if c else y`: only the side that is taken is computed."""
        test, then, other = (self.run_of(part, depth) for part in (node.test, node.body, node.orelse))
        return lambda values: then(values) if test(values) else other(values)

    def visit_List(self, node: ast.List | ast.Tuple, depth: int) -> Run:
        """A list or a tuple, as an argument of a function of sequences."""
        parts = [self.run_of(part, depth) for part in node.elts]
        return lambda values: [part(values) for part in parts]

    visit_Tuple = visit_List

    def visit_Subscript(self, node: ast.Subscript, depth: int) -> Run:
        """One number of a list, such as softmax returns."""
        index = _whole(node.slice)
        if index is None:
            self.refuse(node, f"{self.excerpt(node)}: an index is a whole number")
        inner = self.run_of(node.value, depth)

        def run(values: Values) -> Any:
            xs = inner(values)
            if not isinstance(xs, list) or not -len(xs) <= index < len(xs):
                what = f"a list of {len(xs)}" if isinstance(xs, list) else "a number, not a list"
                raise ValueError(f"column {self.column(node)}: no element {index}: this is {what}")
            return xs[index]

        return run

    def visit_Call(self, node: ast.Call, depth: int) -> Run:
        """A function of `ops`, with as many arguments as it takes."""
        if not isinstance(node.func, ast.Name):
            self.refuse(node, f"{self.excerpt(node)}: a function is called by its name alone, such as sin(x)")
        name = node.func.id
        if name not in ops.__all__:
            near = difflib.get_close_matches(name, ops.__all__, n=4)
            others = "there are those of autograd.ops: sin, exp, where, …"
            hint = f"did you mean {' or '.join(near)}?" if near else others
            self.refuse(node, f"there is no function {name}; {hint}")
        function = getattr(ops, name)
        keywords = {keyword.arg: self.run_of(keyword.value, depth) for keyword in node.keywords if keyword.arg}
        if len(keywords) < len(node.keywords) or any(isinstance(arg, ast.Starred) for arg in node.args):
            self.refuse(node, f"{self.excerpt(node)}: arguments are written one by one")
        parts = [self.run_of(arg, depth) for arg in node.args]
        signature = inspect.signature(function)
        try:
            signature.bind(*parts, **keywords)
        except TypeError as error:
            takes = ", ".join(str(x).split(":")[0] for x in signature.parameters.values())
            self.refuse(node, f"{name}({takes}): {error}")

        def run(values: Values) -> Any:
            named = {key: value(values) for key, value in keywords.items()}
            return self.applied(node, partial(function, **named), *[part(values) for part in parts])

        return run

    def applied(self, node: ast.expr, function: Callable[..., Any], *args: Any) -> Any:
        """function(*args), with the place in its errors."""
        try:
            return function(*args)
        except (TypeError, ValueError, ArithmeticError) as error:
            message = error.args[-1] if error.args else type(error).__name__  # an OverflowError begins with errno
            raise ValueError(f"column {self.column(node)}: {self.excerpt(node)}: {message}") from error


def _compare(function: Callable[[Any, Any], Any], x: Any, y: Any) -> Any:
    if isinstance(x, list) or isinstance(y, list):  # Python would compare element by element
        raise TypeError("only numbers are compared")
    return function(x, y)


def _always(value: Any) -> Run:
    return lambda values: value


def _whole(node: ast.expr) -> int | None:
    """The int literal that a node is, with its sign; None for anything else."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _whole(node.operand) if isinstance(node.operand, ast.Constant) else None
        return None if inner is None else -inner
    exact = isinstance(node, ast.Constant) and type(node.value) is int and node.value < 2**53
    return node.value if exact else None  # type: ignore[attr-defined]


def assigned(pairs: Sequence[str], expression: Expression) -> dict[str, float]:
    """The values of "name=value" pairs. Raises ValueError unless each variable of the expression has just one."""
    values: dict[str, float] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = unicodedata.normalize("NFKC", name.strip())  # as Python normalizes identifiers
        if not equals or not name.isidentifier():
            raise ValueError(f"a variable is given as name=value, such as x=1.5, got {pair!r}")
        if name in values:
            raise ValueError(f"{name} is given twice")
        try:
            values[name] = float(text)
        except ValueError:
            raise ValueError(f"{name}: {text!r} is not a number") from None
    missing = [name for name in expression.variables if name not in values and name not in _CONSTANTS]
    if missing:
        given = " ".join(f"{name}=…" for name in missing)
        function = next((name for name in missing if name in ops.__all__), None)
        hint = f" ({function} is a function: {function}(…))" if function else ""
        where = f"column {expression.variables[missing[0]]}: no value for {', '.join(missing)}"
        raise ValueError(f"{where}; add {given}{hint}")
    if unused := [name for name in values if name not in expression.variables]:
        needed = [name for name in expression.variables if name not in _CONSTANTS]
        has = f"its variables are {', '.join(needed)}" if needed else "it has no variables"
        raise ValueError(f"{', '.join(unused)}: not in the expression; {has}")
    return values
