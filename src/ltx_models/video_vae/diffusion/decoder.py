"""
The diffusion video decoder of LTX-2.5: latents to a context, then noise to pixels that the context guides.

Four stages of neighbourhood attention turn the latents into a context of one cell for 4x4 pixels, and some blocks
denoise pixels with it. The network is the plain one: one noise field, one pass over the whole width. The default mode
of the official tools computes the denoising blocks in four slabs of the width, whose borders differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ltx_models.nn import Array, Module
from ltx_models.nn.border import guarded, one_of_a_patch
from ltx_models.nn.patches import patchify, unpatchify
from ltx_models.nn.statistics import PerChannelStatistics
from ltx_models.video_vae.diffusion.config import DiffusionDecoderConfig
from ltx_models.video_vae.diffusion.exact import DiffusionPlan
from ltx_models.video_vae.diffusion.field import Field
from ltx_models.video_vae.diffusion.geometry import Sizes
from ltx_models.video_vae.diffusion.layers import Block, DenoisingBlock, SharedModulation, TimestepEmbedder, Upsample
from ltx_models.video_vae.diffusion.sweep import TIME, Piece, attended, cut, each, size, upsampled


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

    @guarded("decode_exact with memory_bytes makes it in pieces that are right", one_of_a_patch)
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
        return next(iter(self.sweep(latent, noise)))[1]

    def stream(
        self, latent: Array, *, noise: Sequence[Array] | None = None, plan: DiffusionPlan | None = None
    ) -> Iterator[tuple[int, Array]]:
        """
        Decode as a stream: finished frames in order, equal to the whole, in memory that does not grow with the clip.

        Parameters
        ----------
        latent : array, shape (B, 128, f, h, w)
            Normalised latents.
        noise : sequence of one array, optional
            As `forward` takes it; where absent, the framework draws each piece when it is needed.
        plan : DiffusionPlan, optional
            How to decode, as `plan_exact` chooses it for a budget; by default a latent frame at a time. Plans along the
            height or the width give all frames at the end, since none is finished before.

        Yields
        ------
        start : int
            The first frame of the block.
        frames : array, shape (B, 3, n, 32 h, 32 w)
            Finished frames, each once.

        Raises
        ------
        ValueError
            If the shape of the latents or of the noise does not fit, or the plan is for other latents: before any work.
        """
        sizes = self.check(latent)
        if plan is None:
            return self.sweep(latent, noise, axis=TIME, most=self.config.decoder_scale[0])
        if tuple(latent.shape) != plan.shape:
            msg = f"plan: is for latents of shape {plan.shape}, got {tuple(latent.shape)}; make one for this shape"
            raise ValueError(msg)
        blocks = self.sweep(latent, noise, axis=plan.axis, most=plan.most)
        return blocks if plan.axis == TIME else self._at_the_end(blocks, sizes, plan.axis)

    def _at_the_end(self, blocks: Iterator[tuple[int, Array]], sizes: Sizes, axis: int) -> Iterator[tuple[int, Array]]:
        """Put together blocks that are rows or columns: frames are finished only when all are there."""
        nn = self.nn
        result: Array = None
        for start, block in blocks:
            if result is None:
                result = nn.on_device(nn.xp.zeros((*block.shape[:2], *sizes.result), dtype=block.dtype), block)
            result[(*(slice(None),) * (2 + axis), slice(start, start + block.shape[2 + axis]), ...)] = block
            nn.synchronize(result)
            del block
        yield 0, result

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

    def sweep(
        self, latent: Array, noise: Sequence[Array] | None = None, *, axis: int = 0, most: int | None = None
    ) -> Iterator[tuple[int, Array]]:
        """
        Decode in pieces along one axis: equal to the whole, and nothing is computed twice.

        Parameters
        ----------
        latent : array, shape (B, 128, f, h, w)
            Normalised latents.
        noise : sequence of one array, optional
            As `forward` takes it.
        axis : {0, 1, 2}
            Along which pieces follow one another: time, height or width.
        most : int, optional
            The most cells of the denoising blocks, frames or 4 rows or columns of pixels, that a piece has. All of them
            where absent.

        Yields
        ------
        start : int
            The first frame, row or column of pixels of the block.
        pixels : array, shape (B, 3, F, H, W)
            A finished block, which is a part of the video along that axis; in order, each pixel once.

        Raises
        ------
        ValueError
            If the shape of the latents or of the noise does not fit.
        """
        sizes = self.check(latent)
        most = sizes.patches[axis] if most is None else most
        pieces = self._context(latent, sizes, axis, most)
        pieces = self._denoised(pieces, self._field(latent, noise, sizes), sizes, axis, most)
        return self._pixels(pieces, sizes, axis)

    def check(self, latent: Array) -> Sizes:
        """Refuse latents of another number of axes or channels; give the sizes of their decode."""
        shape = tuple(int(n) for n in latent.shape)
        if len(shape) != 5 or shape[1] != self.config.latent_channels or 0 in shape:
            msg = f"latent: got shape {shape}, expected (batch, {self.config.latent_channels}, frames, height, width)"
            raise ValueError(msg)
        return Sizes(self.config, (shape[2], shape[3], shape[4]))

    def _context(self, latent: Array, sizes: Sizes, axis: int, most: int) -> Iterator[Piece]:
        """Run the deterministic stages: pieces of the context."""
        nn = self.nn
        pieces = each(
            cut(nn, iter([Piece(0, (self._entered(latent, sizes),))]), axis, sizes.most(0, axis, most)),
            lambda piece: (self.conv_in(piece.arrays[0]),),
        )
        for index, (blocks, upsample) in enumerate(zip(self.det_stages, self.upsamples, strict=True)):
            cells, count = sizes.grid(index), sizes.most(index, axis, most)
            pieces = cut(nn, pieces, axis, count)
            for block in blocks:
                pieces = attended(nn, pieces, block, axis, cells, count)
            pieces = upsampled(nn, pieces, upsample, axis)
        return cut(nn, self._without_ghosts(pieces, sizes, axis), axis, most)

    def _entered(self, latent: Array, sizes: Sizes) -> Array:
        """Pad latents, undo their normalisation, and append the ghost frames: (B, T, H, W, C)."""
        nn = self.nn
        x = nn.cast(nn.xp.permute_dims(latent, (0, 2, 3, 4, 1)), self.conv_in.weight.dtype)
        after = (p - n - b for p, n, b in zip(sizes.padded, sizes.latent, sizes.before, strict=True))
        widths = [(0, 0), *zip(sizes.before, after, strict=True), (0, 0)]
        widths[1] = (0, widths[1][1] + self.config.ghosts)
        x = self.per_channel_statistics(x, normalize=False)
        return nn.pad(x, widths, "replicate") if any(pair != (0, 0) for pair in widths) else x

    def _without_ghosts(self, pieces: Iterator[Piece], sizes: Sizes, axis: int) -> Iterator[Piece]:
        """Let the frames go that the ghost frames became, as far as attention does not need them."""
        for piece in pieces:
            stop = sizes.kept - (piece.start if axis == TIME else 0)
            context = [piece.arrays[0][:, : max(0, stop), ...]]
            start = piece.start
            del piece
            if context[0].shape[1]:
                yield Piece(start, (context.pop(),))

    def _denoised(self, pieces: Iterator[Piece], field: Field, sizes: Sizes, axis: int, most: int) -> Iterator[Piece]:
        """Denoise patches of pixels in all steps: pieces of patches."""
        nn, config = self.nn, self.config
        factor = 1 if axis == TIME else config.patch_size

        def noisy(piece: Piece) -> tuple[Array, ...]:
            cells = piece.start, piece.start + size(axis, piece)
            noise = nn.cast(field.part(axis, cells[0] * factor, cells[1] * factor), nn.float32)
            return piece.arrays[0], patchify(nn.xp, noise, config.patch_size)

        pieces = each(pieces, noisy)
        for step in range(config.steps):
            pieces = self._step(pieces, sizes, axis, most, step)
        return pieces

    def _step(self, pieces: Iterator[Piece], sizes: Sizes, axis: int, most: int, step: int) -> Iterator[Piece]:
        """Denoise in one step: pieces of (context, patches) become such."""
        nn, config = self.nn, self.config
        now, after = 1 - step / config.steps, 1 - (step + 1) / config.steps
        modulation = self.shared_adaln(self.t_embedder(now * config.timestep_scale))
        dtype = modulation.dtype

        def leave(piece: Piece) -> tuple[Array, ...]:
            y, context, x = piece.arrays
            out = nn.cast(self.conv_out(self.norm_out(y)), nn.float32)
            if config.prediction == "v":
                return context, x - (now - after) * out
            return context, out if step == config.steps - 1 else x - (now - after) * (x - out) / now

        pieces = each(pieces, lambda piece: (self.conv_in_x_t(nn.cast(piece.arrays[1], dtype)), *piece.arrays))
        for block in self.diff_blocks:
            rows = modulation + block.scale_shift_table
            pieces = attended(nn, pieces, block, axis, sizes.patches, most, rows)
        return each(pieces, leave)

    def _field(self, latent: Array, noise: Sequence[Array] | None, sizes: Sizes) -> Field:
        """Check the noise; the context may have more frames than the video."""
        shape = self.noise_shape(latent.shape)
        if noise is None:
            return Field(self.nn, shape, sizes.kept, latent)
        shapes = [tuple(int(n) for n in draw.shape) for draw in noise]
        if shapes != [shape]:
            got = ", ".join(map(str, shapes)) or "none"
            msg = f"noise: got {len(shapes)} arrays of shapes {got}, expected one of shape {shape}"
            raise ValueError(msg)
        return Field(self.nn, shape, sizes.kept, latent, noise[0])

    def _pixels(self, pieces: Iterator[Piece], sizes: Sizes, axis: int) -> Iterator[tuple[int, Array]]:
        """Make pixels of patches, and cut them to the latents as given."""
        nn, patch = self.nn, self.config.patch_size
        offsets = tuple(before * scale for before, scale in zip(sizes.before, self.config.decoder_scale, strict=True))
        for piece in pieces:
            start = piece.start * (1 if axis == TIME else patch)
            pixels = nn.cast(unpatchify(nn.xp, piece.arrays[1], patch), piece.arrays[0].dtype)
            region = [slice(None), slice(None)]
            for other in range(3):
                low, high = offsets[other], offsets[other] + sizes.result[other]
                shift = start if other == axis else 0
                region.append(slice(max(0, low - shift), max(0, high - shift)))
            pixels = pixels[tuple(region)]
            if pixels.shape[2 + axis]:
                nn.synchronize(pixels)
                yield max(0, start - offsets[axis]), pixels
