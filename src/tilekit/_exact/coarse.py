"""What is made on whole frames before tiles, because these would make it too often."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tilekit._exact.alike import Alike
from tilekit._exact.boxes import cells
from tilekit._exact.flow import ENDLESS, Network
from tilekit._exact.goals import Frontier, work
from tilekit._exact.graph import Graph
from tilekit._exact.labels import cut_at
from tilekit._exact.ops import Input
from tilekit._exact.pull import pull
from tilekit._exact.stages import grids

__all__ = ["Coarse", "often"]

SCALE = 16
"""What a byte costs in cuts."""


@dataclass(slots=True)
class _Last:
    """The problem that was solved last at a rate; finer tiles make things oftener, so that the next adds to it."""

    net: Network
    again: list[int]
    left: set[int]
    """What is left to tiles in any case."""


class Coarse:
    """
    Chooses what is made on whole frames before tiles: the cheapest cut.

    Parameters
    ----------
    graph : Graph
        The function.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._last: dict[tuple[float, tuple[int, ...]], _Last] = {}

    def front(self, often: Mapping[int, float], rate: float, largest: int) -> Frontier:
        """
        Choose for one grid.

        `often` tells how often tiles make a node. A node in the cut costs its bytes; a node behind it costs, for each
        multiply-add that tiles make more than once, `rate`. Nodes of more than `largest` bytes are left to tiles, with
        all that comes after them.
        """
        graph, needed = self._graph, tuple(sorted(often))
        source, sink = 2 * len(needed), 2 * len(needed) + 1
        again = [self._again(index, often[index], rate) for index in needed]
        given = [isinstance(graph.nodes[index].op, Input) for index in needed]
        left = {k for k, index in enumerate(needed) if graph.sizes[index] > largest and not given[k]}
        last = self._last.get((rate, needed))
        if last is None or any(a < b for a, b in zip(again, last.again, strict=True)) or not last.left <= left:
            last = _Last(self._network(needed), [0] * len(needed), set())
        for k, cost in enumerate(again):
            if cost > last.again[k]:
                last.net.add(source, 2 * k, cost - last.again[k] if cost < ENDLESS else cost)
        for k in left - last.left:
            last.net.add(2 * k, sink, ENDLESS)
        last.again, last.left = again, left
        side = last.net.cut(source, sink)
        if side is None:
            self._last.pop((rate, needed), None)
            return frozenset()
        self._last[rate, needed] = last
        return frozenset(i for k, i in enumerate(needed) if side[2 * k] and not side[2 * k + 1] and not given[k])

    def _again(self, index: int, often: float, rate: float) -> int:
        node = self._graph.nodes[index]
        if isinstance(node.op, Input):
            return ENDLESS
        again = max(0.0, often - 1) * (work(self._graph, node) * rate * SCALE + self._graph.sizes[index] // 4)
        return min(ENDLESS, int(again))

    def _network(self, needed: tuple[int, ...]) -> Network:
        """Give what does not depend on the grid."""
        graph, place = self._graph, {index: 2 * k for k, index in enumerate(needed)}
        net = Network(2 * len(needed) + 2)
        for index, here in place.items():
            net.add(here, here + 1, 0 if isinstance(graph.nodes[index].op, Input) else graph.sizes[index] * SCALE + 1)
            for user in graph.users[index]:
                if user in place:
                    net.add(here + 1, place[user], ENDLESS)
                    net.add(place[user], here, ENDLESS)
        net.add(place[graph.output], 2 * len(needed) + 1, ENDLESS)
        return net


def often(graph: Graph, grid: Mapping[int, int], alike: Alike | None = None) -> dict[int, float]:
    """Tell how often tiles make each cell of each node, taken as a product over the axes of the grid."""
    held: dict[int, float] = {}
    for axis, count in grid.items():
        shares = graph.shares.get((axis, count))
        if shares is None:
            shares = graph.shares[axis, count] = _shares(graph, axis, count, alike)
        held = {index: held.get(index, 1.0) * share for index, share in shares.items()}
    return held


def _shares(graph: Graph, axis: int, count: int, alike: Alike | None) -> dict[int, float]:
    """Tell how often parts of one axis make each cell of each node; parts between the ends are taken to be alike."""
    shape = graph.nodes[graph.output].shape
    cuts = grids(graph, axis, count)
    ends = {0: 1, len(cuts) - 1: 1} | ({len(cuts) // 2: len(cuts) - 2} if len(cuts) > 2 else {})
    shares: dict[int, float] = {}
    for number, times in ends.items():
        for index, box in pull(graph, {graph.output: cut_at(shape, axis, cuts[number])}, alike=alike).items():
            share = cells(box) / max(1, math.prod(graph.nodes[index].shape))
            shares[index] = shares.get(index, 0.0) + times * share
    return shares
