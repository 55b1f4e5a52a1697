"""Whether what a function reads from around it is as it was: settings, tables, classes, functions that it calls."""

import types
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from tilekit._exact.frontends._torch.captured import TAKE, Step
from tilekit._exact.frontends._torch.reads import Names, around, followed, named

__all__ = ["LONGEST", "PLAIN", "Surroundings", "fact"]

PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, type)
_EXACTLY = frozenset(PLAIN)
LONGEST = 512
"""Entries of a list or dict that are compared; longer ones are vocabularies and the like."""
_FIXED = frozenset((types.FunctionType, types.ModuleType))
"""Kinds of things that refer to what they referred to at first, by the same names."""
_MOST = 20_000
"""Things around a function that are looked at."""
_BYTES = 1 << 20
"""Of an array of NumPy or of Python whose numbers are compared."""


def fact(value: Any) -> Any:
    """Give what a function can tell of a value without running: a description that is compared."""
    kind = type(value)
    if kind in _EXACTLY:  # most are, and this is asked at each call
        return value
    if kind is types.FunctionType:
        return ("callable", id(value))
    if kind is types.CodeType:
        return value
    if isinstance(value, Module):
        return type(value)
    return value if isinstance(value, PLAIN) else _described(value)


def _described(value: Any) -> Any:
    if isinstance(value, Tensor):
        return ("tensor", value.shape, value.dtype)
    if isinstance(value, types.MethodType):
        return ("callable", id(value.__func__), id(value.__self__))
    if isinstance(value, types.BuiltinFunctionType):
        return ("callable", id(value))
    if isinstance(value, (list, tuple, set, frozenset, dict)):
        return _of_table(value)
    return (type(value), _held(value))


def _of_table(table: Any) -> Any:
    """Describe what stands in a table itself; tables in it that hold more than plain values are rows of their own."""
    if not 0 < len(table) <= LONGEST:
        return type(table), len(table)
    if isinstance(table, dict):
        return type(table), {key: _inside(item) for key, item in table.items()}
    inside = map(_inside, table)
    return type(table), frozenset(inside) if isinstance(table, (set, frozenset)) else tuple(inside)


def _inside(item: Any) -> Any:
    return (type(item), len(item)) if isinstance(item, (list, tuple, set, frozenset, dict)) else fact(item)


def _held(value: Any) -> Any:
    """Give what an array holds that knows to say it, or a number of another kind itself."""
    if isinstance(value, Enum):
        return value
    try:
        cells = memoryview(value)
    except (TypeError, ValueError, BufferError):
        numeric = isinstance(value, Hashable) and type(value).__eq__ is not object.__eq__
        return value if numeric and not hasattr(value, "__dict__") else None
    return (cells.format, cells.shape, hash(cells.tobytes()) if cells.nbytes <= _BYTES else id(value))


@dataclass(frozen=True, slots=True)
class _Row:
    """One thing that is compared."""

    parent: int
    """The place of what holds it; those that are given come first."""
    step: Step | None
    """Leads from there to it; none for what is given."""
    kind: type
    made: bool
    """Of a class: whether code may make objects of it."""
    facts: dict[Step, Any]
    again: frozenset[Step]
    """What it refers to that another row holds too: that is compared by identity."""
    without: frozenset[Any]
    """What the function writes itself."""
    sizes: tuple[int, ...]
    """Of a function, how many defaults and attributes it has."""


class Surroundings:
    """
    What a function read from around it, as far as its code names it.

    Parameters
    ----------
    given : sequence
        The function, its modules, and what leads to them.
    written : dict
        By the identity of an object, the names in it that the function writes itself.
    """

    def __init__(self, given: Sequence[Any], written: dict[int, frozenset[Any]]) -> None:
        self._names: Names = {"forward"}
        self._things: list[Any] = list(given)
        self._found: list[tuple[int, Step, bool]] = []
        self._seen = {id(thing): i for i, thing in enumerate(given)}
        self._refers: list[dict[Step, int]] = [{} for _ in given]
        self._first = len(given)
        self._walk()
        held: list[set[int]] = [set() for _ in self._things]
        for i, (parent, _, _) in enumerate(self._found, self._first):
            held[parent].add(i)
        self._rows = [
            self._row(i, held[i], written)
            for i, thing in enumerate(self._things)
            if i >= self._first or not isinstance(thing, Module)
        ]
        del self._things, self._found, self._seen, self._refers

    def _walk(self) -> None:
        """Look at what each thing refers to until no more names are found, which would say that more is meant."""
        known = -1
        while known != len(self._names) + len(self._things):
            known = len(self._names) + len(self._things)
            at = 0
            while at < len(self._things):
                self._look(at)
                at += 1

    def _look(self, at: int) -> None:
        made = at < self._first or self._found[at - self._first][2]
        for step, value in around(self._things[at], self._names, made=made):
            if isinstance(value, types.CodeType):
                self._names |= named(value)
            elif step not in self._refers[at] and followed(value, self._things[at]):
                if id(value) not in self._seen and len(self._things) < _MOST:
                    self._seen[id(value)] = len(self._things)
                    self._things.append(value)
                    self._found.append((at, step, step[0] != "type"))
                    self._refers.append({})
                self._refers[at][step] = self._seen.get(id(value), -1)

    def _row(self, i: int, held: set[int], written: dict[int, frozenset[Any]]) -> _Row:
        parent, step, made = self._found[i - self._first] if i >= self._first else (i, None, True)
        thing = self._things[i]
        again = frozenset(step for step, j in self._refers[i].items() if j not in held)
        without = written.get(id(thing), frozenset())
        facts = _facts(thing, self._names, made, again, without)
        return _Row(parent, step, type(thing), made, facts, again, without, _sizes(thing))

    def hold(self, given: Sequence[Any]) -> bool:
        """Whether all is as it was, by the things of today in the places of those that were given."""
        things = list(given)
        for row in self._rows:
            thing = things[row.parent]
            if row.step is not None:
                thing = TAKE[row.step[0]](thing, row.step[1])
                things.append(thing)
            if type(thing) is not row.kind:
                return False
            if row.kind in _FIXED:
                if _sizes(thing) != row.sizes or any(_now(thing, step, row) != was for step, was in row.facts.items()):
                    return False
            elif _facts(thing, self._names, row.made, row.again, row.without) != row.facts:
                return False
        return True


def _facts(thing: Any, names: Names, made: bool, again: frozenset[Step], without: frozenset[Any]) -> dict[Step, Any]:
    if isinstance(thing, (set, frozenset)):
        return {("members", None): fact(thing)}
    if isinstance(thing, (dict, list, tuple)) and len(thing) > LONGEST:
        return {("length", None): len(thing)}
    return {
        step: ("held", id(value)) if step in again else fact(value)
        for step, value in around(thing, names, made=made)
        if step[1] not in without
    }


def _now(thing: Any, step: Step, row: _Row) -> Any:
    """Give what a function or a module of Python refers to by a step that it had before."""
    value = TAKE[step[0]](thing, step[1])
    return ("held", id(value)) if step in row.again else fact(value)


def _sizes(thing: Any) -> tuple[int, ...]:
    if not isinstance(thing, types.FunctionType):
        return ()
    return len(thing.__defaults__ or ()), len(thing.__kwdefaults__ or ()), len(thing.__dict__)
