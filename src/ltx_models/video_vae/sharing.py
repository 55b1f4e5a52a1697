"""What strips of the video autoencoder will cost, from its configuration: integers, before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from ltx_models.byte_sizes import format_bytes
from ltx_models.notebook import ShownAsText
from ltx_models.video_vae.config import VideoVAEConfig
from tilekit._exact.strips.partition import grid_of

__all__ = ["Sharing", "plan_sharing"]


@dataclass(frozen=True, slots=True)
class Sharing(ShownAsText):
    """
    How ranks share a decode or an encode.

    Attributes
    ----------
    grid : (int, int)
        Rows and columns of ranks.
    shares : tuple of float
        The part of the multiply-adds that each rank makes; they add up to one, as nothing is made twice.
    sent_bytes : tuple of int
        Borders that each rank sends.
    """

    grid: tuple[int, int]
    shares: tuple[float, ...]
    sent_bytes: tuple[int, ...]

    @property
    def makespan(self) -> float:
        """The time of the rank that has most, over that of one device; what is sent costs nothing."""
        return max(self.shares)

    def __str__(self) -> str:
        (rows, columns), ranks = self.grid, len(self.shares)
        return (
            f"strips: exact, {rows} x {columns} ranks, work {sum(self.shares):.2f}, "
            f"balance {1 / (self.makespan * ranks):.0%}, {1 / self.makespan:.1f} times as fast\n"
            f"  {format_bytes(sum(self.sent_bytes))} of borders are sent, {format_bytes(max(self.sent_bytes))} by the "
            "busiest rank"
        )


def plan_sharing(
    config: VideoVAEConfig, shape: Sequence[int], ranks: int, *, decode: bool = True, itemsize: int = 2
) -> Sharing:
    """
    Forecast strips of a video autoencoder.

    Parameters
    ----------
    config : VideoVAEConfig
        The network.
    shape : sequence of int
        Latents, (B, C, f, h, w).
    ranks : int
        How many devices.
    decode : bool
        Whether the decoder or the encoder.
    itemsize : int
        Bytes of one number.

    Returns
    -------
    Sharing
        For each convolution but the first, whose input all ranks have, a border costs both its sides: frames times
        cells along it times channels in times `itemsize`, and where borders cross the cells of the corners.

    Raises
    ------
    tilekit.PlanError
        If a rank would get less than one latent.
    """
    batch, _, frames, height, width = shape
    rows, columns = grid_of(ranks, (height, width))
    tops, lefts = ([k * n // count for k in range(count + 1)] for n, count in ((height, rows), (width, columns)))
    parts = [(b - a, d - c) for a, b in pairwise(tops) for c, d in pairwise(lefts)]
    places = [(row, column) for row in range(rows) for column in range(columns)]
    steps = config.decoder_steps() if decode else config.encoder_steps()
    inner = [(step.time, step.space, channels) for step in steps for channels, _ in step.convolutions][1:]
    sent = []
    for (row, column), (high, wide) in zip(places, parts, strict=True):
        beside, above = (column > 0) + (column < columns - 1), (row > 0) + (row < rows - 1)
        cells = [
            (1 + (frames - 1) * time) * (beside * high * space + above * wide * space + beside * above) * channels
            for time, space, channels in inner
        ]
        sent.append(batch * itemsize * sum(cells))
    return Sharing((rows, columns), tuple(prod(part) / (height * width) for part in parts), tuple(sent))
