"""vmap: the compiled paths of a function, run on NumPy columns with one lane for each example."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache, wraps
from typing import Any, NamedTuple

from funcgrad.autograd import pytrees
from funcgrad.autograd.codegen import Check, Node, Writer, build, input_names
from funcgrad.autograd.compiler import execute
from funcgrad.autograd.graph import Graph, Primitive
from funcgrad.autograd.primitives import guard
from funcgrad.autograd.pytrees import LEAF, Tree
from funcgrad.autograd.trace_graph import trace_graph
from funcgrad.autograd.tracing import Traced, active, concrete, is_float, run

Function = Callable[..., Any]
Axes = Any  # an int, None, or containers of these like the arguments
MAX_PATHS = 64


class CompiledPath(NamedTuple):
    """One path. `run` takes columns of inputs and returns the conditions of the path, as pairs (column, outcome), and
    the columns of the outputs."""

    run: Function
    out_tree: Tree


def vmap(fun: Function, in_axes: Axes = 0, out_axes: Axes = 0) -> Function:
    """fun over NumPy arrays of examples, mapped along `in_axes`; returns NumPy arrays, stacked along `out_axes`.

    fun sees one example: a float where the array has one axis, else an array (of traced floats). `None` in in_axes is
    an argument that all examples share. fun is compiled for each path that a lane takes, as by `jit`, and each path
    runs on its lanes; int lanes are constants, and so, as in `jit`, is what fun closes over. Inside a transformation,
    over traced values, the lanes run one after the other.

    Raises ValueError if the mapped axes differ in length or there are none.

    >>> import numpy as np
    >>> from funcgrad import autograd as ag
    >>> ag.vmap(ag.grad(lambda x: x * x))(np.array([1.0, 2.0, 3.0]))
    array([2., 4., 6.])
    """
    cache: dict[Any, dict[Any, CompiledPath]] = {}
    warned: list[str] = []

    @wraps(fun)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        import numpy as np

        if not isinstance(in_axes, int | tuple | list | None) or isinstance(in_axes, bool):
            raise TypeError(
                f"vmap in_axes must be an int, None, or a tuple with an entry for each argument, got {in_axes!r}"
            )
        axes = in_axes if isinstance(in_axes, tuple | list) else [in_axes] * len(args)
        if len(axes) != len(args):
            raise ValueError(
                f"vmap in_axes must have an entry for each argument: got {len(axes)} for {len(args)} arguments"
            )
        columns, tree, lanes = _columns(args, axes, kwargs)
        if not lanes:
            return _placed(_of_no_lanes(fun, tree, columns), out_axes)
        if active() or any(column.dtype == object for column in columns if isinstance(column, np.ndarray)):
            results = [run(fun, a, k) for a, k in (_lane(tree, columns, i) for i in range(lanes))]
            return _stacked(results, out_axes)
        return _joined(_run(fun, tree, columns, lanes, cache, warned), out_axes, lanes)

    mapped.compiles_arrays = True  # type: ignore[attr-defined]  # `jit` of it has nothing to add
    return mapped


def _columns(args: tuple[Any, ...], axes: Sequence[Axes], kwargs: dict[str, Any]) -> tuple[list[Any], Tree, int]:
    """One column (an array over lanes) or shared value for each leaf that fun sees; their tree; the number of lanes."""
    import numpy as np

    columns: list[Any] = []
    lengths: dict[int, str] = {}

    def walk(x: Any, axis: Axes, where: str) -> Tree:
        if axis is None or x is None:
            leaves, tree = pytrees.flatten(x)
            columns.extend([x if type(x) is float or not pytrees.numpy_kind(x) else x.item() for x in leaves])
            return tree
        is_array = not isinstance(x, Traced) and hasattr(x, "__array__") and hasattr(x, "shape")
        parts = None if is_array else pytrees.children(x)
        if parts is not None:
            below = _axes_of_children(f"in_axes for {where}", axis, x, len(parts[0]))
            kinds = [walk(child, a, f"{where}[{i}]") for i, (child, a) in enumerate(zip(parts[0], below, strict=True))]
            return Tree(type(x), parts[1], tuple(kinds))
        array = np.asarray(x) if is_array else None
        if array is None or array.ndim == 0:
            raise ValueError(
                f"vmap was requested to map {where}, which has no axis {axis}: {x!r:.80} is a single value"
            )
        if not -array.ndim <= axis < array.ndim:
            raise ValueError(f"vmap in_axes {axis} is out of bounds for {where}, an array of shape {array.shape}")
        array = np.moveaxis(array, axis, 0)
        lengths.setdefault(array.shape[0], where)
        if array.ndim == 1:
            columns.append(array)
            return LEAF
        columns.extend(np.ascontiguousarray(array.reshape(array.shape[0], int(np.prod(array.shape[1:]))).T))
        return Tree(np.ndarray, array.shape[1:], (LEAF,) * int(np.prod(array.shape[1:])))

    kinds = tuple([walk(x, axis, f"args[{i}]") for i, (x, axis) in enumerate(zip(args, axes, strict=True))])
    keywords = walk(kwargs, 0, "kwargs")
    if not lengths:
        raise ValueError(
            "vmap must have at least one array to map: every entry of in_axes is None or there are no arguments"
        )
    if len(lengths) > 1:
        sizes = ", ".join(f"{where} has {size}" for size, where in lengths.items())
        raise ValueError(f"vmap got inconsistent sizes of the axes to be mapped: {sizes}")
    return columns, Tree(tuple, None, (Tree(tuple, None, kinds), keywords)), next(iter(lengths))


def _lane(tree: Tree, columns: Sequence[Any], lane: int) -> Any:
    """The arguments of one example."""
    return pytrees.unflatten(tree, [_lane_value(column, lane) for column in columns])


def _lane_value(column: Any, lane: int) -> Any:
    if not pytrees.is_array(column):
        return column
    x = column[lane]
    return x.item() if hasattr(x, "item") else x


def _run(
    fun: Function,
    tree: Tree,
    columns: list[Any],
    lanes: int,
    cache: dict[Any, dict[Any, CompiledPath]],
    warned: list[str],
) -> list[tuple[Any, Tree, list[Any]]]:
    """For each group of lanes: which they are, how the results are nested, and the columns of the results."""
    done: list[tuple[Any, Tree, list[Any]]] = []
    for constants, chosen in _kinds(columns, lanes):
        places = [i for i in range(len(columns)) if i not in constants]
        try:
            paths = cache.setdefault((tree, tuple([(i, type(x), x) for i, x in constants.items()])), {})
        except TypeError:  # a shared argument that cannot be hashed: compiled for this call alone
            paths = {}
        inputs = [columns[i] for i in places]
        for path in paths.values():
            chosen = _take(path, inputs, chosen, done, first=False)
        while chosen.size:
            leaves = [constants.get(i, _lane_value(column, chosen[0])) for i, column in enumerate(columns)]
            graph = _traced(fun, tree, leaves, places)
            outcomes = tuple(
                [(inputs[0].index, inputs[1]) for primitive, inputs, _ in graph.equations if primitive is guard]
            )
            if outcomes not in paths:
                if len(paths) >= MAX_PATHS:
                    done += _one_by_one(fun, tree, columns, chosen, warned)
                    break
                paths[outcomes] = CompiledPath(_columnwise(graph), graph.out_tree)
            # NumPy may round otherwise than math, and find another outcome, but this lane was seen to take the path.
            chosen = _take(paths[outcomes], inputs, chosen, done, first=True)
    return done


def _take(path: CompiledPath, inputs: list[Any], chosen: Any, done: list[Any], first: bool) -> Any:
    """Runs a path on the chosen lanes, adds to `done` what comes of those that take it, and returns the others."""
    import numpy as np

    if not chosen.size:
        return chosen
    with np.errstate(all="ignore"):
        conditions, outputs = path.run(*[x[chosen] if isinstance(x, np.ndarray) else x for x in inputs])
    takes = np.ones(chosen.size, dtype=bool)
    for condition, outcome in conditions:
        takes &= condition == outcome
    takes[0] |= first
    if takes.any():
        if not takes.all():
            outputs = [x[takes] if isinstance(x, np.ndarray) and x.shape else x for x in outputs]
        done.append((chosen[takes], path.out_tree, outputs))
    return chosen[~takes]


def _one_by_one(fun: Function, tree: Tree, columns: list[Any], chosen: Any, warned: list[str]) -> list[Any]:
    """What the chosen lanes give, uncompiled; with a warning the first time."""
    import numpy as np

    if not warned:
        warned.append(f"vmap of {getattr(fun, '__name__', 'a function')}: {MAX_PATHS} paths are compiled")
        warnings.warn(f"{warned[0]}, the other lanes run one by one, uncompiled", RuntimeWarning, stacklevel=4)
    done = []
    for lane in chosen:
        args, kwargs = _lane(tree, columns, int(lane))
        outputs, out_tree = pytrees.flatten(run(fun, args, kwargs))
        done.append((np.array([lane]), out_tree, outputs))
    return done


def _kinds(columns: Sequence[Any], lanes: int) -> list[tuple[dict[int, Any], Any]]:
    """The lanes by the values of their columns that are no floats: those are constants to the compiler."""
    import numpy as np

    odd = [i for i, x in enumerate(columns) if type(x) is not float]
    shared = {i: columns[i] for i in odd if not isinstance(columns[i], np.ndarray) and not is_float(columns[i])}
    varied = [i for i in odd if isinstance(columns[i], np.ndarray) and columns[i].dtype.kind != "f"]
    if not varied:
        return [(shared, np.arange(lanes))]
    rows: dict[Any, list[int]] = {}
    for lane, row in enumerate(zip(*[columns[i].tolist() for i in varied], strict=True)):
        rows.setdefault(row, []).append(lane)
    return [({**shared, **dict(zip(varied, row, strict=True))}, np.array(chosen)) for row, chosen in rows.items()]


def _traced(fun: Function, tree: Tree, leaves: list[Any], places: list[int]) -> Graph:
    """The path that these leaves take."""
    names = [f"x{i}" for i in range(len(leaves))]
    return trace_graph(lambda args, kwargs: fun(*args, **kwargs), leaves, places, tree, names)[0]


def _columnwise(graph: Graph) -> Function:
    """The graph as a function of columns: `careful` source, with NumPy's functions for the names in it."""
    block = build([graph])
    writer = Writer(input_names(graph.names), careful=True, function_of=column_function)
    writer.count(block)
    checks = [step for step in block.steps if isinstance(step, Check)]
    nodes = [step for step in block.steps if isinstance(step, Node) and step.number in writer.uses]
    writer.write_run(nodes, "    ", [*(check.condition for check in checks), *block.outputs])
    conditions = [f"({writer.operand(check.condition)}, {check.outcome!r})" for check in checks]
    outputs = [writer.operand(x) for x in block.outputs]
    lines = [*writer.parts, f"def columns({', '.join(writer.inputs)}):", *writer.lines]
    lines.append(f"    return [{', '.join(conditions)}], [{', '.join(outputs)}]")
    return execute("\n".join(lines) + "\n", writer.names, "columns")


