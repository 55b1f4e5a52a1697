"""Caches of functions that a run filled with tensors without memory, which nobody else may see."""

import gc
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from tilekit._exact.frontends._torch.record import leaf_tensors

__all__ = ["clear_caches"]


def clear_caches(reached: Iterable[Any]) -> None:
    """Empty each `functools.lru_cache` that holds a stand-in; what it held is made again when it is asked for."""
    for thing in reached:
        if _holds_fakes(thing):
            thing.cache_clear()


def _holds_fakes(cached: Any) -> bool:
    if getattr(cached, "__module__", "").startswith("torch."):
        return False
    return any(
        _is_hollow(x)
        for value in gc.get_referents(cached)
        if isinstance(value, (Tensor, list, tuple, dict))
        for x in leaf_tensors(value)
    )


def _is_hollow(x: Tensor) -> bool:
    """Whether a tensor is a stand-in, of either kind that a function is handed."""
    if isinstance(x, FakeTensor):
        return True
    return type(x) is Tensor and x.layout is torch.strided and x.untyped_storage().device.type == "meta"
