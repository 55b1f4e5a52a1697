"""
The cheapest cut of a network of capacities, in integers.

Source: E. Dinic, "Algorithm for solution of a problem of maximum flow in networks with power estimation", 1970; the cut
by L. Ford and D. Fulkerson, "Maximal flow through a network", 1956. Distances are to the sink, so that no path is begun
that does not lead there.
"""

__all__ = ["ENDLESS", "Network"]

ENDLESS = 1 << 62


class Network:
    """
    Arcs with capacities; `cut` gives the side of the source of the cheapest cut.

    Arcs may be added after a cut, for the next one, which takes what was sent before as sent. Of several cheapest cuts
    it is the one with the fewest places on the side of the source.
    """

    def __init__(self, places: int) -> None:
        self._arcs: list[list[int]] = [[] for _ in range(places)]
        self._heads: list[int] = []
        self._left: list[int] = []
        self._endless: list[list[int]] = [[] for _ in range(places)]
        self._sent = 0
        self.rounds = 0
        """How often places were looked at for shortest paths."""

    def add(self, tail: int, head: int, capacity: int) -> None:
        """Add an arc; several between the same places add up."""
        if capacity >= ENDLESS:
            self._endless[head].append(tail)
        self._arcs[tail].append(len(self._heads))
        self._arcs[head].append(len(self._heads) + 1)
        self._heads += [head, tail]
        self._left += [capacity, 0]

    def cut(self, source: int, sink: int) -> list[bool] | None:
        """Tell for each place whether it is on the side of the source; None where every cut costs an endless arc."""
        ends = self._ends(sink)
        border = self._border(ends)
        while not ends[source]:
            far = self._distances(source, ends, border)
            if far[source] < 0:
                return self._reached(source)
            self.rounds += 1
            self._sent += self._block(source, ends, far)
            if self._sent >= ENDLESS:
                return None
        return None

    def _ends(self, sink: int) -> list[bool]:
        """Tell which places are on the side of the sink in every cut: endless arcs go from them to it."""
        ends = [False] * len(self._arcs)
        ends[sink] = True
        queue = [sink]
        for place in queue:
            for tail in self._endless[place]:
                if not ends[tail]:
                    ends[tail] = True
                    queue.append(tail)
        return ends

    def _border(self, ends: list[bool]) -> list[int]:
        """Give the arcs that lead to an end from elsewhere."""
        arcs, heads = self._arcs, self._heads
        return [arc ^ 1 for place, end in enumerate(ends) if end for arc in arcs[place] if not ends[heads[arc]]]

    def _distances(self, source: int, ends: list[bool], border: list[int]) -> list[int]:
        """Give how far places are from the nearest end, up to the source; -1 for those that are farther."""
        arcs, heads, left = self._arcs, self._heads, self._left
        far = [0 if end else -1 for end in ends]
        row = list(dict.fromkeys([heads[arc ^ 1] for arc in border if left[arc]]))
        for place in row:
            far[place] = 1
        depth = 1
        while row and far[source] < 0:
            depth, before, row = depth + 1, row, []
            for place in before:
                for arc in arcs[place]:
                    tail = heads[arc]
                    if far[tail] < 0 and left[arc ^ 1]:
                        far[tail] = depth
                        row.append(tail)
        return far

    def _reached(self, source: int) -> list[bool]:
        """Tell which places more could be sent to."""
        arcs, heads, left = self._arcs, self._heads, self._left
        seen = [False] * len(arcs)
        seen[source] = True
        queue = [source]
        for place in queue:
            for arc in arcs[place]:
                head = heads[arc]
                if left[arc] and not seen[head]:
                    seen[head] = True
                    queue.append(head)
        return seen

    def _block(self, source: int, ends: list[bool], far: list[int]) -> int:
        """Send what goes along shortest paths."""
        heads, turn = self._heads, [0] * len(self._arcs)
        sent, path, place = 0, [0] * 0, source
        while True:
            if ends[place]:
                amount, at = self._send(path)
                sent += amount
                place = heads[path[at] ^ 1]
                del path[at:]
                continue
            arc = self._forward(place, far, turn)
            if arc >= 0:
                path.append(arc)
                place = heads[arc]
            elif not path:
                return sent
            else:
                far[place] = -1  # a dead end
                place = heads[path.pop() ^ 1]

    def _forward(self, place: int, far: list[int], turn: list[int]) -> int:
        """Give the next arc from a place to one that is nearer to an end; -1 where there is none."""
        arcs, heads, left, depth = self._arcs[place], self._heads, self._left, far[place] - 1
        at, n = turn[place], len(arcs)
        while at < n:
            arc = arcs[at]
            if left[arc] and far[heads[arc]] == depth:
                turn[place] = at
                return arc
            at += 1
        turn[place] = at
        return -1

    def _send(self, path: list[int]) -> tuple[int, int]:
        """Send along a path what its narrowest arc takes; give that, and where the first arc is that is full."""
        left = self._left
        amount = min([left[arc] for arc in path])
        for arc in path:
            left[arc] -= amount
            left[arc ^ 1] += amount
        return amount, next(at for at, arc in enumerate(path) if not left[arc])
