"""How many bytes a run holds at once: the same bookkeeping as the run itself, without arrays."""

import math
from dataclasses import dataclass
from math import prod

from tilekit._plan.boxes import Box, Ledger, boxes
from tilekit._plan.layout import Layout
from tilekit._plan.schedule import schedule

__all__ = ["BLEND_ITEMSIZE", "Costs"]

BLEND_ITEMSIZE = 4  # float32


@dataclass(frozen=True, slots=True)
class Costs:
    """What the memory of a run depends on beside its layout, as for `Plan.peak_bytes` and `Tiling.fit`."""

    channels: int
    itemsize: int
    tile_batch_size: int
    streaming: bool
    decoder_bytes_per_cell: int = 0
    in_flight: int = 1
    decoder_elements_per_cell: int = 0
    decoder_work_per_cell: int = 0

    def engine_bytes(self, layout: Layout, *, at_most: float = math.inf) -> int:
        """Walk through the calls for the largest sum of output, waiting strips and results; stop above `at_most`."""
        numbers = _batch(layout) * (1 if layout.geometry.channel is None else self.channels)
        if layout.n_tiles == 1:  # its result is handed on as it is
            return numbers * self.itemsize * prod(layout.out_sizes)
        ledger, strips, emitted, peak = Ledger(), _Strips(), 0, 0
        across = prod(layout.out_sizes[1:])
        calls = list(schedule(layout, self.tile_batch_size, by_slab=self.streaming))
        sizes = [sum(prod(b - a for a, b in tile.dst) for tile in call.tiles) for call in calls]
        for i, call in enumerate(calls):
            end = layout.block_end(emitted) if self.streaming else layout.out_sizes[0]
            results = sum(sizes[i : i + self.in_flight])
            for tile in call.tiles:
                for box in boxes(layout, tile):
                    _, last = ledger.count(box)
                    inside = box.dst[0][1] <= end and self.itemsize >= BLEND_ITEMSIZE
                    strips.drop(box) if last or inside else strips.keep(box)
            peak = max(peak, ((end - emitted) * across + results) * self.itemsize + strips.bytes)
            if numbers * peak > at_most:
                break
            if self.streaming:
                emitted = max(emitted, call.final)
        return numbers * peak

    def least_bytes(self, layout: Layout) -> int:
        """Bytes that any tiling needs: those of the output where it is not streamed."""
        numbers = _batch(layout) * (1 if layout.geometry.channel is None else self.channels)
        return 0 if self.streaming else numbers * self.itemsize * prod(layout.out_sizes)

    def largest_elements(self, cells: int, layout: Layout) -> int:
        """Elements of the largest array of a call whose tiles have so many output cells, those inside included."""
        numbers = 1 if layout.geometry.channel is None else self.channels
        return _batch(layout) * self.tile_batch_size * cells * max(numbers, self.decoder_elements_per_cell)

    def largest_work(self, cells: int, layout: Layout) -> int:
        """Multiply-adds of the heaviest operation of a call whose tiles have so many output cells."""
        return _batch(layout) * self.tile_batch_size * cells * self.decoder_work_per_cell

    def decoder_bytes(self, layout: Layout) -> int:
        """Working memory of the decoder in the largest call."""
        together = min(self.tile_batch_size, layout.n_tiles)
        return self.decoder_bytes_per_cell * layout.largest_output * _batch(layout) * together


class _Strips:
    """Which strips wait for a neighbour, and what they take."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, ...], int] = {}
        self.bytes = 0

    def keep(self, box: Box) -> None:
        """Hold the strip of a box."""
        self.drop(box)
        self._held[box.key] = prod(b - a for a, b in box.dst) * BLEND_ITEMSIZE
        self.bytes += self._held[box.key]

    def drop(self, box: Box) -> None:
        """Let go of the strip of a box, if there is one."""
        self.bytes -= self._held.pop(box.key, 0)


def _batch(layout: Layout) -> int:
    batch = layout.geometry.batch
    return 1 if batch is None else layout.shape[batch]
