"""Put the results of tiles together: cores are written, strips are added. The only module that adds arrays."""

from collections.abc import Sequence
from typing import Any

from tilekit._plan.boxes import Box, Ledger, boxes
from tilekit._plan.layout import Tile
from tilekit._plan.plan import Plan
from tilekit._plan.spans import Interval
from tilekit.backends import Array, Backend

__all__ = ["Canvas"]


class Canvas:
    """
    The output of one run, or the block of it that is being finished.

    A core is copied. A strip that several tiles share is summed in the output where that is allocated and of the dtype
    of the sums, else in an array of its own, which is dropped when the last of its tiles arrives.

    Parameters
    ----------
    plan : Plan
        What is run.
    backend : Backend
        Of the tiles.
    first : int
        The first output cell of the first axis that is wanted; what tiles give before it is dropped.
    """

    def __init__(self, plan: Plan, backend: Backend, first: int = 0) -> None:
        self._plan = plan
        self._first = first
        self._region = plan.geometry.region
        self._backend = backend
        self._ledger = Ledger()
        self._strips: dict[tuple[int, ...], Array] = {}
        self._spare: dict[tuple[int, ...], list[Array]] = {}
        self._weights: dict[tuple[int, ...], Array] = {}
        self._out: Array | None = None
        self._begin = self._end = 0

    def open(self, begin: int, end: int, like: Array) -> None:
        """Begin the block of output cells `begin` to `end` of the first axis, with channels and dtype as in `like`."""
        self._begin, self._end = begin, end
        sizes = [(begin, end), *((0, n) for n in self._plan.out_sizes[1:])]
        self._out = self._backend.empty(self._shape(sizes, like), like.dtype, like)

    @property
    def is_open(self) -> bool:
        """Whether there is a block to write into."""
        return self._out is not None

    def close(self) -> Array:
        """Return the block and keep only the strips that wait for a later one."""
        out, self._out = self._out, None
        return out

    def view(self, begin: int, end: int) -> Array:
        """Give the finished output cells `begin` to `end` of the first axis."""
        assert self._out is not None
        whole = [(begin - self._begin, end - self._begin), *((0, n) for n in self._plan.out_sizes[1:])]
        return self._out[self._region(whole)]

    def place(self, tile: Tile, part: Array) -> None:
        """Write or add the result of one tile."""
        for box in boxes(self._plan, tile):
            if box.dst[0][1] <= self._first:
                continue
            if box.sharers == 1:
                self._out = self._backend.put(self._out, self._region_of(box), part, self._region(box.src))
            else:
                self._add(box, part)

    def _add(self, box: Box, part: Array) -> None:
        first, last = self._ledger.count(box)
        blend, source = self._backend.blend, self._region(box.src)
        weight = self._weight(box, part)
        base = None if first else self._strips.pop(box.key, self._out)
        if last or (box.dst[0][1] <= self._end and self._out is not None and self._out.dtype == weight.dtype):
            out = self._out
            self._out = blend(out, self._region_of(box), part, source, weight, base)
            if base is not None and base is not out:
                self._spare.setdefault(tuple(base.shape), []).append(base)
            return
        strip = self._strip(box, part, weight.dtype) if base is None else base
        everything = (slice(None),) * self._plan.geometry.ndim
        self._strips[box.key] = blend(strip, everything, part, source, weight, base)

    def _strip(self, box: Box, like: Array, dtype: Any) -> Array:
        """Allocate a strip, if possible in the memory of a finished one: new memory costs more than the blending."""
        shape = self._shape(box.dst, like)
        spare = self._spare.get(tuple(shape))
        return spare.pop() if spare else self._backend.empty(shape, dtype, like)

    def _region_of(self, box: Box) -> tuple[slice, ...]:
        (start, stop), *others = box.dst
        return self._region([(start - self._begin, stop - self._begin), *others])

    def _shape(self, intervals: Sequence[Interval], like: Array) -> list[int]:
        shape = list(like.shape)
        for axis, (start, stop) in zip(self._plan.geometry.axes, intervals, strict=True):
            shape[axis.position] = stop - start
        return shape

    def _weight(self, box: Box, like: Array) -> Array:
        """Weights of a box, of size 1 along every axis where the tile contributes alone; kept for the next box."""
        same = tuple(map(id, box.weights))  # the plan keeps these tuples and shares them between equal overlaps
        if same not in self._weights:
            self._weights[same] = self._product(box, like)
        return self._weights[same]

    def _product(self, box: Box, like: Array) -> Array:
        product: Array | None = None
        for axis, values in zip(self._plan.geometry.axes, box.weights, strict=True):
            if values is not None:
                shape = [1] * self._plan.geometry.ndim
                shape[axis.position] = len(values)
                weight = self._backend.weights(values, shape, self._backend.blend_dtype(like), like)
                product = weight if product is None else product * weight
        return product
