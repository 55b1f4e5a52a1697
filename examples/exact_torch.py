"""
A decoder of plain PyTorch, with group normalisation and attention, evaluated exactly in less memory.

    python examples/exact_torch.py

Put your own module in the place of the one here; nothing has to be said about it.
"""

import torch
from torch import Tensor, nn

import tilekit


class Attention(nn.Module):
    """Each position looks at all others: what tiles cannot do."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Add what was looked at."""
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, -1)
        found = nn.functional.scaled_dot_product_attention(q, k, v)
        return x + found.transpose(1, 2).reshape(x.shape)


def decoder() -> nn.Module:
    """Three upsamplings by 2, with norms over the whole picture between them."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(4, 32, 3, padding=1), Attention(32)]
    for _ in range(3):
        layers += [nn.GroupNorm(4, 32), nn.SiLU(), nn.Upsample(scale_factor=2), nn.Conv2d(32, 32, 3, padding=1)]
    return nn.Sequential(*layers, nn.Conv2d(32, 3, 3, padding=1)).eval().requires_grad_(False)


def main() -> None:
    """Compare with the plain call."""
    network = decoder()
    z = torch.randn(1, 4, 48, 64, generator=torch.Generator().manual_seed(1))
    plain = network(z)

    exact = tilekit.exact(network)
    plan = exact.plan(z)
    print(plan)
    difference = float((exact(z) - plain).abs().max() / plain.abs().max())
    print(f"exact: largest difference from the plain call {difference:.1e}")
    print(f"memory: {plan.peak_bytes / plan.plain_bytes:.0%} of the plain call")

    for start, rows in exact.stream(z):
        print(f"finished from {start}: {tuple(rows.shape)}")


if __name__ == "__main__":
    main()
