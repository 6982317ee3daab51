"""Nested containers of numbers as arguments and results: their leaves in a list, and how to put them back.

Tuples, lists, dicts (by sorted key), named tuples, None and registered classes are containers, as JAX's pytrees; NumPy
arrays are containers of their elements. Everything else is a leaf.
"""

import dataclasses
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple


class Tree(NamedTuple):
    """How to make a container: its type, its static data (keys, a shape), and the trees of its children.

    LEAF has no type.
    """

    kind: Any
    extra: Any
    children: tuple["Tree", ...]

    def __str__(self) -> str:
        if self.kind is None:
            return "*"
        inside = [str(child) for child in self.children]
        if self.kind in (dict, OrderedDict):
            return "{" + ", ".join(f"{key!r}: {child}" for key, child in zip(self.extra, inside, strict=True)) + "}"
        if self.kind is tuple:
            return f"({', '.join(inside)}{',' if len(inside) == 1 else ''})"
        return f"[{', '.join(inside)}]" if self.kind is list else f"{self.kind.__name__}({', '.join(inside)})"


LEAF = Tree(None, None, ())


def dict_keys(x: Any) -> tuple[Any, ...] | None:
    """The keys of a dict of Python's own types in the order of its children; None for everything else."""
    if type(x) not in (dict, OrderedDict, defaultdict):
        return None
    try:
        return tuple(x) if type(x) is OrderedDict else tuple(sorted(x))
    except TypeError as error:
        raise TypeError(f"the keys of a dict must be comparable, because they are sorted, got {list(x)}") from error


def _dict_parts(x: dict[Any, Any]) -> tuple[list[Any], Any]:
    keys: Any = dict_keys(x)
    return [x[key] for key in keys], (x.default_factory, keys) if isinstance(x, defaultdict) else keys


# For each type of container: x -> (children, extra), and (extra, children) -> x.
_CONTAINERS: dict[type, tuple[Callable[[Any], tuple[Iterable[Any], Any]], Callable[[Any, Any], Any]]] = {
    type(None): (lambda x: ((), None), lambda extra, children: None),
    tuple: (lambda x: (x, None), lambda extra, children: tuple(children)),
    list: (lambda x: (x, None), lambda extra, children: list(children)),
    dict: (_dict_parts, lambda keys, children: dict(zip(keys, children, strict=True))),
    OrderedDict: (_dict_parts, lambda keys, children: OrderedDict(zip(keys, children, strict=True))),
    defaultdict: (_dict_parts, lambda extra, children: defaultdict(extra[0], zip(extra[1], children, strict=True))),
}


def register_tree(
    cls: type, flatten: Callable[[Any], tuple[Iterable[Any], Any]], unflatten: Callable[[Any, Iterable[Any]], Any]
) -> None:
    """Makes a class a container, as `jax.tree_util.register_pytree_node` does.

    `flatten(x) -> (children, extra)`, where `extra` can be hashed and compared; `unflatten(extra, children) -> x`.
    Raises ValueError if the class is a container already.
    """
    if cls in _CONTAINERS:
        raise ValueError(f"register_tree: {cls.__name__} is registered already")
    _CONTAINERS[cls] = (flatten, unflatten)
    _may_contain.cache_clear()


def register_dataclass(
    cls: type, data_fields: Iterable[str] | None = None, meta_fields: Iterable[str] | None = None
) -> type:
    """Makes a dataclass a container of its fields, as `jax.tree_util.register_dataclass` does, and returns it.

    `data_fields` are those with numbers, by default all but `meta_fields`, which are static: hashable and compared. By
    default these are the fields whose metadata say so: `field(metadata={"static": True})`.
    Raises TypeError for another class, ValueError for other names than those of all fields that `__init__` takes.

    >>> import dataclasses
    >>> from funcgrad import autograd as ag
    >>> @ag.register_dataclass
    ... @dataclasses.dataclass
    ... class Line:
    ...     slope: float
    ...     height: float
    >>> ag.grad(lambda line: line.slope * 2.0 + line.height)(Line(3.0, 1.0))
    Line(slope=2.0, height=1.0)
    """
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise TypeError(f"register_dataclass takes a dataclass, got {cls!r:.80}")
    known = [field for field in dataclasses.fields(cls) if field.init]
    fields = [field.name for field in known]
    static = [field.name for field in known if field.metadata.get("static") and data_fields is None]
    meta = tuple(static if meta_fields is None else meta_fields)
    data = tuple(data_fields) if data_fields is not None else tuple(name for name in fields if name not in meta)
    if sorted([*data, *meta]) != sorted(fields):
        raise ValueError(
            f"register_dataclass: data_fields and meta_fields must name each field of {cls.__name__} once, "
            f"{', '.join(fields)}; got {', '.join([*data, *meta]) or 'none'}"
        )
    register_tree(
        cls,
        lambda x: ([getattr(x, name) for name in data], tuple([getattr(x, name) for name in meta])),
        lambda extra, children: cls(**dict(zip(data, children, strict=True)), **dict(zip(meta, extra, strict=True))),
    )
    return cls


def how_to_register(x: Any) -> str:
    """What makes an object that is no container one; nothing for what no class of the user's made."""
    if dataclasses.is_dataclass(x):
        return f"; ag.register_dataclass({type(x).__name__}) makes a container of it"
    return f"; ag.register_tree({type(x).__name__}, …) makes a container of it" if hasattr(x, "__dict__") else ""


