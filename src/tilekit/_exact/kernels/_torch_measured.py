"""What a call of PyTorch takes for itself, found by a run on tensors without memory."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from tilekit._exact.boxes import Shape, cells, extent
from tilekit._exact.ghosts import in_order
from tilekit._exact.kernels._jobs import Job, Laid
from tilekit._exact.ops import Attention, Reduce

__all__ = ["measured", "quiet", "taken"]

KNOWN = 1 << 14
"""Calls that are remembered; strips ask for the same again and again."""
WORDY = 1 << 12
"""Letters in which an operation is said; those that take more are known by identity."""
Lying = tuple[Shape, Shape, torch.dtype]
"""A shape, strides in cells, and what the cells are."""
_known: dict[Any, tuple[Any, int]] = {}
_kinds: dict[int, tuple[Any, str | int]] = {}
_nothing: set[Any] = set()
"""Reductions that took nothing for themselves on an array in order: they do so on none, and strips have many sizes."""


def measured(job: Job[Any], device: torch.device) -> int:
    """Count the bytes beside what is made and what is given; 0 where torch cannot run the call without numbers."""
    given = tuple(None if box is None else extent(box) for box in job.boxes)
    rows = job.box[2] if isinstance(job.op, Attention) and job.op.causal else None
    kind = _kind(job.op)
    key = (device, kind, extent(job.box), given, job.given, rows)
    found = _known.get(key)
    if found is None or (found[0] is not job.op and kind == id(job.op)):
        alike = _reducing(job, kind, device)
        if alike in _nothing:
            return 0
        if len(_known) > KNOWN:
            _known.clear()
        found = _known[key] = job.op, _run(job, device)
        if alike is not None and found[1] == 0 and not isinstance(found[1], Laid):
            _nothing.add(alike)
    return found[1]


def _reducing(job: Job[Any], kind: str | int, device: torch.device) -> Any:
    """Say what reductions of arrays in order are alike but for sizes; None for anything else."""
    if not isinstance(job.op, Reduce) or isinstance(kind, int) or len(job.given) != 1:
        return None
    box, lies = job.boxes[0], job.given[0]
    if box is None or lies is None or cells(box) <= cells(job.box) or cells(job.box) < 2:  # tells nothing of others
        return None
    return (device, kind, job.dtype, lies[0], len(box)) if in_order(extent(box), lies[1]) else None


def _kind(op: Any) -> str | int:
    """Say what an operation does, in words, where that is all: layers and chunks that are alike are measured once."""
    found = _kinds.get(id(op))
    if found is None or found[0] is not op:
        if len(_kinds) > KNOWN:
            _kinds.clear()
        text = repr(op)  # numbers keep their type in it: 1 is not 1.0
        found = _kinds[id(op)] = op, id(op) if " at 0x" in text or len(text) > WORDY else text
    return found[1]


def _run(job: Job[Any], device: torch.device) -> int:
    given = [
        None if box is None or lies is None else (extent(box), lies[1], getattr(torch, lies[0]))
        for box, lies in zip(job.boxes, job.given, strict=True)
    ]
    rows = (job.box[2],) if isinstance(job.op, Attention) else ()
    return taken(lambda arrays: job.op.call(arrays, *rows), given, device)


def taken(call: Callable[[list[Any]], Any], given: Sequence[Lying | None], device: torch.device) -> int:
    """Count the bytes that a call makes beside what it gives, and say how that lies; 0 where it asks for numbers."""
    with _disable_current_modes(), torch.no_grad(), _fakes():
        arrays = [None if row is None else torch.empty_strided(*row[:2], dtype=row[2], device=device) for row in given]
        counted = _Counted(arrays)
        try:
            with counted, quiet():
                made = call(arrays)
        # torch has no one error for what needs numbers; the run itself raises whatever is wrong with the call
        except (RuntimeError, NotImplementedError, TypeError, ValueError):
            return 0
        made = made[0] if isinstance(made, (tuple, list)) else made
        strides = None if in_order(tuple(made.shape), made.stride()) else made.stride()
        return Laid.of(max(0, counted.peak - counted.of(made)), strides)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep torch from printing what it cannot run without numbers."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


@cache
def _fakes() -> FakeTensorMode:
    """Give tensors that have a device, by which torch chooses its kernels, and no memory."""
    return FakeTensorMode(allow_non_fake_inputs=True)


class _Counted(TorchDispatchMode):
    """The bytes of tensors that come up, at their peak."""

    def __init__(self, given: Sequence[Tensor | None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types here
        self._given = {x.untyped_storage()._cdata for x in given if x is not None}
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def of(self, x: Tensor) -> int:
        """Give the bytes of a tensor that is no part of what was given."""
        storage = x.untyped_storage()
        return 0 if storage._cdata in self._given else storage.nbytes()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self._alive = {key: row for key, row in self._alive.items() if not row[0].expired()}
        for x in made if isinstance(made, (tuple, list)) else (made,):
            storage = x.untyped_storage() if isinstance(x, Tensor) else None
            if storage is not None and storage._cdata not in self._given:
                self._alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.peak = max(self.peak, sum(nbytes for _, nbytes in self._alive.values()))
        return made
