"""Which way, and how large a strip, under a budget of bytes: by dry run."""

from collections.abc import Iterator
from dataclasses import dataclass

from tilekit._errors import PlanError
from tilekit._exact.forecast import Forecast, Scratch, forecast, no_scratch
from tilekit._exact.graph import Graph
from tilekit._exact.program import Program, program_of
from tilekit._exact.stages import plain
from tilekit._exact.steps import Place, Stage
from tilekit._exact.ways import Way, ways

__all__ = ["Choice", "search"]

SAME = 1.001
"""Work up to which nothing counts as made again."""
PARTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Strips of the largest array, tried from the largest on."""
USUAL = 64
SMALL = 1 << 18
"""Strips of the largest array where no budget is given, and the bytes below which they are not cut further."""
EFFORT = 400_000
"""Operations in all steps up to which a dry run is worth its time."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen for a graph."""

    program: Program
    forecast: Forecast
    axis: int | None
    """The axis of the output along which blocks come; None where it comes whole."""
    name: str

    @property
    def peak_bytes(self) -> int:
        """Live arrays at the peak."""
        return self.forecast.peak_bytes

    @property
    def work(self) -> float:
        """Multiply-adds over those of a plain call."""
        return self.program.work


def search(
    graph: Graph,
    memory_bytes: int | None = None,
    *,
    scratch: Scratch = no_scratch,
    stream: bool = False,
    spill: Place | None = None,
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

    Returns
    -------
    Choice
        Of all ways within the budget, one of least work, and of these one of fewest operations.

    Raises
    ------
    PlanError
        If no way stays within the budget; the text names the least that one takes.
    """
    trial = _Trial(graph, scratch, stream=stream)
    whole = trial.whole()
    if memory_bytes is None:
        return trial.usual(whole, ways(graph, stream=stream))
    if whole.peak_bytes <= memory_bytes and not stream:
        return whole
    held = trial.within(memory_bytes, list(ways(graph, stream=stream, spill=spill)))
    if held is not None:
        return held
    if whole.peak_bytes <= memory_bytes:
        return whole
    least = min(trial.seen, default=whole.peak_bytes)
    msg = (
        f"memory_bytes: got {memory_bytes}, the least that a plan takes is {least}; "
        f"allow that much, or take a smaller input"
    )
    raise PlanError(msg)


class _Trial:
    """Dry runs of one graph."""

    def __init__(self, graph: Graph, scratch: Scratch, *, stream: bool) -> None:
        self._graph, self._scratch, self._stream = graph, scratch, stream
        self._largest = max(node.nbytes for node in graph.nodes if graph.live[node.index])
        result = graph.nodes[graph.output].nbytes
        self._result = 0 if stream else result
        self.seen: list[int] = []

    def run(self, stages: tuple[Stage, ...], axis: int | None, name: str) -> Choice:
        """Schedule and count."""
        program = program_of(self._graph, stages)
        counted = forecast(program, self._scratch, stream=self._stream)
        self.seen.append(counted.peak_bytes)
        return Choice(program, counted, axis, name)

    def whole(self) -> Choice:
        """Give the plain evaluation."""
        return self.run(plain(self._graph), None, "whole")

    def usual(self, whole: Choice, every: Iterator[Way]) -> Choice:
        """Choose where no budget is given: the least memory of all ways that make nothing again."""
        size = max(SMALL, self._largest // USUAL)
        held = [whole]
        for way in every:
            if way.work <= SAME and way.held < whole.peak_bytes:
                stages = way.stages(size)
                if self._effort(stages) <= EFFORT:
                    held.append(self.run(stages, way.axis, way.name))
        same = [choice for choice in held if choice.work <= SAME and choice.peak_bytes <= whole.peak_bytes]
        return min(same, key=lambda choice: choice.peak_bytes)

    def within(self, budget: int, every: list[Way]) -> Choice | None:
        """Give the way of least work within a budget."""
        every.sort(key=lambda way: way.work)
        held: list[Choice] = []
        for way in every:
            if held and way.work > max(SAME, min(choice.work for choice in held)):
                break
            if way.held <= budget:
                choice = self._largest_strips(way, budget)
                if choice is not None:
                    held.append(choice)
        return min(held, key=lambda choice: (round(choice.work, 3), _operations(choice)), default=None)

    def _largest_strips(self, way: Way, budget: int) -> Choice | None:
        """Give a way with the largest strips that stay within a budget."""
        before = None
        for count in PARTS:
            stages = way.stages(max(1, self._largest // count))
            effort = self._effort(stages)
            if effort == before:
                continue  # a row at a time already
            if effort > EFFORT:
                return None
            before = effort
            choice = self.run(stages, way.axis, way.name)
            if choice.peak_bytes <= budget:
                return choice
        return None

    def _effort(self, stages: tuple[Stage, ...]) -> int:
        """Guess the operations of all steps."""
        share = len(self._graph.nodes) / max(1, len(stages))
        return int(sum(len(stage.steps) for stage in stages) * share)


def _operations(choice: Choice) -> int:
    return sum(len(step.makes) for stage in choice.program.stages for step in stage.steps)
