"""One function in several places: copies of a network that take turns, and a network that every process loads."""

import os
import threading
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any
from uuid import uuid4

from tilekit._errors import BackendError
from tilekit.backends import Array
from tilekit.backends._base import ArrayFunction

__all__ = ["Loaded", "Replicas"]


class Replicas:
    """
    Copies of one function on several devices, for a pool of as many threads: a tile goes to one that is free.

    Parameters
    ----------
    functions : sequence of callable
        The copies, such as one network loaded on each device. A tile is moved to the device of the copy, and the
        result back to that of the tile.
    devices : sequence, optional
        Where each of them computes; None for one that takes arrays wherever they are. Found by its parameters where
        it is a module of torch.

    Raises
    ------
    BackendError
        If there is no function, one of them cannot be called, or there are not as many devices.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> import numpy as np
    >>> from tilekit import SD_IMAGE, Tiling, decode_tiled
    >>> def decode(z):
    ...     return z[:, :3].repeat(8, axis=2).repeat(8, axis=3)
    >>> replicas = Replicas([decode, decode])
    >>> with ThreadPoolExecutor(len(replicas)) as pool:
    ...     image = decode_tiled(replicas, np.ones((1, 4, 64, 96)), Tiling(width=(256, 64)), geometry=SD_IMAGE,
    ...                          executor=pool)
    >>> image.shape
    (1, 3, 512, 768)
    """

    def __init__(self, functions: Sequence[Any], *, devices: Sequence[Any] | None = None) -> None:
        functions = list(functions)
        refused = [type(function).__qualname__ for function in functions if not callable(function)]
        if not functions or refused:
            msg = f"functions: got {', '.join(refused) or 'none'}, expected at least one callable, one for each device"
            raise BackendError(msg)
        if devices is None:
            devices = [_device_of(function) for function in functions]
        if len(devices) != len(functions):
            msg = f"devices: got {len(devices)} for {len(functions)} functions; give one for each"
            raise BackendError(msg)
        self._count = len(functions)
        self._free: SimpleQueue[tuple[ArrayFunction, Any]] = SimpleQueue()
        for pair in zip(functions, devices, strict=True):
            self._free.put(pair)

    def __len__(self) -> int:
        """Count the copies: threads beyond that only wait."""
        return self._count

    def __call__(self, x: Array) -> Array:
        """Compute on the next copy that is free; wait for one where all are at work."""
        replica = self._free.get()
        try:
            function, device = replica
            home = getattr(x, "device", None)
            result = function(_moved(x, device))
            return _moved(result, home if device is not None else None)
        finally:
            self._free.put(replica)


def _device_of(function: Any) -> Any:
    """Find where a module of torch has its weights; None for anything else."""
    parameters = getattr(function, "parameters", None)
    if not callable(parameters):
        return None
    found = parameters()
    first = None if isinstance(found, dict) else next(iter(found), None)  # MLX gives a dict, and shares all memory
    return getattr(first, "device", None)


def _moved(x: Any, device: Any) -> Any:
    """Move an array; itself where it is there already, or its library has one place only."""
    if device is None or not hasattr(x, "to") or str(getattr(x, "device", None)) == str(device):
        return x
    return x.to(device)


class Loaded:
    """
    What a loader gives, loaded once in every process that calls it: picklable, whatever it loads.

    Parameters
    ----------
    loader : callable
        A function of a module, such as `ltx_models.load_video_decoder`.
    *args, **kwargs
        What it is called with: a path rather than an array, as they go to every worker.

    Notes
    -----
    A call that cannot load says so: the error keeps its type and names the loader, its arguments and the process. The
    next call tries again.

    Examples
    --------
    >>> import pickle
    >>> import operator
    >>> half = Loaded(operator.methodcaller, "__truediv__", 2)
    >>> pickle.loads(pickle.dumps(half))(5)
    2.5
    """

    def __init__(self, loader: Any, /, *args: Any, **kwargs: Any) -> None:
        if not callable(loader):
            msg = f"loader: got a {type(loader).__qualname__}, expected a function that loads"
            raise BackendError(msg)
        self._loader, self._args, self._kwargs = loader, args, kwargs
        self._token = uuid4().hex  # goes along when this is pickled, so that all copies in a process share one load

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call what was loaded; load it first where this process has not."""
        return self.get()(*args, **kwargs)

    def __repr__(self) -> str:
        """Write the call of the loader."""
        given = [*map(repr, self._args), *(f"{name}={value!r}" for name, value in self._kwargs.items())]
        return f"{getattr(self._loader, '__qualname__', self._loader)}({', '.join(given)})"

    def __eq__(self, other: object) -> bool:
        """Whether it is this or a copy of it, such as one that was pickled."""
        return isinstance(other, Loaded) and other._token == self._token

    def __hash__(self) -> int:
        return hash(self._token)

    def release(self) -> None:
        """Let go of what was loaded in this process; a later call loads again."""
        _objects.pop(self._token, None)

    def get(self) -> Any:
        """Give what was loaded in this process; load it first where it was not."""
        with _locks.setdefault(self._token, threading.Lock()):
            if self._token not in _objects:
                try:
                    _objects[self._token] = self._loader(*self._args, **self._kwargs)
                except Exception as error:
                    error.add_note(f"while process {os.getpid()} loaded {self!r}")
                    raise
            return _objects[self._token]


_objects: dict[str, Any] = {}
_locks: dict[str, threading.Lock] = {}
