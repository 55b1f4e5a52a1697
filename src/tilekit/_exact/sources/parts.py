"""An input that comes in parts: what a caller says of it, and the parts as they come, both checked."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tilekit._errors import InputError, PlanError
from tilekit._exact.inputs import check_input, is_array
from tilekit._exact.kernels import kernels_of
from tilekit.backends import Array

__all__ = ["Asked", "Parts", "asked"]

ANY = range(1, 1 << 62)
"""Lengths of any number of rows."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a caller says of a source."""

    axis: int
    lengths: range
    rows: int | None
    """Of the input, in one step."""


def asked(x: Any, axis: int | None, lengths: Any, rows: int | None) -> Asked | None:
    """Check what a caller says of a source; None where an array is to be streamed as it is."""
    if axis is None and is_array(x):
        if lengths is not None or rows is not None:
            msg = "stream: lengths and rows are for parts that follow one another along axis; give axis as well"
            raise PlanError(msg)
        return None
    if type(axis) is not int or axis < 0:
        msg = f"axis: got {axis!r}, expected the axis of the input along which parts follow one another, from 0 on"
        raise PlanError(msg)
    if not (is_array(x) or isinstance(x, Iterable)):
        msg = f"stream: got {type(x).__name__}, expected an array, or an iterable of arrays that follow one another"
        raise PlanError(msg)
    if lengths is not None and (not isinstance(lengths, range) or not lengths or lengths.step < 1 or lengths[0] < 1):
        msg = f"lengths: got {lengths!r}, expected a rising range from 1 on, such as range(1, 10**9, 8)"
        raise PlanError(msg)
    if rows is not None and (type(rows) is not int or rows < 1):
        msg = f"rows: got {rows!r}, expected the rows of the input in a step, 1 or more"
        raise PlanError(msg)
    return Asked(axis, ANY if lengths is None else lengths, rows)


class Parts:
    """
    Parts of an input, checked as they come; none is kept here.

    Parameters
    ----------
    parts : iterable of array
        What was handed in.
    axis : int
        Along which they follow one another.
    refuse : callable
        Raises for what the function does not take.
    """

    def __init__(self, parts: Any, axis: int, refuse: Callable[[Array], object]) -> None:
        self._refuse = refuse
        self.lent = not is_array(parts)
        self._parts = iter(parts if self.lent else [parts])
        self._axis, self._number = axis, -1
        self._kind: Any = None
        self._next: Array | None = None
        self._next = self._taken()
        self.kernels = kernels_of(self._next)
        self.shape = tuple(self._next.shape)
        self.dtype = self.kernels.dtype_name(self._next)
        self.like = self.kernels.empty((1,) * len(self.shape), self.dtype)

    def __iter__(self) -> "Parts":
        """Give itself."""
        return self

    def __next__(self) -> Array:
        """Give the next part that has rows."""
        part, self._next = self._next, None
        if part is not None:
            return part
        while True:
            part = next(self._parts)
            self._number += 1
            self._check(part)
            if part.shape[self._axis]:
                check_input(part, self.kernels, f"source: part {self._number}", "what came out before is right")
                return part

    def _taken(self) -> Array:
        """Give the first part that has rows."""
        for part in self._parts:
            self._number += 1
            self._kind = self._kind or _kind(part, self._axis, self._number)
            self._check(part)
            if part.shape[self._axis]:
                check_input(part, kernels_of(part), f"source: part {self._number}")
                return part
        msg = "source: it ended before its first row; nothing was computed"
        raise InputError(msg)

    def _check(self, part: Any) -> None:
        kind = _kind(part, self._axis, self._number)
        if kind != self._kind:
            msg = f"source: part {self._number} is {_said(kind)}, those before it are {_said(self._kind)}"
            raise InputError(msg)
        self._refuse(part)


def _kind(part: Any, axis: int, number: int) -> Any:
    """Give what all parts must share."""
    if not is_array(part):
        msg = f"source: part {number} is of type {type(part).__name__}, expected an array"
        raise InputError(msg)
    if axis >= len(part.shape):
        msg = f"axis: got {axis}, but part {number} of the source has shape {tuple(part.shape)}"
        raise PlanError(msg)
    shape = tuple("n" if d == axis else n for d, n in enumerate(part.shape))
    return type(part).__module__.partition(".")[0], str(part.dtype), str(getattr(part, "device", "")), shape


def _said(kind: Any) -> str:
    library, dtype, device, shape = kind
    return f"({', '.join(map(str, shape))}) of {dtype} ({library}{f', {device}' if device else ''})"
