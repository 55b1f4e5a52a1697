"""
All stages scheduled, with what outlives a stage: constants that are folded, and stored nodes whose rows go.

Integers alone. `replay` carries a program out, with arrays or with byte counts.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from tilekit._exact.alike import Alike
from tilekit._exact.boxes import cells, full
from tilekit._exact.folding import Folding, Going, folding_of
from tilekit._exact.graph import Graph, Node
from tilekit._exact.schedule import StepSchedule, schedule
from tilekit._exact.steps import Kept, Stage

__all__ = ["Program", "StagePlan", "program_of"]

Released = tuple[int, int | None]
"""A stored node, and the row below which nothing is read any more; None: it goes."""


@dataclass(frozen=True, slots=True)
class StagePlan:
    """A stage, its steps, and what goes after each of them."""

    stage: Stage
    steps: tuple[StepSchedule, ...]
    releases: tuple[tuple[Released, ...], ...]
    """For each step."""
    ends: tuple[int, ...]
    """The numbers of the steps that are the last of their track."""
    statistics: tuple[tuple[int, int], ...]
    """Pairs of a node that is emitted and a statistic that is put together from it."""
    going: tuple[Going, ...] = ()
    """For each step, when folded nodes go."""

    @property
    def made(self) -> dict[int, int]:
        """Cells made of each node."""
        total: dict[int, int] = {}
        for step in self.steps:
            for make in step.makes:
                total[make.node] = total.get(make.node, 0) + cells(make.box)
        return total


@dataclass(frozen=True, slots=True)
class Program:
    """A graph and the stages that make its output."""

    graph: Graph
    folding: Folding
    """How nodes are made that depend on constants alone."""
    stages: tuple[StagePlan, ...]
    anew: bool
    """Whether each step makes such nodes for itself; else they are made once, and stay as long as they are read."""

    @property
    def output(self) -> Node:
        """The node that is handed out."""
        return self.graph.nodes[self.graph.output]

    @property
    def n_steps(self) -> int:
        """Steps of all stages."""
        return sum(len(stage.steps) for stage in self.stages)

    @property
    def made(self) -> dict[int, int]:
        """Cells made of each node."""
        total: dict[int, int] = {}
        for stage in self.stages:
            for node, count in stage.made.items():
                total[node] = total.get(node, 0) + count
        return total

    @property
    def stage_work(self) -> tuple[float, ...]:
        """Multiply-adds of each stage over those of a plain call of all."""
        graph = self.graph
        costs = [node.op.work(node.shape, shapes) for node, shapes in zip(graph.nodes, graph.input_shapes, strict=True)]
        plain = graph.spent  # a graph that hands less on makes more than a plain call
        if plain is None:
            plain = sum(costs[node.index] * cells(full(node.shape)) for node in graph.nodes if graph.live[node.index])
        done = (
            sum(costs[index] * count for index, count in stage.made.items() if graph.live[index])
            for stage in self.stages
        )
        return tuple(count / plain if plain else 1 / len(self.stages) for count in done)

    @property
    def work(self) -> float:
        """Multiply-adds over those of a plain call."""
        return sum(self.stage_work)

    @property
    def operations(self) -> int:
        """Calls in all steps; those that make folded nodes count where that is done again and again."""
        made = sum(len(step.makes) for stage in self.stages for step in stage.steps)
        recipes = self.folding.recipes
        gone = (node for stage in self.stages for going in stage.going for _, nodes in going for node in nodes)
        return made + (sum(len(recipes[node]) for node in gone) if self.anew else 0)

    def renewed(self) -> "Program":
        """Give the program whose steps make folded nodes for themselves, one at a time."""
        rows = zip(self.stages, self.folding.going([stage.steps for stage in self.stages], anew=True), strict=True)
        return replace(self, stages=tuple(replace(stage, going=going) for stage, going in rows), anew=True)


def program_of(graph: Graph, stages: Sequence[Stage], *, anew: bool = False, alike: Alike | None = None) -> Program:
    """
    Schedule all stages.

    Parameters
    ----------
    graph : Graph
        The function.
    stages : sequence of Stage
        In order; what one keeps, later ones may read.
    anew : bool
        Each step makes for itself what depends on constants alone.
    alike : Alike, optional
        What is known of nodes that are alike.

    Returns
    -------
    Program
        What `replay` carries out.
    """
    folding = folding_of(graph)
    there = {graph.input, *(node.index for node in graph.constants), *folding.nodes}
    stages, scheduled = _scheduled(graph, stages, there, alike)
    kept = {keep.node: keep for stage in stages for keep in stage.keep}
    kept |= {node: Kept(node, 0) for stage in stages for node in stage.statistics}
    last_stage = {
        node: number
        for number, steps in enumerate(scheduled)
        for step in steps
        for node, _ in step.reads
        if node in kept
    }
    plans = []
    rows = zip(stages, scheduled, folding.going(scheduled, anew=anew), strict=True)
    for number, (stage, steps, going) in enumerate(rows):
        dying = {node: kept[node] for node, last in last_stage.items() if last == number}
        releases = _releases(steps, dying)
        plans.append(StagePlan(stage, steps, releases, _last_steps(steps), _statistics(graph, stage), going))
    return Program(graph, folding, tuple(plans), anew)


def _scheduled(
    graph: Graph, stages: Sequence[Stage], there: set[int], alike: Alike | None
) -> tuple[tuple[Stage, ...], list[tuple[StepSchedule, ...]]]:
    """Give the stages with what later ones read alone, and their steps."""
    read: set[int] = set()
    held: list[Stage] = []
    scheduled: list[tuple[StepSchedule, ...]] = []
    for stage in reversed(stages):
        wanted = lasting(graph, stage, read)
        if wanted.steps:
            steps = schedule(graph, wanted, there | wanted.stored, alike)
            read.update(node for step in steps for node, _ in step.reads)
            held.append(wanted)
            scheduled.append(steps)
    return tuple(held[::-1]), scheduled[::-1]


def lasting(graph: Graph, stage: Stage, read: Collection[int]) -> Stage:
    """
    Leave out of a stage what it would keep, or take a statistic of, for no stage.

    What to keep is chosen by nodes, and later stages may read none of the boxes that it is kept for.
    """
    idle = {kept.node for kept in stage.keep if kept.node not in read}
    statistics = tuple(node for node in stage.statistics if node in read)
    if not idle and len(statistics) == len(stage.statistics):
        return stage
    ends = {graph.output, *(graph.nodes[node].inputs[0] for node in statistics)}
    ends |= {kept.node for kept in stage.keep if kept.node in read}
    rows = (replace(step, targets=tuple(row for row in step.targets if row[0] in ends)) for step in stage.steps)
    keep = tuple(kept for kept in stage.keep if kept.node in read)
    steps = tuple(step for step in rows if step.targets or step.ahead)
    steps = steps if any(step.targets for step in steps) else ()
    return replace(stage, steps=steps, statistics=statistics, keep=keep)


def _statistics(graph: Graph, stage: Stage) -> tuple[tuple[int, int], ...]:
    return tuple((graph.nodes[node].inputs[0], node) for node in stage.statistics)


def _last_steps(steps: Sequence[StepSchedule]) -> tuple[int, ...]:
    """Give the numbers of the steps that are the last of their track."""
    return tuple(sorted({step.track: number for number, step in enumerate(steps)}.values()))


def _releases(steps: Sequence[StepSchedule], dying: dict[int, Kept]) -> tuple[tuple[Released, ...], ...]:
    """Say for each step which rows of stored nodes nothing reads after it."""
    later: dict[int, int] = {}
    out: list[tuple[Released, ...]] = []
    for step in reversed(steps):
        rows = []
        for node, box in step.reads:
            if node in dying:
                rows.append((node, later.get(node)))
                first = box[dying[node].axis][0] if box else 0
                later[node] = min(later.get(node, first), first)
        out.append(tuple(rows))
    return tuple(reversed(out))
