"""A layout as text."""

from itertools import pairwise

from tilekit._plan.layout import Layout

__all__ = ["table"]


def table(layout: Layout) -> str:
    """Write a layout as text: a line for each axis, and what it costs."""
    rows = [("axis", "input", "output", "tiles", "latents a tile", "overlap", "latents from-to")]
    for number, axis in enumerate(layout.geometry.axes):
        spans = layout.spans[number]
        lengths = sorted({len(s) for s in spans})
        overlaps = sorted({a.stop - b.start for a, b in pairwise(spans)})
        where = " ".join(f"{s.start}-{s.stop}" for s in spans[:4])
        if len(spans) > 4:
            where += f" … {spans[-1].start}-{spans[-1].stop}"
        if layout.halo is not None:
            overlaps = list(layout.halo[number])
        sizes = (str(layout.shape[axis.position]), str(layout.out_sizes[number]), str(len(spans)))
        rows.append((axis.name, *sizes, _few(lengths), _few(overlaps) or "-", where))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    groups = ", ".join(f"{n} of {'x'.join(map(str, shape))}" for shape, n in layout.shape_groups.items())
    how = "blended" if layout.halo is None else "cropped, overlap = halo before/after"
    return "\n".join(
        [
            f"{layout.direction} {layout.geometry.name} {layout.shape}, {how}",
            *lines,
            f"{len(layout.tiles)} tiles in {len(layout.shape_groups)} shapes: {groups}",
            f"redundant work {layout.redundant_work:.2f}x",
        ]
    )


def _few(numbers: list[int]) -> str:
    return "/".join(map(str, numbers))
