"""
The latent upsamplers of LTX-2 and LTX-2.3: twice or one and a half times the side, or twice the frames.

They work on denormalised latents; `upsample_latent` does what is around them. Their group norms see the whole clip, so
in tiles they run in lockstep from norm to norm, with the statistics of the whole (`tilekit.norms`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltx_models.checkpoints import BackendName, Checkpoint, CheckpointError, DType, load_component, open_checkpoint
from ltx_models.nn import Array, Backend, Module
from ltx_models.nn import backend as backend_named
from ltx_models.upsampler_config import UpsamplerConfig
from ltx_models.upsampler_layers import EPS, GROUPS, SAME, Rational, ResBlock, framewise, norm_task, shuffle
from ltx_models.upsampler_reach import SCALES, Blurred, Doubled, Shuffled
from tilekit.norms import Apply, Convolution, Offload, Task, TaskQueue

AXES = ("frames", "height", "width")
STATISTICS = ("mean-of-means", "std-of-means")
NOT_OURS = ("vae.", "input.", "output.", "debug.")


class LatentUpsampler(Module):
    """
    A network that enlarges denormalised latents.

    Parameters
    ----------
    nn : Backend
        The framework.
    config : UpsamplerConfig
        Its kind and channels.
    """

    def __init__(self, nn: Any, config: UpsamplerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.initial_conv = nn.Conv3d(config.channels, width, 3, padding=1)
        self.initial_norm = nn.GroupNorm(GROUPS, width, eps=EPS)
        self.res_blocks = nn.ModuleList([ResBlock(nn, width) for _ in range(config.blocks)])
        self.upsampler: Any
        if config.kind == "rational":
            self.upsampler = Rational(nn, width, *SCALES[config.scale])
        elif config.kind == "spatial":
            self.upsampler = nn.ModuleList([nn.Conv2d(width, 4 * width, 3, padding=1)])
        else:
            self.upsampler = nn.ModuleList([nn.Conv3d(width, 2 * width, 3, padding=1)])
        self.post_upsample_res_blocks = nn.ModuleList([ResBlock(nn, width) for _ in range(config.blocks)])
        self.final_conv = nn.Conv3d(width, config.channels, 3, padding=1)

    def forward(self, latent: Array) -> Array:
        """
        Enlarge a whole clip.

        Parameters
        ----------
        latent : array, shape (B, 128, f, h, w)
            Denormalised latents.

        Returns
        -------
        array, shape (B, 128, f', h', w')
            Denormalised latents, in the dtype of the weights: twice or one and a half times the height and width
            (rounded up), or 2 f - 1 frames.

        Raises
        ------
        ValueError
            If the shape or dtype does not fit.
        """
        x = self.initial_conv(self.enter(latent))
        x = self.nn.silu_(self.initial_norm(x))
        for block in self.res_blocks:
            x = block(x)
        x = self.resize(x)
        for block in self.post_upsample_res_blocks:
            x = block(x)
        return self.leave(self.final_conv(x))

    def tiled(
        self,
        latent: Array,
        *,
        frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        offload: Offload | None = None,
    ) -> Array:
        """
        Enlarge a clip in tiles that share the statistics of the whole: equal to the whole but for rounding.

        Parameters
        ----------
        latent : array, shape (B, 128, f, h, w)
            Denormalised latents.
        frames, height, width : int, optional
            The most cells of a tile along each axis, of the result or the input, whichever is finer; None for an axis
            that is not cut.
        offload : {"host", "disk"}, optional
            Where tiles wait for one another; on the device where absent.

        Returns
        -------
        array, shape (B, 128, f', h', w')
            As of the whole.

        Raises
        ------
        ValueError
            As for the whole, or if a tile is smaller than what the network sees.
        """
        queue = TaskQueue(self.tasks(), axes=(1, 2, 3), names=AXES, channel_axis=-1)
        return self.leave(queue.run(self.enter(latent), tile=(frames, height, width), offload=offload))

    def stream(
        self, latent: Array, *, frames_per_chunk: int = 8, offload: Offload | None = "host"
    ) -> Iterator[tuple[int, Array]]:
        """
        Enlarge a clip a few frames at a time, and give the result so.

        The norms need statistics of all frames: every chunk goes from one norm to the next, where all wait, before
        any goes on. So the first block comes when all the work is done, and memory does grow with the clip; chunks that
        wait are on the host unless `offload` says otherwise.

        Parameters
        ----------
        latent : array, shape (B, 128, f, h, w)
            Denormalised latents.
        frames_per_chunk : int
            The most frames at once, of the result or the input, whichever has more.
        offload : {"host", "disk"} or None
            Where chunks wait for one another.

        Yields
        ------
        start : int
            The first frame of the block.
        latents : array, shape (B, 128, n, h', w')
            Frames, in order, each once.

        Raises
        ------
        ValueError
            As for the whole.
        """
        whole = self.tiled(latent, frames=frames_per_chunk, offload=offload)
        for start in range(0, whole.shape[2], frames_per_chunk):
            yield start, whole[:, :, start : start + frames_per_chunk]

    def tasks(self) -> list[Task]:
        """List its steps for tiles that meet at the norms, over (B, F, H, W, C)."""
        config = self.config
        same = Convolution()
        if config.kind == "temporal":
            reach: Any = (Doubled(), SAME, SAME)
        elif config.kind == "rational":
            side = Blurred(*SCALES[config.scale]) if SCALES[config.scale][1] > 1 else Shuffled(SCALES[config.scale][0])
            reach = (same, side, side)
        else:
            reach = (same, Shuffled(2), Shuffled(2))
        tasks: list[Task] = [
            Apply("initial_conv", self.initial_conv, SAME, config.width),
            norm_task("initial_norm", self.initial_norm),
            Apply("initial_silu", self.nn.silu),
        ]
        for i, block in enumerate(self.res_blocks):
            tasks += block.tasks(f"res_blocks.{i}")
        tasks.append(Apply("upsampler", self.resize, reach))
        for i, block in enumerate(self.post_upsample_res_blocks):
            tasks += block.tasks(f"post_upsample_res_blocks.{i}")
        return [*tasks, Apply("final_conv", self.final_conv, SAME, config.channels)]

    def resize(self, x: Array) -> Array:
        """Change the size of (B, F, H, W, C)."""
        if self.config.kind == "rational":
            return self.upsampler(x)
        if self.config.kind == "spatial":
            return framewise(lambda frame: shuffle(self.nn.xp, self.upsampler[0](frame), 2), x)
        x = self.upsampler[0](x)
        batch, frames, rows, columns, channels = x.shape
        x = x.reshape(batch, frames, rows, columns, channels // 2, 2)
        x = self.nn.xp.permute_dims(x, (0, 1, 5, 2, 3, 4)).reshape(batch, 2 * frames, rows, columns, channels // 2)
        return x[:, 1:]  # the first latent stands for one frame, not for a group: nothing comes before it

    def enter(self, latent: Array) -> Array:
        """Check the latents and turn them: (B, f, h, w, 128)."""
        from ltx_models.video_vae import check_array

        check_array(self.nn, "latent", latent, self.config.channels)
        return self.nn.xp.permute_dims(self.nn.cast(latent, self.initial_conv.weight.dtype), (0, 2, 3, 4, 1))

    def leave(self, x: Array) -> Array:
        """Turn (B, f, h, w, 128) back."""
        return self.nn.xp.permute_dims(x, (0, 4, 1, 2, 3))


@dataclass(frozen=True)
class LatentStatistics:
    """
    Mean and standard deviation of each channel of a video autoencoder's latents.

    Attributes
    ----------
    mean, std : array, shape (128,)
        In float32.
    """

    mean: Array
    std: Array


def load_statistics(path: str | Path, *, backend: BackendName = "torch", device: Any = None) -> LatentStatistics:
    """
    Load the statistics of a video autoencoder's latents.

    Parameters
    ----------
    path : path
        A safetensors file with a video autoencoder (whole checkpoint or one component), or a folder of shards. The
        files of upsamplers hold none.
    backend : {"torch", "mlx"}
        The framework.
    device : optional
        A torch device.

    Returns
    -------
    LatentStatistics
        What `upsample_latent` takes.

    Raises
    ------
    CheckpointError
        If the file has no such statistics.

    Examples
    --------
    >>> from ltx_models import default_checkpoint
    >>> load_statistics(default_checkpoint(), backend="torch").mean.shape
    torch.Size([128])
    """
    nn = backend_named(backend)
    with open_checkpoint(path, backend) as checkpoint:
        found = []
        for name in STATISTICS:
            keys = [f"{prefix}per_channel_statistics.{name}" for prefix in ("vae.", "")]
            key = next((key for key in keys if key in checkpoint.files), None)
            if key is None:
                msg = f"{path}: no {keys[0]}; give the checkpoint of the video autoencoder, upsamplers bring none"
                raise CheckpointError(msg)
            value = nn.cast(checkpoint.tensor(key), nn.float32)
            found.append(value if device is None else value.to(device))
    return LatentStatistics(*found)


def upsample_latent(upsampler: Any, latent: Array, statistics: LatentStatistics, **tiles: Any) -> Array:
    """
    Enlarge normalised latents: undo the normalisation, enlarge, normalise again.

    Parameters
    ----------
    upsampler : LatentUpsampler
        What `load_upsampler` returned.
    latent : array, shape (B, 128, f, h, w)
        Normalised latents, as the transformer and the autoencoder know them.
    statistics : LatentStatistics
        What `load_statistics` returned.
    **tiles
        ``frames``, ``height``, ``width``, ``offload`` of `LatentUpsampler.tiled`; whole where absent.

    Returns
    -------
    array, shape (B, 128, f', h', w')
        Normalised latents, in the dtype of `latent`.

    Raises
    ------
    ValueError
        If the shape or dtype does not fit.

    Examples
    --------
    >>> import torch
    >>> from ltx_models import default_checkpoint
    >>> from ltx_models.nn import backend
    >>> upsampler = LatentUpsampler(backend("torch"), UpsamplerConfig(128, 32, 1, "temporal"))  # random weights
    >>> statistics = load_statistics(default_checkpoint(), backend="torch")
    >>> upsample_latent(upsampler, torch.zeros(1, 128, 3, 2, 2), statistics).shape
    torch.Size([1, 128, 5, 2, 2])
    """
    nn = upsampler.nn
    mean, std = (x.reshape(1, -1, 1, 1, 1) for x in (statistics.mean, statistics.std))
    if latent.ndim != 5 or latent.shape[1] != mean.shape[1]:
        msg = f"latent: got shape {tuple(latent.shape)}, the statistics are of (batch, {mean.shape[1]}, f, h, w)"
        raise ValueError(msg)
    raw = nn.cast(nn.cast(latent, nn.float32) * std + mean, latent.dtype)
    large = upsampler.tiled(raw, **tiles) if tiles else upsampler(raw)
    return nn.cast((nn.cast(large, nn.float32) - mean) / std, latent.dtype)


def load_upsampler(
    path: str | Path,
    *,
    backend: BackendName = "torch",
    dtype: DType = "bfloat16",
    device: Any = None,
    config: Mapping[str, Any] | None = None,
) -> Any:
    """
    Load a latent upsampler.

    Parameters
    ----------
    path : path
        Its safetensors file, or a folder of shards.
    backend : {"torch", "mlx"}
        The framework.
    dtype : {"bfloat16", "float16", "float32"}
        The dtype of the weights, and so of the result.
    device : optional
        A torch device.
    config : mapping, optional
        Takes the place of the embedded configuration.

    Returns
    -------
    LatentUpsampler
        A `torch.nn.Module` or an `mlx.nn.Module`, ready for inference.

    Raises
    ------
    CheckpointError
        If the file is no whole safetensors file, or its tensors do not fit the configuration.
    ValueError
        If the configuration, backend or dtype is not known.

    Examples
    --------
    >>> upsampler = load_upsampler("ltx-2.3-spatial-upscaler-x2-1.1.safetensors", backend="mlx")  # doctest: +SKIP
    """

    def make(nn: Backend, checkpoint: Checkpoint) -> LatentUpsampler:
        return LatentUpsampler(nn, UpsamplerConfig.read(checkpoint.config if config is None else config))

    def names(key: str) -> str | None:
        return None if key.startswith(NOT_OURS) else key

    return load_component(path, make, names, backend_name=backend, dtype=dtype, device=device)
