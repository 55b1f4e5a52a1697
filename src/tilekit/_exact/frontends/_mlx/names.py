"""Values that a function finds under a name but in no dict of its own: globals that it writes, cells, slots."""

import dis
import functools
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Names", "cells", "slots", "written_globals"]

_WRITES = ("STORE_GLOBAL", "DELETE_GLOBAL")


@dataclass(frozen=True, slots=True)
class Names:
    """Some names of a holder, read and written like a dict."""

    names: tuple[str, ...]
    read: Callable[[str], Any]
    """Gives the value; raises an error of `absent` where there is none."""
    write: Callable[[str, Any], object]
    drop: Callable[[str], object]

    def items(self) -> Iterator[tuple[str, Any]]:
        """Give the names that have a value, and it."""
        for name in self.names:
            try:
                value = self.read(name)
            except (LookupError, AttributeError, ValueError):
                continue
            yield name, value

    def copy(self) -> dict[str, Any]:
        """Give them as they are now."""
        return dict(self.items())


def written_globals(function: types.FunctionType) -> Names | None:
    """Give the globals that a function, or one inside it, puts values in."""
    names, held = _stored(function.__code__), function.__globals__
    return Names(tuple(sorted(names)), held.__getitem__, held.__setitem__, held.__delitem__) if names else None


@functools.lru_cache(maxsize=4096)
def _stored(code: types.CodeType) -> frozenset[str]:
    names = {str(step.argval) for step in dis.get_instructions(code) if step.opname in _WRITES} if _may(code) else ()
    inner = (_stored(const) for const in code.co_consts if isinstance(const, types.CodeType))
    return frozenset(names).union(*inner)


def _may(code: types.CodeType) -> bool:
    """Look quickly for a code that writes to globals; it may be an argument that looks the same."""
    return any(dis.opmap[name] in code.co_code[::2] for name in _WRITES)


def cells(function: types.FunctionType) -> Names | None:
    """Give the variables of the functions around a function."""
    if not function.__closure__:
        return None
    held = dict(zip(function.__code__.co_freevars, function.__closure__, strict=True))

    def write(name: str, value: Any) -> None:
        held[name].cell_contents = value

    def drop(name: str) -> None:
        del held[name].cell_contents

    return Names(tuple(held), lambda name: held[name].cell_contents, write, drop)


def slots(value: Any) -> Names | None:
    """Give the attributes of an object that its class has places for."""
    names = [
        name
        for kind in type(value).__mro__
        if "__slots__" in vars(kind)
        for name, member in vars(kind).items()
        if isinstance(member, types.MemberDescriptorType)
    ]
    if not names:
        return None
    return Names(
        tuple(dict.fromkeys(names)),
        functools.partial(getattr, value),
        functools.partial(object.__setattr__, value),  # frozen ones as well
        functools.partial(object.__delattr__, value),
    )
