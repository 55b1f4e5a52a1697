"""Where a long network is best made in two parts, one after the other: what waits between strips is less then."""

from collections.abc import Iterator

from tilekit._exact.barriers import Barriers
from tilekit._exact.goals import Frontier
from tilekit._exact.graph import Graph, Node
from tilekit._exact.labels import Labels, carried
from tilekit._exact.ops import Attention, Conv

__all__ = ["exits", "narrow", "rest"]

WORTH = 0.95
"""The share of what waits that two parts must come down to."""
SMALL = 0.25
"""The share of the largest array that is not worth it."""


def rest(barriers: Barriers, front: Frontier) -> int | None:
    """
    Choose the node that is best completed before what reads it.

    Along an axis of few cells the windows of convolutions (two frames for three taps) are most of what is held. All
    windows of a network wait at once; those before and after a node that is made whole do not.

    Parameters
    ----------
    barriers : Barriers
        Of the axis that slides.
    front : frozenset of int
        What is kept before the last stage.

    Returns
    -------
    int or None
        A node of the last stage through which everything after it goes; None where none is worth it.
    """
    graph, labels = barriers.graph, barriers.labels
    made = sorted(barriers.made(len(barriers.goals) - 1, front))
    windows = {index: _window(graph, graph.nodes[index], labels) for index in made}
    total = before = barriers.held(front)
    total += sum(windows.values())
    best, least = None, int(WORTH * total) if total > SMALL * max(graph.sizes) else 0
    after = sum(windows.values())
    through = set(narrow(graph, made))
    for index in made:
        before, after = before + windows[index], after - windows[index]
        whole = graph.sizes[index]
        if index in through and labels[index] is not None and whole + max(before, after) < least:
            best, least = index, whole + max(before, after)
    return best


def exits(barriers: Barriers) -> tuple[int, ...]:
    """
    Give the nodes after attention that reads all cells along the axis that slides, and is cut along another.

    Completed there, only the stage with the attention goes along the other axis.
    """
    graph = barriers.graph
    through = list(narrow(graph, [node.index for node in graph.nodes if graph.live[node.index] and node.inputs]))
    held = []
    for goal in barriers.goals:
        readers = [graph.nodes[index] for index in goal.readers]
        if not readers or not all(isinstance(node.op, Attention) for node in readers):
            continue
        after = next((i for i in through if i >= readers[-1].index and barriers.labels[i] is not None), None)
        if after is not None and any(all(_apart(graph, n, other) for n in readers) for other in barriers.others):
            held.append(after)
    return tuple(dict.fromkeys(held))


def _apart(graph: Graph, node: Node, labels: Labels) -> bool:
    axis = labels[node.index]
    return axis is not None and carried(graph, node, axis)[1] is not None


def _window(graph: Graph, node: Node, labels: Labels) -> int:
    """Count the bytes of its input that a convolution needs again for the next cell."""
    axis = labels[node.index]
    if not isinstance(node.op, Conv) or axis not in node.op.axes:
        return 0
    source = graph.nodes[node.inputs[0]]
    place = node.op.axes.index(axis)
    again = (node.op.kernel[place] - 1) * node.op.dilation[place]
    return source.nbytes * min(again, source.shape[axis]) // source.shape[axis]


def narrow(graph: Graph, made: list[int]) -> Iterator[int]:
    """Give the nodes through which everything goes that is made after them."""
    inside = set(made)
    last: dict[int, int] = {}
    for index in made:
        for source in graph.nodes[index].inputs:
            if graph.live[source]:
                last[source] = index
    reach = max((last[source] for source in last if source not in inside), default=-1)
    for index in made[:-1]:
        if index >= reach:
            yield index
        reach = max(reach, last.get(index, index))
