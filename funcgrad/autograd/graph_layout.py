"""Where the boxes of a graph's picture go, and the curves between them, so that a drawing needs no other program.

The layered method of Sugiyama, Tagawa and Toda (1981): a box stands one layer to the right of its last source; an edge
that passes layers keeps a lane free in each; within the layers boxes are ordered by the mean of their neighbours'
places, which leaves few crossings, and then moved towards their neighbours as far as the order allows.
"""

import math
from bisect import bisect, insort
from collections.abc import Sequence
from typing import NamedTuple

SPACE = 14.0  # between boxes of one layer
STEM = 10.0  # from a circle to its box
RADIUS = 13.0  # of the circles
MARGIN = 20.0
_LANE = 6.0  # the height of an edge that passes a layer
_SWEEPS = 12
_LARGEST = 100_000  # boxes, and layers that edges pass


class Place(NamedTuple):
    """What a box needs: its width and height, and the width of the circle at the left of it, 0 for none."""

    width: float
    height: float
    circle: float


class Plan(NamedTuple):
    """The picture: for each box its left edge and the height of its middle, and where its circle starts.

    `paths` are the curves, as SVG has them, and `heads` the points where arrows end.
    """

    width: float
    height: float
    boxes: list[tuple[float, float]]
    circles: list[float]
    paths: list[str]
    heads: list[tuple[float, float]]


class Edge(NamedTuple):
    """From an item of one layer to one of the next; `port` is its place among the arguments of that, from 0 to 1."""

    source: int
    target: int
    port: float


class Layers(NamedTuple):
    """The items of each layer, from top to bottom, and the edges from each layer to the next.

    An item is a box, or in the layers that an edge of this box passes the edge: both have the box's number.
    """

    items: list[list[int]]
    edges: list[list[Edge]]


def layout(places: Sequence[Place], sources: Sequence[Sequence[int]]) -> Plan:
    """Places boxes that stand in an order in which each comes after its sources.

    Raises ValueError if they are too many: the edges of a deep graph may pass very many layers.
    """
    layer = _layers_of(sources)
    layers = _ordered(_layered(layer, sources), _first_order(sources))
    heights = [
        {item: places[item].height if layer[item] == at else _LANE for item in items}
        for at, items in enumerate(layers.items)
    ]
    return _drawn(places, sources, layer, layers, _aligned(layers, heights))


# Layers


def _layers_of(sources: Sequence[Sequence[int]]) -> list[int]:
    """The longest path to each box; then each as near to its users as makes no edges longer in sum."""
    count = len(sources)
    layer = [0] * count
    users: list[set[int]] = [set() for _ in range(count)]
    free = [True] * count  # whether all that the box is made of can follow it, since nothing else uses it
    for box in range(count):
        for source in sources[box]:
            layer[box] = max(layer[box], layer[source] + 1)
            users[source].add(box)
    for box in range(count):
        free[box] = all(free[source] and len(users[source]) == 1 for source in sources[box])
    reach = [max((layer[user] for user in users[box]), default=0) for box in range(count)]
    for box in reversed(range(count)):
        nearer = min((layer[user] for user in users[box]), default=layer[box] + 1) - 1
        longer = sum(max(0, nearer - reach[source]) for source in {*sources[box]} if not free[box])
        if longer <= nearer - layer[box]:
            layer[box] = nearer
            for source in sources[box]:
                reach[source] = max(reach[source], nearer)
    return layer


def _layered(layer: Sequence[int], sources: Sequence[Sequence[int]]) -> Layers:
    depth = max(layer, default=-1) + 1
    items: list[list[int]] = [[] for _ in range(depth)]
    edges: list[list[Edge]] = [[] for _ in range(depth)]
    last = list(layer)
    for box, its in enumerate(sources):
        for source in its:
            last[source] = max(last[source], layer[box] - 1)
    size = sum(end + 1 - first for first, end in zip(layer, last, strict=True))
    if size > _LARGEST:
        raise ValueError(
            f"a graph of {len(layer):,} numbers in {depth:,} layers is too large to lay out; use to_dot or to_text"
        )
    for box, first in enumerate(layer):
        for at in range(first, last[box] + 1):
            items[at].append(box)
            if at < last[box]:
                edges[at].append(Edge(box, box, 0.5))
        for argument, source in enumerate(sources[box]):
            edges[first - 1].append(Edge(source, box, (argument + 0.5) / len(sources[box])))
    return Layers(items, edges)


# The order within layers


def _first_order(sources: Sequence[Sequence[int]]) -> list[int]:
    """The boxes in the order in which a walk from the last ones to their sources meets them: no crossings in a tree."""
    used = {source for its in sources for source in its}
    waiting = [box for box in reversed(range(len(sources))) if box not in used]
    rank: dict[int, int] = {}
    while waiting:
        box = waiting.pop()
        if box not in rank:
            rank[box] = len(rank)
            waiting += reversed(sources[box])
    return [rank[box] for box in range(len(sources))]


def _ordered(layers: Layers, rank: Sequence[int]) -> Layers:
    """The layers with their items ordered: of several sweeps the one with the fewest crossings."""
    items = [sorted(its, key=rank.__getitem__) for its in layers.items]
    best, fewest = items, _crossings(items, layers.edges)
    for sweep in range(_SWEEPS):
        if fewest == 0:
            break
        items = [list(its) for its in items]
        if sweep % 2 == 0:
            for at in range(1, len(items)):
                wanted: dict[int, list[float]] = {}
                place = _places(items[at - 1])
                for edge in layers.edges[at - 1]:
                    wanted.setdefault(edge.target, []).append(place[edge.source])
                _sort(items[at], wanted)
        else:
            for at in reversed(range(len(items) - 1)):
                wanted = {}
                place = _places(items[at + 1])
                for edge in layers.edges[at]:
                    wanted.setdefault(edge.source, []).append(place[edge.target] + edge.port)
                _sort(items[at], wanted)
        count = _crossings(items, layers.edges)
        if count < fewest:
            best, fewest = items, count
    return Layers(best, layers.edges)


