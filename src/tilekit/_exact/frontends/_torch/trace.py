"""Follow a function of torch once, on tensors without memory, and give its graph."""

import random
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import Module

from tilekit._errors import TraceError
from tilekit._exact.frontends import Traced
from tilekit._exact.frontends._torch.build import Sources, alive, build
from tilekit._exact.frontends._torch.captured import Captured, Path, dotted
from tilekit._exact.frontends._torch.fingerprint import Fingerprint
from tilekit._exact.frontends._torch.known import DependsOnInput, Known
from tilekit._exact.frontends._torch.leaves import Leaves
from tilekit._exact.frontends._torch.offload import live
from tilekit._exact.frontends._torch.record import Entry, Recorder, fake_world, leaf_tensors
from tilekit._exact.frontends._torch.refusals import check_input, explain, refuse
from tilekit._exact.frontends._torch.state import Change, Snapshot, same
from tilekit._exact.frontends._torch.weights import StandIns, reader

__all__ = ["trace"]

_LOCK = threading.RLock()
_STATE = "keep the state outside of the call, or call the function plainly"


@dataclass(slots=True)
class _Run:
    """What one run on fake tensors gave."""

    captured: Captured
    stand_ins: StandIns
    recorder: Recorder
    known: Known
    input: Tensor
    output: Tensor
    changes: list[Change]

    @property
    def entries(self) -> list[Entry]:
        return self.recorder.entries


def trace(function: Callable[..., Any], x: Tensor) -> Traced:
    """
    Give the graph of a function for inputs like one.

    Parameters
    ----------
    function : callable
        A module, a method or any function of one tensor that gives one tensor. It runs once, on tensors without memory;
        what it writes to its modules meanwhile is put back.
    x : tensor
        Its shape, dtype and device count, not its values.

    Returns
    -------
    Traced
        The graph and its weights, which are looked up whenever they are read.

    Raises
    ------
    TraceError
        If the function is no function of its input alone, or cannot be followed; it says why and what to do.

    Examples
    --------
    >>> import torch
    >>> traced = trace(torch.nn.Conv2d(3, 8, 3), torch.zeros(1, 3, 16, 16))
    >>> [type(node.op).__name__ for node in traced.graph.nodes]
    ['Input', 'Constant', 'Constant', 'Conv']
    """
    check_input(function, x)
    with _LOCK:
        run = _follow(function, x)
        _check_writes(function, run)
        _check_alive(function, run)
        if _ambiguous(run):
            _compare(function, run, x)
    sources = _sources(function, run)
    graph = build(run.entries, run.output, sources, run.known)
    device = x.device
    read = reader(function, sources.literals, device)
    print_ = _fingerprint(run, sources, device)
    return Traced(graph, read, lambda: print_.current(read))


def _follow(function: Callable[..., Any], x: Tensor, remembered: Sequence[Tensor] = ()) -> _Run:
    """Run the function on stand-ins, also for tensors of an earlier run, and put everything back that it wrote."""
    captured = Captured(function)
    _check_captured(function, captured)
    snapshot = Snapshot(captured.objects)
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    stand_ins = StandIns(captured, fake, x.device, remembered)
    source = fake.from_tensor(x.detach())
    found = {
        id(t): (place.path, _read_live(function)) for t, place in zip(stand_ins.tensors, stand_ins.places, strict=True)
    }
    recorder = Recorder(_names(captured), lambda t: _scalar(known, t))
    known = Known(recorder.entries, found)

    def run(given: Tensor, weights: Sequence[Tensor]) -> Tensor:
        with stand_ins.put(weights):
            try:
                return _single(function, function(given))
            finally:
                # what it wrote is read before the stand-ins go
                changes.extend(_without(snapshot.changes(), weights))
                snapshot.restore()

    changes: list[Change] = []
    draws = _draws()
    try:
        with fake_world(recorder, fake, Leaves()):
            made = recorder.aliases.now(run(source, stand_ins.tensors))
    except TraceError:
        raise
    except Exception as error:
        raise explain(function, error) from error
    if _draws() != draws:
        raise refuse(function, "it draws random numbers (of Python or NumPy)", "hand the numbers in, or fix them")
    return _Run(captured, stand_ins, recorder, known, source, made, changes)


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


