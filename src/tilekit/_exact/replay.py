"""
Carry a program out, with whatever stands for arrays.

`run` hands in arrays of a library, `forecast` hands in byte counts. Both go through the same steps in the same order,
so what the one counts beforehand the other uses.
"""

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from tilekit._exact.boxes import Box, full, within
from tilekit._exact.graph import Node
from tilekit._exact.hands import Hands
from tilekit._exact.ops import Constant, Moments, Reduce
from tilekit._exact.program import Program, StagePlan
from tilekit._exact.schedule import Make, Settled, StepSchedule
from tilekit._exact.store import Store

__all__ = ["Replay", "statistic_box"]

V = TypeVar("V")


class Replay(Generic[V]):
    """
    One run of a program.

    Parameters
    ----------
    program : Program
        What to do.
    hands : Hands
        What does it.
    """

    def __init__(self, program: Program, hands: Hands[V]) -> None:
        self._program = program
        self._graph = program.graph
        self._hands = hands
        self._folded: dict[int, V] = {}
        self._stores: dict[int, Store[V]] = {}
        self._windows: dict[int, dict[int, tuple[Box, V]]] = {}
        self._parts: dict[int, dict[Box, V]] = {}

    def __iter__(self) -> Iterator[StepSchedule]:
        """Go on by one step at a time; what a step gives of the output is emitted before it is named here."""
        for plan in self._program.stages:
            yield from self._stage(plan)

    def _fold(self, index: int) -> V:
        """Make a node that depends on constants alone."""
        made: dict[int, tuple[Box, V]] = {}
        for each, gone in self._program.folding.recipes[index]:
            node = self._graph.nodes[each]
            whole = full(node.shape)
            needs = node.op.need(whole, node.shape, self._graph.input_shapes[each])
            made[each] = whole, self._hands.make(node, whole, needs, self._gather(node, needs, made))
            for inner in gone:
                del made[inner]
        value = self._folded[index] = made[index][1]
        return value

    def _stage(self, plan: StagePlan) -> Iterator[StepSchedule]:
        for kept in plan.stage.keep:
            self._stores[kept.node] = Store(self._graph.nodes[kept.node], kept.axis, kept.place, self._hands)
        self._parts = {node: {} for node in plan.stage.statistics}
        for number, step in enumerate(plan.steps):
            self._step(plan, step, dict(plan.going[number]))
            for node, row in plan.releases[number]:
                self._release(node, row)
            if number in plan.ends:
                del self._windows[step.track]
            yield step
        for node in plan.stage.statistics:
            self._finish(self._graph.nodes[node])
        self._windows.clear()

    def _release(self, node: int, row: int | None) -> None:
        if row is None:
            del self._stores[node]
        else:
            self._stores[node].release(row)

    def _step(self, plan: StagePlan, step: StepSchedule, going: dict[int, tuple[int, ...]]) -> None:
        windows = self._windows.setdefault(step.track, {})
        for node, box in step.emits:
            self._emit(plan, node, box, self._fetch(node, box, windows))
        self._settle(step.settled, windows)
        for number, make in enumerate(step.makes):
            self._make(plan, make, windows)
            for node in going.get(number, ()):
                self._folded.pop(node, None)  # a rank may not have needed it

    def _make(self, plan: StagePlan, make: Make, windows: dict[int, tuple[Box, V]]) -> None:
        node = self._graph.nodes[make.node]
        value = self._hands.make(node, make.box, make.needs, self._take(node, make, windows))
        self._take_in(plan, make, value, windows)

    def _take(self, node: Node, make: Make, windows: dict[int, tuple[Box, V]]) -> list[V | None]:
        """Give what a node reads, and let go of what it is the last to read: its memory may be written to."""
        values = self._gather(node, make.needs, windows)
        for index, stay in make.settled:
            if stay is None and index != make.node:
                del windows[index]
        return values

    def _take_in(self, plan: StagePlan, make: Make, value: V | None, windows: dict[int, tuple[Box, V]]) -> None:
        """Put what was made to what was there, when what it was made of has gone, and give the targets of it."""
        index, settled = make.node, make.settled
        own: list[Settled] = []
        if settled:
            own = [row for row in settled if row[0] == index]
            self._settle([row for row in settled if row[0] != index and row[0] in windows], windows)
        if value is not None:
            windows[index] = (make.window, self._window(make, value, windows.pop(index, None)))
            del value
        if make.emit is not None:
            self._emit(plan, index, make.emit, self._fetch(index, make.emit, windows))
        if own:
            self._settle(own, windows)

    def _window(self, make: Make, value: V, held: tuple[Box, V] | None) -> V:
        """Put what was made to what was there."""
        if make.axis is None or held is None:
            return value
        axis, window = make.axis, make.window
        (low, high), (first, last) = make.box[axis], window[axis]
        before = held[0][axis][0] < low
        old = (first, low) if before else (high, last)
        new = (max(low, first), min(high, last))
        pieces = [
            self._cut(whole, box, (*window[:axis], rows, *window[axis + 1 :]))
            for (box, whole), rows in ((held, old), ((make.box, value), new))
        ]
        return self._hands.join(pieces if before else pieces[::-1], axis)

    def _settle(self, settled: Sequence[Settled], windows: dict[int, tuple[Box, V]]) -> None:
        for node, stay in settled:
            if stay is None:
                del windows[node]
            else:
                box, value = windows.pop(node)
                windows[node] = (stay, self._hands.own(self._cut(value, box, stay)))

    def _emit(self, plan: StagePlan, node: int, box: Box, value: V) -> None:
        """Give a target to everything that asks for it."""
        for source, statistic in plan.statistics:
            if source == node:
                self._take_into(self._graph.nodes[statistic], box, value)
        if any(kept.node == node for kept in plan.stage.keep):
            self._stores[node].put(box, value)
        if node == self._graph.output:
            self._hands.emit(box, value)

    def _take_into(self, node: Node, box: Box, value: V) -> None:
        op = node.op
        assert isinstance(op, Moments | Reduce)  # a stage names no other statistics
        kept, parts = statistic_box(op, node, box), self._parts[node.index]
        part = self._hands.part(op, value)
        parts[kept] = self._hands.merge(op, parts[kept], part) if kept in parts else part

    def _finish(self, node: Node) -> None:
        parts = self._parts.pop(node.index)
        pieces = [(box, self._hands.finish(node, part)) for box, part in sorted(parts.items())]
        whole = pieces[0][1] if len(pieces) == 1 else self._hands.assemble(node, full(node.shape), pieces)
        self._stores[node.index] = Store(node, 0, "device", self._hands, [(full(node.shape), whole)])

    def _gather(self, node: Node, needs: tuple[Box | None, ...], windows: dict[int, tuple[Box, V]]) -> list[V | None]:
        """Give what a node reads."""
        values: list[V | None] = []
        for source, box in zip(node.inputs, needs, strict=True):
            window = windows.get(source)
            if box is not None and window is not None and window[0] == box:  # mostly, and in the innermost loop
                values.append(window[1])
            else:
                values.append(None if box is None else self._fetch(source, box, windows))
        return values

    def _fetch(self, index: int, box: Box, windows: dict[int, tuple[Box, V]]) -> V:
        window = windows.get(index)
        if window is not None:
            return self._cut(window[1], window[0], box)
        if index in self._stores:
            return self._stores[index].get(box)
        node = self._graph.nodes[index]
        if isinstance(node.op, Constant):
            value = self._hands.constant(node)
        elif index in self._program.folding.recipes:
            value = self._folded[index] if index in self._folded else self._fold(index)
        else:
            value = self._hands.source()
        return self._cut(value, full(node.shape), box)

    def _cut(self, value: V, held: Box, box: Box) -> V:
        return value if held == box else self._hands.cut(value, within(held, box))


def statistic_box(op: Moments | Reduce, node: Node, box: Box) -> Box:
    """Give the box of a statistic that a box of its input goes into."""
    if isinstance(op, Moments):
        lead = len(op.batch_axes)
        return (*(box[axis] for axis in op.batch_axes), *full(node.shape[lead:]))
    if op.keepdims:
        return tuple((0, 1) if axis in op.axes else interval for axis, interval in enumerate(box))
    return tuple(interval for axis, interval in enumerate(box) if axis not in op.axes)
