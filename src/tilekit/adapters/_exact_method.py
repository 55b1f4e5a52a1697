"""A method of a module, replaced by one that gives the same in less memory."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Hashable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from tilekit._errors import BackendError, TraceError
from tilekit._exact.api import Exact
from tilekit._exact.trace import is_stand_in
from tilekit._progress import Progress
from tilekit.adapters._classes import Direction, quirks_of, settings
from tilekit.adapters._self_check import check_once
from tilekit.backends import Array

__all__ = ["ExactMethod", "Place", "Redirected", "Untiled"]

Module = Any


@dataclass(frozen=True)
class Place:
    """A method of a model, or of a part of it."""

    model: Module
    """Whose settings count."""
    owner: Module
    """Whose method it is: the model, its encoder or its decoder."""
    name: str
    direction: Direction


class Untiled:
    """
    The plain method as a function of one array: with its tiling off, and what else it was given kept beside.

    Parameters
    ----------
    place : Place
        The method.
    replaced : callable or None
        What stood in its place on the object itself.
    args, kwargs
        What it is given after the array.
    """

    def __init__(self, place: Place, replaced: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> None:
        self.place, self.replaced = place, replaced
        self.args, self.kwargs = list(args), dict(kwargs or {})
        self.quirks = quirks_of(place.model)
        self.__qualname__ = f"{type(place.owner).__qualname__}.{place.name}"

    def __call__(self, x: Array) -> Array:
        """Call it."""
        with settings(self.place.model, self.quirks):
            return _array(self._made(x))

    def _made(self, x: Array) -> Any:
        if self.replaced is not None:
            return self.replaced(x, *self.args, **self.kwargs)
        owner = self.place.owner
        method = getattr(type(owner), self.place.name)
        own = getattr(self.quirks, self.place.direction)
        if own is not None and method.__module__.startswith("diffusers."):
            return own(owner, x)
        return method(owner, x, *self.args, **self.kwargs)


def _array(made: Any) -> Array:
    """Take the array out of what a method gave."""
    made = getattr(made, "sample", made)
    return made[0] if isinstance(made, tuple) else made


class ExactMethod:
    """
    Stands for a method on one object. A copy of the object gets a copy that calls the copy, with its own weights.

    Parameters
    ----------
    place : Place
        The method.
    memory_bytes : int or None
        See `tilekit.exact`.
    progress : bool, callable or None
        See `tilekit.exact`.
    """

    # no __dict__: what looks for the weights of a model by following its attributes has nothing to find here
    __slots__ = ("_functions", "_lock", "memory_bytes", "place", "progress", "replaced")

    def __init__(self, place: Place, memory_bytes: int | None = None, progress: Progress = None) -> None:
        self.__setstate__((place, memory_bytes, progress, _standing(place.owner, place.name)))
        self._function((), {})

    def __getstate__(self) -> tuple[Any, ...]:
        """Leave plans out: they are made for the weights of one object."""
        return self.place, self.memory_bytes, self.progress, self.replaced

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Start without plans."""
        self.place, self.memory_bytes, self.progress, self.replaced = state
        self._functions: dict[Any, Exact] = {}
        self._lock = threading.RLock()

    @property
    def __name__(self) -> str:
        """The name of the method."""
        return str(self.place.name)

    @property
    def __signature__(self) -> inspect.Signature:
        """What the method takes."""
        return inspect.signature(
            self.replaced or getattr(type(self.place.owner), self.place.name).__get__(self.place.owner)
        )

    def put(self) -> None:
        """Take the place of the method."""
        self.place.owner.__dict__[self.place.name] = self

    def remove(self) -> None:
        """Put back what was there."""
        _restore(self.place.owner, self.place.name, self.replaced)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Give what the method gives."""
        import torch

        parameters = self.__signature__.parameters
        if not args:
            args = (kwargs.pop(next(iter(parameters))),)
        asked = kwargs.pop("return_dict", True)
        x, *rest = args
        if not isinstance(x, torch.Tensor):
            msg = f"{self.place.direction}: got {type(x).__name__}, expected a torch.Tensor"
            raise BackendError(msg)
        # an input that wants a gradient is refused: it would lose it without a word
        with nullcontext() if x.requires_grad else torch.no_grad(), self._lock:
            sample = self._run(x, tuple(rest), kwargs)
        if self.place.direction == "encode" or "return_dict" not in parameters:
            return sample  # an inner encode gives an array, whatever it takes
        return _output(sample) if asked else (sample,)

    def _run(self, x: Array, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Array:
        function, key = self._function(args, kwargs)
        if is_stand_in(x):  # somebody follows what calls this, tilekit.exact too: the plain call is meant
            return function.function(x)
        try:
            check_once(function, x, self.place.owner, (self.place.direction, (self.place.name, key)))
            return function(x)
        except TraceError as error:
            msg = f"{error}; tilekit.adapters.disable_exact_tiling brings the plain call back"
            raise TraceError(msg) from error

    def _function(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Exact, Hashable]:
        """Give the exact function for these further arguments; arrays among them are read when they are used."""
        key = (tuple(_key(value) for value in args), tuple((name, _key(value)) for name, value in kwargs.items()))
        if key not in self._functions:
            plain = Untiled(self.place, self.replaced, args, kwargs)
            self._functions[key] = Exact(plain, self.memory_bytes, progress=self.progress)
        function = self._functions[key]
        function.function.args[:] = args
        function.function.kwargs.update(kwargs)
        return function, key


class Redirected:
    """
    Stands for a method that makes seams, and calls a part of the model in its place.

    Parameters
    ----------
    owner : module
        The autoencoder.
    name : str
        The method.
    part : str
        The module that is called.
    """

    def __init__(self, owner: Module, name: str, part: str) -> None:
        self.owner, self.name, self.part, self.replaced = owner, name, part, _standing(owner, name)

    def put(self) -> None:
        """Take the place of the method."""
        self.owner.__dict__[self.name] = self

    def remove(self) -> None:
        """Put back what was there."""
        _restore(self.owner, self.name, self.replaced)

    def __call__(self, x: Array) -> Array:
        """Call the part."""
        return getattr(self.owner, self.part)(x)


def _standing(owner: Module, name: str) -> Any:
    """Give what stands in the place of a method on the object itself, beneath what was put there by this module."""
    found = owner.__dict__.get(name)
    return found.replaced if isinstance(found, (ExactMethod, Redirected)) else found


def _restore(owner: Module, name: str, replaced: Any) -> None:
    if replaced is None:
        owner.__dict__.pop(name, None)
    else:
        owner.__dict__[name] = replaced


def _key(value: Any) -> Any:
    """Tell arguments apart: arrays by their shape, other objects by what they are."""
    if hasattr(value, "shape"):
        return ("array", tuple(value.shape), str(value.dtype))
    return repr(value)


def _output(sample: Array) -> Any:
    from diffusers.models.autoencoders.vae import DecoderOutput

    return DecoderOutput(sample=sample)
