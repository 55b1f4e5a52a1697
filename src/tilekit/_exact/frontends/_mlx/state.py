"""What a function writes to the objects that it reaches: seen by comparison, and put back."""

from collections import deque
from collections.abc import Callable
from typing import Any

import mlx.core as mx

from tilekit._errors import TraceError
from tilekit._exact.frontends._mlx.captured import Captured
from tilekit._exact.frontends._mlx.names import Names

__all__ = ["Contents"]

_compute: Callable[..., None] = mx.eval  # a trace leaves the hints of MLX out
_MISSING = object()


class Contents:
    """
    The contents of what a function reaches at one moment.

    Parameters
    ----------
    captured : Captured
        What it reaches.
    """

    def __init__(self, captured: Captured) -> None:
        self._kept = [(name, holder, holder.copy()) for name, holder in captured.containers]
        self._caches = [(cached, cached.cache_info().misses) for cached in captured.caches]

    def forget(self) -> None:
        """Empty caches that were written since: they may hold arrays of a trace."""
        for cached, misses in self._caches:
            if cached.cache_info().misses != misses:
                cached.cache_clear()

    def changed(self) -> list[str]:
        """Name what was written since."""
        return [
            f"{name}.{key}" if name else str(key)
            for name, holder, old in self._kept
            for key, value in _entries(holder)
            if not _same(value, _before(old, key))
        ]

    def refuse_arrays_of_a_trace(self) -> None:
        """
        Refuse a function that leaves arrays behind which belong to its trace, where none was before.

        Raises
        ------
        TraceError
            It names where.
        """
        for name, holder, old in self._kept:
            for key, value in _entries(holder):
                before = _before(old, key)
                if value is not before and not isinstance(before, mx.array) and _depends(value):
                    msg = (
                        f"the function keeps an array in {name or 'an object'} ({key!r}): its result depends on the "
                        "calls before it; let it return the array, or switch to inference (module.eval())"
                    )
                    raise TraceError(msg)

    def restore(self) -> None:
        """Put everything back."""
        for _, holder, old in self._kept:
            if isinstance(holder, Names):
                _put_back(holder, old)
            elif isinstance(holder, dict):
                for key in [key for key in holder if key not in old]:
                    del holder[key]
                dict.update(holder, old)
            elif isinstance(holder, deque):
                holder.clear()
                holder.extend(old)
            else:
                holder[:] = old


def _put_back(holder: Names, old: dict[str, Any]) -> None:
    for name, value in holder.copy().items():
        if name not in old:
            holder.drop(name)
        elif value is not old[name]:
            holder.write(name, old[name])
    for name in old.keys() - holder.copy().keys():
        holder.write(name, old[name])


def _entries(holder: Any) -> list[tuple[Any, Any]]:
    return list(holder.items() if isinstance(holder, (dict, Names)) else enumerate(holder))


def _before(old: Any, key: Any) -> Any:
    there = key in old if isinstance(old, dict) else key < len(old)
    return old[key] if there else _MISSING


def _same(a: Any, b: Any) -> bool:
    """Whether a function cannot tell two values apart; arrays and other objects only where they are the same one."""
    return a is b or (type(a) is type(b) and isinstance(a, (int, float, str, bytes, bool)) and a == b)


def _depends(value: Any) -> bool:
    """Whether an array (or one in a list, a tuple or a dict) belongs to the trace: MLX refuses to compute such."""
    if isinstance(value, mx.array):
        try:
            _compute(value)
        except ValueError:
            return True
        return False
    values = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return any(_depends(item) for item in values)
