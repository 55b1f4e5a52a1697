"""Some nodes of a graph, made plainly: every array whole, in order, as a plain call makes them."""

from collections.abc import Collection, Mapping

from tilekit._errors import PlanError
from tilekit._exact.boxes import full
from tilekit._exact.frontends import Traced
from tilekit._exact.graph import Graph, Node
from tilekit._exact.kernels import Kernels, kernels_of
from tilekit._exact.kernels._jobs import Job
from tilekit._exact.ops import Constant, Input
from tilekit._exact.tally import Tally
from tilekit.backends import Array
from tilekit.backends.limits import Limits, limits_of

__all__ = ["evaluated"]


def evaluated(
    traced: Traced, x: Array, wanted: Collection[int], known: Mapping[int, Array] | None = None
) -> dict[int, Array]:
    """
    Give some nodes of a graph; what nothing reads any more goes.

    Nodes that are `known` are taken as they are given. What the device gets wrong is refused before anything runs.
    """
    graph, kernels, known = traced.graph, kernels_of(x), known or {}
    needed = _needed(graph, wanted, known)
    _refuse(graph, needed - known.keys(), limits_of(x))
    readers = {index: sum(user in needed and user not in known for user in graph.users[index]) for index in needed}
    there: dict[int, Array] = {graph.input: x, **known}
    with kernels.computing():
        for index in sorted(needed - known.keys()):
            node = graph.nodes[index]
            if isinstance(node.op, Constant):
                there[index] = traced.constants(node.op.key)
            elif not isinstance(node.op, Input):
                there[index] = _made(graph, node, kernels, [there[i] for i in node.inputs])
            for source in dict.fromkeys(node.inputs):
                readers[source] -= 1
                if not readers[source] and source not in wanted:
                    del there[source]
    return {index: kernels.handed(there[index]) for index in wanted}


def _needed(graph: Graph, wanted: Collection[int], known: Mapping[int, Array]) -> set[int]:
    """Give the nodes that are wanted, and those that they are made of."""
    needed = set(wanted)
    for node in reversed(graph.nodes):
        if node.index in needed and node.index not in known:
            needed.update(node.inputs)
    return needed


def _made(graph: Graph, node: Node, kernels: Kernels, arrays: list[Array]) -> Array:
    shapes = graph.shapes(node)
    return kernels.run(node, shapes, full(node.shape), tuple(map(full, shapes)), arrays)


def _refuse(graph: Graph, made: Collection[int], limits: Limits) -> None:
    """Refuse to make some nodes whole where one of them is too large for the device."""
    if not limits.any:
        return
    tally = Tally(limits)
    for index in made:
        node = graph.nodes[index]
        if not isinstance(node.op, Constant | Input):
            shapes, whole = graph.shapes(node), full(node.shape)
            tally.made(node, Job(node.op, node.shape, shapes, whole, tuple(map(full, shapes)), node.dtype))
    if tally.over > 1:
        msg = f"statistics cannot be estimated: {tally.what}; take a smaller tile, or norm='exact'"
        raise PlanError(msg)
