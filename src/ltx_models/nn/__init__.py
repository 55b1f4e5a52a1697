"""
One class body, two native modules.

Every layer of this package is written once, as a subclass of `Module` whose first argument is a backend.
``Block(backend("torch"), 64)`` **is** a `torch.nn.Module`; ``Block(backend("mlx"), 64)`` **is** an `mlx.nn.Module`.

How: ``Module.__new__`` asks `native_class` for ``type("Block", (Block, backend.Module), {"nn": backend})``, a class
made once for each pair of body and backend, and creates the instance from that. Python then runs the body's own
``__init__`` as usual, whose ``super().__init__()`` reaches the framework's module class. So ``.to()``, hooks,
``torch.compile``, ``mx.compile``, ``nn.quantize`` and every other tool of the framework see what they know: a module
of theirs with leaves of theirs.

The rules for a body:

* ``forward`` does the work. The framework gives ``__call__``.
* Leaves (``nn.Linear``, ``nn.Conv3d``, …) and what the array API standard lacks come from ``self.nn``, all else from
  ``self.nn.xp``.
* Arrays are channels-last inside; layouts change at the public border and within the convolution leaves only.
* Attribute names spell the official checkpoint keys.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ltx_models.nn._types import DTYPES, Array, Backend, BackendName, DType

__all__ = ["DTYPES", "Array", "Backend", "BackendName", "DType", "Module", "backend", "backend_of", "native_class"]

BACKENDS = {"torch": "ltx_models.nn._torch", "mlx": "ltx_models.nn._mlx"}


@cache
def backend(name: str) -> Backend:
    """
    Leaves and operations of one framework.

    Parameters
    ----------
    name : {"torch", "mlx"}
        The framework, imported now and not before.

    Returns
    -------
    Backend
        A module of this package: `ltx_models.nn._torch` or `ltx_models.nn._mlx`.

    Raises
    ------
    ValueError
        If there is no such backend.
    ImportError
        If the framework is not installed; the text says what to install.

    Examples
    --------
    >>> from ltx_models.nn import backend
    >>> backend("torch").name
    'torch'
    """
    if name not in BACKENDS:
        msg = f"backend: got {name!r}, allowed are {', '.join(map(repr, BACKENDS))}"
        raise ValueError(msg)
    try:
        return importlib.import_module(BACKENDS[name])
    except ImportError as error:
        msg = f"backend {name!r} needs a package that is missing ({error}); pip install 'tilekit-vae[{name}]'"
        raise ImportError(msg) from error


def backend_of(x: Array) -> Backend:
    """
    Find the framework of an array.

    Parameters
    ----------
    x : array
        A torch tensor or an MLX array.

    Returns
    -------
    Backend
        Its framework.

    Raises
    ------
    TypeError
        If it is something else.

    Examples
    --------
    >>> import torch
    >>> backend_of(torch.ones(1)).name
    'torch'
    """
    for name in BACKENDS:
        # an array of a framework can only be there if the framework was imported
        if sys.modules.get(name) is not None and backend(name).is_array(x):
            return backend(name)
    msg = f"got a {type(x).__module__}.{type(x).__name__}, expected an array of {' or '.join(BACKENDS)}"
    raise TypeError(msg)


@cache
def native_class(body: Any, nn: Any) -> Any:
    """Make the class that is both `body` and a module of the framework `nn`."""
    return type(body.__name__, (body, nn.Module), {"nn": nn, "__module__": body.__module__, "__doc__": body.__doc__})


class Module:
    """
    Base of every layer; see the text at the top of this file.

    Parameters
    ----------
    nn : Backend
        What `backend` returned. Subclasses take it as their first argument.
    """

    nn: ClassVar[Any] = None

    def __new__(cls, nn: Any = None, *args: object, **kwargs: object) -> Self:
        # Copies and unpickled objects are made from the native class itself, without arguments.
        body: Any = cls
        native = body if cls.nn is not None else native_class(body, nn)
        return native.nn.Module.__new__(native)  # type: ignore[no-any-return]

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # A native class has no importable name, so pickle and deepcopy are told how to make it anew.
        reduced: Any = super().__reduce_ex__(protocol)
        return (_blank, (type(self).__mro__[1], self.nn.name), *reduced[2:])

    if TYPE_CHECKING:  # the frameworks give both

        def __init__(self, *args: Any) -> None: ...

        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


def _blank(body: Any, name: str) -> Module:
    nn: Any = backend(name)
    native = native_class(body, nn)
    return native.__new__(native)  # type: ignore[no-any-return]  # the class is made at run time
