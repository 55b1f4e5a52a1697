"""
NumPy with the faults of other devices played: what tests of limits run on.

Arrays are of a class whose functions and methods are looked at, and what makes arrays of nothing makes such ones.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, ClassVar

import numpy as np

from tilekit.backends._faults import Faults
from tilekit.backends.limits import Limits

__all__ = ["NumpyFaults"]

_MAKERS = ("empty", "zeros", "ones", "full", "array", "arange", "empty_like", "zeros_like", "ones_like", "full_like")
_METHODS = (
    "repeat",
    "sum",
    "mean",
    "min",
    "max",
    "prod",
    "var",
    "std",
    "astype",
    "copy",
    "take",
    "cumsum",
    "clip",
    "dot",
)


class NumpyFaults(Faults):
    """
    Give wrong numbers where a device with these limits would, and remember the largest arrays.

    Parameters
    ----------
    limits : Limits
        What is right.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._stack = ExitStack()

    def __enter__(self) -> "NumpyFaults":
        """Begin to play."""
        for name in _MAKERS:
            function = getattr(np, name)
            setattr(np, name, self._making(name, function))
            self._stack.callback(setattr, np, name, function)
        self._stack.callback(setattr, _Played, "faults", _Played.faults)
        _Played.faults = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put back what was there."""
        self._stack.close()

    def array(self, x: Any) -> Any:
        """Give an array on the device that is played."""
        return x.view(_Played)

    def _making(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: self.made(name, function(*map(_plain, args), **kwargs))

    def made(self, name: str, out: Any) -> Any:
        """Take note of a result, and spoil it where it is too large."""
        if isinstance(out, tuple | list):
            return type(out)(self.made(name, one) for one in out)
        if not isinstance(out, np.ndarray):
            return out
        if self.large(out.size):
            self.played.append(name)
            out = out.copy()  # it may be a view
            out.fill(0)
        return out.view(_Played)


class _Played(np.ndarray[Any, Any]):
    """An array on the device that is played."""

    faults: ClassVar[NumpyFaults | None] = None

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        """Compute, and spoil what is too large."""
        if out is None:
            return _looked(ufunc.__name__, getattr(ufunc, method)(*map(_plain, inputs), **kwargs))
        getattr(ufunc, method)(*map(_plain, inputs), out=tuple(map(_plain, out)), **kwargs)
        return out[0] if len(out) == 1 else out

    def __array_function__(self, func: Any, types: Any, args: Iterable[Any], kwargs: Any) -> Any:
        """Compute, and spoil what is too large."""
        made = func(*map(_plain, args), **{key: _plain(value) for key, value in kwargs.items()})
        return made if func is np.broadcast_to else _looked(func.__name__, made)


def _method(name: str) -> Callable[..., Any]:
    return lambda self, *args, **kwargs: _looked(name, getattr(_plain(self), name)(*args, **kwargs))


for _name in _METHODS:
    setattr(_Played, _name, _method(_name))


def _looked(name: str, out: Any) -> Any:
    return out if _Played.faults is None else _Played.faults.made(name, out)


def _plain(x: Any) -> Any:
    if isinstance(x, _Played):
        return x.view(np.ndarray)
    return type(x)(map(_plain, x)) if type(x) in {list, tuple} else x
