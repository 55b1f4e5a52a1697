"""Where the tiles of an array lie: frozen integers, and what follows from them."""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product

from tilekit._errors import PlanError
from tilekit._plan.geometry import Direction, Geometry
from tilekit._plan.spans import Interval, Span, check_tiles, checked_integer, is_integer
from tilekit._plan.weights import Segment, segments

__all__ = ["Layout", "Tile", "checked_shape"]

MOST_CELLS = 1 << 53  # of one axis: what floats count exactly


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

    @property
    def n_tiles(self) -> int:
        """How many tiles there are."""
        return math.prod(map(len, self.spans))

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        """All tiles, those of the first axis slowest."""
        return tuple(self.iter_tiles())

    def iter_tiles(self) -> Iterator[Tile]:
        """Make the tiles one after the other, in the order of `tiles`."""
        columns = [
            [(i, *_sides(self, number, span)) for i, span in enumerate(spans)]
            for number, spans in enumerate(self.spans)
        ]
        for row in product(*columns):
            yield Tile(tuple(c[0] for c in row), tuple(c[1] for c in row), tuple(c[2] for c in row))

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
    def segments_of_tiles(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """For each axis, and each tile of it, the numbers of the segments to which it contributes."""
        return tuple(_of_tiles(rows, len(spans)) for rows, spans in zip(self.segments, self.spans, strict=True))

    @cached_property
    def slab_starts(self) -> tuple[int, ...]:
        """First output cell of the first axis to which each slab contributes."""
        return tuple(self.segments[0][numbers[0]].start for numbers in self.segments_of_tiles[0])

    @cached_property
    def _block_starts(self) -> tuple[int, ...]:
        return tuple(sorted(set(self.slab_starts)))

    def block_end(self, start: int) -> int:
        """Where the streamed block that begins at this output cell ends: where a later slab contributes, or the end."""
        following = bisect_right(self._block_starts, start)
        return self._block_starts[following] if following < len(self._block_starts) else self.out_sizes[0]

    def check_start(self, start: object) -> int:
        """Give the first output cell of a streamed block back, or the end of the output; refuse what is neither."""
        borders = (*self._block_starts, self.out_sizes[0])
        value = checked_integer(start) if is_integer(start) else -1
        if value not in borders:
            name = self.geometry.axes[0].name
            near = sorted(borders, key=lambda border: abs(border - value))[:2]
            msg = (
                f"start: got {start!r}, where no block of this plan begins along {name}; nearest "
                f"{' or '.join(map(str, sorted(near)))}, and {borders[-1]} is the end"
            )
            raise PlanError(msg)
        return value

    def writes_after(self, slab: int, start: int) -> bool:
        """Whether a slab contributes to output cells of the first axis from `start` on."""
        return self.segments[0][self.segments_of_tiles[0][slab][-1]].stop > start

    @property
    def largest_input(self) -> int:
        """Input cells of the largest tile."""
        return self._largest(0)

    @property
    def largest_output(self) -> int:
        """Output cells of the largest tile."""
        return self._largest(1)

    @property
    def largest_block(self) -> int:
        """Output cells of the largest block of a stream."""
        ends = [*self._block_starts[1:], self.out_sizes[0]]
        rows = max(end - start for start, end in zip(self._block_starts, ends, strict=True))
        return rows * math.prod(self.out_sizes[1:])

    def _largest(self, side: int) -> int:
        columns = ([_sides(self, number, span)[side] for span in spans] for number, spans in enumerate(self.spans))
        return math.prod(max(stop - start for start, stop in column) for column in columns)

    @property
    def redundant_work(self) -> float:
        """Pixel-side cells that are decoded (or encoded), over those that are needed; 1.0 without overlap."""
        pixel_side = 1 if self.direction == "decode" else 0  # of the two sides of a tile
        done = needed = 1
        for number, spans in enumerate(self.spans):
            sides = [_sides(self, number, span)[pixel_side] for span in spans]
            done *= sum(stop - start for start, stop in sides)
            needed *= sides[-1][1]
        return done / needed


def checked_shape(shape: Sequence[object], geometry: Geometry) -> tuple[int, ...]:
    """Give a shape back as a tuple, or refuse it."""
    sizes = tuple(map(checked_integer, shape))
    if len(sizes) != geometry.ndim:
        msg = f"{geometry.name}: expected {geometry.ndim} axes, got shape {sizes}"
        raise PlanError(msg)
    if max(sizes) > MOST_CELLS:
        msg = f"{geometry.name}: an axis has at most {MOST_CELLS} cells, got shape {sizes}"
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


def _of_tiles(rows: Sequence[Segment], count: int) -> tuple[tuple[int, ...], ...]:
    """For each of `count` tiles the numbers of the segments in which it is named."""
    numbers: list[list[int]] = [[] for _ in range(count)]
    for number, segment in enumerate(rows):
        for tile in segment.tiles:
            numbers[tile].append(number)
    return tuple(map(tuple, numbers))


def _check_layout(layout: Layout) -> None:
    """Refuse spans that do not cover their axes, so that a plan from JSON is as good as any."""
    geometry = layout.geometry
    checked_shape(layout.shape, geometry)
    axes = geometry.axes
    if len(layout.spans) != len(axes) or (layout.halo is not None and len(layout.halo) != len(axes)):
        msg = f"{geometry.name}: expected spans (and a halo) for {len(axes)} axes, got {len(layout.spans)}"
        raise PlanError(msg)
    if layout.halo is not None and not all(0 <= n <= MOST_CELLS for pair in layout.halo for n in pair):
        msg = f"a halo must be at least 0 and at most {MOST_CELLS} latents, got {layout.halo}"
        raise PlanError(msg)
    check_tiles(layout.n_tiles)
    for axis, spans in zip(axes, layout.spans, strict=True):
        cells = axis.cells(layout.shape[axis.position], layout.direction)
        if not _covers(spans, cells):
            msg = f"{axis.name}: these spans do not cover {cells} cells in order: {spans}"
            raise PlanError(msg)
    if max(layout.out_sizes) > MOST_CELLS:
        msg = f"{geometry.name}: the output of {layout.shape} has more than {MOST_CELLS} cells along an axis"
        raise PlanError(msg)
    for number, spans in enumerate(layout.spans):
        if not all(layout.segments_of_tiles[number]):  # also raises where a cell would get no weight
            msg = f"{axes[number].name}: a tile has no weight anywhere: {spans}"
            raise PlanError(msg)


def _covers(spans: tuple[Span, ...], cells: int) -> bool:
    """Whether spans cover an axis in order, and no ramp is longer than its span."""
    starts, stops = [s.start for s in spans], [s.stop for s in spans]
    whole = bool(spans) and starts[0] == 0 and stops[-1] == cells
    in_order = all(a < b for a, b in pairwise(stops)) and starts == sorted(starts)
    touch = all(b <= a for a, b in zip(stops, starts[1:], strict=False))
    if not (whole and in_order and touch and all(a < b for a, b in zip(starts, stops, strict=True))):
        return False
    return all(0 <= s.left_ramp <= len(s) and 0 <= s.right_ramp <= len(s) for s in spans)
