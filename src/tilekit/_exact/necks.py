"""Where all parts of an output may wait for one another, so that less is handed on from one to the next."""

from collections.abc import Iterator, Sequence

from tilekit._exact.goals import parts
from tilekit._exact.graph import Graph
from tilekit._exact.handed import belongs, between
from tilekit._exact.labels import candidates
from tilekit._exact.shorter import of_input

__all__ = ["necks"]

WORTH = 0.9
"""The share of what is handed on that completing nodes of all parts first must come down to."""


def necks(graph: Graph) -> tuple[int, ...]:
    """
    Give the nodes, one for each part of the output, that may all be completed before what comes after them.

    Where what they take is less than what would be handed on behind them, or before them, the parts may go through one
    half of a function each before they go through the other. None where that is no less.
    """
    axis = min(candidates(graph), default=0)
    pieces, part = parts(graph, axis)[0], belongs(graph, axis)
    if len(pieces) < 2:
        return ()
    starts = (-1, *(end for end, _ in pieces))
    rows = [[n.index for n in graph.nodes[start + 1 :] if part[n.index] == k] for k, start in enumerate(starts[:-1])]
    if not all(rows):  # a part that is a copy of others has nothing of its own
        return ()
    found = [{_named(graph, index): index for index in _narrow(graph, row)} for row in rows]
    given = between(graph, axis)
    largest = max(rows[-1], key=lambda index: graph.sizes[index])
    best: tuple[int, ...] = ()
    least = WORTH * max(_bytes(graph, row) for row in given)
    for name in found[-1]:
        if all(name in row for row in found):
            ends = tuple(row[name] for row in found)
            before = largest < ends[-1]
            rest = max(
                _bytes(graph, [i for i in row if (i < end) == before]) for row, end in zip(given, ends, strict=True)
            )
            if rest + _bytes(graph, ends[:-1]) < least:
                best, least = ends, rest + _bytes(graph, ends[:-1])
    return best


def _bytes(graph: Graph, row: Sequence[int]) -> int:
    return sum(graph.sizes[index] for index in row)


def _named(graph: Graph, index: int) -> tuple[object, ...]:
    node = graph.nodes[index]
    return type(node.op), node.name, len(node.shape)


def _narrow(graph: Graph, made: Sequence[int]) -> Iterator[int]:
    """Give the nodes through which all goes that is made after them; the input is read wherever it is wanted."""
    inside = set(made)
    reach = -1
    for index in made:
        if not graph.live[index] or of_input(graph, index):
            continue
        if index >= reach:
            yield index
        reach = max(reach, *(user for user in graph.users[index] if user in inside), -1)
