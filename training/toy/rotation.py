"""
Turning latents so that their first channels carry the most.

A transformer must hand on the noise of every channel that matters beside what it makes of it, and the toy's is no wider
than latents have channels. What the autoencoders need of theirs lies in few directions: turned onto the first
channels, the others hardly vary, and what is left of noise there does nothing. The turn is one matrix, which goes into
the last convolution of the encoder and the first of the decoder, and changes no picture.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def turn(autoencoder: Any, cells: Tensor) -> None:
    """
    Turn the latents of an autoencoder in place.

    Parameters
    ----------
    autoencoder : torch.nn.Module
        With ``encoder.conv_out`` and ``decoder.conv_in``.
    cells : Tensor
        Latents to measure, shape (N, C).
    """
    _, directions = torch.linalg.eigh(torch.cov(cells.double().T))
    matrix = directions.flip(1).T.to(cells.dtype)  # rows, the strongest first
    channels = len(matrix)
    last, first = autoencoder.encoder.conv_out.conv, autoencoder.decoder.conv_in.conv
    last.weight[:channels] = torch.tensordot(matrix, last.weight[:channels], dims=1)
    last.bias[:channels] = matrix @ last.bias[:channels]
    first.weight.copy_(torch.tensordot(matrix, first.weight, dims=([1], [1])).transpose(0, 1))


def importance(spread: Tensor) -> Tensor:
    """Weigh channels for a loss over normalised latents: 1 where the spread is large, its square where it is small."""
    usual = spread.square().mean().sqrt()
    return (spread / usual).square().clamp(max=1.0)
