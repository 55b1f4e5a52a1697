"""Calls that a compiler must leave as they are: they compute piece by piece, and look at what is there."""

import sys
from collections.abc import Callable, Generator
from typing import Any, TypeVar

__all__ = ["apart", "each_apart", "uncompiled"]

Block = TypeVar("Block")
Function = TypeVar("Function", bound=Callable[..., Any])

_REASON = (
    "tilekit.exact computes piece by piece, outside of compiled graphs: compile without fullgraph=True, or compile the "
    "function around it and not the call"
)


def uncompiled(function: Function) -> Function:
    """Tell `torch.compile` not to follow a function, and why, as its own decorator does, which takes long to import."""
    vars(function).update(_torchdynamo_disable=True, _torchdynamo_disable_msg=_REASON)
    return function


def apart(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function in which nothing is compiled, where `torch.compile` is in use."""
    dynamo = sys.modules.get("torch._dynamo")
    return function if dynamo is None else dynamo.disable(function, reason=_REASON)


def each_apart(blocks: Generator[Block, None, None]) -> Generator[Block, None, None]:
    """Go through what is made step by step, each step apart."""
    if "torch._dynamo" not in sys.modules:
        yield from blocks
        return
    step = apart(lambda: next(blocks, None))
    try:
        while (block := step()) is not None:
            yield block
    finally:
        blocks.close()
