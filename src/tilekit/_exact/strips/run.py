"""Carry the program of a rank out with arrays, and hand out its part, or all of it on the first rank."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import NamedTuple

from tilekit._errors import DeviceError, InputError, PlanError
from tilekit._exact.arrays import Arrays, Call, NotFiniteError
from tilekit._exact.blame import said_flat
from tilekit._exact.boxes import Box, Shape, extent, full, within
from tilekit._exact.graph import Node
from tilekit._exact.lent import lent
from tilekit._exact.ops import Pointwise
from tilekit._exact.results import Blocks, Collect
from tilekit._exact.strips.array_link import ArrayLink
from tilekit._exact.strips.parts import StripProgram
from tilekit._exact.strips.replay import StripReplay
from tilekit._exact.strips.transports import Transport
from tilekit.backends import Array

__all__ = ["Strip", "StripCall", "run", "stream"]

Told = Callable[[int], object]


class Strip(NamedTuple):
    """
    The part of a result that one rank has made.

    Parameters
    ----------
    array : array
        The part.
    place : tuple of slice
        Where it lies: ``whole[strip.place]`` is this part.
    shape : tuple of int
        Of the whole result.
    """

    array: Array
    place: tuple[slice, ...]
    shape: Shape


@dataclass(frozen=True)
class StripCall:
    """One call on one rank."""

    call: Call
    program: StripProgram
    transport: Transport
    link: ArrayLink
    gather: bool
    """Whether the first rank gets everything, and the others nothing."""

    @property
    def output(self) -> Node:
        """The node that is handed out."""
        return self.program.output

    def own(self, rank: int) -> Box:
        """Give the part of the output that a rank makes."""
        own = self.program.halos.own(rank, self.program.graph.output, full(self.output.shape))
        if own is None:
            msg = f"strips: nothing of an output of shape {self.output.shape} belongs to rank {rank}; use fewer ranks"
            raise PlanError(msg)
        return own


def run(held: StripCall, told: Told) -> Strip | Array | None:
    """Make the part of this rank."""
    own = held.own(held.transport.rank)
    collect = Collect(replace(held.output, shape=extent(own)), held.call.kernels)
    for done in _steps(held, lambda box, value: collect(_moved(box, own), value)):
        told(done)
    if held.gather:
        return _gathered(held, collect.result, None)
    return Strip(collect.result, _slices(own), held.output.shape)


def stream(held: StripCall, axis: int, told: Told) -> Iterator[tuple[int, Strip | Array]]:
    """Give the part of this rank block by block; where the first rank gathers, the others give nothing."""
    own = held.own(held.transport.rank)
    node, lends = replace(held.output, shape=extent(own)), lent(held.program.graph)
    blocks = Blocks(node, axis, held.call.kernels, lent=lends)
    for done in _steps(held, lambda box, value: blocks(_moved(box, own), value)):
        for start, block in blocks.ready():
            rows = start, start + block.shape[axis]
            if held.gather:
                whole = _gathered(held, block, (axis, rows))
                if whole is not None:
                    yield start, whole
            else:
                box = (*own[:axis], rows, *own[axis + 1 :])
                yield start, Strip(block, _slices(box), held.output.shape)
        told(done)
    blocks.finish()


def _steps(held: StripCall, emit: Callable[[Box, Array], object]) -> Iterator[int]:
    """Go through the steps; where NaN came up cannot be looked for here, as the other ranks are on their way."""
    kernels = held.call.kernels
    with ExitStack() as stack:
        hands = Arrays(held.call, emit, stack)
        if isinstance(held.output.op, Pointwise):  # which may clamp, and nobody can look into it here
            hands.trust()
        steps = iter(StripReplay(held.program, hands, held.link))
        for done in range(1, held.program.n_steps + 1):
            try:
                with kernels.computing():
                    next(steps)
            except NotFiniteError:
                msg = (
                    f"NaN reached the output on rank {held.transport.rank}; the input had none. Call the "
                    "function without strips to see which layer gave it"
                )
                raise InputError(msg) from None
            if hands.flat is not None:
                msg = f"rank {held.transport.rank}: {said_flat(held.call.source, hands.flat)}"
                raise DeviceError(msg)
            yield done
        with kernels.computing():
            next(steps, None)


def _gathered(held: StripCall, mine: Array, rows: tuple[int, tuple[int, int]] | None) -> Array | None:
    """Bring the parts of all ranks to the first."""
    transport, kernels, dtype = held.transport, held.call.kernels, held.output.dtype
    boxes = [_with(held.own(rank), rows) for rank in range(transport.size)]
    parts = transport.collect(mine, [extent(box) for box in boxes], dtype)
    if parts is None:
        return None
    frame = _with(full(held.output.shape), rows)
    whole = kernels.empty(extent(frame), dtype)
    for box, part in zip(boxes, parts, strict=True):
        whole = kernels.write(whole, within(frame, box), part)
    return whole


def _with(box: Box, rows: tuple[int, tuple[int, int]] | None) -> Box:
    return box if rows is None else (*box[: rows[0]], rows[1], *box[rows[0] + 1 :])


def _moved(box: Box, own: Box) -> Box:
    return tuple((start - at, stop - at) for (start, stop), (at, _) in zip(box, own, strict=True))


def _slices(box: Sequence[tuple[int, int]]) -> tuple[slice, ...]:
    return tuple(slice(start, stop) for start, stop in box)