@cache
def _column_functions() -> dict[str, Function]:
    import numpy as np

    same = "exp exp2 expm1 log log2 log10 log1p sin cos tan sinh cosh tanh sqrt cbrt square logaddexp logaddexp2"
    same += " signbit floor ceil"
    functions: dict[str, Function] = {name: getattr(np, name) for name in same.split()}
    arcs = {
        name: getattr(np, f"arc{name[1:]}") for name in ["asin", "acos", "atan", "atan2", "asinh", "acosh", "atanh"]
    }
    return {
        **functions,
        **arcs,
        "div": np.divide,
        "pow": _column_power,
        "integer_pow": lambda x, n: np.power(x, float(n)),
        "rsqrt": lambda x: 1.0 / np.sqrt(x),
        "logistic": _column_logistic,
        "sech2": lambda x: (lambda e: 4.0 * e / ((1.0 + e) * (1.0 + e)))(np.exp(-2.0 * np.abs(x))),
        "max": _column_maximum,
        "min": lambda x, y: -_column_maximum(-x, -y),
        "share": lambda x, z, y: np.where(x == z, np.where(y == z, 0.5, 1.0), 0.0),
        "relu": lambda x: np.maximum(x, 0.0),
        "relu6": lambda x: np.minimum(np.maximum(x, 0.0), 6.0),
        "abs": np.abs,
        "select": np.where,
        "not": np.logical_not,
        "round": np.rint,
        "rem": np.fmod,
        "int": np.trunc,
    }


