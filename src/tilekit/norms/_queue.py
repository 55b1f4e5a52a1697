"""A network as a list of tasks, run in pieces with the statistics of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np

from tilekit._errors import PlanError
from tilekit._exact.graph_function import GraphFunction
from tilekit._exact.tasks import Task, check_tasks
from tilekit._progress import Progress
from tilekit.backends import Array
from tilekit.norms._modes import Modes
from tilekit.norms._plans import NormMode, Offload, QueuePlan
from tilekit.norms._sizes import TileSizes

__all__ = ["TaskQueue"]

DTYPES = {2: "float16", 4: "float32", 8: "float64"}


class TaskQueue:
    """
    A network as a sequence of tasks, run in pieces of which none is larger than a tile.

    The list becomes a graph of `tilekit.exact`: between two norms the array is made in strips that slide, so that no
    cell is made twice. At every norm all strips wait: their statistics are merged, each cell counted once, and every
    strip is normalised with those of the whole array. So the result equals that of the plain call up to rounding,
    and one or two arrays of the finest stage are held instead of four.

    Parameters
    ----------
    tasks : sequence of Task
        `Apply`, `Norm`, `Store`, `Shortcut`, `Add` and `Attention`, in order.
    axes : tuple of int
        Positions of the axes that may be cut.
    names : tuple of str
        Their names, used in error messages.
    channel_axis : int
        Position of the channels.

    Raises
    ------
    PlanError
        If a residual connection is not closed, or names and axes differ in number.

    Examples
    --------
    >>> import numpy as np
    >>> from tilekit.norms import Apply, Norm, TaskQueue
    >>> queue = TaskQueue([Norm("norm", 1, None, None, 1e-6), Apply("relu", lambda x: np.maximum(x, 0))], axes=(2, 3))
    >>> x = np.random.default_rng(0).normal(size=(1, 2, 64, 64)).astype(np.float32)
    >>> bool(np.allclose(queue.run(x, tile=16), queue.run(x, tile=None), atol=1e-6))
    True
    >>> queue.plan(x.shape, tile=16).tiles
    16
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        axes: Sequence[int] = (2, 3),
        names: Sequence[str] = ("height", "width"),
        channel_axis: int = 1,
    ) -> None:
        check_tasks(tasks)
        self.tasks = tuple(tasks)
        self.axes = tuple(axes)
        self.names = tuple(names)
        self.channel_axis = channel_axis
        network = GraphFunction.from_tasks(self.tasks, axes=self.axes, channel_axis=channel_axis)
        self._modes = Modes(network, self.axes, self.names, channel_axis)

    def plan(  # noqa: PLR0913  # independent choices, by keyword
        self,
        shape: Sequence[int],
        *,
        tile: TileSizes | None,
        norm: NormMode = "exact",
        offload: Offload | None = None,
        itemsize: int = 4,
        colour_fix: bool = True,
    ) -> QueuePlan:
        """
        Plan `run` for an array of this shape, without computing anything.

        Parameters
        ----------
        shape : sequence of int
            Shape of the input, in the layout of the tasks.
        tile : int, sequence of int or None, or None
            Largest tile along each axis, in cells where the network is finest (pixels of an image); None for an axis
            that is not cut.
        norm : {"exact", "fast", "tile"}
            See `run`.
        offload : {"host", "disk"} or None
            See `run`.
        itemsize : {2, 4, 8}
            Bytes of one value.
        colour_fix : bool
            See `run`.

        Returns
        -------
        QueuePlan
            Printable.

        Raises
        ------
        PlanError
            If a size is not positive, groups do not divide channels, or residual connections do not fit.
        TileShapeError
            If the input is too small.
        """
        return self._modes.plan(_example(shape, itemsize), tile, norm, offload, colour_fix=colour_fix)

    def fit(  # noqa: PLR0913  # independent choices, by keyword
        self,
        shape: Sequence[int],
        *,
        memory_bytes: int,
        norm: NormMode = "exact",
        offload: Offload | None = None,
        itemsize: int = 4,
        step: int = 64,
        most_elements: float = inf,
        most_work: float = inf,
    ) -> int | None:
        """
        Find the largest square tile whose expected peak memory fits a budget; larger tiles take fewer calls.

        Parameters
        ----------
        shape : sequence of int
            Shape of the input.
        memory_bytes : int
            Budget for arrays; see `QueuePlan.peak_bytes` for what it leaves out.
        norm, offload, itemsize
            As in `plan`.
        step : int
            The sizes tried are multiples of it.
        most_elements : float
            Most elements of an array, where a device gets larger ones wrong: see `tilekit.backends.limits`.
        most_work : float
            Most multiply-adds of a layer's call, where a driver ends longer ones: the same.

        Returns
        -------
        int or None
            Side of the tile in cells; None if the array fits whole.

        Raises
        ------
        PlanError
            If no size fits; the text gives the smallest budget that does.
        """
        example = _example(shape, itemsize)
        return self._modes.fit(
            example, memory_bytes, norm, offload, step=step, most_elements=most_elements, most_work=most_work
        )

    def run(  # noqa: PLR0913  # independent choices, by keyword
        self,
        x: Array,
        *,
        tile: TileSizes | None,
        norm: NormMode = "exact",
        offload: Offload | None = None,
        progress: Progress = None,
        colour_fix: bool = True,
    ) -> Array:
        """
        Run the network.

        Parameters
        ----------
        x : array
            The input, in the layout of the tasks.
        tile : int, sequence of int or None, or None
            The most cells of a tile along each axis where the network is finest; None for an axis that is not cut. Only
            how many cells that is counts for the first two of `norm`: they go in strips.
        norm : {"exact", "fast", "tile"}
            Which statistics a norm uses: those of the whole array; on large arrays an estimate of them, from a copy of
            the input that is subsampled to the size of a tile and keeps its distribution, so that no strip waits; or
            those of the tile itself, each with a quarter in common with the next, where they are blended.
        offload : {"host", "disk"} or None
            Where arrays are kept between norms: on the device (None), in host memory, or in temporary files.
        progress : bool, callable or None
            True shows a bar; a callable gets (done, total), where each strip counts once between two norms. Raise an
            error in it to cancel.
        colour_fix : bool
            With ``norm="fast"``: keep the norms behind the first downsampling exact. Without it an encoder shifts
            colours.

        Returns
        -------
        array
            The result, of the library, device and dtype of `x`.

        Raises
        ------
        PlanError
            See `plan`.
        InputError
            If NaN or infinity occurs; the text names the task and the cells.
        BackendError
            If a task changes dtype, device or library.
        TileShapeError
            If a task returns another shape than its reach says.
        """
        return self._modes.run(x, tile, norm, offload, progress, colour_fix=colour_fix)


def _example(shape: Sequence[int], itemsize: int) -> Array:
    """Make an array of a shape; its cells are not written, so that it takes no memory."""
    if itemsize not in DTYPES:
        msg = f"itemsize: got {itemsize!r}, expected 2, 4 or 8 bytes"
        raise PlanError(msg)
    return np.empty(tuple(int(n) for n in shape), DTYPES[itemsize])
