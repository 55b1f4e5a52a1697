"""What a run with shared statistics will do, and the memory it will take."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import Literal

from tilekit._exact.plan import StageRow

__all__ = ["NormMode", "Offload", "QueuePlan"]

NormMode = Literal["exact", "fast", "tile"]
Offload = Literal["host", "disk"]


@dataclass(frozen=True, slots=True)
class QueuePlan:
    """
    What `TaskQueue.run` will do, and the memory it will take.

    Attributes
    ----------
    shape : tuple of int
        Of the input.
    out_shape : tuple of int
        Of the result.
    norm : {"exact", "fast", "tile"}
        Which statistics a norm uses.
    offload : {"host", "disk"} or None
        Where arrays are kept between two norms; None keeps them on the device.
    tiles : int
        Pieces in which the largest arrays are made.
    peak_bytes : int
        Expected peak memory of the arrays on the device, the result included; without the input, the weights and the
        scratch memory of layers that are handed in.
    largest_elements : int
        Elements of the largest of these arrays; see `tilekit.backends.limits`.
    largest_work : int
        Multiply-adds of the heaviest call of a layer, as far as its reach and channels tell; for the same.
    phases : tuple of StageRow
        What each stage costs, in order: from one norm to the next; none with ``norm="tile"``.
    table : str
        The same, one a line.
    """

    shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    norm: NormMode
    offload: Offload | None
    tiles: int
    peak_bytes: int
    largest_elements: int
    largest_work: int
    phases: tuple[StageRow, ...] = field(default=(), repr=False)
    table: str = field(default="", repr=False)

    def __str__(self) -> str:
        head = f"{self.shape} -> {self.out_shape}, norm={self.norm!r}, offload={self.offload!r}, tiles: {self.tiles}"
        return "\n".join([head, self.table, f"peak {self.peak_bytes / 2**20:.1f} MiB"])

    def _repr_html_(self) -> str:
        """Show the same in a notebook."""
        return f"<pre>{escape(str(self))}</pre>"
