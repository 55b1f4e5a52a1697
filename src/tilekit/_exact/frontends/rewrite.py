"""Copy a graph, with some of its nodes made in another way."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tilekit._exact.frontends.building import Building
from tilekit._exact.graph import Node

__all__ = ["Rewrite", "copied", "users"]

B = TypeVar("B", bound=Building)
Rewrite = Callable[[Any, Mapping[int, int]], int]
"""Adds a node to the copy, given the place in the copy of each node before it; gives its place."""


def copied(old: B, rewrites: Mapping[int, Rewrite], *, merging: bool = False) -> tuple[B, dict[int, int]]:
    """Give a copy, and where each node went."""
    new, place = type(old)(merging=merging), dict[int, int]()
    for node in old.nodes:
        rewrite = rewrites.get(node.index)
        before = len(new.nodes)
        if rewrite is None:
            inputs = [place[index] for index in node.inputs]
            place[node.index] = new.add(node.op, inputs, node.shape, node.dtype, node.name)
        else:
            place[node.index] = rewrite(new, place)
            for index in range(before, len(new.nodes)):
                made = new.nodes[index]
                new.nodes[index] = Node(index, made.op, made.inputs, made.shape, made.dtype, node.name)
        if node.index in old.known:
            new.known[place[node.index]] = old.known[node.index]
    return new, place


def users(builder: Building) -> list[list[int]]:
    """Give the nodes that read each node."""
    found: list[list[int]] = [[] for _ in builder.nodes]
    for node in builder.nodes:
        for index in dict.fromkeys(node.inputs):
            found[index].append(node.index)
    return found
