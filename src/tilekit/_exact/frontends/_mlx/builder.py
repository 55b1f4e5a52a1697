"""Nodes of MLX as they are added, and the views of windows among them."""

from dataclasses import dataclass

import mlx.core as mx

from tilekit._exact.boxes import Shape
from tilekit._exact.frontends._mlx.calls import PoolWindow
from tilekit._exact.frontends.building import Building
from tilekit._exact.kernels import Kernels, kernels_of

__all__ = ["Builder", "Pooling"]


@dataclass(frozen=True, slots=True)
class Pooling:
    """A view whose `inner` axes run over windows of a source, so that a reduction over them is a pooling."""

    source: int
    axes: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    inner: tuple[int, ...]
    shape: Shape
    """Of the pooled array, in the axes of the source."""

    def call(self, name: str) -> PoolWindow:
        """Give the call that reduces the windows by a function of MLX."""
        return PoolWindow(name, self.axes, self.kernel, self.stride, self.dilation)


class Builder(Building):
    """
    A graph of MLX that grows.

    Parameters
    ----------
    merging : bool
        See `Building`.

    Attributes
    ----------
    windows : dict of int to Pooling
        The views that run over windows.
    """

    def __init__(self, *, merging: bool = False) -> None:
        super().__init__(merging=merging)
        self.windows: dict[int, Pooling] = {}

    def kernels(self) -> Kernels:
        """Give what computes the nodes whose numbers are known."""
        return kernels_of(mx.array(0.0))
