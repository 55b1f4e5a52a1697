"""
The video autoencoder of LTX-2 and LTX-2.3: pixels to latents and back, whole or as an exact stream in time.

Encoder and decoder are sequences of `Unit`. A whole pass runs each unit once, on a piece that is first and last; a
stream pushes pieces through them (`ltx_models.nn.stream`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ltx_models.checkpoints import BackendName, Checkpoint, DType, load_component, prefixed
from ltx_models.nn import Array, Backend, Module
from ltx_models.nn.stream import Flow, Unit
from ltx_models.video_config import VideoVAEConfig
from ltx_models.video_layers import (
    CausalConv3d,
    Context,
    DepthToSpaceUpsample,
    PerChannelStatistics,
    ResBlocks,
    SpaceToDepthDownsample,
    TimeEmbedder,
    activate,
    modulation,
    patchify,
    unpatchify,
)

DECODE_TIMESTEP = 0.05
DECODE_NOISE_SCALE = 0.025
STATISTICS = ("mean-of-means", "std-of-means")


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
        x, draws = self.enter(latent, noise)
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
        from ltx_models.video_stream import decode_stream

        return decode_stream(
            self, latent, frames_per_chunk=frames_per_chunk, timestep=timestep, noise=noise, causal=causal
        )

    def causal(self, given: bool | None) -> bool:
        """Choose between what was asked for and what is configured."""
        return self.config.causal_decoder if given is None else given

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
        runs.append(partial(self.leave, condition=conditions[-1]))
        late = 0 if causal else 1
        return [
            Unit(run, late * len(step.convolutions), cap=step.cap(self.time, frames), scale=step.space // base)
            for run, step in zip(runs, self.steps, strict=True)
        ]

    def leave(self, x: Array, flow: Flow, condition: Array | None) -> Array:
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

    def enter(self, latent: Array, noise: Sequence[Array] | None) -> tuple[Array, Iterator[Array] | None]:
        """Check the latents, mix in the first draw, denormalise; return them as (B, F, H, W, C) with the draws left."""
        nn = self.nn
        self.check(latent)
        draws = None if noise is None else iter(self._draws(noise, latent))
        latent = nn.cast(latent, self.conv_in.conv.weight.dtype)
        if self.conditioned:
            draw = nn.randn(latent.shape, latent) if draws is None else nn.cast(next(draws), latent.dtype)
            latent = DECODE_NOISE_SCALE * draw + (1 - DECODE_NOISE_SCALE) * latent
        return self.per_channel_statistics(nn.xp.permute_dims(latent, (0, 2, 3, 4, 1)), normalize=False), draws

    def check(self, latent: Array) -> None:
        """Refuse what are no latents, and frames that are too small to be mirrored."""
        check_array(self.nn, "latent", latent, self.config.latent_channels)
        frame = tuple(latent.shape[3:])
        if self.config.decoder_padding == "reflect" and min(frame) < 2:
            msg = (
                f"latent: height and width are {frame} cells, this decoder mirrors its borders and needs at least 2 of "
                "each; decode a larger frame"
            )
            raise ValueError(msg)

    def _draws(self, noise: Sequence[Array], latent: Array) -> Sequence[Array]:
        sites = 2 * sum(block.num_layers for block in self.config.decoder_blocks if block.inject_noise)
        expected = sites + self.conditioned
        if len(noise) != expected:
            msg = f"noise: got {len(noise)} draws, this decoder makes {expected}; see its docstring for their order"
            raise ValueError(msg)
        if self.conditioned and tuple(noise[0].shape) != tuple(latent.shape):
            msg = f"noise: the first draw has shape {tuple(noise[0].shape)}, the latents have {tuple(latent.shape)}"
            raise ValueError(msg)
        return noise


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
        x = self.enter(video)
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
        from ltx_models.video_stream import encode_stream

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
        runs.append(self.leave)
        return [
            Unit(run, stride=step.stride[0], cap=step.cap(self.time, frames))
            for run, step in zip(runs, self.steps, strict=True)
        ]

    def enter(self, video: Array) -> Array:
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

    def leave(self, x: Array, flow: Flow) -> Array:
        """Map the last stage to normalised means."""
        x = self.conv_out(activate(self.nn, x), flow)
        return self.per_channel_statistics(x[..., : self.config.latent_channels], normalize=True)


def _conditioned(block: Any, condition: Array | None, x: Array, flow: Flow) -> Array:
    return block(x, flow, condition)


def check_array(nn: Backend, name: str, x: Array, channels: int) -> None:
    """Refuse what is no (B, channels, F, H, W) array of real numbers of this backend."""
    if not nn.is_array(x):
        msg = f"{name}: got a {type(x).__module__}.{type(x).__name__}, this network takes arrays of {nn.name}"
        raise ValueError(msg)
    if x.ndim != 5 or x.shape[1] != channels or 0 in x.shape:
        msg = f"{name}: got shape {tuple(x.shape)}, expected (batch, {channels}, frames, height, width), none of them 0"
        raise ValueError(msg)
    if not nn.xp.isdtype(x.dtype, "real floating"):
        msg = f"{name}: got dtype {x.dtype}, expected a floating-point one"
        raise ValueError(msg)


def check_video(encoder: VideoEncoder, video: Array) -> None:
    """Refuse what is no whole clip."""
    check_array(encoder.nn, "video", video, encoder.config.in_channels)
    check_frames(video.shape[2], encoder.config.encoder_scale[0])


def check_frames(frames: int, time: int) -> None:
    """Refuse a number of frames that is not 1 + 8 k."""
    if (frames - 1) % time:
        low = 1 + (frames - 1) // time * time
        msg = f"video: got {frames} frames, expected 1 + {time} k; cut to {low} or extend to {low + time} frames"
        raise ValueError(msg)


def _statistics_keys(key: str) -> str | None:
    """Keep the two statistics that are used; files carry others."""
    name = key.rpartition("per_channel_statistics.")[2]
    return f"per_channel_statistics.{name}" if name in STATISTICS else None


def _names(component: str) -> Any:
    prefixes = prefixed((f"vae.{component}.", ""), (f"{component}.", ""))

    def rename(key: str) -> str | None:
        if key.startswith(("vae.per_channel_statistics.", "per_channel_statistics.")):
            return _statistics_keys(key)
        return prefixes(key)

    return rename


def _read_config(checkpoint: Checkpoint, config: Mapping[str, Any] | None) -> VideoVAEConfig:
    whole = checkpoint.config if config is None else config
    return VideoVAEConfig.read(whole.get("vae", whole))


def load_video_decoder(
    path: str | Path,
    *,
    backend: BackendName = "torch",
    dtype: DType = "bfloat16",
    device: Any = None,
    config: Mapping[str, Any] | None = None,
) -> Any:
    """
    Load the video decoder of a checkpoint.

    Parameters
    ----------
    path : path
        A safetensors file (whole checkpoint or one component), or a folder of shards.
    backend : {"torch", "mlx"}
        The framework.
    dtype : {"bfloat16", "float16", "float32"}
        The dtype of the weights, and so of the result.
    device : optional
        A torch device.
    config : mapping, optional
        Takes the place of the embedded configuration: all of it, or its section ``vae``.

    Returns
    -------
    VideoDecoder
        A `torch.nn.Module` or an `mlx.nn.Module`, ready for inference.

    Raises
    ------
    CheckpointError
        If the file is no whole safetensors file, or its tensors do not fit the configuration.
    ValueError
        If the configuration, backend or dtype is not known.

    Examples
    --------
    >>> import torch
    >>> from ltx_models import default_checkpoint, load_video_decoder
    >>> decoder = load_video_decoder(default_checkpoint(), backend="torch", dtype="float32")
    >>> decoder(torch.zeros(1, 128, 2, 2, 3)).shape
    torch.Size([1, 3, 9, 64, 96])
    """

    def make(nn: Backend, checkpoint: Checkpoint) -> VideoDecoder:
        timestep = any(key.endswith("timestep_scale_multiplier") for key in map(names, checkpoint.keys) if key)
        return VideoDecoder(nn, _read_config(checkpoint, config), timestep=timestep)

    names = _names("decoder")
    return load_component(path, make, names, backend_name=backend, dtype=dtype, device=device)


def load_video_encoder(
    path: str | Path,
    *,
    backend: BackendName = "torch",
    dtype: DType = "bfloat16",
    device: Any = None,
    config: Mapping[str, Any] | None = None,
) -> Any:
    """
    Load the video encoder of a checkpoint.

    Parameters
    ----------
    path : path
        A safetensors file (whole checkpoint or one component), or a folder of shards.
    backend : {"torch", "mlx"}
        The framework.
    dtype : {"bfloat16", "float16", "float32"}
        The dtype of the weights, and so of the result.
    device : optional
        A torch device.
    config : mapping, optional
        Takes the place of the embedded configuration: all of it, or its section ``vae``.

    Returns
    -------
    VideoEncoder
        A `torch.nn.Module` or an `mlx.nn.Module`, ready for inference.

    Raises
    ------
    CheckpointError
        If the file is no whole safetensors file, or its tensors do not fit the configuration.
    ValueError
        If the configuration, backend or dtype is not known.

    Examples
    --------
    >>> import torch
    >>> from ltx_models import default_checkpoint, load_video_encoder
    >>> encoder = load_video_encoder(default_checkpoint(), backend="torch", dtype="float32")
    >>> encoder(torch.zeros(1, 3, 9, 64, 96)).shape
    torch.Size([1, 128, 2, 2, 3])
    """

    def make(nn: Backend, checkpoint: Checkpoint) -> VideoEncoder:
        return VideoEncoder(nn, _read_config(checkpoint, config))

    return load_component(path, make, _names("encoder"), backend_name=backend, dtype=dtype, device=device)
