"""PyTorch on the processor, with the faults of other devices played: what tests of limits run on."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode

from tilekit.backends._counted_torch import convolution_of, padded_frame_of, storage, work_of
from tilekit.backends._faults import Faults
from tilekit.backends.limits import Limits

__all__ = ["TorchFaults"]

_ATEN = torch.ops.aten


class TorchFaults(Faults, TorchDispatchMode):
    """
    Give wrong numbers where a device with these limits would, and remember the largest arrays.

    Parameters
    ----------
    limits : Limits
        What is right; views count as what they are a part of.
    """

    def __init__(self, limits: Limits) -> None:
        Faults.__init__(self, limits)
        TorchDispatchMode.__init__(self)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Compute, and spoil what is too large; what would take too long is ended."""
        if not any(isinstance(x, FakeTensor) or x.is_meta for x in args if isinstance(x, torch.Tensor)):
            found = work_of(func, args)
            if found is not None:
                self.watch(*found, str(func))
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, tuple | list) else (out,):
            if isinstance(made, torch.Tensor) and not isinstance(made, FakeTensor) and _computed(made):
                self._look(func, args, made)
        return out

    def _look(self, func: Any, args: Sequence[Any], made: torch.Tensor) -> None:
        wrong = self.large(storage(made))
        if (found := convolution_of(func, args, made)) is not None:
            wrong |= self.convolved(*found)
        if wrong and func is not _ATEN.empty.memory_format:
            self._spoil(func, made, 0)
        frame = padded_frame_of(func, args, made)
        if frame is not None and self.padded(frame):
            self._spoil(func, made, args[2] if len(args) > 2 else 0)

    def _spoil(self, func: Any, made: torch.Tensor, value: float) -> None:
        self.played.append(str(func))
        if not made.is_inference() or torch.is_inference_mode_enabled():
            _ATEN.fill_.Scalar(made.detach(), value)


def _computed(made: torch.Tensor) -> bool:
    """Whether a device would compute this: not what has no numbers, and not bytes, which go to another rank as such."""
    return not made.is_meta and made.dtype is not torch.uint8
