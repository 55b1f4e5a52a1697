"""
What one rank does of a program: its part of each box, what it sends, and what it receives. Integers alone.

Every rank goes through the same operations in the same order, so what one sends is what the other waits for.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tilekit._exact.boxes import Box, cells, meet
from tilekit._exact.graph import Graph
from tilekit._exact.program import Program, StagePlan
from tilekit._exact.replay import statistic_box
from tilekit._exact.schedule import Make, Settled, StepSchedule
from tilekit._exact.strips.halos import Halos, Piece

__all__ = ["PartMake", "Shared", "StripProgram", "strip_program"]

Shared = tuple[tuple[int, int], ...]
"""The ranks that give to a statistic, in the order in which it is put together, and the cells of each."""


@dataclass(slots=True)
class PartMake(Make):
    """One box of one node on one rank: `box` is what is there when the borders have come."""

    here: bool
    """Whether there is any; if not, only what goes and what is emitted counts."""
    part: Box | None
    """What the rank makes itself, from `needs`."""
    gives: tuple[Piece, ...]
    takes: tuple[Piece, ...]
    shared: Shared | None
    """For a statistic whose parts lie on several ranks, who gives to it."""


@dataclass(frozen=True, slots=True)
class StripProgram(Program):
    """The program of one rank."""

    halos: Halos
    rank: int
    keys: tuple[dict[int, tuple[tuple[Box, Shared], ...]], ...]
    """For each stage and statistic put together over its steps: the boxes of the statistic, and who gives to them."""

    @property
    def work_done(self) -> int:
        """Multiply-adds of this rank."""
        nodes, shapes = self.graph.nodes, self.graph.input_shapes
        return sum(
            cells(make.part) * nodes[make.node].op.work(nodes[make.node].shape, shapes[make.node])
            for make in self._makes()
            if make.part is not None and make.shared is None
        )

    @property
    def sent(self) -> dict[int, int]:
        """Bytes of borders that this rank sends, by node."""
        held: dict[int, int] = {}
        for make in self._makes():
            for _, box in make.gives:
                nbytes = cells(box) * self.graph.nodes[make.node].itemsize
                held[make.node] = held.get(make.node, 0) + nbytes
        return held

    def _makes(self) -> Iterator[PartMake]:
        for stage in self.stages:
            for step in stage.steps:
                for make in step.makes:
                    assert isinstance(make, PartMake)  # so it was built
                    yield make


def strip_program(program: Program, halos: Halos, rank: int) -> StripProgram:
    """
    Give what one rank does.

    Parameters
    ----------
    program : Program
        What all do together.
    halos : Halos
        Who makes, holds and exchanges what.
    rank : int
        Which rank.

    Returns
    -------
    StripProgram
        What `StripReplay` carries out.
    """
    stages, keys = [], []
    for plan in program.stages:
        windows: dict[int, dict[int, Box]] = {}
        steps = tuple(
            _Step(program.graph, halos, rank, windows.setdefault(step.track, {})).of(step) for step in plan.steps
        )
        stages.append(replace(plan, steps=steps))
        keys.append({node: tuple(_keys(program.graph, halos, plan, node, source)) for source, node in plan.statistics})
    return StripProgram(program.graph, program.folding, tuple(stages), program.anew, halos, rank, tuple(keys))


class _Step:
    """One step of a rank, and the windows that it leaves."""

    def __init__(self, graph: Graph, halos: Halos, rank: int, windows: dict[int, Box]) -> None:
        self._graph, self._halos, self._rank, self._windows = graph, halos, rank, windows
        self._held = halos.held[rank]

    def of(self, step: StepSchedule) -> StepSchedule:
        """Restrict a step."""
        emits = tuple((node, part) for node, box in step.emits if (part := self._there(node, box)) is not None)
        settled = tuple(self._settle(step.settled))
        return StepSchedule(step.track, emits, settled, tuple(map(self._make, step.makes)), step.reads)

    def _there(self, node: int, box: Box) -> Box | None:
        """Give what of a box is on this rank; what is there before anything is made is there as a whole."""
        return meet(box, self._held[node]) if node in self._held else self._whole(node, box)

    def _whole(self, node: int, box: Box) -> Box | None:
        return None if node in self._halos.wanted and node != self._graph.input else box

    def _make(self, make: Make) -> PartMake:
        box = meet(make.box, self._held[make.node]) if make.node in self._held else None
        before: list[Settled] = []
        window, axis = self._window(make, box, before)
        emit = None if make.emit is None else self._there(make.node, make.emit)
        settled = (*before, *self._settle(make.settled))
        if self._halos.shares(make.node):
            part, needs, shared = self._statistic(make)
            return PartMake(make.node, make.box, needs, window, axis, emit, settled, True, part, (), (), shared)
        part, needs = self._part(make)
        gives, takes = self._halos.pieces(self._rank, make.node)
        return PartMake(
            make.node,
            make.box if box is None else box,
            needs,
            window,
            axis,
            emit,
            settled,
            box is not None,
            part,
            _within(gives, make.box),
            _within(takes, make.box),
            None,
        )

    def _window(self, make: Make, box: Box | None, before: list[Settled]) -> tuple[Box, int | None]:
        """Give what is there afterwards; what a box that is not here takes the place of goes."""
        held = self._windows.pop(make.node, None)
        if box is None:
            left = None if held is None or make.axis is None else meet(held, make.window)
            if held is not None:
                before.append((make.node, left))
            if left is not None:
                self._windows[make.node] = left
            return make.window, None
        joined = make.axis is not None and held is not None
        window = meet(make.window, self._held[make.node]) if joined else None
        self._windows[make.node] = box if window is None else window
        return self._windows[make.node], make.axis if window is not None else None

    def _settle(self, settled: tuple[Settled, ...]) -> Iterator[Settled]:
        for node, stay in settled:
            held = self._windows.pop(node, None)
            if held is None:
                continue
            left = None if stay is None else meet(held, stay)
            if left is not None:
                self._windows[node] = left
            yield node, left

    def _part(self, make: Make) -> tuple[Box | None, tuple[Box | None, ...]]:
        part = self._halos.part(self._rank, make.node, make.box)
        if part is None or part == make.box:
            return part, make.needs
        node = self._graph.nodes[make.node]
        return part, node.op.need(part, node.shape, self._graph.input_shapes[make.node])

    def _statistic(self, make: Make) -> tuple[Box | None, tuple[Box | None, ...], Shared]:
        need, source = make.needs[0], self._graph.nodes[make.node].inputs[0]
        assert need is not None  # a statistic reads its input
        givers = self._halos.sharers(source, need)
        mine = dict(givers).get(self._rank)
        return mine, (mine,), _shared(self._graph, make.node, givers)


def _within(pieces: tuple[Piece, ...], box: Box) -> tuple[Piece, ...]:
    return tuple((rank, part) for rank, piece in pieces if (part := meet(piece, box)) is not None)


def _shared(graph: Graph, index: int, givers: tuple[Piece, ...]) -> Shared:
    """Count the cells of each giver that go into one cell of the statistic."""
    node = graph.nodes[index]
    rows = []
    for rank, box in givers:
        kept = cells(statistic_box(node.op, node, box))  # type: ignore[arg-type]  # only statistics come here
        rows.append((rank, cells(box) * 2 // kept))
    return tuple(rows)


def _keys(graph: Graph, halos: Halos, plan: StagePlan, index: int, source: int) -> Iterator[tuple[Box, Shared]]:
    """Give the boxes of a statistic that is taken over the steps of a stage, and who gives how many cells to each."""
    if not halos.shares(index):
        return
    node = graph.nodes[index]
    total: dict[Box, dict[int, int]] = {}
    for step in plan.steps:
        emitted = [box for make in step.makes if make.node == source and (box := make.emit) is not None]
        for box in (*(box for at, box in step.emits if at == source), *emitted):
            key = statistic_box(node.op, node, box)  # type: ignore[arg-type]
            for rank, count in _shared(graph, index, halos.sharers(source, box)):
                row = total.setdefault(key, {})
                row[rank] = row.get(rank, 0) + count
    for key, row in sorted(total.items()):
        yield key, tuple(sorted(row.items()))
