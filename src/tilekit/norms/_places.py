"""Where arrays wait: on the device, in host memory, or on disk."""

from __future__ import annotations

import tempfile
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from tilekit.backends import Array, backend_of
from tilekit.norms._arrays import cast_like, device_of, from_numpy, to_device, to_host, to_numpy

__all__ = ["Places"]

Place = Literal["device", "host", "disk"]


class _File:
    """An array on disk, which goes when nothing refers to it."""

    __slots__ = ("_like", "_path")

    def __init__(self, path: Path, x: Array) -> None:
        self._path = path
        self._like = backend_of(x).empty((1,), x.dtype, x)  # no view, which would keep the whole array alive
        np.save(path, to_numpy(x))  # float32 holds the half precisions exactly

    def read(self) -> Array:
        """Give the array as it was."""
        return cast_like(from_numpy(np.load(self._path), self._like), self._like)

    def __del__(self) -> None:
        self._path.unlink(missing_ok=True)


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

    A folder for files is made when the first array goes to disk, and goes at the end of the ``with`` block.
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
            self._folder = tempfile.TemporaryDirectory(prefix="tilekit-")
        return _File(Path(self._folder.name) / f"{next(self._numbers)}.npy", x)

    def back(self, x: Any) -> Array:
        """Bring an array back."""
        return x.read() if isinstance(x, _File | _OnHost) else x
