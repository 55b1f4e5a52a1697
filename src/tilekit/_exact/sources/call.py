"""A call of a function whose input comes in parts: the parts are checked, the plans are kept."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from tilekit._errors import DeviceError, InputError, PlanError
from tilekit._exact.arrays import Arrays, Call, NotFiniteError
from tilekit._exact.blame import said_flat
from tilekit._exact.boxes import Box
from tilekit._exact.frontends import Traced
from tilekit._exact.inputs import check_input, is_array
from tilekit._exact.kernels import Kernels, kernels_of
from tilekit._exact.newest import Newest
from tilekit._exact.ops import Constant
from tilekit._exact.program import Program
from tilekit._exact.sources.feed import Feed
from tilekit._exact.sources.plan import Endless, Wanted, endless
from tilekit._exact.sources.rolling import rolled
from tilekit._progress import Progress, progress_of
from tilekit.backends import Array, canary
from tilekit.backends.limits import limits_of

__all__ = ["Asked", "Caller", "Plans", "asked"]

ANY = range(1, 1 << 62)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a caller says of a source."""

    axis: int
    lengths: range
    rows: int | None
    """Of the input, in one step."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The function, and how it is to be called."""

    follow: Callable[[Array], Traced]
    budget: int | None
    progress: Progress
    plainly: Callable[[Array], Any]
    """Gives the output of an input that is too short for a stream."""
    refuse: Callable[[Array], object]
    """Raises for an array for which the function is not followed."""


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


@dataclass(frozen=True)
class Plans:
    """The plans of a function for inputs that come in parts; several threads may ask."""

    held: Newest[Endless]

    def of(self, parts: Parts, asked: Asked, caller: Caller) -> Endless:
        """Give the plan for such parts."""
        rest = tuple(0 if d == asked.axis else n for d, n in enumerate(parts.shape))
        limits, kernels = limits_of(parts.like), parts.kernels
        key = type(parts.like), rest, parts.dtype, str(kernels.device), limits, asked, caller.budget
        plan = self.held.get(key)
        if plan is None or not plan.current():

            def at(length: int) -> Traced:
                shape = tuple(length if d == asked.axis else n for d, n in enumerate(rest))
                traced = caller.follow(kernels.empty(shape, parts.dtype))
                if traced.unknown:
                    msg = f"source: the function cannot be streamed: {traced.unknown}; give the whole input"
                    raise PlanError(msg)
                return traced

            other = _other_numbers(kernels)
            scratch = kernels.scratch
            plan = endless(Wanted(at, other, asked.axis, asked.lengths, asked.rows, scratch, caller.budget, limits))
            self.held.add(key, plan)
        return plan

    def stream(self, x: Any, asked: Asked, caller: Caller) -> Iterator[tuple[int, Any]]:
        """Give the blocks of the output."""
        parts = Parts(x, asked.axis, caller.refuse)
        plan = self.of(parts, asked, caller)
        canary.check(parts.like, plan.sizes)
        with progress_of(caller.progress, 0, "exact") as tell:
            yield from _run(plan, parts, tell, caller.plainly)


def _other_numbers(kernels: Kernels) -> Callable[[Traced, Traced], str]:
    """Give what compares the constants of a function at two lengths: weights by name, its own by their numbers."""

    def same(a: Array, b: Array) -> bool:
        if a is b:
            return True
        return tuple(a.shape) == tuple(b.shape) and a.dtype == b.dtype and bool(kernels.xp.all(a == b))

    def other(a: Traced, b: Traced) -> str:
        for m, n in zip(a.graph.nodes, b.graph.nodes, strict=True):
            if not isinstance(m.op, Constant) or not isinstance(n.op, Constant):
                continue
            own = a.own(m.op.key), b.own(n.op.key)
            if own == (False, False) and m.op.key == n.op.key:
                continue
            if own != (True, True) or not same(a.constants(m.op.key), b.constants(n.op.key)):
                return f"{n.name or f'array {n.index}'} holds other numbers"
        return ""

    return other


class _Fed(Arrays):
    """The hands of a run whose input comes in parts."""

    def __init__(self, call: Call, emit: Callable[[Box, Array], object], stack: ExitStack, feed: Any) -> None:
        super().__init__(call, emit, stack)
        self._feed = feed

    def _read_by(self, box: Box) -> Array:
        """Give the rows that wait: what a box of the output depends on is among them."""
        del box
        waiting = self._feed().whole()
        return self._source if waiting is None else waiting


def _run(
    plan: Endless, parts: Parts, tell: Callable[[int], object], plainly: Callable[[Array], Any]
) -> Iterator[tuple[int, Any]]:
    emitted: list[tuple[Box, Array]] = []
    current: list[_Fed] = []
    axis, kernels = plan.rounds.period.out_axis, parts.kernels
    source = plan.rounds.graph.nodes[plan.rounds.graph.input]
    with ExitStack() as stack:

        def hands(program: Program) -> _Fed:
            call = Call(program, kernels, parts.like, plan.of(program).constants)
            current.append(_Fed(call, lambda box, value: emitted.append((box, value)), stack, lambda: feed))
            return current[-1]

        feed: Feed[Array] = Feed(hands(plan.rounds.program), source, plan.rounds.period.axis, lent=parts.lent)
        steps = rolled(plan.rounds, plan.end, hands, feed, parts)
        done = at = 0
        while (further := _next(steps, kernels, at)) is not None:
            if current and current[-1].flat is not None:
                raise DeviceError(said_flat(parts.like, current[-1].flat))
            while emitted:
                start, block = _block(*emitted.pop(0), axis, further, kernels)
                at = start + block.shape[axis]
                yield start, block
                del block
            done += 1
            tell(done)
        if not done:
            yield 0, plainly(feed.whole())


def _next(steps: Iterator[int], kernels: Kernels, at: int) -> int | None:
    """Make a step."""
    try:
        with kernels.computing():
            return next(steps, None)
    except NotFiniteError:
        msg = f"NaN or infinity came out from row {at} of the output on; the rows of the source had none"
        raise InputError(msg) from None


def _block(box: Box, value: Array, axis: int, further: int, kernels: Kernels) -> tuple[int, Array]:
    """Give rows of the output that whoever takes them may write to, and where they begin."""
    return box[axis][0] + further, kernels.handed(value) if kernels.owns(value) else kernels.copy(value)
