"""The plan that a user sees: frozen integers, as a table, as JSON, as a picture."""

import json
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from tilekit._errors import PlanError
from tilekit._exact.boxes import Box, Shape, cells, full
from tilekit._exact.graph import Graph
from tilekit._exact.handed import FACTORS, handed
from tilekit._exact.ops import Whole
from tilekit._exact.program import Program
from tilekit._exact.steps import Kept, Stage, Step
from tilekit._exact.trials import Choice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ExactPlan", "StageRow", "checked_plan", "plan_of"]

MIB = 1 << 20
WIDEST = 37
"""Letters of the name of a stage in a table of 80."""


@dataclass(frozen=True, slots=True)
class StageRow:
    """
    What one stage costs.

    Parameters
    ----------
    name : str
        What it is for.
    steps : int
        How many there are.
    tiles : int
        Tracks with windows of their own.
    work : float
        Multiply-adds, over those of a plain call of the whole function.
    peak_bytes : int
        Of live arrays.
    kept_bytes : int
        What it stores for later stages.
    """

    name: str
    steps: int
    tiles: int
    work: float
    peak_bytes: int
    kept_bytes: int


@dataclass(frozen=True, slots=True, repr=False)
class ExactPlan:
    """
    How a function is evaluated, made of integers before anything is computed.

    Made by `tilekit.exact(...).plan`. ``print(plan)`` shows a table: a line for each stage (a pass through the function
    up to some point) with its steps, its tiles across, its work, its peak and what it keeps for later stages.

    Parameters
    ----------
    shape, out_shape : tuple of int
        Of the input and of the output.
    dtype : str
        Of the input.
    axis : int
        The axis of the output that slides, and that a stream hands out block by block.
    stages : tuple of Stage
        What is made when.
    rows : tuple of StageRow
        What each stage costs.
    peak_bytes : int
        Forecast of the bytes of live arrays at the peak: the result included for a call, one block of it for a stream;
        without the input and the weights.
    step_peaks : tuple of int
        The same for each step, in bytes.
    work : float
        Multiply-adds over those of a plain call; 1 if nothing is made twice, less where cells are never needed.
    plain_bytes : int
        Bytes of live arrays at the peak of a plain call: counted while the function of PyTorch was followed, with what
        its names keep; else a forecast of what its operations need.
    notes : tuple of str
        What was not understood and what that costs, and what else is worth knowing.
    fingerprint : str
        Of the graph that the plan is for.
    stream : bool
        Whether the plan is for a stream.
    anew : bool
        Whether each step makes for itself what depends on weights alone, such as weights made from others.
    handed : int
        How much of what one part of the output hands on to the next (the last frames of a chunk) is made again from
        something smaller: 0 for nothing, 5 for the most. The stages name operations of a graph with more of them then.
    itself : bool
        Whether the function is called as it is, because nothing else takes less. The stages name this one operation.

    Examples
    --------
    >>> import torch, tilekit
    >>> plan = tilekit.exact(torch.nn.Conv2d(4, 8, 3, padding=1), memory_bytes=2**20).plan((1, 4, 64, 64))
    >>> plan
    <ExactPlan (1, 4, 64, 64) -> (1, 8, 64, 64): 1 step, 0.1 of 0.1 MiB, work 1.00>
    >>> plan.peak_bytes <= 2**20 and tilekit.ExactPlan.from_json(plan.to_json()) == plan
    True
    """

    shape: Shape
    out_shape: Shape
    dtype: str
    axis: int
    stages: tuple[Stage, ...]
    rows: tuple[StageRow, ...]
    peak_bytes: int
    step_peaks: tuple[int, ...]
    work: float
    plain_bytes: int
    notes: tuple[str, ...]
    fingerprint: str
    stream: bool = False
    anew: bool = False
    handed: int = 0
    itself: bool = False

    def to_json(self) -> str:
        """Write the plan as one line of JSON; `ExactPlan.from_json` reads it."""
        value = {name: getattr(self, name) for name in _PLAIN}
        value["stages"] = [_stage_to_json(stage) for stage in self.stages]
        value["rows"] = [[getattr(row, name) for name in StageRow.__slots__] for row in self.rows]
        return json.dumps({"tilekit_exact_plan": 1, **value})

    @classmethod
    def from_json(cls, text: str) -> "ExactPlan":
        """
        Read what `to_json` wrote.

        Parameters
        ----------
        text : str
            One plan.

        Returns
        -------
        ExactPlan
            Equal to the one that was written.

        Raises
        ------
        PlanError
            If the text is none.
        """
        try:
            value = json.loads(text)
            if value.pop("tilekit_exact_plan") != 1:
                msg = "expected version 1 of a plan of tilekit.exact"
                raise PlanError(msg)
            value["stages"] = tuple(_stage_from_json(stage) for stage in value["stages"])
            value["rows"] = tuple(StageRow(*row) for row in value["rows"])
            fields: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in value.items()}
            return cls(**fields)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, PlanError):
                raise
            msg = f"this is no plan that ExactPlan.to_json wrote: {error}"
            raise PlanError(msg) from error

    def plot(self) -> "Figure":
        """
        Draw the bytes of live arrays over the steps, stage by stage, beside those of a plain call.

        Returns
        -------
        matplotlib.figure.Figure
            The picture.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            msg = 'ExactPlan.plot needs matplotlib: pip install "tilekit-vae[plot]"'
            raise ImportError(msg) from error
        figure = Figure(figsize=(10, 4), layout="constrained")
        ax = figure.add_subplot()
        ax.step(range(len(self.step_peaks)), [n / MIB for n in self.step_peaks], where="mid", label="this plan")
        ax.axhline(self.plain_bytes / MIB, color="black", linestyle=":", label="plain call")
        at = 0
        for row in self.rows[:-1]:
            at += row.steps
            ax.axvline(at - 0.5, color="lightgray", linewidth=0.8)
        ax.set_xlabel("step")
        ax.set_ylabel("live arrays, MiB")
        ax.set_ylim(bottom=0)
        ax.legend()
        ax.set_title(f"{self.shape} to {self.out_shape}: {len(self.step_peaks)} steps, work {self.work:.2f}")
        return figure

    def __repr__(self) -> str:
        """Give one line; `print` gives the table, and `to_json` all there is."""
        sizes = f"{self.peak_bytes / MIB:.1f} of {self.plain_bytes / MIB:.1f} MiB"
        steps = f"{len(self.step_peaks)} step{'s' * (len(self.step_peaks) != 1)}"
        return f"<ExactPlan {self.shape} -> {self.out_shape}: {steps}, {sizes}, work {self.work:.2f}>"

    def __str__(self) -> str:
        """Give the table."""
        head = f"{self.shape} {self.dtype} -> {self.out_shape}, axis {self.axis} slides"
        names = [_short(row.name) or f"stage {i}" for i, row in enumerate(self.rows, 1)]
        width = max(5, *(len(name) for name in names))
        lines = [head, f"{'stage':<{width}}  steps  tiles   work  peak MiB  kept MiB"]
        for name, row in zip(names, self.rows, strict=True):
            sizes = f"{row.peak_bytes / MIB:8.1f}  {row.kept_bytes / MIB:8.1f}"
            lines.append(f"{name:<{width}}  {row.steps:5d}  {row.tiles:5d}  {row.work:5.2f}  {sizes}")
        total = f"{self.peak_bytes / MIB:8.1f}"
        lines.append(f"{'all':<{width}}  {len(self.step_peaks):5d}         {self.work:5.2f}  {total}")
        share = self.peak_bytes / self.plain_bytes if self.plain_bytes else 1.0
        lines.append(f"a plain call takes {self.plain_bytes / MIB:.1f} MiB; this plan {share:.0%} of that")
        return "\n".join([*lines, *self.notes])

    def _repr_html_(self) -> str:
        """Show the same in a notebook."""
        return f"<pre>{escape(str(self))}</pre>"


_PLAIN = tuple(name for name in ExactPlan.__slots__ if name not in {"stages", "rows"})


def plan_of(graph: Graph, choice: Choice, *, stream: bool = False, notes: tuple[str, ...] = ()) -> ExactPlan:
    """
    Write down what was chosen.

    Parameters
    ----------
    graph : Graph
        The function.
    choice : Choice
        How it is evaluated; scheduled and counted.
    stream : bool
        Whether blocks are handed out.
    notes : tuple of str
        What the front end has to say.

    Returns
    -------
    ExactPlan
        For the user.
    """
    source, output = graph.nodes[graph.input], graph.nodes[graph.output]
    return ExactPlan(
        source.shape,
        output.shape,
        source.dtype,
        choice.axis,
        choice.stages,
        _rows(choice.program, choice.counted.step_peaks),
        choice.peak_bytes,
        choice.counted.step_peaks,
        round(choice.work, 4),
        choice.plain_bytes,
        (_AS_IT_IS, *notes) if choice.itself else (*_not_understood(graph), *notes),
        graph.fingerprint,
        stream,
        choice.program.anew,
        choice.level,
        choice.itself,
    )


def _short(name: str) -> str:
    """Leave out the beginning of a layer's path where a line of the table would be wider than a terminal."""
    kind, space, path = name.rpartition(" ")
    while len(kind) + len(space) + len(path) > WIDEST and "." in path.lstrip("."):
        path = f"..{path.lstrip('.').partition('.')[2]}"
    return f"{kind}{space}{path}"


