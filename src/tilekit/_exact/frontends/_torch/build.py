"""From recorded operations to a graph: what the output does not need is left out, the rest becomes nodes."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, strided

from tilekit._exact.frontends._torch.called import Called, Nodes, dtype_name
from tilekit._exact.frontends._torch.captured import Path
from tilekit._exact.frontends._torch.known import Known
from tilekit._exact.frontends._torch.record import Entry
from tilekit._exact.frontends._torch.rules import rule_of
from tilekit._exact.frontends._torch.weights import Literal
from tilekit._exact.graph import Graph, Node
from tilekit._exact.ops import Constant, Input, Op, Permute, Reshape

__all__ = ["Sources", "alive", "build"]


@dataclass(slots=True)
class Sources:
    """Where the tensors come from that no operation made."""

    input: Tensor
    paths: dict[int, Path]
    """The stand-ins and captured tensors, by identity."""
    literals: list[Tensor] = field(default_factory=list)
    _numbers: dict[int, int] = field(default_factory=dict)

    def key(self, x: Tensor) -> Hashable:
        """Give the key under which a captured tensor is found later."""
        path = self.paths.get(id(x))
        if path is not None:
            return path
        if id(x) not in self._numbers:
            self._numbers[id(x)] = len(self.literals)
            self.literals.append(x.detach())
        return Literal(self._numbers[id(x)])


def alive(entries: Sequence[Entry], output: Tensor) -> list[int]:
    """Give the places of the entries that the output depends on, in order."""
    wanted = {id(output)}
    kept: list[int] = []
    for i in range(len(entries) - 1, -1, -1):
        entry = entries[i]
        if any(id(x) in wanted for x in entry.outputs):
            kept.append(i)
            wanted.update(map(id, entry.reads))
    return kept[::-1]


class _Builder:
    def __init__(self, entries: Sequence[Entry], output: Tensor, sources: Sources, known: Known) -> None:
        self.entries, self.sources, self.known = entries, sources, known
        self.nodes = Nodes()
        self.made: dict[int, int] = {}
        """Which entry makes a tensor, by identity."""
        self.places: dict[int, int] = {}
        self._source(Input(_strides(sources.input)), sources.input)
        for i in alive(entries, output):
            for x in entries[i].outputs:
                self.made.setdefault(id(x), i)
            if len(entries[i].outputs) == 1:  # parts of others are made when they are asked for
                self._enter(i, 0)
        self.output = self.node(output)

    def _enter(self, i: int, part: int) -> int:
        entry = self.entries[i]
        x = entry.outputs[part]
        if id(x) not in self.places:
            called = Called(entry, part, self.node, self.nodes, self.known)
            self.places[id(x)] = rule_of(called.name, entry.op.tags)(called)
        return self.places[id(x)]

    def node(self, x: Tensor) -> int:
        """Give the place of a tensor's node, which is made if need be."""
        place = self.places.get(id(x))
        if place is not None:
            return place
        if id(x) in self.made:
            i = self.made[id(x)]
            part = next(k for k, made in enumerate(self.entries[i].outputs) if made is x)
            return self._enter(i, part)
        return self._source(Constant(self.sources.key(x), _strides(x)), x)

    def _source(self, op: Op, x: Tensor) -> int:
        self.places[id(x)] = len(self.nodes)
        self.nodes.append(Node(len(self.nodes), op, (), tuple(x.shape), dtype_name(x.dtype)))
        return self.places[id(x)]


def _strides(x: Tensor) -> tuple[int, ...] | None:
    """Give the strides of an array that does not lie in order."""
    return None if x.layout != strided or x.is_contiguous() else x.stride()


def build(entries: Sequence[Entry], output: Tensor, sources: Sources, known: Known) -> Graph:
    """Make the graph."""
    builder = _Builder(entries, output, sources, known)
    return _pruned(builder.nodes, builder.output)


def _pruned(nodes: Sequence[Node], output: int) -> Graph:
    """Leave out what rules made and nothing reads, and views that undo one another."""
    nodes = list(nodes)
    target = list(range(len(nodes)))
    for node in nodes:
        inputs = tuple(target[i] for i in node.inputs)
        nodes[node.index] = Node(node.index, node.op, inputs, node.shape, node.dtype, node.name)
        target[node.index] = _shortened(nodes, nodes[node.index])
    wanted, stack = {0}, [target[output]]
    while stack:
        index = stack.pop()
        if index not in wanted:
            wanted.add(index)
            stack += nodes[index].inputs
    order = sorted(wanted)
    place = {old: new for new, old in enumerate(order)}
    kept = tuple(
        Node(place[n.index], n.op, tuple(place[i] for i in n.inputs), n.shape, n.dtype, n.name)
        for n in (nodes[i] for i in order)
    )
    return Graph(kept, 0, place[target[output]])


def _shortened(nodes: Sequence[Node], node: Node) -> int:
    """Give the node that has the same cells already, if the last two views undo one another."""
    if not node.inputs:
        return node.index
    before = nodes[node.inputs[0]]
    kinds: tuple[Any, Any] = (type(node.op), type(before.op))
    if kinds == (Permute, Permute):
        axes, inner = node.op.axes, before.op.axes  # type: ignore[attr-defined]  # both are permutations
        if [inner[a] for a in axes] == list(range(len(axes))):
            return before.inputs[0]
    if kinds == (Reshape, Reshape) and nodes[before.inputs[0]].shape == node.shape:
        return before.inputs[0]
    return node.index
