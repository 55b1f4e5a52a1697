"""Networks as lists of tasks, and such a list as a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

from tilekit._errors import PlanError, TileShapeError
from tilekit._exact.builder import GraphBuilder, Value
from tilekit._exact.reach import POINTWISE, Reach
from tilekit.backends import Array
from tilekit.backends._base import ArrayFunction
from tilekit.backends.kinds import check_same_kind

__all__ = [
    "Add",
    "Apply",
    "Attention",
    "Norm",
    "Shortcut",
    "Store",
    "Task",
    "build_tasks",
    "check_groups",
    "check_tasks",
]


@dataclass(frozen=True, slots=True)
class Apply:
    """
    Run a layer on the tile: a convolution, an activation, an up- or downsampling.

    Parameters
    ----------
    name : str
        Used in error messages, such as ``"up_blocks.0.resnets.1.conv1"``.
    fn : callable
        Maps an array to an array of the same layout, dtype and device. It pads as in the plain call.
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


def build_tasks(b: GraphBuilder, x: Value, tasks: Sequence[Task], axes: tuple[int, ...], channel_axis: int) -> Value:
    """
    Say what a list of tasks does.

    Raises
    ------
    PlanError
        If groups do not divide channels, or a residual connection joins arrays of different shapes.
    TileShapeError
        If the input is too small.
    """
    check_tasks(tasks)
    stored: list[Value] = []
    for task in tasks:
        if isinstance(task, Store):
            stored.append(x)
        elif isinstance(task, Shortcut):
            stored[-1] = _apply(b, stored[-1], Apply(task.name, task.fn, channels=task.channels), axes, channel_axis)
        elif isinstance(task, Add):
            x = _joined(b, task, stored.pop(), x)
        elif isinstance(task, Norm):
            check_groups(x.shape[channel_axis], task.groups, f"task {task.name!r}: ")
            x = b.group_norm(
                x, task.groups, task.weight, task.bias, eps=task.eps, channel_axis=channel_axis, name=task.name
            )
        elif isinstance(task, Attention):
            x = b.whole(_watched(task, axes, channel_axis), x, shape=x.shape, name=task.name)
        else:
            x = _apply(b, x, task, axes, channel_axis)
    return x


def check_groups(channels: int, groups: int, where: str = "") -> None:
    """Refuse a number of groups that does not divide the channels."""
    if groups < 1 or channels % groups:
        msg = f"{where}groups: got {groups} for {channels} channels; the number of groups must divide that of channels"
        raise PlanError(msg)


def _apply(b: GraphBuilder, x: Value, task: Apply, axes: tuple[int, ...], channel_axis: int) -> Value:
    shape = list(x.shape)
    reaches = [task.along(i) for i in range(len(axes))]
    for axis, reach in zip(axes, reaches, strict=True):
        shape[axis] = reach.length(shape[axis])
    shape[channel_axis] = task.channels or shape[channel_axis]
    cells = prod(getattr(reach, "kernel", 1) for reach in reaches)
    window = task.channels is not None or cells > 1
    work = cells * x.shape[channel_axis] if window else 0
    call = _watched(task, axes, channel_axis)
    return b.apply(x, call, reaches, axes=axes, shape=shape, work=work, name=task.name)


def _joined(b: GraphBuilder, task: Add, stored: Value, x: Value) -> Value:
    if stored.shape != x.shape:
        msg = f"task {task.name!r}: the residual has shape {stored.shape}, what it is added to has {x.shape}"
        raise PlanError(msg)
    return b.pointwise(_Sum(task.divisor), x, stored, name=task.name)


def _watched(task: Apply | Attention, axes: tuple[int, ...], channel_axis: int) -> Callable[[Array], Array]:
    """Call a layer, say where an error of its own arose, and refuse another library, device, dtype or shape."""
    where = f"task {task.name!r}"

    def call(x: Array) -> Array:
        with _noted(where):
            made = task.fn(x)
        check_same_kind(made, x, where, dtype=True)
        wanted = [int(n) for n in x.shape]
        if isinstance(task, Apply):
            wanted[channel_axis] = task.channels or wanted[channel_axis]
            for i, axis in enumerate(axes):
                wanted[axis] = task.along(i).length(wanted[axis])
        if tuple(made.shape) != tuple(wanted):
            msg = f"{where} gave shape {tuple(made.shape)}, expected {tuple(wanted)}; is its reach declared right?"
            raise TileShapeError(msg)
        return made

    return call


@contextmanager
def _noted(where: str) -> Iterator[None]:
    """Add to an error where it was raised."""
    try:
        yield
    except Exception as error:
        error.add_note(where)
        raise


class _Sum:
    """The end of a residual connection."""

    def __init__(self, divisor: float) -> None:
        self._divisor = divisor

    def __call__(self, x: Array, residual: Array) -> Array:
        return x + residual if self._divisor == 1 else (x + residual) / self._divisor
