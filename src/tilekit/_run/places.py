"""Where arrays wait: on the device, in host memory, or on disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from tilekit._errors import DiskError
from tilekit._run.leftovers import folder_of_this_process
from tilekit.backends import Array, backend_of
from tilekit.backends.arrays import cast_like, from_numpy, to_device, to_host, to_numpy
from tilekit.backends.kinds import device_of

__all__ = ["Places"]

Place = Literal["device", "host", "disk"]
NUMBERS_AT_ONCE = 1 << 22  # when the cells of an array do not lie in a row, which are copied before they are written
REMEDY = "free some space there, let TMPDIR name a folder on a larger disk, or keep arrays on the host or the device"


class _File:
    """An array on disk, which goes when nothing refers to it."""

    __slots__ = ("_dtype", "_like", "_path", "_shape")

    def __init__(self, path: Path, x: Array) -> None:
        self._path = path
        self._like = backend_of(x).empty((1,), x.dtype, x)  # no view, which would keep the whole array alive
        numbers = _numbers(x)
        self._dtype, self._shape = numbers.dtype, numbers.shape
        try:
            _write(path, numbers)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise _disk_error(path.parent, numbers.nbytes, error) from error

    def read(self) -> Array:
        """Give the array as it was."""
        numbers = from_numpy(np.fromfile(self._path, self._dtype).reshape(self._shape), self._like)
        return cast_like(numbers, self._like) if _bits(self._like) is None else numbers.view(self._like.dtype)

    def __del__(self) -> None:
        self._path.unlink(missing_ok=True)


def _bits(x: Array) -> Any:
    """Give the dtype that half precisions are written as, bit by bit; None for what NumPy has itself."""
    backend = backend_of(x)
    half = backend.name in {"torch", "mlx"} and backend.is_floating(x) and backend.itemsize(x) == 2
    return backend.namespace(x).int16 if half else None


def _numbers(x: Array) -> npt.NDArray[Any]:
    bits = _bits(x)
    return to_numpy(x) if bits is None else np.asarray(to_host(x).view(bits))


def _write(path: Path, numbers: npt.NDArray[Any]) -> None:
    """Write the cells in their order; Python's own write tells why it fails, that of NumPy does not."""
    with path.open("wb") as file:
        flags = ["external_loop", "buffered", "zerosize_ok"]
        for row in np.nditer(numbers, flags, order="C", buffersize=NUMBERS_AT_ONCE):  # type: ignore[call-overload]
            file.write(np.ascontiguousarray(row).data)


def _disk_error(folder: Path, n_bytes: int, error: OSError) -> DiskError:
    """Say which folder takes no more, how much was to be written and how much is free."""
    try:
        free = f"{shutil.disk_usage(folder).free} bytes"
    except OSError:
        free = "an unknown number of bytes"
    reason = error.strerror or os.strerror(error.errno or 0)
    msg = f"cannot put {n_bytes} bytes of a tile into {folder}: {reason} ({free} are free on that disk); {REMEDY}"
    return DiskError(msg)


class _OnHost:
    """An array in host memory."""

    __slots__ = ("_device", "_x")

    def __init__(self, x: Array) -> None:
        self._device = device_of(x)
        self._x = to_host(x)

    def read(self) -> Array:
        """Give the array where it was."""
        return to_device(self._x, self._device)


class Places:
    """
    Bring arrays away and back: the same library, device, dtype and values.

    A folder for files is made when the first array goes to disk, and goes at the end of the ``with`` block; what a
    process left that was killed goes when another one makes its folder.
    """

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._numbers = count()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def away(self, x: Array, place: Place) -> Any:
        """Bring an array away, and give what `back` takes."""
        if place == "device":
            return x
        if place == "host":
            return _OnHost(x)
        if self._folder is None:
            self._folder = _folder()
        return _File(Path(self._folder.name) / f"{next(self._numbers)}.npy", x)

    def back(self, x: Any) -> Array:
        """Bring an array back."""
        return x.read() if isinstance(x, _File | _OnHost) else x


def _folder() -> tempfile.TemporaryDirectory[str]:
    """Make the folder for files, and clear up what killed processes left of theirs."""
    try:
        return folder_of_this_process("tilekit")
    except OSError as error:
        msg = f"cannot make a folder for tiles: {error}; {REMEDY}"
        raise DiskError(msg) from error