def _draws() -> Any:
    numpy = sys.modules.get("numpy")
    return random.getstate(), None if numpy is None else str(numpy.random.get_state()[1:3])


def _read_live(function: Callable[..., Any]) -> Callable[[Path], Tensor]:
    return lambda path: live(function, path).detach()


def _names(captured: Captured) -> dict[Module, str]:
    names: dict[Module, str] = {}
    for module, path in captured.modules.items():
        inside = [str(key) for kind, key in path if kind == "_modules"]
        names[module] = ".".join(inside)
    return names


def _scalar(known: Known, x: Tensor) -> Any:
    try:
        return known.scalar(x)
    except DependsOnInput:
        from torch._subclasses.fake_tensor import DataDependentOutputException

        raise DataDependentOutputException(torch.ops.aten._local_scalar_dense.default) from None


def _single(function: Callable[..., Any], made: Any) -> Tensor:
    """Give the one tensor that a function returned, or say what it returned."""
    if isinstance(made, Tensor):
        return made
    tensors = list(leaf_tensors(made if not hasattr(made, "__dict__") else vars(made)))
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


def _check_writes(function: Callable[..., Any], run: _Run) -> None:
    """Refuse what was written in place to weights, or to arrays that the function keeps; to the input it may."""
    paths = _paths(run)
    for x in run.recorder.aliases.written:
        if id(x) in paths or type(x) is Tensor:
            name = dotted(paths[id(x)]) if id(x) in paths else "an array that it keeps"
            raise refuse(
                function,
                f"the call writes to {name}, so that the next call would give something else",
                f"call .eval() if a module is in training mode; else {_STATE}",
            )


def _check_alive(function: Callable[..., Any], run: _Run) -> None:
    """Refuse random numbers in the result, and weights that are no plain tensors."""
    for i in alive(run.entries, run.output):
        entry = run.entries[i]
        if _draws_numbers(entry):
            raise refuse(
                function,
                f"{entry.where or 'it'} draws random numbers ({entry.op._opname})",
                "call .eval() if a module is in training mode, hand the numbers in, or take the mode of a distribution",
            )
    for place, kind in run.stand_ins.odd:
        if isinstance(place.holder, Module) and place.holder in run.recorder.called:
            raise refuse(
                function,
                f"the weight {dotted(place.path)} is {kind}, whose values only its own operations know",
                "load the network without quantisation or sharding, or call the function plainly",
            )


def _draws_numbers(entry: Entry) -> bool:
    """Whether an operation is random here; attention is so only with dropout."""
    if torch.Tag.nondeterministic_seeded not in entry.op.tags:
        return False
    given = dict(zip((a.name for a in entry.op._schema.arguments), entry.args, strict=False)) | entry.kwargs
    return "attention" not in entry.op._opname or bool(given.get("dropout_p"))


def _ambiguous(run: _Run) -> list[Change]:
    """Give what the call wrote that a later call could read, as far as one cannot tell from this run."""
    return [change for change in run.changes if not (isinstance(change.before, Tensor) and not _reads(run, change))]


def _reads(run: _Run, change: Change) -> bool:
    """Whether the result depends on what stood there before."""
    used = _used(run)
    for place, tensor in zip(run.stand_ins.places, run.stand_ins.tensors, strict=True):
        if place.tensor is change.before and id(tensor) in used:
            return True
    return False


def _used(run: _Run) -> set[int]:
    """The tensors that the result depends on, by identity."""
    kept = (run.entries[i] for i in alive(run.entries, run.output))
    return {id(x) for entry in kept for x in leaf_tensors([list(entry.args), entry.kwargs])} | {id(run.output)}


def _paths(run: _Run) -> dict[int, Path]:
    made = zip(run.stand_ins.places, run.stand_ins.tensors, strict=True)
    return run.captured.by_identity | {id(tensor): place.path for place, tensor in made}


