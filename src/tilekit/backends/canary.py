"""
A canary: small cases, and some near the sizes that a run will touch, compared with what NumPy gives.

A device that computes wrong numbers does so without a word, so it is asked once, before the first tile.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from math import inf
from typing import Any, NamedTuple

import numpy as np

from tilekit._errors import DeviceError
from tilekit.backends._base import Array, Place
from tilekit.backends._registry import backend_of
from tilekit.backends.limits import Limits, limits_of, place_of

__all__ = ["Case", "check", "report"]

Numbers = np.ndarray[Any, np.dtype[Any]]
TOLERANCE = 2e-2
"""Of the largest value: half precision, and matrix units that round to fewer bits, pass; zeros do not."""
FRAME = 2**16
"""Elements of the frames whose time is padded: from here on MPS is wrong where nothing is done about it."""
TRUSTED: set[tuple[Place, Limits]] = set()
"""Devices that were right."""


class Case(NamedTuple):
    """What one case gave."""

    name: str
    """The operation and its size."""
    error: float
    """The largest difference from NumPy, over the largest value; infinite for NaN, or where the framework raised."""
    note: str
    """What the framework said if it raised, else empty."""

    @property
    def holds(self) -> bool:
        """Whether the device computes this right."""
        return self.error <= TOLERANCE


class _Sought(NamedTuple):
    """A case that has not run: what the device is asked for, and what NumPy gives."""

    name: str
    ask: Callable[[], Array]
    expected: Numbers


def report(like: Array, *, elements: int = 0, convolution: int = 0, unfolded: int = 0) -> tuple[Case, ...]:
    """
    Run all cases on the device of an array.

    Parameters
    ----------
    like : array
        Of torch or MLX, floating point; its device, dtype and framework are tried.
    elements, convolution, unfolded : int
        The largest array, the largest output of a convolution, and the largest matrix that one over three axes unfolds
        its input to, that a run will make; 0 leaves them out.

    Returns
    -------
    tuple of Case
        One for each case; none for other libraries.

    Examples
    --------
    >>> import torch
    >>> all(case.holds for case in report(torch.zeros(1), convolution=4096, elements=4096))
    True
    """
    framework = place_of(like).framework
    if framework not in ("torch", "mlx"):
        return ()
    device = _Device(like, import_module(f"tilekit.backends._canary_{framework}"))
    return tuple(_run(sought, device) for sought in device.cases(elements, convolution, unfolded))


def check(like: Array) -> None:
    """
    Refuse a device that computes wrong numbers; asked once for each device, framework and version.

    Parameters
    ----------
    like : array
        Of any library. Processors are trusted.

    Raises
    ------
    DeviceError
        If a case fails; the text names it.
    """
    place, limits = place_of(like), limits_of(like)
    if (place.device == "cpu" and not limits.any) or (place, limits) in TRUSTED:
        return
    backend = backend_of(like)
    if not backend.is_floating(like):  # codes: the function will compute with numbers on the same device
        like = backend.weights([0.0], (1,), backend.namespace(like).float32, like)
    for case in report(like):
        if not case.holds:
            said = f"({case.note})" if case.note else f"(off by {case.error:.2g} of the largest value)"
            msg = (
                f"{place.framework} {place.version} on {place.device} gets {case.name} wrong {said}, so nothing was "
                "computed; update the framework and the system, or use another device"
            )
            raise DeviceError(msg)
    TRUSTED.add((place, limits))


def _run(sought: _Sought, device: "_Device") -> Case:
    try:
        got = device.numpy(sought.ask())
    except Exception as error:
        return Case(sought.name, inf, str(error).strip().partition("\n")[0] or type(error).__name__)
    off = float(np.max(np.abs(got - sought.expected)) / np.max(np.abs(sought.expected)))
    return Case(sought.name, inf if np.isnan(off) else off, "")


class _Device:
    """Where cases run; `tools` has what the array API lacks."""

    def __init__(self, like: Array, tools: Any) -> None:
        self._like, self._tools = like, tools
        self._backend = backend_of(like)
        self._limits = limits_of(like)

    def numpy(self, x: Array) -> Numbers:
        return np.asarray(self._backend.to_numpy(x), dtype=np.float64)

    def _array(self, x: Numbers) -> Array:
        return self._backend.from_numpy(x.astype(np.float32), self._like)

    def cases(self, elements: int, convolution: int, unfolded: int) -> Iterator[_Sought]:
        for rank in (1, 2, 3):
            yield self._convolution(rank)
        yield self._padding()
        y = _pattern(2, 5, 3)
        yield _Sought("a sum over a middle axis", lambda: self._tools.sum(self._array(y), 1), y.sum(1))
        yield _Sought("a matrix product", lambda: self._array(y) @ self._array(y.mT), y @ y.mT)
        if elements:
            yield self._large_array(elements)
        if convolution:
            yield self._large_convolution(convolution)
        if unfolded:
            yield self._large_matrix(unfolded)

    def _convolution(self, rank: int) -> _Sought:
        x, w = _pattern(1, 2, *(3, 4, 3)[:rank]), _pattern(3, 2, *(3,) * rank)
        return _Sought(
            f"a convolution over {rank} {'axes' if rank > 1 else 'axis'}",
            lambda: self._tools.convolve(self._array(x), self._array(w)),
            _convolved(x, w),
        )

    def _padding(self) -> _Sought:
        """Pad time as our layers do: with a constant, unless the limits say that frames are too large for that."""
        frame = int(min(self._limits.padded_frame, FRAME, self._limits.elements // 4))
        x = _pattern(1, 1, 2, 1, frame)
        widths = ((0, 0), (0, 0), (2, 0), (0, 0), (0, 0))
        return _Sought(
            f"the padding of time of frames of {frame} elements",
            lambda: self._tools.pad_time(self._array(x), 2),
            np.pad(x, widths),
        )

    def _large_convolution(self, elements: int) -> _Sought:
        """Give a convolution over two axes of so many outputs."""
        channels, width = 16, 8
        rows = -(-elements // (channels * width)) + 2
        name = f"a convolution of {channels * (rows - 2) * width} outputs"
        return self._long(name, rows, (width,), _pattern(channels, 1, 3, 1))

    def _large_matrix(self, elements: int) -> _Sought:
        """Give a convolution over three axes whose unfolded input has so many elements."""
        frames = -(-elements // (27 * 36)) + 2
        name = f"a convolution whose unfolded input has {(frames - 2) * 36 * 27} elements"
        return self._long(name, frames, (8, 8), _pattern(2, 1, 3, 3, 3))

    def _long(self, name: str, rows: int, others: tuple[int, ...], w: Numbers) -> _Sought:
        """Convolve along a long axis, of which the first and the last rows are compared."""
        ends = _pattern(1, 1, 6, *others)

        def ask() -> Array:
            middle = self._tools.zeros((1, 1, max(0, rows - 12), *others), self._like)
            x = self._backend.concat([self._array(ends), middle, self._array(ends)], 2)
            y = self._tools.convolve(x, self._array(w))
            return self._backend.concat([y[:, :, :4], y[:, :, -4:]], 2)

        part = _convolved(ends, w)
        return _Sought(name, ask, np.concatenate([part, part], 2))

    def _large_array(self, elements: int) -> _Sought:
        """Give an array of so many elements, of which sums over the middle axis and the last elements are compared."""
        columns = 4096
        rows = max(2, -(-elements // columns))
        ends = _pattern(1, 1, columns)

        def ask() -> Array:
            x = self._backend.concat([self._tools.zeros((1, rows - 1, columns), self._like), self._array(ends)], 1)
            return self._backend.concat([self._tools.sum(x + x, 1), 3 * x[:, -1]], 0)

        return _Sought(
            f"an array of {rows * columns} elements", ask, np.concatenate([2 * ends[:, 0], 3 * ends[:, 0]], 0)
        )


def _pattern(*shape: int) -> Numbers:
    """Numbers of few digits, which half precision has too, and none of which is zero."""
    return (np.arange(np.prod(shape)) % 7 - 3.5).reshape(shape) / 4


def _convolved(x: Numbers, w: Numbers) -> Numbers:
    """Convolve without padding; (B, C, ...) by (O, C, ...)."""
    rank = x.ndim - 2
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=tuple(range(2, x.ndim)))
    axes = ([1, *range(x.ndim, x.ndim + rank)], [1, *range(2, 2 + rank)])
    return np.moveaxis(np.tensordot(windows, w, axes), -1, 1)
