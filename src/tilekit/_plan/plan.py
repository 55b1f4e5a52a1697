"""A plan: a layout of tiles, and what running it costs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from tilekit._errors import PlanError
from tilekit._plan.config import TilingConfig
from tilekit._plan.cut import cut
from tilekit._plan.forecast import Costs
from tilekit._plan.geometry import Direction, Geometry
from tilekit._plan.layout import Layout, checked_shape
from tilekit._plan.makespan import makespan
from tilekit._plan.plot import plot
from tilekit._plan.schedule import schedule
from tilekit._plan.spans import Interval, Span, checked_integer
from tilekit._plan.table import table
from tilekit._plan.tiling import Tiling

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Plan", "plan"]


@dataclass(frozen=True)
class Plan(Layout):
    """
    Which tiles are decoded (or encoded), and how they are put together. Made by `plan`; integers only.

    Parameters
    ----------
    geometry : Geometry
        The axes.
    shape : tuple of int
        Shape of the input.
    spans : tuple of tuple of Span
        For each axis of the geometry its tiles, on the **latent** side.
    direction : {"decode", "encode"}
        From latents to pixels, or back.
    halo : tuple of (before, after) or None
        Latents that every tile reads beyond its span and throws away, for each axis; None if tiles are blended.

    Raises
    ------
    PlanError
        If the spans do not cover the axes in order.
    """

    def calls(self, tile_batch_size: int = 1, *, streaming: bool = False) -> int:
        """
        Count the calls of the decoder or encoder.

        Parameters
        ----------
        tile_batch_size : int
            Most tiles of one call.
        streaming : bool
            Whether tiles wait only for others of their slab, as in `stream_tiled`.

        Returns
        -------
        int
            Number of calls.

        Examples
        --------
        >>> from tilekit import LTX2_VIDEO
        >>> encode = plan((1, 3, 9, 2144, 3840), Tiling(height=(512, 128), width=(512, 128)), geometry=LTX2_VIDEO,
        ...               direction="encode")
        >>> encode.calls(), encode.calls(45)
        (60, 4)
        """
        return sum(1 for _ in schedule(self, tile_batch_size, by_slab=streaming))

    def peak_bytes(
        self,
        *,
        channels: int = 3,
        itemsize: int = 4,
        tile_batch_size: int = 1,
        streaming: bool = False,
        in_flight: int = 1,
    ) -> int:
        """
        Forecast the peak memory of the engine, the results of one call included.

        Parameters
        ----------
        channels : int
            Channels of the output.
        itemsize : int
            Bytes of one output number; blending is in float32 whatever it is.
        tile_batch_size : int
            Most tiles of one call.
        streaming : bool
            Whether finished blocks are handed out and dropped, as in `stream_tiled`.
        in_flight : int
            How many calls an executor has under way or waiting for their turn.

        Returns
        -------
        int
            Bytes of the output (or block), of strips that wait for a neighbour, and of the results of the calls that
            are in flight. Memory that the decoder uses inside is not counted.
        """
        return Costs(channels, itemsize, tile_batch_size, streaming, in_flight=in_flight).engine_bytes(self)

    def makespan(self, devices: int, *, tile_batch_size: int = 1, streaming: bool = False) -> float:
        """
        Forecast the time that an executor over several devices takes, over that of one device for the whole.

        Parameters
        ----------
        devices : int
            How many, all as fast, such as the workers of ``executor=``.
        tile_batch_size : int
            Most tiles of one call.
        streaming : bool
            Whether tiles wait only for others of their slab, as in `stream_tiled`.

        Returns
        -------
        float
            The speedup is one over it. A tile costs the cells of its pixel side; transfers cost nothing.

        Raises
        ------
        PlanError
            If `devices` is no integer of at least 1.

        Examples
        --------
        >>> from tilekit import SD_IMAGE
        >>> planned = plan((1, 4, 64, 96), Tiling(width=(256, 64)), geometry=SD_IMAGE)
        >>> planned.makespan(1), planned.makespan(2)
        (1.25, 0.6666666666666666)
        """
        return makespan(self, devices, tile_batch_size, streaming=streaming)

    def to_json(self) -> str:
        """Write the plan as one line of JSON; `Plan.from_json` reads it."""
        value = {
            "tilekit_plan": 1,
            "direction": self.direction,
            "geometry": self.geometry.to_json(),
            "shape": list(self.shape),
            "spans": [[[s.start, s.stop, s.left_ramp, s.right_ramp] for s in spans] for spans in self.spans],
            "halo": None if self.halo is None else [list(pair) for pair in self.halo],
        }
        return json.dumps(value)

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """
        Read what `to_json` wrote.

        Parameters
        ----------
        text : str
            JSON.

        Returns
        -------
        Plan
            An equal plan.

        Raises
        ------
        PlanError
            If the text is not such a plan, or its numbers contradict one another.

        Examples
        --------
        >>> from tilekit import SD_IMAGE
        >>> planned = plan((1, 4, 64, 96), Tiling(width=(256, 64)), geometry=SD_IMAGE)
        >>> Plan.from_json(planned.to_json()) == planned
        True
        """
        try:
            value = json.loads(text)
            if value["tilekit_plan"] != 1 or value["direction"] not in ("decode", "encode"):
                msg = f"version {value['tilekit_plan']}, direction {value['direction']!r}"
                raise PlanError(msg)
            halo = value["halo"]
            return cls(
                Geometry.from_json(value["geometry"]),
                tuple(map(checked_integer, value["shape"])),
                tuple(tuple(Span(*map(checked_integer, row)) for row in rows) for rows in value["spans"]),
                value["direction"],
                None
                if halo is None
                else tuple((checked_integer(before), checked_integer(after)) for before, after in halo),
            )
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
            msg = f"not a plan of tilekit: {str(error)[:1000]}"
            raise PlanError(msg) from error

    def __str__(self) -> str:
        return table(self)

    def _repr_html_(self) -> str:
        """Show the same in a notebook."""
        return f"<pre>{escape(str(self))}</pre>"

    def plot(self) -> "Figure":
        """
        Draw tiles, overlaps and summed weights.

        Returns
        -------
        matplotlib.figure.Figure
            One row for each axis, and a map of the overlaps where two axes are tiled.

        Raises
        ------
        ImportError
            If matplotlib is not installed (``pip install "tilekit-vae[plot]"``).
        """
        return plot(self)


def plan(
    shape: Sequence[int],
    tiling: Tiling | TilingConfig | None = None,
    *,
    geometry: Geometry,
    direction: Direction = "decode",
    halo: Mapping[str, Interval | None] | None = None,
) -> Plan:
    """
    Plan the tiles of an array, from integers alone.

    Parameters
    ----------
    shape : sequence of int
        Shape of the latents (or, to encode, of the clip, image or sound).
    tiling : Tiling, TilingConfig or None
        Tile sizes and overlaps in pixel-side units; None leaves everything whole.
    geometry : Geometry
        The axes of the autoencoder.
    direction : {"decode", "encode"}
        From latents to pixels, or back.
    halo : mapping of str to (before, after) or None, optional
        For each axis of the geometry the latents that a cell depends on before and after its own, as `measure_halo`
        gives them; None for an axis that must stay whole. Tiles of the given size are then read with that much more on
        either side and cropped instead of blended; the overlaps of `tiling` are not used.

    Returns
    -------
    Plan
        Frozen and hashable; ``print`` shows it as a table.

    Raises
    ------
    PlanError
        If the shape, the tiling, the geometry and the halo do not fit together.

    Examples
    --------
    >>> from tilekit import LTX2_VIDEO
    >>> planned = plan((1, 128, 16, 34, 60), TilingConfig.default(), geometry=LTX2_VIDEO)
    >>> len(planned.tiles), planned.out_sizes
    (45, (121, 1088, 1920))
    """
    _check_geometry(geometry)
    sizes = checked_shape(shape, geometry)
    tiling = _checked_tiling(tiling)
    spans = cut(geometry, sizes, tiling.axes, direction=direction, uniform=tiling.uniform, cropped=halo is not None)
    return Plan(geometry, sizes, spans, direction, None if halo is None else _checked_halo(geometry, spans, halo))


def _check_geometry(geometry: object) -> None:
    if not isinstance(geometry, Geometry):
        msg = f"geometry must be a Geometry, such as tilekit.LTX2_VIDEO, got {geometry!r}"
        raise PlanError(msg)


def _checked_tiling(tiling: object) -> Tiling:
    if tiling is None:
        return Tiling()
    if isinstance(tiling, TilingConfig):
        return tiling.tiling()
    if not isinstance(tiling, Tiling):
        msg = f"tiling must be a Tiling, a TilingConfig or None, got {tiling!r}; for one, TilingConfig.default()"
        raise PlanError(msg)
    return tiling


def _checked_halo(
    geometry: Geometry, spans: Sequence[tuple[Span, ...]], halo: Mapping[str, Interval | None]
) -> tuple[Interval, ...]:
    """Latents before and after of every axis; those of an axis that stays whole do not matter."""
    for name in halo:
        geometry.axis(name)
    pairs: list[Interval] = []
    for axis, tiles in zip(geometry.axes, spans, strict=True):
        pair = halo.get(axis.name)
        if len(tiles) > 1 and pair is None:
            what = "sees all of it" if axis.name in halo else "is not in the halo"
            msg = f"{axis.name}: an axis along which the function {what} cannot be cut exactly; leave it whole"
            raise PlanError(msg)
        pairs.append(
            (0, 0) if pair is None or len(tiles) == 1 else (checked_integer(pair[0]), checked_integer(pair[1]))
        )
    return tuple(pairs)