def _compare(function: Callable[..., Any], run: _Run, x: Tensor) -> None:
    """Run once more with what the first run wrote, and refuse where that makes a difference."""
    snapshot = Snapshot(run.captured.objects)
    remembered: list[Tensor] = []
    try:
        for change in run.changes:
            _write(change, _hollow(change.after, remembered))
        again = _follow(function, x, remembered)
    finally:
        snapshot.restore()
    kept = {id(tensor) for tensor in remembered}
    made = zip(again.stand_ins.places, again.stand_ins.tensors, strict=True)
    read = {id(tensor) for place, tensor in made if id(place.tensor) in kept}
    if read & _used(again) or _written_down(run) != _written_down(again):
        names = ", ".join(sorted({str(change.key) for change in run.changes if change.key is not None})[:5])
        raise refuse(function, f"the call keeps state ({names}) that the next call reads", _STATE)


def _hollow(value: Any, remembered: list[Tensor]) -> Any:
    """Replace tensors of a run by such without memory."""
    if isinstance(value, Tensor):
        remembered.append(torch.empty(value.shape, dtype=value.dtype, device="meta"))
        return remembered[-1]
    if type(value) in {list, tuple}:
        return type(value)(_hollow(item, remembered) for item in value)
    if type(value) is dict:
        return {key: _hollow(item, remembered) for key, item in value.items()}
    return value


def _write(change: Change, value: Any) -> None:
    if change.key is None:
        change.holder[:] = value
        return
    if isinstance(change.holder, Module):
        stores = [vars(change.holder)[name] for name in ("_parameters", "_buffers", "_modules")]
        store = next((store for store in stores if change.key in store), vars(change.holder))
    else:
        store = change.holder if isinstance(change.holder, dict) else vars(change.holder)
    if change.removed:
        store.pop(change.key, None)
    else:
        store[change.key] = value


def _written_down(run: _Run) -> list[Any]:
    """Describe what the result depends on, so that two runs can be compared."""
    paths: dict[int, Any] = {**_paths(run), id(run.input): "input"}

    def describe(value: Any) -> Any:
        if isinstance(value, Tensor):
            return paths.get(id(value)) or (tuple(value.shape), str(value.dtype))
        if isinstance(value, (list, tuple)):
            return tuple(describe(item) for item in value)
        return {k: describe(v) for k, v in value.items()} if isinstance(value, dict) else value

    rows: list[Any] = []
    for i in alive(run.entries, run.output):
        entry = run.entries[i]
        rows.append((str(entry.op), describe(entry.args), describe(entry.kwargs)))
        paths.update((id(made), (len(rows), part)) for part, made in enumerate(entry.outputs))
    return rows


def _sources(function: Callable[..., Any], run: _Run) -> Sources:
    """Say where each tensor comes from that no operation made."""
    paths, used = _paths(run), _used(run)
    for i in alive(run.entries, run.output):
        for x in leaf_tensors([list(run.entries[i].args), run.entries[i].kwargs]):
            if type(x) is not Tensor or id(x) in paths or x.device.type == "meta" or not x.numel():
                continue
            shared = run.captured.by_memory.get(x.untyped_storage().data_ptr())
            if shared is not None:
                raise refuse(
                    function,
                    f"it reads a view of {dotted(shared)} that cannot be found again when that changes",
                    "take the view inside of the function from the tensor itself, or make it a buffer of a module",
                )
    return Sources(run.input, {key: path for key, path in paths.items() if key in used})


def _fingerprint(run: _Run, sources: Sources, device: torch.device) -> Fingerprint:
    """Note the modules that ran, what the weights hang on, and the numbers that were looked at."""
    called = [run.captured.modules[m] for m in run.recorder.called if m in run.captured.modules]
    held = [path[:-1] for path in sources.paths.values()]
    written: dict[int, set[Any]] = {}
    for change in run.changes:
        written.setdefault(id(change.holder), set()).add(change.key)
    frozen = {key: frozenset(names) for key, names in written.items()}
    fingerprint = Fingerprint(run.captured, [(), *called, *held], frozen, device)
    fingerprint.known = run.known.used
    return fingerprint
