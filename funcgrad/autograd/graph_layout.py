"""Where the boxes of a graph's picture go, and the curves between them, so that a drawing needs no other program.

A layered layout (Sugiyama, Tagawa and Toda, 1981) in its simplest form: a box is in the column after that of its last
source, inputs and constants in the one before their first user; an edge that passes columns keeps a lane free in each;
within a column all are in the order in which a walk from the outputs meets them, without crossings in a tree; then
they move towards their neighbours as far as that order allows.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

SPACE = 14.0  # between boxes of one column
STEM = 10.0  # from a circle to its box
RADIUS = 13.0  # of the circles
MARGIN = 20.0
LANE = 6.0  # the height of an edge that passes a column
SWEEPS = 12  # in which heights are aligned, to the right and to the left in turn
MAX_ITEMS = 100_000  # boxes, and columns that edges pass


class BoxSize(NamedTuple):
    """The width and height of a box, and the width of the circle at the left of it, 0 for none."""

    width: float
    height: float
    circle: float


class Layout(NamedTuple):
    """The picture: for each box its left edge and the height of its middle; its circle ends a STEM to the left.

    `paths` are the curves, as SVG has them, and `heads` the points where arrows end.
    """

    width: float
    height: float
    boxes: list[tuple[float, float]]
    paths: list[str]
    heads: list[tuple[float, float]]


class Edge(NamedTuple):
    """From an item of one column to one of the next; `port` is its place among the arguments of that, from 0 to 1."""

    source: int
    target: int
    port: float


class Columns(NamedTuple):
    """The items of each column, from top to bottom, and the edges from each column to the next.

    An item is a box, or in the columns that an edge of this box passes the edge: both have the box's number.
    """

    items: list[list[int]]
    edges: list[list[Edge]]


def layout(sizes: Sequence[BoxSize], sources: Sequence[Sequence[int]]) -> Layout:
    """Lays out boxes that are listed after their sources.

    Raises ValueError if they are too many: the edges of a deep graph may pass very many columns.
    """
    column = _column_of_each(sources)
    columns = _columns(column, sources)
    heights = [
        {item: sizes[item].height if column[item] == at else LANE for item in items}
        for at, items in enumerate(columns.items)
    ]
    return _drawn(sizes, column, columns, _aligned(columns, heights))


def _column_of_each(sources: Sequence[Sequence[int]]) -> list[int]:
    """The length of the longest path to each box; for one without sources the last column before its users."""
    column: list[int] = []
    first_user: dict[int, int] = {}
    for operands in sources:
        column.append(max((column[source] + 1 for source in operands), default=0))
        for source in operands:
            first_user[source] = min(column[-1], first_user.get(source, column[-1]))
    return [first_user[box] - 1 if box in first_user and not sources[box] else at for box, at in enumerate(column)]


def _columns(column: Sequence[int], sources: Sequence[Sequence[int]]) -> Columns:
    depth = max(column, default=-1) + 1
    last = list(column)  # the last column that an edge of this box passes
    for box, operands in enumerate(sources):
        for source in operands:
            last[source] = max(last[source], column[box] - 1)
    if sum(last) - sum(column) + len(column) > MAX_ITEMS:
        raise ValueError(
            f"a graph of {len(column):,} numbers in {depth:,} columns is too large to lay out; use to_dot or to_text"
        )
    columns = Columns([[] for _ in range(depth)], [[] for _ in range(depth)])
    for box in _walk(sources):
        for at in range(column[box], last[box] + 1):
            columns.items[at].append(box)
            if at < last[box]:
                columns.edges[at].append(Edge(box, box, 0.5))
        for argument, source in enumerate(sources[box]):
            columns.edges[column[box] - 1].append(Edge(source, box, (argument + 0.5) / len(sources[box])))
    return columns


def _walk(sources: Sequence[Sequence[int]]) -> list[int]:
    """The boxes in the order in which a depth-first walk from the last ones to their sources meets them."""
    used = {source for operands in sources for source in operands}
    waiting = [box for box in reversed(range(len(sources))) if box not in used]
    met: dict[int, None] = {}
    while waiting:
        box = waiting.pop()
        if box not in met:
            met[box] = None
            waiting += reversed(sources[box])
    return list(met)


# Heights


def _aligned(columns: Columns, heights: Sequence[dict[int, float]]) -> list[dict[int, float]]:
    """The middle of each item: near those of its neighbours, at distances that keep the items apart."""
    neighbors: dict[tuple[int, int], list[tuple[int, int, float]]] = defaultdict(list)
    for at, edges in enumerate(columns.edges):
        for source, target, port in edges:
            shift = (0.5 - port) * RADIUS
            neighbors[at + 1, target].append((at, source, shift))
            neighbors[at, source].append((at + 1, target, -shift))
    middle: list[dict[int, float]] = [{} for _ in heights]
    for sweep in range(SWEEPS):
        for at in range(len(heights)) if sweep % 2 == 0 else reversed(range(len(heights))):
            wanted = []
            for item in columns.items[at]:
                near = [middle[i][other] + shift for i, other, shift in neighbors[at, item] if middle[i]]
                wanted.append(sum(near) / len(near) if near else middle[at].get(item, 0.0))
            middle[at] = _apart(wanted, heights[at])
    tops = [middle[at][item] - height / 2 for at, column in enumerate(heights) for item, height in column.items()]
    top = min(tops, default=0.0)
    return [{item: y - top + MARGIN for item, y in column.items()} for column in middle]


def _apart(wanted: Sequence[float], heights: dict[int, float]) -> dict[int, float]:
    """The middles nearest to those wanted, in least squares, that keep the order of the items and SPACE between them.

    Less the space that the items above need, middles must not decrease, which is isotonic regression; it is solved by
    the pool-adjacent-violators algorithm (Ayer and others, 1955): items that would decrease are pooled at their mean.
    """
    offsets, pools = [], []  # pools: mean and count
    offset = -SPACE
    for height, middle in zip(heights.values(), wanted, strict=True):
        offset += SPACE + height / 2
        offsets.append(offset)
        pools.append((middle - offset, 1))
        offset += height / 2
        while len(pools) > 1 and pools[-2][0] >= pools[-1][0]:
            (mean, count), (above, more) = pools.pop(), pools.pop()
            pools.append(((mean * count + above * more) / (count + more), count + more))
    means = [mean for mean, count in pools for _ in range(count)]
    return {item: mean + offset for item, mean, offset in zip(heights, means, offsets, strict=True)}


# The picture


def _drawn(
    sizes: Sequence[BoxSize], column: Sequence[int], columns: Columns, middle: Sequence[dict[int, float]]
) -> Layout:
    """The columns from left to right, circles left of boxes, and the curves from column to column."""
    starts, lefts, stops = [], [], []
    right = MARGIN
    for at, items in enumerate(columns.items):
        own = [sizes[item] for item in items if column[item] == at]
        circles = max(size.circle for size in own)
        starts.append(right)
        lefts.append(right + circles + (STEM if circles else 0.0))
        stops.append(lefts[at] + max(size.width for size in own))
        right = stops[at] + min(36.0 + 4.0 * len(columns.edges[at]), 120.0)
    boxes = [(lefts[at], middle[at][box]) for box, at in enumerate(column)]
    paths = [
        f"M{left - STEM:.1f} {y:.1f}h{STEM:g}" for (left, y), size in zip(boxes, sizes, strict=True) if size.circle
    ]
    heads = []
    for at, edges in enumerate(columns.edges):
        for source, target, port in edges:
            y, end = middle[at][source], middle[at + 1][target]
            start = lefts[at] + sizes[source].width if column[source] == at else stops[at]
            until = stops[at + 1]
            if column[target] == at + 1:
                angle = (port - 0.5) * math.pi * 0.7
                until = boxes[target][0] - STEM - sizes[target].circle + RADIUS * (1 - math.cos(angle))
                end += RADIUS * math.sin(angle)
                heads.append((until, end))
            half = (stops[at] + starts[at + 1]) / 2
            curve = f"C{half:.1f} {y:.1f} {half:.1f} {end:.1f} {starts[at + 1]:.1f} {end:.1f}"
            paths.append(f"M{start:.1f} {y:.1f}H{stops[at]:.1f}{curve}H{until:.1f}")
    bottoms = [y + size.height / 2 for (_, y), size in zip(boxes, sizes, strict=True)]
    lanes = [y for items in middle for y in items.values()]
    width, height = (max(ends, default=0.0) + MARGIN for ends in (stops, [*bottoms, *lanes]))
    return Layout(width, height, boxes, paths, heads)
