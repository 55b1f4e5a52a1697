"""Arrays that a device would get wrong, refused before they exist; see `tilekit.backends.limits`."""

from math import inf, prod

from tilekit._errors import PlanError
from tilekit._plan.plan import Plan
from tilekit.backends import Array, canary
from tilekit.backends.limits import limits_of, said_of

__all__ = ["Sizes"]


class Sizes:
    """
    The largest arrays of one run.

    Parameters
    ----------
    plan : Plan
        What is run.
    streaming : bool
        Whether blocks are handed out, so that the result is never there as a whole.
    """

    def __init__(self, plan: Plan, *, streaming: bool) -> None:
        self._plan = plan
        self._streaming = streaming
        batch, channel = plan.geometry.batch, plan.geometry.channel
        self._batch = 1 if batch is None else plan.shape[batch]
        self._channels = 1 if channel is None else plan.shape[channel]

    def tiles_together(self, wanted: int, x: Array) -> int:
        """Give how many tiles may share a call: as many as are wanted, if their arrays are not too large together."""
        most = limits_of(x).elements
        if most == inf:
            canary.check(x)
            return wanted
        largest = self._batch * max(self._plan.largest_input * self._channels, self._plan.largest_output)
        self._refuse_tiles(largest, x, most)
        self._refuse_result(self._batch, x, most)
        work = canary.WORK_PER_NUMBER * self._batch * prod(self._plan.out_sizes)
        canary.check(x, canary.Sizes(elements=largest, work=work))
        return max(1, min(wanted, int(most) // largest))

    def check_result(self, channels: int | None, tiles: int, result: Array) -> None:
        """Refuse a result whose tiles, or which itself, are too large, once its channels are known."""
        most = limits_of(result).elements
        if most == inf:
            return
        numbers = self._batch * (channels or 1)
        largest = self._plan.largest_output * numbers
        self._refuse_tiles(largest, result, most)
        if largest * tiles > most:
            msg = (
                f"{tiles} tiles have {largest * tiles} elements together, {said_of(result, most)}; "
                f"give tile_batch_size={int(most) // largest}"
            )
            raise PlanError(msg)
        self._refuse_result(numbers, result, most)

    def _refuse_result(self, numbers: int, x: Array, most: float) -> None:
        """Refuse a result, or a block of it, of so many numbers for each cell; the only tile is the result itself."""
        cells = self._plan.largest_block if self._streaming else prod(self._plan.out_sizes)
        if self._plan.n_tiles > 1 and cells * numbers > most:
            what = "a block of the stream" if self._streaming else "the result"
            cure = "cut the first axis into shorter tiles" if self._streaming else "stream it (stream_tiled)"
            msg = (
                f"{what} would have {cells * numbers} elements, {said_of(x, most)}; {cure}, or let the function "
                "give its tiles on the processor"
            )
            raise PlanError(msg)

    def _refuse_tiles(self, largest: int, x: Array, most: float) -> None:
        if largest > most:
            msg = (
                f"a tile would have {largest} elements, {said_of(x, most)}; make tiles smaller (Tiling.fit with "
                f"most_elements={int(most)} finds a size)"
            )
            raise PlanError(msg)
