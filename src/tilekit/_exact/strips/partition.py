"""
Which rank owns which cells of each node: contiguous parts along the axes that are cut. Integers alone.

The borders are chosen on the output and followed back through the graph with the box rules, so that a border of the
input of a convolution lies in the middle of what its two sides read, and views and pads keep it where it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

from tilekit._errors import PlanError
from tilekit._exact.boxes import Box
from tilekit._exact.graph import Graph, Node
from tilekit._exact.labels import Labels, across, candidates, carried, labels
from tilekit._exact.ops import Moments

__all__ = ["Grid", "Partition", "cut_axes", "divided", "grid_of", "partition_of"]

Ends = tuple[int, ...]
Grid = tuple[int, int]
"""Rows and columns of ranks."""


@dataclass(frozen=True)
class Partition:
    """The parts of every node."""

    graph: Graph
    counts: tuple[int, ...]
    """Parts along each axis that is cut; a rank's place in this grid is row by row."""
    labels: tuple[Labels, ...]
    """For each axis that is cut, the axis of each node that goes along with it."""
    ends: tuple[Mapping[int, Ends], ...]
    """For each axis that is cut, the borders of each node that has a label."""

    @property
    def size(self) -> int:
        """Ranks."""
        return len(self.places)

    @property
    def places(self) -> tuple[tuple[int, ...], ...]:
        """The place of each rank in the grid."""
        return tuple(product(*(range(count) for count in self.counts)))

    def cut(self, index: int) -> bool:
        """Whether a node is cut along any axis; others are made by each rank as far as it needs them."""
        return any(index in ends for ends in self.ends)

    def own(self, rank: int, index: int) -> Box | None:
        """Give the part of a node that belongs to a rank; None where it is empty."""
        box = [(0, n) for n in self.graph.nodes[index].shape]
        for place, ends, found in zip(self.places[rank], self.ends, self.labels, strict=True):
            if index in ends:
                axis = found[index]
                assert axis is not None  # borders are along labels
                box[axis] = ends[index][place], ends[index][place + 1]
        return tuple(box) if all(start < stop for start, stop in box) else None


def cut_axes(graph: Graph, grid: Grid | None = None) -> tuple[int, ...]:
    """
    Give the axes of the output that may be cut, at most two: rows and columns.

    The first axis along which the function slides is left to the stream where there is another, unless a grid asks for
    rows and there are but two.
    """
    axes = sorted(candidates(graph))[-3:]
    if len(axes) < 2 or (len(axes) == 2 and grid is not None and grid[0] > 1):
        return tuple(axes)
    return tuple(axes[1:])


