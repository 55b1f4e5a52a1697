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
from ltx_models.upsampler_reach import SCALES, Blurred, Doubled, Shuffled
from tilekit.norms import Add, Apply, Convolution, Norm, Offload, Store, Task, TaskQueue

GROUPS, EPS = 32, 1e-5
AXES = ("frames", "height", "width")
STATISTICS = ("mean-of-means", "std-of-means")
NOT_OURS = ("vae.", "input.", "output.", "debug.")
SAME = Convolution(kernel=3, before=1, after=1)


@dataclass(frozen=True, slots=True)
class UpsamplerConfig:
    """
    What the loader reads of an upsampler's configuration.

    Attributes
    ----------
    channels, width : int
        Channels of the latents, and inside.
    blocks : int
        Residual blocks before, and after, the change of size.
    kind : {"spatial", "rational", "temporal"}
        Twice the side by one convolution; a rational multiple of it; twice the frames.
    scale : float
        Of the side, where it is rational: 0.75, 1.5, 2 or 4.
    """

    channels: int
    width: int
    blocks: int
    kind: str
    scale: float = 2.0

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> UpsamplerConfig:
        """
        Read the configuration that an upsampler's file embeds.

        Parameters
        ----------
        given : mapping
            The whole of it: these files have no sections.

        Returns
        -------
        UpsamplerConfig
            Keys that the official code reads; others are ignored.

        Raises
        ------
        ValueError
            If it describes none of the three kinds.

        Notes
        -----
        Source: the configurator of Lightricks/LTX-2; absent keys take its code's defaults.
        """
        spatial, temporal = given.get("spatial_upsample", True), given.get("temporal_upsample", False)
        if given.get("dims", 3) != 3 or bool(spatial) == bool(temporal):
            msg = (
                f"upsampler: got dims={given.get('dims', 3)}, spatial_upsample={spatial}, "
                f"temporal_upsample={temporal}; known are three dimensions and one of the two"
            )
            raise ValueError(msg)
        scale = float(given.get("spatial_scale", 2.0))
        rational = bool(given.get("rational_resampler", False))
        if rational and scale not in SCALES:
            msg = f"upsampler.spatial_scale: got {scale}, allowed are {', '.join(map(str, SCALES))}"
            raise ValueError(msg)
        return cls(
            channels=given.get("in_channels", 128),
            width=given.get("mid_channels", 512),
            blocks=given.get("num_blocks_per_stage", 4),
            kind="temporal" if temporal else "rational" if rational else "spatial",
            scale=scale,
        )


class ResBlock(Module):
    """
    Two convolutions with group norms, added to the input before the last SiLU.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels : int
        Channels in and out.
    """

    def __init__(self, nn: Any, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.norm1 = nn.GroupNorm(GROUPS, channels, eps=EPS)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, channels, eps=EPS)

    def forward(self, x: Array) -> Array:
        """Map (B, F, H, W, C)."""
        h = self.nn.silu_(self.norm1(self.conv1(x)))
        return self.nn.silu_(self.nn.add_(self.norm2(self.conv2(h)), [x]))

    def tasks(self, name: str) -> list[Task]:
        """List its steps for tiles that meet at the norms."""
        return [
            Store(f"{name}.store"),
            Apply(f"{name}.conv1", self.conv1, SAME),
            norm_task(f"{name}.norm1", self.norm1),
            Apply(f"{name}.silu", self.nn.silu),
            Apply(f"{name}.conv2", self.conv2, SAME),
            norm_task(f"{name}.norm2", self.norm2),
            Add(f"{name}.add"),
            Apply(f"{name}.out", self.nn.silu),
        ]


def norm_task(name: str, norm: Any) -> Norm:
    """Make the task of a group norm."""
    return Norm(name, GROUPS, norm.weight, norm.bias, EPS)


class Blur(Module):
    """
    Holder that spells the official key ``upsampler.blur_down.kernel``.

    Parameters
    ----------
    nn : Backend
        The framework.
    stride : int
        Cells of which one is kept.
    """

    kernel: Array

    def __init__(self, nn: Any, stride: int) -> None:
        super().__init__()
        self.stride = stride
        nn.buffer(self, "kernel", nn.xp.zeros((1, 1, 5, 5), dtype=nn.float32))

    def forward(self, x: Array) -> Array:
        """Blur (B, H, W, C) over zeros and keep every `stride`-th cell each way."""
        if self.stride == 1:
            return x
        x = self.nn.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
        rows, columns = ((n - 5) // self.stride + 1 for n in x.shape[1:3])
        total: Array = None
        for i in range(5):
            for j in range(5):
                part = x[:, i : i + self.stride * (rows - 1) + 1 : self.stride]
                part = part[:, :, j : j + self.stride * (columns - 1) + 1 : self.stride] * self.kernel[0, 0, i, j]
                total = part if total is None else self.nn.add_(total, [part])
        return total


class Rational(Module):
    """
    Cells multiplied by one whole number, blurred, and divided by another, each way.

    Parameters
    ----------
    nn : Backend
        The framework.
    channels : int
        Channels in and out.
    times, by : int
        The two numbers.
    """

    def __init__(self, nn: Any, channels: int, times: int, by: int) -> None:
        super().__init__()
        self.times = times
        self.conv = nn.Conv2d(channels, times * times * channels, 3, padding=1)
        self.blur_down = Blur(nn, by)

    def forward(self, x: Array) -> Array:
        """Map (B, F, H, W, C)."""
        return framewise(lambda frame: self.blur_down(shuffle(self.nn.xp, self.conv(frame), self.times)), x)


def framewise(fn: Any, x: Array) -> Array:
    """Map each frame of (B, F, H, W, C) as a picture."""
    y = fn(x.reshape(-1, *x.shape[2:]))
    return y.reshape(*x.shape[:2], *y.shape[1:])


def shuffle(xp: Any, x: Array, times: int) -> Array:
    """Rearrange (B, H, W, c h w) as (B, H h, W w, c)."""
    batch, rows, columns, channels = x.shape
    c = channels // times**2
    x = xp.permute_dims(x.reshape(batch, rows, columns, c, times, times), (0, 1, 4, 2, 5, 3))
    return x.reshape(batch, rows * times, columns * times, c)


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
