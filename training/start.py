"""
A start for autoencoders that is better than chance: principal components of blocks of film, written as convolutions.

An autoencoder with new weights needs hours to become as good as the best linear one, which one matrix gives at once.
Outside its residual blocks this network is linear but for the norms at its ends, so it can be made to compute that one:
residual blocks begin as the identity, each step to another resolution as a projection onto the principal components of
blocks of that size, and a constant channel keeps the norms from changing much. Training goes on from there, with what
lies beyond a block and with what is not linear.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ltx_models.nn.patches import patchify
from ltx_models.nn.stream import Flow
from ltx_models.video_vae.layers import Context, ResBlocks, activate

LOUDER = 2.0  # an encoder's projections, beside the mean that each step adds to them
Size = tuple[int, int, int]


@torch.no_grad()
def begin(autoencoder: Any, windows: Tensor, *, ground: float = 8.0, rounding: float = 2.0**-8) -> None:
    """
    Give an autoencoder the weights of the best linear one.

    Parameters
    ----------
    autoencoder : torch.nn.Module
        With ``encoder`` and ``decoder``.
    windows : Tensor, shape (N, 3, 1 + t, h, w)
        Pieces of film in [-1, 1] of the size of two latent cells: one of a first frame, one of those after it.
    ground : float
        What is constant, in parts of what is not: the larger, the more linear.
    rounding : float
        What a number of low precision may be wrong by, in parts of itself, which no weight shall enlarge.
    """
    config = autoencoder.decoder.config
    blocks = torch.cat([windows[:, :, 1:], windows[::4, :, :1].expand(-1, -1, windows.shape[2] - 1, -1, -1)])
    middle = blocks.mean(dim=(0, 2, 3, 4))
    components, spread = _components(_flat(blocks, middle), config.latent_channels)
    usual = spread.mean().sqrt()  # latents are divided by it, so that they are about 1
    constants = ground, rounding
    _begin_decoder(autoencoder.decoder, components, spread, usual, middle, blocks, constants)
    latents = torch.stack([_flat(part, middle) @ components for part in _halves(windows)], dim=1) / usual
    _begin_encoder(autoencoder.encoder, windows, middle, latents, constants)


def _halves(windows: Tensor) -> tuple[Tensor, Tensor]:
    return windows[:, :, :1].expand(-1, -1, windows.shape[2] - 1, -1, -1), windows[:, :, 1:]


def _flat(blocks: Tensor, middle: Tensor) -> Tensor:
    """Make rows (N, t h w 3) of blocks (N, 3, t, h, w), without the middle colour."""
    return (blocks - middle[:, None, None, None]).permute(0, 2, 3, 4, 1).flatten(1)


def _components(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find the strongest directions of rows (N, D), shape (D, count), and the mean squares along them."""
    n, size = rows.shape
    if n < size:
        _, found = torch.linalg.eigh(rows @ rows.T)
        directions = rows.T @ found.flip(1)[:, :count]
        directions = torch.linalg.qr(directions).Q
    else:
        _, found = torch.linalg.eigh(rows.T @ rows)
        directions = found.flip(1)[:, :count].contiguous()
    return directions, (rows @ directions).square().mean(dim=0)


def _still(module: torch.nn.Module) -> None:
    """Let residual blocks begin as the identity."""
    for name, weight in module.named_parameters():
        if ".conv2.conv." in name:
            weight.zero_()


def _set(convolution: Any, matrix: Tensor, bias: Tensor | float, time: int = 1) -> None:
    """Let a convolution look at its own cell alone."""
    convolution.weight.zero_()
    convolution.weight[:, :, time, 1, 1] = matrix
    convolution.bias.copy_(torch.as_tensor(bias).expand(len(matrix)))


def _begin_decoder(
    decoder: Any,
    components: Tensor,
    spread: Tensor,
    usual: Tensor,
    middle: Tensor,
    blocks: Tensor,
    constants: tuple[float, float],
) -> None:
    _still(decoder)
    config, size = decoder.config, (blocks.shape[2], blocks.shape[3], blocks.shape[4])
    width = config.decoder_width
    kept = min(width - 1, components.shape[1])
    first = torch.zeros(width, config.latent_channels)
    constant = constants[0] * config.decoder_base_channels**0.5
    ground = torch.zeros(width)
    ground[-1] = constant
    basis, moments = components[:, :kept], torch.diag(spread[:kept])
    # each channel is about 1 on the average
    first[range(kept), range(kept)] = usual / moments.diagonal().mean().sqrt()
    _set(decoder.conv_in.conv, first, ground)
    for block, module in zip(config.decoder_blocks, decoder.up_blocks, strict=True):
        if block.name != "res_x":
            basis, moments, size = _begin_step(module, block, basis, moments, size, width)
            width //= block.multiplier
    # rows (t h w c) here, (c w h) in the network
    basis = basis.reshape(config.patch_size, config.patch_size, 3, -1).permute(2, 1, 0, 3).flatten(0, 2)
    patches = _some(patchify(decoder.nn.xp, blocks, config.patch_size).flatten(0, 3))
    stream = torch.zeros(len(patches), width)
    stream[:, : basis.shape[1]] = (patches - _tiled(middle, config.patch_size)) @ basis
    stream /= moments.diagonal().mean().sqrt()
    stream[:, -1] = constant
    _set(decoder.conv_out.conv, *_regress(activate(decoder.nn, stream), patches, constants[1]))


