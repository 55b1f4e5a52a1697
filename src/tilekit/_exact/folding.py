"""
What depends on constants alone, such as weights made from others: how it is made, how long it stays. Integers alone.

A mask of zeros as large as an activation is not among it; it is made box by box where it is used.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tilekit._exact.boxes import cells, full
from tilekit._exact.graph import Graph
from tilekit._exact.ops import Constant, Input
from tilekit._exact.schedule import StepSchedule

__all__ = ["Folding", "Going", "foldable", "folding_of"]

SMALL = 1 << 16
"""Cells up to which a node that depends on constants alone is always made as a whole."""
SHARE = 100
"""The part of the largest array that all such nodes must come to for it to matter how long they stay."""

Going = tuple[tuple[int, tuple[int, ...]], ...]
"""The operations of a step after which something goes, by number, and what goes."""
Recipe = tuple[tuple[int, tuple[int, ...]], ...]
"""The nodes to make, in order, and for each the ones among them that nothing after it reads."""


def foldable(graph: Graph) -> tuple[int, ...]:
    """Name the nodes that depend on constants alone and are not much larger than those."""
    folded: list[int] = []
    there = {node.index for node in graph.constants}
    for node in graph.nodes:
        if graph.live[node.index] or isinstance(node.op, Constant | Input) or not there.issuperset(node.inputs):
            continue
        sources = sum(cells(full(shape)) for shape in graph.input_shapes[node.index])
        if cells(full(node.shape)) <= max(SMALL, 4 * sources):
            folded.append(node.index)
            there.add(node.index)
    return tuple(folded)


def folding_of(graph: Graph) -> "Folding":
    """Give what is known of a graph's nodes that depend on constants alone."""
    if not graph.foldings:
        graph.foldings.append(Folding(graph, foldable(graph)))
    found: Folding = graph.foldings[0]
    return found


@dataclass(frozen=True)
class Folding:
    """How the nodes of a graph that depend on constants alone are made: each when it is first read."""

    graph: Graph
    nodes: tuple[int, ...]
    """All of them, in order."""

    @cached_property
    def recipes(self) -> Mapping[int, Recipe]:
        """
        For each node that something else reads, how it is made.

        What only one of them is made of is never there beside the others; what several are made of is one itself.
        """
        owners = self._owners()
        members: dict[int, list[int]] = {}
        for index in self.nodes:
            if index in owners:
                members.setdefault(owners[index], []).append(index)
        return {owner: self._recipe(rows) for owner, rows in members.items()}

    def _owners(self) -> dict[int, int]:
        """Give for each node the one whose recipe it belongs to."""
        graph, inside = self.graph, set(self.nodes)
        owners: dict[int, int] = {}
        for index in reversed(self.nodes):
            users = graph.users[index]
            readers = {owners.get(user) for user in users} if inside.issuperset(users) else {None}
            own = len(readers) != 1 or index == graph.output or readers == {None}
            owners[index] = index if own or not users else next(owner for owner in readers if owner is not None)
        return owners

    def _recipe(self, members: Sequence[int]) -> Recipe:
        last = {source: index for index in members for source in self.graph.nodes[index].inputs}
        inner = members[:-1]
        return tuple((index, tuple(node for node in inner if last[node] == index)) for index in members)

    @cached_property
    def heavy(self) -> Mapping[int, tuple[int, ...]]:
        """The folded nodes that each node reads or has made, where all of them together count."""
        graph = self.graph
        largest = max((node.nbytes for node in graph.nodes if graph.live[node.index]), default=0)
        if SHARE * sum(graph.nodes[index].nbytes for index in self.recipes) < largest:
            return {}
        reads: dict[int, tuple[int, ...]] = {}
        inside = set(self.nodes)
        for node in graph.nodes:
            rows = [row for i in node.inputs for row in ((*reads.get(i, ()), i) if i in self.recipes else ())]
            if node.index in self.recipes:
                made = [i for index, _ in self.recipes[node.index] for i in graph.nodes[index].inputs]
                rows = [row for i in made if i in self.recipes for row in (*reads.get(i, ()), i)]
            if rows and (node.index not in inside or node.index in self.recipes):
                reads[node.index] = tuple(dict.fromkeys(rows))
        return reads

    def going(self, stages: Sequence[Sequence[StepSchedule]], *, anew: bool) -> Iterator[tuple[Going, ...]]:
        """
        Say for each step of each stage after which operations something goes.

        Parameters
        ----------
        stages : sequence of sequence of StepSchedule
            All steps.
        anew : bool
            Each step makes what it reads; else it stays until the last step of all that reads it.

        Yields
        ------
        tuple of Going
            One for each step of a stage.
        """
        heavy = self.heavy
        later: set[int] = set()
        rows: list[list[Going]] = []
        for steps in reversed(stages):
            row: list[Going] = []
            for step in reversed(steps):
                row.append(_last(step, heavy, later) if heavy else ())
                if anew:
                    later.clear()
            rows.append(row[::-1])
        yield from (tuple(row) for row in reversed(rows))


def _last(step: StepSchedule, heavy: Mapping[int, tuple[int, ...]], later: set[int]) -> Going:
    """Give what the operations of a step are the last to read, and add it to what is known to be read."""
    going = []
    for number in reversed(range(len(step.makes))):
        reads = heavy.get(step.makes[number].node)
        gone = tuple(index for index in reads if index not in later) if reads else ()
        if gone:
            later.update(gone)
            going.append((number, gone))
    return tuple(going)
