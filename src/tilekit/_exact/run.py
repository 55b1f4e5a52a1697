"""Carry a program out with arrays, to one result or block by block."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

from tilekit._exact.arrays import Arrays, Call, NotFiniteError
from tilekit._exact.blame import accuse, blame
from tilekit._exact.boxes import Box
from tilekit._exact.lent import lent
from tilekit._exact.replay import Replay
from tilekit._exact.results import Blocks, Collect
from tilekit.backends import Array

__all__ = ["Arrays", "Call", "NotFiniteError", "run", "stream"]

Told = Callable[[int], object]


def run(call: Call, told: Told) -> Array:
    """Make the whole output; `told` hears the number of finished steps."""
    collect = Collect(call.program.output, call.kernels)
    for done in _steps(call, collect):
        told(done)
    return collect.result


def stream(call: Call, axis: int, told: Told) -> Iterator[tuple[int, Array]]:
    """Give the output block by block along an axis, in order."""
    blocks = Blocks(call.program.output, axis, call.kernels, lent=lent(call.program.graph))
    for done in _steps(call, blocks):
        yield from blocks.ready()
        told(done)
    blocks.finish()


def _steps(call: Call, emit: Callable[[Box, Array], object]) -> Iterator[int]:
    """Go through the steps; where NaN or one number comes out, say where it came up."""
    with ExitStack() as stack:
        hands = Arrays(call, emit, stack)
        steps = iter(Replay(call.program, hands))
        for done in range(1, call.program.n_steps + 1):
            try:
                with call.kernels.computing():
                    next(steps)
            except NotFiniteError:
                blame(call)
            if hands.flat is not None:
                accuse(call, hands.flat)
                hands.trust()
            yield done
        with call.kernels.computing():
            next(steps, None)
