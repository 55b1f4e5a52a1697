"""Which way and how large the steps are, where ranks share the work: the search of one device, counted for a rank."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tilekit._errors import PlanError
from tilekit._exact.boxes import Box, cells, full
from tilekit._exact.forecast import Forecast, Ghosts, Scratch, forecast
from tilekit._exact.ghosts import Ghost
from tilekit._exact.goals import plain_work
from tilekit._exact.graph import Graph, Node
from tilekit._exact.program import Program, program_of
from tilekit._exact.search import chosen
from tilekit._exact.steps import Place, Stage
from tilekit._exact.strips.halos import Halos, Piece, halos_of
from tilekit._exact.strips.partition import Grid, Partition, partition_of
from tilekit._exact.strips.parts import Shared, StripProgram, strip_program
from tilekit._exact.strips.replay import StripReplay
from tilekit._exact.trials import Trials
from tilekit._exact.ways import Slide, Tiles, slides
from tilekit.backends.canary import Sizes
from tilekit.backends.limits import Limits

__all__ = ["Plans", "forecast_part", "plans_of", "sizes_of"]


@dataclass(frozen=True)
class Plans:
    """What all ranks do together."""

    stages: tuple[Stage, ...]
    axis: int
    """The axis of the output along which blocks come."""
    program: Program
    halos: Halos

    def of(self, rank: int) -> StripProgram:
        """Give what one rank does."""
        return strip_program(self.program, self.halos, rank)

    def refuse_gathered(self, limits: Limits, *, stream: bool) -> None:
        """Refuse what the first rank would put together, where its device gets so large an array wrong."""
        whole = full(self.program.output.shape)
        largest = cells(whole)
        if stream:
            targets = [target for stage in self.stages for step in stage.steps for target in step.targets]
            rows = [box[self.axis] for node, box in targets if node == self.program.graph.output]
            largest = max(cells((*whole[: self.axis], row, *whole[self.axis + 1 :])) for row in rows)
        if largest > limits.elements:
            what, cure = ("a block", "leave gather out") if stream else ("the result", "stream it, or leave gather out")
            msg = (
                f"strips: {what} that the first rank gathers would have {largest} elements, of which its device gets "
                f"{int(limits.elements)} right; {cure}, so that every rank keeps its part"
            )
            raise PlanError(msg)


def plans_of(  # noqa: PLR0913
    graph: Graph,
    ranks: int,
    memory_bytes: int | None,
    scratch: Scratch,
    *,
    limits: Limits | None = None,
    spill: Place | None = None,
    grid: Grid | None = None,
    stream: bool = False,
    stages: tuple[Stage, ...] | None = None,
) -> Plans:
    """
    Choose how ranks evaluate a graph together.

    Parameters
    ----------
    graph : Graph
        The function.
    ranks : int
        How many.
    memory_bytes : int, optional
        What live arrays may take at the peak on each rank.
    scratch : callable
        What kernels take for themselves.
    limits : Limits, optional
        What the device gets right.
    spill : {"host", "disk"}, optional
        Where arrays between stages may lie if the devices are too small for them.
    grid : (int, int), optional
        Rows and columns of ranks.
    stream : bool
        The output is handed out in blocks, in order.
    stages : tuple of Stage, optional
        What is made when, instead of a choice.

    Returns
    -------
    Plans
        The same on all ranks: all of it is integers.

    Raises
    ------
    PlanError
        If no plan meets the budget, or the latents have too few cells for the ranks.
    """
    partition = partition_of(graph, ranks, grid)
    axes = [row[graph.output] for row, count in zip(partition.labels, partition.counts, strict=True) if count > 1]
    ways = [_along(way, axes) for way in slides(graph, stream=stream) if way.along not in axes and not way.rests]
    if stages is not None:
        axis = min((way.axis for way in ways), default=0)
    else:
        choice = chosen(_Trials(graph, scratch, ways, partition, stream=stream, limits=limits), memory_bytes, spill)
        stages, axis = choice.stages, choice.axis
    if stream and axis in axes:
        msg = f"strips: a stream hands out blocks along axis {axis}, which is cut; give grid=(1, {ranks}), or call"
        raise PlanError(msg)
    program = program_of(graph, stages)
    return Plans(stages, axis, program, halos_of(partition, stages, program.folding.nodes))


def _along(way: Slide, axes: list[int | None]) -> Slide:
    """Let no stage go along an axis that is cut: ranks would work in turn."""
    found = {axis: row for axis, row in way.labels.items() if axis not in axes}
    return Slide(way.graph, way.along, way.axis, found)


class _Trials(Trials):
    """Dry runs of the rank that has most."""

    usual = (4, 8)
    """Fewer than on one device: every step sends messages, and a rank holds but its part."""

    def __init__(  # noqa: PLR0913
        self,
        graph: Graph,
        scratch: Scratch,
        ways: list[Slide],
        partition: Partition,
        *,
        stream: bool,
        limits: Limits | None,
    ) -> None:
        self._partition = partition
        super().__init__(graph, scratch, ways, stream=stream, limits=limits)

    def count(self, program: Program, axis: int) -> Forecast:
        """Count for the largest part; a stream hands its output out along an axis."""
        stages = tuple(stage.stage for stage in program.stages)
        halos = halos_of(self._partition, stages, program.folding.nodes)
        rank = max(range(self._partition.size), key=lambda rank: _held(halos, rank))
        part = strip_program(program, halos, rank)
        return forecast_part(part, self._scratch, axis=axis if self.stream else None, limits=self._limits)

    def leaner(self) -> Iterator[Trials]:
        """Give none: what parts hand on lies on all ranks."""
        yield from ()

    def tilings(self, each: int = 0) -> Iterator[Tiles]:
        """Give no tiles: the parts of the ranks are those."""
        del each
        yield from ()


def _held(halos: Halos, rank: int) -> int:
    nodes = halos.partition.graph.nodes
    return sum(cells(box) * nodes[index].itemsize for index, box in halos.held[rank].items())


def forecast_part(
    program: StripProgram, scratch: Scratch, *, axis: int | None = None, limits: Limits | None = None
) -> Forecast:
    """Count what one rank takes, without running; where a stream hands out its blocks, along `axis`."""
    shape = program.output.shape
    own = program.halos.own(program.rank, program.graph.output, full(shape))
    return forecast(program, scratch, axis=axis, limits=limits, replay=_replay, result=own)


def sizes_of(plans: Plans, rank: int, scratch: Scratch, limits: Limits, *, stream: bool) -> Sizes:
    """Give the largest arrays of the part of one rank, and its share of the work; nothing where nothing is limited."""
    if not limits.any:
        return Sizes()
    part, graph = plans.of(rank), plans.program.graph
    own = plans.halos.own(rank, graph.output, full(part.output.shape))
    share = 0.0 if own is None else cells(own) / cells(full(part.output.shape))
    counted = forecast_part(part, scratch, axis=plans.axis if stream else None, limits=limits)
    return counted.sizes(int(share * plain_work(graph)))


def _replay(program: Program, hands: Ghosts) -> StripReplay[Ghost]:
    assert isinstance(program, StripProgram)  # `forecast_part` gives no other
    return StripReplay(program, hands, _GhostLink(hands))


class _GhostLink:
    """Counts what comes."""

    def __init__(self, hands: Ghosts) -> None:
        self._hands = hands

    def swap(self, node: Node, gives: Sequence[tuple[int, Box, Ghost]], takes: Sequence[Piece]) -> list[Ghost]:
        del gives
        return [self._hands.assemble(node, box, []) for _, box in takes]

    def share(self, node: Node, box: Box, part: Ghost | None, givers: Shared) -> list[Ghost]:
        del part
        return [self._hands.assemble(node, box, []) for _ in givers]
