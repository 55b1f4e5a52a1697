"""Which way, how large a strip, and what to keep, under a budget of bytes: by dry run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

from tilekit._errors import PlanError
from tilekit._exact.forecast import Forecast, Scratch, forecast, no_scratch
from tilekit._exact.frontiers import Path
from tilekit._exact.graph import Graph
from tilekit._exact.program import Program, program_of
from tilekit._exact.stages import plain
from tilekit._exact.steps import Place, Stage
from tilekit._exact.ways import Slide, Tiles, slides, tilings
from tilekit.backends.limits import Limits

__all__ = ["Choice", "Trial", "chosen", "search"]

SAME = 1.001
"""Work up to which nothing counts as made again."""
PARTS = (4, 16, 64, 256, 1024)
"""Strips of the largest array, tried from the largest strip on."""
USUAL = (64, 16, 4)
"""The same where no budget is given, tried from the smallest strip on until a dry run does not take too long."""
ENOUGH = 1.6
"""Work up to which smaller strips are not tried for the sake of keeping more."""
EFFORT = 60_000
"""Operations in all steps up to which a dry run is worth its time, and a quarter of those of all dry runs."""
MIB = 1 << 20
WRONG = 1 << 62
"""Bytes that are added to the peak of a plan with an array that the device gets wrong, so that it is never chosen."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen for a graph."""

    stages: tuple[Stage, ...]
    axis: int
    """The axis of the output along which blocks come."""
    peak_bytes: int
    """Live arrays at the peak."""
    work: float
    """Multiply-adds over those of a plain call."""
    operations: int
    """In all steps."""
    worst: str = ""
    """The array that the device would get wrong, if there is one."""


def search(  # noqa: PLR0913  what a plan depends on
    graph: Graph,
    memory_bytes: int | None = None,
    scratch: Scratch = no_scratch,
    *,
    stream: bool = False,
    spill: Place | None = None,
    limits: Limits | None = None,
) -> Choice:
    """
    Choose how a graph is evaluated.

    Parameters
    ----------
    graph : Graph
        The function.
    memory_bytes : int, optional
        What live arrays may take at the peak: without the input and the weights, and without the result where
        `stream`. Default: as little as goes without making anything again.
    scratch : callable
        What kernels take for themselves.
    stream : bool
        The output is handed out in blocks, in order.
    spill : {"host", "disk"}, optional
        Where arrays between stages may lie if the device is too small for them.
    limits : Limits, optional
        What the device gets right; no plan makes a larger array.

    Returns
    -------
    Choice
        Of all ways within the budget, one of least work, and of these one of fewest operations.

    Raises
    ------
    PlanError
        If no way stays within the budget or the limits; the text names the least that one takes.
    """
    trial = Trial(graph, scratch, slides(graph, stream=stream), stream=stream, limits=limits)
    return chosen(trial, memory_bytes, spill)


def chosen(trial: "Trial", memory_bytes: int | None = None, spill: Place | None = None) -> Choice:
    """Choose among the ways of a trial, as `search` does."""
    if memory_bytes is None:
        usual = trial.usual()
        if usual.peak_bytes < WRONG:
            return usual
        memory_bytes = WRONG - 1
    held = trial.same(memory_bytes) or trial.spilled(memory_bytes, spill) or trial.again(memory_bytes)
    if held is not None:
        return held
    best = trial.least()
    if best.peak_bytes <= memory_bytes:
        return best
    least = best.peak_bytes
    if least >= WRONG:
        msg = f"no plan keeps arrays small enough for the device: {best.worst}; give a smaller input"
        raise PlanError(msg)
    msg = (
        f"memory_bytes: got {memory_bytes} ({memory_bytes / MIB:.1f} MiB), but the plan that needs least takes {least} "
        f"({least / MIB:.1f} MiB); give at least that, or a smaller input"
    )
    raise PlanError(msg)


