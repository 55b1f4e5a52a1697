"""Decode straight into a file: the frames are never there together."""

import errno
import os
import shutil
from collections.abc import Iterator
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any

import torch

from ltx_models.media import VideoWriter, unfinished

from . import host
from .exact import Decode


def saved(
    vae: Any, samples: torch.Tensor, fps: float, filename_prefix: str, memory_gb: float, audio: dict[str, Any] | None
) -> tuple[str, str, str]:
    """Decode into an mp4 in the host's output folder; give (path, name, folder below it)."""
    decode = Decode(vae, samples, memory_gb)
    plan = decode.plan()
    if len(plan.out_shape) != 5 or plan.out_shape[0] != 1:
        msg = f"samples: expected latents of one video, which gives (1, 3, F, H, W); these give {plan.out_shape}"
        raise ValueError(msg)
    height, width = plan.out_shape[-2:]
    path, name, below = host.output_path(filename_prefix, ".mp4", width, height)
    sound = None if audio is None else (audio["waveform"][:1].cpu().numpy(), int(audio["sample_rate"]))
    with VideoWriter(
        path, fps=Fraction(fps).limit_denominator(1001), height=height, width=width, audio=sound
    ) as writer:
        for block in _frames(decode, plan, path):
            writer.write((2 * block - 1).cpu().numpy())
    return path, name, below


def _frames(decode: Decode, plan: Any, path: str) -> Iterator[torch.Tensor]:
    """Give frames in order; where the plan finishes rows first, all of them wait in a file."""
    if plan.axis == 2:
        for _, block in decode.blocks():
            yield block
        return
    with unfinished(f"{path}.frames") as file:
        _reserve(file, 4 * prod(plan.out_shape))
        pixels = decode.whole(str(file))
        for frame in pixels.unbind(1):
            yield frame.movedim(-1, 1).unsqueeze(2)


def _reserve(file: Path, size: int) -> None:
    """Take the room on the disk at once: where memory is mapped, a disk that fills later ends the process."""
    with file.open("xb") as opened:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(opened.fileno(), 0, size)
        elif shutil.disk_usage(file.parent).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
