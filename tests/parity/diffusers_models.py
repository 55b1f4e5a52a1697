"""Small models of diffusers and transformers with seeded weights, for the tests beside this file."""

from typing import Any

import numpy as np
import pytest

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: nox -s parity")
torch = pytest.importorskip("torch")

EXACT = 1e-4  # float32 rounding through the network, at outputs of scale 1
SHAPES: dict[str, dict[str, Any]] = {
    "sd": {"latent_channels": 4, "levels": (8, 16, 16, 16)},
    "flux": {
        "latent_channels": 16,
        "levels": (8, 16, 16, 16),
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "scaling_factor": 0.3611,
        "shift_factor": 0.1159,
    },
    "no attention": {"latent_channels": 4, "levels": (8, 16, 16), "mid_block_add_attention": False},
    "audioldm": {"latent_channels": 8, "levels": (8, 16, 32), "in_channels": 1, "out_channels": 1},
}


def make(kind: str, seed: int = 0) -> Any:
    """An AutoencoderKL of diffusers whose activations are alive: its own initialisation makes them fade."""
    config: dict[str, Any] = {"in_channels": 3, "out_channels": 3, "norm_num_groups": 4, "layers_per_block": 1}
    config |= SHAPES[kind]
    levels = config.pop("levels")
    torch.manual_seed(seed)
    vae = diffusers.AutoencoderKL(
        block_out_channels=levels,
        down_block_types=("DownEncoderBlock2D",) * len(levels),
        up_block_types=("UpDecoderBlock2D",) * len(levels),
        **config,
    )
    enliven(vae)
    return vae.eval().requires_grad_(False)


def enliven(module: Any) -> None:
    for name, weight in module.named_parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=float(np.prod(weight.shape[1:])) ** -0.5)
        else:
            torch.nn.init.normal_(weight, mean=float("norm" in name and name.endswith("weight")), std=0.2)


def picture(*shape: int, seed: int = 0) -> Any:
    """Noise on slopes, so that the tiles differ in mean and in variance."""
    torch.manual_seed(seed)
    across, down = torch.linspace(0.2, 1.5, shape[3]), torch.linspace(-1, 1, shape[2])[:, None]
    return (torch.randn(shape) + down) * across


def error(got: Any, want: Any) -> float:
    assert got.shape == want.shape
    return float((got - want).abs().max() / want.std())


def make_vocoder(**config: Any) -> Any:
    """A vocoder of transformers whose sound is neither silent nor all at the limits."""
    transformers = pytest.importorskip("transformers")

    torch.manual_seed(0)
    rates = {"upsample_rates": [5, 4, 2, 2, 2], "upsample_kernel_sizes": [16, 16, 8, 4, 4], "model_in_dim": 16}
    structure = transformers.SpeechT5HifiGanConfig(upsample_initial_channel=32, **{**rates, **config})
    vocoder = transformers.SpeechT5HifiGan(structure)
    enliven(vocoder)
    vocoder.conv_post.weight.data *= 3
    vocoder.conv_post.bias.data *= 0
    torch.nn.init.normal_(vocoder.mean)
    return vocoder.eval().requires_grad_(False)
