"""Autoencoders of diffusers with the configurations that are published, to plan and to count: nothing is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from tilekit.adapters._exact_method import Place, Untiled

__all__ = ["BARS", "KL", "NETWORKS", "Bar", "Network", "Way", "counted", "function", "made"]

Way = Literal["decode", "encode"]

KL = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
SVD = {name: KL[name] for name in ("block_out_channels", "down_block_types", "layers_per_block")}
COGVIDEOX = {"block_out_channels": (128, 256, 256, 512), "layers_per_block": 3}


@dataclass(frozen=True)
class Network:
    """A class, and what it is given."""

    kind: str
    decode: tuple[int, ...]
    encode: tuple[int, ...]
    config: dict[str, Any] = field(default_factory=dict)
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Of decode."""
    dtype: str = "bfloat16"

    def make(self) -> Any:
        """Build it."""
        return made(self.kind, self.config, self.dtype)

    def function(self, vae: Any, way: Way) -> Callable[[Any], Any]:
        """Give a way of it as a function of one array."""
        return function(vae, way, self.kwargs if way == "decode" else {})

    def input(self, way: Way) -> Any:
        """Give an array without numbers that are known, of the size that goes in."""
        import torch

        return torch.empty(getattr(self, way), dtype=getattr(torch, self.dtype))


NETWORKS = {
    "AutoencoderKL, 512x512": Network("AutoencoderKL", (1, 4, 64, 64), (1, 3, 512, 512), KL, dtype="float32"),
    "Flux 2, 2048x2048": Network("AutoencoderKLFlux2", (1, 32, 256, 256), (1, 3, 2048, 2048)),
    "HunyuanVideo, 480x832, 33 frames": Network("AutoencoderKLHunyuanVideo", (1, 16, 9, 60, 104), (1, 3, 33, 480, 832)),
    "CogVideoX, 480x720, 49 frames": Network(
        "AutoencoderKLCogVideoX", (1, 16, 13, 60, 90), (1, 3, 49, 480, 720), COGVIDEOX
    ),
    "Qwen-Image, 1440x2560": Network("AutoencoderKLQwenImage", (1, 16, 1, 180, 320), (1, 3, 1, 1440, 2560)),
    "LTX-Video 0.9, 512x768, 97 frames": Network("AutoencoderKLLTXVideo", (1, 128, 13, 16, 24), (1, 3, 97, 512, 768)),
    "Wan 2.1, 480x832, 81 frames": Network("AutoencoderKLWan", (1, 16, 21, 60, 104), (1, 3, 81, 480, 832)),
    "Mochi, 480x848, 19 frames": Network("AutoencoderKLMochi", (1, 12, 4, 60, 106), (1, 3, 19, 480, 848)),
    "Mochi, 480x848, 85 frames": Network("AutoencoderKLMochi", (1, 12, 15, 60, 106), (1, 3, 85, 480, 848)),
    "Cosmos, 480x720, 25 frames": Network("AutoencoderKLCosmos", (1, 16, 4, 60, 90), (1, 3, 25, 480, 720)),
    "Cosmos, 704x1280, 121 frames": Network("AutoencoderKLCosmos", (1, 16, 16, 88, 160), (1, 3, 121, 704, 1280)),
    "Stable Video Diffusion, 576x1024, 14 frames": Network(
        "AutoencoderKLTemporalDecoder", (14, 4, 72, 128), (14, 3, 576, 1024), SVD, {"num_frames": 14}
    ),
}


@dataclass(frozen=True)
class Bar:
    """What a plan should take at the most: a share of the live bytes of a plain call, and its multiply-adds."""

    share: float
    work: float


BARS: dict[Way, tuple[Bar, ...]] = {
    "decode": (Bar(0.36, 1.0), Bar(0.20, 1.6)),
    "encode": (Bar(0.42, 1.0), Bar(0.25, 1.6)),
}
"""Those of AutoencoderKL, Flux 2, HunyuanVideo and CogVideoX; work counts with two decimals."""


def made(kind: str, config: dict[str, Any], dtype: str) -> Any:
    """Build the autoencoder of a class; its memory is reserved, and not touched before it computes."""
    import diffusers
    import torch

    diffusers.utils.logging.set_verbosity_error()
    with torch.device("meta"):
        vae = getattr(diffusers, kind)(**config)
    return vae.to(getattr(torch, dtype)).to_empty(device="cpu").eval().requires_grad_(False)


def function(vae: Any, way: Way, kwargs: dict[str, Any] | None = None) -> Callable[[Any], Any]:
    """Give a method of it as a function of one array: the one that is not cut, where the class has it."""
    private = hasattr(vae, f"_{way}") and not kwargs
    if way == "encode" and not private:
        return lambda x: vae.encode(x).latent_dist.parameters
    return Untiled(Place(vae, vae, f"_{way}" if private else way, way), None, (), kwargs or {})


def counted(run: Callable[[Any], Any], vae: Any, x: Any) -> int:
    """
    Count the live bytes of a plain call at their peak: the module's own code runs on tensors without memory.

    Names live as long as Python keeps them, views share what they show, and attention is one operation, as when it
    computes; the input and the weights, which stand-ins replace for good, are not counted.
    """
    import torch
    from tests.tilekit.exact._live import Live
    from torch._subclasses.fake_tensor import FakeTensorMode

    fake = FakeTensorMode(allow_non_fake_inputs=True)
    for module in vae.modules():
        for held in (module._parameters, module._buffers):
            held.update({name: fake.from_tensor(value) for name, value in held.items() if value is not None})
    x = fake.from_tensor(x)
    with torch.no_grad(), fake, Live() as live:
        run(x)
    return int(live.peak)
