"""A second run that computes nothing as long as it asks for the same as the first: it is given what that one made."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, in_kernel_invocation_manager

from tilekit._exact.frontends._torch.aliases import is_view
from tilekit._exact.frontends._torch.caches import clear_caches
from tilekit._exact.frontends._torch.follow import Run, single
from tilekit._exact.frontends._torch.leaves import Leaves
from tilekit._exact.frontends._torch.record import Entry, Recorder, fake_world
from tilekit._exact.frontends.randomness import generators

__all__ = ["goes_alike", "literal"]


class _OtherwiseError(Exception):
    """The second run asks for something else than the first."""


class _Again(Recorder):
    """Compares each operation with the one that the first run asked for in its place, and gives the same tensors."""

    def __init__(self, run: Run) -> None:
        super().__init__(run.recorder.names, run.recorder.scalar, run.recorder.known, run.fake)
        self._first, self._fake = run.entries, run.fake
        self._stands: dict[int, Tensor] = {}
        """For each view that was made anew, the tensor of the first run, by identity."""
        self._kept: list[Tensor] = []
        self._at = 0
        self._otherwise = False

    @property
    def alike(self) -> bool:
        """Whether all that the first run asked for was asked for again, and nothing else."""
        return not self._otherwise and self._at == len(self._first)

    def _run(self, func: Any, args: Any, kwargs: Any) -> Any:
        if not _gives_tensors(func):
            return super()._run(func, args, kwargs)
        entry = self._first[self._at] if self._at < len(self._first) and not self._otherwise else None
        if (
            entry is None
            or func is not entry.op
            or not (self._same(entry.args, args) and self._same(entry.kwargs, kwargs))
        ):
            self._otherwise = True
            raise _OtherwiseError
        self._at += 1
        made = tuple(map(self._view, entry.outputs)) if is_view(func) else entry.outputs
        if not entry.several:
            return made[0]
        return made if len(func._schema.returns) > 1 else list(made)

    def _view(self, x: Tensor) -> Tensor:
        """Give a tensor that stands for a view of the first run: torch wants each view to be a new one."""
        with in_kernel_invocation_manager(self._fake):
            shared = x.detach()
        made = FakeTensor(self._fake, shared, x.device)
        self._stands[id(made)] = x
        self._kept.append(made)
        return made

    def forget(self) -> None:
        """Let go of all tensors, which are held in a circle."""
        self._stands.clear()
        self._kept.clear()
        self.aliases.forget()

    def first(self, x: Tensor) -> Tensor:
        """Give the tensor of the first run that a tensor is, or stands for."""
        return self._stands.get(id(x), x)

    def _same(self, a: Any, b: Any) -> bool:
        """Whether an argument is the one of the first run."""
        if a is b:
            return True
        if isinstance(a, Tensor):
            return a is self._stands.get(id(b)) or (type(a) is type(b) is Tensor and literal(a) == literal(b))
        if type(a) is not type(b):
            return False
        if isinstance(a, (list, tuple)):
            return len(a) == len(b) and all(map(self._same, a, b))
        if isinstance(a, dict):
            return a.keys() == b.keys() and all(self._same(a[key], b[key]) for key in a)
        return str(a) == str(b)


def goes_alike(function: Callable[..., Any], run: Run) -> bool:
    """
    Whether a second run asks for the same operations of the same tensors as the first.

    False also says that this cannot be told so simply: where random numbers are drawn, where a tensor itself is turned,
    or where the second run fails. What the run writes is left to the caller to put back.
    """
    if run.recorder.turned or not all(_stays(entry) for entry in run.entries):
        return False
    again = _Again(run)
    draws = generators()
    try:
        with fake_world(again, run.fake, Leaves()), run.stand_ins.put(run.stand_ins.tensors):
            made = again.aliases.now(single(function, function(run.input)))
    # an error of the function that is followed, of any kind: the whole second run, which comes next, says what it is
    except Exception:
        return False
    finally:
        clear_caches(run.captured.cached)
    alike = again.alike and again.first(made) is run.output and generators() == draws
    again.forget()
    return alike


def _stays(entry: Entry) -> bool:
    """Whether an operation draws nothing, and what it made has the shape that it was made with."""
    if torch.Tag.nondeterministic_seeded in entry.op.tags:
        return False
    pairs = zip(entry.outputs, entry.shapes, strict=True)
    return all(not isinstance(x, Tensor) or tuple(x.shape) == shape for x, shape in pairs)


def literal(x: Tensor) -> Any:
    """Describe an array of plain numbers."""
    plain = type(x) is Tensor and x.device.type != "meta" and x.layout == torch.strided
    flat = x.detach().resolve_conj().resolve_neg().cpu().reshape(-1) if plain else None
    return (
        "literal",
        tuple(x.shape),
        str(x.dtype),
        None if flat is None else hash(flat.view(torch.uint8).numpy().tobytes()),
    )


@cache
def _gives_tensors(func: Any) -> bool:
    return any("Tensor" in str(made.type) for made in func._schema.returns)