def _column_logistic(x: Any) -> Any:
    import numpy as np

    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


def _column_maximum(x: Any, y: Any) -> Any:
    """NumPy's maximum, but of +0 and -0 always +0."""
    import numpy as np

    return np.where(np.equal(x, 0.0) & np.equal(y, 0.0), x + y, np.maximum(x, y))


def _column_power(x: Any, y: Any) -> Any:
    """NumPy's power of columns alone: for a single exponent it may take a root, which differs at -0 and -inf."""
    import numpy as np

    x, y = np.broadcast_arrays(x, y)
    return np.power(x, y.copy())


def column_function(primitive: Primitive) -> Function:
    """The primitive on columns: NumPy's function, or its own value lane by lane."""
    import numpy as np

    known = _column_functions().get(primitive.name)
    return known if known is not None else np.vectorize(primitive.value, otypes=[float])


def _of_no_lanes(fun: Function, tree: Tree, columns: Sequence[Any]) -> Any:
    """The empty arrays that fun gives for no examples, after one that was made up."""
    import numpy as np

    made_up = [np.ones(1, x.dtype) if isinstance(x, np.ndarray) else x for x in columns]
    args, kwargs = _lane(tree, made_up, 0)
    leaves, out_tree = pytrees.flatten(run(fun, args, kwargs))
    return _nested(out_tree, iter([np.full(1, leaf)[:0] for leaf in leaves]), 0)


