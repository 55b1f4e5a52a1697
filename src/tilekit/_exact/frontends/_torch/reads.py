"""What a function may read from around it: what its code names, followed through functions, classes and objects."""

import contextvars
import functools
import sys
import threading
import types
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.nn import Module

from tilekit._exact.frontends._torch.captured import FOREIGN, Step, children, foreign, own_children, value_of

__all__ = ["Names", "around", "followed", "named"]

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_WRAPPERS = (property, staticmethod, classmethod, functools.cached_property, functools.partialmethod)
"""What stands in a class for a function."""
_IN_WRAPPERS = ("fget", "__func__", "func", "args", "keywords")
_TABLES = (dict, list, tuple, set, frozenset, deque, types.MappingProxyType)
_UNCALLED = {
    *("__init__", "__new__", "__del__", "__init_subclass__", "__subclasshook__", "__setattr__", "__delattr__"),
    *("__repr__", "__str__", "__format__", "__dir__", "__sizeof__", "__doc__", "__module__", "__qualname__"),
    *("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__dict__", "__weakref__", "__slots__"),
    *("__annotations__", "__abstractmethods__", "__dataclass_fields__", "__dataclass_params__", "__match_args__"),
}
"""Names in a class that a call does not ask for, unless it makes an object."""
_INSTALLED = ("site-packages", "dist-packages")
_HOLDERS = (contextvars.ContextVar, weakref.ref, threading.local)
_CALLED = (types.FunctionType, types.MethodType, functools.partial)
_STDLIB = sys.stdlib_module_names - {"os"}

Names = set[str]


@functools.lru_cache(maxsize=4096)
def named(code: types.CodeType) -> frozenset[str]:
    """Give what a function and those inside it may mean: names, and words that `getattr` or a table may be given."""
    words = {const for const in code.co_consts if isinstance(const, str) and const.isidentifier()}
    inner = (named(const) for const in code.co_consts if isinstance(const, types.CodeType))
    return frozenset(code.co_names).union(words, *inner)


def _library(thing: Any) -> bool:
    """Whether a class, a function or a module comes with Python or was installed, and is not the user's own."""
    name = thing.__name__ if isinstance(thing, types.ModuleType) else getattr(thing, "__module__", None)
    return _installed(name.partition(".")[0] if isinstance(name, str) else "")


@functools.lru_cache(maxsize=4096)
def _installed(package: str) -> bool:
    if package in FOREIGN or package in _STDLIB:
        return True
    return any(part in (getattr(sys.modules.get(package), "__file__", None) or "") for part in _INSTALLED)


def followed(value: Any, holder: Any) -> bool:
    """Whether what a value refers to is looked at."""
    if isinstance(value, (Module, Tensor, *_PLAIN, types.BuiltinFunctionType)):
        return False
    if isinstance(value, (types.ModuleType, types.FunctionType, type)):
        held = isinstance(value, types.FunctionType) and (value.__closure__ or value.__dict__)
        return isinstance(value, types.ModuleType) or bool(held) or not _library(value)
    if isinstance(value, (list, tuple, set, frozenset, dict)):
        return any(not isinstance(item, _PLAIN) for item in (value.values() if isinstance(value, dict) else value))
    if isinstance(value, (*_TABLES, *_WRAPPERS, *_HOLDERS)):
        return True
    # what an object of a library refers to is its own affair, but for what users put there
    return not foreign(type(value)) and not (_library(type(value)) and _is_library_object(holder))


def _is_library_object(thing: Any) -> bool:
    return not isinstance(thing, (Module, type, *_TABLES, *_CALLED)) and _library(type(thing))


def around(thing: Any, names: Names, *, made: bool = True) -> Iterator[tuple[Step, Any]]:
    """
    Give what a thing refers to as far as code that mentions these names can mean it.

    `made` says of a class that the code may make objects of it.
    """
    if isinstance(thing, Module):
        yield from ((step, value) for step, value in own_children(thing) if step[0] == "attribute")
        yield ("type", None), type(thing)
    elif isinstance(thing, type):
        yield from _of_class(thing, names, made=made)
    elif isinstance(thing, types.ModuleType):
        yield from _of_python_module(thing, names)
    elif isinstance(thing, types.FunctionType):
        yield from _of_function(thing)
    elif isinstance(thing, (types.MethodType, functools.partial, *_TABLES)):
        yield from _of_table(thing)
    elif isinstance(thing, _WRAPPERS):
        yield from ((("attribute", name), getattr(thing, name)) for name in _IN_WRAPPERS if hasattr(thing, name))
    else:
        yield from _of_object(thing, names)


def _of_class(kind: type, names: Names, *, made: bool) -> Iterator[tuple[Step, Any]]:
    for i, base in enumerate(kind.__mro__):
        if _library(base):
            continue
        for name, value in vars(base).items():
            special = name.startswith("__") and (name not in _UNCALLED or (made and name in {"__init__", "__new__"}))
            if special or name in names:
                yield ("own", (i, name)), value
    if not _library(type(kind)):
        yield ("type", None), type(kind)


def _of_python_module(module: types.ModuleType, names: Names) -> Iterator[tuple[Step, Any]]:
    library = _library(module)
    for name in sorted(names & vars(module).keys()):
        value = vars(module)[name]
        if not library or callable(value) or isinstance(value, _PLAIN):
            yield ("attribute", name), value


def _of_function(function: types.FunctionType) -> Iterator[tuple[Step, Any]]:
    yield ("attribute", "__code__"), function.__code__
    library = _library(function)
    known = set()
    for step, value in children(function):
        if step[0] != "global" or not library:
            known.add(step)
            yield step, value
    for name in () if library else sorted(named(function.__code__)):
        if name in function.__globals__:
            if ("global", name) not in known:
                yield ("global", name), function.__globals__[name]
        elif name in sys.modules and not _library(sys.modules[name]):  # one that it imports itself
            yield ("imported", name), sys.modules[name]
    yield from ((("attribute", name), value) for name, value in vars(function).items())


def _of_table(thing: Any) -> Iterator[tuple[Step, Any]]:
    if isinstance(thing, deque):
        yield from ((("item", i), value) for i, value in enumerate(thing))
    elif isinstance(thing, types.MappingProxyType):
        yield from ((("item", key), value) for key, value in thing.items())
    elif not isinstance(thing, (set, frozenset)):
        yield from children(thing)


def _of_object(thing: Any, names: Names) -> Iterator[tuple[Step, Any]]:
    if isinstance(thing, contextvars.ContextVar):
        yield ("value", None), value_of(thing)
        return
    if isinstance(thing, weakref.ref):
        yield ("called", None), thing()
        return
    own = not _library(type(thing))
    for name, value in getattr(thing, "__dict__", {}).items():
        if not own or name in names:
            yield ("attribute", name), value
    for base in type(thing).__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if (not own or name in names) and hasattr(thing, name):
                yield ("attribute", name), getattr(thing, name)
    if own:
        yield ("type", None), type(thing)
