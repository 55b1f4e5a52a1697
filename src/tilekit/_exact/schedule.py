"""
The schedule of one stage: what each step makes, what stays for later steps, and when an array goes. Integers alone.

Three passes over the steps of a track: one that pulls boxes from the targets back and finds what is missing; one
backwards, which knows what later steps want; one forwards again, which knows what is there. The first two are made
twice where some of what would stay can as well be made anew in each step.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from tilekit._exact.alike import Alike, note
from tilekit._exact.boxes import Box, contains, hull, meet
from tilekit._exact.fleeting import Seen, fleeting
from tilekit._exact.graph import Graph
from tilekit._exact.steps import Stage, Step

__all__ = ["Make", "Settled", "StepSchedule", "schedule"]

Settled = tuple[int, Box | None]
"""A node, and what of it stays; None: it goes."""


@dataclass(slots=True)  # not frozen: that would take twice as long to make, and there are as many as operations
class Make:
    """One box of one node."""

    node: int
    box: Box
    needs: tuple[Box | None, ...]
    window: Box
    """What is there afterwards: the box itself, or as much of it and of what was there as is wanted."""
    axis: int | None
    """Along which the box is put to what was there; None where it takes its place."""
    emit: Box | None
    """What of it is a target of the stage."""
    settled: tuple[Settled, ...]
    """The nodes that no later operation of this step reads."""


@dataclass(frozen=True, slots=True)
class StepSchedule:
    """One step."""

    track: int
    emits: tuple[tuple[int, Box], ...]
    """Targets that are there before anything is made: the input, stored nodes, and what earlier steps made."""
    settled: tuple[Settled, ...]
    """The nodes that are there, and that nothing in this step reads."""
    makes: tuple[Make, ...]
    reads: tuple[tuple[int, Box], ...]
    """The boxes that are read of nodes that are made outside of the stage."""


@dataclass(slots=True)
class _Visit:
    """A node that a step wants a box of."""

    node: int
    want: Box
    new: Box | None
    axis: int | None
    needs: tuple[Box | None, ...] = ()
    stay: Box | None = None


_Pulled = tuple[list[_Visit], dict[int, Box], dict[int, int]]
"""
What a step visits, users before what they read, the boxes that it reads of nodes outside, and for each node that is
read the last one that reads it.
"""


def schedule(
    graph: Graph,
    stage: Stage,
    outside: Collection[int],
    alike: Alike | None = None,
    start: Mapping[int, Box] | None = None,
) -> tuple[StepSchedule, ...]:
    """
    Plan the steps of a stage.

    Parameters
    ----------
    graph : Graph
        The function.
    stage : Stage
        What is to be made.
    outside : collection of int
        Nodes that are there: the input, constants, what is folded from them, and what earlier stages kept.
    alike : Alike, optional
        What is known of nodes that are alike.
    start : mapping of int to Box, optional
        What is there of each node before the first step of track 0.

    Returns
    -------
    tuple of StepSchedule
        One for each step of the stage, in order.
    """
    tracks: dict[int, list[Step]] = {}
    for step in stage.steps:
        tracks.setdefault(step.track, []).append(step)
    longest = max(tracks, key=lambda track: len(tracks[track]), default=0)
    pulled: dict[int, list[_Pulled]] = {}
    pulls = _Pulls(graph, outside, alike, start or {})
    if stage.again and tracks:
        pulled[longest] = _pulled(tracks[longest], pulls)
        anew = _made_anew(graph, tracks[longest], [visits for visits, *_ in pulled[longest]], outside)
        if anew:
            pulls = _Pulls(graph, outside, alike, start or {}, anew)
            del pulled[longest]
    rows = {track: iter(pulled.get(track) or _pulled(steps, pulls)) for track, steps in tracks.items()}
    windows: dict[int, dict[int, Box]] = {track: {} for track in tracks}
    windows[0] = dict(start or {})
    return tuple(_arrange(step, *next(rows[step.track]), windows[step.track]) for step in stage.steps)


def _pulled(steps: Sequence[Step], pulls: "_Pulls") -> list[_Pulled]:
    """Give the visits and reads of each step of a track, with what stays after them."""
    pulled = [pulls.step(step) for step in steps]
    _look_ahead([visits for visits, *_ in pulled])
    return pulled


def _made_anew(
    graph: Graph, steps: Sequence[Step], visits: list[list[_Visit]], outside: Collection[int]
) -> frozenset[int]:
    """Choose what each step of all tracks makes anew, by the longest: nothing that a step makes for some later ones."""
    first = next((number for number, step in enumerate(steps) if step.targets), 0)
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, step in enumerate(steps):
        kind = () if number < first or step.targets else tuple(index for index, _ in step.ahead)
        groups.setdefault(kind, []).append(number)
    numbers = [row[k] for row in groups.values() for k in sorted({len(row) * part // 4 for part in (1, 2, 3)} - {0})]
    ahead = {index for step in steps[first:] for index, _ in step.ahead}
    return fleeting(graph, _sampled(visits, sorted(numbers)), outside) - ahead


def _sampled(steps: list[list[_Visit]], numbers: Sequence[int]) -> list[Seen]:
    """Give what some steps of a track make, and what stays of it."""
    seen = []
    for number in numbers:
        left = ((visit.node, meet(visit.want, visit.stay)) for visit in steps[number] if visit.stay is not None)
        stays = {node: box for node, box in left if box is not None}
        seen.append(Seen({visit.node: (visit.want, visit.new) for visit in steps[number]}, stays))
    return seen


class _Pulls:
    """The first pass: what each step wants of each node, and what of that is not there."""

    def __init__(
        self,
        graph: Graph,
        outside: Collection[int],
        alike: Alike | None,
        start: Mapping[int, Box],
        anew: Collection[int] = frozenset(),
    ) -> None:
        self._alike = alike
        self._anew = anew
        self._nodes = graph.nodes
        self._shapes = graph.input_shapes
        self._outside = outside
        self._have: dict[int, dict[int, Box]] = {0: dict(start)}

    def step(self, step: Step) -> _Pulled:
        """Give the visits, users before what they read, what is read of nodes outside, and by which node at last."""
        have = self._have.setdefault(step.track, {})
        for index in self._anew:
            have.pop(index, None)
        want: dict[int, Box] = {}
        for index, box in (*step.targets, *step.ahead):
            want[index] = hull(want.get(index), box)
        visits: list[_Visit] = []
        reads: dict[int, Box] = {}
        last: dict[int, int] = {}
        nodes, outside = self._nodes, self._outside
        visited = self._visit if self._alike is None else self._known
        heap = [-index for index in want]
        heapify(heap)
        while heap:
            index = -heappop(heap)
            if index in outside:
                reads[index] = want[index]
                continue
            visit = visited(index, want[index], have)
            visits.append(visit)
            if visit.new is None:
                continue
            for source, need in zip(nodes[index].inputs, visit.needs, strict=True):
                if need is not None:
                    held = want.get(source)
                    if held is None:
                        heappush(heap, -source)
                    want[source] = need if held is None else hull(held, need)
                    if source not in last:
                        last[source] = index
        return visits, reads, last

    def _known(self, index: int, want: Box, have: dict[int, Box]) -> _Visit:
        """Visit a node, where a node like it was not asked the same before."""
        assert self._alike is not None
        key = (self._alike.kinds[index], want, have.get(index))
        known = self._alike.visits.get(key)
        if known is None:
            visit = self._visit(index, want, have)
            note(self._alike.visits, key, (visit.want, visit.new, visit.axis, visit.needs, have[index]))
            return visit
        grown, new, axis, needs, have[index] = known
        return _Visit(index, grown, new, axis, needs)

    def _visit(self, index: int, want: Box, have: dict[int, Box]) -> _Visit:
        node, shapes = self._nodes[index], self._shapes[index]
        grown = node.op.grow(want, node.shape, shapes)
        held = have.get(index)
        if held is not None and contains(held, grown):
            return _Visit(index, grown, None, None)
        new, axis = _missing(grown, held, lambda box: node.op.grow(box, node.shape, shapes))
        have[index] = new if axis is None else hull(held, new)
        return _Visit(index, grown, new, axis, node.op.need(new, node.shape, shapes))


def _missing(want: Box, held: Box | None, grow: Callable[[Box], Box]) -> tuple[Box, int | None]:
    """Give the box to make so that it and `held` cover `want`, and the axis along which they meet (None: all anew)."""
    if held is None:
        return want, None
    axes = [d for d, (w, h) in enumerate(zip(want, held, strict=True)) if not (h[0] <= w[0] and w[1] <= h[1])]
    if len(axes) > 1:
        return want, None
    axis = axes[0]
    (low, high), (first, last) = want[axis], held[axis]
    if first <= low <= last:
        part = (last, high)
    elif first <= high <= last:
        part = (low, first)
    else:
        return want, None
    new = grow((*held[:axis], part, *held[axis + 1 :]))
    joins = all(new[d] == held[d] for d in range(len(held)) if d != axis)
    return (new, axis) if joins else (want, None)


def _look_ahead(steps: list[list[_Visit]]) -> None:
    """Second pass: write down what later steps of the track want of what a step leaves."""
    later: dict[int, Box] = {}
    for visits in reversed(steps):
        for visit in visits:
            stay = visit.stay = later.get(visit.node)
            if visit.new is None or visit.axis is not None:
                later[visit.node] = visit.want if stay is None else hull(stay, visit.want)
            elif stay is not None:
                del later[visit.node]


def _arrange(
    step: Step, visits: list[_Visit], reads: dict[int, Box], last: dict[int, int], windows: dict[int, Box]
) -> StepSchedule:
    """Third pass: what is there after each operation, and which operation is the last to read a node."""
    visits = visits[::-1]  # in the order of the graph
    settled = _last_readers(visits, last)
    targets = dict(step.targets)
    first = _settle(windows, settled.pop(None, ()))
    makes = []
    for visit in visits:
        new = visit.new
        if new is None:
            continue
        node, axis, window = visit.node, visit.axis, new
        if axis is not None:
            window, axis = _joined(visit, new, axis, windows.get(node))
        windows[node] = window
        emit = targets.pop(node, None) if targets else None
        over = settled.get(node)
        makes.append(Make(node, new, visit.needs, window, axis, emit, _settle(windows, over) if over else ()))
    return StepSchedule(step.track, tuple(targets.items()), first, tuple(makes), tuple(reads.items()))


def _last_readers(visits: list[_Visit], last: dict[int, int]) -> dict[int | None, list[_Visit]]:
    """For each node that is made, the nodes that nothing after it reads; under None those that nothing reads at all."""
    settled: dict[int | None, list[_Visit]] = {}
    for visit in visits:
        reader = last.get(visit.node, None if visit.new is None else visit.node)
        if reader in settled:
            settled[reader].append(visit)
        else:
            settled[reader] = [visit]
    return settled


def _joined(visit: _Visit, new: Box, axis: int, held: Box | None) -> tuple[Box, int | None]:
    """Give what is there after a box was made, and the axis along which it is put to what was there."""
    if held is None:
        return new, None
    bound = visit.want if visit.stay is None else hull(visit.want, visit.stay)
    window = meet(bound, hull(held, new))
    if window is None or contains(new, window):
        return new, None
    return window, axis


def _settle(windows: dict[int, Box], visits: Sequence[_Visit]) -> tuple[Settled, ...]:
    """Cut what is there of some nodes to what later steps want."""
    settled = []
    for visit in visits:
        held = windows.pop(visit.node)
        left = None if visit.stay is None else meet(held, visit.stay)
        if left is not None:
            windows[visit.node] = left
        settled.append((visit.node, left))
    return tuple(settled)
