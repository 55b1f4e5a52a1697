"""Print a plan."""

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tilekit._plan import Plan

__all__ = ["table"]


def table(plan: "Plan") -> str:
    """Lay out a plan as text: a line for each axis, and what it costs."""
    rows = [("axis", "input", "output", "tiles", "latents a tile", "overlap", "latents from-to")]
    for number, axis in enumerate(plan.geometry.axes):
        spans = plan.spans[number]
        lengths = sorted({len(s) for s in spans})
        overlaps = sorted({a.stop - b.start for a, b in pairwise(spans)})
        where = " ".join(f"{s.start}-{s.stop}" for s in spans[:4])
        if len(spans) > 4:
            where += f" … {spans[-1].start}-{spans[-1].stop}"
        if plan.halo is not None:
            overlaps = list(plan.halo[number])
        sizes = (str(plan.shape[axis.position]), str(plan.out_sizes[number]), str(len(spans)))
        rows.append((axis.name, *sizes, _few(lengths), _few(overlaps) or "-", where))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    groups = ", ".join(f"{n} of {'x'.join(map(str, shape))}" for shape, n in plan.shape_groups.items())
    how = "blended" if plan.halo is None else "cropped, overlap = halo before/after"
    return "\n".join(
        [
            f"{plan.direction} {plan.geometry.name} {plan.shape}, {how}",
            *lines,
            f"{len(plan.tiles)} tiles in {len(plan.shape_groups)} shapes: {groups}",
            f"redundant work {plan.redundant_work:.2f}x",
        ]
    )


def _few(numbers: list[int]) -> str:
    return "/".join(map(str, numbers))
