"""Biases of convolutions, which MLX adds as an operation of its own: a convolution adds them where its sums lie."""

from collections.abc import Mapping

from tilekit._exact.frontends._mlx.builder import Builder
from tilekit._exact.frontends._mlx.calls import Mx
from tilekit._exact.frontends.rewrite import Rewrite, users
from tilekit._exact.graph import Node
from tilekit._exact.ops import Constant, Conv, Pointwise, Reshape

__all__ = ["biases"]


def biases(builder: Builder) -> dict[int, Rewrite]:
    """Find them."""
    readers = users(builder)
    rewrites: dict[int, Rewrite] = {}
    for node in builder.nodes:
        if not (isinstance(node.op, Pointwise) and node.op.call == Mx("add")):
            continue
        for sums, other in (node.inputs, node.inputs[::-1]):
            bias = _bias(builder, readers, node, sums, other)
            if bias is not None:
                rewrites[node.index] = _rewrite(node, builder.nodes[sums], bias)
                break
    return rewrites


def _bias(builder: Builder, readers: list[list[int]], node: Node, sums: int, other: int) -> int | None:
    """Give the bias of a convolution that nothing else reads: one captured number for each of its channels."""
    conv = builder.nodes[sums]
    if not isinstance(conv.op, Conv) or len(conv.inputs) != 2 or readers[sums] != [node.index]:
        return None
    channels = conv.shape[conv.op.channel_axis]
    shape = builder.shape(other)
    if not shape or shape[-1] != channels or len(shape) > len(node.shape) or builder.nodes[other].dtype != conv.dtype:
        return None
    while isinstance(builder.op(other), Reshape):
        other = builder.nodes[other].inputs[0]
    captured = isinstance(builder.op(other), Constant) and builder.shape(other) == (channels,)
    return other if captured and node.shape == conv.shape else None


def _rewrite(node: Node, conv: Node, bias: int) -> Rewrite:
    def rewrite(b: Builder, place: Mapping[int, int]) -> int:
        return b.add(conv.op, (*(place[i] for i in conv.inputs), place[bias]), node.shape, node.dtype)

    return rewrite
