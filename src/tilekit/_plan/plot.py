"""A layout as a picture."""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tilekit._plan.layout import Layout

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot"]


def plot(layout: Layout) -> "Figure":
    """Draw, for each axis, the tiles and the sum of their weights; and the map of the last two axes if both are cut."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        msg = 'Plan.plot needs matplotlib: pip install "tilekit-vae[plot]"'
        raise ImportError(msg) from error
    count = len(layout.spans)
    mapped = count > 1
    figure = Figure(figsize=(11, 1.9 * count + (4.5 if mapped else 0.4)), layout="constrained")
    grid = figure.add_gridspec(count + mapped, 1, height_ratios=[1.0] * count + [2.6] * mapped)
    for number in range(count):
        _draw_axis(figure.add_subplot(grid[number]), layout, number)
    if mapped:
        _draw_map(figure.add_subplot(grid[count]), layout)
    head = f"{layout.direction} {layout.geometry.name} {layout.shape}"
    figure.suptitle(f"{head}: {len(layout.tiles)} tiles, redundant work {layout.redundant_work:.2f}x")
    return figure


def _intervals(layout: Layout, number: int) -> list[tuple[int, int]]:
    """Output intervals of the tiles of one axis."""
    intervals = {tile.index[number]: tile.dst[number] for tile in layout.tiles}
    return [intervals[i] for i in sorted(intervals)]


def _draw_axis(ax: Any, layout: Layout, number: int) -> None:
    """Weights of the tiles of one axis over output cells, and their sum, which has to be one."""
    sums = [0.0] * layout.out_sizes[number]
    for i in range(len(layout.spans[number])):
        cells, weights = _profile(layout, number, i)
        for cell, weight in zip(cells, weights, strict=True):
            sums[cell] += weight
        ax.fill_between(cells, weights, step="mid", alpha=0.35)
        ax.plot(cells, weights, drawstyle="steps-mid", linewidth=1)
    ax.plot(range(len(sums)), sums, color="black", linewidth=1, linestyle=":", label="sum")
    ax.set_xlim(-0.5, layout.out_sizes[number] - 0.5)
    ax.set_ylim(0, 1.15)
    ax.set_ylabel(layout.geometry.axes[number].name)
    ax.legend(loc="lower right", fontsize="small")


def _profile(layout: Layout, number: int, tile: int) -> tuple[list[int], list[float]]:
    """Cells where a tile has weight, and its weights there."""
    cells: list[int] = []
    weights: list[float] = []
    for segment in layout.segments[number]:
        if tile in segment.tiles:
            cells += range(segment.start, segment.stop)
            row = None if segment.weights is None else segment.weights[segment.tiles.index(tile)]
            weights += [1.0] * (segment.stop - segment.start) if row is None else row
    return cells, weights


def _draw_map(ax: Any, layout: Layout) -> None:
    """Tiles of the last two axes: the darker, the more of them overlap."""
    from matplotlib.patches import Rectangle

    down, across = _intervals(layout, len(layout.spans) - 2), _intervals(layout, len(layout.spans) - 1)
    rows = sorted({edge for interval in down for edge in interval})
    columns = sorted({edge for interval in across for edge in interval})
    most = max(_covering(down, a) for a in rows[:-1]) * max(_covering(across, a) for a in columns[:-1])
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            depth = _covering(down, top) * _covering(across, left)
            ax.add_patch(
                Rectangle((left, top), right - left, bottom - top, color="C0", alpha=0.15 + 0.6 * depth / most, lw=0)
            )
    for top, bottom in down:
        for left, right in across:
            ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor="C3", lw=0.8))
    ax.set_xlim(0, layout.out_sizes[-1])
    ax.set_ylim(layout.out_sizes[-2], 0)
    ax.set_aspect("equal" if layout.out_sizes[-1] < 8 * layout.out_sizes[-2] else "auto")
    ax.set_xlabel(layout.geometry.axes[-1].name)
    ax.set_ylabel(layout.geometry.axes[-2].name)


def _covering(intervals: list[tuple[int, int]], cell: int) -> int:
    return sum(start <= cell < stop for start, stop in intervals)
