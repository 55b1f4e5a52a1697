"""
Parts of arrays of JAX that are made where they are read.

JAX has no views: a slice, another order of axes, a repeated row are copies. Here they are said, not made; the operation
that reads them is compiled together with them, so that none of them is an array of its own. Where a part begins is
handed in when the operation runs, so parts of one shape share what was compiled.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax

from tilekit._exact.boxes import Shape
from tilekit._exact.chain import Chain
from tilekit._exact.ghosts import Ghost, Ledger
from tilekit.backends import Array

__all__ = ["Pure", "View", "is_pure", "made", "resolved", "written"]

Step = tuple[Any, ...]
"""The name of what is done, and its integers: `cut` (sizes, steps), `flip`, `reshape`, `permute`, `expand`."""


class Pure:
    """Marks a call of JAX alone: hashable, and compiled together with the views that it reads."""

    __slots__ = ()


class View:
    """
    Cells of an array, in another order or a part of them.

    Parameters
    ----------
    base : array
        What is kept alive.
    steps : tuple of Step
        What is done with it.
    starts : tuple of int
        Where the parts begin, for one `cut` after the other.
    lies : Ghost
        The strides that a view in memory would have: where there is none, a copy is counted, and made.
    """

    __slots__ = ("base", "lies", "starts", "steps")

    def __init__(self, base: Any, steps: tuple[Step, ...], starts: tuple[int, ...], lies: Ghost) -> None:
        self.base = base
        self.steps = steps
        self.starts = starts
        self.lies = lies

    @classmethod
    def of(cls, x: Array) -> "View":
        """Give the view of a whole array; a view as it is."""
        if isinstance(x, View):
            return x
        return cls(x, (), (), Ledger().ghost(tuple(x.shape), x.dtype.itemsize))

    @property
    def shape(self) -> Shape:
        """Of what is seen."""
        return self.lies.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.lies.shape)

    @property
    def size(self) -> int:
        """The number of cells."""
        return math.prod(self.lies.shape)

    @property
    def dtype(self) -> Any:
        """That of the array."""
        return self.base.dtype

    @property
    def nbytes(self) -> int:
        """The bytes of what is seen."""
        return self.lies.nbytes

    def __getitem__(self, region: Any) -> Any:
        """Give a part as an array."""
        return resolved(self)[region]

    def __array__(self, *arguments: Any, **keywords: Any) -> Any:
        """Give NumPy's array."""
        return np.asarray(resolved(self), *arguments, **keywords)

    def then(self, step: Step, lies: Ghost, starts: tuple[int, ...] = ()) -> "View":
        """Give the view of this one."""
        return View(self.base, (*self.steps, step), (*self.starts, *starts), lies)

    def cut(self, region: tuple[slice, ...]) -> "View":
        """Give a region."""
        rows = [part.indices(n) for part, n in zip(region, self.shape, strict=True)]
        sizes = tuple(max(0, (stop - start - 1) // step * step + 1) for start, stop, step in rows)
        step = ("cut", sizes, tuple(step for _, _, step in rows))
        return self.then(step, self.lies.cut(region), tuple(start for start, _, _ in rows))

    def reshape(self, shape: Shape) -> "View | None":
        """Give another shape; None where cells would be copied."""
        lies = self.lies.reshape(shape)
        return None if lies is None else self.then(("reshape", tuple(shape)), lies)

    def permute(self, axes: tuple[int, ...]) -> "View":
        """Put the axes into another order."""
        shape, strides = (tuple(row[axis] for axis in axes) for row in (self.shape, self.lies.strides))
        return self.then(("permute", axes), self.lies.view(shape, strides))

    def flip(self, axes: tuple[int, ...]) -> "View":
        """Turn axes round."""
        strides = tuple(-n if axis in axes else n for axis, n in enumerate(self.lies.strides))
        return self.then(("flip", axes), self.lies.view(self.shape, strides))

    def expand(self, shape: Shape) -> "View":
        """Repeat axes of one cell, and new ones in front."""
        lead = len(shape) - self.ndim
        rows = zip(self.shape, shape[lead:], self.lies.strides, strict=True)
        strides = (*(0,) * lead, *(0 if m != n else stride for m, n, stride in rows))
        return self.then(("expand", tuple(shape)), self.lies.view(tuple(shape), strides))


def is_pure(call: Any) -> bool:
    """Whether a call may be compiled."""
    return isinstance(call, Pure) or (isinstance(call, Chain) and all(is_pure(link.call) for link in call.links))


def made(call: Callable[[Sequence[Any]], Any], arrays: Sequence[Array]) -> Any:
    """Run a call that is hashable and pure, compiled with the views that it is given."""
    return _run(call, *_taken(arrays))


def resolved(x: Array) -> Any:
    """Give an array: a view is made, an array given back."""
    if not isinstance(x, View):
        return x
    return _run(_first, *_taken([x])) if x.steps else x.base


def written(out: Array, starts: Sequence[int], part: Array) -> Any:
    """Write a part into an array whose memory is used again; `out` must not be read any more."""
    return _write(out, *_taken([part]), np.asarray(starts, np.int32))


def _taken(arrays: Sequence[Array]) -> tuple[Any, Any, Any]:
    """Take views apart: what is compiled, the arrays, and where parts begin."""
    steps, bases, starts = [], [], []
    for x in arrays:
        if isinstance(x, View):
            steps.append(x.steps)
            bases.append(x.base)
            starts.append(np.asarray(x.starts, np.int32) if x.starts else None)
        else:
            steps.append(())
            bases.append(x)
            starts.append(None)
    return tuple(steps), tuple(bases), tuple(starts)


def _first(arrays: Sequence[Any]) -> Any:
    return arrays[0]


@partial(jax.jit, static_argnums=(0, 1))
def _run(call: Any, steps: Any, bases: Any, starts: Any) -> Any:
    return call(_looked_at(steps, bases, starts))


@partial(jax.jit, static_argnums=1, donate_argnums=0)
def _write(out: Any, steps: Any, bases: Any, starts: Any, at: Any) -> Any:
    (part,) = _looked_at(steps, bases, starts)
    return lax.dynamic_update_slice(out, part.astype(out.dtype), [at[d] for d in range(out.ndim)])


def _looked_at(steps: Any, bases: Any, starts: Any) -> list[Any]:
    return [
        base if base is None else _followed(base, row, at) for base, row, at in zip(bases, steps, starts, strict=True)
    ]


def _followed(x: Any, steps: tuple[Step, ...], starts: Any) -> Any:
    at = 0
    for name, *arguments in steps:
        if name == "cut":
            sizes, strides = arguments
            x = lax.dynamic_slice(x, [starts[at + d] for d in range(x.ndim)], sizes)
            at += len(sizes)
            if any(n != 1 for n in strides):
                x = lax.slice(x, (0,) * x.ndim, x.shape, strides)
        elif name == "permute":
            x = lax.transpose(x, arguments[0])
        elif name == "reshape":
            x = lax.reshape(x, arguments[0])
        elif name == "flip":
            x = lax.rev(x, arguments[0])
        else:
            x = jax.numpy.broadcast_to(x, arguments[0])
    return x
