"""What a function writes outside of its result: seen by comparison, and put back."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import Module

__all__ = ["Change", "Snapshot", "same", "surely"]

_MISSING = object()


@dataclass(frozen=True, slots=True)
class Change:
    """An attribute or an item that the call wrote."""

    holder: Any
    key: Any
    before: Any
    after: Any

    @property
    def removed(self) -> bool:
        """Whether there is none any more."""
        return self.after is _MISSING


def same(a: Any, b: Any) -> bool:
    """Whether two values cannot be told apart by what a function does with them."""
    if a is b:
        return True
    if type(a) is not type(b) or isinstance(a, Tensor):
        return False
    if isinstance(a, (int, float, str, bytes, bool)):
        return bool(a == b)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(p, q) for p, q in zip(a, b, strict=True))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return False


def _stores(thing: Any) -> list[Any]:
    """Give the dicts and lists in which an object keeps what can be written."""
    if isinstance(thing, Module):
        own = vars(thing)
        return [own, own["_parameters"], own["_buffers"], own["_modules"]]
    return [thing] if isinstance(thing, (list, dict)) else [vars(thing)]


def _copied(store: list[Any] | dict[Any, Any]) -> Any:
    """Copy a dict or a list as it is, whatever a class of its own does when it is asked."""
    return list.copy(store) if isinstance(store, list) else dict.copy(store)


def surely(put_back: Callable[[], object]) -> None:
    """Put something back, and once more where the user interrupts it: a network must not be left with stand-ins."""
    try:
        put_back()
    except BaseException:
        put_back()
        raise


class Snapshot:
    """The contents of objects at one moment."""

    def __init__(self, objects: Iterable[Any]) -> None:
        self._kept = [(thing, store, _copied(store)) for thing in objects for store in _stores(thing)]

    def changes(self) -> list[Change]:
        """Say what was written since."""
        found: list[Change] = []
        for thing, store, before in self._kept:
            if isinstance(store, list):
                if not same(store, before):
                    found.append(Change(thing, None, before, store.copy()))
                continue
            now = _copied(store)
            for key in before.keys() | now.keys():
                a, b = before.get(key, _MISSING), now.get(key, _MISSING)
                if a is not b and not same(a, b):
                    found.append(Change(thing, key, a, b))
        return found

    def restore(self) -> None:
        """Put everything back, whatever comes between."""
        surely(self._put_back)

    def _put_back(self) -> None:
        for _, store, before in self._kept:
            if isinstance(store, list):
                store[:] = before
                continue
            now = _copied(store)
            if now.keys() != before.keys() or any(now[key] is not before[key] for key in before):
                dict.clear(store)
                dict.update(store, before)
