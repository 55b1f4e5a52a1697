"""The configuration of a diffusion video decoder, as checkpoints of LTX-2.5 embed it under ``vae``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Any, Literal

from ltx_models.video_vae.config import Triple, scale_of

Prediction = Literal["x0", "v"]
GATE_ROWS = 7  # rows of modulation in a block: scale, shift and gate of attention and of the MLP, gate of the context


@dataclass(frozen=True, slots=True)
class Stage:
    """
    A run of blocks at one resolution, and the step to the next.

    Attributes
    ----------
    channels : int
        Channels of the blocks.
    depth : int
        Number of blocks.
    kernel : (int, int, int)
        Frames, rows and columns that a cell attends to.
    stride : (int, int, int)
        Cells of time, height and width that one cell becomes after the blocks.
    reduction : int
        Channels after that step: as many as before, divided by this.
    """

    channels: int
    depth: int
    kernel: Triple
    stride: Triple
    reduction: int


@dataclass(frozen=True, slots=True)
class DiffusionDecoderConfig:
    """
    What the loader reads of ``config["vae"]``.

    Attributes
    ----------
    stages : tuple of Stage
        The deterministic part, which makes a context of the latents.
    channels, depth, kernel
        The blocks that denoise pixels: channels, number, and the cells that a cell attends to.
    head_dim : int
        Channels of an attention head, everywhere.
    embedding : int
        Channels of the embedded timestep.
    latent_channels, out_channels : int
        Channels of latents and of pixels.
    patch_size : int
        Side of the pixel squares that become channels.
    steps : int
        Denoising steps.
    timestep_scale : float
        What a timestep in [0, 1] is multiplied by.
    prediction : {"x0", "v"}
        Whether the network says the clean pixels or the velocity.
    """

    stages: tuple[Stage, ...]
    channels: int
    depth: int
    kernel: Triple
    head_dim: int = 64
    embedding: int = 384
    latent_channels: int = 128
    out_channels: int = 3
    patch_size: int = 4
    steps: int = 2
    timestep_scale: float = 1.0
    prediction: Prediction = "v"

    @property
    def decoder_scale(self) -> Triple:
        """Frames, rows and columns of pixels to a latent cell."""
        return scale_of([stage.stride for stage in self.stages], self.patch_size)

    @property
    def context_channels(self) -> int:
        """Channels of the context that the denoising blocks read."""
        last = self.stages[-1]
        return last.channels // last.reduction

    @property
    def ghosts(self) -> int:
        """Copies of the last latent frame that are appended while the context is made."""
        return self.stages[0].kernel[0] // 2 * 2

    @property
    def least_latent(self) -> Triple:
        """The smallest latent in whose every stage a cell can attend to its full kernel; smaller ones are padded."""
        strides, least = [1, 1, 1], [1, 1, 1]
        for kernel, stride in (*((stage.kernel, stage.stride) for stage in self.stages), (self.kernel, (1, 1, 1))):
            for axis in range(3):
                least[axis] = max(least[axis], ceil(kernel[axis] / strides[axis]))
                strides[axis] *= stride[axis]
        return least[0], least[1], least[2]

    @classmethod
    def read(cls, section: Mapping[str, Any]) -> DiffusionDecoderConfig:
        """
        Read the section ``vae`` of an embedded configuration.

        Parameters
        ----------
        section : mapping
            ``config["vae"]``.

        Returns
        -------
        DiffusionDecoderConfig
            Keys that the official code reads; others are ignored.

        Raises
        ------
        ValueError
            If a part of the ladder of stages is missing or does not fit the others.

        Notes
        -----
        Source: the published configuration of LTX-2.5 and the configurator of Lightricks/LTX-2.
        """
        decoder = section.get("decoder")
        if not isinstance(decoder, Mapping):
            msg = "vae.decoder: missing; the checkpoint's config does not describe a diffusion decoder, pass config="
            raise ValueError(msg)
        ladder = _ladder(decoder)
        stages, (channels, depth, kernel) = ladder[:-1], (ladder[-1].channels, ladder[-1].depth, ladder[-1].kernel)
        prediction = section.get("model_output_type", "v")
        if prediction not in {"x0", "v"}:
            msg = f"vae.model_output_type: got {prediction!r}, allowed are 'x0' and 'v'"
            raise ValueError(msg)
        embedding = decoder.get("t_emb_dim", 384)
        return cls(
            stages=stages,
            channels=int(decoder.get("stage5_channels") or channels),
            depth=depth,
            kernel=_triple("stage5_kernel", decoder.get("stage5_kernel", kernel)),
            head_dim=int(decoder.get("head_dim", decoder.get("na_head_dim", 64))),
            embedding=int(embedding[0] if isinstance(embedding, Sequence) else embedding),
            latent_channels=int(section.get("latent_channels", decoder.get("in_channels", 128))),
            out_channels=int(decoder.get("out_channels", 3)),
            patch_size=int(decoder.get("patch_size", 4)),
            steps=int(decoder.get("default_num_inference_steps", 2)),
            timestep_scale=float(decoder.get("timestep_scale_multiplier", 1.0)),
            prediction=prediction,
        )


def _ladder(decoder: Mapping[str, Any]) -> tuple[Stage, ...]:
    """Read the stages; the last of them is that of the denoising blocks, without a step to a next."""
    keys = ("stage_channels", "stage_depths", "stage_kernels", "upsamples")
    missing = [key for key in keys if not decoder.get(key)]
    if missing:
        msg = f"vae.decoder: {', '.join(missing)} missing; pass config="
        raise ValueError(msg)
    channels, depths, kernels, upsamples = (list(decoder[key]) for key in keys)
    if not len(channels) == len(depths) == len(kernels) == len(upsamples) + 1:
        counts = ", ".join(f"{len(decoder[key])} {key}" for key in keys)
        msg = f"vae.decoder: got {counts}; expected as many channels, depths and kernels, and one upsample less"
        raise ValueError(msg)
    rows = zip(channels, depths, kernels, (*upsamples, ((1, 1, 1), 1)), strict=True)
    stages = tuple(
        Stage(int(width), int(depth), _triple("stage_kernels", kernel), _triple("upsamples", stride), int(reduction))
        for width, depth, kernel, (stride, reduction) in rows
    )
    for before, after in pairwise(stages[:-1]):
        if before.channels // before.reduction != after.channels:
            msg = (
                f"vae.decoder.stage_channels: a stage of {before.channels} channels reduced by {before.reduction} is "
                f"followed by one of {after.channels}, expected {before.channels // before.reduction}"
            )
            raise ValueError(msg)
    return stages


def _triple(key: str, value: Any) -> Triple:
    numbers = tuple(value) if isinstance(value, Sequence) else ()
    if len(numbers) != 3 or any(not isinstance(n, int) or n < 1 for n in numbers):
        msg = f"vae.decoder.{key}: got {value!r}, expected three positive integers (time, height, width)"
        raise ValueError(msg)
    return numbers[0], numbers[1], numbers[2]


LTX2_5 = DiffusionDecoderConfig(
    stages=(
        Stage(2048, 4, (3, 7, 7), (1, 2, 2), 2),
        Stage(1024, 6, (3, 7, 7), (2, 1, 1), 2),
        Stage(512, 4, (3, 5, 5), (2, 2, 2), 1),
        Stage(512, 2, (3, 5, 5), (2, 2, 2), 2),
    ),
    channels=256,
    depth=8,
    kernel=(11, 11, 11),
    steps=1,
    timestep_scale=1000.0,
    prediction="x0",
)
"""The diffusion decoder of LTX-2.5."""
