"""The sizes of what operations of PyTorch make, and their multiply-adds."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tilekit.backends._counts import Counted

__all__ = ["Counting", "convolution_of", "padded_frame_of", "storage", "work_of"]

_ATEN = torch.ops.aten
_CONVOLUTIONS = {
    _ATEN.convolution.default,
    _ATEN._convolution.default,
    _ATEN.mkldnn_convolution.default,
    _ATEN.convolution_overrideable.default,
}
_PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "matmul", "linear"}
_ADDED = {"addmm", "baddbmm", "addmv"}
"""Products whose first argument is added."""


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
        """Count and compute."""
        if (found := work_of(func, args)) is not None:
            self._counted.note_work(*found)
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


def work_of(func: Any, args: Sequence[Any]) -> tuple[int, str] | None:
    """Count the multiply-adds of an operation before it runs, and say what it is; None where it has none."""
    if func in _CONVOLUTIONS:
        return _spread(func, args) * prod(args[1].shape[1:]), "a convolution"
    name = func.overloadpacket.__name__
    if name in _PRODUCTS:
        left, right = args[1:3] if name in _ADDED else args[:2]
        columns = right.shape[0 if name == "linear" else -1] if right.ndim > 1 else 1
        batch = prod(torch.broadcast_shapes(left.shape[:-2], right.shape[:-2])) if name == "matmul" else 1
        rows = left.numel() // left.shape[-1] if batch == 1 else batch * left.shape[-2]
        return rows * left.shape[-1] * columns, "a matrix product"
    if name.startswith("_scaled_dot_product") and "backward" not in name:
        q, k, v = args[:3]
        return prod(q.shape[:-1]) * k.shape[-2] * (q.shape[-1] + v.shape[-1]), "attention"
    return None


def _spread(func: Any, args: Sequence[Any]) -> int:
    """Count the cells of the output of a convolution, or of the input of a transposed one, before it runs."""
    x, weight, _, stride, padding, dilation, transposed = args[:7]
    if transposed is True:
        return int(x.numel())
    if func is _ATEN.mkldnn_convolution.default:
        stride, padding = padding, stride
    given = (_each(n, x.ndim - 2) for n in (stride, padding, dilation))
    sides = zip(x.shape[2:], weight.shape[2:], *given, strict=True)
    return int(x.shape[0] * weight.shape[0] * prod((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sides))


def _each(numbers: Sequence[int], axes: int) -> Sequence[int]:
    return list(numbers) * axes if len(numbers) == 1 else numbers


def convolution_of(func: Any, args: Sequence[Any], made: Tensor) -> tuple[int, int] | None:
    """Count the output of a convolution, and what it unfolds; None for other operations."""
    if func not in _CONVOLUTIONS:
        return None
    weight, transposed = args[1], len(args) > 6 and args[6] is True
    sums = weight.shape[0] * prod(weight.shape[2:]) if transposed else prod(weight.shape[1:])
    unfolds = transposed or weight.ndim == 5
    cells = made.numel() // made.shape[1]
    return made.numel(), cells * sums if unfolds else 0


def padded_frame_of(func: Any, args: Sequence[Any], made: Tensor) -> int | None:
    """Count the elements of the frames whose time is padded with a constant; None for other operations."""
    if func is not _ATEN.constant_pad_nd.default or made.ndim != 5 or not any(args[1][4:6]):
        return None
    return int(args[0].shape[-1] * args[0].shape[-2])


def storage(made: Tensor) -> int:
    """Count the elements of a tensor, or of what it is a view of."""
    return max(made.numel(), made.untyped_storage().nbytes() // made.element_size())