class Trial:
    """
    Dry runs of one graph.

    Parameters
    ----------
    graph : Graph
        The function.
    scratch : callable
        What kernels take for themselves.
    ways : sequence of Slide
        Which axis may slide.
    stream : bool
        The output is handed out in blocks, in order.
    limits : Limits, optional
        What the device gets right.
    """

    parts: ClassVar[tuple[int, ...]] = USUAL
    """Strips of the largest array where no budget is given."""

    def __init__(
        self, graph: Graph, scratch: Scratch, ways: Sequence[Slide], *, stream: bool, limits: Limits | None
    ) -> None:
        self._graph, self._scratch, self._stream = graph, scratch, stream
        self._limits = limits
        self._largest = max(node.nbytes for node in graph.nodes if graph.live[node.index])
        self._slides = tuple(ways)
        axis = min((way.axis for way in self._slides), default=0)
        self._best: Choice | None = None
        self._left = 4 * EFFORT
        self._whole = self._run(plain(graph), axis)

    def _run(self, stages: tuple[Stage, ...], axis: int) -> Choice:
        """Schedule and count."""
        program = program_of(self._graph, stages)
        counted = self.count(program)
        peak = counted.peak_bytes if counted.over <= 1 else WRONG + int(counted.over * MIB)
        operations = sum(len(step.makes) for stage in program.stages for step in stage.steps)
        choice = Choice(stages, axis, peak, program.work, operations, counted.worst)
        if self._best is None or choice.peak_bytes < self._best.peak_bytes:
            self._best = choice
        return choice

    def count(self, program: Program) -> Forecast:
        """Count what a program takes."""
        return forecast(program, self._scratch, stream=self._stream, limits=self._limits)

    def _try(self, way: Slide | Tiles, stages: tuple[Stage, ...], work: float = 1.0) -> Choice | None:
        """Count what does not take long to count."""
        effort = work * sum(len(stage.steps) * _depth(self._graph, stage) for stage in stages) / way.pieces
        if effort > min(EFFORT, self._left):
            return None
        self._left -= int(effort)
        return self._run(stages, way.axis)

    def usual(self) -> Choice:
        """Choose where no budget is given: the least memory of all ways that make nothing again."""
        held = [self._whole]
        for way in self._slides:
            path = way.frontiers.lasting
            if path.held >= self._whole.peak_bytes:
                continue
            tried = (self._try(way, way.stages(path, self._largest // count)) for count in self.parts)
            held += [choice for choice in islice((c for c in tried if c is not None), 1) if choice.work <= SAME]
        return min(held, key=lambda choice: choice.peak_bytes)

    def same(self, budget: int) -> Choice | None:
        """Give the way of fewest operations that makes nothing again."""
        if self._whole.peak_bytes <= budget and not self._stream:
            return self._whole
        held = [self._strips(way, way.frontiers.lasting, budget) for way in self._slides]
        if self._whole.peak_bytes <= budget:
            held.append(self._whole)
        kept = [choice for choice in held if choice is not None and choice.work <= SAME]
        return min(kept, key=lambda choice: choice.operations, default=None)

    def spilled(self, budget: int, spill: Place | None) -> Choice | None:
        """Give the same with what is kept in another place."""
        if spill is None:
            return None
        held = [self._strips(way, way.frontiers.lasting, budget, spill) for way in self._slides]
        return min((c for c in held if c is not None), key=lambda choice: choice.operations, default=None)

    def _strips(self, way: Slide, path: Path, budget: int, place: Place = "device") -> Choice | None:
        """Give the largest strips that stay within a budget."""
        if place == "device" and path.held > budget:
            return None
        for count in PARTS:
            choice = self._try(way, way.stages(path, self._largest // count, place))
            if choice is None:
                return None
            if choice.peak_bytes <= budget:
                return choice
        return None

    def again(self, budget: int) -> Choice | None:
        """Give the way of least work, where something must be made again."""
        held = [*self._remade(budget), *self.tiled(budget)]
        return min(held, key=lambda choice: (round(choice.work, 3), choice.operations), default=None)

    def _remade(self, budget: int) -> Iterator[Choice]:
        """Give ways that keep less at barriers: as much as strips leave of the budget."""
        ranked = sorted(self._slides, key=lambda way: (way.frontiers.lasting.held, len(way.barriers.goals)))
        for way in [way for way in ranked if way.frontiers.lasting.held][:2]:
            for count in PARTS[2:4]:
                choice = self._fitted(way, self._largest // count, budget)
                if choice is not None:
                    yield choice
                    if choice.work < ENOUGH:
                        break

    def _fitted(self, way: Slide, size: int, budget: int) -> Choice | None:
        """Give the most that may be kept between stages with strips of one size."""
        allowance = budget
        for _ in range(5):
            path = way.frontiers.within(allowance)
            if path is None:
                return None
            choice = self._try(way, way.stages(path, size), path.work / max(1, way.frontiers.lasting.work))
            if choice is None or choice.peak_bytes <= budget:
                return choice
            allowance = min(path.held - 1, budget - max(0, choice.peak_bytes - path.held))
        return None

    def least(self) -> Choice:
        """Give what takes least of all that was tried, and of ways that keep as little as can be."""
        self._left = 4 * EFFORT
        for way in self._slides:
            path, share = way.frontiers.lasting, way.frontiers.lasting.held
            while share and (smaller := way.frontiers.within(share)) is not None:
                path, share = smaller, min(share * 3 // 4, smaller.held - 1)
            again = path.work / max(1, way.frontiers.lasting.work)
            for count in PARTS[2:4]:
                self._try(way, way.stages(path, self._largest // count), again)
        return self._best or self._whole

    def tiled(self, budget: int) -> Iterator[Choice]:
        """Give ways with tiles, up to the first grid that is fine enough."""
        found: Tiles | None = None
        for way in tilings(self._graph, stream=self._stream):
            if found is not None and way.grid != found.grid:
                return
            if way.held <= budget:
                for count in PARTS[1:]:
                    choice = self._try(way, way.stages(self._largest // count))
                    if choice is not None and choice.peak_bytes <= budget:
                        found = way
                        yield choice
                        break


def _depth(graph: Graph, stage: Stage) -> int:
    """Count the operations behind the targets of a stage."""
    stack = [node for node, _ in stage.steps[len(stage.steps) // 2].targets]
    seen = {*stack, *stage.stored}
    count = 0
    while stack:
        count += 1
        fresh = [i for i in graph.nodes[stack.pop()].inputs if graph.live[i] and i not in seen]
        seen.update(fresh)
        stack += fresh
    return count
