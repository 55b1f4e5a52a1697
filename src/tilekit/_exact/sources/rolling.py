"""Carry rounds out: what waits between two steps lies where it lay a round before."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TypeVar

from tilekit._exact.boxes import Box, within
from tilekit._exact.hands import Hands
from tilekit._exact.program import Program
from tilekit._exact.replay import Replay
from tilekit._exact.sources.feed import Feed
from tilekit._exact.sources.rounds import Rounds, Tail

__all__ = ["Ending", "rolled"]

V = TypeVar("V")
Ending = Callable[[int, int], Tail | None]
"""Gives the end for a number of rows of the input and of steps that were made; None where the stream has not begun."""


class Rolling(Replay[V]):
    """
    Steps of a program, by number, over an input of which some rows are there.

    Parameters
    ----------
    program : Program
        One stage.
    hands : Hands
        What makes it.
    feed : Feed
        The input.
    """

    def __init__(self, program: Program, hands: Hands[V], feed: Feed[V]) -> None:
        super().__init__(program, hands)
        self._feed = feed
        self._windows = {0: {}}

    def make(self, number: int) -> None:
        """Make a step."""
        (plan,) = self._program.stages
        self._step(plan, plan.steps[number], dict(plan.going[number]))

    def place(self, state: Mapping[int, Box], shift: Callable[[int, Box], Box]) -> None:
        """Say where what waits lies now; `shift` gives where a box lies that lay elsewhere."""
        held = self._windows[0]
        self._windows[0] = {node: (box, self._part(*held[node], node, box, shift)) for node, box in state.items()}

    def go_on(self, program: Program, hands: Hands[V]) -> "Rolling[V]":
        """Give what carries another program of the same operations out from here."""
        other = Rolling(program, hands, self._feed)
        other._windows, other._folded = self._windows, self._folded
        return other

    def _part(self, lay: Box, value: V, node: int, box: Box, shift: Callable[[int, Box], Box]) -> V:
        now = shift(node, lay)
        return value if now == box else self._hands.own(self._hands.cut(value, within(now, box)))

    def _fetch(self, index: int, box: Box, windows: dict[int, tuple[Box, V]]) -> V:
        if index == self._graph.input:
            return self._feed.get(box)
        return super()._fetch(index, box, windows)


def rolled(
    rounds: Rounds, end: Ending, hands_of: Callable[[Program], Hands[V]], feed: Feed[V], parts: Iterator[V]
) -> Iterator[int]:
    """
    Make a stream step by step, and ask for parts of the input as steps need them.

    Parameters
    ----------
    rounds : Rounds
        How it goes.
    end : callable
        Gives how it ends.
    hands_of : callable
        Gives what makes a program.
    feed : Feed
        Takes the parts.
    parts : iterator
        Of the input.

    Yields
    ------
    int
        By how many rows of the output what was emitted lies further on than its boxes say; once after each step.
    """
    period, again = rounds.period, rounds.again
    rolling = Rolling(rounds.program, hands_of(rounds.program), feed)
    step = further = 0
    while _filled(feed, rounds.reads(step)[1] + rounds.ahead, parts):
        if step > again:
            rolling.place(rounds.states[again], partial(period.moved, units=-rounds.units))
            further += rounds.units
            feed.begin = further * period.unit
        rolling.make(min(step, again))
        yield further * period.out_rows
        step += 1
        feed.drop(rounds.low(step))
    tail = end(feed.end, step)
    if tail is None:
        return
    rolling = rolling.go_on(tail.program, hands_of(tail.program))
    rolling.place(tail.state, partial(period.moved, units=further - tail.units))
    feed.begin = tail.units * period.unit
    (plan,) = tail.program.stages
    for number in range(len(plan.steps)):
        rolling.make(number)
        yield tail.units * period.out_rows


def _filled(feed: Feed[V], rows: int, parts: Iterator[V]) -> bool:
    """Ask for parts until so many rows have come; tell whether they have."""
    while feed.end < rows:
        feed.keep()
        part = next(parts, None)
        if part is None:
            return False
        feed.put(part)
        del part
    return True
