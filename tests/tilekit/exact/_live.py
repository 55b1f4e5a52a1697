"""Count the bytes that tensors hold at once."""

from types import TracebackType
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.multiprocessing.reductions import StorageWeakRef  # noqa: E402  # needs torch
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402


class Live(TorchDispatchMode):
    """
    Follow every storage that an operation makes, until it is freed.

    Weights and the input are there before, and are not counted. Who is still there is asked only where the sum of all
    that were would be a new peak.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types here
        self._alive: dict[int, tuple[Any, int]] = {}
        self._most = 0
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage()._cdata not in given:
                storage = leaf.untyped_storage()
                _, before = self._alive.get(storage._cdata, (None, 0))
                self._most += storage.nbytes() - before
                self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        if self._most > self.peak:
            self._alive = {key: entry for key, entry in self._alive.items() if not entry[0].expired()}
            self._most = sum(nbytes for _, nbytes in self._alive.values())
            self.peak = max(self.peak, self._most)
        return out

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]  # torch has no types here
        self._alive.clear()
        self._most = 0
