"""Strips of a size that the caller chooses, in the place of a budget."""

from tilekit._exact.graph import Graph
from tilekit._exact.kernels import Kernels
from tilekit._exact.program import program_of
from tilekit._exact.steps import Place
from tilekit._exact.trials import Choice, Trials
from tilekit._exact.ways import slides
from tilekit.backends.limits import Limits

__all__ = ["sized"]

SCATTERED = 1.25
"""How much more memory a way may take for strips that lie in a row, which take less time."""


def sized(
    graph: Graph, pieces: int, kernels: Kernels, *, place: Place = "device", limits: Limits | None = None
) -> Choice:
    """
    Choose how a graph is evaluated with strips of one size, so that nothing is made twice.

    Parameters
    ----------
    graph : Graph
        The function.
    pieces : int
        Strips of the largest array; with 1 it runs whole.
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
    held = [trials.whole]
    for way in ways:
        stages = way.stages(way.frontiers.lasting, -(-trials.largest // pieces), place)
        held.append(trials.counted(program_of(graph, stages), way.axis, scattered=way.scattered))
    return min(held, key=lambda choice: choice.peak_bytes * (SCATTERED if choice.scattered else 1))