_AS_IT_IS = "the function is called as it is: no plan without a budget would take less"


def _rows(program: Program, peaks: tuple[int, ...]) -> tuple[StageRow, ...]:
    rows, at = [], 0
    for plan, work in zip(program.stages, program.stage_work, strict=True):
        count = len(plan.steps)
        kept = sum(program.graph.nodes[k.node].nbytes for k in plan.stage.keep)
        tiles = len({step.track for step in plan.steps})
        rows.append(StageRow(plan.stage.name, count, tiles, round(work, 4), max(peaks[at : at + count]), kept))
        at += count
    return tuple(rows)


def _not_understood(graph: Graph) -> tuple[str, ...]:
    """Name the operations that run whole, and the memory that this takes at least."""
    whole = [node for node in graph.nodes if isinstance(node.op, Whole) and graph.live[node.index]]
    lines = []
    for label in dict.fromkeys(node.op.label for node in whole if isinstance(node.op, Whole)):
        nodes = [node for node in whole if isinstance(node.op, Whole) and node.op.label == label]
        most = max(node.nbytes + sum(graph.nodes[i].nbytes for i in node.inputs) for node in nodes)
        where = f", first in {nodes[0].name}" if nodes[0].name else ""
        lines.append(f"not understood, so it runs whole: {label}, {len(nodes)}x{where}; {most / MIB:.1f} MiB at once")
    return tuple(lines)


