"""
Barriers: the goals of a graph, and what to keep from one to the next.

Between two stages only a frontier is kept: the cheapest cut between what is known and what is yet to come. A node in
the cut costs its bytes, a node behind it is made again by a later stage and costs a rate times its multiply-adds, and
the input costs nothing.
"""

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from tilekit._exact.cuts import GIVEN, LATER, Cuts, Leaving, Solved
from tilekit._exact.flow import ENDLESS
from tilekit._exact.goals import Frontier, Goal, goals, levels, sooner, until, work
from tilekit._exact.graph import Graph, Node
from tilekit._exact.labels import Labels
from tilekit._exact.ops import Input, Moments, Reduce

__all__ = ["Barriers", "Cheapest"]

SCALE = 16
"""What a byte costs in cuts; whole numbers leave room for fractions of it."""
SMALL = 1 << 16
"""Bytes under which a node that does not slide may be kept whole."""
NEAR = 8
"""Operations behind a node, up to which it is near to the input."""


@dataclass(frozen=True, slots=True)
class Cheapest:
    """What to keep after a stage, and what finding that takes."""

    fronts: tuple[Frontier | None, ...]
    """For each rate; None where no cut exists."""
    looked: int
    """In nodes, beside what solving the problem takes."""
    solved: Solved


class Barriers:
    """
    The goals of a graph and the frontiers that may be kept between them.

    Parameters
    ----------
    graph : Graph
        The function.
    labels : tuple of int or None
        The axis of each node that slides.
    along : int, optional
        The axis of the output that is written part by part, where it is a concatenation.
    ends : set of int, optional
        Nodes that are made and kept in the place of the output.
    others : sequence of labels
        Those of other axes, for stages in which these do not slide.
    apart : bool
        Steps make one part of the output after the other, and no barrier is wider than a part.
    rests : sequence of int
        Nodes that are completed before what reads them, though nothing needs them whole.
    joined : bool
        What does not need each other is completed at the same time; parts of the output come one after the other.
    early : sequence of int
        Nodes that are all completed before anything that they do not need.
    """

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        graph: Graph,
        labels: Labels,
        along: int | None = None,
        ends: Frontier | None = None,
        others: Sequence[Labels] = (),
        apart: bool = False,
        rests: Sequence[int] = (),
        *,
        joined: bool = False,
        early: Sequence[int] = (),
    ) -> None:
        self.graph, self.labels, self.others = graph, labels, tuple(others)
        self.goals, self.tail = goals(graph, labels, along)
        self.apart = apart
        if apart:
            self.goals = self.goals[-1:]
        if ends is not None:
            self.goals = until(graph, self.goals, ends)
        if joined and along is None:
            self.goals = (*levels(graph, self.goals[:-1]), self.goals[-1])
        if rests:
            halts = [Goal((index,), readers=graph.users[index]) for index in rests]
            self.goals = (*sorted((*self.goals[:-1], *halts), key=lambda goal: max(goal.nodes)), self.goals[-1])
        if early:
            self.goals = sooner(graph, self.goals, early)
        self._statistics = {index: j for j, goal in enumerate(self.goals) for index in goal.statistics}
        self._work = [work(graph, node) for node in graph.nodes]
        self._bytes = [node.nbytes for node in graph.nodes]
        self._cheapest = Cuts(SCALE)

    @cached_property
    def first(self) -> tuple[int, ...]:
        """For each node, the first goal that needs it; the number of goals where none does."""
        first: dict[int, int] = {}
        for j, goal in enumerate(self.goals):
            for index in tuple(self._behind(goal.nodes, first)):
                first.setdefault(index, j)
            first.update(dict.fromkeys(goal.statistics, j))
        return tuple(first.get(index, len(self.goals)) for index in range(len(self.graph.nodes)))

    def _behind(self, ends: Iterable[int], known: Container[int]) -> Iterator[int]:
        """Walk back from some nodes to what is known, which is given and not passed; statistics are always known."""
        stack = list(dict.fromkeys(ends))
        seen = set(stack)
        while stack:
            index = stack.pop()
            yield index
            if index in known:
                continue
            for source in self.graph.nodes[index].inputs:
                if source not in seen and self.graph.live[source] and source not in self._statistics:
                    seen.add(source)
                    stack.append(source)

    def made(self, j: int, front: Frontier, after: Frontier = frozenset()) -> Frontier:
        """Give what stage `j` makes from a frontier, to its goal and to what is kept after it."""
        ends = (*self.goals[j].nodes, *after)
        return frozenset(index for index in self._behind(ends, front) if index not in front)

    def spent(self, made: Iterable[int]) -> int:
        """Count the multiply-adds of some nodes."""
        return sum(self._work[index] for index in made)

    def held(self, front: Frontier) -> int:
        """Count the bytes of a frontier."""
        return sum(self._bytes[index] for index in front)

    @cached_property
    def ready(self) -> tuple[int, ...]:
        """For each node, the last goal that must be complete before it can be made; -1 where none must."""
        readers = {index: j for j, goal in enumerate(self.goals) for index in (*goal.statistics, *goal.readers)}
        ready: list[int] = []
        for node in self.graph.nodes:
            ready.append(max([readers.get(node.index, -1), *(ready[index] for index in node.inputs)]))
        return tuple(ready)

    @cached_property
    def since(self) -> tuple[int, ...]:
        """
        For each node, the first goal after which it may be kept.

        Where it costs nothing, that is sooner than it is needed: the last frames of an array that a later chunk reads
        go with the array. What only the next goal needs may be made one stage early: a shortcut of fewer channels.
        """
        ends = {index for goal in self.goals for index in goal.nodes} | self.tail
        since: list[int] = []
        for node in self.graph.nodes:
            at = self.first[node.index]
            if self.graph.live[node.index] and node.inputs and node.index not in ends | self._statistics.keys():
                sources = [index for index in node.inputs if self.graph.live[index]]
                soonest = max(self.ready[node.index] + 1, *(since[index] for index in sources))
                at = min(at, max(soonest, 0 if self._smaller(node) else at - 1))
            since.append(at)
        return tuple(since)

    def _smaller(self, node: Node) -> bool:
        """Whether a node costs nothing and is no larger than what it is made of."""
        sources = [index for index in node.inputs if self.graph.live[index]]
        return not self._work[node.index] and node.nbytes < sum(self._bytes[index] for index in sources)

    @cached_property
    def _crossing(self) -> tuple[tuple[int, ...], ...]:
        """For each goal, the nodes made by then, or early, that something later reads."""
        rows: list[dict[int, None]] = [{} for _ in self.goals]
        for node in self.graph.nodes:
            if self.graph.live[node.index] and node.index not in self._statistics:
                for user in self.graph.users[node.index]:
                    if user not in self.tail:
                        for j in range(self.since[node.index], min(self.since[user], len(rows))):
                            rows[j][node.index] = None
        for i, goal in enumerate(self.goals):
            for index in goal.nodes:
                for j in range(self.first[index], i):
                    rows[j][index] = None
        return tuple(tuple(row) for row in rows)

    def ends(self, j: int) -> Frontier:
        """Give what later stages read of what is made by then: it may be kept as it is."""
        return frozenset(i for i in self._crossing[j] if not isinstance(self.graph.nodes[i].op, Input))

    def crossing(self, j: int, front: Frontier) -> Frontier:
        """Give what later stages need of all that was ever made, back to the frontier or an input near by."""
        return frozenset(self._behind(self._crossing[j], front - self._near))

    @cached_property
    def _near(self) -> Frontier:
        """The nodes that are a few operations away from the input: such a one may be let go and made again."""
        nodes, behind = self.graph.nodes, {self.graph.input: frozenset([self.graph.input])}
        for node in nodes:
            sources = [index for index in node.inputs if self.graph.live[index]]
            if sources and all(index in behind for index in sources) and node.index not in self._statistics:
                cone = frozenset([node.index]).union(*(behind[index] for index in sources))
                if len(cone) <= NEAR:
                    behind[node.index] = cone
        return frozenset(behind)

    def cuts(self, j: int, front: Frontier, made: Frontier, rates: Sequence[float]) -> Cheapest:
        """
        Choose what to keep after stage `j`: the cheapest cut for each rate, from the largest on.

        A rate is what a multiply-add made again costs, in bytes.
        """
        needed = sorted(self.crossing(j, front))
        root = self._roots(needed, front)
        wanted = {root[index] for index in self._crossing[j] if index in root}
        stays = (front - self._near) & wanted
        open_ = [i for i in dict.fromkeys(root.values()) if i not in stays and self.graph.nodes[i].inputs]
        place = {index: k for k, index in enumerate(open_)}
        reads = {(root[i], root[u]) for i in needed for u in self.graph.users[i] if u in root}
        leaving = Leaving(
            tuple(self._price(j, index, front, made) for index in open_),
            tuple(self._left_behind(j, index, front) for index in open_),
            tuple(max(1, self._touched(index) // 64) for index in open_),
            tuple(sorted((place[a], place[b]) for a, b in reads if a != b and a in place and b in place)),
            tuple(sorted(place[index] for index in wanted if index in place)),
        )
        solved = self._cheapest.of(leaving, rates)
        fronts = (None if kept is None else stays.union(open_[k] for k in kept) for kept in solved.kept)
        return Cheapest(tuple(fronts), len(needed) // 4, solved)

    def _roots(self, needed: Sequence[int], front: Frontier) -> dict[int, int]:
        """For each node, what is kept in its place: what it is made of, where that is no larger and costs nothing."""
        root: dict[int, int] = {}
        for index in needed:
            sources = [source for source in self.graph.nodes[index].inputs if source in root]
            root[index] = index
            if index not in front and len(sources) == 1 and not self._work[index]:
                before = root[sources[0]]
                if self._bytes[before] <= self._bytes[index] and (before in front or not self._whole(before)):
                    root[index] = before
        return root

    def _touched(self, index: int) -> int:
        """Give the bytes that making a node again goes through: of a statistic, all that it is taken of."""
        node = self.graph.nodes[index]
        return self._bytes[node.inputs[0]] if isinstance(node.op, Moments | Reduce) else self._bytes[index]

    def _whole(self, index: int) -> bool:
        """Whether a node is made whole in one step, and too large for that to be kept."""
        return self.labels[index] is None and self._bytes[index] > SMALL and bool(self.graph.nodes[index].inputs)

    def _price(self, j: int, index: int, front: Frontier, made: Frontier) -> int:
        """Give what keeping a node costs."""
        if index in front:
            return self._bytes[index] * SCALE + 1
        gone = self.first[index] <= j and index not in made  # let go by an earlier stage
        return ENDLESS if gone or self._whole(index) else self._bytes[index] * SCALE + 1

    def _left_behind(self, j: int, index: int, front: Frontier) -> int:
        """Give the multiply-adds of making a node again."""
        if index in front and index not in self._near:
            return GIVEN
        return self._work[index] if self.first[index] <= j else LATER
