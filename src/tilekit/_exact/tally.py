"""How close the arrays and operations of a program come to what a device gets right. Integers alone."""

import math
from typing import Any

from tilekit._exact.boxes import Shape, cells, extent
from tilekit._exact.graph import Node
from tilekit._exact.kernels._convolve import goes_by_frames, matrix_cells, paddings
from tilekit._exact.kernels._jobs import Job
from tilekit._exact.ops import Attention, Conv, Local
from tilekit.backends.limits import Limits

__all__ = ["Tally"]


class Tally:
    """
    The array or operation of a dry run that passes a limit most, if any does.

    Parameters
    ----------
    limits : Limits
        Of the device.

    Attributes
    ----------
    over : float
        How large the worst of them is over its limit; above 1 the device would get it wrong.
    what : str
        Which one that is.
    largest : dict of str to int
        The most elements, or multiply-adds, of what each limit is about.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.over = 0.0
        self.what = ""
        self.largest = {"elements": 0, "convolution": 0, "unfolded": 0, "work": 0}

    def array(self, shape: Shape) -> None:
        """Look at an array that is put together of others."""
        self._note(math.prod(shape), "elements", "an array")

    def made(self, node: Node, job: Job[Any]) -> None:
        """Look at what an operation makes."""
        op, name = job.op, f"{node.name or f'operation {node.index}'} ({type(job.op).__name__})"
        made = cells(job.box)
        self._note(made, "elements", name)
        self._note(self._work(job), "work", name)
        if isinstance(op, Conv) and job.boxes[0] is not None:
            self._convolution(op, job, name)
        if isinstance(op, Attention) and job.boxes[0] is not None and job.boxes[1] is not None:
            queries, keys = extent(job.boxes[0]), extent(job.boxes[1])
            self._note(math.prod(queries[:-1]) * keys[-2], "elements", f"the scores of {name}")

    def _convolution(self, op: Conv, job: Job[Conv], name: str) -> None:
        made = cells(job.box)
        self._note(made, "convolution", f"the output of {name}")
        given = job.boxes[0]
        assert given is not None  # asked only where something is read
        around = dict(zip(op.axes, paddings(job), strict=True))
        padded = [n + sum(around.get(axis, (0, 0))) for axis, n in enumerate(extent(given))]
        self._note(math.prod(padded), "elements", f"the padded input of {name}")
        self._note(matrix_cells(job, self._limits), "unfolded", f"the unfolded input of {name}")

    def _work(self, job: Job[Any]) -> int:
        """Count the multiply-adds of one call."""
        op = job.op
        if isinstance(op, Conv):
            return self._convolved(job)
        per_cell: int = op.work(job.shape, job.shapes)
        return _made(job) * per_cell

    def _convolved(self, job: Job[Conv]) -> int:
        """Count those of a convolution, the zeros of a stretched input too; where frames are added up, of one tap."""
        op, given = job.op, job.boxes[0]
        if given is None:
            return 0
        sums = op.channels * cells(job.box)
        if op.transposed:  # what is made too much is cut off
            sums = max(sums, job.extent[op.channel_axis] // op.groups * cells(given))
        taps = op.kernel[1:] if goes_by_frames(op, self._limits) else op.kernel
        return sums * math.prod(taps)

    def _note(self, size: int, kind: str, what: str) -> None:
        most = getattr(self._limits, kind)
        self.largest[kind] = max(self.largest[kind], size)
        if size / most > self.over:
            self.over = size / most
            self.what = f"{what} with {size} {_SAID[kind].format(int(most))}"


_SAID = dict.fromkeys(("elements", "convolution", "unfolded"), "elements, of which the device gets {} right")
_SAID["work"] = "multiply-adds, of which the device finishes {} before its driver ends them"


def _made(job: Job[Any]) -> int:
    """Count the cells that a call makes; a layer that pads on its own makes some that are cut off."""
    given = job.boxes[0] if job.boxes else None
    if not isinstance(job.op, Local) or given is None:
        return cells(job.box)
    sizes = list(job.extent)
    for axis in job.op.axes:
        sizes[axis] = max(sizes[axis], -(-extent(given)[axis] * job.shape[axis] // job.shapes[0][axis]))
    return math.prod(sizes)
