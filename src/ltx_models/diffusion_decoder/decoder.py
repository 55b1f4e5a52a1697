"""
The diffusion video decoder of LTX-2.5: latents to a context, then noise to pixels that the context guides.

Four stages of neighbourhood attention turn the latents into a context of one cell for 4x4 pixels, and some blocks
denoise pixels with it. The network is the plain one: one noise field, one pass over the whole width. The default mode
of the official tools computes the denoising blocks in four slabs of the width, whose borders differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ltx_models.diffusion_decoder.config import DiffusionDecoderConfig
from ltx_models.diffusion_decoder.geometry import Sizes, Tile, enlarged, tiles
from ltx_models.diffusion_decoder.layers import Block, DenoisingBlock, SharedModulation, TimestepEmbedder, Upsample
from ltx_models.nn import Array, Module
from ltx_models.nn.patches import patchify, unpatchify
from ltx_models.nn.statistics import PerChannelStatistics


class DiffusionDecoder(Module):
    """
    From latents to pixels, by denoising.

    Parameters
    ----------
    nn : Backend
        The framework.
    config : DiffusionDecoderConfig
        The stages and channels.
    """

    def __init__(self, nn: Any, config: DiffusionDecoderConfig) -> None:
        super().__init__()
        self.config = config
        patch = config.out_channels * config.patch_size**2
        first = config.stages[0].channels
        self.per_channel_statistics = PerChannelStatistics(nn, config.latent_channels)
        self.conv_in = nn.Linear(config.latent_channels, first)
        self.det_stages = nn.ModuleList(
            [
                nn.ModuleList([Block(nn, stage.channels, config.head_dim, stage.kernel) for _ in range(stage.depth)])
                for stage in config.stages
            ]
        )
        self.upsamples = nn.ModuleList(
            [Upsample(nn, stage.channels, stage.reduction, stage.stride) for stage in config.stages]
        )
        self.conv_in_x_t = nn.Linear(patch, config.channels)
        self.t_embedder = TimestepEmbedder(nn, config.embedding)
        self.shared_adaln = SharedModulation(nn, config.embedding, config.channels)
        self.diff_blocks = nn.ModuleList(
            [
                DenoisingBlock(nn, config.channels, config.context_channels, config.head_dim, config.kernel)
                for _ in range(config.depth)
            ]
        )
        self.norm_out = nn.RMSNorm(config.channels, eps=1e-6)
        self.conv_out = nn.Linear(config.channels, patch)

    def forward(self, latent: Array, *, noise: Sequence[Array] | None = None) -> Array:
        """
        Decode a whole clip.

        Parameters
        ----------
        latent : array, shape (B, 128, f, h, w)
            Normalised latents.
        noise : sequence of one array, shape (B, 3, F, H, W), optional
            Standard normal noise of the size that `noise_shape` gives; drawn by the framework where absent.

        Returns
        -------
        array, shape (B, 3, 1 + 8 (f - 1), 32 h, 32 w)
            Pixels, about [-1, 1], not clamped, in the dtype of the weights.

        Raises
        ------
        ValueError
            If the shape of the latents or of the noise does not fit.
        """
        blocks = [part for _, part in self.decode_tiles(latent, noise, (1, 1, 1))]
        return blocks[0]

    def noise_shape(self, shape: Sequence[int]) -> tuple[int, int, int, int, int]:
        """
        Give the shape of the noise for latents of a shape.

        Parameters
        ----------
        shape : sequence of int
            (B, 128, f, h, w).

        Returns
        -------
        tuple of int
            (B, 3, F, H, W): that of the video, or larger where latents are padded up to what attention needs.
        """
        batch, _, *size = (int(n) for n in shape)
        return (batch, self.config.out_channels, *Sizes(self.config, (size[0], size[1], size[2])).video)

    def decode_tiles(
        self, latent: Array, noise: Sequence[Array] | None, counts: Sequence[int]
    ) -> Iterator[tuple[int, Array]]:
        """
        Decode in tiles that equal the whole: with the whole reach around each, cropped, from one noise field.

        Parameters
        ----------
        latent : array, shape (B, 128, f, h, w)
            Normalised latents.
        noise : sequence of one array, or None
            As `forward` takes it.
        counts : (int, int, int)
            Tiles along time, height and width.

        Yields
        ------
        start : int
            The first frame of the block.
        frames : array, shape (B, 3, n, 32 h, 32 w)
            Finished frames, in order, each once.
        """
        nn = self.nn
        sizes = self.check(latent)
        field = self._field(latent, noise, sizes)
        cells = self.context_cells(latent, sizes)
        rows: list[Array] = []
        columns: list[Array] = []
        for tile in tiles(sizes, counts):
            columns.append(self._tile(cells, field, sizes, tile))
            nn.settle(columns[-1])
            if tile.core[2][1] == sizes.cores[2]:
                rows.append(columns[0] if len(columns) == 1 else nn.xp.concat(columns, axis=4))
                columns = []
            if not columns and tile.core[1][1] == sizes.cores[1]:
                block = rows[0] if len(rows) == 1 else nn.xp.concat(rows, axis=3)
                rows = []
                start = enlarged(sizes, 0, tile.core[0])[0]
                block = self._cropped(block, sizes, start)
                if block.shape[2]:
                    nn.settle(block)
                    yield start, block

    def check(self, latent: Array) -> Sizes:
        """Refuse latents of another number of axes or channels; give the sizes of their decode."""
        shape = tuple(int(n) for n in latent.shape)
        if len(shape) != 5 or shape[1] != self.config.latent_channels or 0 in shape:
            msg = f"latent: got shape {shape}, expected (batch, {self.config.latent_channels}, frames, height, width)"
            raise ValueError(msg)
        return Sizes(self.config, (shape[2], shape[3], shape[4]))

    def context_cells(self, latent: Array, sizes: Sizes) -> Array:
        """Run all stages but the last over the whole of the latents: (B, T, H, W, C) on the grid that tiles cut."""
        nn = self.nn
        x = nn.cast(nn.xp.permute_dims(latent, (0, 2, 3, 4, 1)), self.conv_in.weight.dtype)
        after = tuple(p - n - b for p, n, b in zip(sizes.padded, sizes.latent, sizes.before, strict=True))
        widths = [(0, 0), *zip(sizes.before, after, strict=True), (0, 0)]
        if any(pair != (0, 0) for pair in widths):
            x = nn.pad(x, widths, "replicate")
        x = self.per_channel_statistics(x, normalize=False)
        if self.config.ghosts:
            x = nn.pad(x, [(0, 0), (0, self.config.ghosts), (0, 0), (0, 0), (0, 0)], "replicate")
        x = self.conv_in(x)
        for stage, upsample in zip(self.det_stages[:-1], self.upsamples[:-1], strict=True):
            x = upsample(self._stage(stage, x))
        nn.settle(x)
        return x

    def _stage(self, blocks: Sequence[Any], x: Array) -> Array:
        for block in blocks:
            x = block(x)
            self.nn.settle(x)
        return x

    def _tile(self, cells: Array, field: Array, sizes: Sizes, tile: Tile) -> Array:
        """Decode the core of a tile: (B, 3, n, rows, columns) of pixels."""
        time, height, width = tile.box
        part = cells[:, time[0] : time[1], height[0] : height[1], width[0] : width[1], ...]
        context = self.upsamples[-1](self._stage(self.det_stages[-1], part), time[0] == 0)
        frames, rows, columns = (enlarged(sizes, axis, tile.box[axis]) for axis in range(3))
        context = context[:, : frames[1] - frames[0], ...]
        patch = self.config.patch_size
        noise = field[
            :, :, frames[0] : frames[1], rows[0] * patch : rows[1] * patch, columns[0] * patch : columns[1] * patch
        ]
        pixels = self._denoise(noise, context)
        inner = [slice(None), slice(None)]
        for axis, box in enumerate((frames, rows, columns)):
            core, factor = enlarged(sizes, axis, tile.core[axis]), 1 if axis == 0 else patch
            inner.append(slice((core[0] - box[0]) * factor, (core[1] - box[0]) * factor))
        return pixels[tuple(inner)]

    def _denoise(self, noise: Array, context: Array) -> Array:
        """Denoise pixels (B, 3, n, rows, columns) of a box of the noise field."""
        nn, config = self.nn, self.config
        dtype = context.dtype
        x = patchify(nn.xp, nn.cast(noise, nn.float32), config.patch_size)
        for step in range(config.steps):
            now, after = 1 - step / config.steps, 1 - (step + 1) / config.steps
            out = nn.cast(self._predict(nn.cast(x, dtype), context, now), nn.float32)
            if config.prediction == "v":
                x = x - (now - after) * out
            else:
                x = out if step == config.steps - 1 else x - (now - after) * (x - out) / now
        return nn.cast(unpatchify(nn.xp, x, config.patch_size), dtype)

    def _predict(self, x: Array, context: Array, timestep: float) -> Array:
        nn = self.nn
        modulation = self.shared_adaln(self.t_embedder(timestep * self.config.timestep_scale))
        x = self.conv_in_x_t(x)
        for block in self.diff_blocks:
            x = block(x, context, modulation)
            nn.settle(x)
        return self.conv_out(self.norm_out(x))

    def _field(self, latent: Array, noise: Sequence[Array] | None, sizes: Sizes) -> Array:
        """Check or draw the noise, and repeat its last frame where the context has more frames than the video."""
        nn, shape = self.nn, self.noise_shape(latent.shape)
        if noise is None:
            field = nn.randn(shape, like=latent)
        else:
            shapes = [tuple(int(n) for n in draw.shape) for draw in noise]
            if shapes != [shape]:
                got = ", ".join(map(str, shapes)) or "none"
                msg = f"noise: got {len(shapes)} arrays of shapes {got}, expected one of shape {shape}"
                raise ValueError(msg)
            field = noise[0]
        missing = sizes.kept - sizes.frames
        return nn.pad(field, [(0, 0), (0, 0), (0, missing), (0, 0), (0, 0)], "replicate") if missing else field

    def _cropped(self, block: Array, sizes: Sizes, start: int) -> Array:
        """Cut finished frames, of which `start` is the first, to those of the latents as given."""
        (_, above, left), (frames, height, width) = sizes.before, sizes.result
        top, first = above * self.config.scale[1], left * self.config.scale[2]
        return block[:, :, : max(0, frames - start), top : top + height, first : first + width]
