"""
What a stage is told to make, and the schedule that this gives: integers alone.

A stage makes boxes of a few nodes (its targets), step by step. What an earlier step has made is kept as far as a later
step needs it, so along an axis that slides nothing is made twice.
"""

from dataclasses import dataclass
from typing import Literal

from tilekit._exact.boxes import Box

__all__ = ["Kept", "Place", "Stage", "Step"]

Place = Literal["device", "host", "disk"]


@dataclass(frozen=True, slots=True)
class Step:
    """
    The boxes that one step makes.

    Steps of one track share sliding windows; another track (another tile) has windows of its own, which go with its
    last step. So tracks one after the other are tiles outside and time inside; tracks in turn are time outside.
    """

    targets: tuple[tuple[int, Box], ...]
    """Pairs of node and box. The boxes of a node in all steps of a stage do not overlap and fill it."""
    track: int = 0
    ahead: tuple[tuple[int, Box], ...] = ()
    """Pairs of node and box that are made for later steps, and given to nothing; only what is missing of them is."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A node whose boxes are stored for later stages, and where."""

    node: int
    axis: int
    """The axis along which its rows go, as soon as no later step reads them."""
    place: Place = "device"


@dataclass(frozen=True, slots=True)
class Stage:
    """
    Steps, what they may read from earlier stages, and what becomes of what they make.

    A box of the graph's output goes to the result; a box of a node in `keep` is stored; a box of a statistic's input is
    taken into the statistic. A box may do all of that. A stored node goes after the last step of all stages that
    reads it.
    """

    steps: tuple[Step, ...]
    stored: frozenset[int] = frozenset()
    """Nodes that earlier stages kept, statistics among them: read, not made again."""
    statistics: tuple[int, ...] = ()
    """`Moments` and `Reduce` nodes put together from the boxes of their input, which is a target; stored at the end."""
    keep: tuple[Kept, ...] = ()
    name: str = ""
    """What the stage is for, in the plan's table."""
    again: bool = False
    """Whether steps make cheap operations again where that takes less memory than to keep what they made."""
