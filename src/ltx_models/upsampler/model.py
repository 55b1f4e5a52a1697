"""The latent upsamplers: twice or one and a half times the side, or twice the frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ltx_models.nn import Array, Module
from ltx_models.nn.border import guarded
from ltx_models.nn.checks import check_array
from ltx_models.upsampler.config import SCALES, UpsamplerConfig
from ltx_models.upsampler.layers import EPS, GROUPS, Rational, ResBlock, framewise, shuffle
from tilekit.norms import Offload
from tilekit.norms._modes import Modes

AXES = ("frames", "height", "width")


class LatentUpsampler(Module):
    """
    A network that upsamples denormalised latents.

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

    @guarded("tiled() makes it in pieces that are right")
    def forward(self, latent: Array) -> Array:
        """
        Upsample a whole clip.

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
        return self.postprocess(self.upsampled(self.preprocess(latent)))

    def upsampled(self, x: Array) -> Array:
        """Map (B, F, H, W, C)."""
        x = self.nn.silu_(self.initial_norm(self.initial_conv(x)))
        for block in self.res_blocks:
            x = block(x)
        x = self.resize(x)
        for block in self.post_upsample_res_blocks:
            x = block(x)
        return self.final_conv(x)

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
        Upsample a clip piece by piece with the statistics of the whole: equal to the whole but for rounding.

        Parameters
        ----------
        latent : array, shape (B, 128, f, h, w)
            Denormalised latents.
        frames, height, width : int, optional
            The sides of a tile, of the result or the input, whichever is finer; None for the whole axis. As many cells
            as it has are made at once, in strips.
        offload : {"host", "disk"}, optional
            Where arrays wait between two norms; on the device where absent.

        Returns
        -------
        array, shape (B, 128, f', h', w')
            As of the whole.

        Raises
        ------
        ValueError
            As for the whole.
        """
        modes = Modes(self.upsampled, (1, 2, 3), AXES, -1)
        return self.postprocess(modes.run(self.preprocess(latent), (frames, height, width), "exact", offload, None))

    def stream(
        self, latent: Array, *, frames_per_chunk: int = 8, offload: Offload | None = "host"
    ) -> Iterator[tuple[int, Array]]:
        """
        Upsample a clip and give the result a few frames at a time.

        The norms need statistics of all frames: every piece waits at each norm for the others. So the first block comes
        when all the work is done, and memory does grow with the clip; what waits is on the host unless `offload` says
        otherwise.

        Parameters
        ----------
        latent : array, shape (B, 128, f, h, w)
            Denormalised latents.
        frames_per_chunk : int
            The most frames at once, of the result or the input, whichever has more.
        offload : {"host", "disk"} or None
            Where arrays wait between two norms.

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

    def preprocess(self, latent: Array) -> Array:
        """Check the latents and turn them: (B, f, h, w, 128)."""
        check_array(self.nn, "latent", latent, self.config.channels)
        return self.nn.xp.permute_dims(self.nn.cast(latent, self.initial_conv.weight.dtype), (0, 2, 3, 4, 1))

    def postprocess(self, x: Array) -> Array:
        """Turn (B, f, h, w, 128) back."""
        return self.nn.xp.permute_dims(x, (0, 4, 1, 2, 3))
