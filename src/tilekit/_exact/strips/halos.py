"""
What each rank holds of each node beside its own part, and where that is exchanged. Integers alone.

Some nodes cost nothing to make: norms, activations, pads, views. What a rank needs of them beyond its own part it may
make itself, from a border of what they are made of. Where borders are exchanged is the cheapest cut, in bytes.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tilekit._exact.boxes import Box, cells, contains, full, hull, meet, without
from tilekit._exact.flow import ENDLESS, Network
from tilekit._exact.graph import Graph, Node
from tilekit._exact.ops import Constant, Input, Moments, Pointwise, Reduce, Whole
from tilekit._exact.pull import pull
from tilekit._exact.steps import Stage
from tilekit._exact.strips.partition import Partition

__all__ = ["Halos", "Piece", "halos_of"]

Piece = tuple[int, Box]
"""A rank, and what goes to it or comes from it."""


@dataclass(frozen=True)
class Halos:
    """What ranks make, hold and exchange."""

    partition: Partition
    wanted: Mapping[int, Box]
    """The box of each node that is made by all ranks together."""
    exchanged: frozenset[int]
    """Nodes whose borders are exchanged."""
    held: tuple[Mapping[int, Box], ...]
    """For each rank, what it holds of each node: its own part, and what its own operations read."""
    known: dict[tuple[int, int], tuple[tuple[Piece, ...], tuple[Piece, ...]]] = field(default_factory=dict)

    def part(self, rank: int, index: int, box: Box) -> Box | None:
        """Give what a rank makes itself, of a box of a node that all make."""
        return _part(self.partition, self.exchanged, self.held[rank], rank, index, box)

    def own(self, rank: int, index: int, box: Box) -> Box | None:
        """Give what of a box belongs to a rank: each cell to one; a node that is not cut belongs to all."""
        if not self.partition.cut(index):
            return box
        mine = self.partition.own(rank, index)
        return None if mine is None else meet(box, mine)

    def shares(self, index: int) -> bool:
        """Whether a node is a statistic whose parts lie on several ranks."""
        return _shares(self.partition, self.partition.graph.nodes[index])

    def sharers(self, index: int, box: Box) -> tuple[Piece, ...]:
        """Give the ranks whose parts of a box, put together, are all of it: each cell once."""
        seen: dict[Box, int] = {}
        for rank in range(self.partition.size):
            mine = self.own(rank, index, box)
            if mine is not None:
                seen.setdefault(mine, rank)
        return tuple((rank, mine) for mine, rank in seen.items())

    def pieces(self, rank: int, index: int) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
        """Give what a rank sends of a node, and what it receives, for the whole node."""
        if index not in self.exchanged:
            return (), ()
        if (rank, index) not in self.known:
            takes = tuple(self._missing(rank, index))
            others = (other for other in range(self.partition.size) if other != rank)
            gives = [(o, box) for o in others for source, box in self._missing(o, index) if source == rank]
            self.known[rank, index] = tuple(gives), takes
        return self.known[rank, index]

    def _missing(self, rank: int, index: int) -> Iterator[Piece]:
        """Give what a rank needs of a node and does not make, each cell from its owner."""
        want = self.held[rank].get(index)
        whole = self.wanted[index]
        made = self.part(rank, index, whole)
        if want is None or (made is not None and contains(made, want)):
            return
        owners: dict[Box, int] = {}
        for other in sorted(range(self.partition.size), key=lambda other: (abs(other - rank), other)):
            mine = self.own(other, index, whole)
            if mine is not None:
                owners.setdefault(mine, other)
        for mine, other in owners.items():
            piece = meet(mine, want)
            if other != rank and piece is not None:
                yield from ((other, part) for part in without(piece, made))


def halos_of(partition: Partition, stages: Sequence[Stage], folded: Collection[int]) -> Halos:
    """
    Find what ranks hold and exchange.

    Parameters
    ----------
    partition : Partition
        Who owns what.
    stages : sequence of Stage
        What is made.
    folded : collection of int
        Nodes that are made once a call from constants, by every rank.

    Returns
    -------
    Halos
        The same on all ranks.
    """
    graph = partition.graph
    targets: dict[int, Box] = {}
    for stage in stages:
        for step in stage.steps:
            for index, box in (*step.targets, *step.ahead):
                targets[index] = hull(targets.get(index), box)
    wanted = pull(graph, targets)
    for node in graph.nodes:
        if not graph.live[node.index] and node.index not in folded:
            wanted[node.index] = full(node.shape)
    hard = {node.index for node in graph.nodes if partition.cut(node.index) and _hard(graph, node)}
    free = frozenset({graph.input, *folded, *(node.index for node in graph.constants)})
    most = _Follow(partition, wanted, hard, free, narrow=True)
    follow = _Follow(partition, wanted, _cheapest(most), free)
    joins = [index for index in wanted if _joins(partition, graph.nodes[index]) and index not in most.exchanged]
    for tried in ({i for i in joins if i in follow.exchanged}, set(joins)):
        if tried:  # with their borders exchanged, those of what they are made of take less than the prices had it
            again = _Follow(partition, wanted, hard | tried, free, narrow=True)
            follow = min(follow, _Follow(partition, wanted, _cheapest(again), free), key=_Follow.sent)
    return Halos(partition, wanted, frozenset(follow.exchanged), tuple(follow.held))


def _hard(graph: Graph, node: Node) -> bool:
    """Whether a node costs too much to be made by two ranks."""
    if isinstance(node.op, Input | Constant):
        return False
    return isinstance(node.op, Whole) or node.op.work(node.shape, graph.input_shapes[node.index]) > 0


def _joins(partition: Partition, node: Node) -> bool:
    """Whether a node is made cell by cell of more than one array that is cut."""
    return isinstance(node.op, Pointwise) and sum(partition.cut(index) for index in node.inputs) > 1


def _shares(partition: Partition, node: Node) -> bool:
    if isinstance(node.op, Moments):
        kept = {*node.op.batch_axes, node.op.channel_axis}
        over = [axis for axis in range(len(partition.graph.nodes[node.inputs[0]].shape)) if axis not in kept]
    elif isinstance(node.op, Reduce) and node.op.how is not None and not partition.cut(node.index):
        over = list(node.op.axes)
    else:
        return False
    index = node.inputs[0]
    cuts = zip(partition.labels, partition.ends, strict=True)
    axes = [found[index] for found, ends in cuts if index in ends]
    return bool(axes) and all(axis in over for axis in axes)


def _part(  # noqa: PLR0913, PLR0917
    partition: Partition, exchanged: Collection[int], held: Mapping[int, Box], rank: int, index: int, box: Box
) -> Box | None:
    if index not in exchanged:
        return meet(box, held[index]) if index in held else None
    mine = partition.own(rank, index)
    part = None if mine is None else meet(box, mine)
    node = partition.graph.nodes[index]
    return None if part is None else node.op.grow(part, node.shape, partition.graph.input_shapes[index])


class _Follow:
    """
    Follow what ranks need back: their parts of what is exchanged, and all that is read to make these.

    With `narrow`, what a rank would read more to make a border than the border takes is exchanged as well: otherwise
    borders would grow from one resolution to the next.
    """

    def __init__(
        self,
        partition: Partition,
        wanted: Mapping[int, Box],
        exchanged: set[int],
        free: frozenset[int],
        *,
        narrow: bool = False,
    ) -> None:
        self.partition, self.wanted, self.free = partition, wanted, free
        self.graph = partition.graph
        self.exchanged = set(exchanged)
        self.held: list[dict[int, Box]] = [{} for _ in range(partition.size)]
        for node in reversed(self.graph.nodes):
            if node.index in wanted and node.index not in free:
                self._visit(node, narrow=narrow)

    def _visit(self, node: Node, *, narrow: bool) -> None:
        for rank, held in enumerate(self.held):
            self._keep(held, rank, node)
        if _shares(self.partition, node):
            for rank, held in enumerate(self.held):
                held[node.index] = self.wanted[node.index]
                _read_own(self.partition, held, rank, node, self.wanted[node.index])
            return
        if narrow and node.index not in self.exchanged and self._widens(node):
            self.exchanged.add(node.index)
            for rank, held in enumerate(self.held):
                self._keep(held, rank, node)
        for rank, held in enumerate(self.held):
            for source, need in self.needs(rank, node):
                held[source] = hull(held.get(source), need)

    def _keep(self, held: dict[int, Box], rank: int, node: Node) -> None:
        """Add the own part of what is exchanged and of the output, and what is made with it anyway."""
        index, grow = node.index, node.op.grow
        shapes = self.graph.input_shapes[index]
        if index == self.graph.output or index in self.exchanged:
            part = self.own(rank, index)
            if part is not None:
                held[index] = hull(held.get(index), grow(part, node.shape, shapes))
        if index in held and index not in self.exchanged:
            held[index] = grow(held[index], node.shape, shapes)

    def own(self, rank: int, index: int) -> Box | None:
        """Give the part of what is wanted of a node that belongs to a rank."""
        mine = self.partition.own(rank, index) if self.partition.cut(index) else self.wanted[index]
        return None if mine is None else meet(self.wanted[index], mine)

    def needs(self, rank: int, node: Node) -> list[tuple[int, Box]]:
        """Give what a rank reads to make its part of a node."""
        part = _part(self.partition, self.exchanged, self.held[rank], rank, node.index, self.wanted[node.index])
        if part is None:
            return []
        needs = node.op.need(part, node.shape, self.graph.input_shapes[node.index])
        rows = zip(node.inputs, needs, strict=True)
        return [(source, need) for source, need in rows if need is not None and source not in self.free]

    def _widens(self, node: Node) -> bool:
        """Whether a border of a node takes less than what would be read more to make it."""
        price = self.price(node.index) if self.partition.cut(node.index) else 0
        if not price:
            return False
        more: dict[int, int] = {}
        for rank, held in enumerate(self.held):
            for source, need in self.needs(rank, node):
                before = self._beyond(rank, source, held.get(source))
                after = self._beyond(rank, source, hull(held.get(source), need))
                more[source] = more.get(source, 0) + (after - before) * self.graph.nodes[source].itemsize
        return any(nbytes > price for nbytes in more.values())

    def price(self, index: int) -> int:
        """Count the bytes that ranks hold of a node and do not make."""
        total = sum(self._beyond(rank, index, held.get(index)) for rank, held in enumerate(self.held))
        return total * self.graph.nodes[index].itemsize

    def sent(self) -> int:
        """Count the bytes of all borders that are exchanged."""
        return sum(self.price(index) for index in self.exchanged)

    def _beyond(self, rank: int, index: int, box: Box | None) -> int:
        """Count the cells of a box that a rank does not make as its own."""
        if box is None or not self.partition.cut(index):
            return 0
        part, node = self.own(rank, index), self.graph.nodes[index]
        if part is not None and index in self.exchanged:
            part = node.op.grow(part, node.shape, self.graph.input_shapes[index])
        shared = None if part is None else meet(box, part)
        return cells(box) - (0 if shared is None else cells(shared))

    def reads_beyond(self, user: Node, index: int) -> bool:
        """Whether a rank reads more of a node than its part, to make its part of a user that it does not pass on."""
        for rank in range(self.partition.size):
            mine = self.own(rank, index)
            for source, need in self.needs(rank, user):
                if source == index and (mine is None or not contains(mine, need)):
                    return True
        return False


def _read_own(partition: Partition, held: dict[int, Box], rank: int, node: Node, box: Box) -> None:
    """Take a statistic of the own part."""
    source = node.inputs[0]
    need = node.op.need(box, node.shape, partition.graph.input_shapes[node.index])[0]
    mine = partition.own(rank, source)
    part = None if need is None or mine is None else meet(need, mine)
    if part is not None:
        held[source] = hull(held.get(source), part)


def _cheapest(most: _Follow) -> set[int]:
    """Choose where borders are exchanged: between what costs work and what reads beyond its part, in fewest bytes."""
    graph, partition, fixed = most.graph, most.partition, most.exchanged
    live = [index for index in sorted(most.wanted) if index not in most.free and graph.live[index]]
    place = {index: 2 * k for k, index in enumerate(live)}
    source, sink = 2 * len(live), 2 * len(live) + 1
    net = Network(sink + 1)
    for index, here in place.items():
        price = most.price(index) if partition.cut(index) else ENDLESS
        net.add(here, here + 1, price)
        if index in fixed:
            net.add(source, here, ENDLESS)
        for user in graph.users[index]:
            if user not in place or not price or _shares(partition, graph.nodes[user]):
                continue
            if user not in fixed and partition.cut(user):
                net.add(here + 1, place[user], ENDLESS)
            elif most.reads_beyond(graph.nodes[user], index):
                net.add(here + 1, sink, ENDLESS)
    side = net.cut(source, sink)
    assert side is not None  # only what costs something stands between
    cut = {index for index, here in place.items() if side[here] and not side[here + 1]}
    return cut | {index for index in fixed if index in cut or _hard(graph, graph.nodes[index])}
