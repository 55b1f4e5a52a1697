"""
How each kind of operation makes a box, one class for each array library.

`kernels_of` finds the class by the library of an array, which is imported already.
"""

from importlib import import_module

from tilekit._exact.kernels._base import Arrays, Kernels
from tilekit._exact.kernels._jobs import Job
from tilekit.backends import Array, backend_of

__all__ = ["Arrays", "Job", "Kernels", "kernels_of"]

_OWN: dict[str, str] = {
    "jax": "tilekit._exact.kernels._jax:JaxKernels",
    "mlx": "tilekit._exact.kernels._mlx:MlxKernels",
    "torch": "tilekit._exact.kernels._torch:TorchKernels",
}


def kernels_of(x: Array) -> Kernels:
    """Give the kernels for arrays like `x`, on its device."""
    backend = backend_of(x)
    place = _OWN.get(backend.name)
    if place is None:
        return Kernels(backend, x)
    module, _, name = place.partition(":")
    kind: type[Kernels] = getattr(import_module(module), name)
    return kind(backend, x)
