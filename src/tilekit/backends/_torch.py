"""PyTorch: written in place, through functions that differentiate where a tile asks for it."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch

from tilekit.backends._base import Array, Backend, Place, Region
from tilekit.backends._numpy import PIECE_CELLS, pieces

__all__ = ["TorchBackend"]

HUGE = 1 << 22  # bytes from which NumPy asks for huge pages


class TorchBackend(Backend):
    """Tensors on any device."""

    name = "torch"

    def is_floating(self, x: Array) -> bool:
        return isinstance(x, torch.Tensor) and x.is_floating_point()

    def itemsize(self, x: Array) -> int:
        return int(x.element_size())

    def blend_dtype(self, x: Array) -> Any:
        return torch.float64 if x.dtype == torch.float64 else torch.float32

    def has_nan(self, x: Array) -> bool:
        return bool(torch.isnan(x).any())

    def obstacle(self, x: Array) -> str | None:
        """Say what keeps a tensor from being cut and blended."""
        if x.layout != torch.strided:
            return f"a sparse tensor ({x.layout}); give a dense one: x.to_dense()"
        if x.is_meta:
            return "a tensor on the device 'meta', which has no numbers; load it first"
        if torch._C._functorch.is_batchedtensor(x):
            return "a tensor inside torch.vmap; call it outside: the first axis of a tile is a batch already"
        forward_ad: Any = torch.autograd.forward_ad
        if forward_ad.unpack_dual(x).tangent is not None:
            return "a tensor with forward derivatives; only backward ones go through tiles"
        return None

    def copy(self, x: Array) -> Array:
        """Give a tensor of its own memory; derivatives pass."""
        return x.clone(memory_format=torch.contiguous_format)

    def detached(self, x: Array) -> Array:
        """Give the tensor itself, unless it is a view: a pickled view carries the whole of its storage."""
        return x if x.untyped_storage().nbytes() == x.numel() * x.element_size() else self.copy(x)

    def place(self, x: Array) -> Place:
        """Say where a tensor lives."""
        found = torch.backends.cudnn.version() if x.device.type == "cuda" else None
        libraries = () if found is None else (("cudnn", f"{found // 10000}.{found // 100 % 100}"),)
        return Place("torch", x.device.type, str(torch.__version__), libraries)

    def empty(self, shape: Sequence[int], dtype: Any, like: Array) -> Array:
        size = prod(shape) * dtype.itemsize
        if like.device.type != "cpu" or size < HUGE:
            return torch.empty(tuple(shape), dtype=dtype, device=like.device)
        # NumPy asks the system for huge pages, torch does not: touching fresh memory costs more than all the blending
        return torch.from_numpy(np.empty(size, np.uint8)).view(dtype).view(tuple(shape))

    def weights(self, values: Sequence[float], shape: Sequence[int], dtype: Any, like: Array) -> Array:
        return torch.tensor(list(values), dtype=dtype, device=like.device).reshape(tuple(shape))

    def from_numpy(self, numbers: Any, like: Array) -> Array:
        return torch.from_numpy(np.array(numbers)).to(device=like.device, dtype=like.dtype)

    def to_numpy(self, x: Array) -> Any:
        """Convert a tensor to NumPy; bfloat16 to float32."""
        x = x.detach().cpu()
        return (x.float() if x.dtype == torch.bfloat16 else x).numpy()

    def concat(self, tiles: Sequence[Array], axis: int) -> Array:
        return torch.cat(list(tiles), dim=axis)

    def put(self, out: Array, region: Region, part: Array, source: Region) -> Array:
        out[region] = part[source]
        return out

    def blend(  # noqa: PLR0913, PLR0917
        self, out: Array, region: Region, part: Array, source: Region, weight: Array, base: Array | None
    ) -> Array:
        target, part = out[region], part[source]
        base = target if base is out else base
        if part.requires_grad or out.requires_grad:  # writing through out= cannot be differentiated
            value = part * weight
            out[region] = value if base is None else base + value
        elif not part.dtype == weight.dtype == target.dtype:
            _blend_rounded(target, part, weight, base)
        elif base is None:
            torch.mul(part, weight, out=target)
        else:
            torch.addcmul(base, part, weight, out=target)
        return out


def _blend_rounded(target: Array, part: Array, weight: Array, base: Array | None) -> None:
    """Write ``target = base + part * weight`` between dtypes; on the CPU in pieces, without temporaries of its size."""
    weight = weight.expand(target.shape)
    everything = [(slice(None),) * target.ndim]
    for piece in pieces(target.shape, PIECE_CELLS) if target.device.type == "cpu" else everything:
        value = part[piece] * weight[piece]
        target[piece] = value if base is None else value.add_(base[piece])
