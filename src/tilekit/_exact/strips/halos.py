"""
What each rank holds of each node beside its own part, and where that is exchanged. Integers alone.

Some nodes cost nothing to make: norms, activations, pads, views. What a rank needs of them beyond its own part it may
make itself, from a border of what they are made of. Where borders are exchanged is the cheapest cut, in bytes.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tilekit._exact.boxes import Box, cells, contains, full, hull, meet
from tilekit._exact.flow import ENDLESS, Network
from tilekit._exact.graph import Graph, Node
from tilekit._exact.ops import Constant, Input, Moments, Reduce, Whole
from tilekit._exact.stages import pull
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
            if other != rank and piece is not None and not (made is not None and contains(made, piece)):
                yield other, piece


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
            for index, box in step.targets:
                targets[index] = hull(targets.get(index), box)
    wanted = pull(graph, targets)
    for node in graph.nodes:
        if not graph.live[node.index] and node.index not in folded:
            wanted[node.index] = full(node.shape)
    hard = frozenset(node.index for node in graph.nodes if partition.cut(node.index) and _hard(graph, node))
    free = {graph.input, *folded, *(node.index for node in graph.constants)}
    most = [_held(partition, wanted, hard, free, rank) for rank in range(partition.size)]
    exchanged = _cheapest(partition, wanted, hard, free, most)
    held = tuple(_held(partition, wanted, exchanged, free, rank) for rank in range(partition.size))
    return Halos(partition, wanted, exchanged, held)


def _hard(graph: Graph, node: Node) -> bool:
    """Whether a node costs too much to be made by two ranks."""
    if isinstance(node.op, Input | Constant):
        return False
    return isinstance(node.op, Whole) or node.op.work(node.shape, graph.input_shapes[node.index]) > 0


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


def _held(
    partition: Partition, wanted: Mapping[int, Box], exchanged: Collection[int], free: Collection[int], rank: int
) -> dict[int, Box]:
    """Follow what a rank needs back: its parts of what is exchanged, and all that is read to make these."""
    graph = partition.graph
    held: dict[int, Box] = {}
    for node in reversed(graph.nodes):
        index = node.index
        if index not in wanted or index in free:
            continue
        shapes = graph.input_shapes[index]
        if index == graph.output or index in exchanged:
            mine = partition.own(rank, index) if partition.cut(index) else wanted[index]
            part = None if mine is None else meet(wanted[index], mine)
            if part is not None:
                held[index] = hull(held.get(index), node.op.grow(part, node.shape, shapes))
        if _shares(partition, node):
            held[index] = wanted[index]
            _read_own(partition, held, rank, node, wanted[index])
            continue
        if index in held and index not in exchanged:
            held[index] = node.op.grow(held[index], node.shape, shapes)
        made = _part(partition, exchanged, held, rank, index, wanted[index])
        if made is not None:
            for source, need in zip(node.inputs, node.op.need(made, node.shape, shapes), strict=True):
                if need is not None and source not in free:
                    held[source] = hull(held.get(source), need)
    return held


def _read_own(partition: Partition, held: dict[int, Box], rank: int, node: Node, box: Box) -> None:
    """Take a statistic of the own part."""
    source = node.inputs[0]
    need = node.op.need(box, node.shape, partition.graph.input_shapes[node.index])[0]
    mine = partition.own(rank, source)
    part = None if need is None or mine is None else meet(need, mine)
    if part is not None:
        held[source] = hull(held.get(source), part)


def _cheapest(
    partition: Partition,
    wanted: Mapping[int, Box],
    hard: frozenset[int],
    free: Collection[int],
    most: Sequence[Mapping[int, Box]],
) -> frozenset[int]:
    """Choose where borders are exchanged: between what costs work and what reads beyond its part, in fewest bytes."""
    graph = partition.graph
    live = [index for index in sorted(wanted) if index not in free and graph.live[index]]
    place = {index: 2 * k for k, index in enumerate(live)}
    source, sink = 2 * len(live), 2 * len(live) + 1
    net = Network(sink + 1)
    for index, here in place.items():
        price = _price(partition, wanted, hard, most, index)
        net.add(here, here + 1, price)
        if index in hard:
            net.add(source, here, ENDLESS)
        for user in graph.users[index]:
            if user not in place or not price or _shares(partition, graph.nodes[user]):
                continue
            ends = user in hard or not partition.cut(user)
            net.add(here + 1, sink if ends else place[user], ENDLESS)
    side = net.cut(source, sink)
    assert side is not None  # only what costs something stands between
    return hard | {index for index, here in place.items() if side[here] and not side[here + 1]}


def _price(
    partition: Partition, wanted: Mapping[int, Box], hard: frozenset[int], most: Sequence[Mapping[int, Box]], index: int
) -> int:
    """Count the bytes that ranks hold beyond their parts."""
    if not partition.cut(index):
        return ENDLESS
    total = 0
    for rank, held in enumerate(most):
        mine = partition.own(rank, index)
        part = None if mine is None else meet(wanted[index], mine)
        if part is not None and index in hard:
            node = partition.graph.nodes[index]
            part = node.op.grow(part, node.shape, partition.graph.input_shapes[index])
        if index in held:
            shared = None if part is None else meet(held[index], part)
            total += cells(held[index]) - (0 if shared is None else cells(shared))
    return total * partition.graph.nodes[index].itemsize
