"""The video decoder: latents to pixels, whole or as an exact stream in time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from ltx_models.nn import Array, Module
from ltx_models.nn.border import guarded, one_of_a_patch
from ltx_models.nn.checks import check_array
from ltx_models.nn.patches import unpatchify
from ltx_models.nn.statistics import PerChannelStatistics
from ltx_models.nn.stream import Flow, Unit
from ltx_models.video_vae.config import VideoVAEConfig
from ltx_models.video_vae.layers import (
    CausalConv3d,
    Context,
    DepthToSpaceUpsample,
    ResBlocks,
    TimeEmbedder,
    activate,
    modulation,
)
from ltx_models.video_vae.stream import decode_stream

DECODE_TIMESTEP = 0.05


DECODE_NOISE_SCALE = 0.025


class VideoDecoder(Module):
    """
    From latents to pixels.

    Parameters
    ----------
    nn : Backend
        The framework.
    config : VideoVAEConfig
        The blocks and channels.
    timestep : bool
        Whether the network is conditioned on a timestep and mixes noise into its latents.
    """

    def __init__(self, nn: Any, config: VideoVAEConfig, *, timestep: bool = False) -> None:
        super().__init__()
        self.config = config
        self.conditioned = timestep
        self.steps, self.time = config.decoder_steps(), config.decoder_scale[0]
        self.per_channel_statistics = PerChannelStatistics(nn, config.latent_channels)
        width, padding = config.decoder_width, config.decoder_padding
        self.conv_in = CausalConv3d(nn, config.latent_channels, width, padding)
        blocks: list[Any] = []
        for block in config.decoder_blocks:
            if block.name == "res_x":
                options = {"timestep": timestep, "inject_noise": block.inject_noise}
                blocks.append(ResBlocks(nn, width, block.num_layers, padding, **options))
            else:
                blocks.append(
                    DepthToSpaceUpsample(
                        nn, width, block.stride, block.multiplier, residual=block.residual, padding=padding
                    )
                )
                width //= block.multiplier
        self.up_blocks = nn.ModuleList(blocks)
        self.conv_out = CausalConv3d(nn, width, config.out_channels * config.patch_size**2, padding)
        if timestep:
            self.timestep_scale_multiplier = nn.parameter((), 1000.0)
            self.last_time_embedder = TimeEmbedder(nn, 2 * width)
            self.last_scale_shift_table = nn.parameter((2, width))

    @guarded("decode_exact with memory_bytes makes it in pieces that are right", one_of_a_patch)
    def forward(
        self,
        latent: Array,
        *,
        timestep: Array | None = None,
        noise: Sequence[Array] | None = None,
        causal: bool | None = None,
    ) -> Array:
        """
        Decode a whole clip.

        Parameters
        ----------
        latent : array, shape (B, 128, f, h, w)
            Normalised latents.
        timestep : array, shape (B,), optional
            Noise level in [0, 1] that a conditioned network is told; 0.05 where absent.
        noise : sequence of array, optional
            The draws of a conditioned or noise-injecting network in call order: (B, 128, f, h, w) for the latents where
            it is conditioned, then one (height, width) map for each noise site. Drawn by the framework where absent.
        causal : bool, optional
            Whether convolutions look back only; as configured where absent.

        Returns
        -------
        array, shape (B, 3, 1 + 8 (f - 1), 32 h, 32 w)
            Pixels, about [-1, 1], not clamped, in the dtype of the weights.

        Raises
        ------
        ValueError
            If the shape, dtype or number of draws does not fit.
        """
        x, draws = self.preprocess(latent, noise)
        context = Context(self.causal(causal), draws)
        for unit in self.units(context.causal, self.conditions(timestep, x)):
            x = unit.run(x, Flow(self.nn, context=context))
        return unpatchify(self.nn.xp, x, self.config.patch_size)

    def stream(
        self,
        latent: Array | Iterable[Array],
        *,
        frames_per_chunk: int = 2,
        timestep: Array | None = None,
        noise: Sequence[Array] | None = None,
        causal: bool | None = None,
    ) -> Iterator[tuple[int, Array]]:
        """
        Decode a clip piece by piece: equal to the whole decode, in memory that does not grow with the clip.

        Parameters
        ----------
        latent : array, shape (B, 128, f, h, w), or iterable of such arrays
            Normalised latents; an iterable gives the clip in parts that follow one another, and ends when it ends.
        frames_per_chunk : int
            Latent frames that go through the network at once, at least 1.
        timestep, noise, causal : optional
            As for a whole decode.

        Yields
        ------
        start : int
            The first frame of the block.
        frames : array, shape (B, 3, n, 32 h, 32 w)
            Finished frames, in order, each once.

        Raises
        ------
        ValueError
            As for a whole decode, or if `frames_per_chunk` is not at least 1.
        """
        return decode_stream(
            self, latent, frames_per_chunk=frames_per_chunk, timestep=timestep, noise=noise, causal=causal
        )

    def causal(self, causal: bool | None) -> bool:
        """Choose between what was asked for and what is configured."""
        return self.config.causal_decoder if causal is None else causal

    def units(
        self, causal: bool, conditions: Sequence[Array | None], frames: int | None = None, base: int = 1
    ) -> list[Unit]:
        """
        List the steps of the network.

        Parameters
        ----------
        causal : bool
            Whether convolutions look back only.
        conditions : sequence of array or None
            What `conditions` returned.
        frames : int, optional
            Frames of pixels that may go through at once, and their like at other rates; any number where absent.
        base : int
            Cells of height to a latent cell in which the window of a spatial tile is given.

        Returns
        -------
        list of Unit
            From denormalised latents to patches, over (B, F, H, W, C), in the order of ``config.decoder_steps()``.
        """
        runs: list[Any] = [self.conv_in]
        for block, condition in zip(self.up_blocks, conditions, strict=False):
            if isinstance(block, ResBlocks):
                runs += [partial(_conditioned, one, condition) for one in block.res_blocks]
            else:
                runs.append(block)
        runs.append(partial(self.postprocess, condition=conditions[-1]))
        late = 0 if causal else 1
        return [
            Unit(run, late * len(step.convolutions), cap=step.cap(self.time, frames), scale=step.space // base)
            for run, step in zip(runs, self.steps, strict=True)
        ]

    def postprocess(self, x: Array, flow: Flow, condition: Array | None) -> Array:
        """Map the last stage to patches."""
        rows: list[Array | None] = [None, None]
        if condition is not None:
            rows = list(modulation(self.last_scale_shift_table, condition))
        return self.conv_out(activate(self.nn, x, *rows), flow)

    def conditions(self, timestep: Array | None, like: Array) -> list[Array | None]:
        """Embed the timestep for each block and for the end; all None where the network is not conditioned."""
        if not self.conditioned:
            if timestep is not None:
                msg = "timestep: this decoder is not conditioned on a timestep; leave it out"
                raise ValueError(msg)
            return [None] * (len(self.up_blocks) + 1)
        nn, batch = self.nn, like.shape[0]
        if timestep is None:
            timestep = nn.xp.full((batch,), DECODE_TIMESTEP, dtype=nn.float32)
        if tuple(timestep.shape) != (batch,):
            msg = f"timestep: got shape {tuple(timestep.shape)}, expected ({batch},), one level for each sample"
            raise ValueError(msg)
        timestep = nn.asarray(timestep, nn.cast(like, nn.float32)) * nn.cast(self.timestep_scale_multiplier, nn.float32)
        embedders = [*(getattr(block, "time_embedder", None) for block in self.up_blocks), self.last_time_embedder]
        return [None if embedder is None else embedder(timestep) for embedder in embedders]

    def preprocess(self, latent: Array, noise: Sequence[Array] | None) -> tuple[Array, Iterator[Array] | None]:
        """Check the latents, mix in the first draw, denormalise; return them as (B, F, H, W, C) with the draws left."""
        nn = self.nn
        self.check(latent, noise)
        draws = None if noise is None else iter(noise)
        latent = nn.cast(latent, self.conv_in.conv.weight.dtype)
        if self.conditioned:
            draw = nn.randn(latent.shape, latent) if draws is None else nn.cast(next(draws), latent.dtype)
            latent = DECODE_NOISE_SCALE * draw + (1 - DECODE_NOISE_SCALE) * latent
        return self.per_channel_statistics(nn.xp.permute_dims(latent, (0, 2, 3, 4, 1)), normalize=False), draws

    def check(self, latent: Array, noise: Sequence[Array] | None = None) -> None:
        """Refuse what are no latents, frames that are too small to be mirrored, and draws that do not fit."""
        check_array(self.nn, "latent", latent, self.config.latent_channels)
        self.config.check_cells(*latent.shape[3:])
        if noise is not None:
            self._check_noise(noise, latent)

    def _check_noise(self, noise: Sequence[Array], latent: Array) -> None:
        sites = 2 * sum(block.num_layers for block in self.config.decoder_blocks if block.inject_noise)
        expected = sites + self.conditioned
        if len(noise) != expected:
            msg = f"noise: got {len(noise)} draws, this decoder makes {expected}; see its docstring for their order"
            raise ValueError(msg)
        if self.conditioned and tuple(noise[0].shape) != tuple(latent.shape):
            msg = f"noise: the first draw has shape {tuple(noise[0].shape)}, the latents have {tuple(latent.shape)}"
            raise ValueError(msg)


def _conditioned(block: Any, condition: Array | None, x: Array, flow: Flow) -> Array:
    return block(x, flow, condition)
