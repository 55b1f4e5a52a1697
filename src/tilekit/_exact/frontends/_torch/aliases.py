"""
Writes in place, turned into new arrays.

Every tensor belongs to a base: itself, or the one that it is a view of, by a chain of steps. A write makes a new value
of the base, in which the part that the view shows is replaced; other views are taken again from that when read.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["Aliases", "CannotFollow", "is_view", "without_writing"]

aten = torch.ops.aten
Run = Callable[..., Any]


class CannotFollow(RuntimeError):
    """An operation that writes in a way that is not known here."""


@cache
def is_view(op: Any) -> bool:
    """Whether what an operation gives shares memory with its first argument."""
    arguments = op._schema.arguments
    return bool(arguments) and not op._schema.is_mutable and arguments[0].alias_info is not None


@cache
def without_writing(op: Any) -> Any:
    """Find the operation that computes the same and writes nothing; None where there is none."""
    name, overload = op._opname, op._overloadname
    if any(argument.is_out for argument in op._schema.arguments):
        return _without_out(op)
    name = f"__{name[3:]}" if name.startswith("__i") else name.removesuffix("_")
    overload = {"transpose": "int"}.get(name, overload)
    packet = getattr(getattr(torch.ops, op.namespace), name, None)
    pure = None if packet is None else getattr(packet, overload or "default", None)
    return None if pure is None or pure._schema.is_mutable else pure


def _without_out(op: Any) -> Any:
    """Find the overload that takes the same arguments but for `out`, and gives a new array."""

    def asked(schema: Any) -> list[tuple[str, str]]:
        return [(argument.name, str(argument.type)) for argument in schema.arguments if not argument.is_out]

    packet = getattr(getattr(torch.ops, op.namespace), op._opname)
    others = (getattr(packet, name) for name in packet.overloads())
    fits = (o for o in others if not o._schema.is_mutable and asked(o._schema) == asked(op._schema))
    return next(fits, None)


@dataclass(slots=True)
class _Base:
    """The memory behind one or more tensors: the value of now, and how often it was written to."""

    value: Tensor
    source: Tensor
    """The tensor that the memory was made for."""
    version: int = 0


@dataclass(slots=True)
class _Step:
    """One view of another: how it is taken, and which part of what that gives."""

    op: Any
    rest: tuple[Any, ...]
    kwargs: dict[str, Any]
    part: int | None

    def take(self, run: Run, x: Tensor) -> Tensor:
        made = run(self.op, (x, *self.rest), self.kwargs)
        out: Tensor = made if self.part is None else made[self.part]
        return out


@dataclass(slots=True)
class _View:
    base: _Base
    steps: tuple[_Step, ...]
    value: Tensor
    version: int


class Aliases:
    """
    Which tensors share memory.

    Parameters
    ----------
    run : callable
        ``run(op, args, kwargs)`` makes and records an operation that writes nothing.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._views: dict[int, _View] = {}
        self.active = False
        """Whether any tensor has another value than it was made with."""
        self.written: list[Tensor] = []
        """The values that bases had before the first write to them."""

    def forget(self) -> None:
        """Let go of all tensors."""
        self._views.clear()
        self.written.clear()

    def _view(self, x: Tensor) -> _View:
        view = self._views.get(id(x))
        if view is None:
            view = self._views[id(x)] = _View(_Base(x, x), (), x, 0)
        return view

    def source(self, x: Tensor) -> Tensor:
        """Give the tensor that `x` shares its memory with: the first of all, or itself."""
        view = self._views.get(id(x))
        return x if view is None else view.base.source

    def note(self, op: Any, source: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any], made: Any) -> None:
        """Note that `made` is a view of `source`, or several."""
        given = self._view(source)
        parts = list(enumerate(made)) if isinstance(made, (list, tuple)) else [(None, made)]
        for part, x in parts:
            steps = (*given.steps, _Step(op, args[1:], kwargs, part))
            self._views[id(x)] = _View(given.base, steps, x, given.base.version)

    def now(self, x: Tensor) -> Tensor:
        """Give the tensor that holds the value that `x` has now."""
        view = self._views.get(id(x))
        if view is None or view.version == view.base.version:
            return x if view is None else view.value
        value = view.base.value
        for step in view.steps:
            value = step.take(self._run, value)
        view.value, view.version = value, view.base.version
        return value

    def write(self, x: Tensor, value: Tensor) -> None:
        """Give `x` a new value, and with it whatever shares its memory."""
        self.active = True
        view = self._view(x)
        base = view.base
        if not base.version:
            self.written.append(base.value)
        seen = [base.value]
        for step in view.steps[:-1]:
            seen.append(step.take(self._run, seen[-1]))
        new = value
        for step, before in zip(reversed(view.steps), reversed(seen), strict=False):
            new = _put_back(self._run, step, before, new)
        base.value, base.version = new, base.version + 1
        view.value, view.version = value, base.version

    def replace(self, x: Tensor, value: Tensor) -> None:
        """Let `x` show the memory of another tensor from now on, as ``x.data = value`` does."""
        if (x.shape, x.dtype) != (value.shape, value.dtype):
            message = "`.data = ` with another shape or dtype"
            raise CannotFollow(message)
        self.active = True
        self.written.append(x)
        base, steps = self._view(value).base, self._view(value).steps
        self._views[id(x)] = _View(base, steps, self.now(value), base.version)

    def turn(self, op: Any, x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Let `x` show the same memory otherwise, as ``transpose_`` does."""
        self.active = True
        view = self._view(x)
        view.value = self._run(op, (self.now(x), *args[1:]), kwargs)
        view.steps = (*view.steps, _Step(op, args[1:], kwargs, None))


def _put_back(run: Run, step: _Step, before: Tensor, value: Tensor) -> Tensor:
    """Give `before` with the part that a view shows replaced."""
    name = step.op._opname
    rule = _INVERSE.get(name)
    if rule is None:
        message = f"a write through a view by aten.{name}"
        raise CannotFollow(message)
    return rule(run, step, before, value)


def _of(made: Any) -> Tensor:
    assert isinstance(made, Tensor)  # these operations give one
    return made


def _same_cells(run: Run, step: _Step, before: Tensor, value: Tensor) -> Tensor:
    return _of(run(aten.view.default, (value, list(before.shape)), {})) if value.shape != before.shape else value


def _scattered(run: Run, step: _Step, before: Tensor, value: Tensor) -> Tensor:
    scatter = {"slice": aten.slice_scatter.default, "select": aten.select_scatter.default}
    scatter["diagonal"] = aten.diagonal_scatter.default
    return _of(run(scatter[step.op._opname], (before, value, *step.rest), step.kwargs))


def _permuted(run: Run, step: _Step, before: Tensor, value: Tensor) -> Tensor:
    n = before.ndim
    axes = list(range(n))
    if step.op._opname == "permute":
        axes = [axis % n for axis in step.rest[0]]
    elif n > 1:
        a, b = (0, 1) if step.op._opname == "t" else (step.rest[0] % n, step.rest[1] % n)
        axes[a], axes[b] = b, a
    inverse = [axes.index(axis) for axis in range(n)]
    return _of(run(aten.permute.default, (value, inverse), {}))


def _part(run: Run, step: _Step, before: Tensor, value: Tensor) -> Tensor:
    """Write one of the parts that split, chunk or unbind gave."""
    name, part = step.op._opname, step.part or 0
    given = list(step.rest)
    if name == "unbind":
        return _of(run(aten.select_scatter.default, (before, value, given[0] if given else 0, part), {}))
    axis = (given[1] if len(given) > 1 else step.kwargs.get("dim", 0)) % before.ndim
    start = part * given[0] if isinstance(given[0], int) else sum(given[0][:part])
    return _of(run(aten.slice_scatter.default, (before, value, axis, start, start + value.shape[axis]), {}))


def _whole_expansion(run: Run, step: _Step, before: Tensor, value: Tensor) -> Tensor:
    if math.prod(before.shape) != math.prod(value.shape):
        message = "a write through an expanded view"
        raise CannotFollow(message)
    return _same_cells(run, step, before, value)


_INVERSE: dict[str, Callable[[Run, _Step, Tensor, Tensor], Tensor]] = {
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "alias", "detach"), _same_cells),
    **dict.fromkeys(("lift_fresh", "_reshape_alias"), _same_cells),
    **dict.fromkeys(("slice", "select", "diagonal"), _scattered),
    **dict.fromkeys(("permute", "transpose", "t"), _permuted),
    **dict.fromkeys(("split", "split_with_sizes", "unbind"), _part),
    "expand": _whole_expansion,
}
