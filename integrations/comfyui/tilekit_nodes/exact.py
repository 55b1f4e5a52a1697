"""Decode and encode with the VAE of the host, as it stands: its own modules are followed, no weight is read twice."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

import tilekit

from . import host


@dataclass
class Decode:
    """
    One decode that is ready to run.

    Parameters
    ----------
    vae : object
        The VAE of the host.
    samples : tensor, shape (B, C, ...)
        Latents.
    memory_gb : float
        Budget in GiB; 0 leaves it to the host.
    """

    vae: Any
    samples: torch.Tensor
    memory_gb: float = 0.0

    def __post_init__(self) -> None:
        if self.samples.ndim not in (4, 5):
            msg = f"samples: expected latents of pictures or video, got shape {tuple(self.samples.shape)}"
            raise ValueError(msg)
        self.budget = host.budget(self.vae, self.memory_gb)
        host.load(self.vae, self.budget)
        self.budget = host.budget(self.vae, self.memory_gb)  # the weights are there now
        module = self.vae.first_stage_model
        self.exact = tilekit.exact(module.decode, self.budget, progress=host.progress())

    @property
    def latent(self) -> torch.Tensor:
        """The latents on the device and in the dtype of the VAE."""
        return self.samples.to(self.vae.vae_dtype).to(self.vae.device)

    def plan(self) -> Any:
        """Say how it will be done."""
        return self.exact.plan(self.latent, stream=True)

    def blocks(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Give finished blocks along an axis of the output, as pixels in 0..1 on the host's output device."""
        with torch.no_grad():
            for start, block in self.exact.stream(self.latent):
                yield start, self.vae.process_output(block.to(self.vae.output_device).float())

    def whole(self, file: str | None = None) -> torch.Tensor:
        """Give all pixels, channels last, as the host's own decode does; in a file if one is named."""
        plan = self.plan()
        shape = (plan.out_shape[0], *plan.out_shape[2:], plan.out_shape[1])
        if file is None:
            pixels = torch.empty(shape, device=self.vae.output_device)
        else:
            pixels = torch.from_file(file, shared=True, size=prod(shape)).reshape(shape)
        for start, block in self.blocks():
            rows = block.movedim(1, -1)
            axis = plan.axis if plan.axis == 0 else plan.axis - 1  # channels have moved to the end
            pixels.narrow(axis, start, rows.shape[axis]).copy_(rows)
        return pixels


def decoded(vae: Any, samples: torch.Tensor, memory_gb: float) -> torch.Tensor:
    """Decode to IMAGE, (frames, height, width, 3) in 0..1."""
    pixels = Decode(vae, samples, memory_gb).whole()
    return pixels.reshape(-1, *pixels.shape[-3:]) if pixels.ndim == 5 else pixels


def encoded(vae: Any, pixels: torch.Tensor, memory_gb: float) -> torch.Tensor:
    """Encode IMAGE to latents, cropped and shaped as the host does."""
    budget = host.budget(vae, memory_gb)
    host.load(vae, budget)
    exact = tilekit.exact(vae.first_stage_model.encode, host.budget(vae, memory_gb), progress=host.progress())
    x = vae.vae_encode_crop_pixels(pixels[..., :3]).movedim(-1, 1)
    if vae.latent_dim == 3 and x.ndim < 5:
        x = x.unsqueeze(2) if vae.not_video else x.movedim(1, 0).unsqueeze(0)
    with torch.no_grad():
        latent = exact(vae.process_input(x).to(vae.vae_dtype).to(vae.device))
    return latent.to(vae.output_device).float()
