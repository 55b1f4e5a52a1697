"""What becomes of boxes of the output: one array, or blocks of rows in order."""

from collections.abc import Iterator

from tilekit._errors import PlanError
from tilekit._exact.boxes import Box, Interval, cells, extent, full, within
from tilekit._exact.graph import Node
from tilekit._exact.kernels import Kernels
from tilekit.backends import Array

__all__ = ["Blocks", "Collect", "own_block"]


class Collect:
    """
    Put the output together; it is allocated when its first box is there.

    Parameters
    ----------
    node : Node
        The output.
    kernels : Kernels
        For its arrays.
    """

    def __init__(self, node: Node, kernels: Kernels) -> None:
        self._node = node
        self._kernels = kernels
        self._whole: Array | None = None
        self._missing = cells(full(node.shape))

    def __call__(self, box: Box, value: Array) -> None:
        """Take a box."""
        whole = full(self._node.shape)
        self._missing -= cells(box)
        if box == whole:
            self._whole = self._kernels.handed(value)
            return
        if self._whole is None:
            self._whole = self._kernels.empty(self._node.shape, self._node.dtype)
        self._whole = self._kernels.write(self._whole, within(whole, box), value)

    @property
    def result(self) -> Array:
        """The output; PlanError where the plan left cells of it out, which would be whatever was in memory."""
        if self._whole is None or self._missing > 0:
            raise _incomplete(self._missing, self._node)
        return self._whole


class Blocks:
    """
    Put boxes of the output together to blocks of rows, in order.

    Parameters
    ----------
    node : Node
        The output.
    axis : int
        Whose rows.
    kernels : Kernels
        For its arrays.
    lent : bool
        Whether boxes may lie in memory that is still read.
    """

    def __init__(self, node: Node, axis: int, kernels: Kernels, *, lent: bool) -> None:
        self._node = node
        self._axis = axis
        self._kernels = kernels
        self._lent = lent
        self._open: dict[Interval, tuple[Array, int]] = {}
        self._at = 0

    def __call__(self, box: Box, value: Array) -> None:
        """Take a box."""
        rows = box[self._axis]
        held = (*full(self._node.shape)[: self._axis], rows, *full(self._node.shape)[self._axis + 1 :])
        if box == held:
            self._open[rows] = own_block(value, self._kernels, lent=self._lent), 0
            return
        block, missing = self._open.get(rows) or (self._kernels.empty(extent(held), self._node.dtype), cells(held))
        self._open[rows] = (self._kernels.write(block, within(held, box), value), missing - cells(box))

    def ready(self) -> Iterator[tuple[int, Array]]:
        """Give the blocks that are complete and whose turn it is."""
        while True:
            rows = next(
                (rows for rows, (_, missing) in self._open.items() if rows[0] == self._at and not missing), None
            )
            if rows is None:
                return
            block, _ = self._open.pop(rows)
            self._at = rows[1]
            yield rows[0], block

    def finish(self) -> None:
        """Raise PlanError where the plan left rows out."""
        missing = self._node.shape[self._axis] - self._at
        if missing > 0:
            raise _incomplete(missing * cells(full(self._node.shape)) // self._node.shape[self._axis], self._node)


def own_block(value: Array, kernels: Kernels, *, lent: bool) -> Array:
    """Give a block that the caller may write to."""
    return kernels.handed(value) if kernels.owns(value) and not lent else kernels.copy(value)


def _incomplete(missing: int, node: Node) -> PlanError:
    msg = (
        f"the plan leaves out {missing} of the {cells(full(node.shape))} numbers of the result; it was not made by "
        "`plan` for this function, or `plan` is at fault: leave `plan=` out, or call the function plainly"
    )
    return PlanError(msg)
