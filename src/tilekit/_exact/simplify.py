"""From a graph to a simpler one that makes the same output."""

from dataclasses import replace

from tilekit._exact.graph import Graph, Node
from tilekit._exact.ops import Conv, Permute

__all__ = ["needed", "turned"]


def needed(graph: Graph) -> Graph:
    """Leave out what the output does not need; the input stays."""
    wanted = {graph.input, graph.output}
    for node in reversed(graph.nodes):
        if node.index in wanted:
            wanted.update(node.inputs)
    place = {index: k for k, index in enumerate(sorted(wanted))}
    nodes = tuple(
        replace(graph.nodes[index], index=k, inputs=tuple(place[source] for source in graph.nodes[index].inputs))
        for index, k in place.items()
    )
    return Graph(nodes, place[graph.input], place[graph.output])


def turned(graph: Graph) -> Graph:
    """Let convolutions take arrays as they lie, where axes are put into another order before and back after them."""
    nodes = list(graph.nodes)
    place = list(range(len(nodes)))
    for node in graph.nodes:
        made = _as_it_lies(graph, node)
        if made is not None:
            nodes[node.index] = made
            for user in graph.users[node.index]:
                place[user] = node.index
    if place == list(range(len(nodes))):
        return graph
    rest = (replace(node, inputs=tuple(place[source] for source in node.inputs)) for node in nodes)
    return needed(Graph(tuple(rest), graph.input, place[graph.output]))


def _as_it_lies(graph: Graph, node: Node) -> Node | None:
    """Give a convolution over the axes of what is turned for it, if all that reads it turns it back."""
    op = node.op
    if not isinstance(op, Conv) or node.index == graph.output:
        return None
    before = graph.nodes[node.inputs[0]]
    if not isinstance(before.op, Permute):
        return None
    order = before.op.axes
    axes = tuple(order[axis] for axis in op.axes)
    back = [graph.nodes[user].op for user in graph.users[node.index]]
    same = list(range(len(order)))
    if sorted(axes) != list(axes) or not all(
        isinstance(o, Permute) and [order[a] for a in o.axes] == same for o in back
    ):
        return None
    shape = tuple(node.shape[order.index(axis)] for axis in same)
    lies = replace(op, axes=axes, channel_axis=order[op.channel_axis])
    return replace(node, op=lies, inputs=(before.inputs[0], *node.inputs[1:]), shape=shape)
