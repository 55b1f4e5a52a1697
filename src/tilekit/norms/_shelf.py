"""Where tiles are kept between two norms: on the device, in host memory, or on disk."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tilekit._plan.spans import Interval
from tilekit.backends import Array
from tilekit.norms._phases import Offload, TileIndex
from tilekit.norms._places import Places


@dataclass(slots=True)
class TileState:
    """
    What a tile holds between two tasks.

    Attributes
    ----------
    value : array
        The cells that the next task takes.
    residuals : list of (array, cells)
        What open residual connections remember, with the cells that it covers, the last one on top.
    """

    value: Array
    residuals: list[tuple[Array, tuple[Interval, ...]]]

    def copy(self) -> TileState:
        """Copy the references, not the arrays."""
        return TileState(self.value, list(self.residuals))


class Shelf:
    """
    Keep the arrays of each tile until it is processed again.

    Parameters
    ----------
    offload : {"host", "disk"} or None
        Where they are kept. The arrays come back as they were: same library, device, dtype and values.
    """

    def __init__(self, offload: Offload | None) -> None:
        self._offload = offload
        self._places = Places()
        self._kept: dict[TileIndex, tuple[list[int], dict[int, Any], list[tuple[Interval, ...]]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kept.clear()
        self._places.__exit__(kind, error, trace)

    def put(self, tile: TileIndex, state: TileState, *, stay: bool = False) -> None:
        """Keep the arrays of a tile; with `stay` they are needed next and are not moved."""
        arrays = [state.value, *(array for array, _ in state.residuals)]
        # Where a block begins, the residual is the same array as the value: it is kept once.
        names = [id(x) for x in arrays]
        distinct = dict(zip(names, arrays, strict=True))
        if not stay:
            distinct = {name: self._away(x, tile, i) for i, (name, x) in enumerate(distinct.items())}
        self._kept[tile] = names, distinct, [cells for _, cells in state.residuals]

    def take(self, tile: TileIndex) -> TileState:
        """Return the arrays of a tile and forget them."""
        names, distinct, cells = self._kept.pop(tile)
        back = {name: self._places.back(x) for name, x in distinct.items()}
        value, *residuals = (back[name] for name in names)
        return TileState(value, list(zip(residuals, cells, strict=True)))

    def _away(self, x: Array, tile: TileIndex, number: int) -> Any:
        """Move array `number` of a tile away."""
        del tile, number
        return self._places.away(x, self._offload or "device")
