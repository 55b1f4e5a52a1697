"""
A stream as a schedule without an end: steps that begin it, one step that is made again and again, steps that end it.

Integers alone. The step that is made again (a round) is looked for in the schedule of one length: two steps that follow
one another, alike but for their place, with what waits before each of them. How near the end of the input a round may
come is found by placing it there.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from tilekit._exact.boxes import Box, contains, full
from tilekit._exact.folding import Folding
from tilekit._exact.graph import Graph
from tilekit._exact.heads import warming
from tilekit._exact.labels import cut_at
from tilekit._exact.ops import Constant, Input
from tilekit._exact.program import Program, StagePlan
from tilekit._exact.pull import pull
from tilekit._exact.schedule import Settled, StepSchedule, schedule
from tilekit._exact.sources.alike import Placed, told_of
from tilekit._exact.sources.period import Period
from tilekit._exact.steps import Stage, Step

__all__ = ["Rounds", "State", "Tail", "begins_alike", "ends_alike", "rounds_of", "tail_of"]

State = Mapping[int, Box]
"""What is there of each node between two steps."""
BEGINNING = 24
"""Steps after which rounds must have begun."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """How a stream begins and goes on."""

    graph: Graph
    period: Period
    outside: frozenset[int]
    """Nodes that are there without being made: the input, weights, and what is made of them alone."""
    units: int
    """In one step."""
    steps: tuple[StepSchedule, ...]
    """Those that begin, and the one that is made again, last."""
    states: tuple[State, ...]
    """Before each of them."""
    warming: int
    """How many steps come before the first that gives rows of the output."""
    first: int
    """Rows of the output that this one gives."""
    ahead: int = 0
    """Rows of the input that must have come beyond those that a step reads."""
    behind: int = 0
    """Rows of the input before those of a step that the end may read again."""

    @property
    def again(self) -> int:
        """The number of the step that is made again."""
        return len(self.steps) - 1

    def state(self, step: int) -> tuple[State, int]:
        """Give what is there before any step, and by how many units it lies further on."""
        known = min(step, self.again)
        return self.states[known], (step - known) * self.units

    def reads(self, step: int) -> tuple[int, int]:
        """Give the rows of the input that any step reads."""
        known = min(step, self.again)
        low, high = read_rows(self.graph, self.period, self.steps[known])
        further = (step - known) * self.units * self.period.unit
        return low + further, high + further

    def low(self, step: int) -> int:
        """Give the first row of the input that a step or one after it reads."""
        reads = [self.reads(number) for number in range(step, max(step, self.again) + 1)]
        return min(low for low, high in reads if high) - self.behind

    def begins(self, step: int) -> int:
        """Give the first row of the output that a step gives, or one after it."""
        return max(0, self.first + (step - self.warming - 1) * self.units * self.period.out_rows)

    def ends(self, step: int, n: int) -> range:
        """Give where each step from one on ends, of the first `n` rows of the output."""
        return range(max(self.first, self.begins(step + 1)), n, self.units * self.period.out_rows)

    @property
    def program(self) -> Program:
        """The steps, to be carried out."""
        return program_with(self.graph, self.outside, self.steps)


@dataclass(frozen=True, slots=True)
class Tail:
    """How a stream ends."""

    program: Program
    state: State
    """What the steps begin with; what else is there goes."""
    units: int
    """By how many units the output that they end lies further on than that of their graph."""
    low: int
    """The first row of the input that they read, in their graph."""


def program_with(graph: Graph, outside: Collection[int], steps: Sequence[StepSchedule]) -> Program:
    """Give the program of some steps, which make the output."""
    folded = tuple(i for i in sorted(outside) if not isinstance(graph.nodes[i].op, Constant | Input))
    folding = Folding(graph, folded)
    nothing = ((),) * len(steps)
    plan = StagePlan(Stage(()), tuple(steps), nothing, (), (), nothing)
    return Program(graph, folding, (plan,), anew=False)


def read_rows(graph: Graph, period: Period, step: StepSchedule) -> tuple[int, int]:
    """Give the rows of the input that a step reads; (0, 0) for none."""
    boxes = [box for node, box in step.reads if node == graph.input]
    return boxes[0][period.axis] if boxes else (0, 0)


def rounds_of(graph: Graph, period: Period, outside: frozenset[int], units: int) -> Rounds | None:
    """
    Find how a stream begins and goes on.

    Parameters
    ----------
    graph : Graph
        The function, for an input that is long enough.
    period : Period
        Of its arrays.
    outside : frozenset of int
        Nodes that are there.
    units : int
        In one step.

    Returns
    -------
    Rounds or None
        None where the input is too short.
    """
    n, rows = graph.nodes[graph.output].shape[period.out_axis], period.out_rows
    first = _first(graph, period, units)
    ends = range(first, n + 1, units * rows)
    every = tuple(_steps(graph, period, (0, *ends)))
    labels = tuple(period.shifts[index][0] if index in period.shifts else None for index in range(len(graph.nodes)))
    made = frozenset(range(len(graph.nodes))) - outside
    before = warming(graph, labels, made, frozenset(), every) if every else ()
    for count in (5, 9, BEGINNING):
        steps = schedule(graph, Stage((*before, *every[:count]), again=True), outside)
        found = _repeated(graph, period, units, steps, len(before))
        if found is not None:
            states = tuple(_states(steps[: found + 1]))
            return Rounds(graph, period, outside, units, steps[: found + 1], states, len(before), first)
        if len(every) <= count:
            return None
    return None


def _first(graph: Graph, period: Period, units: int) -> int:
    """Give the rows of the output that as many rows of the input make as a step reads anew: less, with a look ahead."""
    shape, rows = graph.nodes[graph.output].shape, period.out_rows
    odd = shape[period.out_axis] % rows

    def given(units: int) -> int:
        return odd + rows * (units - bool(odd))

    box = pull(
        graph, {graph.output: cut_at(shape, period.out_axis, (0, min(given(units), shape[period.out_axis])))}
    ).get(graph.input)
    late = 0 if box is None else box[period.axis][1] - units * period.unit
    return given(max(1, units - max(0, -(-late // period.unit))))


def _repeated(graph: Graph, period: Period, units: int, steps: Sequence[StepSchedule], begin: int) -> int | None:
    """Give the first step that the one after it repeats; the last is not asked, as nothing is kept after it."""
    states = list(_states(steps))
    for number in range(begin, len(steps) - 2):
        moved = {node: period.moved(node, box, units) for node, box in states[number].items()}
        if moved == states[number + 1] and read_rows(graph, period, steps[number])[1]:
            before, after = Placed(graph, period, units), Placed(graph, period)
            if before.step(steps[number]) == after.step(steps[number + 1]):
                return number
    return None


def _steps(graph: Graph, period: Period, bounds: Sequence[int]) -> Iterator[Step]:
    shape = graph.nodes[graph.output].shape
    for rows in pairwise(bounds):
        yield Step(((graph.output, cut_at(shape, period.out_axis, rows)),))


def _states(steps: Sequence[StepSchedule]) -> Iterator[State]:
    """Give what is there before each step."""
    state: dict[int, Box] = {}
    for step in steps:
        yield dict(state)
        for node, stay in _settled(step):
            if stay is None:
                state.pop(node, None)
            else:
                state[node] = stay


def _settled(step: StepSchedule) -> Iterator[Settled]:
    """Give what becomes of each node that a step looks at."""
    yield from step.settled
    for make in step.makes:
        yield from make.settled


def _fits(graph: Graph, period: Period, step: StepSchedule, units: int) -> bool:
    """Whether a step does the same so many units further on, in a graph of any length."""
    for make in step.makes:
        node, shapes = graph.nodes[make.node], graph.input_shapes[make.node]
        box = period.moved(make.node, make.box, units)
        if not contains(full(node.shape), box) or node.op.grow(box, node.shape, shapes) != box:
            return False
        rows = zip(node.inputs, make.needs, strict=True)
        needs = tuple(need and period.moved(index, need, units) for index, need in rows)
        if node.op.need(box, node.shape, shapes) != needs:
            return False
    return True


def _tells(a: Graph, b: Graph, period: Period, step: StepSchedule, units: int) -> bool:
    """Whether kernels do the same for a step of one graph, and for it so many units further on in another."""
    for make in step.makes:
        node = b.nodes[make.node]
        box = period.moved(make.node, make.box, units)
        needs = [need and period.moved(index, need, units) for index, need in zip(node.inputs, make.needs, strict=True)]
        if told_of(a, a.nodes[make.node], make.box, make.needs) != told_of(b, node, box, needs):
            return False
    return True


def tail_of(rounds: Rounds, graph: Graph, step: int, units: int) -> Tail | None:
    """
    Find how a stream ends.

    Parameters
    ----------
    rounds : Rounds
        How it went on.
    graph : Graph
        The function, for an input that ends.
    step : int
        The first that is not made.
    units : int
        By how much the input is longer than that of the graph.

    Returns
    -------
    Tail or None
        None where what is there lies outside of the graph, or the step before does something else there.
    """
    period = rounds.period
    known, further = rounds.state(step)
    state = {node: period.moved(node, box, further - units) for node, box in known.items()}
    rows, n = units * period.out_rows, graph.nodes[graph.output].shape[period.out_axis]
    begin = rounds.begins(step) - rows
    if not 0 <= begin <= n or not all(contains(full(graph.nodes[node].shape), box) for node, box in state.items()):
        return None
    if not begins_alike(rounds, graph, step) or (step and not _made_alike(rounds, graph, step - 1, units)):
        return None
    bounds = (begin, *(end - rows for end in rounds.ends(step, n + rows)), *((n,) if begin < n else ()))
    stage = Stage(tuple(_steps(graph, period, bounds)), again=True)
    there = rounds.low(step) - units * period.unit
    tails = (_tail(rounds, graph, replace(stage, again=again), state, units) for again in (True, False))
    first = next(tails)
    return first if first.low >= there else next(tails)


def _tail(rounds: Rounds, graph: Graph, stage: Stage, state: State, units: int) -> Tail:
    """Schedule an end; what is made again may need rows of the input that are gone."""
    period = rounds.period
    steps = schedule(graph, stage, rounds.outside, start=state)
    used = {node for step in steps for node, _ in _settled(step)}
    lows = [low for low, high in (read_rows(graph, period, step) for step in steps) if high]
    kept = {node: box for node, box in state.items() if node in used}
    low = min(lows, default=graph.nodes[graph.input].shape[period.axis])
    return Tail(program_with(graph, rounds.outside, steps), kept, units, low)


def ends_alike(period: Period, short: Tail, long: Tail, units: int) -> bool:
    """Whether two lengths that are so many units apart end with the same steps."""
    (a,), (b,) = short.program.stages, long.program.stages
    before, after = Placed(short.program.graph, period, units), Placed(long.program.graph, period)
    return [before.step(step) for step in a.steps] == [after.step(step) for step in b.steps]


def begins_alike(rounds: Rounds, graph: Graph, steps: int | None = None) -> bool:
    """Whether the first steps, all by default, do the same in a graph."""
    first = rounds.again + 1 if steps is None else min(steps, rounds.again + 1)
    return all(_made_alike(rounds, graph, number, 0) for number in range(first))


def _made_alike(rounds: Rounds, graph: Graph, step: int, units: int) -> bool:
    """Whether a step that was made does the same in a graph, so many units further back."""
    known = min(step, rounds.again)
    further = (step - known) * rounds.units - units
    made = rounds.steps[known]
    return _fits(graph, rounds.period, made, further) and _tells(rounds.graph, graph, rounds.period, made, further)
