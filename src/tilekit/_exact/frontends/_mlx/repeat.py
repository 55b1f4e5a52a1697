"""Whether two traces of one function give the same, however it came by what does not depend on the input."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import mlx.core as mx

from tilekit._exact.boxes import full
from tilekit._exact.graph import Graph, Node
from tilekit._exact.kernels import kernels_of
from tilekit._exact.ops import Constant, Input

__all__ = ["Found", "alike"]


@dataclass(frozen=True)
class Found:
    """What one trace gave."""

    graph: Graph
    known: dict[Hashable, mx.array]
    """The constants that belong to the function itself."""
    weight: Callable[[Hashable], mx.array]
    """Reads the others."""

    def constant(self, key: Hashable) -> mx.array:
        """Give the array of a `Constant`."""
        return self.known[key] if key in self.known else self.weight(key)


def alike(a: Found, b: Found) -> bool:
    """Whether two traces compute the same of their input: a table that was kept is as good as one made again."""
    if a.graph == b.graph and all(_equal(value, b.known[key]) for key, value in a.known.items()):
        return True
    numbers: dict[Any, int] = {}
    weights = _weights(a) & _weights(b)
    return bool(_form(a, weights, numbers) == _form(b, weights, numbers))


def _weights(found: Found) -> set[Hashable]:
    keys = {node.op.key for node in found.graph.constants if isinstance(node.op, Constant)}
    return keys - found.known.keys()


def _equal(a: mx.array, b: mx.array) -> bool:
    if a is b:
        return True
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    floating = mx.issubdtype(a.dtype, mx.floating)
    return bool(mx.array_equal(a, b, equal_nan=floating))


def _form(found: Found, weights: set[Hashable], numbers: dict[Any, int]) -> Any:
    """Number what is computed of the input: two nodes have one number if they are made in the same way of the same."""
    graph, forms = found.graph, dict[int, Any]()
    folded: dict[int, mx.array] = {}

    def fixed(node: Node) -> Any:
        """Describe what does not depend on the input: a weight of both by its name, else by its numbers."""
        if isinstance(node.op, Constant) and node.op.key in weights:
            return ("weight", node.op.key)
        bits = mx.contiguous(_folded(found, node, folded).reshape(-1)).view(mx.uint8)
        text = bytes(memoryview(bits))  # type: ignore[arg-type]
        return node.shape, node.dtype, blake2b(text, digest_size=16).digest()

    for node in graph.nodes:
        if isinstance(node.op, Input):
            forms[node.index] = "input"
        elif graph.live[node.index]:
            read = tuple(forms[i] if graph.live[i] else fixed(graph.nodes[i]) for i in node.inputs)
            key = (node.op, read, node.shape, node.dtype)
            forms[node.index] = numbers.setdefault(key, len(numbers))
    last = graph.nodes[graph.output]
    return forms[last.index] if graph.live[last.index] else fixed(last)


def _folded(found: Found, node: Node, folded: dict[int, mx.array]) -> mx.array:
    if isinstance(node.op, Constant):
        return found.constant(node.op.key)
    if node.index not in folded:
        shapes, whole = found.graph.input_shapes[node.index], full(node.shape)
        needs = node.op.need(whole, node.shape, shapes)
        read = [
            None if box is None else _folded(found, found.graph.nodes[i], folded)
            for i, box in zip(node.inputs, needs, strict=True)
        ]
        folded[node.index] = kernels_of(mx.array(0.0)).run(node, shapes, whole, needs, read)
    return folded[node.index]
