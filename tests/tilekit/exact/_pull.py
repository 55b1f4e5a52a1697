"""The plainest way to make a box of a graph: ask for what it needs, and again for what that needs."""

from typing import Any

from tilekit._exact.boxes import Box, full, within
from tilekit._exact.frontends import Traced
from tilekit._exact.kernels import Kernels, kernels_of
from tilekit._exact.ops import Constant, Input


class Pull:
    """Makes boxes of one traced function for one input."""

    def __init__(self, traced: Traced, x: Any) -> None:
        self.graph, self.constants, self.x = traced.graph, traced.constants, x
        self.kernels: Kernels = kernels_of(x)
        self._made: dict[tuple[int, Box], Any] = {}

    def __call__(self, box: Box) -> Any:
        """Give a box of the output."""
        return self.box(self.graph.output, box)

    def box(self, index: int, box: Box) -> Any:
        """Give a box of a node."""
        node = self.graph.nodes[index]
        if isinstance(node.op, (Input, Constant)):
            value = self.x if isinstance(node.op, Input) else self.constants(node.op.key)
            return value[within(full(node.shape), box)]
        shapes = self.graph.shapes(node)
        grown = node.op.grow(box, node.shape, shapes)
        if (index, grown) not in self._made:
            needs = node.op.need(grown, node.shape, shapes)
            arrays = [None if b is None else self.box(i, b) for i, b in zip(node.inputs, needs, strict=True)]
            made = self.kernels.run(node, shapes, grown, needs, arrays)
            assert tuple(made.shape) == tuple(b - a for a, b in grown), (node, grown, tuple(made.shape))
            assert self.kernels.dtype_name(made) == node.dtype, (node, made.dtype)
            self._made[index, grown] = made
        return self._made[index, grown][within(grown, box)]
