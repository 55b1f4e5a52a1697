"""
Helpers for tests: the array libraries, small decoders whose results are known, and a check for a new backend.

Everything here is public. The decoders are written in NumPy and wrapped for other libraries with `Library.wrap`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from tilekit._plan.geometry import Geometry
from tilekit.backends import Array, Backend, backend_of, registered
from tilekit.backends._base import ArrayFunction
from tilekit.backends.limits import Limits, pretended

__all__ = ["Library", "check_backend", "enlarge", "libraries", "limited", "local_decoder", "local_encoder", "reduce"]

_NAMESPACES = {"mlx": "mlx.core", "jax": "jax.numpy"}
_ALIASES = {"jaxlib"}  # the same backend under another name


@dataclass(frozen=True)
class Library:
    """
    An array library of the registry, and whether it is installed.

    Parameters
    ----------
    name : str
        The name in the registry.
    read_only : bool
        Make arrays that cannot be written, to show that no input is written to.
    """

    name: str
    read_only: bool = False

    @property
    def missing(self) -> str | None:
        """Why it cannot be used, or None."""
        return None if find_spec(self.name) else f"{self.name} is not installed"

    def array(self, values: Any, dtype: str | None = None) -> Array:
        """
        Make an array.

        Parameters
        ----------
        values : array-like
            Numbers.
        dtype : str, optional
            For instance ``"bfloat16"``; that of the numbers if left out.

        Returns
        -------
        array
            Of this library.
        """
        numbers = np.array(values)
        namespace = import_module(_NAMESPACES.get(self.name, self.name))
        if self.name in ("torch", "mlx", "jax") and dtype is not None:
            array = self.array(numbers)
            return (
                array.to(getattr(namespace, dtype)) if self.name == "torch" else array.astype(getattr(namespace, dtype))
            )
        if dtype is not None:
            numbers = numbers.astype(dtype)
        if self.name == "numpy":
            numbers.flags.writeable = not self.read_only
            return numbers
        make = {"torch": "from_numpy", "mlx": "array"}.get(self.name, "asarray")
        return getattr(namespace, make)(numbers)

    def numpy(self, x: Array) -> np.ndarray[Any, Any]:
        """
        Convert an array to NumPy.

        Parameters
        ----------
        x : array
            Of this library.

        Returns
        -------
        numpy.ndarray
            float32 where NumPy lacks the dtype.
        """
        if self.name == "torch":
            x = x.detach().cpu()
            return np.asarray(x.float() if str(x.dtype) == "torch.bfloat16" else x)
        if self.name == "cupy":
            return np.asarray(x.get())
        if "bfloat16" in str(x.dtype):
            x = x.astype(import_module(_NAMESPACES[self.name]).float32)
        return np.array(x)

    def wrap(
        self, function: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]], dtype: str | None = None
    ) -> ArrayFunction:
        """
        Wrap a NumPy function for arrays of this library.

        Parameters
        ----------
        function : callable
            From numpy.ndarray to numpy.ndarray.
        dtype : str, optional
            Of the results.

        Returns
        -------
        callable
            From array to array.
        """
        return lambda x: self.array(function(self.numpy(x)), dtype)


def libraries() -> Iterator[Library]:
    """
    Give every library that has a backend, installed or not, and NumPy once more with arrays that cannot be written.

    Yields
    ------
    Library
        In the order of the registry.
    """
    for name in registered():
        if name not in _ALIASES:
            yield Library(name)
    yield Library("numpy", read_only=True)


def enlarge(z: np.ndarray[Any, Any], geometry: Geometry) -> np.ndarray[Any, Any]:
    """
    Repeat every latent over its cells: a decoder that sees one latent only, which tiling must not change.

    Parameters
    ----------
    z : numpy.ndarray
        Latents.
    geometry : Geometry
        Its axes; a causal one repeats its first latent once.

    Returns
    -------
    numpy.ndarray
        Channels as before.

    Examples
    --------
    >>> from tilekit import LTX2_VIDEO
    >>> enlarge(np.zeros((1, 2, 3, 1, 1)), LTX2_VIDEO).shape
    (1, 2, 17, 32, 32)
    """
    for axis in geometry.axes:
        counts = np.full(z.shape[axis.position], axis.law.factor)
        counts[0] = axis.law.length(1)
        z = np.repeat(z, counts, axis=axis.position)
    return z


def reduce(x: np.ndarray[Any, Any], geometry: Geometry) -> np.ndarray[Any, Any]:
    """
    Average the cells of every latent: an encoder whose latents see their own cells only.

    Parameters
    ----------
    x : numpy.ndarray
        Image, clip or sound.
    geometry : Geometry
        Its axes.

    Returns
    -------
    numpy.ndarray
        Channels as before.

    Examples
    --------
    >>> from tilekit import SD_IMAGE
    >>> reduce(np.ones((1, 3, 64, 32)), SD_IMAGE).shape
    (1, 3, 8, 4)
    """
    for axis in geometry.axes:
        cells = axis.law.cells(x.shape[axis.position])
        starts = [0] + [axis.law.length(n) for n in range(1, cells)]
        sizes = np.diff([*starts, x.shape[axis.position]])
        shape = [1] * x.ndim
        shape[axis.position] = cells
        x = np.add.reduceat(x, starts, axis=axis.position) / sizes.reshape(shape).astype(x.dtype)
    return x


def local_decoder(geometry: Geometry, reach: Sequence[tuple[int, int]]) -> Callable[[Any], Any]:
    """
    Make a decoder that sees a known number of latents before and after each one.

    Parameters
    ----------
    geometry : Geometry
        Its axes.
    reach : sequence of (before, after)
        Latents, one pair for each axis.

    Returns
    -------
    callable
        From numpy.ndarray to numpy.ndarray: a weighted sum over the neighbours, zeros beyond the borders, enlarged.

    Examples
    --------
    >>> from tilekit import OOBLECK_AUDIO
    >>> decode = local_decoder(OOBLECK_AUDIO, [(1, 0)])
    >>> decode(np.array([[[1.0, 0.0, 0.0]]]))[0, 0, ::2048].round(2)
    array([0.67, 0.33, 0.  ])
    """
    return lambda z: enlarge(_spread(z, geometry, reach), geometry)


def local_encoder(geometry: Geometry, reach: Sequence[tuple[int, int]]) -> Callable[[Any], Any]:
    """
    Make an encoder that sees the cells of a known number of latents before and after each one.

    Parameters
    ----------
    geometry, reach
        As for `local_decoder`.

    Returns
    -------
    callable
        From numpy.ndarray to numpy.ndarray.
    """
    return lambda x: _spread(reduce(x, geometry), geometry, reach)


def _spread(z: np.ndarray[Any, Any], geometry: Geometry, reach: Sequence[tuple[int, int]]) -> np.ndarray[Any, Any]:
    """Sum over the neighbours of every cell with weights that differ between the two sides."""
    for axis, (before, after) in zip(geometry.axes, reach, strict=True):
        position, size = axis.position, z.shape[axis.position]
        width = [(0, 0)] * z.ndim
        width[position] = (before, after)
        padded = np.pad(z, width)
        taps = np.linspace(1.0, 2.0, before + after + 1)
        taps /= taps.sum()
        z = sum(tap * padded.take(range(i, i + size), axis=position) for i, tap in enumerate(taps)).astype(z.dtype)
    return z


def check_backend(backend: Backend, example: Array) -> None:
    """
    Check that a backend has what a run needs.

    Parameters
    ----------
    backend : Backend
        The one to check.
    example : array, shape (2, 3), floating point
        Any array of its library.

    Raises
    ------
    AssertionError
        If an operation gives a wrong result.

    Examples
    --------
    >>> check_backend(backend_of(np.ones((2, 3))), np.ones((2, 3)))
    """
    assert backend_of(example) is backend, f"arrays of {type(example)} find another backend"
    assert backend.is_floating(example), "the example must count as floating point"
    assert not backend.has_nan(example), "the example has no NaN"
    dtype = backend.blend_dtype(example)
    assert backend.itemsize(backend.empty((1,), dtype, example)) >= 4, "blending needs at least float32"
    everything = (slice(None), slice(None))
    left, right = (slice(0, 2), slice(0, 1)), (slice(0, 2), slice(1, 3))
    out = backend.put(backend.empty((2, 3), dtype, example), everything, example, everything)
    ones = backend.blend(out, everything, out, everything, backend.weights([0.0], (1, 1), dtype, example), None)
    ones = backend.put(ones, everything, backend.weights([1.0] * 6, (2, 3), dtype, example), everything)
    ones = backend.blend(ones, right, ones, right, backend.weights([2.0, 4.0], (1, 2), dtype, example), ones)
    ones = backend.blend(ones, left, ones, left, backend.weights([0.5], (1, 1), dtype, example), None)
    backend.synchronize(ones)
    rows = [[float(ones[i, j]) for j in range(3)] for i in range(2)]
    assert rows == [[0.5, 3.0, 5.0]] * 2, f"blending gave {rows}"
    joined = backend.concat([ones, ones], 0)
    assert tuple(joined.shape) == (4, 3), f"concat gave {tuple(joined.shape)}"
    assert backend.same_device(ones, joined), "two arrays made alike must count as being in one place"


@contextmanager
def limited(limits: Limits, library: str = "torch") -> Iterator[Any]:
    """
    Let a library on the processor behave like a device with limits: larger arrays are zero, without a word.

    Inside, all plans of this thread take these limits for those of the device. With MLX and NumPy, what other threads
    compute meanwhile is looked at too, and another thread that wants to play waits until this one ends.

    Parameters
    ----------
    limits : Limits
        What is right; see `tilekit.backends.limits`.
    library : {"torch", "mlx", "numpy"}
        Whose arrays. Those of NumPy are looked at where they come from ``faults.array(x)``.

    Yields
    ------
    Faults
        Its attributes ``elements``, ``convolution``, ``unfolded`` and ``padded_frame`` say how large the largest
        arrays were, ``played`` what was spoilt.

    Examples
    --------
    >>> import torch
    >>> with limited(Limits(elements=8)) as faults:
    ...     small, large = torch.ones(8) + 1, torch.ones(9) + 1
    >>> small.tolist() == [2.0] * 8, large.tolist() == [0.0] * 9, faults.elements
    (True, True, 9)
    """
    kind = {"torch": "Torch", "mlx": "Mlx", "numpy": "Numpy"}[library]
    make = getattr(import_module(f"tilekit.backends._faults_{library}"), f"{kind}Faults")
    with pretended(limits), make(limits) as faults:
        yield faults
