"""Whether a second call would give the same: tried, with what the first one wrote."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from tilekit._exact.frontends._torch.again import goes_alike, literal
from tilekit._exact.frontends._torch.follow import Run, follow
from tilekit._exact.frontends._torch.record import leaf_tensors
from tilekit._exact.frontends._torch.refusals import STATE, refuse
from tilekit._exact.frontends._torch.state import Change, Snapshot

__all__ = ["check_state"]

_PAST = "an earlier call"


def check_state(function: Callable[..., Any], run: Run, x: Tensor) -> None:
    """
    Run once more with what the first run wrote, and refuse where something else comes out.

    A second run also shows what no look at the function's objects does: clocks, generators, iterators.
    """
    changes = _ambiguous(run)
    if _goes_alike(function, run, changes):
        return
    snapshot = Snapshot(run.captured.objects)
    origins: dict[int, Tensor] = {}
    hollow: list[Tensor] = []
    try:
        for change in run.changes if changes else ():
            _write(change, _hollow(change.after, hollow, origins))
        again = follow(function, x, hollow)
    finally:
        snapshot.restore()
    forms = _Forms()
    first = forms.of(run, {id(run.input): "input"})
    made = zip(again.stand_ins.places, again.stand_ins.tensors, strict=True)
    kept = {id(t): first[id(o)] for place, t in made if (o := origins.get(id(place.tensor))) is not None}
    past = {key: form if forms.constant(form) else (_PAST, form) for key, form in kept.items()}
    second = forms.of(again, {id(again.input): "input", **past})
    if first[id(run.output)] != second[id(again.output)]:
        if not changes:
            raise refuse(
                function,
                "two calls give two results (a clock, a generator of random numbers, an iterator, a counter?)",
                STATE,
            )
        names = ", ".join(sorted({str(change.key) for change in run.changes if change.key is not None})[:5])
        raise refuse(function, f"the call keeps state ({names}) that the next call reads", STATE)


def _goes_alike(function: Callable[..., Any], run: Run, changes: list[Change]) -> bool:
    """Whether a run after the first, which wrote no tensor that may be read, asks for the same without computing it."""
    written = run.changes if changes else []
    if any(True for change in written for _ in leaf_tensors([change.before, change.after])):
        return False
    if _again(function, run, written, bare=True):
        return True
    if not _again(function, run, written, bare=False):
        return False
    raise refuse(
        function,
        "it goes another way for a tensor of the very class torch.Tensor than for one of a subclass, as which it is "
        "followed (`type(x)`, `x.__class__`, `x.__dict__`)",
        "ask isinstance(x, torch.Tensor), or call the function plainly",
    )


def _again(function: Callable[..., Any], run: Run, written: list[Change], *, bare: bool) -> bool:
    snapshot = Snapshot(run.captured.objects)
    try:
        for change in written:
            _write(change, _hollow(change.after, [], {}))
        return goes_alike(function, run, bare=bare)
    finally:
        snapshot.restore()


class _Forms:
    """Numbers for what is computed: two tensors have the same one if they are made in the same way of the same."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        self._constant: dict[Any, bool] = {}

    def constant(self, form: Any) -> bool:
        """Whether this does not depend on the input."""
        return self._constant.get(form, form != "input" and not (isinstance(form, tuple) and form[0] == _PAST))

    def of(self, run: Run, known: dict[int, Any]) -> dict[int, Any]:
        """Give the form of every tensor of a run; those known beforehand have theirs."""
        forms: dict[int, Any] = {**run.paths(), **known}
        for entry in run.entries:
            read: list[Any] = []

            def describe(value: Any, read: list[Any] = read) -> Any:
                if isinstance(value, Tensor):
                    read.append(forms.get(id(value)) or literal(value))
                    return read[-1]
                if isinstance(value, (list, tuple)):
                    return tuple(describe(item) for item in value)
                if isinstance(value, dict):
                    return tuple((key, describe(item)) for key, item in value.items())
                return (type(value), str(value))

            key = (str(entry.op), describe(entry.args), describe(entry.kwargs))
            number = self._numbers.setdefault(key, len(self._numbers) + 1)
            for part, x in enumerate(entry.outputs):
                form = (number, part)
                forms.setdefault(id(x), form)
                drawn = torch.Tag.nondeterministic_seeded in entry.op.tags
                self._constant[form] = not drawn and all(self.constant(given) for given in read)
        for x in (run.output, *run.stand_ins.tensors):
            forms.setdefault(id(x), literal(x))
        return forms


def _ambiguous(run: Run) -> list[Change]:
    """Give what the call wrote that a later call could read, as far as one cannot tell from this run."""
    return [change for change in run.changes if not (isinstance(change.before, Tensor) and not _reads(run, change))]


def _reads(run: Run, change: Change) -> bool:
    """Whether the result depends on what stood there before."""
    used = run.used()
    for place, tensor in zip(run.stand_ins.places, run.stand_ins.tensors, strict=True):
        if place.tensor is change.before and id(tensor) in used:
            return True
    return False


def _hollow(value: Any, hollow: list[Tensor], origins: dict[int, Tensor]) -> Any:
    """Replace tensors of a run by such without memory, and note which they stand for."""
    if isinstance(value, Tensor):
        hollow.append(torch.empty(value.shape, dtype=value.dtype, device="meta"))
        origins[id(hollow[-1])] = value
        return hollow[-1]
    if type(value) in {list, tuple}:
        return type(value)(_hollow(item, hollow, origins) for item in value)
    if type(value) is dict:
        return {key: _hollow(item, hollow, origins) for key, item in value.items()}
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
