"""
Turning latents so that their first channels carry the most, and leaving out the last.

A transformer must hand on the noise of every channel that matters beside what it makes of it, and the toy's is no wider
than latents have channels. What the autoencoders need of theirs lies in few directions: turned onto the first
channels, the others can be left out, and what is left of noise there does nothing. The turn is one matrix, which goes
into the last convolution of the encoder and the first of the decoder, and by itself changes no picture.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def turn(autoencoder: Any, cells: Tensor, kept: int | None = None) -> None:
    """
    Turn the latents of an autoencoder in place.

    Parameters
    ----------
    autoencoder : torch.nn.Module
        With ``encoder.conv_out`` and ``decoder.conv_in``.
    cells : Tensor
        Latents to measure, shape (N, C).
    kept : int, optional
        How many channels go on to carry something; the others become 0, and the decoder takes their mean for granted,
        which is exact where it pads with what is there.
    """
    _, directions = torch.linalg.eigh(torch.cov(cells.double().T))
    matrix = directions.flip(1).T.to(cells.dtype)  # rows, the strongest first
    channels = len(matrix)
    last, first = autoencoder.encoder.conv_out.conv, autoencoder.decoder.conv_in.conv
    last.weight[:channels] = torch.tensordot(matrix, last.weight[:channels], dims=1)
    last.bias[:channels] = matrix @ last.bias[:channels]
    first.weight.copy_(torch.tensordot(matrix, first.weight, dims=([1], [1])).transpose(0, 1))
    if kept is not None:
        last.weight[kept:channels] = 0
        last.bias[kept:channels] = 0
        first.bias += first.weight[:, kept:].flatten(2).sum(dim=2) @ (matrix @ cells.mean(dim=0))[kept:]
        first.weight[:, kept:] = 0


def spread_of(cells: Tensor) -> Tensor:
    """Measure the spread of channels (C, N); 1 for those that carry nothing."""
    spread = cells.std(dim=1)
    return torch.where(spread > 0, spread, torch.ones_like(spread))


def importance(spread: Tensor, kept: int | None = None) -> Tensor:
    """Weigh channels for a loss over normalised latents: 1 where the spread is large, less where it is small."""
    carry = torch.arange(len(spread)) < (len(spread) if kept is None else kept)
    usual = spread[carry].square().mean().sqrt()
    return torch.where(carry, (spread / usual).clamp(max=1.0), torch.zeros_like(spread))
