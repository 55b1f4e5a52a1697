"""Whether blocks of an output may lie in memory that is still read: those that are handed out are written to."""

from tilekit._exact.graph import Graph
from tilekit._exact.ops import Concat, Expand, Pad, Permute, Reshape, Scatter, Slice, Windows

__all__ = ["lent"]

_PASSING = (Concat, Expand, Pad, Permute, Reshape, Scatter, Slice, Windows)
"""What may give an input, or a view of one."""


def lent(graph: Graph) -> bool:
    """Whether the output may be a view of something that other operations read as well."""
    waiting = [graph.output]
    while waiting:
        node = graph.nodes[waiting.pop()]
        if isinstance(node.op, _PASSING):
            if any(len(graph.users[index]) > 1 for index in node.inputs):
                return True
            waiting += node.inputs
    return False
