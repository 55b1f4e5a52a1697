"""Where the tiles of an array lie: frozen integers, and what follows from them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product

from tilekit._errors import PlanError
from tilekit._plan.geometry import Direction, Geometry
from tilekit._plan.spans import Interval, Span, checked_integer
from tilekit._plan.weights import Segment, segments

__all__ = ["Layout", "Tile", "checked_shape"]


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
class Layout:
    """Where the tiles of an array lie, and how they are put together; the fields are those of `Plan`."""

    geometry: Geometry
    shape: tuple[int, ...]
    spans: tuple[tuple[Span, ...], ...]
    direction: Direction = "decode"
    halo: tuple[Interval, ...] | None = None

    def __post_init__(self) -> None:
        _check_layout(self)

    @cached_property
    def out_sizes(self) -> tuple[int, ...]:
        """Sizes of the output, one for each axis of the geometry."""
        sizes = [(axis.law, self.shape[axis.position]) for axis in self.geometry.axes]
        if self.direction == "decode":
            return tuple(law.length(n) for law, n in sizes)
        return tuple(law.cells(n) for law, n in sizes)

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

    @cached_property
    def slab_starts(self) -> tuple[int, ...]:
        """First output cell of the first axis to which each slab contributes."""
        rows = self.segments[0]
        return tuple(min(s.start for s in rows if i in s.tiles) for i in range(self.slabs))

    def block_end(self, start: int) -> int:
        """Where the streamed block that begins at this output cell ends: where a later slab contributes, or the end."""
        return min((cell for cell in self.slab_starts if cell > start), default=self.out_sizes[0])

    @property
    def redundant_work(self) -> float:
        """Pixel-side cells that are decoded (or encoded), over those that are needed; 1.0 without overlap."""
        sides = [t.dst if self.direction == "decode" else t.src for t in self.tiles]
        done = sum(math.prod(stop - start for start, stop in side) for side in sides)
        pixels = self.out_sizes if self.direction == "decode" else [self.shape[a.position] for a in self.geometry.axes]
        return done / math.prod(pixels)


def checked_shape(shape: Sequence[object], geometry: Geometry) -> tuple[int, ...]:
    """Give a shape back as a tuple, or refuse it."""
    sizes = tuple(map(checked_integer, shape))
    if len(sizes) != geometry.ndim:
        msg = f"{geometry.name}: expected {geometry.ndim} axes, got shape {sizes}"
        raise PlanError(msg)
    if min(sizes) < 1:
        names = {axis.position: axis.name for axis in geometry.axes}
        empty = names.get(sizes.index(min(sizes)), f"axis {sizes.index(min(sizes))}")
        msg = f"{geometry.name}: {empty} is empty in shape {sizes}"
        raise PlanError(msg)
    return sizes


def _sides(layout: Layout, number: int, span: Span) -> tuple[Interval, Interval]:
    """Input and output interval of one span of one axis."""
    law, cells = layout.geometry.axes[number].law, layout.spans[number][-1].stop
    if layout.halo is not None:
        before, after = layout.halo[number]
        before += law.causal  # the first latent of a tile gives one cell, whatever it gives in the whole
        span = Span(max(0, span.start - before), min(cells, span.stop + after))
    pixels = law.map(span)
    latent_side, pixel_side = (span.start, span.stop), (pixels.start, pixels.stop)
    return (latent_side, pixel_side) if layout.direction == "decode" else (pixel_side, latent_side)


def _axis_segments(layout: Layout, number: int) -> tuple[Segment, ...]:
    law, spans = layout.geometry.axes[number].law, layout.spans[number]
    if layout.halo is None:
        outs = tuple(map(law.map, spans)) if layout.direction == "decode" else spans
        return segments(outs, law.causal)
    stops = [law.length(s.stop) if layout.direction == "decode" else s.stop for s in spans]
    return tuple(Segment(a, b, (i,), None) for i, (a, b) in enumerate(zip([0, *stops], stops, strict=False)))


def _check_layout(layout: Layout) -> None:
    """Refuse spans that do not cover their axes, so that a plan from JSON is as good as any."""
    geometry = layout.geometry
    checked_shape(layout.shape, geometry)
    axes = geometry.axes
    if len(layout.spans) != len(axes) or (layout.halo is not None and len(layout.halo) != len(axes)):
        msg = f"{geometry.name}: expected spans (and a halo) for {len(axes)} axes, got {len(layout.spans)}"
        raise PlanError(msg)
    if layout.halo is not None and any(min(pair) < 0 for pair in layout.halo):
        msg = f"a halo must be at least 0 latents, got {layout.halo}"
        raise PlanError(msg)
    for axis, spans in zip(axes, layout.spans, strict=True):
        cells = axis.cells(layout.shape[axis.position], layout.direction)
        if not _covers(spans, cells):
            msg = f"{axis.name}: these spans do not cover {cells} cells in order: {spans}"
            raise PlanError(msg)
    layout.segments  # noqa: B018  raises where a cell would get no weight


def _covers(spans: tuple[Span, ...], cells: int) -> bool:
    """Whether spans cover an axis in order, and no ramp is longer than its span."""
    starts, stops = [s.start for s in spans], [s.stop for s in spans]
    whole = bool(spans) and starts[0] == 0 and stops[-1] == cells
    in_order = all(a < b for a, b in pairwise(stops)) and starts == sorted(starts)
    touch = all(b <= a for a, b in zip(stops, starts[1:], strict=False))
    ramps = all(0 <= s.left_ramp <= len(s) and 0 <= s.right_ramp <= len(s) and len(s) > 0 for s in spans)
    return whole and in_order and touch and ramps
