"""
Operations on small arrays, made for several steps at once.

Strips are as large as the largest array allows. An operation far from it, at the coarse end of a decoder or an encoder,
would be called as often for a few cells each, and a library puts its weight in order in each call: it is better called
once for as many steps as are a strip of the largest array together.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from tilekit._exact.boxes import Box, cells, hull, union
from tilekit._exact.graph import Graph
from tilekit._exact.program import Program, StagePlan
from tilekit._exact.steps import Stage, Step
from tilekit._exact.trials import Choice, Trials
from tilekit._exact.ways import LARGE

__all__ = ["batched", "gathered"]

SHARES = (1.0, 0.5, 0.25)
"""Of the largest array in a step, what an array of several steps may take: the first that stays within the limit."""
MORE = 1.05
"""How much more memory this may take where a plan takes more than half of a plain call anyway."""


def gathered(trials: Trials, choice: Choice) -> Choice:
    """
    Give the same strips with small arrays made for several of them at once.

    Parameters
    ----------
    trials : Trials
        Of the function.
    choice : Choice
        What was chosen without a budget.

    Returns
    -------
    Choice
        The choice itself where that saves no calls, or takes more than half of a plain call and than it does.
    """
    program = choice.program
    if program.graph is not trials.graph or program.n_steps == 1 or len(program.graph.nodes) > LARGE:
        return choice
    limit = min(trials.plain_bytes, max(trials.plain_bytes // 2, int(MORE * choice.peak_bytes)))
    for share, ways in product(SHARES, (WAYS, WAYS[:1])):
        other = trials.again(batched(program, share, ways), choice)
        if other.peak_bytes <= limit and other.operations < choice.operations:
            return other
    return choice


def batched(program: Program, share: float = 1.0, ways: "Sequence[Way] | None" = None) -> tuple[Stage, ...]:
    """
    Give the same stages, whose steps make small arrays for several of them at once.

    Parameters
    ----------
    program : Program
        Stages and their schedule.
    share : float
        Of the largest array in a step, what an array of several steps may take.
    ways : sequence of callable, optional
        In which networks may be cut, of which the one of fewest calls is taken; default: all of `WAYS`.

    Returns
    -------
    tuple of Stage
        The stages of the program themselves where nothing is small enough.
    """
    return tuple(_batched(program.graph, plan, share, ways or WAYS) for plan in program.stages)


@dataclass(frozen=True, slots=True)
class _Part:
    """Operations that are made for as many steps at once."""

    ends: tuple[int, ...]
    """The nodes that other parts read."""
    rate: int
    """For how many steps it is made at once."""
    size: int
    """How many operations it has."""


def _batched(graph: Graph, plan: StagePlan, share: float, ways: "Sequence[Way]") -> Stage:
    steps = plan.stage.steps
    if len(steps) == 1 or any(step.track for step in steps):
        return plan.stage
    rates = _rates(graph, plan, share)
    if not rates:  # statistics of the input itself
        return plan.stage
    parts = min((way(graph, rates) for way in ways), key=lambda parts: sum(part.size / part.rate for part in parts))
    if all(part.rate == 1 for part in parts):
        return plan.stage
    longer = tuple(_Rounds(plan, parts).steps())
    return replace(plan.stage, steps=longer) if _targets(longer) == _targets(steps) else plan.stage


def _targets(steps: Sequence[Step]) -> dict[int, int]:
    """Count the cells of each target; boxes that do not lie side by side would come to more."""
    count: dict[int, int] = {}
    for step in steps:
        for index, box in step.targets:
            count[index] = count.get(index, 0) + cells(box)
    return count


def _rates(graph: Graph, plan: StagePlan, share: float) -> dict[int, int]:
    """Say of each node for how many steps it may be made, and what it reads be held; a power of two, or all."""
    count, made = len(plan.steps), plan.made
    # what is made anew in each step counts once
    sizes = {index: min(made[index] * graph.nodes[index].itemsize, graph.sizes[index]) for index in sorted(made)}
    most = share * max(sizes.values(), default=0)
    rates: dict[int, int] = {}
    for index, size in sizes.items():
        times = most / max(1, size, *(sizes.get(source, 0) for source in graph.nodes[index].inputs))
        rates[index] = 1
        while 2 * rates[index] <= times and rates[index] < count:
            rates[index] *= 2
        rates[index] = min(rates[index], count)
    return rates


def _in_a_row(graph: Graph, rates: Mapping[int, int]) -> list[_Part]:
    """Cut a network where everything goes through one node; parts may be coarse before, between and after others."""
    parts: list[_Part] = []
    rate, size, reach = 0, 0, -1
    last = max(rates)
    for index in rates:
        rate, size = min(rate or rates[index], rates[index]), size + 1
        if index >= reach or index == last:
            if parts and parts[-1].rate == rate:
                size += parts.pop().size
            parts.append(_Part((index,), rate, size))
            rate = size = 0
        reach = max((reach, *(user for user in graph.users[index] if user in rates)))
    return parts


def _falling(graph: Graph, rates: Mapping[int, int]) -> list[_Part]:
    """Cut a network that comes to be finer: nothing is made for more steps than what it reads."""
    held: dict[int, int] = {}
    for index, rate in rates.items():
        held[index] = min((rate, *(held[source] for source in graph.nodes[index].inputs if source in held)))
    return _levels(graph, held)[::-1]


def _rising(graph: Graph, rates: Mapping[int, int]) -> list[_Part]:
    """Cut a network that comes to be coarser: nothing is made for more steps than what reads it."""
    held: dict[int, int] = {}
    for index in reversed(rates):
        held[index] = min((rates[index], *(held[user] for user in graph.users[index] if user in held)))
    return _levels(graph, held)


def _levels(graph: Graph, rates: Mapping[int, int]) -> list[_Part]:
    """Put the nodes of a rate together, the shortest steps first."""
    parts = []
    for rate in sorted(set(rates.values())):
        nodes = sorted(index for index in rates if rates[index] == rate)
        ends = (index for index in nodes if any(rates.get(user, rate) != rate for user in graph.users[index]))
        parts.append(_Part(tuple(ends), rate, len(nodes)))
    return parts


Way = Callable[[Graph, Mapping[int, int]], list[_Part]]
WAYS: tuple[Way, ...] = (_in_a_row, _falling, _rising)


class _Rounds:
    """The steps of a stage, those of its parts between them as they are asked for."""

    def __init__(self, plan: StagePlan, parts: Sequence[_Part]) -> None:
        self._steps, self._parts = plan.stage.steps, parts
        ends = {index for part in parts for index in part.ends}
        self._boxes = [{make.node: make.box for make in step.makes if make.node in ends} for step in plan.steps]
        self._done = [0] * len(parts)

    def steps(self) -> Iterator[Step]:
        """Give all steps in order."""
        last, count = len(self._parts) - 1, len(self._steps)
        for first in range(0, count, self._parts[last].rate):
            end = min(count, first + self._parts[last].rate)
            yield from self._before(last, end)
            yield _joined(self._steps[first:end])

    def _before(self, part: int, end: int) -> Iterator[Step]:
        """Give the steps that make what a part reads, for all steps up to one."""
        before = part - 1
        while before >= 0 and self._done[before] < end:
            first = self._done[before]
            stop = min(len(self._steps), first + self._parts[before].rate)
            yield from self._before(before, stop)
            self._done[before] = stop
            rows = self._boxes[first:stop]
            boxes = ((node, union(row[node] for row in rows if node in row)) for node in self._parts[before].ends)
            ahead = tuple((node, box) for node, box in boxes if box is not None)
            if ahead:
                yield Step((), ahead=ahead)


def _joined(steps: Sequence[Step]) -> Step:
    """Give one step for several."""
    if len(steps) == 1:
        return steps[0]
    targets: dict[int, Box] = {}
    ahead: dict[int, Box] = {}
    for step in steps:
        for held, rows in ((targets, step.targets), (ahead, step.ahead)):
            for index, box in rows:
                held[index] = hull(held.get(index), box)
    return Step(tuple(targets.items()), ahead=tuple(ahead.items()))
