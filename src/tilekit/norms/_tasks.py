"""The tasks that a network is a sequence of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tilekit._errors import PlanError
from tilekit.backends import Array
from tilekit.norms._reach import POINTWISE, Reach

Fn = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class Apply:
    """
    Run a layer on the tile: a convolution, an activation, an up- or downsampling.

    Parameters
    ----------
    name : str
        For messages, such as ``"up_blocks.0.resnets.1.conv1"``.
    fn : callable
        Maps an array to an array of the same layout, dtype and device. It pads as the untiled network does.
    reach : Reach or tuple of Reach
        Which cells the layer needs: for all tiled axes alike, or one for each.
    channels : int or None
        Channels that it gives; None for as many as it takes.
    """

    name: str
    fn: Fn
    reach: Reach | tuple[Reach, ...] = POINTWISE
    channels: int | None = None

    def along(self, axis: int) -> Reach:
        """Give the reach along the `axis`-th tiled axis."""
        return self.reach[axis] if isinstance(self.reach, tuple) else self.reach


@dataclass(frozen=True, slots=True)
class Attention:
    """
    Run a layer that sees everything at once; the tiles are put together before it.

    Parameters
    ----------
    name : str
        For messages.
    fn : callable
        Maps an array to an array of the same shape.
    """

    name: str
    fn: Fn


@dataclass(frozen=True, slots=True)
class Norm:
    """
    Normalise groups of channels by the statistics of the whole.

    Parameters
    ----------
    name : str
        For messages.
    groups : int
        How many groups of neighbouring channels.
    weight, bias : array, shape (C,), or None
        The affine map that follows.
    eps : float
        Added to the variance.
    """

    name: str
    groups: int
    weight: Array | None
    bias: Array | None
    eps: float


@dataclass(frozen=True, slots=True)
class Store:
    """
    Remember the tile for the residual connection that a later `Add` ends.

    Parameters
    ----------
    name : str
        For messages.
    """

    name: str


@dataclass(frozen=True, slots=True)
class Shortcut:
    """
    Run a layer on what the last `Store` remembered: the 1x1 convolution of a residual block.

    Parameters
    ----------
    name : str
        For messages.
    fn : callable
        Maps cell to cell.
    channels : int or None
        Channels that it gives; None for as many as it takes.
    """

    name: str
    fn: Fn
    channels: int | None = None


@dataclass(frozen=True, slots=True)
class Add:
    """
    Add what the last `Store` remembered, and forget it.

    Parameters
    ----------
    name : str
        For messages.
    divisor : float
        What the sum is divided by.
    """

    name: str
    divisor: float = 1.0


Task = Apply | Attention | Norm | Store | Shortcut | Add


def check_tasks(tasks: Sequence[Task]) -> None:
    """Refuse a sequence whose residual connections do not close."""
    depth = 0
    for task in tasks:
        if isinstance(task, Store):
            depth += 1
        elif isinstance(task, (Add, Shortcut)) and depth == 0:
            msg = f"task {task.name!r}: nothing is stored; put a Store before it"
            raise PlanError(msg)
        depth -= isinstance(task, Add)
    if depth:
        msg = f"{depth} Store without an Add; every residual connection must end"
        raise PlanError(msg)


def depths(tasks: Sequence[Task]) -> list[int]:
    """Count the open residual connections before each task and after the last."""
    counts = [0]
    for task in tasks:
        counts.append(counts[-1] + isinstance(task, Store) - isinstance(task, Add))
    return counts
