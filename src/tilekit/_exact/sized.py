"""Strips of a size that the caller chooses, in the place of a budget."""

from tilekit._exact.graph import Graph
from tilekit._exact.kernels import Kernels
from tilekit._exact.program import program_of
from tilekit._exact.steps import Place
from tilekit._exact.trials import Choice, Trials
from tilekit._exact.ways import Slide, slides
from tilekit.backends.limits import Limits

__all__ = ["HALVED", "sized"]

HALVED = 0.8
"""The share of its memory that a plan must come down to for strips of half the size to be worth their calls."""
SCATTERED = 1.25
"""How much more memory a way may take for strips that lie in a row, which take less time."""


def sized(
    graph: Graph, pieces: int, kernels: Kernels, *, place: Place = "device", limits: Limits | None = None
) -> Choice:
    """
    Choose how a graph is evaluated with strips of one size at most, so that nothing is made twice.

    Where few strips would be a large part of what is held, they are cut once more.

    Parameters
    ----------
    graph : Graph
        The function.
    pieces : int
        Strips of the largest array, at least; with 1 it runs whole.
    kernels : Kernels
        Say what they take for themselves.
    place : {"device", "host", "disk"}
        Where arrays lie that later stages read.
    limits : Limits, optional
        What the device gets right; a choice that is over it has a peak of `trials.WRONG` bytes at least.

    Returns
    -------
    Choice
        Of all axes that may slide, the one that takes least.
    """
    ways = slides(graph)
    trials = Trials(graph, kernels.scratch, ways, stream=False, limits=limits, plain_scratch=kernels.plain_scratch)
    if pieces < 2:
        return trials.whole
    held = [(way, _cut(trials, way, pieces, place)) for way in ways]
    way, choice = min(held, key=lambda row: _weighed(row[1]), default=(None, trials.whole))
    if way is None or _weighed(choice) >= trials.whole.peak_bytes:
        return trials.whole
    halved = _cut(trials, way, 2 * pieces, place)
    return halved if halved.peak_bytes <= HALVED * choice.peak_bytes else choice


def _cut(trials: Trials, way: Slide, pieces: int, place: Place) -> Choice:
    stages = way.stages(way.frontiers.lasting, -(-trials.largest // pieces), place)
    return trials.counted(program_of(trials.graph, stages), way.axis, scattered=way.scattered)


def _weighed(choice: Choice) -> float:
    return choice.peak_bytes * (SCATTERED if choice.scattered else 1)
