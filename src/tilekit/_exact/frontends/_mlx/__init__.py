"""
Front end for MLX: any function or module of one array becomes a graph.

`record` lets MLX hand out the primitives, `rules` says what each is, `patterns` finds what MLX has taken apart (norms
over many cells, attention).
"""

from tilekit._exact.frontends._mlx.outside import check_input, is_followed
from tilekit._exact.frontends._mlx.trace import trace

__all__ = ["check_input", "is_followed", "trace"]
