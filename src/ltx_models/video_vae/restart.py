"""Where a stream may begin again: which blocks a decode gives, and from which latent on each of them is right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ltx_models.nn.stream import Flow, Stage, Unit
from ltx_models.video_vae.config import UnitSpec

REMEDY = "give a block's border of an earlier run with the same plan"


@dataclass(frozen=True, slots=True)
class DecodedBlock:
    """
    A block of a stream.

    Attributes
    ----------
    start, stop : int
        Its frames.
    chunk : int
        The chunk of latents with which it is finished.
    """

    start: int
    stop: int
    chunk: int


class _Cells:
    """What goes through a stream, of which only the number of cells is known."""

    def __init__(self, cells: int) -> None:
        self.shape = (1, cells)

    def __getitem__(self, key: tuple[slice, slice]) -> _Cells:
        return _Cells(len(range(*key[1].indices(self.shape[1]))))


class _Counting:
    """The framework of such arrays."""

    @staticmethod
    def followed(x: _Cells) -> bool:
        """Say that nothing may look at them."""
        return True

    @staticmethod
    def concat(parts: Sequence[_Cells]) -> _Cells:
        return _Cells(sum(part.shape[1] for part in parts))

    @staticmethod
    def synchronize(*arrays: _Cells) -> None:
        """Wait for nothing."""


def _passed(late: int, stride: int, x: _Cells, flow: Flow) -> _Cells:
    """Count what a step makes of a piece."""
    cells = x.shape[1] + late * (int(flow.last) - int(flow.first))
    return _Cells(cells * stride - (1 if flow.first and stride == 2 else 0))


def decoded_blocks(
    steps: Sequence[UnitSpec], *, time: int, latents: int, chunk: int, most: int | None, causal: bool
) -> Iterator[DecodedBlock]:
    """
    List the blocks of a streamed decode, by the stream itself on counts of cells.

    Parameters
    ----------
    steps : sequence of UnitSpec
        The decoder.
    time : int
        Frames of pixels to a latent.
    latents : int
        Latent frames of the clip.
    chunk : int
        Latent frames that go in at once.
    most : int or None
        Frames of pixels that go through a layer at once.
    causal : bool
        Whether convolutions look back only.

    Yields
    ------
    DecodedBlock
        In order.
    """
    nn: Any = _Counting()
    units = []
    for step in steps:
        late = 0 if causal else len(step.convolutions)
        units.append(Unit(partial(_passed, late, step.stride[0]), late, cap=step.cap(time, most)))
    stage, done = Stage(nn, units), 0
    for number, first in enumerate(range(0, latents, chunk)):
        cells: Any = _Cells(min(chunk, latents - first))
        for block, _ in stage.push(cells, last=first + chunk >= latents):
            if block.shape[1]:
                yield DecodedBlock(done, done + block.shape[1], number)
            done += block.shape[1]


def first_latent(steps: Sequence[UnitSpec], frame: int, *, causal: bool) -> int:
    """Give the first latent that a frame depends on; below 0 where it sees the beginning of the clip."""
    for step in reversed(steps):
        if step.stride[0] == 2:
            frame = -(-frame // 2)  # the first of two frames of the clip's first cell is left out
        frame -= (2 if causal else 1) * len(step.convolutions)
    return frame


def restart(
    steps: Sequence[UnitSpec], start: int, *, time: int, latents: int, chunk: int, most: int | None, causal: bool
) -> int:
    """
    Choose the latent from which a stream is run so that its blocks from a frame on are those of the whole stream.

    Parameters
    ----------
    steps, time, latents, chunk, most, causal
        As `decoded_blocks` takes them.
    start : int
        The first frame of a block.

    Returns
    -------
    int
        A latent at which a chunk begins. What the network sees is warmed up from there on, and every piece that goes
        through a layer for the wanted blocks is of the size that it has in the whole stream.

    Raises
    ------
    ValueError
        If no block begins at `start`.
    """
    law: dict[str, Any] = {"time": time, "chunk": chunk, "most": most, "causal": causal}
    whole = list(decoded_blocks(steps, latents=latents, **law))
    wanted = [block for block in whole if block.start >= start]
    if start not in {block.start for block in whole}:
        refuse_start(start, [block.start for block in whole] + [whole[-1].stop])
    least = min(first_latent(steps, start, causal=causal) // chunk, wanted[0].chunk)
    for skipped in range(least, 0, -1):
        begin = skipped * chunk
        rest = decoded_blocks(steps, latents=latents - begin, **law)
        moved = [DecodedBlock(b.start + begin * time, b.stop + begin * time, b.chunk + skipped) for b in rest]
        if [block for block in moved if block.stop > start] == wanted:
            return begin
    return 0


def refuse_start(start: Any, borders: Sequence[int]) -> None:
    """Say where blocks begin."""
    value = start if isinstance(start, int) else 0
    near = sorted(sorted(borders, key=lambda border: abs(border - value))[:2])
    msg = (
        f"start: got {start!r}, where no block begins; nearest {' or '.join(map(str, near))}, and {borders[-1]} is the "
        f"end; {REMEDY}"
    )
    raise ValueError(msg)
