"""What MLX has taken apart, put together again."""

from tilekit._exact.frontends._mlx.attention import attention
from tilekit._exact.frontends._mlx.builder import Builder
from tilekit._exact.frontends._mlx.norms import norms
from tilekit._exact.frontends._mlx.rewrite import copied

__all__ = ["simplify"]


def simplify(builder: Builder, output: int) -> tuple[Builder, int]:
    """Give a graph in which norms and attention are one operation each, and its output."""
    for find in (norms, attention):
        builder, place = copied(builder, find(builder))
        output = place[output]
    return builder, output
