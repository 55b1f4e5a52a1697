"""Sizes of a diffusion decode: padding, ghost frames, and the cells of each stage; integers alone."""

from __future__ import annotations

from dataclasses import dataclass

from ltx_models.video_vae.config import Triple
from ltx_models.video_vae.diffusion.config import DiffusionDecoderConfig

SLAB_CELLS = 1 << 18  # cells whose hidden channels may be there at once


@dataclass(frozen=True, slots=True)
class Sizes:
    """
    The sizes that follow from the configuration and the size of the latents.

    Attributes
    ----------
    config : DiffusionDecoderConfig
        The network.
    latent : (int, int, int)
        Frames, rows and columns of the latents as given.
    """

    config: DiffusionDecoderConfig
    latent: Triple

    @property
    def padded(self) -> Triple:
        """Latents that every stage can attend over: smaller ones are padded by repeating their border."""
        time, height, width = (max(n, least) for n, least in zip(self.latent, self.config.least_latent, strict=True))
        return time, height, width

    @property
    def before(self) -> Triple:
        """Latents added before, along each axis: none in time, half of what is missing in space."""
        height, width = ((self.padded[axis] - self.latent[axis]) // 2 for axis in (1, 2))
        return 0, height, width

    @property
    def frames(self) -> int:
        """Frames of pixels of the padded latents."""
        return self.config.decoder_scale[0] * (self.padded[0] - 1) + 1

    @property
    def video(self) -> Triple:
        """Frames, rows and columns of pixels of the padded latents: the size of the noise."""
        return self.frames, self.padded[1] * self.config.decoder_scale[1], self.padded[2] * self.config.decoder_scale[2]

    @property
    def result(self) -> Triple:
        """Frames, rows and columns of the video."""
        time, height, width = self.config.decoder_scale
        return time * (self.latent[0] - 1) + 1, self.latent[1] * height, self.latent[2] * width

    @property
    def kept(self) -> int:
        """Frames of the context that are kept: those of the video, or more where attention needs them."""
        available = self.config.decoder_scale[0] * (self.padded[0] + self.config.ghosts - 1) + 1
        return max(self.frames, min(self.config.kernel[0], available))

    @property
    def patches(self) -> Triple:
        """Frames, rows and columns of the denoising blocks."""
        return self.kept, self.video[1] // self.config.patch_size, self.video[2] // self.config.patch_size

    def grid(self, stage: int) -> Triple:
        """Give the cells of a deterministic stage, those of the ghost frames included."""
        time, height, width = self.padded[0] + self.config.ghosts, *self.padded[1:]
        for earlier in self.config.stages[:stage]:
            p, q, r = earlier.stride
            time, height, width = grown(p, time), height * q, width * r
        return time, height, width

    def most(self, stage: int, axis: int, most: int) -> int:
        """Give the most cells of an axis that a piece has in a stage, where it has `most` in the denoising blocks."""
        return piece_of(self.grid(stage)[axis], most, self.patches[axis])


def piece_of(cells: int, most: int, patches: int) -> int:
    """Give the most of the cells of a stage that a piece has, where it has `most` of the patches."""
    return max(1, -(-most * cells // patches))


def grown(factor: int, frames: int) -> int:
    """Count the frames after a step that multiplies them, where the first stands for one."""
    return factor * (frames - 1) + 1


def slab_frames(batch: int, height: int, width: int) -> int:
    """Count the frames that an MLP transforms at once: its hidden channels take most memory."""
    return max(1, SLAB_CELLS // (batch * height * width))
