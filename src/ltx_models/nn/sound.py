"""
What the networks of sound share: layers over time that run whole or as exact streams, and the borders of a pass.

Time is axis 1 inside, (B, T, ...). A layer takes a piece and the `Flow` of its unit; the whole clip is the piece that
is first and last. Unlike a video, sound begins and ends with zeros, and its activations with the repeated edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

import numpy as np

from ltx_models.nn import Array, Backend
from ltx_models.nn.stream import Flow, Unit

Edge = Literal["zeros", "replicate"]


def window(
    flow: Flow,
    owner: object,
    x: Array,
    lead: int,
    trail: int,
    *,
    keep: int | None = None,
    edge: Edge = "zeros",
    spare: int = 0,
) -> Array:
    """
    Put before a piece what a window over time needs, and after it the end of the clip.

    Parameters
    ----------
    flow : Flow
        The state of the unit.
    owner : object
        The layer that asks; it has one window.
    x : array, shape (B, T, ...)
        The piece.
    lead, trail : int
        Cells that the window reaches back and ahead.
    keep : int, optional
        Cells to keep for the next piece; lead + trail, as suits a window that moves by one cell, where absent.
    edge : {"zeros", "replicate"}
        What lies beyond the ends of the clip.
    spare : int
        Cells of no meaning to put after all that.

    Returns
    -------
    array, shape (B, T', ...)
        The extended piece.
    """
    nn, keep = flow.nn, lead + trail if keep is None else keep
    parts = [_edge(nn, x[:, :1], lead, edge)] if flow.first else [flow.kept[id(owner)]]
    parts += [x, _edge(nn, x[:, -1:], trail, edge)] if flow.last else [x]
    length = sum(part.shape[1] for part in parts)
    parts = [part for part in (*parts, _edge(nn, x[:, :1], spare, "zeros")) if part.shape[1]]
    y = nn.concat(parts) if len(parts) > 1 else parts[0]
    if not flow.last:
        flow.kept[id(owner)] = nn.copy(y[:, length - keep : length])
    return y


def _edge(nn: Backend, cell: Array, count: int, edge: Edge) -> Array:
    cell = nn.xp.zeros_like(cell) if edge == "zeros" else cell
    return nn.xp.broadcast_to(cell, (cell.shape[0], count, *cell.shape[2:]))


def convolve(flow: Flow, conv: Any, x: Array, reach: int) -> Array:
    """Convolve (B, T, C) over time, `reach` zeros beyond either end of the clip; `conv` pads so itself."""
    if flow.first and flow.last:
        return conv(x)
    return conv(window(flow, conv, x, reach, reach), padding=0)


def hold(flow: Flow, owner: object, x: Array, cells: int) -> Array:
    """Give the oldest `cells` cells of a branch that is ahead of another, and keep the rest for the next piece."""
    if held(flow, owner):
        x = flow.nn.concat([flow.kept["held", id(owner)], x])
    if not flow.last:
        flow.kept["held", id(owner)] = flow.nn.copy(x[:, cells:])
    return x if x.shape[1] == cells else x[:, :cells]


def held(flow: Flow, owner: object) -> int:
    """Say how many cells of a branch are kept."""
    key = ("held", id(owner))
    return flow.kept[key].shape[1] if key in flow.kept else 0


class Filter:
    """
    A short filter over time, as a band matrix that maps windows of cells to blocks of cells.

    For the same filter on every channel one product with a narrow matrix is faster than a convolution of each channel.

    Parameters
    ----------
    order : sequence of sequence of int
        For each output of a group the taps that weigh the input cells of the group; -1 for none.
    step : int
        Input cells from one group to the next.
    scale : int
        What the taps are multiplied by.
    """

    groups = 8  # in a block: more are more zeros to multiply, fewer are smaller products

    def __init__(self, order: Sequence[Sequence[int]], step: int, scale: int = 1) -> None:
        self.order, self.scale = tuple(map(tuple, order)), scale
        self.width, self.hop = len(self.order[0]), step * self.groups
        self.size = self.hop + self.width - step

    def needs(self, groups: int) -> int:
        """Say how many input cells give at least so many groups, in whole blocks."""
        return self.hop * -(-groups // self.groups) + self.size - self.hop

    def __call__(self, nn: Any, x: Array, taps: Array) -> Array:
        """
        Filter.

        Parameters
        ----------
        nn : Backend
            The framework.
        x : array, shape (B, T, C)
            As many cells as `needs` says, or more.
        taps : array, shape (..., n)
            The filter; axes before the last have one cell.

        Returns
        -------
        array, shape (B, groups * outputs, C)
            The groups of all whole blocks after one another.
        """
        device, count = getattr(taps, "device", None), taps.shape[-1]
        basis = _band(nn, self.order, self.hop, self.groups, self.scale, count, taps.dtype, device)
        matrix = nn.matmul(taps.reshape(1, count), basis).reshape(-1, self.size)
        y = nn.matmul(matrix, nn.unfold(x, self.size, self.hop))
        return y.reshape(x.shape[0], -1, x.shape[2])


@cache
def _band(
    nn: Any, order: tuple[tuple[int, ...], ...], hop: int, groups: int, scale: int, taps: int, dtype: Any, device: Any
) -> Array:
    """Make the array that maps (1, taps) to the flattened matrix of a block."""
    width, step = len(order[0]), hop // groups
    matrix = np.full((groups, len(order), hop + width - step), -1)
    for group in range(groups):
        matrix[group, :, group * step : group * step + width] = order
    basis = matrix.reshape(1, -1) == np.arange(taps)[:, None]
    like = nn.xp.zeros((), dtype=dtype) if device is None else nn.xp.zeros((), dtype=dtype, device=device)
    return nn.asarray(scale * basis.astype(np.float32), like)


def whole(nn: Backend, units: Sequence[Unit], x: Array) -> Array:
    """Run units over a whole clip (B, T, ...)."""
    for unit in units:
        x = unit.run(x, Flow(nn))
    return x


def cap(chunk: int | None, lag: int) -> dict[str, int]:
    """Limit the cells that a unit takes at once to `chunk`, where that is set; a unit needs room for twice its lag."""
    return {} if chunk is None else {"cap": max(chunk, 2 * lag + 2)}
