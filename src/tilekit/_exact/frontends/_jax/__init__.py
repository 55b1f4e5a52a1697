"""
Front end for JAX: any function of one array becomes a graph.

`trace` lets JAX write the function down as primitives, `rules` says what each is, `norms` finds the sums of norms over
many cells, which are read in one pass.
"""

from tilekit._exact.frontends._jax.trace import trace

__all__ = ["trace"]
