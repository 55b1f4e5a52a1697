"""Which box of each node some boxes need."""

from collections.abc import Mapping

from tilekit._exact.boxes import Box, hull
from tilekit._exact.goals import Frontier
from tilekit._exact.graph import Graph

__all__ = ["pull"]


def pull(graph: Graph, targets: Mapping[int, Box], stop: Frontier = frozenset()) -> dict[int, Box]:
    """Give the box of each node that some boxes need, back to what is known."""
    want = dict(targets)
    for node in reversed(graph.nodes[: max(want) + 1]):
        box = want.get(node.index)
        if box is None or not graph.live[node.index] or (node.index in stop and node.index not in targets):
            continue
        shapes = graph.input_shapes[node.index]
        want[node.index] = box = node.op.grow(box, node.shape, shapes)
        for index, needed in zip(node.inputs, node.op.need(box, node.shape, shapes), strict=True):
            if needed is not None and graph.live[index]:
                want[index] = hull(want.get(index), needed)
    return want
