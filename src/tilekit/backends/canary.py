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

__all__ = ["Case", "Sizes", "check", "report"]

Numbers = np.ndarray[Any, np.dtype[Any]]
TOLERANCE = 2e-2
"""Of the largest value: half precision, and matrix units that round to fewer bits, pass; zeros do not."""
FRAME = 2**16
"""Elements of the frames whose time is padded: from here on MPS is wrong where nothing is done about it."""
NEAR = 8
"""How many times smaller than a limit arrays may be for nothing near it to be asked."""
SHARE = 100
"""The work of a run over that of the cases near its sizes, at least; larger cases are left out."""
WORK_PER_NUMBER = 1000
"""Multiply-adds of an autoencoder for each number that it gives, at least (the narrow one of LTX-2 takes 20 times)."""
COST = {"elements": 3, "convolution": 3, "unfolded": 1}
"""Additions and multiplications of a case for each element of its size."""
LEAST = 27 * 36 * 10
"""Elements from which on a case has a size of its own."""
TRUSTED: set[tuple[Place, Limits, str, int]] = set()
"""Devices that were right: at which kind of case, and up to which size as a power of two."""


class Sizes(NamedTuple):
    """The largest arrays that a run will make, in elements; 0 where there is none."""

    elements: int = 0
    """Of any array."""
    convolution: int = 0
    """Of the output of a convolution."""
    unfolded: int = 0
    """Of the matrix that a convolution over three axes unfolds its input to."""
    work: int = 0
    """Multiply-adds of the run in all."""


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
    device = _device(like)
    if device is None:
        return ()
    sizes = Sizes(elements, convolution, unfolded)
    return tuple(_run(sought, device) for sought in (*device.small(), *device.large(sizes._asdict())))


def check(like: Array, sizes: Sizes = Sizes()) -> None:  # noqa: B008  a constant
    """
    Refuse a device that computes wrong numbers; asked once for each device, framework and version.

    Parameters
    ----------
    like : array
        Of any library. Processors are trusted.
    sizes : Sizes
        What a run will make: where an array comes near a limit of the device, a case of that size is asked once too,
        as far as it takes less than a hundredth of the work of the run.

    Raises
    ------
    DeviceError
        If a case fails; the text names it.
    """
    place, limits = place_of(like), limits_of(like)
    if place.device == "cpu" and not limits.any:
        return
    wanted = {
        name: size for name, size in _near(limits, sizes).items() if _key(place, limits, name, size) not in TRUSTED
    }
    first = _key(place, limits, "small", 0) not in TRUSTED
    if not (first or wanted):
        return
    backend = backend_of(like)
    if not backend.is_floating(like):  # codes: the function will compute with numbers on the same device
        like = backend.weights([0.0], (1,), backend.namespace(like).float32, like)
    for case in _asked(like, wanted, first=first):
        if not case.holds:
            said = f"({case.note})" if case.note else f"(off by {case.error:.2g} of the largest value)"
            msg = (
                f"{place.framework} {place.version} on {place.device} gets {case.name} wrong {said}, so nothing was "
                "computed; update the framework and the system, or use another device"
            )
            raise DeviceError(msg)
    TRUSTED.update(_key(place, limits, name, size) for name, size in {"small": 0, **wanted}.items())


def _asked(like: Array, wanted: dict[str, int], *, first: bool) -> Iterator[Case]:
    if first:
        yield from report(like)
    device = _device(like)
    if device is not None:
        yield from (_run(sought, device) for sought in device.large(wanted))


def _near(limits: Limits, sizes: Sizes) -> dict[str, int]:
    """Give the sizes of cases near limits: the next power of two, no more than is right."""
    found = {}
    for name, cost in COST.items():
        size, most = getattr(sizes, name), getattr(limits, name)
        if 0 < size <= most < inf and size * NEAR > most:
            size = min(1 << (size - 1).bit_length(), int(most))
            if cost * size * SHARE <= sizes.work:
                found[name] = size
    return found


def _key(place: Place, limits: Limits, name: str, size: int) -> tuple[Place, Limits, str, int]:
    return place, limits, name, size.bit_length()


def _device(like: Array) -> "_Device | None":
    framework = place_of(like).framework
    if framework not in ("torch", "mlx"):
        return None
    return _Device(like, import_module(f"tilekit.backends._canary_{framework}"))


def _run(sought: _Sought, device: "_Device") -> Case:
    try:
        got = device.numpy(sought.ask())
    except Exception as error:  # whatever a device raises, it did not compute the case
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

    def small(self) -> Iterator[_Sought]:
        """Give the cases that take no time."""
        for rank in (1, 2, 3):
            yield self._convolution(rank)
        yield self._padding()
        y = _pattern(2, 5, 3)
        yield _Sought("a sum over a middle axis", lambda: self._tools.sum(self._array(y), 1), y.sum(1))
        yield _Sought("a matrix product", lambda: self._array(y) @ self._array(y.mT), y @ y.mT)

    def large(self, sizes: dict[str, int]) -> Iterator[_Sought]:
        """Give the cases of these sizes."""
        made = {
            "elements": self._large_array,
            "convolution": self._large_convolution,
            "unfolded": self._large_matrix,
        }
        for name, size in sizes.items():
            if size >= LEAST and name in made:
                yield made[name](size)

    def _convolution(self, rank: int) -> _Sought:
        x, w = _pattern(1, 2, *(3, 4, 3)[:rank]), _pattern(3, 2, *(3,) * rank)
        return _Sought(
            f"a convolution over {rank} {'axes' if rank > 1 else 'axis'}",
            lambda: self._tools.convolve(self._array(x), self._array(w)),
            _convolved(x, w),
        )

    def _padding(self) -> _Sought:
        """Pad time as our layers do: with a constant, unless the limits say that frames are too large for that."""
        frame = int(min(self._limits.padded_frame, FRAME, self._limits.elements // 8))
        x = _pattern(1, 1, 2, 1, frame)
        widths = ((0, 0), (0, 0), (2, 0), (0, 0), (0, 0))
        return _Sought(
            f"the padding of time of frames of {frame} elements",
            lambda: self._tools.pad_time(self._array(x), 2),
            np.pad(x, widths),
        )

    def _large_convolution(self, elements: int) -> _Sought:
        """Give a convolution over two axes of so many outputs, or a few less."""
        channels, width = 16, 8
        rows = elements // (channels * width) + 2
        name = f"a convolution of {channels * (rows - 2) * width} outputs"
        return self._long(name, rows, (width,), _pattern(channels, 1, 3, 1))

    def _large_matrix(self, elements: int) -> _Sought:
        """Give a convolution over three axes whose unfolded input has so many elements."""
        frames = elements // (27 * 36) + 2
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
        columns = min(4096, elements // 2)
        rows = elements // columns
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
