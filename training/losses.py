"""What a reconstruction is judged by while it is learnt."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = (1.0, 0.5, 0.5, 0.5)  # weights of full, half, quarter and eighth size
EDGES = 0.5
SMOOTH = 1e-2  # below this, an error counts by its square


def reconstruction_loss(decoded: Tensor, video: Tensor) -> Tensor:
    """
    Compare clips (B, 3, F, H, W): distances of an image pyramid, and of its differences in time, height and width.

    Returns
    -------
    tensor, shape ()
        The loss.
    """
    total = decoded.new_zeros(())
    difference = (decoded - video).float()
    for level, weight in enumerate(LEVELS):
        if level:
            difference = F.avg_pool3d(difference, (1, 2, 2))
        total = total + weight * charbonnier(difference) + weight * EDGES * edges(difference)
    return total


def charbonnier(difference: Tensor) -> Tensor:
    """Average the smooth absolute value."""
    return torch.sqrt(difference * difference + SMOOTH * SMOOTH).mean() - SMOOTH


def edges(difference: Tensor) -> Tensor:
    """Compare neighbours: pooling and differences are linear, so those of the error are those of the two clips."""
    axes = [axis for axis in (2, 3, 4) if difference.shape[axis] > 1]
    return torch.stack([charbonnier(difference.diff(dim=axis)) for axis in axes]).mean()


def psnr(decoded: Tensor, video: Tensor) -> float:
    """Give the peak signal-to-noise ratio in decibels of clips in [-1, 1] as they are shown: clamped, in 8 bits."""
    pixels = torch.round((decoded.float().clamp(-1, 1) + 1) * 127.5)
    error = (pixels - torch.round((video.float() + 1) * 127.5)).square().mean()
    return float(10 * torch.log10(255.0**2 / error))
