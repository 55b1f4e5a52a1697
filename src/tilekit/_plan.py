"""A plan: frozen integers that say which tiles are read, and where each one goes."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from typing import TYPE_CHECKING, Literal

from tilekit import _table
from tilekit._config import TilingConfig
from tilekit._errors import PlanError
from tilekit._geometry import Axis, Geometry
from tilekit._spans import Span, split, split_by_count, split_uniform, uniform_count
from tilekit._tiling import AxisTiling, Tiling
from tilekit._weights import Segment, segments

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Direction", "Plan", "Tile", "plan"]

Direction = Literal["decode", "encode"]
Interval = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Tile:
    """
    One tile: what it reads and what it writes, an interval for each axis of the geometry.

    Parameters
    ----------
    index : tuple of int
        Which tile of each axis.
    src, dst : tuple of (start, stop)
        Cells of the input and of the output.
    """

    index: tuple[int, ...]
    src: tuple[Interval, ...]
    dst: tuple[Interval, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the input, one for each axis of the geometry."""
        return tuple(stop - start for start, stop in self.src)


@dataclass(frozen=True)
class Plan:
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
    """

    geometry: Geometry
    shape: tuple[int, ...]
    spans: tuple[tuple[Span, ...], ...]
    direction: Direction = "decode"
    halo: tuple[Interval, ...] | None = None

    def __post_init__(self) -> None:
        _check_plan(self)

    @cached_property
    def out_sizes(self) -> tuple[int, ...]:
        """Sizes of the output, one for each axis of the geometry."""
        sizes = [self.shape[axis.position] for axis in self.geometry.axes]
        step = "length" if self.direction == "decode" else "cells"
        return tuple(getattr(axis.law, step)(n) for axis, n in zip(self.geometry.axes, sizes, strict=True))

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        """All tiles, those of the first axis slowest."""
        columns = [
            [(i, *_sides(self, number, span)) for i, span in enumerate(spans)]
            for number, spans in enumerate(self.spans)
        ]
        rows = product(*columns)
        return tuple(Tile(tuple(c[0] for c in r), tuple(c[1] for c in r), tuple(c[2] for c in r)) for r in rows)

    @cached_property
    def segments(self) -> tuple[tuple[Segment, ...], ...]:
        """For each axis the pieces of the output and the weights of the tiles that contribute to them."""
        return tuple(_axis_segments(self, number) for number in range(len(self.spans)))

    @cached_property
    def shape_groups(self) -> dict[tuple[int, ...], int]:
        """How many tiles there are of each input shape, in the order in which the shapes first occur."""
        groups: dict[tuple[int, ...], int] = {}
        for tile in self.tiles:
            groups[tile.shape] = groups.get(tile.shape, 0) + 1
        return groups

    @property
    def slabs(self) -> int:
        """Tiles of the first axis: the steps in which a streamed result is finished."""
        return len(self.spans[0])

    @property
    def redundant_work(self) -> float:
        """Pixel-side cells that are decoded (or encoded), over those that are needed; 1.0 without overlap."""
        sides = [t.dst if self.direction == "decode" else t.src for t in self.tiles]
        done = sum(math.prod(stop - start for start, stop in side) for side in sides)
        pixels = self.out_sizes if self.direction == "decode" else [self.shape[a.position] for a in self.geometry.axes]
        return done / math.prod(pixels)

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
        from tilekit._schedule import schedule

        return sum(1 for step in schedule(self, tile_batch_size, by_slab=streaming) if step.tiles)

    def peak_bytes(
        self, *, channels: int = 3, itemsize: int = 4, tile_batch_size: int = 1, streaming: bool = False
    ) -> int:
        """
        Forecast the bytes that the engine holds at once, the results of one call included.

        Parameters
        ----------
        channels : int
            Channels of the output.
        itemsize : int
            Bytes of one output number; blending is in float32 whatever it is.
        tile_batch_size : int
            Most tiles of one call.
        streaming : bool
            Whether finished blocks are handed on and dropped.

        Returns
        -------
        int
            Bytes: output or block, strips that wait for a neighbour, and the tiles of one call. What the decoder needs
            inside comes on top.
        """
        from tilekit._forecast import peak_bytes

        return peak_bytes(self, channels, itemsize, tile_batch_size, streaming)

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
            If the text is no such plan, or its numbers contradict one another.

        Examples
        --------
        >>> from tilekit import SD_IMAGE
        >>> made = plan((1, 4, 64, 96), Tiling(width=(256, 64)), geometry=SD_IMAGE)
        >>> Plan.from_json(made.to_json()) == made
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
                tuple(map(_integer, value["shape"])),
                tuple(tuple(Span(*map(_integer, row)) for row in rows) for rows in value["spans"]),
                value["direction"],
                None if halo is None else tuple((_integer(before), _integer(after)) for before, after in halo),
            )
        except (KeyError, TypeError, ValueError) as error:
            msg = f"this is no plan: {error}"
            raise PlanError(msg) from error

    def __str__(self) -> str:
        return _table.table(self)

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
        from tilekit._plot import plot

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
        Which way.
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
        If the numbers do not fit together.

    Examples
    --------
    >>> from tilekit import LTX2_VIDEO
    >>> made = plan((1, 128, 16, 34, 60), TilingConfig.default(), geometry=LTX2_VIDEO)
    >>> len(made.tiles), made.out_sizes
    (45, (121, 1088, 1920))
    """
    sizes = _checked_shape(shape, geometry)
    if isinstance(tiling, TilingConfig):
        tiling = tiling.tiling()
    rows = {} if tiling is None else {row.name: row for row in tiling.axes}
    for name in rows:
        geometry.axis(name)
    uniform = tiling is not None and tiling.uniform
    spans = []
    for axis in geometry.axes:
        cells = _cells(axis, sizes[axis.position], direction)
        row = rows.get(axis.name)
        spans.append((Span(0, cells),) if row is None else _cut(axis, cells, row, uniform, halo is not None))
    return Plan(geometry, sizes, tuple(spans), direction, None if halo is None else _pairs(geometry, spans, halo))


