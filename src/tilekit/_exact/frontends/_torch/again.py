"""A second run that computes nothing as long as it asks for the same as the first: it is given what that one made."""

import weakref
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, in_kernel_invocation_manager
from torch.utils._python_dispatch import _disable_current_modes

from tilekit._exact.frontends._torch.caches import clear_caches
from tilekit._exact.frontends._torch.follow import Run, single
from tilekit._exact.frontends._torch.leaves import Leaves, beside
from tilekit._exact.frontends._torch.record import DEVICE, Entry, Recorder, fake_world, mapped
from tilekit._exact.frontends.randomness import generators

__all__ = ["goes_alike", "literal"]


class _OtherwiseError(Exception):
    """The second run asks for something else than the first."""


class _Again(Recorder):
    """
    Compares each operation with the one that the first run asked for in its place, and gives the same again.

    The function is handed a new tensor for each of the first run, so that it is seen how long it keeps it. With `bare`
    these are of the very class `torch.Tensor`, as in a plain call.
    """

    def __init__(self, run: Run, *, bare: bool) -> None:
        super().__init__(run.recorder.names, run.recorder.numbers, run.recorder.known, run.fake)
        self._first, self._fake, self._bare = run.entries, run.fake, bare
        self._stands: dict[int, tuple[Tensor, weakref.ref[Tensor]]] = {}
        """For each tensor that the function has, that of the first run, by identity."""
        self.input = run.input
        there = (run.input, *run.stand_ins.tensors)
        self._tensors = {x.untyped_storage()._cdata: 1 for x in there}
        """For each memory, in how many tensors the function has it; that of the input and of weights stays."""
        self._latest: Any = None
        """What was handed out last: torch copies what it makes from nothing if it is held, as in the first run."""
        self._at = self._live = self.peak = 0
        self.own: list[tuple[int, Entry]] = []
        """What was live after each of our own operations."""
        self._otherwise = False

    @property
    def alike(self) -> bool:
        """Whether all that the first run asked for was asked for again, and nothing else."""
        return not self._otherwise and self._at == len(self._first)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Ask for the operation of the first run's tensors, and hand out others."""
        self._latest = None
        if func is DEVICE:
            known = self.first(args[0])
            if type(known) is FakeTensor:
                return known.fake_device
        given: dict[int, Tensor] = {}

        def first(x: Tensor) -> Tensor:
            known = self._stands.get(id(x))
            if known is None:
                return x
            given[id(known[0])] = x
            return known[0]

        out = super().__torch_dispatch__(func, types, mapped(first, args), mapped(first, kwargs or {}))
        self._latest = mapped(lambda x: given[id(x)] if id(x) in given else self._handed(x), out)
        self.peak = max(self.peak, self._live)
        if type(func) is OpOverload and func.namespace == "tilekit":
            self.own.append((self._live, self._first[self._at - 1]))
        return self._latest

    def _run(self, func: Any, args: Any, kwargs: Any) -> Any:
        if not _gives_tensors(func):
            return super()._run(func, args, kwargs)
        entry = self._first[self._at] if self._at < len(self._first) and not self._otherwise else None
        if entry is None or func is not entry.op or not (_same(entry.args, args) and _same(entry.kwargs, kwargs)):
            self._otherwise = True
            raise _OtherwiseError
        self._at += 1
        made = entry.outputs
        if not entry.several:
            return made[0]
        return made if len(func._schema.returns) > 1 else list(made)

    def _handed(self, x: Tensor) -> Tensor:
        """Give a tensor that stands for one of the first run, and count its array as long as one like it is there."""
        if id(x) in self._stands:  # made by an operation that came in parts
            return x
        made = self.stand(x)
        memory = self.aliases.source(x).untyped_storage()
        key, number = memory._cdata, id(made)
        if key not in self._tensors:
            self._tensors[key] = 0
            self._live += memory.nbytes()
        self._tensors[key] += 1

        def gone(_: Any) -> None:
            self._stands.pop(number, None)
            self._tensors[key] -= 1
            if not self._tensors[key]:
                del self._tensors[key]
                self._live -= memory.nbytes()

        self._stands[number] = x, weakref.ref(made, gone)
        return made

    def stand(self, x: Tensor) -> Tensor:
        """Give another tensor for one of the first run; that of the input has to be held."""
        with in_kernel_invocation_manager(self._fake):
            shared = x.detach()
        device = x.device
        if not self._bare:
            return FakeTensor(self._fake, shared, device)
        return Tensor._make_subclass(Tensor, shared, False, dispatch_device=True, device_for_backend_keys=device)

    def given(self) -> Tensor:
        """Give what stands for the input."""
        made = self.stand(self.input)
        self._stands[id(made)] = self.input, weakref.ref(made)
        return made

    def replace(self, x: Tensor, value: Tensor) -> None:
        """Follow ``x.data = value`` of the tensors of the first run."""
        super().replace(self.first(x), self.first(value))

    def forget(self) -> None:
        """Let go of all tensors, which are held in a circle."""
        self._latest = None
        self._stands.clear()
        self.aliases.forget()

    def first(self, x: Tensor) -> Tensor:
        """Give the tensor of the first run that a tensor stands for."""
        return self._stands[id(x)][0] if id(x) in self._stands else x


def _same(a: Any, b: Any) -> bool:
    """Whether an argument is the one of the first run."""
    if a is b:
        return True
    if isinstance(a, Tensor):
        return type(a) is type(b) is Tensor and literal(a) == literal(b)
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    return str(a) == str(b)


def goes_alike(function: Callable[..., Any], run: Run, *, bare: bool) -> bool:
    """
    Whether a second run asks for the same operations of the same tensors as the first.

    False also says that this cannot be told so simply: where random numbers are drawn, where a tensor itself is turned,
    or where the second run fails. What the run writes is left to the caller to put back. With `bare` the function is
    handed tensors of the very class of a plain call.
    """
    if run.recorder.turned or not all(_stays(entry) for entry in run.entries):
        return False
    again = _Again(run, bare=bare)
    leaves = Leaves(lambda x: again.numbers(again.aliases.now(again.first(x))), again.note_refused, again.replace)
    draws = generators()
    try:
        with fake_world(again, run.fake, leaves), run.stand_ins.put(run.stand_ins.tensors):
            source = again.given() if bare else run.input
            made = again.aliases.now(again.first(single(function, function(source))))
    # an error of the function that is followed, of any kind: the whole second run, which comes next, says what it is
    except Exception:
        return False
    finally:
        clear_caches(run.captured.cached)
    alike = again.alike and made is run.output and generators() == draws
    own = max((live + beside(entry.op, entry.args) for live, entry in again.own), default=0)
    run.peak = max(again.peak, own) if alike else None
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
    with _disable_current_modes():  # a run that is followed would make a tensor without numbers of it
        flat = x.detach().resolve_conj().resolve_neg().cpu().reshape(-1) if plain else None
        numbers = None if flat is None else hash(flat.view(torch.uint8).numpy().tobytes())
    return ("literal", tuple(x.shape), str(x.dtype), numbers)


@cache
def _gives_tensors(func: Any) -> bool:
    return any("Tensor" in str(made.type) for made in func._schema.returns)
