"""vmap: the compiled paths of a function, run on NumPy columns with one lane for each example."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from functools import wraps
from typing import Any, NamedTuple

from funcgrad.autograd import pytrees
from funcgrad.autograd.codegen import Check, Node, Writer, build, input_names
from funcgrad.autograd.columns import column_function
from funcgrad.autograd.compiler import execute
from funcgrad.autograd.errors import warn
from funcgrad.autograd.fixed_ints import FixedInt
from funcgrad.autograd.graph import Graph
from funcgrad.autograd.jax_values import has_jax, of_jax
from funcgrad.autograd.primitives import guard
from funcgrad.autograd.pytrees import LEAF, Tree
from funcgrad.autograd.trace_graph import trace_graph
from funcgrad.autograd.tracing import Traced, active, concrete, is_float, run

Function = Callable[..., Any]
Axes = Any  # an int, None, or containers of these like the arguments
MAX_PATHS = 64


class CompiledPath(NamedTuple):
    """One path: `run(*columns)` gives its conditions, as pairs (column, required outcome), and the output columns."""

    run: Function
    out_tree: Tree


class Group(NamedTuple):
    """The results of some lanes: which lanes, the tree of the result, and its leaves: columns, or one value for all."""

    lanes: Any
    out_tree: Tree
    outputs: list[Any]


def vmap(fun: Function, in_axes: Axes = 0, out_axes: Axes = 0, *, axis_size: int | None = None) -> Function:
    """fun over NumPy arrays of examples, mapped along `in_axes`; returns NumPy arrays, stacked along `out_axes`.

    fun sees one example: a float where the array has one axis, else an array (of traced floats). `None` in in_axes is
    an argument that all examples share; `axis_size` is the number of examples where no argument says it. fun is
    compiled for each path that a lane takes, as by `jit`, and each path runs on its lanes. Lanes of ints and bools are
    constants (ints wrap around like those of their dtype, and ~ of a bool is logical), and so, as in `jit`, is what fun
    closes over. Inside a transformation, over traced values, the lanes run one after the other.

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
        if has_jax((args, kwargs)):
            return of_jax("vmap")(fun, in_axes, out_axes, axis_size=axis_size)(*args, **kwargs)
        if not isinstance(in_axes, int | tuple | list | None) or isinstance(in_axes, bool):
            raise TypeError(
                f"vmap in_axes must be an int, None, or a tuple with one for each argument, got {in_axes!r}"
            )
        axes = in_axes if isinstance(in_axes, tuple | list) else [in_axes] * len(args)
        if len(axes) != len(args):
            raise ValueError(f"vmap in_axes must have an entry for each argument: got {len(axes)} for {len(args)}")
        if axis_size is not None and (not isinstance(axis_size, int) or axis_size < 0):
            raise TypeError(f"vmap axis_size must be None or an int of at least 0, got {axis_size!r}")
        columns, tree, lanes = _columns(args, axes, kwargs, axis_size)
        if not lanes:
            return _placed(_of_no_lanes(fun, tree, columns), out_axes, "the output")
        if active() or any(pytrees.is_array(column) and column.dtype == object for column in columns):
            groups = _one_by_one(fun, tree, columns, range(lanes))
        else:
            groups = _groups(fun, tree, columns, lanes, cache, warned)
        return _placed(_joined(groups, lanes), out_axes, "the output")

    mapped.compiles_arrays = True  # type: ignore[attr-defined]  # `jit` of it does not compile again
    return mapped


def _columns(
    args: tuple[Any, ...], axes: Sequence[Axes], kwargs: dict[str, Any], axis_size: int | None
) -> tuple[list[Any], Tree, int]:
    """One column (an array over lanes) or shared value for each leaf that fun sees; their tree; the number of lanes."""
    import numpy as np

    columns: list[Any] = []
    lengths: dict[int, str] = {} if axis_size is None else {axis_size: "the argument axis_size"}

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
            "vmap must have at least one array to map, or be given axis_size: every entry of in_axes is None or there "
            "are no arguments"
        )
    if len(lengths) > 1:
        sizes = ", ".join(f"{where} has {size}" for size, where in lengths.items())
        raise ValueError(f"vmap got inconsistent sizes of the axes to be mapped: {sizes}")
    return columns, Tree(tuple, None, (Tree(tuple, None, kinds), keywords)), next(iter(lengths))


def _lane_value(column: Any, lane: int) -> Any:
    if not pytrees.is_array(column):
        return column
    x = column[lane]
    kind = column.dtype.kind
    return FixedInt(x, column.dtype) if kind in "iu" else x if kind == "b" or not hasattr(x, "item") else x.item()


