"""
Measure a checkpoint on what it was never trained on, through the loaders that users call.

    python training/evaluate.py --sheet sheet.png
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clips import Frames, as_video, held_out
from losses import psnr
from PIL import Image

from ltx_models import default_checkpoint, load_video_decoder, load_video_encoder

DTYPES: tuple[Any, ...] = ("float32", "bfloat16")
SHEET_HEIGHT = 352


@torch.no_grad()
def reconstruct(checkpoint: Path, video: torch.Tensor, dtype: Any) -> torch.Tensor:
    """Encode and decode (1, 3, F, H, W) whole."""
    encoder, decoder = (load(checkpoint, dtype=dtype) for load in (load_video_encoder, load_video_decoder))
    decoded: torch.Tensor = decoder(encoder(video.to(getattr(torch, dtype))))
    return decoded.float()


def picture(video: torch.Tensor, frame: int) -> Image.Image:
    """Show one frame of (1, 3, F, H, W), at the height of the sheet."""
    pixels = ((video[0, :, frame].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    image = Image.fromarray(pixels)
    return image.resize((round(SHEET_HEIGHT * image.width / image.height), SHEET_HEIGHT))


def row(*images: Image.Image) -> Frames:
    """Put pictures side by side."""
    return np.concatenate([np.asarray(image) for image in images], axis=1)


def stacked(rows: list[Frames]) -> Image.Image:
    """Put rows of different widths below one another."""
    width = max(pixels.shape[1] for pixels in rows)
    return Image.fromarray(np.concatenate([np.pad(p, ((0, 4), (0, width - p.shape[1]), (0, 0))) for p in rows]))


def main() -> None:
    """Print a table of PSNR, and leave a sheet of pictures: the original on the left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, nargs="?", default=default_checkpoint())
    parser.add_argument("--frames", type=int, default=32, help="at most so many frames of each clip")
    parser.add_argument("--sheet", type=Path, help="write the pictures here")
    options = parser.parse_args()
    rows = []
    print("| Held out | Frames | Size | " + " | ".join(f"{dtype}, dB" for dtype in DTYPES) + " |")
    print("|---|---|---|" + "---|" * len(DTYPES))
    for name, frames in held_out(frames=options.frames).items():
        video = as_video(frames)
        decoded = {dtype: reconstruct(options.checkpoint, video, dtype) for dtype in DTYPES}
        figures = " | ".join(f"{psnr(decoded[dtype], video):.2f}" for dtype in DTYPES)
        print(f"| {name} | {len(frames)} | {frames.shape[2]}x{frames.shape[1]} | {figures} |", flush=True)
        rows.append(row(*(picture(clip, len(frames) // 2) for clip in (video, decoded["float32"]))))
    if options.sheet:
        stacked(rows).save(options.sheet)


if __name__ == "__main__":
    main()