def _pairs(
    geometry: Geometry, spans: list[tuple[Span, ...]], halo: Mapping[str, Interval | None]
) -> tuple[Interval, ...]:
    """Latents before and after of every axis; those of an axis that stays whole do not matter."""
    for name in halo:
        geometry.axis(name)
    found = []
    for axis, cut in zip(geometry.axes, spans, strict=True):
        pair = halo.get(axis.name)
        if len(cut) > 1 and pair is None:
            what = "sees all of it" if axis.name in halo else "is not in the halo"
            msg = f"{axis.name}: an axis along which the function {what} cannot be cut exactly; leave it whole"
            raise PlanError(msg)
        found.append((0, 0) if pair is None or len(cut) == 1 else (_integer(pair[0]), _integer(pair[1])))
    return tuple(found)


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        msg = f"expected an integer, got {value!r}"
        raise PlanError(msg)
    return value


def _checked_shape(shape: Sequence[int], geometry: Geometry) -> tuple[int, ...]:
    sizes = tuple(_integer(n) for n in shape)
    if len(sizes) != geometry.ndim:
        msg = f"{geometry.name}: expected {geometry.ndim} axes, got shape {sizes}"
        raise PlanError(msg)
    if min(sizes) < 1:
        names = {axis.position: axis.name for axis in geometry.axes}
        empty = names.get(sizes.index(min(sizes)), f"axis {sizes.index(min(sizes))}")
        msg = f"{geometry.name}: {empty} is empty in shape {sizes}"
        raise PlanError(msg)
    return sizes


def _cells(axis: Axis, size: int, direction: Direction) -> int:
    """Latents of an axis whose input has `size` cells."""
    if direction == "decode":
        return size
    try:
        return axis.law.cells(size)
    except PlanError as error:
        msg = f"{axis.name}: {error}; crop or pad the input first"
        raise PlanError(msg) from None