def _groups(
    fun: Function,
    tree: Tree,
    columns: list[Any],
    lanes: int,
    cache: dict[Any, dict[Any, CompiledPath]],
    warned: list[str],
) -> list[Group]:
    """The results of all lanes, by compiled paths; a path that no lane has taken before is compiled."""
    done: list[Group] = []
    kinds = tuple([x.dtype.char if pytrees.is_array(x) else "" for x in columns])
    for constants, chosen in _by_constants(columns, lanes):
        places = [i for i in range(len(columns)) if i not in constants]
        try:
            paths = cache.setdefault((tree, kinds, tuple([(i, *pytrees.exact(x)) for i, x in constants.items()])), {})
        except TypeError:  # a shared argument that cannot be hashed: compiled for this call alone
            paths = {}
        inputs = [columns[i] for i in places]
        for path in paths.values():
            taken, chosen = _take(path, inputs, chosen, first=False)
            done += taken
        while chosen.size:
            leaves = [constants.get(i, _lane_value(column, chosen[0])) for i, column in enumerate(columns)]
            names = [f"x{i}" for i in range(len(leaves))]
            graph, _ = trace_graph(lambda args, kwargs: fun(*args, **kwargs), leaves, places, tree, names)
            if graph.closes_over:
                done += _one_by_one(fun, tree, columns, chosen)
                break
            outcomes = tuple([(xs[0].index, xs[1]) for primitive, xs, _ in graph.equations if primitive is guard])
            if outcomes not in paths:
                if len(paths) >= MAX_PATHS:
                    if not warned:
                        name = getattr(fun, "__name__", "a function")
                        warned.append(f"vmap of {name}: {MAX_PATHS} paths are compiled, other lanes run one by one")
                        warn(warned[0])
                    done += _one_by_one(fun, tree, columns, chosen)
                    break
                paths[outcomes] = CompiledPath(_columnwise(graph), graph.out_tree)
            # NumPy may round differently than math and find another outcome, but this lane did take the path.
            taken, chosen = _take(paths[outcomes], inputs, chosen, first=True)
            done += taken
    return done


def _take(path: CompiledPath, inputs: list[Any], chosen: Any, first: bool) -> tuple[list[Group], Any]:
    """Runs a path on the chosen lanes. Returns the group of those that take it, if there are any, and the others.

    `first` states that the first of them does take it.
    """
    import numpy as np

    if not chosen.size:
        return [], chosen
    with np.errstate(all="ignore"):
        columns = [x[chosen] if isinstance(x, np.ndarray) and len(x) > chosen.size else x for x in inputs]
        conditions, outputs = path.run(*columns)
    takes = np.ones(chosen.size, dtype=bool)
    for condition, outcome in conditions:
        takes &= condition == outcome
    takes[0] |= first
    if not takes.all():
        outputs = [x[takes] if isinstance(x, np.ndarray) and x.shape else x for x in outputs]
    return [Group(chosen[takes], path.out_tree, outputs)] if takes.any() else [], chosen[~takes]


def _one_by_one(fun: Function, tree: Tree, columns: Sequence[Any], chosen: Iterable[int]) -> list[Group]:
    """The results of the chosen lanes, uncompiled."""
    done = []
    for lane in chosen:
        args, kwargs = pytrees.unflatten(tree, [_lane_value(column, lane) for column in columns])
        outputs, out_tree = pytrees.flatten(run(fun, args, kwargs))
        done.append(Group([lane], out_tree, outputs))
    return done


def _by_constants(columns: Sequence[Any], lanes: int) -> list[tuple[dict[int, Any], Any]]:
    """The lanes grouped by the values of their columns that are not floats: the compiler's constants."""
    import numpy as np

    odd = [i for i, x in enumerate(columns) if type(x) is not float]
    shared = {i: columns[i] for i in odd if not isinstance(columns[i], np.ndarray) and not is_float(columns[i])}
    varied = [i for i in odd if isinstance(columns[i], np.ndarray) and columns[i].dtype.kind != "f"]
    if not varied:
        return [(shared, np.arange(lanes))]
    keys = [columns[i].tolist() for i in varied]
    keys = [
        list(map(pytrees.exact, key)) if columns[i].dtype.kind == "c" else key
        for i, key in zip(varied, keys, strict=True)
    ]
    rows: dict[Any, list[int]] = {}
    for lane, row in enumerate(zip(*keys, strict=True)):
        rows.setdefault(row, []).append(lane)
    return [
        ({**shared, **{i: _lane_value(columns[i], chosen[0]) for i in varied}}, np.array(chosen))
        for chosen in rows.values()
    ]


