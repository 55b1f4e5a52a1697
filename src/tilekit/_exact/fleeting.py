"""
What is made again in each step because that takes no memory: cheap operations on what waits for a later step anyway.

A residual block normalises its input, convolves it, and adds the input to what comes out. Where convolutions look
ahead the input waits for them, with the very rows that the next step convolves again: these need not be kept
normalised as well.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tilekit._exact.boxes import Box, cells, contains
from tilekit._exact.graph import Graph
from tilekit._exact.ops import Along, Concat, Normalize, Op, Pad, Permute, Pointwise, Reshape, Slice

__all__ = ["Seen", "fleeting"]

CHEAP: tuple[type[Op], ...] = (Along, Concat, Normalize, Pad, Permute, Pointwise, Reshape, Slice)
MOST = 3
"""How many times the cells that are new a step may make."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One step in which all is kept that a later step reads."""

    made: Mapping[int, tuple[Box, Box | None]]
    """For each node, what the step wants, and what of it is new; None for nothing."""
    stays: Mapping[int, Box]
    """What stays of each node."""


def fleeting(graph: Graph, steps: Sequence[Seen], outside: Collection[int]) -> frozenset[int]:
    """
    Choose the nodes that each step makes anew, so that nothing of them stays.

    Parameters
    ----------
    graph : Graph
        The function.
    steps : sequence of Seen
        Some steps of a track.
    outside : collection of int
        Nodes that are not made here.

    Returns
    -------
    frozenset of int
        Nodes that can be made from what stays of others, and the operations on the way to them.
    """
    ways: dict[int, frozenset[int] | None] = {}
    for seen in steps:
        for index in sorted(seen.stays):
            way = _way(graph, seen, index, outside, {node for node, known in ways.items() if known})
            known = ways.get(index, frozenset())
            ways[index] = None if way is None or known is None else known | way
    return frozenset(node for way in ways.values() if way is not None for node in way)


def _way(
    graph: Graph, seen: Seen, index: int, outside: Collection[int], gone: Collection[int]
) -> frozenset[int] | None:
    """Give the operations that make what stays of a node from what stays of others; None if it cannot be made so."""
    held, stack = {index}, [(index, seen.stays[index])]
    while stack:
        index, box = stack.pop()
        node, shapes = graph.nodes[index], graph.input_shapes[index]
        want, new = seen.made.get(index, (box, None))
        if not isinstance(node.op, CHEAP) or new is None or cells(want) > MOST * cells(new):
            return None
        needs = node.op.need(node.op.grow(box, node.shape, shapes), node.shape, shapes)
        for source, need in zip(node.inputs, needs, strict=True):
            if need is None or not graph.live[source] or source == graph.input or source in held:
                continue
            stay = None if source in gone else seen.stays.get(source)
            if source in outside or (stay is not None and not contains(stay, need)):
                return None
            if stay is None:
                held.add(source)
                stack.append((source, need))
    return frozenset(held)
