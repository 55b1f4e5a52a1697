"""
Ranks of mlx.core.distributed, an experiment: a ring reaches neighbours only, and waits in pairs.

A send of MLX ends when the other side has received, so all ranks go through their pairs in one order, and in a pair the
lower rank speaks first. Upstream, https://github.com/ml-explore/mlx: issue 4475 (a sum over a ring may wait for ever;
none is used here), 3910 and 4278 (JACCL does not notice a rank that is gone; a ring does since 0.32.3).
"""

import os
import zlib
from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from tilekit._errors import BackendError
from tilekit._exact.boxes import Shape
from tilekit._exact.strips.transports import Give, Take, lost

__all__ = ["MlxTransport", "open_transport"]


def open_transport(group: Any) -> "MlxTransport":
    """Take a group, or that of the process."""
    held = mx.distributed.init() if group is None else group
    if group is None and held.size() < 2:
        msg = "group: this process belongs to no group of MLX; start it with mlx.launch"
        raise BackendError(msg)
    return MlxTransport(held)


class MlxTransport:
    """
    A group of MLX.

    Parameters
    ----------
    group : mlx.core.distributed.Group
        The processes.
    """

    library = "mlx"

    def __init__(self, group: Any) -> None:
        self._group = group
        self.rank, self.size = int(group.rank()), int(group.size())
        self._ring = "MLX_HOSTFILE" in os.environ and "MLX_IBV_DEVICES" not in os.environ

    def reaches(self, one: int, other: int) -> bool:
        """Whether two ranks can send to each other: all can, but in a ring."""
        return not self._ring or abs(one - other) in {1, self.size - 1}

    def swap(self, gives: Sequence[Give], takes: Sequence[Take], like: mx.array) -> list[mx.array]:
        """Send arrays, and give those that come, pair by pair."""
        del like
        came: dict[int, mx.array] = {}
        peers = {rank for rank, _ in gives} | {rank for rank, _, _ in takes}
        try:
            for peer in sorted(peers, key=lambda peer: (min(peer, self.rank), max(peer, self.rank))):
                for speaks in (True, False) if self.rank < peer else (False, True):
                    if speaks:
                        self._send([value for rank, value in gives if rank == peer], peer)
                    else:
                        came |= {k: self._receive(*take) for k, take in enumerate(takes) if take[0] == peer}
        except (RuntimeError, ValueError) as error:
            raise lost(self.rank, error) from error
        return [came[k] for k in range(len(takes))]

    def _send(self, values: Sequence[mx.array], peer: int) -> None:
        for value in values:
            mx.eval(mx.distributed.send(mx.contiguous(value), peer, group=self._group))

    def _receive(self, peer: int, shape: Shape, dtype: str) -> mx.array:
        value = mx.distributed.recv(shape, getattr(mx, dtype), peer, group=self._group)
        mx.eval(value)
        return value

    def everyone(
        self, mine: mx.array | None, givers: Sequence[int], shape: Shape, dtype: str, like: mx.array
    ) -> list[mx.array]:
        """Give the arrays of some ranks to all: they go round the ring."""
        del like
        given = mx.zeros(shape, getattr(mx, dtype)) if mine is None else mine
        try:
            rows = mx.distributed.all_gather(mx.contiguous(given)[None], group=self._group)
            mx.eval(rows)
        except (RuntimeError, ValueError) as error:
            raise lost(self.rank, error) from error
        return [rows[rank] for rank in givers]

    def collect(self, mine: mx.array, shapes: Sequence[Shape], dtype: str) -> list[mx.array] | None:
        """Bring one array of each rank to the first, from neighbour to neighbour."""
        held = [mine]
        for source, shape in enumerate(shapes):
            passed = mine
            for rank in range(source, 0, -1):
                if self.rank == rank:
                    self.swap([(rank - 1, passed)], [], mine)
                elif self.rank == rank - 1:
                    (passed,) = self.swap([], [(rank, shape, dtype)], mine)
            if source:
                held.append(passed)
        return held if self.rank == 0 else None

    def digest(self, x: mx.array) -> int:
        """Give a checksum of the cells."""
        cells: Any = mx.contiguous(x.reshape(-1)).view(mx.uint8)
        return zlib.crc32(memoryview(cells))

    def close(self) -> None:
        """Stay: a group of MLX ends with its process."""
