"""What MLX has taken apart, put together again."""

from collections.abc import Mapping

from tilekit._exact.frontends._mlx.attention import attention
from tilekit._exact.frontends._mlx.biases import biases
from tilekit._exact.frontends._mlx.builder import Builder
from tilekit._exact.frontends._mlx.norms import norms
from tilekit._exact.frontends.rewrite import Rewrite, copied
from tilekit._exact.graph import Node
from tilekit._exact.ops import Permute, Reshape

__all__ = ["simplify"]


def simplify(builder: Builder, output: int) -> tuple[Builder, int]:
    """Give a graph in which norms, attention and convolutions with a bias are one operation each, and its output."""
    for find in (norms, attention, biases):
        builder, place = copied(builder, find(builder))
        output = place[output]
    builder, place = copied(builder, _views(builder), merging=True)
    return builder, place[output]


def _views(builder: Builder) -> dict[int, Rewrite]:
    """Make views once more, so that one after the other becomes one."""
    return {node.index: _again(node) for node in builder.nodes if isinstance(node.op, (Reshape, Permute))}


def _again(node: Node) -> Rewrite:
    def rewrite(b: Builder, place: Mapping[int, int]) -> int:
        source = place[node.inputs[0]]
        return b.permute(source, node.op.axes) if isinstance(node.op, Permute) else b.reshape(source, node.shape)

    return rewrite