def _stage_to_json(stage: Stage) -> dict[str, Any]:
    return {
        "steps": [[list(step.targets), step.track, list(step.ahead)] for step in stage.steps],
        "stored": sorted(stage.stored),
        "statistics": stage.statistics,
        "keep": [[kept.node, kept.axis, kept.place] for kept in stage.keep],
        "name": stage.name,
        "again": stage.again,
    }


def _boxes_from_json(rows: Any) -> tuple[tuple[int, Box], ...]:
    return tuple((node, tuple((a, b) for a, b in box)) for node, box in rows)


def _stage_from_json(value: dict[str, Any]) -> Stage:
    steps = tuple(
        Step(_boxes_from_json(targets), track, *map(_boxes_from_json, ahead))
        for targets, track, *ahead in value["steps"]
    )
    keep = tuple(Kept(*row) for row in value["keep"])
    return Stage(
        steps, frozenset(value["stored"]), tuple(value["statistics"]), keep, value["name"], value.get("again", False)
    )


def checked_plan(plan: object, graph: Graph, made: Graph | None = None, *, itself: Graph | None = None) -> Graph:
    """
    Refuse a plan that is for another function or another input, or leaves out some of the result.

    Parameters
    ----------
    plan : ExactPlan
        The plan.
    graph : Graph
        The function.
    made : Graph, optional
        The graph that the stages are for, where it is known.
    itself : Graph, optional
        One operation that calls the function as it is, where a plan may ask for that.

    Returns
    -------
    Graph
        The graph that the stages are for: the function, or one that gives the same and hands less on.

    Raises
    ------
    PlanError
        If it is.
    """
    if not isinstance(plan, ExactPlan):
        msg = f"plan: got {type(plan).__name__}, expected what `plan` gives; ExactPlan.from_json reads the text of one"
        raise PlanError(msg)
    source = graph.nodes[graph.input]
    if plan.fingerprint != graph.fingerprint:
        msg = (
            f"the plan is for an input of shape {plan.shape} of {plan.dtype} and another function or another version "
            f"of it; this input has shape {source.shape} of {source.dtype}; make the plan anew"
        )
        raise PlanError(msg)
    if plan.handed not in range(len(FACTORS) + 1):
        msg = f"plan.handed: got {plan.handed}, expected 0 to {len(FACTORS)}; make the plan anew"
        raise PlanError(msg)
    if made is None and plan.itself:
        if itself is None:
            msg = "the plan calls the function as it is, which is not done here; make the plan anew, with memory_bytes"
            raise PlanError(msg)
        made = itself
    graph = handed(graph, plan.handed) if made is None else made
    rows = (row for stage in plan.stages for step in stage.steps for row in step.targets)
    done, whole = sum(cells(box) for node, box in rows if node == graph.output), cells(full(plan.out_shape))
    if done != whole:
        msg = f"the plan makes {done} cells of a result of {whole}, each of which must be made once; make the plan anew"
        raise PlanError(msg)
    return graph
