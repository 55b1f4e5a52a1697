"""How arrays get to other ranks: one small class for each library, found by the group."""

import re
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol

from tilekit._errors import BackendError, RankError
from tilekit._exact.boxes import Shape
from tilekit.backends import Array

__all__ = ["Give", "Take", "Transport", "lost", "transport_of"]

Give = tuple[int, Array]
"""A rank, and what goes to it."""
Take = tuple[int, Shape, str]
"""A rank, and the shape and dtype of what comes from it."""
_MODULES = {"torch": "tilekit._exact.strips._torch", "mlx": "tilekit._exact.strips._mlx"}


class Transport(Protocol):
    """A group of processes of one library."""

    @property
    def rank(self) -> int:
        """The number of this process."""

    @property
    def size(self) -> int:
        """How many there are."""

    @property
    def library(self) -> str:
        """Whose arrays go."""

    def reaches(self, one: int, other: int) -> bool:
        """Whether two ranks can send to each other."""

    def swap(self, gives: Sequence[Give], takes: Sequence[Take], like: Array) -> list[Array]:
        """Send arrays, and give those that come; messages between two ranks keep their order."""

    def everyone(self, mine: Array | None, givers: Sequence[int], shape: Shape, dtype: str, like: Array) -> list[Array]:
        """Give the arrays of some ranks, of one shape, to all."""

    def collect(self, mine: Array, shapes: Sequence[Shape], dtype: str) -> list[Array] | None:
        """Bring one array of each rank to the first; None on the others."""

    def digest(self, x: Array) -> int:
        """Give a number that differs where cells of an array do."""

    def close(self) -> None:
        """Leave the group, so that the others hear of it."""


def transport_of(group: Any) -> Transport:
    """
    Find how a group sends.

    Parameters
    ----------
    group : ProcessGroup, mlx Group or None
        None takes the group that the process has: that of `torch.distributed`, or of `mx.distributed`.

    Returns
    -------
    Transport
        With a communicator of its own, where the library has such.

    Raises
    ------
    BackendError
        If it is no such group, or there is none.
    """
    library = _default() if group is None else type(group).__module__.partition(".")[0]
    if library not in _MODULES:
        msg = (
            f"group: got {type(group).__name__}, expected a ProcessGroup of torch.distributed or a Group of "
            "mlx.core.distributed"
        )
        raise BackendError(msg)
    transport: Transport = import_module(_MODULES[library]).open_transport(group)
    return transport


def _default() -> str:
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        return "torch"
    if "mlx.core" in sys.modules and torch is None:
        return "mlx"
    msg = (
        "group: this process belongs to no group yet; start it with torchrun and call "
        "torch.distributed.init_process_group, or with mlx.launch and give mlx.core.distributed.init()"
    )
    raise BackendError(msg)


def lost(rank: int, error: object) -> RankError:
    """Make the error of a rank that cannot reach another."""
    text = re.sub(r"^\[[^]]*\] ", "", str(error) or type(error).__name__).splitlines()[0].partition(". ")[0]
    return RankError(
        f"strips: rank {rank} lost another rank ({text}); its process ended, failed or left the call. What was handed "
        "out so far is right. End all ranks and start them again; blocks that were kept need not be made again"
    )
