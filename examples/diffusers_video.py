"""
Decode a clip with an autoencoder of diffusers exactly, and stream its frames into a file as they are finished.

    python examples/diffusers_video.py
    python examples/diffusers_video.py --model Wan-AI/Wan2.1-T2V-1.3B-Diffusers --frames 81 --height 480 --width 832

Without a model a small Wan with seeded weights is made, which needs no download.
"""

import argparse

import diffusers
import torch

import tilekit
from ltx_models.media import write_video
from tilekit.adapters import enable_exact_tiling


def small() -> diffusers.AutoencoderKLWan:
    """Make a narrow autoencoder of Wan 2.1."""
    torch.manual_seed(0)
    numbers = {"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}
    return diffusers.AutoencoderKLWan(base_dim=8, z_dim=4, num_res_blocks=1, **numbers)


def main() -> None:
    """Compare, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder or repository of a pipeline of Wan; a small seeded one without it")
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--height", type=int, default=64)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("-o", "--output", default="wan.mp4")
    asked = parser.parse_args()
    kind = diffusers.AutoencoderKLWan
    vae = kind.from_pretrained(asked.model, subfolder="vae") if asked.model else small()
    vae.eval().requires_grad_(False)
    frames = 1 + (asked.frames - 1) // 4
    z = torch.randn(1, vae.config.z_dim, frames, asked.height // 8, asked.width // 8)

    with torch.no_grad():
        plain = vae.decode(z).sample

        # all frames at once, through the model or its pipeline
        enable_exact_tiling(vae)
        exact = vae.decode(z).sample
        largest = float(plain.abs().max())
        print(f"exact: largest difference from the plain call {float((exact - plain).abs().max()) / largest:.1e}")

        # frames as they are finished: the clip is never there as a whole
        decode = tilekit.exact(lambda z: vae.decode(z).sample)
        print(decode.plan(z, stream=True))
        blocks = (block for _, block in decode.stream(z))
        written = write_video(asked.output, blocks, fps=16)
    print(f"{asked.output}: {written} frames")


if __name__ == "__main__":
    main()