def _columnwise(graph: Graph) -> Function:
    """The graph as a function of columns: the source calls NumPy's functions."""
    block = build([graph])
    writer = Writer(input_names(graph.names), column_function)
    writer.count(block)
    checks = [step for step in block.steps if isinstance(step, Check)]
    nodes = [step for step in block.steps if isinstance(step, Node) and step.number in writer.uses]
    writer.write_nodes(nodes, "    ", [*(check.condition for check in checks), *block.outputs])
    conditions = [f"({writer.operand(check.condition)}, {check.outcome!r})" for check in checks]
    outputs: list[str] = []
    seen = {*writer.inputs}
    for text in map(writer.operand, block.outputs):
        outputs.append(f"copy({text})" if text in seen else text)  # results share no memory with others or arguments
        seen.add(text)
    lines = [*writer.parts, f"def columns({', '.join(writer.inputs)}):", *writer.lines]
    lines.append(f"    return [{', '.join(conditions)}], [{', '.join(outputs)}]")
    return execute("\n".join(lines) + "\n", {**writer.names, "copy": copy}, "columns")


def _of_no_lanes(fun: Function, tree: Tree, columns: Sequence[Any]) -> Any:
    """The empty arrays that fun gives for no examples, by the result for an example of ones."""
    import numpy as np

    ones = [np.ones(1, x.dtype) if isinstance(x, np.ndarray) else x for x in columns]
    (group,) = _one_by_one(fun, tree, ones, [0])
    return _nested(group.out_tree, iter([_column(leaf, 0) for leaf in group.outputs]), 0)


def _joined(groups: list[Group], lanes: int) -> Any:
    """The results of all groups as arrays over the lanes."""
    import numpy as np

    tree = groups[0].out_tree
    for group in groups:
        if group.out_tree != tree:
            kinds = f"{tree} and {group.out_tree}"
            raise TypeError(f"vmap: the function must return the same containers for all examples, got {kinds}")
    if len(groups) == 1:  # the usual case: all lanes take one path
        return _nested(tree, iter([_column(output, lanes) for output in groups[0].outputs]), lanes)
    joined = []
    for parts in zip(*[group.outputs for group in groups], strict=True):
        pieces = [_column(part, len(group.lanes)) for part, group in zip(parts, groups, strict=True)]
        column = np.empty(lanes, dtype=np.result_type(*pieces))
        for group, piece in zip(groups, pieces, strict=True):
            column[group.lanes] = piece
        joined.append(column)
    return _nested(tree, iter(joined), lanes)


def _column(output: Any, lanes: int) -> Any:
    """An output of a group of lanes as a column of its own. Raises TypeError if it is not numeric."""
    import numpy as np

    dtype = output.dtype if isinstance(output, FixedInt) else None
    column = output if pytrees.is_array(output) and output.shape else np.full(lanes, output, dtype)
    if column.dtype.kind not in "fiub" and not isinstance(output, Traced):
        raise TypeError(f"vmap: the function must return numbers, got {type(output).__name__}: {output!r:.80}")
    return column


def _nested(tree: Tree, columns: Iterator[Any], lanes: int) -> Any:
    """The columns in the containers of the result, those of an array stacked to (lanes, *shape)."""
    import numpy as np

    if tree == LEAF:
        return next(columns)
    if pytrees.is_array_kind(tree):
        inside = [next(columns) for _ in range(pytrees.size(tree))]
        return np.stack(inside, axis=1).reshape(lanes, *tree.extra) if inside else np.zeros((lanes, *tree.extra))
    return pytrees.container(tree.kind, tree.extra, [_nested(child, columns, lanes) for child in tree.children])


def _axes_of_children(what: str, axes: Axes, x: Any, count: int) -> list[Axes]:
    """The axes for each child of a container: one for each, or one for all."""
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


def _placed(out: Any, axes: Axes, where: str) -> Any:
    """The arrays with their lanes along `axes` instead of 0; with None, the value that all lanes share."""
    import numpy as np

    if type(axes) is int and axes == 0:
        return out
    if isinstance(out, np.ndarray):
        if not isinstance(axes, int | None) or isinstance(axes, bool):
            kind = TypeError if isinstance(axes, str | float | bool) else ValueError
            raise kind(f"vmap out_axes must be an int or None for {where}, which is an array, got {axes!r}")
        if axes is not None and not -out.ndim <= axes < out.ndim:
            raise ValueError(f"vmap out_axes {axes} is out of bounds for {where}, an array of shape {out.shape}")
        if axes is not None:
            return np.moveaxis(out, 0, axes)
        known = out if out.dtype != object else np.array([concrete(x) for x in out.ravel()], float).reshape(out.shape)
        if len(out) and not all(np.array_equal(x, known[0], equal_nan=known.dtype.kind == "f") for x in known[1:]):
            raise ValueError(
                f"vmap has mapped output but out_axes is None for {where}: the examples give different values"
            )
        first = out[0] if len(out) else out
        return first.item() if isinstance(first, np.generic) else first
    parts = pytrees.children(out)
    if parts is None:
        return out
    inside = _axes_of_children(f"out_axes for {where}", axes, out, len(parts[0]))
    placed = [_placed(x, a, f"{where}[{i}]") for i, (x, a) in enumerate(zip(parts[0], inside, strict=True))]
    return pytrees.container(type(out), parts[1], placed)