def _places(items: Sequence[int]) -> dict[int, int]:
    return {item: place for place, item in enumerate(items)}


def _sort(items: list[int], wanted: dict[int, list[float]]) -> None:
    place = _places(items)
    items.sort(key=lambda item: sum(wanted[item]) / len(wanted[item]) if item in wanted else place[item])


def _crossings(items: Sequence[Sequence[int]], edges: Sequence[Sequence[Edge]]) -> int:
    total = 0
    for at in range(len(items) - 1):
        left, right = _places(items[at]), _places(items[at + 1])
        ends: list[float] = []
        for _, end in sorted((left[edge.source], right[edge.target] + edge.port) for edge in edges[at]):
            total += len(ends) - bisect(ends, end)
            insort(ends, end)
    return total


# Heights


def _aligned(layers: Layers, heights: Sequence[dict[int, float]]) -> list[dict[int, float]]:
    """The middle of each item: near those of its neighbours, at distances that keep the items apart."""
    depth = len(layers.items)
    middle = [
        _apart(items, height, dict.fromkeys(items, 0.0)) for items, height in zip(layers.items, heights, strict=True)
    ]
    for sweep in range(_SWEEPS):
        for at in range(depth) if sweep % 2 == 0 else reversed(range(depth)):
            wanted: dict[int, list[float]] = {}
            if at:
                for edge in layers.edges[at - 1]:
                    shift = (0.5 - edge.port) * RADIUS
                    wanted.setdefault(edge.target, []).append(middle[at - 1][edge.source] + shift)
            if at + 1 < depth and sweep:
                for edge in layers.edges[at]:
                    shift = (edge.port - 0.5) * RADIUS
                    wanted.setdefault(edge.source, []).append(middle[at + 1][edge.target] + shift)
            means = {
                item: sum(wanted[item]) / len(wanted[item]) if item in wanted else middle[at][item]
                for item in layers.items[at]
            }
            middle[at] = _apart(layers.items[at], heights[at], means)
    tops = [middle[at][item] - h / 2 for at, height in enumerate(heights) for item, h in height.items()]
    top = min(tops, default=0.0)
    return [{item: y - top + MARGIN for item, y in its.items()} for its in middle]


def _apart(items: Sequence[int], height: dict[int, float], wanted: dict[int, float]) -> dict[int, float]:
    """The places nearest to those wanted, in least squares, that keep the order and the space between items.

    Less the space that the items above need, places must not decrease: items that would are pooled at their mean.
    """
    offset, offsets = 0.0, []
    pools: list[tuple[float, int]] = []  # mean and count
    for number, item in enumerate(items):
        if number:
            offset += (height[items[number - 1]] + height[item]) / 2 + SPACE
        offsets.append(offset)
        mean, count = wanted[item] - offset, 1
        while pools and pools[-1][0] >= mean:
            above, more = pools.pop()
            mean, count = (mean * count + above * more) / (count + more), count + more
        pools.append((mean, count))
    means = [mean for mean, count in pools for _ in range(count)]
    return {item: mean + offset for item, mean, offset in zip(items, means, offsets, strict=True)}


# The picture


def _drawn(
    places: Sequence[Place],
    sources: Sequence[Sequence[int]],
    layer: Sequence[int],
    layers: Layers,
    middle: Sequence[dict[int, float]],
) -> Plan:
    """A column for each layer, its circles left of its boxes, and the curves from column to column."""
    starts, lefts, stops = [], [], []
    right = MARGIN
    for at, items in enumerate(layers.items):
        own = [places[item] for item in items if layer[item] == at]
        circles = max(place.circle for place in own)
        starts.append(right)
        lefts.append(right + circles + (STEM if circles else 0.0))
        stops.append(lefts[at] + max(place.width for place in own))
        right = stops[at] + min(36.0 + 4.0 * len(layers.edges[at]), 120.0)
    boxes = [(lefts[at], middle[at][box]) for box, at in enumerate(layer)]
    circles_at = [left - STEM - place.circle for (left, _), place in zip(boxes, places, strict=True)]
    paths = [
        f"M{left - STEM:.1f} {y:.1f}h{STEM:g}" for (left, y), place in zip(boxes, places, strict=True) if place.circle
    ]
    heads = []
    for at, edges in enumerate(layers.edges):
        for source in dict.fromkeys(edge.source for edge in edges):
            if layer[source] == at:
                left, y = boxes[source]
                paths.append(f"M{left + places[source].width:.1f} {y:.1f}H{stops[at]:.1f}")
        for source, target, port in edges:
            y, end = middle[at][source], middle[at + 1][target]
            until = stops[at + 1]
            if layer[target] == at + 1:
                angle = (port - 0.5) * math.pi * 0.7
                until = circles_at[target] + RADIUS * (1 - math.cos(angle))
                end += RADIUS * math.sin(angle)
                heads.append((until, end))
            half = (stops[at] + starts[at + 1]) / 2
            curve = f"C{half:.1f} {y:.1f} {half:.1f} {end:.1f} {starts[at + 1]:.1f} {end:.1f}"
            paths.append(f"M{stops[at]:.1f} {y:.1f}{curve}H{until:.1f}")
    bottoms = [y + place.height / 2 for (_, y), place in zip(boxes, places, strict=True)]
    lanes = [y for its in middle for y in its.values()]
    return Plan(
        max(stops, default=0.0) + MARGIN, max([*bottoms, *lanes], default=0.0) + MARGIN, boxes, circles_at, paths, heads
    )
