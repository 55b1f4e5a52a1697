"""What a decode will take, and where tiles of the host leave seams: as text and as pictures."""

from typing import Any

import numpy as np
import torch

from . import host
from .exact import Decode


def planned(vae: Any, samples: torch.Tensor, memory_gb: float) -> tuple[str, torch.Tensor]:
    """Give the plan as text, and as IMAGE."""
    plan = Decode(vae, samples, memory_gb).plan()
    return str(plan), _picture(plan.plot())


def _picture(figure: Any) -> torch.Tensor:
    """Draw a figure into an IMAGE."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    rgb = np.asarray(canvas.buffer_rgba())[..., :3]
    return torch.from_numpy(rgb.copy()).float()[None] / 255


def seams(
    vae: Any, samples: torch.Tensor, tile_size: int, overlap: int, memory_gb: float, gain: float
) -> tuple[torch.Tensor, str]:
    """Compare the host's tiled decode with the exact one: difference times `gain`, and its size as text."""
    exact = Decode(vae, samples, memory_gb).whole()
    scale = vae.spacial_compression_decode()
    host.load(vae, host.budget(vae, memory_gb))
    tiled = vae.decode_tiled(samples, tile_x=tile_size // scale, tile_y=tile_size // scale, overlap=overlap // scale)
    difference = (tiled.to(exact.device) - exact).abs()
    worst, mean = float(difference.max()), float(difference.mean())
    text = (
        f"tiles of {tile_size} pixels with {overlap} overlap against exact: largest difference {worst:.4f}, "
        f"mean {mean:.5f} (pixels are 0 to 1); the map shows {gain:g} times the difference"
    )
    image = (gain * difference).clamp(0, 1)
    return image.reshape(-1, *image.shape[-3:]), text
