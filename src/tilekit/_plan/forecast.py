"""How many bytes a run holds at once: the same bookkeeping as the run itself, without arrays."""

from dataclasses import dataclass
from math import prod

from tilekit._plan.boxes import Ledger, boxes
from tilekit._plan.layout import Layout
from tilekit._plan.schedule import schedule

__all__ = ["Costs"]

BLEND_ITEMSIZE = 4  # float32


@dataclass(frozen=True, slots=True)
class Costs:
    """What the memory of a run depends on beside its layout, as for `Plan.peak_bytes` and `Tiling.fit`."""

    channels: int
    itemsize: int
    tile_batch_size: int
    streaming: bool
    decoder_bytes_per_cell: int = 0

    def engine_bytes(self, layout: Layout) -> int:
        """Walk through the calls: the largest sum of output, waiting strips and the results of one call."""
        numbers = _batch(layout) * (1 if layout.geometry.channel is None else self.channels)
        if len(layout.tiles) == 1:  # its result is handed on as it is
            return numbers * self.itemsize * prod(layout.out_sizes)
        ledger, strips, emitted, peak = Ledger(), dict[tuple[int, ...], int](), 0, 0
        across = prod(layout.out_sizes[1:])
        for call in schedule(layout, self.tile_batch_size, by_slab=self.streaming):
            end = layout.block_end(emitted) if self.streaming else layout.out_sizes[0]
            results = sum(prod(b - a for a, b in tile.dst) for tile in call.tiles)
            for tile in call.tiles:
                for box in boxes(layout, tile):
                    _, last = ledger.count(box)
                    inside = box.dst[0][1] <= end and self.itemsize >= BLEND_ITEMSIZE
                    if last or inside:
                        strips.pop(box.key, None)
                    else:
                        strips[box.key] = prod(b - a for a, b in box.dst) * BLEND_ITEMSIZE
            held = ((end - emitted) * across + results) * self.itemsize + sum(strips.values())
            peak = max(peak, held)
            if self.streaming:
                emitted = max(emitted, call.final)
        return numbers * peak

    def decoder_bytes(self, layout: Layout) -> int:
        """Working memory of the decoder in the largest call."""
        largest = max(prod(b - a for a, b in tile.dst) for tile in layout.tiles)
        together = min(self.tile_batch_size, len(layout.tiles))
        return self.decoder_bytes_per_cell * largest * _batch(layout) * together


def _batch(layout: Layout) -> int:
    batch = layout.geometry.batch
    return 1 if batch is None else layout.shape[batch]
