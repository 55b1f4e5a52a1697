"""
What is known of operations that are alike: chunks of a clip ask the same box rules for the same boxes.

Two operations are alike if what they do, what they read and what they make are; not which arrays these are.
"""

from typing import Any

from tilekit._exact.graph import Graph

__all__ = ["Alike", "alike_of", "note"]

MOST = 1 << 16
"""Answers that are remembered at once, of each question."""
WORDY = 1 << 12
"""Letters in which an operation is said; one that takes more is like itself alone."""
OFTEN = 3
"""Nodes of each kind, on average, from which on it is worth remembering answers."""

Answers = dict[tuple[Any, ...], Any]


class Alike:
    """
    Answers that hold for all nodes of a kind.

    Parameters
    ----------
    graph : Graph
        The function.
    like : Alike, optional
        What is known of a graph that has many of the same operations.
    """

    def __init__(self, graph: Graph, like: "Alike | None" = None) -> None:
        numbers: dict[Any, int] = {}
        self._said: dict[int, tuple[Any, str | int]] = {} if like is None else like._said
        """What operations do, in words, by where they are in memory: they stay there."""
        self.kinds: list[int] = []
        """For each node, a number that those share which are alike."""
        for node, shapes in zip(graph.nodes, graph.input_shapes, strict=True):
            dtypes = tuple([graph.nodes[index].dtype for index in node.inputs])
            if id(node.op) not in self._said:
                self._said[id(node.op)] = node.op, _said(node.op)
            kind = (self._said[id(node.op)][1], node.op, node.shape, node.dtype, shapes, dtypes)
            self.kinds.append(numbers.setdefault(kind, len(numbers)))
        live = [kind for kind, made in zip(self.kinds, graph.live, strict=True) if made]
        self.many = OFTEN * len(set(live)) <= len(live)
        """Whether it is worth remembering answers."""
        self.needs: Answers = {}
        """What a box grows to and what that needs, by kind and box."""
        self.visits: Answers = {}
        """What is missing of a box and what that needs, by kind, box and what is there."""
        self.made: Answers = {}
        """What making a box takes, by kind, boxes and how the inputs lie."""


def alike_of(graph: Graph, like: Alike | None = None) -> Alike | None:
    """Find the nodes of a graph that are alike; None where they are few. `like` is of one with the same operations."""
    alike = Alike(graph, like)
    return alike if alike.many else None


def note(answers: Answers, key: tuple[Any, ...], answer: Any) -> None:
    """Remember an answer."""
    if len(answers) >= MOST:
        answers.clear()
    answers[key] = answer


def _said(op: Any) -> str | int:
    """Say what an operation does: numbers keep their type in words, 1 is not 1.0."""
    text = repr(op)
    return text if len(text) <= WORDY else id(op)
