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
import sys
import unicodedata
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

from funcgrad.autograd import ops
from funcgrad.files import shorten

MAX_LENGTH = 10_000  # characters
MAX_DEPTH = 100  # levels of nesting, each a few frames of Python's stack; a long sum or product is one level
Values = Mapping[str, Any]
Run = Callable[[Values], Any]


_NUMBERS = (ast.Constant, ast.Name, ast.BinOp, ast.UnaryOp)  # nodes that are never lists


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
_CONSTANTS = {"pi": math.pi, "e": math.e, "tau": math.tau, "inf": math.inf, "nan": math.nan}  # unless a variable
_OTHER_NAMES = {"ln": "log", "lg": "log10", "lb": "log2", "sgn": "sign", "tg": "tan", "arctg": "arctan"}
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
        raise ValueError(_unreadable(text, error, lead)) from None
    except (RecursionError, MemoryError):
        raise ValueError("the expression is too long, or nested too deeply") from None
    except ValueError as error:  # a NUL, or half a surrogate pair
        raise ValueError(f"the expression cannot be read: {error}") from None
    reader = _Reader(text.lstrip(), lead)
    return Expression(text, reader.variables_of(body), partial(reader.value, body))


# A number and then a name, which is no word of Python's; a function and then a name or number.
_PRODUCT = re.compile(
    r"(?<![\w.])((?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*((?!(?:if|else|and|or|in|is)\b)(?!_)[^\W\d]\w*)"
)
_CALL = re.compile(rf"\b({'|'.join(ops.__all__)})\s+((?!(?:if|else|and|or|in|is)\b)[\w.]+)")
# What other notations have, and how it is written here.
_SIGNS = {
    "²": "**2",
    "³": "**3",
    "·": "*",
    "×": "*",
    "÷": "/",
    "−": "-",
    "√": "sqrt(…)",
    "!": "factorial(…)",
    "|": "abs(…)",
}


def _unreadable(text: str, error: SyntaxError, lead: int) -> str:
    """Why Python's grammar has no such expression, with the remedy if it is a common slip."""
    if "integer string conversion" in error.msg:
        digits = max(map(len, re.findall(r"\d+", text)))
        return f"the expression has an integer of {digits:,} digits, which is too large for a float"
    for pattern, written in ((_PRODUCT, "a product is written {}*{}"), (_CALL, "a function is called as {}({})")):
        if found := pattern.search(text):
            remedy = written.format(found[1], shorten(found[2], 30))
            return f"column {found.start() + 1}: {shorten(found[0], 40)}: {remedy}"
    column = (error.offset or 0) + lead
    sign = text[column - 1 : column]
    remedy = f"; {sign} is written {_SIGNS[sign]}" if sign in _SIGNS else ""
    return f"the expression cannot be read{f' at column {column}' if column else ''}: {error.msg}{remedy}"


