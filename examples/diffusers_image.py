"""
Decode a picture with an autoencoder of diffusers: plain, in its own tiles, and exactly within a budget.

    python examples/diffusers_image.py
    python examples/diffusers_image.py --model stabilityai/sdxl-vae --height 1024 --width 1024

Without a model a small one with seeded weights is made, which needs no download.
"""

import argparse

import diffusers
import torch

from tilekit.adapters import enable_exact_tiling


def small() -> diffusers.AutoencoderKL:
    """Make a narrow autoencoder of the kind of Stable Diffusion, SDXL and Flux."""
    torch.manual_seed(0)
    return diffusers.AutoencoderKL(
        block_out_channels=(16, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=8,
        sample_size=128,
    )


def main() -> None:
    """Compare the three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder or repository of an AutoencoderKL; a small seeded one without it")
    parser.add_argument("--height", type=int, default=384)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--memory-mib", type=int, help="what a decode may take at its peak; half of the plain one")
    asked = parser.parse_args()
    vae = diffusers.AutoencoderKL.from_pretrained(asked.model) if asked.model else small()
    vae.eval().requires_grad_(False)
    z = torch.randn(1, vae.config.latent_channels, asked.height // 8, asked.width // 8)

    with torch.no_grad():
        plain = vae.decode(z).sample
        vae.enable_tiling()
        tiled = vae.decode(z).sample
        enable_exact_tiling(vae, memory_bytes=None if asked.memory_mib is None else asked.memory_mib * 2**20)
        exact = vae.decode(z).sample  # everything else that uses vae.decode is exact now, a pipeline too

    largest = float(plain.abs().max())
    print(f"tiled: largest difference from the plain call {float((tiled - plain).abs().max()) / largest:.1e}")
    print(f"exact: largest difference from the plain call {float((exact - plain).abs().max()) / largest:.1e}")


if __name__ == "__main__":
    main()
