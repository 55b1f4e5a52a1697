"""What a call of PyTorch takes for itself, found by a run on tensors without memory."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from tilekit._exact.boxes import Shape, extent
from tilekit._exact.kernels._jobs import Job, Laid
from tilekit._exact.kernels._torch_layout import in_order
from tilekit._exact.ops import Attention

__all__ = ["measured"]

KNOWN = 1 << 14
"""Calls that are remembered; strips ask for the same again and again."""
WORDY = 1 << 12
"""Letters in which an operation is said; those that take more are known by identity."""
_known: dict[Any, tuple[Any, int]] = {}
_kinds: dict[int, tuple[Any, str | int]] = {}


def measured(job: Job[Any], device: torch.device) -> int:
    """Count the bytes beside what is made and what is given; 0 where torch cannot run the call without numbers."""
    given = tuple(None if box is None else extent(box) for box in job.boxes)
    rows = job.box[2] if isinstance(job.op, Attention) and job.op.causal else None
    kind = _kind(job.op)
    key = (device, kind, extent(job.box), given, job.given, rows)
    found = _known.get(key)
    if found is None or (found[0] is not job.op and kind == id(job.op)):
        if len(_known) > KNOWN:
            _known.clear()
        found = _known[key] = job.op, _run(job, device)
    return found[1]


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
    mode = _fakes()
    with torch.no_grad(), mode:
        arrays = [
            None if box is None or lies is None else _empty(extent(box), *lies, device)
            for box, lies in zip(job.boxes, job.given, strict=True)
        ]
        counted = _Counted(arrays)
        try:
            with counted, _quiet():
                made = job.op.call(arrays, job.box[2]) if isinstance(job.op, Attention) else job.op.call(arrays)
        # torch has no one error for what needs numbers; the run itself raises whatever is wrong with the call
        except (RuntimeError, NotImplementedError, TypeError, ValueError):
            return 0
        strides = None if in_order(tuple(made.shape), made.stride()) else made.stride()
        return Laid.of(max(0, counted.peak - counted.of(made)), strides)


@contextmanager
def _quiet() -> Iterator[None]:
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


def _empty(shape: Shape, dtype: str, strides: Shape, device: torch.device) -> Tensor:
    return torch.empty_strided(shape, strides, dtype=getattr(torch, dtype), device=device)


class _Counted(TorchDispatchMode):
    """The bytes of tensors that come up, at their peak."""

    def __init__(self, given: list[Tensor | None]) -> None:
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
