"""Shapes that were worked out before: layers of a network, and chunks of a clip, ask for the same again and again."""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, in_kernel_invocation_manager

from tilekit._exact.frontends._torch.aliases import is_view

__all__ = ["Remembered"]

_Lies = tuple[torch.Size, tuple[int, ...], int, torch.dtype, torch.device]
_PLAIN = {int, float, bool, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format}


class _NotPlainError(Exception):
    """An argument that says more than its type and its numbers."""


class Remembered:
    """
    Runs operations on tensors without memory, each kind once.

    Parameters
    ----------
    fake : FakeTensorMode
        What works out shapes.
    """

    def __init__(self, fake: FakeTensorMode) -> None:
        self._fake = fake
        self._known: dict[Any, _Lies] = {}

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Make an operation, from what is known of it where that says all."""
        if not _makes_one(func):
            return func(*args, **kwargs)
        try:
            key = (func, self._key(args), self._key(kwargs) if kwargs else None)
        except _NotPlainError:
            return func(*args, **kwargs)
        lies = self._known.get(key)
        if lies is not None:
            return self._made(args[0] if _shares(func) else None, lies)
        made = func(*args, **kwargs)
        if type(made) is FakeTensor and made.constant is None and _found_again(func, args, made):
            offset = int(made.storage_offset()) - (int(args[0].storage_offset()) if _shares(func) else 0)
            self._known[key] = made.shape, made.stride(), offset, made.dtype, made.fake_device
        return made

    def _made(self, source: Tensor | None, lies: _Lies) -> Tensor:
        """Give a tensor in memory of its own, or a view of one."""
        shape, strides, offset, dtype, device = lies
        with in_kernel_invocation_manager(self._fake):
            if source is None:
                made = torch.empty_strided(shape, strides, dtype=dtype, device="meta")
            else:
                made = torch.as_strided(source, shape, strides, int(source.storage_offset()) + offset)
        return FakeTensor(self._fake, made, device)

    def _key(self, value: Any) -> Any:
        kind = type(value)
        if kind is FakeTensor:
            if value.constant is not None or value.layout is not torch.strided:
                raise _NotPlainError
            return value.shape, value.stride(), value.dtype, value.fake_device
        if kind in _PLAIN:
            return kind, value
        if kind is list or kind is tuple:
            return tuple([self._key(item) for item in value])
        if kind is dict:
            return tuple([(name, self._key(item)) for name, item in value.items()])
        raise _NotPlainError


@cache
def _shares(func: Any) -> bool:
    """Whether what an operation gives lies in the memory of its first argument."""
    return is_view(func) or func is torch.ops.aten._unsafe_view.default


@cache
def _makes_one(func: Any) -> bool:
    """Whether an operation writes nothing, draws nothing, and gives one tensor."""
    returns = func._schema.returns
    return (
        len(returns) == 1
        and str(returns[0].type) == "Tensor"
        and func.namespace in {"aten", "prims", "tilekit"}
        and not func._schema.is_mutable
        and not {torch.Tag.nondeterministic_seeded, torch.Tag.data_dependent_output} & set(func.tags)
        and torch.Tag.dynamic_output_shape not in func.tags
    )


def _found_again(func: Any, args: Any, made: FakeTensor) -> bool:
    """Whether shape and strides say all: of memory of its own, or of a view with the same kind of numbers."""
    if _shares(func):
        return bool(args) and type(args[0]) is FakeTensor and args[0].dtype is made.dtype
    return not made.storage_offset()
