"""
NumPy with the faults of other devices played: what tests of limits run on.

Arrays are of a class whose functions and methods are looked at, and what makes arrays of nothing makes such ones.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from math import isqrt
from types import TracebackType
from typing import Any, ClassVar

import numpy as np

from tilekit.backends._faults import TURN, Faults
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
        """Begin to play, when no other thread does."""
        self._stack.enter_context(TURN)
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
        def making(*args: Any, **kwargs: Any) -> Any:
            given = [_plain(arg) for arg in args]
            return self.made(name, function(*given, **kwargs), given)

        return making

    def made(self, name: str, out: Any, given: Iterable[Any]) -> Any:
        """
        Take note of a result, and spoil it where it is too large.

        A view of what was given is left alone: it is nothing that was made, and who goes on with the strides of an
        array must not find another one's memory behind them.
        """
        if isinstance(out, tuple | list):
            return type(out)(self.made(name, one, given) for one in out)
        if not isinstance(out, np.ndarray):
            return out
        self.watch(_work_of(name, out, given), "a matrix product", name)
        if self.large(out.size) and not any(isinstance(x, np.ndarray) and np.may_share_memory(out, x) for x in given):
            self.played.append(name)
            out.fill(0)
        return out.view(_Played)


class _Played(np.ndarray[Any, Any]):
    """An array on the device that is played."""

    faults: ClassVar[NumpyFaults | None] = None

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        """Compute, and spoil what is too large."""
        given = [_plain(x) for x in inputs]
        if out is None:
            return _looked(ufunc.__name__, getattr(ufunc, method)(*given, **kwargs), given)
        getattr(ufunc, method)(*given, out=tuple(map(_plain, out)), **kwargs)
        return out[0] if len(out) == 1 else out

    def __array_function__(self, func: Any, types: Any, args: Iterable[Any], kwargs: Any) -> Any:
        """Compute, and spoil what is too large."""
        given = [_plain(x) for x in args]
        made = func(*given, **{key: _plain(value) for key, value in kwargs.items()})
        return made if func is np.broadcast_to else _looked(func.__name__, made, given)


def _method(name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        plain = _plain(self)
        return _looked(name, getattr(plain, name)(*args, **kwargs), (plain, *map(_plain, args)))

    return method


for _name in _METHODS:
    setattr(_Played, _name, _method(_name))


def _looked(name: str, out: Any, given: Iterable[Any]) -> Any:
    player = _Played.faults  # read once: it may end in another thread
    return out if player is None else player.made(name, out, given)


def _work_of(name: str, made: Any, given: Iterable[Any]) -> int:
    """Count the multiply-adds of a matrix product; 0 for other operations."""
    if name not in {"matmul", "dot", "tensordot", "inner"}:
        return 0
    left, right = list(given)[:2]
    contracted = isqrt(left.size * right.size // max(1, made.size))  # (m, k) by (k, n)
    return int(made.size * (left.shape[-1] if name == "matmul" else contracted))


def _plain(x: Any) -> Any:
    if isinstance(x, _Played):
        return x.view(np.ndarray)
    return type(x)(map(_plain, x)) if type(x) in {list, tuple} else x
