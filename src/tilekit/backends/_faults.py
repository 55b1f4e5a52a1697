"""PyTorch on the processor, with the faults of other devices played: what tests of limits run on."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode

from tilekit.backends.limits import Limits

__all__ = ["TorchFaults"]

_ATEN = torch.ops.aten
_CONVOLUTIONS = {
    _ATEN.convolution.default,
    _ATEN._convolution.default,
    _ATEN.mkldnn_convolution.default,
    _ATEN.convolution_overrideable.default,
}


class TorchFaults(TorchDispatchMode):
    """
    Give wrong numbers where a device with these limits would, and remember the largest arrays.

    Parameters
    ----------
    limits : Limits
        What is right.

    Attributes
    ----------
    elements, convolution, unfolded, padded_frame : int
        The most that was met of what `Limits` counts.
    played : list of str
        Operations that gave wrong numbers, in order.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.limits = limits
        self.elements = self.convolution = self.unfolded = self.padded_frame = 0
        self.played: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Compute, and spoil what is too large."""
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, tuple | list) else (out,):
            if isinstance(made, torch.Tensor) and not isinstance(made, FakeTensor) and not made.is_meta:
                self._look(func, args, made)
        return out

    def _look(self, func: Any, args: Sequence[Any], made: torch.Tensor) -> None:
        parent = made.untyped_storage().nbytes() // made.element_size()
        self.elements = max(self.elements, made.numel(), parent)
        wrong = max(made.numel(), parent) > self.limits.elements
        if func in _CONVOLUTIONS:
            weight, transposed = args[1], len(args) > 6 and args[6] is True
            sums = weight.shape[0] * prod(weight.shape[2:]) if transposed else prod(weight.shape[1:])
            unfolded = made.numel() // made.shape[1] * sums if transposed or weight.ndim == 5 else 0
            self.convolution = max(self.convolution, made.numel())
            self.unfolded = max(self.unfolded, unfolded)
            wrong |= made.numel() > self.limits.convolution or unfolded > self.limits.unfolded
        if wrong and func is not _ATEN.empty.memory_format:
            self._spoil(func, made, 0)
        if func is _ATEN.constant_pad_nd.default and made.ndim == 5 and any(args[1][4:6]):
            frame = args[0].shape[-1] * args[0].shape[-2]
            self.padded_frame = max(self.padded_frame, frame)
            if frame > self.limits.padded_frame:
                self._spoil(func, made, args[2] if len(args) > 2 else 0)

    def _spoil(self, func: Any, made: torch.Tensor, value: float) -> None:
        self.played.append(str(func))
        if not made.is_inference() or torch.is_inference_mode_enabled():
            _ATEN.fill_.Scalar(made.detach(), value)
