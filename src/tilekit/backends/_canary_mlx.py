"""What the canary asks of MLX."""

import mlx.core as mx

__all__ = ["convolve", "pad_time", "sum", "zeros"]


def convolve(x: mx.array, w: mx.array) -> mx.array:
    """Convolve (B, C, ...) by (O, C, ...) without padding."""
    return mx.moveaxis(mx.conv_general(mx.moveaxis(x, 1, -1), mx.moveaxis(w, 1, -1)), -1, 1)


def pad_time(x: mx.array, before: int) -> mx.array:
    """Put zeros before the first frame of (B, C, F, H, W)."""
    return mx.pad(x, [(0, 0), (0, 0), (before, 0), (0, 0), (0, 0)])


def sum(x: mx.array, axis: int) -> mx.array:
    """Add up along an axis."""
    return mx.sum(x, axis=axis)


def zeros(shape: tuple[int, ...], like: mx.array) -> mx.array:
    """Give zeros."""
    return mx.zeros(shape, dtype=like.dtype)