def flatten(x: Any) -> tuple[list[Any], Tree]:
    """The leaves of x, in order, and the tree that puts them back."""
    if type(x) is tuple:
        for child in x:
            if type(child) is not float:
                break
        else:  # the usual case, kept fast
            return list(x), tuple_of_leaves(len(x))
    leaves: list[Any] = []
    return leaves, _flatten(x, leaves)


@lru_cache(maxsize=1024)
def tuple_of_leaves(count: int) -> Tree:
    """The tree of a tuple of this number of leaves."""
    return Tree(tuple, None, (LEAF,) * count)


def _flatten(x: Any, leaves: list[Any]) -> Tree:
    kind: Any = type(x)
    if not _may_contain(kind) or (parts := children(x)) is None:
        leaves.append(x)
        return LEAF
    inside, extra = parts
    return Tree(kind, extra, tuple([_flatten(child, leaves) for child in inside]))


@lru_cache(maxsize=1024)
def _may_contain(kind: Any) -> bool:
    """Whether an object of this type may be a container; a NumPy array is one unless it is zero-dimensional."""
    return kind in _CONTAINERS or issubclass(kind, (tuple, getattr(sys.modules.get("numpy"), "ndarray", tuple)))


def children(x: Any) -> tuple[list[Any], Any] | None:
    """The children of a container and its static data; None for a leaf."""
    kind = type(x)
    if kind in _CONTAINERS:
        inside, extra = _CONTAINERS[kind][0](x)
        return list(inside), extra
    if is_named_tuple(kind):
        return list(x), None
    if is_array(x) and x.ndim:
        return x.ravel().tolist(), x.shape
    return None


def size(tree: Tree) -> int:
    """The number of leaves."""
    return 1 if tree.kind is None else sum(map(size, tree.children))


def unflatten(tree: Tree, leaves: Iterable[Any]) -> Any:
    """The container that `tree` describes, with these leaves."""
    return tuple(leaves) if tree is tuple_of_leaves(len(tree.children)) else _unflatten(tree, iter(leaves))


def _unflatten(tree: Tree, leaves: Iterator[Any]) -> Any:
    kind, extra, inside = tree
    if kind is None:
        return next(leaves)
    return container(kind, extra, [_unflatten(child, leaves) for child in inside])


def container(kind: Any, extra: Any, children: list[Any]) -> Any:
    """The container of this type, with these static data and children."""
    if kind in _CONTAINERS:
        return _CONTAINERS[kind][1](extra, children)
    return kind(*children) if hasattr(kind, "_fields") else array(children, extra)


def is_named_tuple(kind: Any) -> bool:
    """Whether a class is a named tuple that is a container because it is a tuple."""
    return kind not in _CONTAINERS and isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


def replace_at(places: Iterable[int], replacements: Iterable[Any], xs: Iterable[Any]) -> list[Any]:
    """The list xs with these replacements at these places."""
    replaced = list(xs)
    for i, x in zip(places, replacements, strict=True):
        replaced[i] = x
    return replaced


def map_leaves(function: Callable[..., Any], x: Any, *others: Any) -> Any:
    """The containers of x with `function` of its leaves (and of the leaves of the others, nested alike)."""
    leaves, tree = flatten(x)
    columns = [leaves]
    for other in others:
        more, its = flatten(other)
        if its != tree:
            raise TypeError(f"the containers differ: {tree} and {its}")
        columns.append(more)
    return unflatten(tree, [function(*parts) for parts in zip(*columns, strict=True)])


def exact(x: Any) -> tuple[type, Any]:
    """A key for a constant that tells apart 1, 1.0 and True, 0.0 and -0.0, and that finds nan again."""
    told_by_text = isinstance(x, complex) or (isinstance(x, float) and (x != x or not x))
    return type(x), repr(x) if told_by_text else x


def is_array(x: Any) -> bool:
    """Whether x is a NumPy array; NumPy is not imported to find out."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(x, numpy.ndarray)


def numpy_kind(x: Any) -> str:
    """ "f", "i", "u" or "b": the kind of a NumPy number or zero-dimensional array; "" for everything else."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(x, numpy.generic | numpy.ndarray) or x.shape:
        return ""
    return str(x.dtype.kind) if x.dtype.kind in "fiub" else ""


def is_array_kind(tree: Tree) -> bool:
    """Whether a tree is that of a NumPy array."""
    return tree.kind is not None and tree.kind is getattr(sys.modules.get("numpy"), "ndarray", None)


@lru_cache(maxsize=1024)
def has_array(tree: Tree) -> bool:
    """Whether there is a NumPy array among the containers."""
    return tree.kind is not None and (is_array_kind(tree) or any(map(has_array, tree.children)))


def array(parts: list[Any], shape: tuple[int, ...]) -> Any:
    """A NumPy array of this shape: numeric if all parts are numbers, or arrays of one shape; of objects otherwise."""
    import numpy

    inner = {part.shape for part in parts if is_array(part)}
    if inner:
        return numpy.array(parts).reshape(shape + inner.pop())
    if all(isinstance(part, bool | int | float) for part in parts):
        return numpy.array(parts, dtype=None if parts else float).reshape(shape)
    objects = numpy.empty(len(parts), dtype=object)
    objects[:] = parts
    return objects.reshape(shape)
