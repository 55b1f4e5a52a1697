"""
MLX on the processor, with the faults of Metal played: what tests of limits run on.

MLX has nothing to hook into, so its functions and the methods of its arrays are replaced while faults are played.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from math import isqrt, prod
from threading import local
from types import TracebackType
from typing import Any

import mlx.core as mx

from tilekit.backends._faults import TURN, Faults
from tilekit.backends._mlx_compile import uncompiled
from tilekit.backends.limits import Limits

__all__ = ["MlxFaults"]

_VIRTUAL = {"as_strided", "broadcast_to", "broadcast_arrays", "expand_dims"}
"""What gives views, which have no memory of the size that they show."""
_CONVOLUTIONS = {"conv_general", *(f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3))}
_FOLLOWED = {"export_function", "exporter", "compile", "vmap", "grad", "value_and_grad", "jvp", "vjp", "checkpoint"}
"""What calls functions with arrays that have no numbers."""


class MlxFaults(Faults):
    """
    Give wrong numbers where a device with these limits would, and remember the largest arrays.

    Parameters
    ----------
    limits : Limits
        What is right.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._inside = local()
        self._stack = ExitStack()

    def __enter__(self) -> "MlxFaults":
        """Begin to play; nothing is compiled, as zeros would stay in what is."""
        self._stack.enter_context(TURN)
        self._stack.enter_context(uncompiled())
        for owner in (mx, mx.fast, mx.linalg, mx.array):
            for name, function in list(vars(owner).items()):
                if type(function).__name__ in {"nb_func", "nb_method"} and _computes(name):
                    setattr(owner, name, self._playing(name, function))
                    self._stack.callback(setattr, owner, name, function)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put back what was there."""
        self._stack.close()

    def _playing(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def played(*args: Any, **kwargs: Any) -> Any:
            if getattr(self._inside, "yes", False):  # a function that calls others, in this thread
                return function(*args, **kwargs)
            with self._within():
                out = function(*args, **kwargs)
                if name in _FOLLOWED:
                    return out
                if isinstance(out, tuple | list):
                    return type(out)(self._looked(name, args, made) for made in out)
                return self._looked(name, args, out)

        return played

    @contextmanager
    def _within(self) -> Iterator[None]:
        self._inside.yes = True
        try:
            yield
        finally:
            self._inside.yes = False

    def _looked(self, name: str, args: Any, made: Any) -> Any:
        if not isinstance(made, mx.array) or name in _VIRTUAL:
            return made
        work, what = _work_of(name, args, made)
        self.watch(work, what, name)  # nothing is computed yet
        wrong = self.large(made.size)
        if name in _CONVOLUTIONS:
            wrong |= self.convolved(made.size, self._unfolded(args[1], made))
        if not wrong:
            return made
        self.played.append(name)
        return mx.zeros_like(made)

    def _unfolded(self, weight: mx.array, made: mx.array) -> int:
        """Count the matrix of a convolution over three axes, where the channels keep it from being implicit."""
        if weight.ndim < 5 or not (self.limits.unfolds or weight.shape[-1] % 16):
            return 0
        return made.size // made.shape[-1] * prod(weight.shape[1:])


def _work_of(name: str, args: Any, made: mx.array) -> tuple[int, str]:
    """Count the multiply-adds of an operation, and say what it is."""
    if name in _CONVOLUTIONS:
        return made.size * prod(args[1].shape[1:]), "a convolution"
    if name in {"matmul", "__matmul__", "addmm"}:
        return made.size * args[name == "addmm"].shape[-1], "a matrix product"
    if name in {"tensordot", "inner"}:  # (m, k) by (k, n)
        return isqrt(made.size * args[0].size * args[1].size), "a matrix product"
    if name == "scaled_dot_product_attention":
        q, k, v = args[:3]
        return prod(q.shape[:-1]) * k.shape[-2] * (q.shape[-1] + v.shape[-1]), "attention"
    return 0, ""


def _computes(name: str) -> bool:
    """Whether a function gives arrays, and not what is said of them."""
    if name.startswith("__"):
        return name.strip("_") in {"add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "matmul", "pow",
                                   "neg", "abs", "getitem"}  # fmt: skip
    return not name.startswith(("_", "save", "get_", "set_", "eval", "async_", "synchronize", "default_", "clear_"))
