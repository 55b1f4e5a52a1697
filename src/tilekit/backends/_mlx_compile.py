"""Functions of MLX as they are written, while something follows or replaces what they call."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import TypeVar

import mlx.core as mx

__all__ = ["PROBES", "probing", "uncompiled"]

PROBES: set[CodeType] = set()
"""The code of functions that look at numbers where they may, and do the same where they may not."""
F = TypeVar("F", bound=Callable[..., object])


def probing(function: F) -> F:
    """Mark a function that does the same where MLX refuses it the numbers of an array."""
    assert isinstance(function, FunctionType)
    PROBES.add(function.__code__)
    return function


@contextmanager
def uncompiled() -> Iterator[None]:
    """Switch `mx.compile` off: what is compiled over captured arrays has no state to hand out."""
    if not _compiles():
        yield
        return
    mx.disable_compile()
    try:
        yield
    finally:
        mx.enable_compile()


def _compiles() -> bool:
    """Whether `mx.compile` is on, which MLX does not tell: look whether a compiled part shows in a trace."""
    one = mx.array(1.0)
    fused = mx.compile(lambda x: mx.exp(x) + 1.0)
    try:
        mx.export_function(lambda _: None, lambda x: x + fused(one), one)
    except ValueError:
        return True
    return False
