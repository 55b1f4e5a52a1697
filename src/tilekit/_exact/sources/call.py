"""A call of a function whose input comes in parts: its plans, which are kept, and the run."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from tilekit._errors import DeviceError, InputError, PlanError
from tilekit._exact.arrays import Arrays, Call, NotFiniteError
from tilekit._exact.blame import said_flat
from tilekit._exact.boxes import Box
from tilekit._exact.frontends import Traced, refuse_changed
from tilekit._exact.inputs import made_empty
from tilekit._exact.kernels import Kernels
from tilekit._exact.lent import lent
from tilekit._exact.newest import Newest
from tilekit._exact.ops import Constant
from tilekit._exact.program import Program
from tilekit._exact.results import own_block
from tilekit._exact.sources.feed import Feed
from tilekit._exact.sources.parts import Asked, Parts
from tilekit._exact.sources.plan import Endless, Wanted, endless
from tilekit._exact.sources.rolling import rolled
from tilekit._progress import Progress, progress_of
from tilekit.backends import Array, canary
from tilekit.backends.limits import limits_of

__all__ = ["Caller", "Plans"]


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
                traced = caller.follow(made_empty(kernels, shape, parts.dtype))
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
    source, lends = plan.rounds.graph.nodes[plan.rounds.graph.input], lent(plan.rounds.graph)
    with ExitStack() as stack:

        def hands(program: Program) -> _Fed:
            call = Call(program, kernels, parts.like, plan.of(program).constants)
            current.append(_Fed(call, lambda box, value: emitted.append((box, value)), stack, lambda: feed))
            return current[-1]

        feed: Feed[Array] = Feed(hands(plan.rounds.program), source, plan.rounds.period.axis, lent=parts.lent)
        changed = plan.of(plan.rounds.program).watch(parts.like)
        steps = rolled(plan.rounds, plan.end, hands, feed, parts)
        done = at = 0
        while (further := _next(steps, kernels, at)) is not None:
            if current and current[-1].flat is not None:
                raise DeviceError(said_flat(parts.like, current[-1].flat))
            while emitted:
                box, value = emitted.pop(0)
                start, block = box[axis][0] + further, own_block(value, kernels, lent=lends)
                del value
                at = start + block.shape[axis]
                refuse_changed(changed)
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
