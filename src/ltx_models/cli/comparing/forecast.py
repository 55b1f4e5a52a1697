"""What whole, blended and exact decodes will take, from a checkpoint's configuration alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ltx_models
from ltx_models.checkpoints import open_checkpoint, section_of
from ltx_models.cli.comparing.ways import Way
from ltx_models.video_vae.config import VideoVAEConfig, is_diffusion
from ltx_models.video_vae.diffusion.config import DiffusionDecoderConfig
from tilekit import Plan

BOUNDLESS = 2**62


@dataclass(frozen=True, slots=True)
class Expected:
    """
    One way.

    Attributes
    ----------
    way : str
        ``"whole"``, ``"exact"`` or ``"blended"``.
    peak_bytes : int
        Forecast of live arrays at the peak, without weights and without a result that is assembled.
    work : float
        Work over that of the whole decode.
    seams : int
        Overlaps of tiles, along all axes.
    how : str
        In words.
    """

    way: Way
    peak_bytes: int
    work: float
    seams: int
    how: str


def read_config(path: Path) -> VideoVAEConfig | DiffusionDecoderConfig:
    """Read the configuration of a checkpoint's video decoder; no tensor is read."""
    with open_checkpoint(path, "numpy") as checkpoint:
        section = section_of(checkpoint, None, "vae")
    return DiffusionDecoderConfig.read(section) if is_diffusion(section) else VideoVAEConfig.read(section)


def expected(
    config: VideoVAEConfig | DiffusionDecoderConfig,
    blended: Plan,
    *,
    itemsize: int,
    memory_bytes: int | None = None,
    tile_batch_size: int = 1,
) -> list[Expected]:
    """
    Forecast the three ways of a decode.

    Parameters
    ----------
    config : VideoVAEConfig or DiffusionDecoderConfig
        Of the decoder.
    blended : Plan
        Of the tiles; it has the shape of the latents.
    itemsize : int
        Bytes of a number.
    memory_bytes : int, optional
        Budget of the exact decode.
    tile_batch_size : int
        Most tiles of one call.

    Returns
    -------
    list of Expected
        Whole, blended, exact.

    Raises
    ------
    ValueError
        If nothing exact fits the budget; the text says the least that would.
    """

    def whole(shape: Sequence[int]) -> int:
        plan: Any = ltx_models.plan_exact(config, shape, itemsize=itemsize, memory_bytes=BOUNDLESS)
        return int(plan.peak_bytes)

    batch, channels = blended.shape[:2]
    tiles = [(batch * min(n, tile_batch_size), channels, *shape) for shape, n in blended.shape_groups.items()]
    one_call = max(map(whole, tiles))
    engine = blended.peak_bytes(itemsize=itemsize, tile_batch_size=tile_batch_size, streaming=True)
    seams = sum(len(segment.tiles) > 1 for segments in blended.segments for segment in segments)
    chosen: Any = ltx_models.plan_exact(config, blended.shape, itemsize=itemsize, memory_bytes=memory_bytes)
    return [
        Expected("whole", whole(blended.shape), 1.0, 0, "in one piece"),
        Expected("blended", one_call + engine, blended.redundant_work, seams, f"{len(blended.tiles)} tiles"),
        Expected("exact", chosen.peak_bytes, chosen.work, 0, _first_line(str(chosen))),
    ]


def _first_line(text: str) -> str:
    """Give what a printed plan says after its shape."""
    return text.splitlines()[0].partition(": ")[2]
