"""The task lists of `tilekit.norms` as graphs."""

from collections.abc import Sequence
from typing import Any

from tilekit._exact.builder import GraphBuilder, Value
from tilekit.norms import Add, Apply, Attention, Norm, Shortcut, Store
from tilekit.norms._tasks import check_tasks

__all__ = ["build_tasks"]


def build_tasks(b: GraphBuilder, x: Value, tasks: Sequence[Any], axes: tuple[int, ...], channel_axis: int) -> Value:
    """Say what a list of tasks does."""
    check_tasks(tasks)
    stored: list[Value] = []
    for task in tasks:
        if isinstance(task, Store):
            stored.append(x)
        elif isinstance(task, Shortcut):
            stored[-1] = _apply(b, stored[-1], Apply(task.name, task.fn, channels=task.channels), axes, channel_axis)
        elif isinstance(task, Add):
            x = b.pointwise(_Sum(task.divisor), x, stored.pop(), name=task.name)
        elif isinstance(task, Norm):
            x = b.group_norm(
                x, task.groups, task.weight, task.bias, eps=task.eps, channel_axis=channel_axis, name=task.name
            )
        elif isinstance(task, Attention):
            x = b.whole(task.fn, x, shape=x.shape, name=task.name)
        else:
            x = _apply(b, x, task, axes, channel_axis)
    return x


def _apply(b: GraphBuilder, x: Value, task: Apply, axes: tuple[int, ...], channel_axis: int) -> Value:
    shape = list(x.shape)
    reaches = [task.along(i) for i in range(len(axes))]
    for axis, reach in zip(axes, reaches, strict=True):
        shape[axis] = reach.length(shape[axis])
    shape[channel_axis] = task.channels or shape[channel_axis]
    return b.apply(x, task.fn, reaches, axes=axes, shape=shape, name=task.name)


class _Sum:
    """The end of a residual connection."""

    def __init__(self, divisor: float) -> None:
        self._divisor = divisor

    def __call__(self, x: Any, residual: Any) -> Any:
        return x + residual if self._divisor == 1 else (x + residual) / self._divisor
