"""From a graph to a simpler one that makes the same output."""

from dataclasses import replace

from tilekit._exact.graph import Graph

__all__ = ["needed"]


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