def _joined(done: list[tuple[Any, Tree, list[Any]]], out_axes: Axes, lanes: int) -> Any:
    """The results of all groups of lanes as arrays over the lanes."""
    import numpy as np

    tree = done[0][1]
    for _, other, _ in done:
        if other != tree:
            raise TypeError(
                f"vmap: the function must return the same containers for all examples, got {tree} and {other}"
            )
    if len(done) == 1:  # usual: all lanes take one path
        joined, seen = [], set()
        for part in done[0][2]:
            column = _lanes_of(part, lanes)
            joined.append(column.copy() if id(column) in seen else column)  # each result is an array of its own
            seen.add(id(column))
    else:
        joined = []
        for parts in zip(*[outputs for _, _, outputs in done], strict=True):
            pieces = [_lanes_of(part, len(chosen)) for part, (chosen, _, _) in zip(parts, done, strict=True)]
            column = np.empty(lanes, dtype=np.result_type(*pieces))
            for (chosen, _, _), piece in zip(done, pieces, strict=True):
                column[chosen] = piece
            joined.append(column)
    return _placed(_nested(tree, iter(joined), lanes), out_axes)


def _lanes_of(part: Any, lanes: int) -> Any:
    """An output of one group of lanes as a column of its own. Raises TypeError if it is no number."""
    import numpy as np

    if type(part) is np.ndarray and part.shape:
        return part
    column = np.full(lanes, part)
    if column.dtype.kind not in "fiub":
        raise TypeError(f"vmap: the function must return numbers, got {type(part).__name__}: {part!r:.80}")
    return column


def _nested(tree: Tree, columns: Iterator[Any], lanes: int) -> Any:
    """The columns in the containers of the result, with those of one array as one array (lanes, *shape)."""
    import numpy as np

    if tree == LEAF:
        return next(columns)
    if pytrees.is_array_kind(tree):
        inside = [next(columns) for _ in range(pytrees.size(tree))]
        return np.stack(inside, axis=1).reshape(lanes, *tree.extra) if inside else np.zeros((lanes, *tree.extra))
    return pytrees.container(tree.kind, tree.extra, [_nested(child, columns, lanes) for child in tree.children])


def _axes_of_children(what: str, axes: Axes, x: Any, count: int) -> list[Axes]:
    """The axes for each child of a container: those given for it, or the one given for all."""
    if not isinstance(axes, dict | tuple | list):
        return [axes] * count
    if isinstance(axes, dict):
        keys = pytrees.dict_keys(x) or ()
        if sorted(map(repr, axes)) != sorted(map(repr, keys)):
            raise ValueError(f"vmap {what} has the keys {list(axes)}, but it is for {list(keys) or type(x).__name__}")
        return [axes[key] for key in keys]
    if len(axes) != count:
        raise ValueError(f"vmap {what} has {len(axes)} entries, but it is for {count}")
    return list(axes)


def _placed(out: Any, axes: Axes) -> Any:
    """The arrays with their lanes along `axes` instead of 0; None is a value that all lanes share."""
    import numpy as np

    if type(axes) is int and axes == 0:
        return out
    if isinstance(out, np.ndarray):
        if not isinstance(axes, int | None):
            raise ValueError(f"vmap out_axes must be an int or None for an array, got {axes!r}")
        if axes is not None:
            return np.moveaxis(out, 0, axes)
        known = out if out.dtype != object else np.array([concrete(x) for x in out.ravel()], float).reshape(out.shape)
        if len(out) and not all(np.array_equal(x, known[0], equal_nan=known.dtype.kind == "f") for x in known[1:]):
            raise ValueError("vmap has mapped output but out_axes is None: the examples give different values")
        first = out[0] if len(out) else out
        return first.item() if isinstance(first, np.generic) else first
    parts = pytrees.children(out)
    if parts is None:
        return out
    inside = _axes_of_children("out_axes", axes, out, len(parts[0]))
    return pytrees.container(type(out), parts[1], [_placed(x, a) for x, a in zip(parts[0], inside, strict=True)])


def _stacked(results: list[Any], out_axes: Axes) -> Any:
    """The results of all lanes as arrays of objects, or of floats where none is traced."""
    flat = [pytrees.flatten(result) for result in results]
    tree = flat[0][1]
    columns = [
        pytrees.array(list(parts), (len(results),)) for parts in zip(*[leaves for leaves, _ in flat], strict=True)
    ]
    return _placed(_nested(tree, iter(columns), len(results)), out_axes)
