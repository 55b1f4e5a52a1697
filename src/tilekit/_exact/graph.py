"""
A function as a graph of array operations with known shapes.

No array is held and no array library is imported: an operation says which boxes it needs (`ops`), a front end says how
its calls are made, and constants (weights) are named by a key that the front end looks up when they are used.
"""

import math
import re
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import blake2b
from typing import Any

from tilekit._exact.boxes import Shape
from tilekit._exact.ops import Constant, Input, Op

__all__ = ["Graph", "Node", "cell_bytes"]


@dataclass(frozen=True, slots=True)
class Node:
    """One operation: what it does, what it reads, and the array that it makes."""

    index: int
    """Its place in `Graph.nodes`; what it reads has smaller ones."""
    op: Op
    inputs: tuple[int, ...]
    """The nodes that it reads, by place, in the order in which `op.need` names them."""
    shape: Shape
    dtype: str
    """The name without the library: float32, bfloat16, int64, bool."""
    name: str = ""
    """Where it stands in the user's network (``decoder.up_blocks.0.conv``), for tables and errors."""

    @property
    def itemsize(self) -> int:
        """The bytes of one cell."""
        return cell_bytes(self.dtype)

    @property
    def nbytes(self) -> int:
        """The bytes of the whole array."""
        return math.prod(self.shape) * self.itemsize


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which they can be computed; one input, one output."""

    nodes: tuple[Node, ...]
    input: int
    output: int
    counted: int | None = None
    """The bytes that a plain call was counted to hold at its peak, where the function could be watched: names may live
    longer than the graph needs them."""
    spent: int | None = None
    """The multiply-adds of a plain call, where the graph makes more than that."""

    @cached_property
    def users(self) -> tuple[tuple[int, ...], ...]:
        """For each node, the nodes that read it."""
        users: list[dict[int, None]] = [{} for _ in self.nodes]
        for node in self.nodes:
            for index in node.inputs:
                users[index][node.index] = None
        return tuple(tuple(row) for row in users)

    @cached_property
    def live(self) -> tuple[bool, ...]:
        """For each node, whether it depends on the input; others are folded once a call, from the weights of then."""
        live: list[bool] = []
        for node in self.nodes:
            live.append(isinstance(node.op, Input) or any(live[index] for index in node.inputs))
        return tuple(live)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """For each node, the bytes of its whole array."""
        return tuple(node.nbytes for node in self.nodes)

    @cached_property
    def works(self) -> list[int | None]:
        """For each node, the multiply-adds that `goals.work` has counted."""
        return [None] * len(self.nodes)

    @cached_property
    def carried(self) -> dict[tuple[int, int], tuple[int | None, ...]]:
        """What `labels.carried` has found, by node and axis."""
        return {}

    @cached_property
    def labels(self) -> dict[int, tuple[int | None, ...]]:
        """What `labels.labels` has found, by axis of the output."""
        return {}

    @cached_property
    def goals(self) -> dict[tuple[tuple[int | None, ...], int | None], Any]:
        """What `barriers.goals` has found, by labels and axis of the output."""
        return {}

    @cached_property
    def foldings(self) -> list[Any]:
        """What `folding.folding_of` has found."""
        return []

    @cached_property
    def shares(self) -> dict[tuple[int, int], dict[int, float]]:
        """What `stages.often` has found, by axis of the output and number of parts."""
        return {}

    @cached_property
    def fingerprint(self) -> str:
        """A short text that differs where kinds of operation, shapes, dtypes or connections do."""
        rows = ((type(node.op).__name__, node.inputs, node.shape, node.dtype) for node in self.nodes)
        return blake2b(repr((*rows, self.input, self.output)).encode(), digest_size=8).hexdigest()

    @cached_property
    def input_shapes(self) -> tuple[tuple[Shape, ...], ...]:
        """For each node, the shapes of what it reads."""
        return tuple(self.shapes(node) for node in self.nodes)

    def shapes(self, node: Node) -> tuple[Shape, ...]:
        """Give the shapes of what a node reads."""
        return tuple(self.nodes[index].shape for index in node.inputs)

    @property
    def constants(self) -> tuple[Node, ...]:
        """The nodes that stand for weights and other captured arrays."""
        return tuple(node for node in self.nodes if isinstance(node.op, Constant))


@cache
def cell_bytes(dtype: str) -> int:
    """Give the bytes of a cell of a dtype."""
    return 1 if dtype == "bool" else max(1, int(re.sub(r"\D", "", dtype.partition("_")[0]) or 32) // 8)
