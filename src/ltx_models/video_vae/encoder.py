"""The video encoder: pixels to latents, whole or as an exact stream in time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ltx_models.nn import Array, Module
from ltx_models.nn.border import guarded
from ltx_models.nn.checks import check_array, check_frames
from ltx_models.nn.patches import patchify
from ltx_models.nn.statistics import PerChannelStatistics
from ltx_models.nn.stream import Flow, Unit
from ltx_models.video_vae.config import VideoVAEConfig
from ltx_models.video_vae.layers import (
    CausalConv3d,
    Context,
    ResBlocks,
    SpaceToDepthDownsample,
    activate,
)
from ltx_models.video_vae.stream import encode_stream


class VideoEncoder(Module):
    """
    From pixels to latents.

    Parameters
    ----------
    nn : Backend
        The framework.
    config : VideoVAEConfig
        The blocks and channels.
    """

    def __init__(self, nn: Any, config: VideoVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.steps, self.time = config.encoder_steps(), config.encoder_scale[0]
        self.per_channel_statistics = PerChannelStatistics(nn, config.latent_channels)
        width, padding = config.encoder_base_channels, config.encoder_padding
        self.conv_in = CausalConv3d(nn, config.in_channels * config.patch_size**2, width, padding)
        blocks: list[Any] = []
        for block in config.encoder_blocks:
            if block.name == "res_x":
                blocks.append(ResBlocks(nn, width, block.num_layers, padding))
            else:
                blocks.append(SpaceToDepthDownsample(nn, width, block.stride, block.multiplier, padding))
                width *= block.multiplier
        self.down_blocks = nn.ModuleList(blocks)
        # one channel more than the means: a variance that all share, which nothing here reads
        self.conv_out = CausalConv3d(nn, width, config.latent_channels + 1, padding)

    @guarded("encode_exact with memory_bytes makes it in pieces that are right")
    def forward(self, video: Array) -> Array:
        """
        Encode a whole clip.

        Parameters
        ----------
        video : array, shape (B, 3, 1 + 8 k, 32 h, 32 w)
            Pixels in [-1, 1].

        Returns
        -------
        array, shape (B, 128, 1 + k, h, w)
            Normalised latent means, in the dtype of the weights.

        Raises
        ------
        ValueError
            If the shape or dtype does not fit, or the frames are not 1 + 8 k.
        """
        check_video(self, video)
        x = self.preprocess(video)
        context = Context(causal=True)
        for unit in self.units():
            x = unit.run(x, Flow(self.nn, context=context))
        return self.nn.xp.permute_dims(x, (0, 4, 1, 2, 3))

    def stream(self, chunks: Iterable[Array], *, frames_per_chunk: int = 16) -> Iterator[tuple[int, Array]]:
        """
        Encode a clip piece by piece: equal to the whole encode, in memory that does not grow with the clip.

        Parameters
        ----------
        chunks : iterable of array, shape (B, 3, n, 32 h, 32 w), or one such array
            Parts of the clip that follow one another, of any lengths; 1 + 8 k frames in all.
        frames_per_chunk : int
            Frames that go through the network at once, at least 8.

        Yields
        ------
        start : int
            The first latent frame of the block.
        latents : array, shape (B, 128, n, h, w)
            Finished latents, in order, each once.

        Raises
        ------
        ValueError
            As for a whole encode; a number of frames that is not 1 + 8 k is known, and refused, at the end.
        """
        return encode_stream(self, chunks, frames_per_chunk=frames_per_chunk)

    def units(self, frames: int | None = None) -> list[Unit]:
        """
        List the steps of the network.

        Parameters
        ----------
        frames : int, optional
            Frames of pixels that may go through at once, and their like at other rates; any number where absent.

        Returns
        -------
        list of Unit
            From patches to normalised latents, over (B, F, H, W, C), in the order of ``config.encoder_steps()``.
        """
        runs: list[Any] = [self.conv_in]
        for block in self.down_blocks:
            runs += list(block.res_blocks) if isinstance(block, ResBlocks) else [block]
        runs.append(self.postprocess)
        return [
            Unit(run, stride=step.stride[0], cap=step.cap(self.time, frames))
            for run, step in zip(runs, self.steps, strict=True)
        ]

    def preprocess(self, video: Array) -> Array:
        """Check the pixels and make patches (B, F, H, W, C) of them."""
        nn, config = self.nn, self.config
        check_array(nn, "video", video, config.in_channels)
        _, height, width = config.encoder_scale
        rows, columns = video.shape[3:]
        if rows % height or columns % width:
            low = (rows // height * height, columns // width * width)
            msg = f"video: got {rows} x {columns} pixels, expected multiples of {height} x {width}; crop to {low}"
            raise ValueError(msg)
        return patchify(nn.xp, nn.cast(video, self.conv_in.conv.weight.dtype), config.patch_size)

    def postprocess(self, x: Array, flow: Flow) -> Array:
        """Map the last stage to normalised means."""
        x = self.conv_out(activate(self.nn, x), flow)
        return self.per_channel_statistics(x[..., : self.config.latent_channels], normalize=True)


def check_video(encoder: VideoEncoder, video: Array) -> None:
    """Refuse what is no whole clip."""
    check_array(encoder.nn, "video", video, encoder.config.in_channels)
    check_frames(video.shape[2], encoder.config.encoder_scale[0])
