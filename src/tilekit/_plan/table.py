"""A layout as text."""

from itertools import pairwise

from tilekit._plan.config import ENCODE_OVERLAP
from tilekit._plan.layout import Layout
from tilekit._plan.presets import LTX2_VIDEO

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
    below = [f"{name} overlap {n}, official encodes ask for {least}" for name, n, least in _below_official(layout)]
    how = "blended" if layout.halo is None else "cropped, overlap = halo before/after"
    return "\n".join(
        [
            f"{layout.direction} {layout.geometry.name} {layout.shape}, {how}",
            *lines,
            f"{len(layout.tiles)} tiles in {len(layout.shape_groups)} shapes: {groups}",
            f"redundant work {layout.redundant_work:.2f}x",
            *(["note: " + "; ".join(below)] if below else []),
        ]
    )


def _below_official(layout: Layout) -> list[tuple[str, int, int]]:
    """Axes of an LTX-2 encode whose overlap is smaller than the official code takes: name, overlap, least."""
    found = []
    if layout.direction == "encode" and layout.halo is None and layout.geometry == LTX2_VIDEO:
        for axis, spans in zip(layout.geometry.axes, layout.spans, strict=True):
            shared = [a.stop - b.start - axis.law.causal for a, b in pairwise(spans)]
            least = ENCODE_OVERLAP[axis.name]
            if shared and min(shared) * axis.law.factor < least:
                found.append((axis.name, min(shared) * axis.law.factor, least))
    return found


def _few(numbers: list[int]) -> str:
    return "/".join(map(str, numbers))
