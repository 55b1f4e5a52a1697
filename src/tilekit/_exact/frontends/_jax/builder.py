"""Nodes of JAX as they are added."""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from tilekit._exact.frontends._jax.calls import Bound, bound
from tilekit._exact.frontends.building import Building
from tilekit._exact.graph import Graph
from tilekit._exact.kernels import Kernels, kernels_of
from tilekit._exact.ops import Constant, Input, Op, Pointwise

__all__ = ["Builder"]


class Builder(Building):
    """
    A graph of JAX that grows; views of views become one view at once.

    Parameters
    ----------
    merging : bool
        See `Building`.

    Attributes
    ----------
    live : set of int
        The nodes that depend on the input.
    """

    def __init__(self, *, merging: bool = True) -> None:
        super().__init__(merging=merging)
        self.live: set[int] = set()
        self._made: dict[Any, int] = {}

    def kernels(self) -> Kernels:
        """Give what computes the nodes whose numbers are known."""
        return kernels_of(jnp.zeros(()))

    def add(self, op: Op, inputs: Sequence[int], shape: Sequence[int], dtype: str, name: str = "") -> int:
        """Add a node, and give its place; that of one which does the same of the same, if there is one."""
        key = (op, tuple(inputs), tuple(shape), dtype)
        if key in self._made and inputs:
            return self._made[key]
        index = self._made[key] = super().add(op, inputs, shape, dtype, name)
        if isinstance(op, Input) or not self.live.isdisjoint(inputs):
            self.live.add(index)
        return index

    def known_array(self, index: int) -> Any:
        """Give the numbers of a static node to NumPy."""
        return np.asarray(self.numbers(index))

    def add_known(self, number: Any) -> int:
        """Add numbers of the function itself."""
        index = self.add(Constant(("number", len(self.nodes))), (), number.shape, str(number.dtype))
        self.known[index] = number
        return index

    def times(self, index: int, factor: int) -> int:
        """Add a node's numbers multiplied by one."""
        node = self.nodes[index]
        call = bound(lax.mul_p, {}, spread=True)
        return self.pointwise(
            _holding(call, 1, np.asarray(factor, jnp.dtype(node.dtype))), [index], node.shape, node.dtype
        )

    def graph(self, output: int) -> tuple[Graph, dict[Hashable, Any]]:
        """Give the graph, with numbers that are known inside the operations that read them."""
        for node in self.nodes:
            op = node.op
            if not isinstance(op, Pointwise) or not isinstance(op.call, Bound) or not op.call.spread:
                continue
            numbers = [i for i, index in enumerate(node.inputs) if index in self.known and not self.shape(index)]
            if numbers and len(numbers) < len(node.inputs):
                call = op.call
                for i in numbers:
                    call = _holding(call, i, self.known[node.inputs[i]])
                rest = tuple(index for i, index in enumerate(node.inputs) if i not in numbers)
                self.nodes[node.index] = replace(node, op=Pointwise(call), inputs=rest)
        return super().graph(output)


def _holding(call: Bound, place: int, number: Any) -> Bound:
    literal = (place, str(number.dtype), np.asarray(number).tobytes())
    return replace(call, literals=(*call.literals, literal))
