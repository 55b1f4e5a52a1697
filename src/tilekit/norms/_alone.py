"""Tiles that know nothing of each other, as ordinary tiling has them: each takes its own statistics."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from tilekit._errors import PlanError
from tilekit._plan.cut import AxisTiling
from tilekit._plan.geometry import Axis, Direction, Geometry
from tilekit._plan.laws import Linear
from tilekit._plan.plan import Plan, plan
from tilekit._plan.tiling import Tiling
from tilekit._progress import Progress
from tilekit._run.run import decode_tiled, encode_tiled
from tilekit.backends import Array

__all__ = ["Alone"]

OVERLAP = 4
"""A tile shares one cell in so many with the next."""


class Alone:
    """
    A function over blended tiles.

    Parameters
    ----------
    shape, out_shape : tuple of int
        Of the input and of the output.
    axes : tuple of int
        That may be cut.
    names : tuple of str
        Their names.
    sizes : tuple of int or None
        The most cells of a tile along each, on the finer side.
    channel_axis : int
        Where the channels are.

    Raises
    ------
    PlanError
        If the sides of input and output are not whole multiples of each other.
    """

    def __init__(  # noqa: PLR0913
        self,
        shape: Sequence[int],
        out_shape: Sequence[int],
        *,
        axes: Sequence[int],
        names: Sequence[str],
        sizes: Sequence[int | None],
        channel_axis: int,
    ) -> None:
        channel = channel_axis % len(shape)
        self.direction: Direction = "encode" if any(out_shape[a] < shape[a] for a in axes) else "decode"
        places = [axis for axis in range(1, len(shape)) if axis != channel]
        called = dict(zip(axes, names, strict=True))
        factors = {a: self._factor(shape[a], out_shape[a], called.get(a, f"axis {a}")) for a in places}
        rows = tuple(Axis(called.get(a, f"axis {a}"), a, Linear(factors[a])) for a in places)
        self.geometry = Geometry("network", rows, 0, channel)
        self.crop = tuple(
            slice(0, out_shape[a] * factors[a]) if a in factors and self.direction == "encode" else slice(None)
            for a in range(len(shape))
        )
        requests = []
        for name, axis, size in zip(names, axes, sizes, strict=True):
            if size is not None:
                cells = max(1, size // factors[axis])
                requests.append(AxisTiling(name, cells * factors[axis], None, cells // OVERLAP * factors[axis]))
        self.tiling = Tiling.from_axes(tuple(requests), uniform=False)
        held = [n if s.stop is None else s.stop for n, s in zip(shape, self.crop, strict=True)]
        self.plan: Plan = plan(held, self.tiling, geometry=self.geometry, direction=self.direction)

    def _factor(self, given: int, made: int, name: str) -> int:
        few, many = (made, given) if self.direction == "encode" else (given, made)
        if not few or many // few < 1 or (self.direction == "decode" and many % few):
            msg = f"{name}: {given} cells become {made}; tiles by themselves need a whole number of cells for each"
            raise PlanError(msg)
        return many // few

    @property
    def tile_shape(self) -> tuple[int, ...]:
        """The largest tile of the input."""
        shape = list(self.plan.shape)
        largest = max((tile.shape for tile in self.plan.tiles), key=prod)
        for axis, n in zip(self.geometry.axes, largest, strict=True):
            shape[axis.position] = n
        return tuple(shape)

    def made(self, function: Any, x: Array, progress: Progress) -> Array:
        """Run the tiles and blend them."""
        call = decode_tiled if self.direction == "decode" else encode_tiled
        return call(function, x[self.crop], self.tiling, geometry=self.geometry, progress=progress)