def _cut(axis: Axis, cells: int, row: AxisTiling, uniform: bool, cropped: bool) -> tuple[Span, ...]:
    """Spans of one axis in latents."""
    causal = axis.law.causal and not cropped
    overlap, least = row.overlap, row.min_size
    count, size = row.count, None
    if row.size is not None:
        size, overlap = _on_grid(axis, "tile size", row.size), _on_grid(axis, "overlap", row.overlap)
        least = None if least is None else _on_grid(axis, "min_size", least)
    if cropped:
        overlap, least = 0, None
    try:
        if size is not None and uniform:
            count = uniform_count(cells, size, overlap, causal=causal)
        if count is not None and uniform:
            return split_uniform(cells, count, overlap, causal=causal)
        if count is not None:
            return split_by_count(cells, count, overlap, causal=causal, min_size=least)
        if size is None:  # pragma: no cover
            raise AssertionError
        return split(cells, size, overlap, causal=causal, min_size=least)
    except PlanError as error:
        msg = f"{axis.name}, in latents of {axis.law.factor}: {error}"
        raise PlanError(msg) from None


def _on_grid(axis: Axis, what: str, value: int) -> int:
    factor = axis.law.factor
    if value % factor:
        below, above = value // factor * factor, -(-value // factor) * factor
        msg = f"{axis.name}: {what} must be a multiple of {factor}, got {value}; take {below} or {above}"
        raise PlanError(msg)
    return value // factor


def _sides(made: Plan, number: int, span: Span) -> tuple[Interval, Interval]:
    """Input and output interval of one span of one axis."""
    law, cells = made.geometry.axes[number].law, made.spans[number][-1].stop
    if made.halo is not None:
        before, after = made.halo[number]
        before += law.causal  # the first latent of a tile gives one cell, whatever it gives in the whole
        span = Span(max(0, span.start - before), min(cells, span.stop + after))
    pixels = law.map(span)
    latent_side, pixel_side = (span.start, span.stop), (pixels.start, pixels.stop)
    return (latent_side, pixel_side) if made.direction == "decode" else (pixel_side, latent_side)


def _axis_segments(made: Plan, number: int) -> tuple[Segment, ...]:
    law, spans = made.geometry.axes[number].law, made.spans[number]
    if made.halo is None:
        outs = tuple(map(law.map, spans)) if made.direction == "decode" else spans
        return segments(outs, law.causal)
    stops = [law.length(s.stop) if made.direction == "decode" else s.stop for s in spans]
    return tuple(Segment(a, b, (i,), None) for i, (a, b) in enumerate(zip([0, *stops], stops, strict=False)))


def _check_plan(made: Plan) -> None:
    """Refuse spans that do not cover their axes, so that a plan from JSON is as good as any."""
    _checked_shape(made.shape, made.geometry)
    axes = made.geometry.axes
    if len(made.spans) != len(axes) or (made.halo is not None and len(made.halo) != len(axes)):
        msg = f"{made.geometry.name}: expected spans (and a halo) for {len(axes)} axes, got {len(made.spans)}"
        raise PlanError(msg)
    if made.halo is not None and any(min(pair) < 0 for pair in made.halo):
        msg = f"a halo must be at least 0 latents, got {made.halo}"
        raise PlanError(msg)
    for axis, spans in zip(axes, made.spans, strict=True):
        cells = _cells(axis, made.shape[axis.position], made.direction)
        starts, stops = [s.start for s in spans], [s.stop for s in spans]
        whole = bool(spans) and starts[0] == 0 and stops[-1] == cells
        steps = all(a < b for a, b in pairwise(stops)) and starts == sorted(starts)
        touch = all(b <= a for a, b in zip(stops, starts[1:], strict=False))
        ramps = all(0 <= s.left_ramp <= len(s) and 0 <= s.right_ramp <= len(s) and len(s) > 0 for s in spans)
        if not (whole and steps and touch and ramps):
            msg = f"{axis.name}: these spans do not cover {cells} cells in order: {spans}"
            raise PlanError(msg)
    made.segments  # noqa: B018  raises where a cell would get no weight
