"""What a transformer is given: a stream's tokens with their noise levels, positions and text, and perturbations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ltx_models.nn import Array, Backend
from ltx_models.transformer.attention import PerturbationMask
from ltx_models.transformer.config import StreamConfig

SKIP_VIDEO_SELF = "SKIP_VIDEO_SELF_ATTN"
SKIP_AUDIO_SELF = "SKIP_AUDIO_SELF_ATTN"
SKIP_AUDIO_TO_VIDEO = "SKIP_A2V_CROSS_ATTN"
SKIP_VIDEO_TO_AUDIO = "SKIP_V2A_CROSS_ATTN"
PERTURBATIONS = (SKIP_VIDEO_SELF, SKIP_AUDIO_SELF, SKIP_AUDIO_TO_VIDEO, SKIP_VIDEO_TO_AUDIO)

Perturbations = Sequence[Sequence[Sequence[Any]]]


@dataclass(frozen=True, slots=True)
class Modality:
    """
    One stream's input.

    Parameters
    ----------
    latent : array, shape (B, T, C)
        Noisy tokens: latent cells (frame, row, column) of video, latent frames of audio.
    sigma : array, shape (B,)
        The noise level of the step, in [0, 1]; 0 for a stream that only conditions the other.
    timesteps : Timesteps or array, shape (B,), (B, 1), (B, T) or (B, T, 1)
        The noise level of each token: `sigma` times the denoise mask. A NumPy array, or a `Timesteps`, saves waiting
        for the device while equal levels are looked for.
    positions : array, shape (B, 3, T, 2) or (B, 1, T, 2)
        The interval [start, end) of each token: seconds, and for video also rows and columns in pixels. A NumPy array
        saves waiting for the device. The first axis may be 1.
    context : array, shape (B, S, C_text)
        The text encoding.
    context_mask : array, optional
        Integers or booleans of shape (B, S): nonzero for what may be attended to; or floats of shape (B, S) or
        (B, 1, 1 or T, S) that are added to the scores.
    attention_mask : array, shape (B, T, T), optional
        How much each token attends to each other, from 0 (not at all) to 1; floats or booleans.
    enabled : bool
        A stream that is not enabled is attended to but not updated.
    keyframes_mask : array, shape (B, T, 1), optional
        Positive for the tokens of the first latent frame and of generated keyframes, which a transformer of 2.5 marks;
        others do not look at it.
    """

    latent: Array
    sigma: Array
    timesteps: Any
    positions: Any
    context: Array
    context_mask: Array | None = None
    attention_mask: Array | None = None
    enabled: bool = True
    keyframes_mask: Any = None


def check_modality(name: str, modality: Modality, config: StreamConfig) -> None:
    """Refuse shapes that do not belong together, saying which."""
    if modality.latent.ndim != 3 or modality.latent.shape[-1] != config.in_channels:
        msg = f"{name}.latent: got shape {tuple(modality.latent.shape)}, expected (B, T, {config.in_channels})"
        raise ValueError(msg)
    batch, tokens, _ = modality.latent.shape
    axes = len(config.max_pos)
    for field, shapes in {
        "sigma": ((batch,),),
        "positions": ((batch, axes, tokens, 2), (1, axes, tokens, 2)),
    }.items():
        got = tuple(getattr(modality, field).shape)
        if got not in shapes:
            msg = f"{name}.{field}: got shape {got}, expected {shapes[0]} to go with {tokens} tokens of {batch} samples"
            raise ValueError(msg)
    mask = modality.keyframes_mask
    if mask is not None and tuple(mask.shape) not in {(batch, tokens, 1), (1, tokens, 1)}:
        msg = f"{name}.keyframes_mask: got shape {tuple(mask.shape)}, expected {(batch, tokens, 1)}"
        raise ValueError(msg)
    context = tuple(modality.context.shape)
    if len(context) != 3 or context[0] != batch or context[2] != config.text_channels:
        msg = f"{name}.context: got shape {context}, expected ({batch}, S, {config.text_channels})"
        raise ValueError(msg)


def text_bias(nn: Backend, name: str, modality: Modality, dtype: Any) -> Array | None:
    """Turn a context mask into what is added to scores, broadcastable to (B, heads, T, S)."""
    mask = modality.context_mask
    if mask is None:
        return None
    batch, tokens, _ = modality.latent.shape
    length = modality.context.shape[1]
    floats = nn.xp.isdtype(mask.dtype, "real floating")
    shapes = {(batch, length)} | ({(batch, 1, 1, length), (batch, 1, tokens, length)} if floats else set())
    if tuple(mask.shape) not in shapes:
        kind = "floats" if floats else "integers"
        msg = f"{name}.context_mask: got {kind} of shape {tuple(mask.shape)}, allowed is ({batch}, {length})" + (
            f" or ({batch}, 1, 1, {length})" if floats else "; additive masks of other shapes are floats"
        )
        raise ValueError(msg)
    if not floats:
        # what is masked gets the lowest finite score
        mask = nn.xp.where(mask != 0, 0.0, -nn.xp.finfo(dtype).max)
    mask = nn.cast(mask, dtype)
    return mask if mask.ndim == 4 else mask[:, None, None, :]


def self_bias(nn: Backend, name: str, modality: Modality, dtype: Any) -> Array | None:
    """Turn an attention mask into what is added to scores, shape (B, 1, T, T): its logarithm."""
    mask = modality.attention_mask
    if mask is None:
        return None
    batch, tokens, _ = modality.latent.shape
    if tuple(mask.shape) not in {(batch, tokens, tokens), (1, tokens, tokens)}:
        msg = f"{name}.attention_mask: got shape {tuple(mask.shape)}, expected ({batch}, {tokens}, {tokens})"
        raise ValueError(msg)
    if not nn.xp.isdtype(mask.dtype, ("real floating", "bool")):
        msg = f"{name}.attention_mask: got {mask.dtype}, expected floats in [0, 1] or booleans"
        raise ValueError(msg)
    mask = nn.cast(mask, nn.float32)
    info = nn.xp.finfo(dtype)
    tiny = float(nn.xp.finfo(nn.float32).smallest_normal)
    bias = nn.xp.where(mask > 0, nn.xp.log(nn.xp.where(mask > tiny, mask, tiny)), float(info.min))
    return nn.cast(bias, dtype)[:, None]


class PerturbationMasks:
    """
    Which operations are left out, for which samples, in which blocks.

    Parameters
    ----------
    perturbations : sequence of sequence of pair, or None
        For each sample, pairs of a name in `PERTURBATIONS` and a sequence of block numbers, or None for all blocks.
    batch, layers : int
        Samples, and blocks.

    Raises
    ------
    ValueError
        If a name is unknown, a block does not exist or the number of samples is another.
    """

    def __init__(self, perturbations: Perturbations | None, batch: int, layers: int) -> None:
        self._kept: dict[str, np.ndarray[Any, Any]] = {}
        self._arrays: dict[bytes, Array] = {}
        if perturbations is None:
            return
        if len(perturbations) != batch:
            msg = (
                f"perturbations: got {len(perturbations)} lists for {batch} samples; give one a sample, empty for none"
            )
            raise ValueError(msg)
        for sample, pairs in enumerate(perturbations):
            for name, blocks in pairs:
                self._skip(sample, name, blocks, batch, layers)

    def _skip(self, sample: int, name: str, blocks: Sequence[int] | None, batch: int, layers: int) -> None:
        if name not in PERTURBATIONS:
            msg = f"perturbations: got {name!r} for sample {sample}, allowed are {', '.join(map(repr, PERTURBATIONS))}"
            raise ValueError(msg)
        blocks = range(layers) if blocks is None else blocks
        if wrong := [block for block in blocks if block not in range(layers)]:
            msg = f"perturbations: {name} names block {wrong[0]}, but blocks are 0 to {layers - 1}"
            raise ValueError(msg)
        kept = self._kept.setdefault(name, np.ones((layers, batch), dtype=np.float32))
        kept[list(blocks), sample] = 0

    def keep(self, nn: Backend, name: str, block: int, like: Array) -> PerturbationMask:
        """Say whether an operation is done in a block: for all samples, for none, or (B, 1, 1) ones and zeros."""
        if name not in self._kept:
            return True
        row = self._kept[name][block]
        if row.all() or not row.any():
            return bool(row.all())
        key = row.tobytes()
        if key not in self._arrays:
            self._arrays[key] = nn.asarray(row[:, None, None], like)
        return self._arrays[key]
