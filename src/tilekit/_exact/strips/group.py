"""`Strips`: the ranks that work on one call together."""

from typing import Any

from tilekit._errors import PlanError
from tilekit._exact.strips.agree import agree
from tilekit._exact.strips.partition import Grid
from tilekit._exact.strips.transports import Transport, transport_of
from tilekit.backends import Array

__all__ = ["Strips"]


class Strips:
    """
    The ranks that evaluate one function together, each its part of every array.

    Each rank owns a contiguous part along the rows and columns of the result. What an operation needs of the parts of
    others is exchanged, each cell once, and statistics of normalisations are put together over all ranks, so the result
    is that of one device. All ranks make the call, with the same function and the same input.

    Parameters
    ----------
    group : torch.distributed.ProcessGroup or mlx.core.distributed.Group, optional
        The ranks; that of the process where absent. For torch a process group of its own is made of them, so all ranks
        make their `Strips` at the same time. Groups of MLX are experimental: a ring reaches neighbours only, and a rank
        that dies may leave the others waiting.
    grid : (int, int), optional
        Rows and columns of ranks; as square as the latents allow where absent. An image is cut in columns, as its rows
        slide.
    gather : bool
        Whether rank 0 gets the whole result and the others None; else each rank gets its `Strip`.

    Raises
    ------
    BackendError
        If `group` is no group, or the process belongs to none.
    PlanError
        If the grid does not fit the ranks.

    Examples
    --------
    >>> import tilekit
    >>> tilekit.Strips(group="gloo")
    Traceback (most recent call last):
    ...
    tilekit._errors.BackendError: group: got str, expected a ProcessGroup of torch.distributed or a Group of ...
    """

    def __init__(self, group: Any = None, grid: Grid | None = None, gather: bool = False) -> None:
        self.transport: Transport = transport_of(group)
        self.grid = None if grid is None else _checked(grid, self.transport.size)
        self.gather = bool(gather)
        self.sent_bytes = 0
        """Bytes of borders that this rank has sent in the last call."""

    @property
    def rank(self) -> int:
        """The number of this rank."""
        return self.transport.rank

    @property
    def size(self) -> int:
        """The number of ranks."""
        return self.transport.size

    def agree(self, name: str, x: Array) -> None:
        """
        See that all ranks have the same array: noise, a mask, whatever the function holds beside its input.

        Parameters
        ----------
        name : str
            For the error.
        x : array
            What is compared, by a checksum.

        Raises
        ------
        InputError
            If another rank has another.
        """
        agree(self.transport, x, [(name, self.transport.digest(x))])

    def close(self) -> None:
        """Leave the group; calls of others that are under way fail. Called by itself where a call fails."""
        self.transport.close()


def _checked(grid: Grid, ranks: int) -> Grid:
    rows = tuple(grid)
    if len(rows) != 2 or not all(type(n) is int and n > 0 for n in rows) or rows[0] * rows[1] != ranks:
        msg = f"grid: got {grid!r} for {ranks} ranks, expected (rows, columns) whose product is {ranks}"
        raise PlanError(msg)
    return rows[0], rows[1]