def grid_of(ranks: int, cells: Sequence[int], grid: Grid | None = None) -> tuple[int, ...]:
    """
    Arrange ranks over the axes that are cut: as square as can be.

    Parameters
    ----------
    ranks : int
        How many.
    cells : sequence of int
        Cells of the coarsest array along each axis that is cut (latents), at most two.
    grid : (int, int), optional
        Rows and columns, instead of a choice.

    Returns
    -------
    tuple of int
        Parts along each axis.

    Raises
    ------
    PlanError
        If there are fewer cells than parts, or the grid is for another number of ranks.
    """
    if grid is not None:
        return _checked_grid(ranks, cells, grid)
    if not cells:
        msg = "strips: no axis of this function can be cut; call it on one rank"
        raise PlanError(msg)
    rows = [(n, ranks // n) for n in range(1, ranks + 1) if ranks % n == 0] if len(cells) == 2 else [(ranks,)]
    fitting = [row for row in rows if all(n <= most for n, most in zip(row, cells, strict=True))]
    if not fitting:
        msg = (
            f"strips: {ranks} ranks, but the latents have {' x '.join(map(str, cells))} cells along the axes that are "
            "cut, and each rank needs at least one; use fewer ranks"
        )
        raise PlanError(msg)
    return min(fitting, key=lambda row: (_border(row, cells), _largest(row, cells)))


def _checked_grid(ranks: int, cells: Sequence[int], grid: Grid) -> tuple[int, ...]:
    if min(grid) < 1 or grid[0] * grid[1] != ranks:
        msg = f"strips: got grid={grid} for {ranks} ranks; give (rows, columns) whose product is {ranks}"
        raise PlanError(msg)
    held = grid[2 - len(cells) :]
    if any(n > 1 for n in grid[: 2 - len(cells)]):
        msg = f"strips: got grid={grid}, but this function has one axis to cut; give (1, {ranks})"
        raise PlanError(msg)
    if any(n > most for n, most in zip(held, cells, strict=True)):
        sizes = " x ".join(map(str, cells))
        msg = f"strips: got grid={grid}, but the latents have {sizes} cells there, and each rank needs at least one"
        raise PlanError(msg)
    return held


def _border(row: Sequence[int], cells: Sequence[int]) -> int:
    """Count the cells along all borders."""
    whole = 1
    for most in cells:
        whole *= most
    return sum((n - 1) * whole // most for n, most in zip(row, cells, strict=True))


def _largest(row: Sequence[int], cells: Sequence[int]) -> int:
    """Count the cells of the largest part."""
    held = 1
    for n, most in zip(row, cells, strict=True):
        held *= -(-most // n)
    return held


def partition_of(graph: Graph, ranks: int, grid: Grid | None = None) -> Partition:
    """
    Cut every node of a graph into the parts of the ranks.

    Parameters
    ----------
    graph : Graph
        The function.
    ranks : int
        How many.
    grid : (int, int), optional
        Rows and columns.

    Returns
    -------
    Partition
        The parts.

    Raises
    ------
    PlanError
        If a rank would get less than one latent.
    """
    axes = cut_axes(graph, grid)
    return divided(graph, axes, grid_of(ranks, [_coarse(graph, axis) for axis in axes], grid))


def divided(graph: Graph, axes: Sequence[int], counts: Sequence[int]) -> Partition:
    """Cut axes of the output in so many parts each, between latents, and every other node with it."""
    found = [_apart(graph, labels(graph, axis)) for axis in axes]
    for index in range(len(graph.nodes)):
        _once(found, index)
    shape = graph.nodes[graph.output].shape
    ends: list[Mapping[int, Ends]] = []
    for axis, row, count in zip(axes, found, counts, strict=True):
        n = max(count, _coarse(graph, axis)) if count <= shape[axis] else 1
        points = tuple(k * n // count * shape[axis] // n for k in range(count + 1))
        ends.append(dict(_borders(graph, row, points)) if count > 1 else {})
    return Partition(graph, tuple(counts), tuple(tuple(row) for row in found), tuple(ends))


def _apart(graph: Graph, found: Labels) -> list[int | None]:
    """Leave out what has no place: statistics, and what does not depend on the input."""
    none = (isinstance(node.op, Moments) or not graph.live[node.index] for node in graph.nodes)
    return [None if out else axis for out, axis in zip(none, found, strict=True)]


def _once(found: Sequence[list[int | None]], index: int) -> None:
    """Let one axis of a node go along with one axis that is cut only."""
    seen: set[int | None] = set()
    for row in found:
        if row[index] in seen:
            row[index] = None
        seen.add(row[index])


def _coarse(graph: Graph, axis: int) -> int:
    """Count the cells of the latents along an axis: those of the input or the output, whichever has fewer."""
    n, along = graph.nodes[graph.output].shape[axis], labels(graph, axis)[graph.input]
    held = n if along is None else graph.nodes[graph.input].shape[along]
    return min(held, n) if held > 1 else n


def _borders(graph: Graph, found: Sequence[int | None], points: Ends) -> Iterator[tuple[int, Ends]]:
    """Follow borders of the output back; what nothing reads along the axis takes them in proportion."""
    votes: dict[int, dict[Ends, int]] = {graph.output: {points: 1}}
    whole = points[-1]
    for node in reversed(graph.nodes):
        axis = found[node.index]
        if axis is None:
            continue
        n = node.shape[axis]
        held = votes.pop(node.index, None) or {tuple(point * n // whole for point in points): 1}
        ends = max(held, key=lambda row: (held[row], row))
        yield node.index, ends
        for index, row in _read(graph, node, axis, found, ends):
            tally = votes.setdefault(index, {})
            tally[row] = tally.get(row, 0) + graph.sizes[node.index]


def _read(graph: Graph, node: Node, axis: int, found: Sequence[int | None], ends: Ends) -> Iterator[tuple[int, Ends]]:
    """Give the borders of what a node reads along its axis."""
    n = node.shape[axis]
    sides = [
        (across(graph, node, axis, (0, p)), across(graph, node, axis, (p, n))) if 0 < p < n else None for p in ends
    ]
    for k, (index, along) in enumerate(zip(node.inputs, carried(graph, node, axis), strict=True)):
        label = found[index]
        if label is None or along != label:
            continue
        m = graph.nodes[index].shape[label]
        row = [_between(p, n, m, side and (side[0][k], side[1][k]), label) for p, side in zip(ends, sides, strict=True)]
        if all(a <= b for a, b in pairwise(row)):
            yield index, tuple(row)


def _between(p: int, n: int, m: int, sides: tuple[Box | None, Box | None] | None, axis: int) -> int:
    """Give the border of an input of `m` cells for a border `p` of `n`: the middle of what both sides read."""
    if sides is None:
        return 0 if p <= 0 else m
    before, after = sides
    if before is None or after is None:
        return 0 if before is None else m
    total = after[axis][0] + before[axis][1]
    # between two cells: the one that is nearer in proportion
    low = total // 2
    return low if total % 2 == 0 or 2 * (p * m - low * n) <= n else low + 1
