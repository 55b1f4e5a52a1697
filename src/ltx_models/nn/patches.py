"""Squares of pixels as channels, and back."""

from __future__ import annotations

from typing import Any

from ltx_models.nn import Array


def patchify(xp: Any, video: Array, patch: int) -> Array:
    """Rearrange pixels (B, C, F, H, W) as (B, F, H / p, W / p, C p p); within a square, width comes before height."""
    b, c, f, height, width = video.shape
    x = video.reshape(b, c, f, height // patch, patch, width // patch, patch)
    x = xp.permute_dims(x, (0, 2, 3, 5, 1, 6, 4))
    return x.reshape(b, f, height // patch, width // patch, c * patch * patch)


def unpatchify(xp: Any, x: Array, patch: int) -> Array:
    """Undo `patchify`."""
    b, f, height, width, channels = x.shape
    c = channels // (patch * patch)
    x = xp.permute_dims(x.reshape(b, f, height, width, c, patch, patch), (0, 4, 1, 2, 6, 3, 5))
    return x.reshape(b, c, f, height * patch, width * patch)
