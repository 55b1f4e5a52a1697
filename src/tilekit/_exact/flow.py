"""
The cheapest cut of a network of capacities, in integers.

Source: E. Dinic, "Algorithm for solution of a problem of maximum flow in networks with power estimation", 1970; the cut
by L. Ford and D. Fulkerson, "Maximal flow through a network", 1956.
"""

__all__ = ["ENDLESS", "Network"]

ENDLESS = 1 << 62


class Network:
    """
    Arcs with capacities; `cut` gives the side of the source of the cheapest cut.

    Arcs may be added after a cut, for the next one, which takes what was sent before as sent.
    """

    def __init__(self, places: int) -> None:
        self._arcs: list[list[int]] = [[] for _ in range(places)]
        self._heads: list[int] = []
        self._left: list[int] = []
        self._sent = 0
        self.rounds = 0
        """How often all places were looked at."""

    def add(self, tail: int, head: int, capacity: int) -> None:
        """Add an arc; several between the same places add up."""
        self._arcs[tail].append(len(self._heads))
        self._arcs[head].append(len(self._heads) + 1)
        self._heads += [head, tail]
        self._left += [capacity, 0]

    def cut(self, source: int, sink: int) -> list[bool] | None:
        """Tell for each place whether it is on the side of the source; None where every cut costs an endless arc."""
        while (level := self._levels(source))[sink] >= 0:
            self.rounds += 1
            self._sent += self._block(source, sink, level)
            if self._sent >= ENDLESS:
                return None
        return [depth >= 0 for depth in level]

    def _levels(self, source: int) -> list[int]:
        level = [-1] * len(self._arcs)
        level[source] = 0
        queue = [source]
        for place in queue:
            for arc in self._arcs[place]:
                head = self._heads[arc]
                if self._left[arc] > 0 and level[head] < 0:
                    level[head] = level[place] + 1
                    queue.append(head)
        return level

    def _block(self, source: int, sink: int, level: list[int]) -> int:
        """Send what goes along shortest paths."""
        sent, path = 0, [0] * 0
        turn = [0] * len(self._arcs)
        place = source
        while True:
            if place == sink:
                amount = min(self._left[arc] for arc in path)
                sent += amount
                for arc in path:
                    self._left[arc] -= amount
                    self._left[arc ^ 1] += amount
                place, path = self._back(path, source)
                continue
            arc = self._forward(place, level, turn)
            if arc >= 0:
                path.append(arc)
                place = self._heads[arc]
            elif not path:
                return sent
            else:
                level[place] = -1  # a dead end
                place = self._heads[path.pop() ^ 1]

    def _forward(self, place: int, level: list[int], turn: list[int]) -> int:
        arcs = self._arcs[place]
        while turn[place] < len(arcs):
            arc = arcs[turn[place]]
            if self._left[arc] > 0 and level[self._heads[arc]] == level[place] + 1:
                return arc
            turn[place] += 1
        return -1

    def _back(self, path: list[int], source: int) -> tuple[int, list[int]]:
        """Go back to the tail of the first arc that is full."""
        at = next(i for i, arc in enumerate(path) if self._left[arc] == 0)
        place = self._heads[path[at] ^ 1]
        return (place if at else source), path[:at]
