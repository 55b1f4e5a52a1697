"""The sizes of what operations of PyTorch make."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tilekit.backends._counts import Counted

__all__ = ["Counting", "convolution_of", "padded_frame_of", "storage"]

_ATEN = torch.ops.aten
_CONVOLUTIONS = {
    _ATEN.convolution.default,
    _ATEN._convolution.default,
    _ATEN.mkldnn_convolution.default,
    _ATEN.convolution_overrideable.default,
}


class Counting(TorchDispatchMode):
    """
    Count what operations make.

    Parameters
    ----------
    counted : Counted
        Where.
    """

    def __init__(self, counted: Counted) -> None:
        TorchDispatchMode.__init__(self)
        self._counted = counted

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Compute, and count."""
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, tuple | list) else (out,):
            if isinstance(made, Tensor) and not made.is_meta:
                count(self._counted, func, args, made)
        return out


def count(counted: Counted, func: Any, args: Sequence[Any], made: Tensor) -> None:
    """Take note of what an operation made."""
    if (found := convolution_of(func, args, made)) is not None:
        counted.note_convolution(*found)
    if (frame := padded_frame_of(func, args, made)) is not None:
        counted.note_padding(frame)
    counted.note(storage(made))


def convolution_of(func: Any, args: Sequence[Any], made: Tensor) -> tuple[int, int, int] | None:
    """Count the output of a convolution, what it unfolds, and its multiply-adds; None for other operations."""
    if func not in _CONVOLUTIONS:
        return None
    weight, transposed = args[1], len(args) > 6 and args[6] is True
    sums = weight.shape[0] * prod(weight.shape[2:]) if transposed else prod(weight.shape[1:])
    unfolds = transposed or weight.ndim == 5
    cells = made.numel() // made.shape[1]
    return made.numel(), cells * sums if unfolds else 0, cells * weight.numel()


def padded_frame_of(func: Any, args: Sequence[Any], made: Tensor) -> int | None:
    """Count the elements of the frames whose time is padded with a constant; None for other operations."""
    if func is not _ATEN.constant_pad_nd.default or made.ndim != 5 or not any(args[1][4:6]):
        return None
    return int(args[0].shape[-1] * args[0].shape[-2])


def storage(made: Tensor) -> int:
    """Count the elements of a tensor, or of what it is a view of."""
    return max(made.numel(), made.untyped_storage().nbytes() // made.element_size())