def _begin_step(
    module: Any, block: Any, basis: Tensor, moments: Tensor, size: Size, width: int
) -> tuple[Tensor, Tensor, Size]:
    """Project each part of a block, of the next size, onto the strongest directions of such parts."""
    parts = prod(block.stride)
    narrow = width // block.multiplier
    smaller: Any = tuple(n // s for n, s in zip(size, block.stride, strict=True))
    # (parts, D / parts, width)
    cut = basis.reshape(block.stride[0], smaller[0], block.stride[1], smaller[1], block.stride[2], smaller[2], 3, -1)
    cut = cut.permute(0, 2, 4, 1, 3, 5, 6, 7).reshape(parts, len(basis) // parts, -1)
    covariance = torch.einsum("pij,jk,plk->il", cut, moments, cut)
    directions = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, : min(narrow - 1, len(covariance))]
    steps = torch.einsum("dk,pdj->kpj", directions, cut)
    matrix = torch.zeros(narrow, parts, width)
    after = directions.T @ covariance @ directions / parts
    louder = (moments.diagonal().mean() / after.diagonal().mean()).sqrt()
    matrix[: steps.shape[0], :, : steps.shape[2]] = steps * louder
    matrix[-1, :, -1] = 1
    if block.residual:
        for channel in range(narrow):
            for part in range(parts):
                matrix[channel, part, channel % (width // parts) * parts + part] -= 1
    _set(module.conv.conv, matrix.flatten(0, 1), 0.0)
    return directions, after, smaller


def _begin_encoder(
    encoder: Any, windows: Tensor, middle: Tensor, latents: Tensor, constants: tuple[float, float]
) -> None:
    _still(encoder)
    config, context = encoder.config, Context(causal=True)
    x = patchify(encoder.nn.xp, windows, config.patch_size)
    patches = _some(x.flatten(0, 3)) - _tiled(middle, config.patch_size)
    width = config.encoder_base_channels
    directions, spread = _components(patches, width - 1)
    matrix = torch.zeros(width, patches.shape[1])
    matrix[: directions.shape[1]] = directions.T / spread.mean().sqrt()
    bias = -matrix @ _tiled(middle, config.patch_size)
    bias[-1] = 1
    _set(encoder.conv_in.conv, matrix, bias, time=2)
    for unit in [encoder.conv_in, *(block for block in encoder.down_blocks if not isinstance(block, ResBlocks))]:
        if unit is not encoder.conv_in:
            cells = _some(x.flatten(0, 3))
            centred = cells - cells.mean(dim=0)
            directions, spread = _components(centred, unit.conv.conv.weight.shape[0])
            matrix = LOUDER * directions.T / spread.mean().sqrt()
            _set(unit.conv.conv, matrix, -matrix @ cells.mean(dim=0), time=2)
        x = torch.cat([unit(part, Flow(encoder.nn, context=context)) for part in x.split(256)])
    _brighten(unit, x, constants[0])
    matrix, bias = _regress(activate(encoder.nn, x).flatten(0, 3), latents.flatten(0, 1), constants[1])
    spare = config.latent_channels + 1 - len(matrix)
    _set(encoder.conv_out.conv, F.pad(matrix, (0, 0, 0, spare)), F.pad(bias, (0, spare)), time=2)


def _brighten(step: Any, x: Tensor, ground: float) -> None:
    """Add a constant to what the last step's weakest projection gives, and to its output."""
    channels, parts = x.shape[-1], prod(step.stride)
    constant = ground * x.square().mean().sqrt() * (channels / parts) ** 0.5
    step.conv.conv.bias[-1] += constant
    x[..., -parts:] += constant


def _some(rows: Tensor, count: int = 50000) -> Tensor:
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    return rows[order[:count]]


def _regress(given: Tensor, wanted: Tensor, rounding: float) -> tuple[Tensor, Tensor]:
    """Find the matrix and the bias that take rows to rows, by least squares."""
    means = given.mean(dim=0), wanted.mean(dim=0)
    x, y = (given - means[0]).double(), (wanted - means[1]).double()
    square = x.T @ x
    wrong = torch.diag(given.double().square().sum(dim=0) * rounding**2)
    matrix = torch.linalg.solve(square + wrong, x.T @ y).T.to(given.dtype)
    return matrix, means[1] - matrix @ means[0]


def _tiled(middle: Tensor, patch: int) -> Tensor:
    return middle.repeat_interleave(patch * patch)
