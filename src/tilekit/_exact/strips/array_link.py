"""The link of a run with arrays: packs boxes and statistics, and counts what goes."""

import math
from collections.abc import Sequence
from typing import Any

from tilekit._exact.boxes import Box, extent
from tilekit._exact.graph import Node
from tilekit._exact.kernels import Kernels
from tilekit._exact.kernels._statistics import MomentsPart
from tilekit._exact.ops import Moments
from tilekit._exact.strips.halos import Piece
from tilekit._exact.strips.parts import Shared
from tilekit._exact.strips.transports import Transport
from tilekit.backends import Array

__all__ = ["ArrayLink"]

HALF = ("bfloat16", "float16")


class ArrayLink:
    """
    Sends arrays.

    Parameters
    ----------
    transport : Transport
        What carries them.
    kernels : Kernels
        Of the library.
    like : array
        On the device where arrays belong.
    """

    def __init__(self, transport: Transport, kernels: Kernels, like: Array) -> None:
        self._transport, self._kernels, self._like = transport, kernels, like
        self.sent_bytes = 0
        """Of borders, so far."""

    def swap(self, node: Node, gives: Sequence[tuple[int, Box, Array]], takes: Sequence[Piece]) -> list[Array]:
        """Send boxes of a node, and give those that come."""
        self.sent_bytes += sum(math.prod(value.shape) for _, _, value in gives) * node.itemsize
        wanted = [(rank, extent(box), node.dtype) for rank, box in takes]
        return self._transport.swap([(rank, value) for rank, _, value in gives], wanted, self._like)

    def share(self, node: Node, box: Box, part: Any, givers: Shared) -> list[Any]:
        """Give the parts of all ranks; those of moments go as means and squares, their counts are known."""
        rank, ranks = self._transport.rank, [rank for rank, _ in givers]
        dtype, shape = self._wide(node), extent(box)
        mine = None if part is None or rank not in ranks else self._packed(part, dtype)
        came = self._transport.everyone(mine, ranks, shape, dtype, self._like)
        if not isinstance(node.op, Moments):
            return came
        counts = [count for _, count in givers]
        return [MomentsPart(n, value[..., 0], value[..., 1]) for n, value in zip(counts, came, strict=True)]

    def _packed(self, part: Any, dtype: str) -> Array:
        whole = self._kernels.xp.stack([part.mean, part.squares], axis=-1) if isinstance(part, MomentsPart) else part
        return self._kernels.cast(whole, dtype)

    def _wide(self, node: Node) -> str:
        """Give the dtype in which parts go: float64 where the library has it, as it takes them."""
        if isinstance(node.op, Moments):
            wide = self._transport.library == "torch" and "mps" not in str(self._kernels.device)
            return "float64" if wide else "float32"
        return "float32" if node.dtype in HALF else node.dtype
