"""Carry out what one rank does of a program."""

from collections.abc import Iterator
from functools import reduce
from typing import Generic, TypeVar

from tilekit._exact.boxes import Box, full
from tilekit._exact.graph import Node
from tilekit._exact.hands import Hands
from tilekit._exact.ops import Moments, Reduce
from tilekit._exact.program import StagePlan
from tilekit._exact.replay import Replay
from tilekit._exact.schedule import Make, StepSchedule
from tilekit._exact.store import Store
from tilekit._exact.strips.links import Link
from tilekit._exact.strips.parts import PartMake, Shared, StripProgram

__all__ = ["StripReplay"]

V = TypeVar("V")


class StripReplay(Replay[V], Generic[V]):
    """
    One run of the program of a rank.

    Parameters
    ----------
    program : StripProgram
        What to do.
    hands : Hands
        What does it.
    link : Link
        What goes to other ranks and comes from them.
    """

    def __init__(self, program: StripProgram, hands: Hands[V], link: Link[V]) -> None:
        super().__init__(program, hands)
        self._strips = program
        self._link = link
        self._keys: dict[int, tuple[tuple[Box, Shared], ...]] = {}

    def _make(self, plan: StagePlan, make: Make, windows: dict[int, tuple[Box, V]]) -> None:
        assert isinstance(make, PartMake)  # a strip program has no others
        self._take_in(plan, make, self._part(make, windows), windows)

    def _part(self, make: PartMake, windows: dict[int, tuple[Box, V]]) -> V | None:
        """Give what is there of a box when the borders have come; None where nothing is."""
        node = self._graph.nodes[make.node]
        if make.shared is not None:
            return self._statistic(make, node, make.shared, windows)
        made = None
        if make.part is not None:
            made = self._hands.make(node, make.part, make.needs, self._take(node, make, windows))
        if not make.gives and not make.takes:
            return made if make.here else None
        gives = []
        for rank, box in make.gives:
            assert made is not None and make.part is not None  # what goes is made here  # noqa: PT018
            gives.append((rank, box, self._cut(made, make.part, box)))
        came = self._link.swap(node, gives, make.takes)
        del gives
        pieces = [(box, value) for (_, box), value in zip(make.takes, came, strict=True)]
        if made is not None and make.part is not None:
            if not pieces:
                return made
            pieces.insert(0, (make.part, made))
        return self._hands.assemble(node, make.box, pieces)

    def _statistic(self, make: PartMake, node: Node, givers: Shared, windows: dict[int, tuple[Box, V]]) -> V:
        """Take a statistic of the own part, and put it together with those of the others."""
        op, part = node.op, None
        assert isinstance(op, Moments | Reduce)  # nothing else is shared
        if make.part is not None:
            value = self._gather(node, make.needs, windows)[0]
            assert value is not None  # a part is of something
            part = self._hands.part(op, value)
        return self._hands.finish(node, self._together(node, make.box, part, givers))

    def _together(self, node: Node, box: Box, part: V | None, givers: Shared) -> V:
        op = node.op
        assert isinstance(op, Moments | Reduce)  # nothing else is shared
        parts = self._link.share(node, box, part, givers)
        return reduce(lambda a, b: self._hands.merge(op, a, b), parts)

    def _stage(self, plan: StagePlan) -> Iterator[StepSchedule]:
        self._keys = self._strips.keys[self._program.stages.index(plan)]
        yield from super()._stage(plan)

    def _emit(self, plan: StagePlan, node: int, box: Box, value: V) -> None:
        """Give a target to everything that asks for it: what is stored may be wider than the own part."""
        own = self._strips.halos.own(self._strips.rank, node, box)
        mine = None if own is None else self._cut(value, box, own)
        for source, statistic in plan.statistics:
            if source == node and own is not None and mine is not None:
                self._take_into(self._graph.nodes[statistic], own, mine)
        if any(kept.node == node for kept in plan.stage.keep):
            self._stores[node].put(box, value)
        if node == self._graph.output and own is not None and mine is not None:
            self._hands.emit(own, mine)

    def _finish(self, node: Node) -> None:
        keys = self._keys.get(node.index, ())
        if not keys:
            super()._finish(node)
            return
        parts = self._parts.pop(node.index)
        pieces = []
        for box, givers in keys:
            pieces.append((box, self._hands.finish(node, self._together(node, box, parts.get(box), givers))))
        whole = pieces[0][1] if len(pieces) == 1 else self._hands.assemble(node, full(node.shape), pieces)
        self._stores[node.index] = Store(node, 0, "device", self._hands, [(full(node.shape), whole)])
