"""The most bytes that live arrays held at once, as the framework counts them: the same on every system."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class LivePeak:
    """
    The peak of a piece of work.

    Attributes
    ----------
    n_bytes : int
        Bytes of the arrays made since the work began that were alive together.
    """

    n_bytes: int = 0


@contextmanager
def live_peak(nn: Any, held: Iterable[Any] = ()) -> Iterator[LivePeak]:
    """
    Follow the arrays that a framework makes.

    Parameters
    ----------
    nn : Backend
        Of the network: `ltx_models.nn.backend("torch")` or ``"mlx"``.
    held : iterable of array
        Weights and inputs, which are there before and are not counted.

    Yields
    ------
    LivePeak
        Complete when the block ends.
    """
    found = LivePeak()
    with _of_torch(found, held) if nn.name == "torch" else _of_mlx(found):
        yield found


@contextmanager
def _of_mlx(found: LivePeak) -> Iterator[None]:
    import mlx.core as mx

    mx.reset_peak_memory()
    before = mx.get_active_memory()
    yield
    found.n_bytes = max(0, mx.get_peak_memory() - before)


@contextmanager
def _of_torch(found: LivePeak, held: Iterable[Any]) -> Iterator[None]:
    import torch
    from torch.multiprocessing.reductions import StorageWeakRef
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    def storages(values: Any) -> list[Any]:
        return [leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]

    before = {storage._cdata: storage for storage in storages(list(held))}

    class Watch(TorchDispatchMode):
        """Follows every storage that an operation makes or is given, NumPy's among them, until it is freed."""

        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.alive: dict[int, tuple[Any, int]] = {}
            self.counted = 0  # of `alive`, and of what was freed since it was last looked through

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            for storage in storages((args, kwargs, out)):
                seen = self.alive.get(storage._cdata)
                if storage._cdata not in before and (seen is None or seen[0].expired()):
                    self.counted += storage.nbytes() - (0 if seen is None else seen[1])
                    self.alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
            if self.counted > found.n_bytes:  # only then can the peak have risen
                self.alive = {key: entry for key, entry in self.alive.items() if not entry[0].expired()}
                self.counted = sum(n_bytes for _, n_bytes in self.alive.values())
                found.n_bytes = max(found.n_bytes, self.counted)
            return out

    with Watch():
        yield
