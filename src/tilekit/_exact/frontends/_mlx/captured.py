"""
The arrays that a function reaches: its modules' weights, and what it closes over.

Each has a name (the steps that lead to it) and a place where it is read whenever it is used, and where a trace puts an
array of its own for a moment.
"""

import functools
import gc
import types
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx.nn import Module

from tilekit._exact.frontends._mlx.names import cells, slots, written_globals
from tilekit._exact.frontends.reached import LEAVES, MOST, globals_of

__all__ = ["Captured", "Place"]

_FOREIGN = ("builtins", "mlx.", "numpy", "threading", "logging", "_thread", "weakref", "re", "enum", "tilekit._exact")


_CACHED = type(functools.cache(len))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value lies: how it is read, and how another is put there; `write` is None where nothing can be."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], None] | None


class Captured:
    """
    What a function reaches now.

    Attributes
    ----------
    places : list of Place
        Every array.
    containers : list of (name, dict, list, deque or Names)
        What was looked at and may be written to, attributes of objects and variables of functions among it.
    caches : list
        Functions of ``functools.lru_cache`` and ``functools.cache``.
    """

    def __init__(self, function: Any) -> None:
        self.places: list[Place] = []
        self.containers: list[tuple[str, Any]] = []
        self.caches: list[Any] = []
        seen: set[int] = set()
        level = [Place("", lambda: function, None)]
        while level and len(seen) < MOST:
            deeper: list[Place] = []
            for place in level:
                try:
                    value = place.read()
                except ValueError:  # a cell that is not yet filled
                    continue
                if isinstance(value, mx.array):
                    self.places.append(place)
                elif not isinstance(value, LEAVES) and id(value) not in seen:
                    seen.add(id(value))
                    self._note(place.name, value)
                    deeper += _children(place, value)
            level = deeper

    def _note(self, name: str, value: Any) -> None:
        kind = type(value)  # a compiled function says that it is what it was made of
        if issubclass(kind, (dict, list, deque)):
            self.containers.append((name, value))
        if issubclass(kind, types.FunctionType):
            variables = cells(value), written_globals(value)
            self.containers += [("", names) for names in variables if names is not None]
        elif not kind.__module__.startswith(_FOREIGN) and (attributes := slots(value)) is not None:
            self.containers.append((name, attributes))
        if kind is _CACHED:
            self.caches.append(value)
        own = None if issubclass(kind, types.MethodType) else getattr(value, "__dict__", None)
        if isinstance(own, dict):  # that of a class, also behind list[int], only shows it
            self.containers.append((name, own))


def _children(place: Place, value: Any) -> Iterator[Place]:
    """Give what a function, a module, a container or another object refers to."""
    kind = type(value)  # a compiled function says that it is what it was made of
    if kind.__module__ == "mlx.core":  # made of functions, which it shows to the collector of garbage alone
        yield from (_fixed(place.name, item) for item in gc.get_referents(value) if not isinstance(item, type))
    elif isinstance(value, types.MethodType):
        yield _fixed(place.name, value.__self__)
        yield _fixed(place.name, value.__func__)
    elif isinstance(value, types.FunctionType):
        yield from _of_function(value)
    elif isinstance(value, functools.partial):
        yield _fixed(place.name, value.func)
        yield from (_fixed(_join(place.name, f"argument {i}"), argument) for i, argument in enumerate(value.args))
        yield from (_item(place.name, value.keywords, key) for key in value.keywords)
    elif isinstance(value, dict):
        yield from (_item(place.name, value, key) for key in value)
    elif isinstance(value, (list, deque)):
        yield from (_item(place.name, value, i) for i in range(len(value)))
    elif isinstance(value, tuple):
        yield from (_member(place, i) for i in range(len(value)))
    if issubclass(kind, Module) or not kind.__module__.startswith(_FOREIGN):
        yield from _of_object(place.name, value)


def _of_object(name: str, value: Any) -> Iterator[Place]:
    if isinstance(value, types.MethodType):
        return
    for key in getattr(value, "__dict__", ()):
        yield _item(name, vars(value), key)
    if isinstance(value, types.FunctionType):
        return
    attributes = slots(value)
    for key in () if attributes is None else attributes.copy():
        read, write = functools.partial(getattr, value, key), functools.partial(object.__setattr__, value, key)
        yield Place(_join(name, key), read, write)
    for kind in type(value).__mro__:
        if not kind.__module__.startswith(_FOREIGN):
            yield from (_fixed("", method) for method in vars(kind).values() if isinstance(method, types.FunctionType))


def _of_function(function: types.FunctionType) -> Iterator[Place]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield Place(name, functools.partial(getattr, cell, "cell_contents"), functools.partial(_fill, cell))
    for i in range(len(function.__defaults__ or ())):
        defaults = Place("default", lambda: function.__defaults__, lambda new: setattr(function, "__defaults__", new))
        yield _member(defaults, i)
    yield from (_item("default", function.__kwdefaults__, key) for key in function.__kwdefaults__ or ())
    if not function.__module__ or not function.__module__.startswith(_FOREIGN):
        names = globals_of(function.__code__)
        yield from (_item("", function.__globals__, key) for key in sorted(names) if key in function.__globals__)


def _fill(cell: types.CellType, value: Any) -> None:
    cell.cell_contents = value


def _join(name: str, step: Any) -> str:
    return f"{name}.{step}" if name else str(step)


def _fixed(name: str, value: Any) -> Place:
    return Place(name, lambda: value, None)


def _item(name: str, holder: Any, key: Any) -> Place:
    return Place(_join(name, key), lambda: holder[key], lambda value: holder.__setitem__(key, value))


def _member(place: Place, i: int) -> Place:
    """Give an item of a tuple; another is put there by a tuple that takes the old one's place."""
    if place.write is None:
        return Place(_join(place.name, i), lambda: place.read()[i], None)
    write = place.write

    def put(value: Any) -> None:
        old = place.read()
        items = (*old[:i], value, *old[i + 1 :])
        write(type(old)(*items) if hasattr(old, "_fields") else items)

    return Place(_join(place.name, i), lambda: place.read()[i], put)
