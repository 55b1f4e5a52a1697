"""Find the backend of an array."""

from importlib import import_module
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any

from tilekit._errors import BackendError
from tilekit.backends._base import Backend

__all__ = ["backend_of", "register", "registered"]

# Library of the array's type -> where its backend stands. Nothing is imported before an array of that library is met.
_LAZY = {
    "numpy": "tilekit.backends._numpy:NumpyBackend",
    "torch": "tilekit.backends._torch:TorchBackend",
    "mlx": "tilekit.backends._mlx:MlxBackend",
    "jax": "tilekit.backends._jax:JaxBackend",
    "jaxlib": "tilekit.backends._jax:JaxBackend",
    "cupy": "tilekit.backends._base:Backend",
    "array_api_strict": "tilekit.backends._base:Backend",
}
_LOADED: dict[str, Backend] = {}
ENTRY_POINTS = "tilekit.backends"


def registered() -> MappingProxyType[str, str]:
    """
    List the libraries that have a backend, and its location.

    Returns
    -------
    mapping of str to str
        Read-only: top-level module of the array type -> ``"module:class"``.

    Examples
    --------
    >>> "numpy" in registered()
    True
    """
    return MappingProxyType({**{e.name: e.value for e in entry_points(group=ENTRY_POINTS)}, **_LAZY})


def register(library: str, backend: Any) -> None:
    """
    Use `backend` for arrays whose type comes from the top-level module `library`.

    A package does the same without being imported through an entry point of the group ``tilekit.backends``, whose name
    is the library and whose value is ``"module:class"``.

    Parameters
    ----------
    library : str
        For instance ``"dpnp"``.
    backend : Backend
        An object with the methods of `Backend`.

    Raises
    ------
    BackendError
        If the object is not a `Backend`.
    """
    if not isinstance(backend, Backend):
        msg = f"a backend must be an instance of tilekit.backends.Backend, got {backend!r}"
        raise BackendError(msg)
    kind = type(backend)
    _LAZY[library] = f"{kind.__module__}:{kind.__qualname__}"
    _LOADED[library] = backend


def backend_of(x: Any) -> Backend:
    """
    Find the backend of an array.

    Parameters
    ----------
    x : array
        Of any library.

    Returns
    -------
    Backend
        The same object for all arrays of one library.

    Raises
    ------
    BackendError
        If `x` is not an array of a known library.

    Examples
    --------
    >>> import numpy
    >>> backend_of(numpy.zeros(3)).name
    'numpy'
    """
    for kind in type(x).__mro__:
        library = kind.__module__.partition(".")[0]
        if library in _LOADED:
            return _LOADED[library]
        place = _LAZY.get(library) or next((e.value for e in entry_points(group=ENTRY_POINTS, name=library)), None)
        if place is not None:
            return _LOADED.setdefault(library, _load(library, place))
    if hasattr(x, "__array_namespace__"):
        return _LOADED.setdefault("array-api", Backend())
    names = ", ".join(sorted(registered()))
    msg = f"expected an array of one of the libraries {names}, got {type(x).__module__}.{type(x).__qualname__}"
    raise BackendError(msg)


def _load(library: str, place: str) -> Backend:
    module, _, name = place.partition(":")
    backend = getattr(import_module(module), name)()
    if not isinstance(backend, Backend):
        msg = f"the backend of {library} must be a tilekit.backends.Backend, got {place}"
        raise BackendError(msg)
    return backend