class _Reader(NamedTuple):
    """Checks a syntax tree, and computes its value; `lead` is the number of spaces before the text."""

    text: str
    lead: int

    def column(self, node: ast.expr) -> int:
        """Where a node starts, counted from 1 as an editor does; Python counts bytes."""
        return self.lead + len(self.text.encode()[: node.col_offset].decode()) + 1

    def excerpt(self, node: ast.expr) -> str:
        """The text of a node, shortened."""
        return shorten(self.text.encode()[node.col_offset : node.end_col_offset].decode(), 40)

    def variables_of(self, body: ast.expr) -> dict[str, int]:
        """The names in a tree and the columns of their first use. Raises ValueError for what is not allowed there."""
        variables: dict[str, int] = {}
        waiting = [(body, 0)]
        while waiting:
            node, depth = waiting.pop()
            if why := self.refusal(node, depth):
                raise ValueError(f"column {self.column(node)}: {why}")
            if isinstance(node, ast.Name):
                variables.setdefault(node.id, self.column(node))
            first = depth + (not isinstance(node, ast.BinOp))  # a long sum or product is one level
            waiting += [(part, depth + 1 if i else first) for i, part in enumerate(_parts(node))][::-1]
        return variables

    def refusal(self, node: ast.expr, depth: int) -> str:
        """Why a node is not allowed at this depth; nothing if it is."""
        if depth > MAX_DEPTH:
            return f"the expression is nested too deeply, more than {MAX_DEPTH} levels"
        excerpt = self.excerpt(node)
        match node:
            case ast.Name() | ast.IfExp() | ast.List() | ast.Tuple():
                return ""
            case ast.Constant(value=int() as value) if value > sys.float_info.max:
                return f"{excerpt} is too large for a float"
            case ast.Constant(value=value):
                return "" if isinstance(value, int | float | None) else f"{excerpt} is not a real number"
            case ast.BinOp(left=left, op=ast.BitXor(), right=right):
                return f"{excerpt}: a power is written {self.excerpt(left)}**{self.excerpt(right)}"
            case ast.BinOp(op=op) | ast.UnaryOp(op=op):
                known = type(op) in _OPERATORS
                return "" if known else f"{excerpt} has an operator that floats do not have; there are {_ALLOWED}"
            case ast.Compare(ops=ops):
                known = all(type(op) in _COMPARISONS for op in ops)
                return "" if known else f"{excerpt} is not a comparison of floats; there are < <= > >= == !="
            case ast.Subscript(slice=index):
                return f"{excerpt}: an index is a whole number" if _whole(index) is None else ""
            case ast.Call():
                return self.refusal_of_call(node)
        return f"{excerpt} is not allowed; an expression has {_ALLOWED}"

    def refusal_of_call(self, node: ast.Call) -> str:
        """Why a call is not one of a function of `ops`, with as many arguments as it takes."""
        factor = (
            self.excerpt(node.func)
            if isinstance(node.func, ast.Name | ast.Constant)
            else f"({self.excerpt(node.func)})"
        )
        listed = [self.excerpt(argument) for argument in node.args]
        product = f"a product is written {factor}*({', '.join(listed)})"
        if isinstance(node.func, ast.Constant | ast.BinOp | ast.UnaryOp | ast.Call):
            return f"{self.excerpt(node)}: {product}"
        if not isinstance(node.func, ast.Name):
            return f"{self.excerpt(node)}: a function is called by its name alone, such as sin(x)"
        name = node.func.id
        if name not in ops.__all__:
            near = [_OTHER_NAMES[name]] if name in _OTHER_NAMES else difflib.get_close_matches(name, ops.__all__, n=4)
            if near:
                return f"there is no function {name}; did you mean {' or '.join(near)}?"
            others = "there are those of autograd.ops: sin, exp, where, …"
            return f"there is no function {name}; {product if len(name) == 1 else others}"
        if not all(k.arg for k in node.keywords) or any(isinstance(arg, ast.Starred) for arg in node.args):
            return f"{self.excerpt(node)}: arguments are written one by one"
        signature = inspect.signature(getattr(ops, name))
        if "xs" in signature.parameters and node.args and isinstance(node.args[0], _NUMBERS):
            lists = [f"[{x}]" for x in listed] if "ys" in signature.parameters else [f"[{', '.join(listed)}]"]
            takes = "two lists" if "ys" in signature.parameters else "a list"
            return f"{self.excerpt(node)}: {name} takes {takes}: {name}({', '.join(lists)})"
        try:
            signature.bind(*node.args, **{str(k.arg): k.value for k in node.keywords})
        except TypeError as error:
            takes = ", ".join(str(x).split(":")[0] for x in signature.parameters.values())
            return f"{name}({takes}): {error}"
        return ""

    def value(self, node: ast.expr, values: Values) -> Any:
        """The value of a node. Every number is a float; only powers and indices read ints."""
        match node:
            case ast.Constant(value=value):
                return value if isinstance(value, bool | None) else float(value)  # type: ignore[arg-type]  # checked
            case ast.Name(id=name):
                return values[name] if name in values else _CONSTANTS[name]
            case ast.UnaryOp(op=op, operand=operand):
                return self.applied(node, _OPERATORS[type(op)], self.value(operand, values))
            case ast.BinOp():
                return self.chain(node, values)
            case ast.Compare(left=left, ops=signs, comparators=others):
                xs = [self.value(side, values) for side in (left, *others)]
                triples = zip([_COMPARISONS[type(sign)] for sign in signs], xs, xs[1:], strict=False)
                return reduce(operator.and_, [self.applied(node, _compare, *triple) for triple in triples])
            case ast.IfExp(test=test, body=then, orelse=other):  # only the side that is taken is computed
                return self.value(then if self.value(test, values) else other, values)
            case ast.List(elts=parts) | ast.Tuple(elts=parts):  # an argument of a function of sequences
                return [self.value(part, values) for part in parts]
            case ast.Subscript(value=inner, slice=at):
                return self.applied(node, _element, self.value(inner, values), _whole(at))
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords):
                named = {str(k.arg): self.value(k.value, values) for k in keywords}
                function = getattr(ops, name)
                whole = [x.annotation is int for x in inspect.signature(function).parameters.values()]  # polygamma's n
                pairs = zip(arguments, whole, strict=False)
                inputs = [_whole(x) if exact and _whole(x) is not None else self.value(x, values) for x, exact in pairs]
                return self.applied(node, partial(function, **named), *inputs)

    def chain(self, node: ast.BinOp, values: Values) -> Any:
        """A sum or product as a loop. An exponent that is an int makes a product of factors, as in Python."""
        chain = [node]
        while isinstance(left := chain[-1].left, ast.BinOp):
            chain.append(left)
        total = self.value(left, values)
        for one in reversed(chain):
            exponent = _whole(one.right) if isinstance(one.op, ast.Pow) else None
            right = self.value(one.right, values) if exponent is None else exponent
            total = self.applied(node, _OPERATORS[type(one.op)], total, right)
        return total

    def applied(self, node: ast.expr, function: Callable[..., Any], *args: Any) -> Any:
        """function(*args), with the place in its errors."""
        try:
            return function(*args)
        except (TypeError, ValueError, ArithmeticError) as error:
            message = error.args[-1] if error.args else type(error).__name__  # an OverflowError begins with errno
            raise ValueError(f"column {self.column(node)}: {self.excerpt(node)}: {message}") from error


def _parts(node: ast.expr) -> list[ast.expr]:
    """The operands of a node, from left to right."""
    match node:
        case ast.Call():
            return [*node.args, *(keyword.value for keyword in node.keywords)]
        case ast.Subscript():
            return [node.value]
    return [part for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr)]


def _element(xs: Any, index: int) -> Any:
    """One number of a list, such as softmax returns."""
    if not isinstance(xs, list) or not -len(xs) <= index < len(xs):
        what = f"a list of {len(xs)}" if isinstance(xs, list) else "a number, not a list"
        raise ValueError(f"no element {index}: this is {what}")
    return xs[index]


def _compare(function: Callable[[Any, Any], Any], x: Any, y: Any) -> Any:
    if isinstance(x, list) or isinstance(y, list):  # Python would compare element by element
        raise TypeError("only numbers are compared")
    return function(x, y)


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
