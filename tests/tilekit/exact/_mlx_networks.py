"""Small autoencoders of MLX with what real ones have: group norms, attention, replicate padding, pixel shuffle."""

# mypy: disable-error-code="misc"
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx import nn


def seeded(module: Any, dtype: Any = mx.float32) -> Any:
    """Give a module weights of about unit gain, always the same."""
    key = mx.random.key(0)

    def draw(weight: Any) -> Any:
        nonlocal key
        key, own = mx.random.split(key)
        scale = (weight.size / weight.shape[0]) ** -0.5 if weight.ndim > 1 else 0.2
        return (mx.random.normal(weight.shape, key=own) * scale + (weight.ndim == 1)).astype(dtype)

    module.update(nn.utils.tree_map(draw, module.parameters()))
    mx.eval(module.parameters())
    return module.eval()


class Residual(nn.Module):
    """Two convolutions with group norms, and what they are added to."""

    def __init__(self, given: int, made: int) -> None:
        super().__init__()
        self.norms = [nn.GroupNorm(4, n, pytorch_compatible=True) for n in (given, made)]
        self.convs = [nn.Conv2d(n, made, 3, padding=1) for n in (given, made)]
        self.shortcut: Any = nn.Linear(given, made) if given != made else nn.Identity()

    def __call__(self, x: Any) -> Any:
        """Add."""
        y = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            y = conv(nn.silu(norm(y)))
        return self.shortcut(x) + y


class Looking(nn.Module):
    """Attention of every cell to all."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, channels, pytorch_compatible=True)
        self.inputs = [nn.Linear(channels, channels) for _ in range(3)]
        self.output = nn.Linear(channels, channels)

    def __call__(self, x: Any) -> Any:
        """Look."""
        batch, height, width, channels = x.shape
        y = self.norm(x)
        query, key, value = (linear(y).reshape(batch, 1, height * width, channels) for linear in self.inputs)
        y = mx.fast.scaled_dot_product_attention(query, key, value, scale=channels**-0.5)
        return x + self.output(y.reshape(x.shape))


class Painter(nn.Module):
    """A decoder of pictures as that of Stable Diffusion."""

    def __init__(self, widths: Sequence[int] = (32, 32, 16)) -> None:
        super().__init__()
        first = widths[0]
        self.first = nn.Conv2d(4, first, 3, padding=1)
        self.middle: list[Any] = [Residual(first, first), Looking(first), Residual(first, first)]
        self.blocks = [Residual(a, b) for a, b in zip((first, *widths), widths, strict=False)]
        self.smooth: list[Any] = [nn.Conv2d(n, n, 3, padding=1) for n in widths[:-1]]
        self.norm = nn.GroupNorm(4, widths[-1], pytorch_compatible=True)
        self.last = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def __call__(self, z: Any) -> Any:
        """Decode (B, H, W, 4) to (B, 4 H, 4 W, 3)."""
        x = self.first(z)
        for block in self.middle:
            x = block(x)
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i < len(self.smooth):
                x = self.smooth[i](mx.repeat(mx.repeat(x, 2, 1), 2, 2))
                mx.eval(x)
        return self.last(nn.silu(self.norm(x)))


class Causal(nn.Module):
    """A convolution of video that looks back alone; borders are replicated."""

    def __init__(self, given: int, made: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(given, made, 3)

    def __call__(self, x: Any) -> Any:
        """Convolve."""
        return self.conv(mx.pad(x, [(0, 0), (2, 0), (1, 1), (1, 1), (0, 0)], mode="edge"))


class Film(nn.Module):
    """A causal decoder of video: norms of positions, pixel shuffle, a first frame of its own."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.first = Causal(8, channels)
        self.norms = [nn.RMSNorm(channels) for _ in range(2)]
        self.convs = [Causal(channels, channels) for _ in range(2)]
        self.up = Causal(channels, 3 * 8)

    def __call__(self, z: Any) -> Any:
        """Decode (B, T, H, W, 8) to (B, 2 T - 1, 2 H, 2 W, 3)."""
        x = self.first(z)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = x + conv(nn.silu(norm(x)))
        batch, frames, height, width, _ = x.shape
        x = self.up(x).reshape(batch, frames, height, width, 2, 2, 2, 3).transpose(0, 1, 4, 2, 5, 3, 6, 7)
        return x.reshape(batch, 2 * frames, 2 * height, 2 * width, 3)[:, 1:]


class Reader(nn.Module):
    """An encoder of pictures."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.blocks = [Residual(channels, channels) for _ in range(2)]
        self.downs = [nn.Conv2d(channels, channels, 3, stride=2) for _ in range(2)]
        self.last = nn.Conv2d(channels, 8, 3, padding=1)

    def encode(self, x: Any) -> Any:
        """Encode (B, H, W, 3) to the means, (B, H / 4, W / 4, 4)."""
        x = self.first(x)
        for block, down in zip(self.blocks, self.downs, strict=True):
            x = down(mx.pad(block(x), [(0, 0), (0, 1), (0, 1), (0, 0)]))
        return mx.split(self.last(x), 2, axis=-1)[0]
