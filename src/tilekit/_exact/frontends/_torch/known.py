"""Numbers that are known while tracing, since they depend on no input: indices, masks, scalars of the network."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.utils._python_dispatch import _disable_current_modes

from tilekit._exact.frontends._torch.captured import Path, Place
from tilekit._exact.frontends._torch.record import Entry, leaf_tensors

__all__ = ["DependsOnInput", "Known"]

_MOST = 1 << 22
"""Cells of an array that is worked out while tracing."""
_PLAIN = {Tensor, torch.nn.Parameter}


class DependsOnInput(Exception):  # no error: an answer
    """The numbers are not known before the call."""


class Known:
    """
    Works numbers out by running what was recorded.

    Attributes
    ----------
    used : dict of Path to Tensor
        The captured arrays that were looked at, as they were: the trace holds as long as they do not change.
    """

    def __init__(
        self,
        entries: list[Entry],
        live: dict[int, tuple[Path, Any]],
        place_of: Callable[[Tensor], Place | None] = lambda x: None,
    ) -> None:
        self.entries, self._live, self._place_of = entries, live, place_of
        self.used: dict[Path, Tensor] = {}
        self._values: dict[int, Tensor] = {}
        self._made: dict[int, tuple[int, int]] = {}
        self._seen = 0

    def _index(self) -> None:
        for i in range(self._seen, len(self.entries)):
            for part, tensor in enumerate(self.entries[i].outputs):
                if isinstance(tensor, Tensor):
                    self._made.setdefault(id(tensor), (i, part))
        self._seen = len(self.entries)

    def value(self, x: Tensor) -> Tensor:
        """Give the numbers of a recorded tensor; DependsOnInput where they are not known."""
        self._index()
        with _disable_current_modes(), torch.no_grad():
            return self._value(x)

    def numbers(self, x: Tensor) -> Tensor:
        """Give a copy of what a tensor holds, for a function that looks at it; torch's own error where that depends."""
        try:
            with _disable_current_modes():
                return self.value(x).detach().clone()
        except DependsOnInput:
            raise DataDependentOutputException(torch.ops.aten._local_scalar_dense.default) from None

    def run(self, op: Any, args: Any, kwargs: Any) -> Any:
        """Give what an operation makes where none of its numbers depends on the input; else None."""
        try:
            for x in (*leaf_tensors(args), *leaf_tensors(kwargs)):
                self.value(x)
        except DependsOnInput:
            return None
        with _disable_current_modes(), torch.no_grad():
            return op(*self._filled(list(args)), **self._filled(kwargs))

    def _value(self, x: Tensor) -> Tensor:
        for i in sorted(self._needed(x)):
            entry = self.entries[i]
            out = entry.op(*self._filled(list(entry.args)), **self._filled(entry.kwargs))
            parts = out if entry.several else (out,)
            self._values.update((id(made), part) for made, part in zip(entry.outputs, parts, strict=True))
        return self._plain(x)

    def _plain(self, x: Tensor) -> Tensor:
        return x if type(x) in _PLAIN else self._values[id(x)]

    def _needed(self, x: Tensor) -> set[int]:
        """Give the entries that have to be run; weights are looked up on the way."""
        entries: set[int] = set()
        waiting = [x]
        while waiting:
            x = waiting.pop()
            if type(x) in _PLAIN or id(x) in self._values:
                self._look(x)
                continue
            if id(x) in self._live:
                path, read = self._live[id(x)]
                self.used[path] = self._values[id(x)] = read(path).clone()
                continue
            if id(x) not in self._made or x.numel() > _MOST:
                raise DependsOnInput
            i = self._made[id(x)][0]
            if i not in entries:
                entries.add(i)
                if torch.Tag.nondeterministic_seeded in self.entries[i].op.tags:
                    raise DependsOnInput
                waiting += self.entries[i].reads
        return entries

    def _look(self, x: Tensor) -> None:
        """Note that a captured array was looked at which no stand-in could stand for, such as one in a closure."""
        place = self._place_of(x) if type(x) in _PLAIN else None
        if place is not None and place.path not in self.used:
            self.used[place.path] = place.tensor.detach().clone()

    def _filled(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._plain(value)
        if isinstance(value, (list, tuple)):
            return [self._filled(item) for item in value]
        if isinstance(value, dict):
            return {key: self._filled(item) for key, item in value.items()}
        return value
