"""A small input through an exact function and through the plain call, before a large one is trusted to it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

from tilekit._errors import TraceError
from tilekit._exact.api import Exact
from tilekit._exact.trace import plainly
from tilekit.adapters._classes import Direction
from tilekit.backends import Array

__all__ = ["check_once"]

LIMIT = 1e-4
"""Largest difference over largest value that is accepted in float32."""
CELLS = 8
"""Latents along height and width of the small input."""
FRAMES = 3
SOUND = 64
"""Latents along time where that is the only axis."""
_DONE: WeakKeyDictionary[Any, set[Hashable]] = WeakKeyDictionary()
"""What was compared for each module."""


def check_once(function: Exact, x: Array, owner: Any, key: tuple[Direction, Hashable]) -> None:
    """
    Compare an exact function with the plain one on a corner of an input, unless that was done for this module.

    Raises
    ------
    TraceError
        If they differ by more than rounding does.
    """
    done = _DONE.setdefault(owner, set())
    full = (*key, x.dtype, x.device)
    if full not in done:
        _check(function, x, key[0])
        done.add(full)


def _check(function: Exact, x: Array, direction: Direction) -> None:
    cut = Exact(function.function)
    cut._uncut = 0  # strips are what is checked
    for part in _corners(cut, x, direction):
        try:
            want = plainly(function.function, part)
        except (RuntimeError, ValueError, IndexError, AssertionError):
            if part.shape == x.shape:
                raise
            continue  # too small for this network
        _compare(function, cut(part), want, part)
        return


def _compare(function: Exact, got: Array, want: Array, part: Array) -> None:
    difference = (got.double() - want.double()).abs().max().item()
    largest = want.double().abs().max().item() or 1.0
    limit = _limit(got)
    if not difference <= limit * largest:
        msg = (
            f"{function.function.__qualname__}: for a small input of shape {tuple(part.shape)} the result differs from "
            f"the plain call by {difference / largest:.1e} of the largest value, more than {limit:.0e} is not accepted"
        )
        raise TraceError(msg)


def _limit(made: Any) -> float:
    """Give what rounding may do: other orders of sums in half precision, and TF32 on a GPU."""
    import torch

    if made.dtype in {torch.float16, torch.bfloat16} or torch.is_autocast_enabled(made.device.type):
        kind = made.dtype if made.dtype != torch.float32 else torch.get_autocast_dtype(made.device.type)
        return 16 * float(torch.finfo(kind).eps)
    fast = made.device.type == "cuda" and (torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32)
    return 1e-2 if fast else LIMIT


def _corners(function: Exact, x: Array, direction: Direction) -> Iterator[Array]:
    """Give corners of an input, each larger than the one before; the last is the input."""
    ratios = [1] * x.ndim
    if direction == "encode":
        graph = function._follow(x).graph
        out = graph.nodes[graph.output].shape
        if len(out) == x.ndim:
            ratios = [max(1, round(n / m)) for n, m in zip(x.shape, out, strict=True)]
    for factor in (1, 2, 4):
        shape = _shape(tuple(x.shape), ratios, factor)
        if shape != tuple(x.shape):
            yield x[tuple(slice(0, n) for n in shape)].clone()
    yield x


def _shape(shape: tuple[int, ...], ratios: list[int], factor: int) -> tuple[int, ...]:
    cells = {3: (SOUND,), 4: (CELLS, CELLS), 5: (FRAMES, CELLS, CELLS)}.get(len(shape), ())
    first = len(shape) - len(cells)
    small = list(shape)
    for axis, count in enumerate(cells, first):
        ratio, n = ratios[axis], shape[axis]
        wanted = count * factor * ratio
        if n > wanted:
            small[axis] = wanted + n % ratio if len(shape) == 5 and axis == first else wanted
    return tuple(small)
