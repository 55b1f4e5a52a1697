"""Ranks of torch.distributed: point to point alone, over connections that nothing else uses."""

import zlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar, Protocol

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.distributed_c10d import _get_default_store

from tilekit._exact.boxes import Shape
from tilekit._exact.strips.transports import Give, Take, lost

__all__ = ["TorchTransport", "open_transport"]

TIMEOUT = timedelta(minutes=10)
"""After which a rank that says nothing counts as lost, where its connection is not seen to end."""


class _Group(Protocol):
    """Connections between ranks, numbered from 0 on."""

    def start(self, gives: Sequence[Give], takes: Sequence[tuple[int, Tensor]]) -> list[Any]:
        """Send and receive bytes; what is given back has ``wait``."""

    def close(self) -> None:
        """End the connections."""


class _Gloo:
    """
    Connections of gloo, outside of the list of groups of torch.

    A group of some ranks gets its name there from the number of groups that a rank knows, so ranks that know different
    numbers would wait for each other.
    """

    _made: ClassVar[dict[tuple[int, ...], int]] = {}

    def __init__(self, ranks: tuple[int, ...], rank: int) -> None:
        number = self._made[ranks] = self._made.get(ranks, 0) + 1
        store = PrefixStore(f"tilekit/strips/{ranks}/{number}", _get_default_store())
        self._group: Any = dist.ProcessGroupGloo(store, rank, len(ranks), TIMEOUT)
        # a rank that is refused before it sends anything ends its connections, which others may still be making
        self._group.barrier().wait()  # type: ignore[attr-defined]  # torch does not list it

    def start(self, gives: Sequence[Give], takes: Sequence[tuple[int, Tensor]]) -> list[Any]:
        if self._group is None:
            raise _CLOSED
        sent = [self._group.send([value], rank, 0) for rank, value in gives]
        return [*sent, *(self._group.recv([value], rank, 0) for rank, value in takes)]

    def close(self) -> None:
        self._group = None


class _Listed:
    """A process group made by torch: NCCL and others."""

    def __init__(self, ranks: tuple[int, ...], backend: str) -> None:
        # all ranks number groups alike; some ranks name theirs by the groups that they know
        apart = len(ranks) < dist.get_world_size()
        self._group: Any = dist.new_group(list(ranks), TIMEOUT, backend, use_local_synchronization=apart)

    def start(self, gives: Sequence[Give], takes: Sequence[tuple[int, Tensor]]) -> list[Any]:
        if self._group is None:
            raise _CLOSED
        out = [dist.P2POp(dist.isend, value, group=self._group, group_peer=rank) for rank, value in gives]
        into = [dist.P2POp(dist.irecv, value, group=self._group, group_peer=rank) for rank, value in takes]
        return dist.batch_isend_irecv([*out, *into]) if out or into else []

    def close(self) -> None:
        group, self._group = self._group, None
        if group is not None and dist.is_initialized():
            dist.destroy_process_group(group)


_CLOSED = RuntimeError("the ranks were left after an error; make new strips")


def open_transport(group: Any) -> "TorchTransport":
    """Make connections of their own for the ranks of a group."""
    return TorchTransport(dist.group.WORLD if group is None else group)


class TorchTransport:
    """
    Connections of their own: halos that share a communicator with collectives of others get mixed up with these.

    Parameters
    ----------
    group : ProcessGroup
        Whose ranks; all of them make one at the same time.
    """

    library = "torch"

    def __init__(self, group: Any) -> None:
        ranks = tuple(dist.get_process_group_ranks(group))
        self.rank, self.size = dist.get_rank(group), len(ranks)
        backend = str(dist.get_backend(group))
        self._on_device = backend != "gloo"
        self._group: _Group = _Listed(ranks, backend) if self._on_device else _Gloo(ranks, self.rank)

    def reaches(self, one: int, other: int) -> bool:
        """Whether two ranks can send to each other: all can."""
        del one, other
        return True

    def swap(self, gives: Sequence[Give], takes: Sequence[Take], like: Tensor) -> list[Tensor]:
        """Send tensors, and give those that come."""
        device = like.device if self._on_device else torch.device("cpu")
        sent = [(rank, _bytes(value.detach().to(device))) for rank, value in gives]
        came = [torch.empty(shape, dtype=getattr(torch, dtype), device=device) for _, shape, dtype in takes]
        into = [(rank, _bytes(value)) for (rank, _, _), value in zip(takes, came, strict=True)]
        try:
            for work in self._group.start(sent, into):
                work.wait()
        except RuntimeError as error:
            raise lost(self.rank, error) from error
        return [value.to(like.device) for value in came]

    def everyone(
        self, mine: Tensor | None, givers: Sequence[int], shape: Shape, dtype: str, like: Tensor
    ) -> list[Tensor]:
        """Give the tensors of some ranks to all."""
        others = [rank for rank in range(self.size) if rank != self.rank]
        gives = [(rank, mine) for rank in others] if mine is not None else []
        takes = [(rank, shape, dtype) for rank in givers if rank != self.rank]
        came = iter(self.swap(gives, takes, like))
        return [mine if rank == self.rank and mine is not None else next(came) for rank in givers]

    def collect(self, mine: Tensor, shapes: Sequence[Shape], dtype: str) -> list[Tensor] | None:
        """Bring one tensor of each rank to the first."""
        if self.rank:
            self.swap([(0, mine)], [], mine)
            return None
        takes = [(rank, shape, dtype) for rank, shape in enumerate(shapes) if rank]
        return [mine, *self.swap([], takes, mine)]

    def digest(self, x: Tensor) -> int:
        """Give a checksum of the cells."""
        return zlib.crc32(_bytes(x.detach().cpu()).numpy().data)

    def close(self) -> None:
        """End the connections, so that others do not wait."""
        self._group.close()


def _bytes(x: Tensor) -> Tensor:
    """Give the cells as they lie, for every dtype."""
    return x.contiguous().reshape(-1).view(torch.uint8)
