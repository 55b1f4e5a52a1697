"""Cut the axes of an array as a request says."""

from collections.abc import Sequence
from dataclasses import dataclass

from tilekit._errors import PlanError
from tilekit._plan.geometry import Axis, Direction, Geometry
from tilekit._plan.spans import Span, split, split_by_count, split_uniform, uniform_count

__all__ = ["AxisTiling", "cut"]


@dataclass(frozen=True, slots=True)
class AxisTiling:
    """
    How one axis is cut: by size in pixel-side cells, or by count with overlaps in latent cells.

    Exactly one of `size` and `count` is given.

    Parameters
    ----------
    name : str
        The axis of the geometry.
    size : int or None
        Cells of a tile, in pixel-side units.
    count : int or None
        Tiles of the axis.
    overlap : int
        Cells that neighbours share: in pixel-side units with `size`, in latent cells with `count`.
    min_size : int, optional
        Least cells of the last tile, which grows leftward to reach it; in the units of `overlap`.
    """

    name: str
    size: int | None
    count: int | None
    overlap: int
    min_size: int | None = None


def cut(  # noqa: PLR0913
    geometry: Geometry,
    shape: Sequence[int],
    requests: Sequence[AxisTiling],
    *,
    direction: Direction = "decode",
    uniform: bool = False,
    cropped: bool = False,
) -> tuple[tuple[Span, ...], ...]:
    """
    Cut every axis of an array as requested, into spans of latents; an axis without a request stays whole.

    `cropped` tiles share nothing: they are cropped instead of blended.
    """
    by_name = {request.name: request for request in requests}
    for name in by_name:
        geometry.axis(name)
    spans = []
    for axis in geometry.axes:
        cells = axis.cells(shape[axis.position], direction)
        request = by_name.get(axis.name)
        spans.append((Span(0, cells),) if request is None else _cut_axis(axis, cells, request, uniform, cropped))
    return tuple(spans)


def _cut_axis(axis: Axis, cells: int, request: AxisTiling, uniform: bool, cropped: bool) -> tuple[Span, ...]:
    """Spans of one axis in latents."""
    causal = axis.law.causal and not cropped
    size, overlap, least = _in_latents(axis, request)
    if cropped:
        overlap, least = 0, None
    count = request.count
    try:
        if size is not None and uniform:
            count = uniform_count(cells, size, overlap, causal=causal)
        if count is not None and uniform:
            return _of_least(split_uniform(cells, count, overlap, causal=causal), least)
        if count is not None:
            return split_by_count(cells, count, overlap, causal=causal, min_size=least)
        assert size is not None
        return split(cells, size, overlap, causal=causal, min_size=least)
    except PlanError as error:
        msg = f"{axis.name}, in latents of {axis.law.factor}: {error}"
        raise PlanError(msg) from None


def _of_least(spans: tuple[Span, ...], least: int | None) -> tuple[Span, ...]:
    """Give uniform spans back unless they are shorter than the least size: none of them can grow alone."""
    if least is not None and len(spans) > 1 and len(spans[0]) < least:
        msg = f"uniform tiles would have {len(spans[0])} cells, min_size is {least}; lower it or make the tiles larger"
        raise PlanError(msg)
    return spans


def _in_latents(axis: Axis, request: AxisTiling) -> tuple[int | None, int, int | None]:
    """Size, overlap and least size of a request, in latents; a request by count has them in latents already."""
    if request.size is None:
        return None, request.overlap, request.min_size
    least = None if request.min_size is None else _on_grid(axis, "min_size", request.min_size)
    return _on_grid(axis, "tile size", request.size), _on_grid(axis, "overlap", request.overlap), least


def _on_grid(axis: Axis, what: str, value: int) -> int:
    factor = axis.law.factor
    if value % factor:
        below, above = value // factor * factor, -(-value // factor) * factor
        msg = f"{axis.name}: {what} must be a multiple of {factor}, got {value}; take {below} or {above}"
        raise PlanError(msg)
    return value // factor
