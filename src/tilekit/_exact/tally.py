"""How close the arrays of a program come to what a device gets right. Integers alone."""

import math
from typing import Any

from tilekit._exact.boxes import Shape, cells, extent
from tilekit._exact.graph import Node
from tilekit._exact.kernels._convolve import matrix_cells, paddings
from tilekit._exact.kernels._jobs import Job
from tilekit._exact.ops import Attention, Conv
from tilekit.backends.limits import Limits

__all__ = ["Tally"]


class Tally:
    """
    The array of a dry run that passes a limit most, if any does.

    Parameters
    ----------
    limits : Limits
        Of the device.

    Attributes
    ----------
    over : float
        How large the worst array is over its limit; above 1 the device would get it wrong.
    what : str
        Which array that is.
    largest : dict of str to int
        The most elements of what each limit is about.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.over = 0.0
        self.what = ""
        self.largest = {"elements": 0, "convolution": 0, "unfolded": 0}

    def array(self, shape: Shape) -> None:
        """Look at an array that is put together of others."""
        self._note(math.prod(shape), "elements", "an array")

    def made(self, node: Node, job: Job[Any]) -> None:
        """Look at what an operation makes."""
        op, name = job.op, f"{node.name or f'operation {node.index}'} ({type(job.op).__name__})"
        made = cells(job.box)
        self._note(made, "elements", name)
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

    def _note(self, size: int, kind: str, what: str) -> None:
        most = getattr(self._limits, kind)
        self.largest[kind] = max(self.largest[kind], size)
        if size / most > self.over:
            self.over = size / most
            self.what = f"{what} with {size} elements, of which the device gets {int(most)} right"
