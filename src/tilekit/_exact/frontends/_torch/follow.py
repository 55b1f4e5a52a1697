"""One run of a function on tensors without memory."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import Module

from tilekit._errors import TraceError
from tilekit._exact.frontends._torch.build import alive
from tilekit._exact.frontends._torch.caches import clear_caches
from tilekit._exact.frontends._torch.captured import Captured, Path, dotted
from tilekit._exact.frontends._torch.known import Known
from tilekit._exact.frontends._torch.leaves import Leaves
from tilekit._exact.frontends._torch.offload import brought
from tilekit._exact.frontends._torch.record import Entry, Recorder, fake_world, leaf_tensors
from tilekit._exact.frontends._torch.refusals import explain, refuse
from tilekit._exact.frontends._torch.state import Change, Snapshot, same
from tilekit._exact.frontends._torch.weights import StandIns
from tilekit._exact.frontends.randomness import generators

__all__ = ["Run", "check_kinds", "follow", "single"]


@dataclass(slots=True)
class Run:
    """What one run on fake tensors gave."""

    captured: Captured
    fake: FakeTensorMode
    stand_ins: StandIns
    recorder: Recorder
    known: Known
    input: Tensor
    output: Tensor
    changes: list[Change]
    peak: int | None = None
    """The bytes that the function's own tensors take at the most, where a second run has counted them."""
    _alive: list[Entry] | None = None

    @property
    def entries(self) -> list[Entry]:
        return self.recorder.entries

    def paths(self) -> dict[int, Path]:
        """Give the path to each captured tensor and each stand-in, by identity."""
        made = zip(self.stand_ins.places, self.stand_ins.tensors, strict=True)
        return self.captured.by_identity | {id(tensor): place.path for place, tensor in made}

    def forget(self) -> None:
        """Let go of what was recorded, which holds itself in a circle."""
        self.recorder.entries.clear()
        self.recorder.aliases.forget()
        self._alive = None

    def alive(self) -> list[Entry]:
        """Give the entries that the result depends on."""
        if self._alive is None:
            self._alive = [self.entries[i] for i in alive(self.entries, self.output)]
        return self._alive

    def used(self) -> set[int]:
        """Give the tensors that the result depends on, by identity."""
        kept = self.alive()
        return {id(x) for entry in kept for x in entry.reads} | {id(self.output)}


def follow(function: Callable[..., Any], x: Tensor, remembered: Sequence[Tensor] = ()) -> Run:
    """Run the function on stand-ins, also for tensors of an earlier run, and put everything back that it wrote."""
    captured = Captured(function)
    _check_captured(function, captured)
    snapshot = Snapshot(captured.objects)
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    stand_ins = StandIns(captured, fake, x.device, remembered)
    source = fake.from_tensor(x.detach())
    places = {place.path: place.tensor for place in stand_ins.places}

    def read(path: Path) -> Tensor:  # the modules hold stand-ins meanwhile
        return brought(function, path, places[path]).detach()

    found = {id(t): (place.path, read) for t, place in zip(stand_ins.tensors, stand_ins.places, strict=True)}

    def run_known(op: Any, args: Any, kwargs: Any) -> Any:
        return known.run(op, args, kwargs)

    def numbers(t: Tensor) -> Tensor:
        return known.numbers(t)

    recorder = Recorder(_names(captured), numbers, run_known, fake)
    known = Known(recorder.entries, found, captured.place_of)

    def run(given: Tensor, weights: Sequence[Tensor]) -> Tensor:
        with stand_ins.put(weights):
            try:
                return single(function, function(given))
            finally:
                try:  # what it wrote is read before the stand-ins go
                    changes.extend(_without(snapshot.changes(), weights))
                finally:
                    snapshot.restore()
                    clear_caches(captured.cached)

    changes: list[Change] = []
    draws = generators()
    try:
        aliases = recorder.aliases
        leaves = Leaves(lambda t: known.numbers(aliases.now(t)), recorder.note_refused, recorder.replace)
        with fake_world(recorder, fake, leaves):
            made = aliases.now(run(source, stand_ins.tensors))
    except TraceError:
        raise
    except Exception as error:
        check_kinds(function, stand_ins, recorder.called)  # the better reason, where there is one
        raise explain(function, error) from error
    if recorder.refused is not None:  # the function caught it, and went another way
        raise explain(function, recorder.refused) from recorder.refused
    if generators() != draws:
        raise refuse(function, "it draws random numbers (of Python or NumPy)", "hand the numbers in, or fix them")
    return Run(captured, fake, stand_ins, recorder, known, source, made, changes)


def _check_captured(function: Callable[..., Any], captured: Captured) -> None:
    for module, path in captured.modules.items():
        if isinstance(module, torch.jit.ScriptModule):
            raise refuse(
                function, f"{dotted(path)} is a scripted module", "hand in the Python module that it was made of"
            )
        if any(p is not None and torch.nn.parameter.is_lazy(p) for p in module._parameters.values()):
            raise refuse(
                function,
                f"{dotted(path)} has not seen an input yet, so its weights have no shape",
                "call it once before",
            )


def _names(captured: Captured) -> dict[Module, str]:
    names: dict[Module, str] = {}
    for module, path in captured.modules.items():
        inside = [str(key) for kind, key in path if kind == "_modules"]
        names[module] = ".".join(inside)
    return names


def single(function: Callable[..., Any], made: Any) -> Tensor:
    """Give the one tensor that a function returned, or say what it returned."""
    if isinstance(made, Tensor):
        return made
    plain = (isinstance(made, dict) and made) or not hasattr(made, "__dict__")
    tensors = list(leaf_tensors(made if plain else vars(made)))
    if len(tensors) == 1 and not isinstance(made, Module):  # such as the output classes of diffusers
        return tensors[0]
    kind = type(made).__name__
    names = ", ".join(made) if isinstance(made, dict) else ", ".join(getattr(made, "__dict__", {}))
    got = f"it gives {kind}({names})" if names else f"it gives a {kind} of {len(tensors)} tensors" if tensors else kind
    raise refuse(function, f"{got}, not one tensor", "wrap it so that it gives the one you want: lambda z: f(z).sample")


def _without(changes: list[Change], weights: Sequence[Tensor]) -> list[Change]:
    """Leave out that the stand-ins stand where they were put, and hooks that are passed by."""
    put = {id(tensor) for tensor in weights}

    def own(change: Change) -> bool:
        if change.key is not None:
            return id(change.after) not in put and change.key not in {"_hf_hook", "pre_forward", "post_forward"}
        pairs = zip(change.after, change.before, strict=False)
        return len(change.after) != len(change.before) or any(id(a) not in put and not same(a, b) for a, b in pairs)

    return [change for change in changes if own(change)]


def check_kinds(function: Callable[..., Any], stand_ins: StandIns, called: Iterable[Module]) -> None:
    """Refuse weights that are no plain tensors, of modules that ran."""
    ran = set(called)
    for place, kind in stand_ins.odd:
        if isinstance(place.holder, Module) and place.holder in ran:
            raise refuse(
                function,
                f"the weight {dotted(place.path)} is {kind}, whose values only its own operations know",
                "load the network without quantisation or sharding, or call the function plainly",
            )
