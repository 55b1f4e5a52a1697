"""The three ways to decode: whole, in blended tiles, exactly."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import ltx_models
from ltx_models.cli.comparing.live import live_peak
from tilekit import LTX2_VIDEO, Plan, Tiling, TilingConfig, plan, stream_tiled

Way = Literal["whole", "blended", "exact"]
WAYS: tuple[Way, ...] = ("whole", "blended", "exact")
Sink = Callable[[Any, int], object]


@dataclass(frozen=True, slots=True)
class Taken:
    """
    What a decode took.

    Attributes
    ----------
    way : str
        One of `WAYS`.
    seconds : float
        Wall time of the decode, without what is done with its frames.
    live_bytes : int
        Most bytes of arrays alive at once, without the weights, the latents and frames that were handed on.
    work : float
        Work over that of the whole decode.
    blocks : tuple of (float, int)
        When blocks of frames were finished, in seconds, and how many frames were then.
    """

    way: Way
    seconds: float
    live_bytes: int
    work: float
    blocks: tuple[tuple[float, int], ...]


@dataclass(frozen=True)
class Decoding:
    """
    Latents, a decoder, and how each way cuts.

    Parameters
    ----------
    decoder : VideoDecoder
        Of either framework.
    latents : array, shape (B, 128, f, h, w)
        Normalised latents.
    tiling : Tiling, TilingConfig or None
        Of the blended decode.
    memory_bytes : int, optional
        Budget of the exact one.
    tile_batch_size : int
        Most tiles of one call.
    """

    decoder: Any
    latents: Any
    tiling: Tiling | TilingConfig | None
    memory_bytes: int | None = None
    tile_batch_size: int = 1

    def plan(self) -> Plan:
        """Plan the blended decode."""
        return plan(tuple(self.latents.shape), self.tiling, geometry=LTX2_VIDEO)

    def exact_plan(self) -> Any:
        """Plan the exact one."""
        return ltx_models.plan_exact(self.decoder, self.latents.shape, memory_bytes=self.memory_bytes)

    def work(self, way: Way) -> float:
        """Give the work of a way over that of the whole decode."""
        if way == "whole":
            return 1.0
        return self.plan().redundant_work if way == "blended" else float(self.exact_plan().work)

    def blocks(self, way: Way) -> Iterator[tuple[int, Any]]:
        """Decode in one of the ways, as blocks of finished frames."""
        if way == "whole":
            yield 0, self.decoder(self.latents)
        elif way == "exact":
            yield from ltx_models.stream_decode(self.decoder, self.latents, memory_bytes=self.memory_bytes)
        else:
            yield from stream_tiled(
                self.decoder, self.latents, self.tiling, geometry=LTX2_VIDEO, tile_batch_size=self.tile_batch_size
            )

    def warm_up(self) -> None:
        """Decode one latent frame, so that what is set up on first use is not counted as work of the first way."""
        with live_peak(self.decoder.nn, self._held()):  # which loads parts of torch itself
            self.decoder.nn.synchronize(self.decoder(self.latents[:, :, :1]))

    def _held(self) -> list[Any]:
        """Give what is there before and after a decode."""
        if self.decoder.nn.name == "mlx":
            return []
        return [*self.decoder.parameters(), *self.decoder.buffers(), self.latents]

    def run(self, way: Way, sink: Sink | None = None) -> Taken:
        """
        Decode in one of the ways, and measure it.

        Parameters
        ----------
        way : str
            One of `WAYS`.
        sink : callable, optional
            Takes (block, first frame); its time is not counted.

        Returns
        -------
        Taken
            What it took.
        """
        blocks, moments, seconds = self.blocks(way), [], 0.0
        with live_peak(self.decoder.nn, self._held()) as peak:
            while True:
                begun = time.perf_counter()
                start, block = next(blocks, (0, None))
                if block is None:
                    break
                self.decoder.nn.synchronize(block)
                seconds += time.perf_counter() - begun
                moments.append((seconds, start + int(block.shape[2])))
                if sink is not None:
                    sink(block, start)
                del block
        return Taken(way, seconds, peak.n_bytes, self.work(way), tuple(moments))
