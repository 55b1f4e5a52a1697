"""
Operations cell by cell that follow one another, as one.

What only the next of them reads is never an array of the schedule: no window, no step of Python between, and where the
library has a call that writes to what it is given, no memory of its own.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol, TypeGuard, runtime_checkable

from tilekit._exact.boxes import Box, Shape, cells
from tilekit._exact.graph import Graph, Node
from tilekit._exact.ops import Constant, Pointwise, broadcast

__all__ = ["Chain", "Link", "Told", "Writable", "chained"]


@dataclass(frozen=True, slots=True)
class Told:
    """A call of which the user says what it takes for itself."""

    call: Callable[[Sequence[Any]], Any]
    taken: Callable[..., int]
    """Of the shapes of the arrays that it is given; bytes."""

    def __call__(self, arrays: Sequence[Any]) -> Any:
        """Call it."""
        return self.call(arrays)


@runtime_checkable
class Writable(Protocol):
    """A call of which is known what it does with memory."""

    def fresh(self) -> bool:
        """Whether what it gives shares no memory with what it is given."""

    def writing(self) -> "Callable[..., Any] | None":
        """Give the call that writes the result to its first array, or None."""

    def symmetric(self) -> bool:
        """Whether two arrays may change places."""


def _is_writable(call: Any) -> TypeGuard[Writable]:
    """Whether a call is one; kinds are asked once, as that takes as long as following an operation."""
    return _knows(type(call))  # type: ignore[arg-type]  # a class is hashable


@cache
def _knows(kind: type) -> bool:
    return issubclass(kind, Writable)


@dataclass(frozen=True, slots=True)
class Link:
    """One operation of a chain."""

    call: Callable[..., Any]
    sources: tuple[int, ...]
    """What it reads: the inputs of the chain are counted first, then its links."""
    done: tuple[int, ...]
    """What is read for the last time."""
    shape: Shape
    """Of its whole result."""
    itemsize: int
    writes: bool
    """Whether `call` writes to the first of its sources."""
    name: str


@dataclass(frozen=True, slots=True)
class Chain:
    """A call that makes some operations one after the other; the last gives the result."""

    n_inputs: int
    links: tuple[Link, ...]

    def __call__(self, arrays: Sequence[Any]) -> Any:
        """Make them all."""
        held = list(arrays)
        for link in self.links:
            given = [held[index] for index in link.sources]
            for index in link.done:
                held[index] = None
            held.append(link.call(given))
            del given
        return held[-1]

    def each(self, arrays: Sequence[Any]) -> Iterator[tuple[str, Any]]:
        """Give the name and the result of one operation after the other."""
        held = list(arrays)
        for link in self.links:
            held.append(link.call([held[index] for index in link.sources]))
            yield link.name, held[-1]

    def scratch(self, box: Box, free: Mapping[int, int] | None = None) -> int:
        """
        Count the bytes that its inner arrays take at the most, beside the result.

        `free` are the bytes of inputs that go with their last reader.
        """
        held = dict(free or {})
        given = sum(held.values())
        peak = size = 0
        for number, link in enumerate(self.links, self.n_inputs):
            size = cells(broadcast(box, link.shape)) * link.itemsize
            if not link.writes:
                peak = max(peak, sum(held.values()) + size)
            for index in link.done:
                held.pop(index, None)
            held[number] = size
        return max(0, peak - size - given)


def chained(graph: Graph) -> Graph:
    """Put operations cell by cell together where one is all that reads the other, and both have one shape."""
    heads = _heads(graph)
    members: dict[int, list[int]] = {}
    for index, head in enumerate(heads):
        members.setdefault(head, []).append(index)
    place: dict[int, int] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        if heads[node.index] != node.index:
            continue
        made = node if len(members[node.index]) == 1 else _joined(graph, members[node.index])
        place[node.index] = len(nodes)
        nodes.append(replace(made, index=len(nodes), inputs=tuple(place[index] for index in made.inputs)))
    return Graph(tuple(nodes), place[graph.input], place[graph.output])


def _heads(graph: Graph) -> list[int]:
    """Give for each node the last operation of the chain that it belongs to: itself where it is in none."""
    heads = list(range(len(graph.nodes)))
    arrays: dict[int, set[int]] = {}
    """The arrays as large as the result that a chain reads."""
    for node in reversed(graph.nodes):
        large = _large(graph, node)
        users = graph.users[node.index]
        head = heads[users[0]] if users else node.index
        if (
            node.index != graph.output
            and _joins(graph, node)
            and all(heads[user] == head for user in users)
            and _joins(graph, graph.nodes[head])
            and graph.live[head] == graph.live[node.index]
            and graph.nodes[head].shape == node.shape
            # else more arrays wait than before; what is folded, such as a mask, may read wider ones on the way
            and (arrays[head] == {node.index} or (graph.live[node.index] and len(large) < 2))
        ):
            heads[node.index] = head
            arrays[head] = arrays[head] - {node.index} | large
        else:
            arrays[node.index] = large
    return heads


def _joins(graph: Graph, node: Node) -> bool:
    return isinstance(node.op, Pointwise) and not isinstance(node.op.call, Told)


def _large(graph: Graph, node: Node) -> set[int]:
    """Name what a node reads that is as large as it, and made as often."""
    live, size = graph.live[node.index], math.prod(node.shape)
    rows = (graph.nodes[i] for i in node.inputs if graph.live[i] == live)
    return {row.index for row in rows if not isinstance(row.op, Constant) and math.prod(row.shape) == size}


def _joined(graph: Graph, members: Sequence[int]) -> Node:
    """Make one node of a chain, whose members are given in order."""
    inside = set(members)
    inputs = tuple(dict.fromkeys(i for m in members for i in graph.nodes[m].inputs if i not in inside))
    place = {index: k for k, index in enumerate(inputs)}
    last = {index: m for m in members for index in graph.nodes[m].inputs}
    fresh: set[int] = set()
    links = []
    for number, m in enumerate(members):
        node = graph.nodes[m]
        call = node.op.call  # type: ignore[attr-defined]  # all are operations cell by cell
        done = {index for index in node.inputs if last[index] == m}
        free = {i for i in done & fresh if (graph.nodes[i].shape, graph.nodes[i].dtype) == (node.shape, node.dtype)}
        sources, writing = _writing(call, node.inputs, free)
        if writing is not None or (_is_writable(call) and call.fresh()):
            fresh.add(m)
        dead = tuple(place[index] for index in sorted(done))
        links.append(
            Link(
                writing or call,
                tuple(place[index] for index in sources),
                dead,
                node.shape,
                node.itemsize,
                writing is not None,
                node.name,
            )
        )
        place[m] = len(inputs) + number
    head = graph.nodes[members[-1]]
    return replace(head, op=Pointwise(Chain(len(inputs), tuple(links))), inputs=inputs)


def _writing(call: Any, inputs: tuple[int, ...], free: set[int]) -> tuple[tuple[int, ...], Any]:
    """Give the order of the inputs, and the call that writes to the first of them, if that may be written to."""
    writing = call.writing() if _is_writable(call) else None
    if writing is None or len(set(inputs)) != len(inputs):
        return inputs, None
    if inputs[0] in free:
        return inputs, writing
    if len(inputs) == 2 and inputs[1] in free and call.symmetric():
        return inputs[::-1], writing
    return inputs, None
