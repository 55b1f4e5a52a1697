"""How a function is streamed whose input has no known length: two lengths are followed, and compared in integers."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from threading import Lock

from tilekit._errors import InputError, PlanError
from tilekit._exact.folding import folding_of
from tilekit._exact.forecast import Forecast, Ghosts, Scratch, forecast
from tilekit._exact.frontends import Traced
from tilekit._exact.ghosts import Ghost
from tilekit._exact.graph import Graph
from tilekit._exact.ops import Resample, Take
from tilekit._exact.program import Program
from tilekit._exact.sources.alike import differences
from tilekit._exact.sources.feed import Feed
from tilekit._exact.sources.period import Period, Shift
from tilekit._exact.sources.rolling import rolled
from tilekit._exact.sources.rounds import Rounds, Tail, begins_alike, ends_alike, rounds_of, tail_of
from tilekit.backends.canary import Sizes
from tilekit.backends.limits import Limits

__all__ = ["Endless", "Wanted", "endless"]

Follow = Callable[[int], Traced]
"""Follows the function for a number of rows."""
Alike = Callable[[Traced, Traced], str]
"""Says which numbers of the function itself differ between two lengths."""
FEW = (16, 48, 240, 720, 3840, 17280)
"""How far apart two lengths are that are followed, in lengths that the function takes: whole numbers of many units."""
STRIP = 1 << 22
"""Bytes of the largest array of a step, where no number of rows and no budget is given."""
MOST = 64
"""Rows of a step, where none are given."""
STEPS = 4
"""Steps that the shorter one has, at least."""
NEAR = 8
"""Units before the end of the input at which no step may be made any more, at most."""
LARGE, LONG = 1 << 28, 1 << 17
"""Bytes of an input that is followed, and rows that are listed one by one, at most."""
KEPT = 32
"""Lengths whose ends are kept, the newest."""
MIB = 1 << 20
ENDS = "has no steps that repeat: each row may need all of the input (attention, statistics over the axis)"


@dataclass
class Endless:
    """A function as a stream of an input of any length."""

    traced: Traced
    """The longer of the two that were followed."""
    length: int
    rounds: Rounds
    lengths: range
    """The numbers of rows that the function takes."""
    others: dict[int, Traced]
    """The function at other lengths."""
    follow: Follow
    check: Alike
    sizes: Sizes = field(default_factory=Sizes)
    """The largest arrays, for the canary."""
    tails: dict[tuple[int, int, int], Tail] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def current(self) -> bool:
        """Whether the function still is what was followed."""
        return self.traced.current()

    def of(self, program: Program) -> Traced:
        """Give what was followed for a program."""
        known = (self.traced, *self.others.values())
        return next(traced for traced in known if traced.graph is program.graph)

    def end(self, rows: int, step: int) -> Tail | None:
        """Give how the stream ends, after so many rows and steps; None where it has not begun, and is no stream."""
        if rows not in self.lengths:
            raise InputError(_not_taken(rows, self.lengths))
        with self._lock:
            length = self._followed(rows)
            tail = self._tail(length, rows, step)
            if tail is not None and tail.low >= self.rounds.low(step) - tail.units * self.rounds.period.unit:
                return tail
        if not step:
            return None
        msg = (
            f"source: it ended after {rows} rows, for which the function cannot be shown to do the same as for "
            f"{self.length}, so what came out may be wrong; name the lengths that are alike with lengths=, or give the "
            "whole input"
        )
        raise PlanError(msg)

    def _followed(self, rows: int) -> int:
        """Give the length whose end is that of the input: its own, unless it is too large to be followed."""
        graph, period = self.rounds.graph, self.rounds.period
        times = rows // period.unit + 1
        listed = (node.index for node in graph.nodes if isinstance(node.op, Resample | Take))
        longest = max((period.shifts[index][1] for index in listed if index in period.shifts), default=0)
        large = graph.nodes[graph.input].nbytes // self.length * rows > LARGE or longest * times > LONG
        return self.length + (rows - self.length) % period.unit if large and rows > self.length else rows

    def _tail(self, length: int, rows: int, step: int) -> Tail | None:
        units = (rows - length) // self.rounds.period.unit
        number = min(step, self.rounds.again)
        key = (length, number, (step - number) * self.rounds.units - units)
        graph = self._graph(length)
        if key not in self.tails:
            tail = None if graph is None else tail_of(self.rounds, graph, step, units)
            if tail is None:
                return None
            self.tails[key] = tail
        return replace(self.tails[key], units=units)

    def _graph(self, length: int) -> Graph | None:
        """Give the graph for a length; None where it is another function."""
        if length == self.length:
            return self.traced.graph
        if length in self.others and not self.others[length].current():
            self._forget(length)
        if length not in self.others:
            traced = self.follow(length)
            if not self._is_alike(traced, length):
                return None
            self.others[length] = traced
            if len(self.others) > KEPT:
                self._forget(next(iter(self.others)))
        return self.others[length].graph

    def _forget(self, length: int) -> None:
        del self.others[length]
        self.tails = {key: tail for key, tail in self.tails.items() if key[0] != length}

    def _is_alike(self, traced: Traced, length: int) -> bool:
        """Whether a length gives the same function, as much shorter or longer as its input is."""
        period = self.rounds.period
        shifts, why = differences(traced.graph, self.traced.graph)
        if why or self.check(traced, self.traced):
            return False
        units, between = divmod(self.length - length, period.unit)
        moved = {node: (axis, rows * units) for node, (axis, rows) in period.shifts.items()}
        return bool(between) or shifts == (moved if units else {})

    def counted(self, scratch: Scratch, limits: Limits | None = None) -> Forecast:
        """Count the bytes of live arrays at the peak; the rows of the input that wait are among them."""
        period, rounds = self.rounds.period, self.rounds
        node = rounds.graph.nodes[rounds.graph.input]

        def parts(ghosts: Ghosts) -> Iterator[Ghost]:
            for start in range(0, self.length, rows):
                shape = list(node.shape)
                shape[period.axis] = min(rows, self.length - start)
                yield ghosts.arrived(tuple(shape))

        def replay(program: Program, ghosts: Ghosts) -> Iterator[int]:
            feed = Feed(ghosts, node, period.axis)
            return rolled(rounds, self.end, lambda program: ghosts, feed, parts(ghosts))

        rows = rounds.units * period.unit
        return forecast(rounds.program, scratch, axis=period.out_axis, limits=limits, replay=replay)


@dataclass(frozen=True)
class Wanted:
    """What is asked for."""

    follow: Follow
    check: Alike
    axis: int
    """Of the input."""
    lengths: range
    """The numbers of rows that the function takes."""
    rows: int | None
    """Of the input, in one step."""
    scratch: Scratch
    """What kernels take for themselves."""
    budget: int | None
    limits: Limits

    def pair(self, few: int) -> "Pair | None":
        """Follow two lengths, one about twice the other; None where the function takes none so long."""
        apart = few * -(-STEPS * (self.rows or 1) // (few * self.lengths.step)) * self.lengths.step
        short, long = self.lengths.start + apart, self.lengths.start + 2 * apart
        return Pair(self.follow(short), self.follow(long), short, apart) if long in self.lengths else None


@dataclass(frozen=True)
class Pair:
    """A function at two lengths."""

    a: Traced
    b: Traced
    short: int
    apart: int

    @property
    def long(self) -> int:
        """The length of the second."""
        return self.short + self.apart

    def period(self, wanted: Wanted) -> Period | str:
        """Give how arrays go along with the input, or why they do not."""
        shifts, why = differences(self.a.graph, self.b.graph)
        why = why or wanted.check(self.a, self.b)
        if why:
            return f"is not that for {self.short}: {why}"
        out = shifts.get(self.b.graph.output)
        if out is None or shifts.get(self.b.graph.input) != (wanted.axis, self.apart):
            return f"gives as many rows as for {self.short}"
        common = math.gcd(*(rows for _, rows in shifts.values()))
        moves = {node: (along, rows // common) for node, (along, rows) in shifts.items()}
        return Period(wanted.axis, self.apart // common, out[0], out[1] // common, moves)


def endless(wanted: Wanted) -> Endless:
    """
    Find how a function is streamed.

    Parameters
    ----------
    wanted : Wanted
        The function, and what is asked for.

    Returns
    -------
    Endless
        Its plan.

    Raises
    ------
    PlanError
        If the function does not do the same all along the axis, or nothing meets the budget.
    """
    why = f"cannot be followed at two of the lengths {wanted.lengths}"
    short: ValueError | None = None
    for few in FEW:
        try:
            pair = wanted.pair(few)
        except ValueError as error:  # of the function itself, if the input is too short for it
            short = error
            continue
        if pair is None:
            break
        short = None
        period = pair.period(wanted)
        plan = None if isinstance(period, str) else _found(wanted, pair, period)
        if plan is not None:
            return plan
        why = f"for {pair.long} rows {period if isinstance(period, str) else ENDS}"
        if 4 * pair.b.graph.nodes[pair.b.graph.input].nbytes > LARGE:
            break
    if short is not None:
        raise _refused(short, wanted.lengths)
    msg = f"source: the function {why}; give the whole input"
    raise PlanError(msg)


def _refused(error: ValueError, lengths: range) -> ValueError:
    """Say of a function that fails at the lengths that were followed how to name those that it takes."""
    if lengths.step > 1 or error.__cause__ is None:
        return error
    cure = "where it takes some lengths of a source alone, name them with lengths=, such as range(8, 10**9, 8)"
    named = type(error)(f"{error}; {cure}")
    named.__cause__ = error.__cause__
    return named


def _found(wanted: Wanted, pair: Pair, period: Period) -> Endless | None:
    """Look for rounds, with as many rows in a step as the budget allows."""
    graph = pair.b.graph
    fixed = (i for i in folding_of(graph).nodes if not _moves(graph, i, period.shifts))
    outside = frozenset({graph.input, *(node.index for node in graph.constants), *fixed})
    units = max(1, (wanted.rows or _rows(graph, pair.long)) // period.unit)
    while True:
        rounds = rounds_of(graph, period, outside, units)
        if rounds is None:
            return None
        ended = _ended(rounds, pair)
        if ended is None:
            return None
        # a length between two units may end a row before the shorter of them does
        between = period.unit - math.gcd(period.unit, wanted.lengths.step)
        rounds = replace(ended, ahead=ended.ahead + between)
        others = {pair.short: pair.a}
        plan = Endless(pair.b, pair.long, rounds, wanted.lengths, others, wanted.follow, wanted.check)
        if wanted.budget is None and not wanted.limits.any:
            return plan
        counted = plan.counted(wanted.scratch, wanted.limits)
        if counted.over <= 1 and (wanted.budget is None or counted.peak_bytes <= wanted.budget):
            return replace(plan, sizes=counted.sizes(0))
        if units == 1 or wanted.rows:
            raise PlanError(_too_much(wanted, counted, units * period.unit))
        units //= 2


def _too_much(wanted: Wanted, counted: Forecast, rows: int) -> str:
    """Say that a budget or the device does not allow a stream."""
    at = f"{rows} rows of the source at once"
    if counted.over > 1:
        return f"source: {counted.worst}, with {at}; the device would get it wrong: give smaller parts of a picture"
    taken = f"{counted.peak_bytes} ({counted.peak_bytes / MIB:.1f} MiB)"
    cure = "give smaller rows=, or" if wanted.rows else "give"
    return f"memory_bytes: got {wanted.budget}, but a stream of {at} takes {taken}; {cure} at least that"


def _rows(graph: Graph, n: int) -> int:
    """Give the rows of a step whose largest array is of a usual size."""
    largest = max(node.nbytes for node in graph.nodes if graph.live[node.index])
    return max(1, min(MOST, STRIP * n // largest))


def _moves(graph: Graph, index: int, moves: Mapping[int, Shift]) -> bool:
    """Whether a node, or what it is made of, is longer for a longer input."""
    return index in moves or any(_moves(graph, i, moves) for i in graph.nodes[index].inputs)


def _ended(rounds: Rounds, pair: Pair) -> Rounds | None:
    """
    Find how near to the end a step may be made, and which rows of the input the end reads again.

    None where the shorter input does not begin and end as the longer does, or is too short to tell.
    """
    period, step = rounds.period, rounds.again + 1
    if not begins_alike(rounds, pair.a.graph):
        return None
    most, apart = (pair.short - rounds.reads(rounds.again)[1]) // period.unit, pair.apart // period.unit
    for units in range(most, max(-1, most - NEAR), -1):
        short = tail_of(rounds, pair.a.graph, step, -units)
        long = tail_of(rounds, rounds.graph, step, -units - apart)
        if short is not None and long is not None and ends_alike(period, short, long, apart):
            behind = rounds.low(step) + units * period.unit - short.low
            return replace(rounds, ahead=(most - units) * period.unit, behind=max(0, behind))
    return None


def _not_taken(rows: int, lengths: range) -> str:
    """Say that an input ended at a length that the function does not take."""
    if rows < lengths.start:
        near = f"at least {lengths.start}"
    elif rows >= lengths[-1]:
        near = f"{lengths[-1]} at most"
    else:
        below = rows - (rows - lengths.start) % lengths.step
        near = f"{below} or {below + lengths.step}"
    return f"source: it ended after {rows} rows, and the function takes {near} ({lengths}); what came out is right"
