"""
What one part of an output hands on to the next, made again from something smaller.

A function that goes through a clip chunk by chunk keeps the last frames of many arrays for the next chunk. Some of them
can be made again from fewer bytes: the last frames before an upsampling, or of the input. The graph that `handed` gives
makes them so, with operations of their own on those frames alone; all else stays as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import inf

from tilekit._exact.boxes import Box, cells, full, hull
from tilekit._exact.cuts import GIVEN, Cuts, Leaving
from tilekit._exact.goals import Frontier, parts, plain_work, work
from tilekit._exact.graph import Graph
from tilekit._exact.labels import candidates
from tilekit._exact.ops import Moments, Pointwise, Reduce, Slice
from tilekit._exact.shorter import Shorter, of_input, rewritten

__all__ = ["FACTORS", "belongs", "between", "handed"]

FACTORS = (1.0, 0.1, 0.03, 0.02, 0.01)
"""
What a multiply-add that is made again costs at each level, in bytes handed on, over what the graph has on average.
"""
SCALE = 16
"""What a byte costs in cuts."""


def handed(graph: Graph, level: int) -> Graph:
    """
    Give the graph in which parts of the output hand less on.

    Parameters
    ----------
    graph : Graph
        The function.
    level : int
        0 for the function as it is; from 1 on more and more is made again. See `FACTORS`.

    Returns
    -------
    Graph
        One that gives the same; the one that was given where nothing is handed on, or all of it is as small as can be.
    """
    axes = candidates(graph)
    if not level or not axes:
        return graph
    made = sum(node.nbytes for node in graph.nodes if graph.live[node.index])
    choice = _Choice(graph, FACTORS[level - 1] * made / max(1, plain_work(graph)))
    rows = between(graph, min(axes))
    every = frozenset(index for row in rows for index in row)
    found: list[Shorter] = []
    last: tuple[Shorter, ...] = ()
    for before, row in zip(((), *rows), rows, strict=False):
        last = (
            tuple(each.moved(row[0] - before[0]) for each in last)
            if _alike(graph, before, row)
            else choice.of(row, every)
        )
        found += last
    return rewritten(graph, found) if found else graph


def belongs(graph: Graph, axis: int) -> tuple[int, ...]:
    """Give for each node the first part of the output along an axis that needs it; their number where none does."""
    pieces, _ = parts(graph, axis)
    part = [len(pieces)] * len(graph.nodes)
    for number, (end, _) in enumerate(pieces):
        stack = [end]
        while stack:
            index = stack.pop()
            if part[index] > number:
                part[index] = number
                stack += graph.nodes[index].inputs
    return tuple(part)


def between(graph: Graph, axis: int) -> tuple[tuple[int, ...], ...]:
    """Give for each part of the output what is cut out of its arrays for later parts alone."""
    part = belongs(graph, axis)
    count = len(parts(graph, axis)[0])
    rows: list[list[int]] = [[] for _ in range(count)]
    for node in graph.nodes:
        if isinstance(node.op, Slice) and graph.live[node.index] and part[node.index] < count:
            source = part[node.inputs[0]]
            if source < part[node.index] and not of_input(graph, node.index):
                rows[source].append(node.index)
    return tuple(tuple(row) for row in rows)


def _alike(graph: Graph, before: Sequence[int], row: Sequence[int]) -> bool:
    """Whether a part hands on what the part before it does, each array as many nodes later and made alike."""
    if not before or len(before) != len(row) or len({b - a for a, b in zip(before, row, strict=True)}) > 1:
        return False
    apart = row[0] - before[0]
    for index in range(before[-1] + 1, row[-1] + 1):
        node, other = graph.nodes[index], graph.nodes[index - apart]
        same = node.op == other.op or (isinstance(node.op, Pointwise | Slice) and type(node.op) is type(other.op))
        if not same or node.shape != other.shape or len(node.inputs) != len(other.inputs):
            return False
        for source, was in zip(node.inputs, other.inputs, strict=True):
            if source != was + apart and (source != was or (graph.live[source] and source != graph.input)):
                return False
    return True


@dataclass(frozen=True, slots=True)
class _Cone:
    """The boxes behind some arrays, of nodes that can be made again."""

    boxes: dict[int, Box]
    reads: dict[int, tuple[int, ...]]
    given: frozenset[int]
    """Those that cannot be made of what they read."""


class _Choice:
    """Which of some arrays are made again, and of what."""

    def __init__(self, graph: Graph, rate: float) -> None:
        self._graph, self._rate = graph, rate
        self._cuts = Cuts(SCALE)
        known = (n.index for n in graph.nodes if isinstance(n.op, Moments | Reduce) or not graph.live[n.index])
        self._known = frozenset(known)
        self._can: dict[tuple[int, Box], bool] = {}

    def of(self, row: Sequence[int], stop: Frontier) -> tuple[Shorter, ...]:
        """Take one more as long as that costs less than to hand it on, made with those before it or by itself."""
        held: list[Shorter] = []
        for index in row:
            tries: list[tuple[int, int, Shorter]] = []
            for joins in range(min(1, len(held)) + 1):
                before = held[-1] if joins else None
                found = self._cheapest((*(before.ends if before else ()), index), stop)
                if found is not None:
                    tries.append((self._gain(found) - (self._gain(before) if before else 0), joins, found))
            gain, joins, best = max(tries, key=lambda row: row[0], default=(0, 0, None))
            if best is not None and gain > 0:
                held[len(held) - joins :] = [best]
        return tuple(held)

    def _gain(self, found: Shorter) -> int:
        """Give by how much less it costs to make some arrays again than to hand them on."""
        nodes = self._graph.nodes
        spent = sum(self._work(index, box) for index, box in found.again.items())
        taken = ((index, box) for index, box in found.kept.items() if not of_input(self._graph, index))
        held = sum(cells(box) * nodes[index].itemsize for index, box in taken)
        return sum(nodes[index].nbytes for index in found.ends) - held - int(self._rate * spent)

    def _work(self, index: int, box: Box) -> int:
        node = self._graph.nodes[index]
        return work(self._graph, node) * cells(box) // max(1, cells(full(node.shape)))

    def _cheapest(self, wanted: tuple[int, ...], stop: Frontier) -> Shorter | None:
        """Cut between what is handed on and what is made of it; None where that leaves one of them to be handed on."""
        cone = self._cone(wanted, stop - {*wanted})
        inner = sorted(cone.reads)
        place = {index: k for k, index in enumerate(inner)}
        sizes = [cells(cone.boxes[i]) * self._graph.nodes[i].itemsize for i in inner]
        leaving = Leaving(
            tuple(0 if of_input(self._graph, i) else n * SCALE + 1 for i, n in zip(inner, sizes, strict=True)),
            tuple(GIVEN if i in cone.given else self._work(i, cone.boxes[i]) for i in inner),
            tuple(max(1, size // 64) for size in sizes),
            tuple(sorted({(place[s], place[i]) for i in inner for s in cone.reads[i] if s in place})),
            tuple(place[index] for index in wanted),
        )
        (cut,) = self._cuts.of(leaving, (self._rate,)).kept
        if cut is None or any(place[index] in cut for index in wanted):
            return None
        kept = {inner[k]: cone.boxes[inner[k]] for k in cut}
        again: dict[int, Box] = {}
        stack = list(wanted)
        while stack:
            index = stack.pop()
            if index not in again and index not in kept and index in place:
                again[index] = cone.boxes[index]
                stack += cone.reads[index]
        return Shorter(kept, again, wanted)

    def _cone(self, wanted: tuple[int, ...], stop: Frontier) -> _Cone:
        """Walk back from some arrays, up to what other parts hand on, statistics and the input."""
        graph = self._graph
        boxes: dict[int, Box] = {index: full(graph.nodes[index].shape) for index in wanted}
        reads: dict[int, tuple[int, ...]] = {}
        given = set()
        most = sum(graph.nodes[index].nbytes for index in wanted)  # what more costs is not made again
        costs = dict.fromkeys(wanted, 0.0)
        heap = [-index for index in wanted]
        heapify(heap)
        while heap:
            index = -heappop(heap)
            node, shapes = graph.nodes[index], graph.input_shapes[index]
            if index in stop or index in self._known or index == graph.input:
                continue
            needs = node.op.need(boxes[index], node.shape, shapes)
            read = [(s, need) for s, need in zip(node.inputs, needs, strict=True) if need is not None]
            reads[index] = tuple(source for source, _ in read)
            costs[index] += self._rate * self._work(index, boxes[index])
            key = index, boxes[index]
            if key not in self._can:
                self._can[key] = Shorter.can(graph, *key)
            if costs[index] > most or not self._can[key] or any(source in stop for source, _ in read):
                given.add(index)
                continue
            for source, need in read:
                if source not in boxes:
                    heappush(heap, -source)
                boxes[source] = hull(boxes.get(source), need)
                costs[source] = min(costs.get(source, inf), costs[index])
        return _Cone(boxes, reads, frozenset(given))
