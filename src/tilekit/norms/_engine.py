"""The exact engine with pieces of a size that the user chooses, and with statistics that are estimated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from tilekit._errors import PlanError, TraceError
from tilekit._exact.api import Exact
from tilekit._exact.evaluate import evaluated
from tilekit._exact.forecast import forecast
from tilekit._exact.frontends import Traced
from tilekit._exact.graph import Graph, Node
from tilekit._exact.kernels import Kernels, kernels_of
from tilekit._exact.labels import Labels, labels
from tilekit._exact.ops import Constant, Moments
from tilekit._exact.program import program_of
from tilekit._exact.run import run
from tilekit._exact.sized import sized
from tilekit._exact.stages import plain
from tilekit._exact.trace import trace
from tilekit._exact.trials import WRONG, Choice
from tilekit._progress import Progress, progress_of
from tilekit.backends import Array
from tilekit.backends.limits import limits_of
from tilekit.norms._estimate import subsample
from tilekit.norms._plans import Offload
from tilekit.norms._sizes import pieces_of, tile_along

__all__ = ["Estimated", "Sized", "plain_bytes"]

MORE = 14
"""
Cells, where a network is coarsest, by which the sample that statistics are estimated from is larger than a tile.

The decoder of Stable Diffusion sees seven to each side; a sample without them has more of the borders, where padding
changes statistics, than the whole.
"""


@dataclass(frozen=True, slots=True)
class Cut:
    """How arrays are cut."""

    axes: tuple[int, ...]
    """That may be cut, of the input and of the output alike."""
    sizes: tuple[int | None, ...]
    """The most cells of a tile along each, where the function is finest."""
    channel_axis: int
    colour_fix: bool = True


def too_large(worst: str) -> str:
    """Say what to do about an array or a call that a device gets wrong."""
    kind = "most_work" if "multiply-adds" in worst else "most_elements"
    return f"tile: {worst}; take a smaller tile: fit(..., {kind}=...) finds one"


class Sized(Exact):
    """
    An exact function whose pieces have a given size.

    Parameters
    ----------
    function : callable
        As `tilekit.exact` takes it.
    cut : Cut
        The size.
    offload : {"host", "disk"} or None
        Where arrays lie that are read again after a norm.
    """

    def __init__(self, function: Any, cut: Cut, offload: Offload | None) -> None:
        super().__init__(function, offload=offload)
        self.cut = cut

    def made(self, x: Array, progress: Progress) -> Array:
        """Evaluate the function."""
        call = self._call(x, None, stream=False)
        with progress_of(progress, call.program.n_steps, "norms") as told:
            return run(call, told)

    def _choose(self, traced: Traced, kernels: Kernels, x: Array, *, stream: bool) -> Choice:
        del stream
        graph = traced.graph
        choice = sized(graph, self._pieces(graph), kernels, place=self.offload or "device", limits=limits_of(x))
        if choice.peak_bytes >= WRONG:
            raise PlanError(too_large(choice.worst))
        return choice

    def _pieces(self, graph: Graph) -> int:
        return pieces_of(_finest(graph, self.cut.axes), self.cut.sizes)


class Estimated(Sized):
    """
    A function whose statistics on large arrays are estimated from a subsampled copy of what they are made of.

    With `Cut.colour_fix` those behind the first downsampling are not.
    """

    def made(self, x: Array, progress: Progress) -> Array:
        """Evaluate the function with statistics that are estimated."""
        call = self._call(x, None, stream=False)
        found = self._estimates(x, call.program.graph)
        known = call.constants
        call = replace(call, constants=lambda key: found[key] if key in found else known(key))
        with progress_of(progress, call.program.n_steps, "norms") as told:
            return run(call, told)

    def estimate(self, x: Array) -> Traced | None:
        """Follow what the estimate runs on; None where nothing is estimated."""
        graph = self._plan(x, stream=False).traced.graph
        shape = self._small(x, graph)
        if not any(_is_estimate(node) for node in graph.constants):
            return None
        return trace(self.function, kernels_of(x).empty(shape, kernels_of(x).dtype_name(x)))

    def _follow(self, x: Array) -> Traced:
        traced = trace(self.function, x)
        if self._small(x, traced.graph) == tuple(x.shape):
            return traced  # a tile has it all
        nodes = list(traced.graph.nodes)
        for number, node in enumerate(_moments(traced.graph)):
            if number in _estimated(traced.graph, self.cut.colour_fix):
                key = ("estimate", number)
                nodes[node.index] = Node(node.index, Constant(key), (), node.shape, node.dtype, node.name)
        return replace(traced, graph=Graph(tuple(nodes), traced.graph.input, traced.graph.output))

    def _estimates(self, x: Array, graph: Graph) -> dict[Any, Array]:
        wanted = {node.op.key: node for node in graph.constants if _is_estimate(node)}  # type: ignore[attr-defined]
        if not wanted:
            return {}
        large = trace(self.function, x)
        start = Start.of(large.graph, [_moments(large.graph)[key[1]] for key in wanted], self.cut)
        small = subsample(x, self.cut.axes, self.cut.channel_axis, self._sizes(graph))
        traced = trace(self.function, small)
        if len(traced.graph.nodes) != len(large.graph.nodes):
            msg = f"{self.function}: takes other statistics of a small input; use norm='exact'"
            raise TraceError(msg)
        nodes = _moments(traced.graph)
        places = {key: nodes[key[1]].index for key in wanted}
        there = evaluated(large, x, start.places) if start.places else {}
        known = {index: start.small(index, array, traced.graph) for index, array in there.items()}
        held = evaluated(traced, small, set(places.values()), known)
        return {key: held[index] for key, index in places.items()}

    def _sizes(self, graph: Graph) -> list[int]:
        given, made = (graph.nodes[index].shape for index in (graph.input, graph.output))
        rows = zip(self.cut.axes, self.cut.sizes, strict=True)
        return [_subsampled(given[axis], made[axis], size) for axis, size in rows]

    def _small(self, x: Array, graph: Graph) -> tuple[int, ...]:
        sizes = dict(zip(self.cut.axes, self._sizes(graph), strict=True))
        return tuple(sizes.get(axis, int(n)) for axis, n in enumerate(x.shape))


@dataclass(frozen=True, slots=True)
class Start:
    """Where a network becomes finer than its coarsest part, which is cheap to make as it is."""

    places: tuple[int, ...]
    axes: tuple[Labels, ...]
    """For each axis that is cut, where it is in each node."""

    @classmethod
    def of(cls, graph: Graph, wanted: Sequence[Node], cut: Cut) -> Start:
        """Find the last coarse arrays before some statistics; none where the input is fine."""
        along = tuple(labels(graph, axis) for axis in cut.axes)
        needed = {index for node in wanted for index in node.inputs}
        for node in reversed(graph.nodes):
            if node.index in needed:
                needed.update(node.inputs)
        sides = [_length(graph.nodes[node.inputs[0]], along[0]) for node in _moments(graph)]
        coarse = min((n for n in sides if n), default=0)
        fine = {i for i in needed if graph.live[i] and _length(graph.nodes[i], along[0]) > coarse}
        read = {i for k in fine for i in graph.nodes[k].inputs if graph.live[i] and i not in fine}
        places = {i for i in read if not isinstance(graph.nodes[i].op, Moments)}
        whole = all(len(graph.nodes[i].shape) == len(cut.axes) + 2 for i in places)
        return cls(tuple(sorted(places)) if whole and graph.input not in fine else (), along)

    def small(self, index: int, array: Array, graph: Graph) -> Array:
        """Give a subsampled copy of one of these arrays, as large as a small graph has it."""
        axes = [axis for row in self.axes if (axis := row[index]) is not None]
        channel = next(axis for axis in range(1, array.ndim) if axis not in axes)
        return subsample(array, axes, channel, [graph.nodes[index].shape[axis] for axis in axes])


def _length(node: Node, along: Labels) -> int:
    axis = along[node.index]
    return 0 if axis is None else node.shape[axis]


def _subsampled(given: int, made: int, size: int | None) -> int:
    """Give the cells of an axis of the subsampled input: those of a tile, and some more."""
    more = MORE * given // max(1, min(given, made))
    return given if size is None else min(given, tile_along(given, max(given, made), size) + more)


def plain_bytes(traced: Traced, x: Array) -> int:
    """Forecast what a plain call takes."""
    return forecast(program_of(traced.graph, plain(traced.graph)), kernels_of(x).plain_scratch).peak_bytes


def _finest(graph: Graph, axes: Sequence[int]) -> list[int]:
    given, made = graph.nodes[graph.input].shape, graph.nodes[graph.output].shape
    return [max(given[axis], made[axis]) for axis in axes]


def _moments(graph: Graph) -> list[Node]:
    """List the statistics, in the order in which they are taken; those of a graph with estimates too."""
    return [node for node in graph.nodes if isinstance(node.op, Moments)]


def _is_estimate(node: Node) -> bool:
    key = getattr(node.op, "key", None)
    return isinstance(key, tuple) and key[:1] == ("estimate",)


def _estimated(graph: Graph, colour_fix: bool) -> set[int]:
    """Name the statistics of arrays larger than the smallest; with the fix, up to the first downsampling."""
    cells = []
    for node in _moments(graph):
        source, op = graph.nodes[node.inputs[0]], node.op
        assert isinstance(op, Moments)
        cells.append(prod(source.shape) // source.shape[op.channel_axis])
    least = min(cells, default=0) if len(set(cells)) > 1 else 0
    first = next((k for k in range(1, len(cells)) if cells[k] < cells[k - 1]), len(cells))
    return {k for k, n in enumerate(cells) if n > least and (not colour_fix or k < first)}
