"""Choose the stages that evaluate a graph within a budget."""

from collections.abc import Iterator
from dataclasses import dataclass

from tilekit._errors import PlanError
from tilekit._exact.boxes import Box, full
from tilekit._exact.forecast import Scratch, forecast
from tilekit._exact.graph import Graph
from tilekit._exact.plan import MIB, whole_stage
from tilekit._exact.program import program_of
from tilekit._exact.steps import Stage, Step

__all__ = ["Choice", "choose"]


@dataclass(frozen=True, slots=True)
class Choice:
    """Stages, and the axis of the output that slides."""

    stages: tuple[Stage, ...]
    axis: int


def choose(graph: Graph, memory_bytes: int | None, scratch: Scratch, *, stream: bool) -> Choice:
    """
    Choose the stages.

    Parameters
    ----------
    graph : Graph
        The function.
    memory_bytes : int or None
        What live arrays may take at the peak; None for as little as one sliding axis makes possible.
    scratch : callable
        What the kernels take for themselves.
    stream : bool
        Whether the output is handed out block by block.

    Returns
    -------
    Choice
        The stages.

    Raises
    ------
    PlanError
        If no plan meets the budget; the text names the least that one does.
    """
    least: tuple[int, Choice] | None = None
    for choice in _candidates(graph):
        peak = forecast(program_of(graph, choice.stages), scratch, stream=stream).peak_bytes
        if memory_bytes is not None and peak <= memory_bytes:
            return choice
        if least is None or peak < least[0]:
            least = (peak, choice)
    assert least is not None  # there is always the whole
    if memory_bytes is not None:
        msg = (
            f"memory_bytes: got {memory_bytes} ({memory_bytes / MIB:.1f} MiB), but the plan that needs least takes "
            f"{least[0]} ({least[0] / MIB:.1f} MiB); give at least that, or a smaller input"
        )
        raise PlanError(msg)
    return least[1]


def _candidates(graph: Graph) -> Iterator[Choice]:
    """Give the whole, then finer and finer cuts along each axis."""
    shape = graph.nodes[graph.output].shape
    yield Choice((whole_stage(graph),), 0)
    axes = [axis for axis, n in enumerate(shape) if axis > 0 and n > 1]
    for count in (2, 4, 8, 16, 32, 64):
        for axis in axes:
            if count <= shape[axis]:
                steps = tuple(Step(((graph.output, box),)) for box in _slabs(full(shape), axis, count))
                yield Choice((Stage(steps, name=graph.nodes[graph.output].name or "output"),), axis)


def _slabs(whole: Box, axis: int, count: int) -> Iterator[Box]:
    n = whole[axis][1]
    for i in range(count):
        yield (*whole[:axis], (i * n // count, (i + 1) * n // count), *whole[axis + 1 :])
