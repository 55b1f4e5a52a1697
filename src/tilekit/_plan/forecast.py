"""How many bytes a run holds at once: the same bookkeeping as the run itself, without arrays."""

from math import prod

from tilekit._plan.boxes import Ledger, boxes
from tilekit._plan.layout import Layout
from tilekit._plan.schedule import schedule

__all__ = ["peak_bytes"]

BLEND_ITEMSIZE = 4  # float32


def peak_bytes(layout: Layout, channels: int, itemsize: int, tile_batch_size: int, streaming: bool) -> int:
    """Walk through the calls of a layout and give the largest sum of output, waiting strips and results of a call."""
    batch = 1 if layout.geometry.batch is None else layout.shape[layout.geometry.batch]
    numbers = batch * (1 if layout.geometry.channel is None else channels)
    if len(layout.tiles) == 1:  # its result is handed on as it is
        return numbers * itemsize * prod(layout.out_sizes)
    ledger, strips, emitted, peak = Ledger(), dict[tuple[int, ...], int](), 0, 0
    across = prod(layout.out_sizes[1:])
    for step in schedule(layout, tile_batch_size, by_slab=streaming):
        end = layout.block_end(emitted) if streaming else layout.out_sizes[0]
        results = sum(prod(b - a for a, b in tile.dst) for tile in step.tiles)
        for tile in step.tiles:
            for box in boxes(layout, tile):
                _, last = ledger.enter(box)
                inside = box.dst[0][1] <= end and itemsize >= BLEND_ITEMSIZE
                if last or inside:
                    strips.pop(box.key, None)
                else:
                    strips[box.key] = prod(b - a for a, b in box.dst) * BLEND_ITEMSIZE
        held = ((end - emitted) * across + results) * itemsize + sum(strips.values())
        peak = max(peak, held)
        if streaming:
            emitted = max(emitted, step.final)
    return numbers * peak
