"""The tasks that make up a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tilekit._errors import PlanError
from tilekit.backends import Array
from tilekit.backends._base import ArrayFunction
from tilekit.norms._reach import POINTWISE, Reach


@dataclass(frozen=True, slots=True)
class Apply:
    """
    Run a layer on the tile: a convolution, an activation, an up- or downsampling.

    Parameters
    ----------
    name : str
        Used in error messages, such as ``"up_blocks.0.resnets.1.conv1"``.
    fn : callable
        Maps an array to an array of the same layout, dtype and device. It pads as in the untiled network.
    reach : Reach or tuple of Reach
        Which input cells the layer needs: one for all tiled axes, or one for each.
    channels : int or None
        Channels of the result; None if they do not change.
    """

    name: str
    fn: ArrayFunction
    reach: Reach | tuple[Reach, ...] = POINTWISE
    channels: int | None = None

    def along(self, axis: int) -> Reach:
        """Give the reach along the `axis`-th tiled axis."""
        return self.reach[axis] if isinstance(self.reach, tuple) else self.reach


@dataclass(frozen=True, slots=True)
class Attention:
    """
    Run a layer that sees the whole array, such as self-attention; tiles are put together before it.

    Parameters
    ----------
    name : str
        Used in error messages.
    fn : callable
        Maps an array to an array of the same shape.
    """

    name: str
    fn: ArrayFunction


@dataclass(frozen=True, slots=True)
class Norm:
    """
    Normalise groups of channels by the statistics of the whole.

    Parameters
    ----------
    name : str
        Used in error messages.
    groups : int
        Number of groups of neighbouring channels.
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
    Begin a residual connection: keep the tile until the `Add` that ends it.

    Parameters
    ----------
    name : str
        Used in error messages.
    """

    name: str


@dataclass(frozen=True, slots=True)
class Shortcut:
    """
    Run a layer on what the last `Store` kept: the 1x1 convolution of a residual block.

    Parameters
    ----------
    name : str
        Used in error messages.
    fn : callable
        Maps cell to cell.
    channels : int or None
        Channels of the result; None if they do not change.
    """

    name: str
    fn: ArrayFunction
    channels: int | None = None


@dataclass(frozen=True, slots=True)
class Add:
    """
    End a residual connection: add what the last `Store` kept.

    Parameters
    ----------
    name : str
        Used in error messages.
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
