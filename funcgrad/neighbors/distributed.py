"""Several processes share one search: each searches its part, then all exchange their best and merge them alike.

Every process passes the same queries and points, and every process gets the whole answer. A process reads its share of
the points alone, and what it finds there is complete: so the k nearest of all are among the k nearest of each share.
"""

import json
from typing import Any

import jax
import numpy as np
from jax.experimental.multihost_utils import process_allgather

from funcgrad.neighbors.block_search import Task
from funcgrad.neighbors.bounds import point_statistics
from funcgrad.neighbors.exact_distances import neighbor_distances
from funcgrad.neighbors.index import Index
from funcgrad.neighbors.mesh import Part
from funcgrad.neighbors.strategies import Info, Neighbors, find_nearest
from funcgrad.neighbors.validation import check_finite


def shared_search(task: Task, part: Part) -> Neighbors:
    """The k nearest of each query, found by all processes together; each of them must call this.

    Args:
      task: the whole task, the same in every process.
      part: this process's part of it.

    Raises:
      ValueError, RuntimeError: what went wrong in any process, in all of them.
    """
    queries, points = _cut(len(task.queries), *part.queries), _cut(len(task.prepared.points), *part.points)
    width = task.k + task.exclude_self  # one may be the query itself, which is taken out when all are merged
    allowed = task.allowed[points]
    k = min(width, int(allowed.sum()))
    mine = task._replace(queries=task.queries[queries], k=k, allowed=allowed, exclude_self=False, mesh=part.mesh)
    report: dict[str, Any] = {"called": _described(task), "info": None}
    found: Neighbors | None = None
    failure: Exception | None = None
    try:
        if k and len(mine.queries):
            mine = mine._replace(prepared=_share(task, points))
            found = find_nearest(mine)
            report |= {"dtype": found.distances.dtype.str, "info": list(map(int, found.info[3:]))}
            order = _unrounded(mine, found)
    except Exception as error:
        counted = f"process {jax.process_index()} counts queries from {queries.start}, points from {points.start}"
        report |= {"error": f"{str(error)[:1000]} ({counted})", "wrong": isinstance(error, ValueError)}
        failure = error
    reports = _exchange(report)
    _raise_together(reports, failure)
    searched = [x for x in reports if x["info"]]
    kind = np.dtype([("order", np.float64), ("distance", searched[0]["dtype"]), ("index", np.int32)])
    best = np.zeros((-(-len(task.queries) // part.queries[1]), width), kind)
    best["index"] = -1
    if found is not None:
        filled = best[: len(found.distances), :k]
        filled["order"], filled["distance"] = order, found.distances
        filled["index"] = found.indices + np.int32(points.start)
    merged = _merge(best, task, part)
    blocks, counts = searched[0]["info"][:2], np.sum([x["info"] for x in searched], axis=0)[2:].tolist()
    info = Info(task.prepared.metric, task.precision, str(task.dtype), *blocks, *counts)
    return Neighbors(merged["distance"], merged["index"], info)


def _cut(count: int, which: int, parts: int) -> slice:
    """Part `which` of 0 … count, in parts of equal size; the last ones may be shorter or empty."""
    size = -(-count // parts)
    return slice(min(which * size, count), min((which + 1) * size, count))


def _share(task: Task, part: slice) -> Index:
    """A share of the points, which are checked unless an index of all has been prepared.

    Its statistics have the centre and the scale of all points, which serve any.
    """
    index, statistics = task.prepared, task.prepared.statistics
    points = index.points[part]
    if statistics is None:
        check_finite("points", points)
        floats = task.dtype.kind == "f"
        statistics = point_statistics(points, index.metric, task.dtype) if floats else None
    else:
        centred = None if statistics.centred is None else statistics.centred[part]
        statistics = statistics._replace(norms=statistics.norms[part], centred=centred)
    return Index(points, index.metric, index.p, statistics)


def _described(task: Task) -> str:
    points = task.prepared.points
    arrays = (f"{name} {x.shape} {x.dtype}" for name, x in (("queries", task.queries), ("points", points)))
    metric = task.prepared.metric if isinstance(task.prepared.metric, str) else "a function"
    return f"{', '.join(arrays)}, {int(task.allowed.sum())} of them allowed, {task.k} of each query by {metric}"


def _unrounded(task: Task, found: Neighbors) -> np.ndarray:
    """The distances (Q, k) by which one process puts neighbours in order.

    Floats that were rounded from float64 are measured once more: two shares' may differ by less than the rounding.
    """
    index, indices = task.prepared, found.indices
    fast = task.precision == "fast" and task.dtype.kind == "f"
    if found.distances.dtype.kind != "f" or callable(index.metric) or fast:
        return found.distances
    return neighbor_distances(task.queries, index.points, indices, index.metric, index.p)


def _merge(best: np.ndarray, task: Task, part: Part) -> np.ndarray:
    """Of the best (R, ≥ k) of each process the best k of all, (queries, k), in chunks of rows that keep the memory."""
    _, groups = part.queries
    queries = len(task.queries)
    merged = np.empty((queries, task.k), best.dtype)
    copies = jax.process_count() * (jax.local_device_count() + 4)  # every device gets all, and sorting takes some
    rows = max(1, task.memory // (copies * best.dtype.itemsize * best.shape[1]))
    for start in range(0, len(best), rows):
        sent = best[start : start + rows]
        # As bytes: JAX would round float64 without `jax.enable_x64`.
        gathered = np.ascontiguousarray(process_allgather(sent.view(np.uint8))).view(best.dtype)
        for group, shares in enumerate(gathered.reshape(groups, -1, *sent.shape)):
            first = group * len(best) + start
            candidates = np.concatenate(list(shares), axis=1)[: max(0, queries - first)]
            numbers = np.arange(first, first + len(candidates))
            index = candidates["index"]
            if task.exclude_self:
                index[index == numbers[:, None]] = -1
            order = np.lexsort((index, candidates["order"], index < 0), axis=1)[:, : task.k]
            merged[first : first + len(candidates)] = np.take_along_axis(candidates, order, axis=1)
    return merged


# What the processes report to one another.

_REPORT_BYTES = 8192


def _exchange(report: dict[str, Any]) -> list[dict[str, Any]]:
    """What each process reports, in the order of the processes."""
    text = json.dumps(report).encode()
    sent = np.frombuffer(text.ljust(_REPORT_BYTES), np.uint8)
    return [json.loads(row.tobytes()) for row in np.asarray(process_allgather(sent))]


def _raise_together(reports: list[dict[str, Any]], failure: Exception | None) -> None:
    """Raises in every process what one of them reports, so that none waits for one that has stopped."""
    for number, report in enumerate(reports):
        if report["called"] != reports[0]["called"]:
            calls = f"{reports[0]['called']} in process 0; {report['called']} in process {number}"
            raise ValueError(f"queries, points: every process must pass the same, got {calls}")
    for report in reports:
        if "error" in report:
            raise (ValueError if report["wrong"] else RuntimeError)(report["error"]) from failure
