"""Which box of each node some boxes need."""

from collections.abc import Mapping

from tilekit._exact.alike import Alike, note
from tilekit._exact.boxes import Box, hull
from tilekit._exact.goals import Frontier
from tilekit._exact.graph import Graph, Node
from tilekit._exact.ops import Needs

__all__ = ["pull"]


def pull(
    graph: Graph, targets: Mapping[int, Box], stop: Frontier = frozenset(), alike: Alike | None = None
) -> dict[int, Box]:
    """
    Give the box of each node that some boxes need, back to what is known.

    `alike` is what is known of nodes that are alike.
    """
    want = dict(targets)
    live = graph.live
    for node in reversed(graph.nodes[: max(want) + 1]):
        index = node.index
        box = want.get(index)
        if box is None or not live[index] or (index in stop and index not in targets):
            continue
        want[index], needs = _needs(graph, node, box) if alike is None else _known(graph, node, box, alike)
        for source, needed in zip(node.inputs, needs, strict=True):
            if needed is not None and live[source]:
                held = want.get(source)
                want[source] = needed if held is None else hull(held, needed)
    return want


def _needs(graph: Graph, node: Node, box: Box) -> tuple[Box, Needs]:
    """Give to what a box grows, and what that needs."""
    shapes = graph.input_shapes[node.index]
    grown = node.op.grow(box, node.shape, shapes)
    return grown, node.op.need(grown, node.shape, shapes)


def _known(graph: Graph, node: Node, box: Box, alike: Alike) -> tuple[Box, Needs]:
    """Give the same, where a node like it was not asked the same before."""
    key = alike.kinds[node.index], box
    found: tuple[Box, Needs] | None = alike.needs.get(key)
    if found is None:
        found = _needs(graph, node, box)
        note(alike.needs, key, found)
    return found
