"""
The arrays that a function reaches: its modules' weights, and what it closes over.

Each is named by the steps that lead to it from the function (`Path`), and looked up again whenever it is used, so that
replaced modules, loaded weights and copies of the function are seen.
"""

import contextvars
import functools
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from tilekit._exact.frontends.reached import LEAVES, MOST, globals_of

__all__ = [
    "FOREIGN",
    "TAKE",
    "Captured",
    "Path",
    "Place",
    "Step",
    "children",
    "dotted",
    "foreign",
    "of_class",
    "own_children",
    "resolve",
    "value_of",
]

Step = tuple[str, Any]
Path = tuple[Step, ...]

_INNER = {"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "_is_full_backward_hook", "training"}
FOREIGN = {
    "builtins",
    "torch",
    "numpy",
    "threading",
    "logging",
    "_thread",
    "weakref",
    "re",
    "enum",
    "tokenizers",
    "tilekit",
}
_HOLDERS = "tilekit.adapters."  # its functions hold the user's models


def children(thing: Any) -> Iterator[tuple[Step, Any]]:
    """Give what a function, a module, a container or another object refers to, with the step that leads there."""
    for kind, walk in _WALKS:
        if isinstance(thing, kind):
            yield from walk(thing)
            return
    if not foreign(type(thing)) and hasattr(thing, "__dict__"):
        yield from ((("attribute", name), value) for name, value in vars(thing).items())
        called = vars(type(thing)).get("__call__")
        if isinstance(called, types.FunctionType):  # for what it refers to
            yield ("class", "__call__"), called


def foreign(thing: Any) -> bool:
    """Whether a class or function belongs to a library that holds nobody's weights."""
    module = thing.__module__ or ""
    return module.partition(".")[0] in FOREIGN and not module.startswith(_HOLDERS)


def _of_module(module: Module) -> Iterator[tuple[Step, Any]]:
    yield from own_children(module)
    yield from of_class(type(module))


def own_children(module: Module) -> Iterator[tuple[Step, Any]]:
    """Give what a module refers to by itself, without what its class does."""
    for kind in ("_parameters", "_buffers", "_modules"):
        for name, value in vars(module).get(kind, {}).items():  # a traced module has none; it is refused later
            yield (kind, name), value
    for name, value in vars(module).items():
        if name not in _INNER:
            yield ("attribute", name), value


def of_class(kind: type) -> Iterator[tuple[Step, Any]]:
    """Give the tensors and the tables that all modules of a class share, and its `forward` for what that refers to."""
    bases = [base for base in kind.__mro__ if not foreign(base)]
    for name in dict.fromkeys(name for base in bases for name in vars(base)):
        value = getattr(kind, name, None)
        shared = isinstance(value, (Tensor, list, dict)) and not name.startswith("__")
        if shared or (name == "forward" and isinstance(value, types.FunctionType)):
            yield ("class", name), value


def _of_method(method: types.MethodType) -> Iterator[tuple[Step, Any]]:
    yield ("attribute", "__self__"), method.__self__
    yield ("attribute", "__func__"), method.__func__


def _of_partial(partial: functools.partial[Any]) -> Iterator[tuple[Step, Any]]:
    yield ("attribute", "func"), partial.func
    yield from ((("partial", i), value) for i, value in enumerate(partial.args))
    yield from ((("keyword", name), value) for name, value in partial.keywords.items())


def _of_dict(items: dict[Any, Any]) -> Iterator[tuple[Step, Any]]:
    yield from ((("item", key), value) for key, value in items.items())


def _of_list(items: list[Any] | tuple[Any, ...]) -> Iterator[tuple[Step, Any]]:
    yield from ((("item", i), value) for i, value in enumerate(items))


def _of_function(function: types.FunctionType) -> Iterator[tuple[Step, Any]]:
    for i, cell in enumerate(function.__closure__ or ()):
        try:
            yield ("cell", i), cell.cell_contents
        except ValueError:  # not yet filled
            continue
    yield from ((("default", i), value) for i, value in enumerate(function.__defaults__ or ()))
    yield from ((("keyword default", name), value) for name, value in (function.__kwdefaults__ or {}).items())
    if not foreign(function):
        for name in sorted(globals_of(function.__code__)):
            if name in function.__globals__:
                yield ("global", name), function.__globals__[name]


_WALKS: tuple[tuple[Any, Callable[[Any], Iterator[tuple[Step, Any]]]], ...] = (
    (Module, _of_module),
    (types.MethodType, _of_method),
    (types.FunctionType, _of_function),
    (functools.partial, _of_partial),
    (dict, _of_dict),
    ((list, tuple), _of_list),
)


def value_of(variable: contextvars.ContextVar[Any]) -> Any:
    """Give what a context variable holds, None where it holds nothing."""
    try:
        return variable.get()
    except LookupError:
        return None


TAKE: dict[str, Callable[[Any, Any], Any]] = {
    "_parameters": lambda thing, key: thing._parameters[key],
    "_buffers": lambda thing, key: thing._buffers[key],
    "_modules": lambda thing, key: thing._modules[key],
    "attribute": lambda thing, key: vars(thing)[key] if key in getattr(thing, "__dict__", ()) else getattr(thing, key),
    "class": lambda thing, key: getattr(type(thing), key),
    "partial": lambda thing, key: thing.args[key],
    "keyword": lambda thing, key: thing.keywords[key],
    "item": lambda thing, key: thing[key],
    "cell": lambda thing, key: thing.__closure__[key].cell_contents,
    "default": lambda thing, key: thing.__defaults__[key],
    "keyword default": lambda thing, key: thing.__kwdefaults__[key],
    "global": lambda thing, key: thing.__globals__[key],
    "type": lambda thing, key: type(thing),
    "own": lambda thing, key: vars(thing.__mro__[key[0]])[key[1]],
    "value": lambda thing, key: value_of(thing),
    "called": lambda thing, key: thing(),
    "imported": lambda thing, key: sys.modules[key],
}


def resolve(thing: Any, path: Path) -> Any:
    """Follow a path; LookupError, AttributeError or TypeError where it leads nowhere any more."""
    for kind, key in path:
        thing = TAKE[kind](thing, key)
    return thing


def dotted(path: Path) -> str:
    """Write a path as people do: ``decoder.conv_in.weight``, without the steps that lead to the outermost module."""
    starts = (i for i, step in enumerate(path) if step[0] in {"_modules", "_parameters", "_buffers"})
    first = next(starts, 0)
    words = [str(key) if kind != "cell" else f"closure {key}" for kind, key in path[first:]]
    return ".".join(word for word in words if word != "__self__") or "the function"


def _keeps(thing: Any) -> bool:
    """Whether a call may keep something in an object: any but a class, a function, and what a library calls."""
    kept = isinstance(getattr(thing, "__dict__", None), dict)  # that of ``list[int]`` is the class's
    if not kept or isinstance(thing, (type, types.FunctionType, types.MethodType)):
        return False
    return not callable(thing) or not (foreign(type(thing)) or type(thing).__module__ == "functools")


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor that the function reaches, and where it lies."""

    path: Path
    holder: Any
    """What holds it: a module, a list, a dict, or another object."""
    tensor: Tensor


class Captured:
    """
    What a function reaches now.

    Attributes
    ----------
    places : list of Place
        Every tensor, each under every path that leads to it by another holder.
    modules : dict of module to Path
        Every module, in the order of the search, which is by depth.
    objects : list
        Everything that was looked at and may be written to: modules, lists, dicts, other objects.
    cached : list
        Functions with a cache.
    """

    def __init__(self, function: Any) -> None:
        self.function = function
        self.places: list[Place] = []
        self.modules: dict[Module, Path] = {}
        self.objects: list[Any] = []
        self.cached: list[Any] = []
        self._search(function)

    def _search(self, function: Any) -> None:
        seen: set[int] = set()
        level: list[tuple[Path, Any, Any]] = [((), None, function)]
        while level and len(seen) < MOST:
            deeper: list[tuple[Path, Any, Any]] = []
            for path, holder, thing in level:
                if isinstance(thing, Tensor):
                    self.places.append(Place(path, holder, thing))
                elif not isinstance(thing, LEAVES) and id(thing) not in seen:
                    seen.add(id(thing))
                    self._note(path, thing)
                    deeper += [((*path, step), thing, value) for step, value in children(thing)]
            level = deeper

    def _note(self, path: Path, thing: Any) -> None:
        if isinstance(thing, Module):
            self.modules[thing] = path
        if isinstance(thing, functools._lru_cache_wrapper):
            self.cached.append(thing)
        if isinstance(thing, (Module, list, dict)) or _keeps(thing):
            self.objects.append(thing)

    @functools.cached_property
    def by_identity(self) -> dict[int, Path]:
        """The first path to each tensor."""
        found: dict[int, Path] = {}
        for place in self.places:
            found.setdefault(id(place.tensor), place.path)
        return found

    @functools.cached_property
    def by_memory(self) -> dict[int, Path]:
        """The first path to each block of memory, for views of a captured tensor."""
        found: dict[int, Path] = {}
        for place in self.places:
            if type(place.tensor) in {Tensor, torch.nn.Parameter}:
                found.setdefault(_memory(place.tensor), place.path)
        found.pop(0, None)
        return found

    def place_of(self, x: Tensor) -> Place | None:
        """Give where a tensor was found, or the one whose memory it shows."""
        path = self.by_identity.get(id(x)) or self.by_memory.get(_memory(x))
        return None if path is None else self._by_path[path]

    @functools.cached_property
    def _by_path(self) -> dict[Path, Place]:
        return {place.path: place for place in self.places}


def _memory(x: Tensor) -> int:
    """Say where the block of memory of a plain tensor lies; 0 where it has none."""
    return 0 if x.device.type == "meta" or not x.numel() else x.untyped_storage().data_ptr()
