"""
Running a transformer that is larger than memory: blocks are read when they are needed, and freed afterwards.

While a block computes, a thread reads the next one. So two blocks are in memory at most, or one without the thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import Any

from ltx_models.nn import Array
from ltx_models.quantization import find

Read = Callable[[str], dict[str, Array]]


class Offload:
    """
    Reads the blocks of a transformer in turn.

    Parameters
    ----------
    model : Transformer
        With weights for everything but the blocks.
    names : sequence of sequence of str
        For each block, what to read.
    read : callable
        Reads one name: gives the parameters that come of it, by their paths in the model.
    prefetch : bool
        Whether a thread reads the next block while one computes.
    wrap : bool
        Whether the blocks' ``forward`` reads and lets go; otherwise whoever calls them does, by `turn`.

    Attributes
    ----------
    resident : int
        How many blocks are in memory now.
    most_resident : int
        How many were at most.
    """

    def __init__(
        self, model: Any, names: Sequence[Sequence[str]], read: Read, prefetch: bool = True, wrap: bool = True
    ) -> None:
        self._nn = model.nn
        self._names = names
        self._read = read
        self._thread = ThreadPoolExecutor(1, "read-blocks") if prefetch else None
        self._coming: tuple[int, Future[dict[str, Array]]] | None = None
        self._places: list[dict[str, tuple[Any, str]]] = []
        self._lock = Lock()
        self.resident = self.most_resident = 0
        for i, block in enumerate(model.transformer_blocks):
            # layers are looked up once: LoRA layers may later stand in their places in the tree
            paths = [f"transformer_blocks.{i}.{path}" for path in self._nn.shapes(block)]
            split = {path: path.rpartition(".") for path in paths}
            self._places.append({path: (find(model, owner), name) for path, (owner, _, name) in split.items()})
            if wrap:
                block.forward = _Streamed(self, i, block.forward)

    @contextmanager
    def turn(self, i: int) -> Iterator[None]:
        """
        Have the weights of block `i` in place.

        Parameters
        ----------
        i : int
            The block.

        Yields
        ------
        None
            What is computed from them must be synchronized before the end: what is pending keeps the weights alive.
        """
        self.fetch(i)
        try:
            yield
        finally:
            self.release(i)

    def fetch(self, i: int) -> None:
        """Put the weights of block `i` in place, and start to read the next one."""
        weights = self._take(i)
        for path, value in weights.items():
            owner, name = self._places[i][path]
            self._nn.assign(owner, name, value)
        if self._thread is not None:
            after = (i + 1) % len(self._names)
            self._coming = (after, self._thread.submit(self._load, after))

    def _take(self, i: int) -> dict[str, Array]:
        if self._coming is None:
            return self._load(i)
        (coming, future), self._coming = self._coming, None
        weights = future.result()
        if coming == i:
            return weights
        self._count(-1)  # the pass before was stopped: what was read for it is let go
        del weights
        return self._load(i)

    def _load(self, i: int) -> dict[str, Array]:
        self._count(+1)
        weights: dict[str, Array] = {}
        try:
            for name in self._names[i]:
                weights |= self._read(name)
        except BaseException:
            self._count(-1)
            raise
        return weights

    def _count(self, change: int) -> None:
        with self._lock:
            self.resident += change
            self.most_resident = max(self.most_resident, self.resident)

    def release(self, i: int) -> None:
        """Free the weights of block `i`."""
        for owner, name in self._places[i].values():
            self._nn.assign(owner, name, self._nn.meta(getattr(owner, name)))
        self._count(-1)

    def close(self) -> None:
        """Stop the thread, and free what it has read."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
            self._thread = None
        if self._coming is not None:
            (_, future), self._coming = self._coming, None
            if not future.cancelled() and future.exception() is None:
                self._count(-1)


class _Streamed:
    """A block's forward pass between reading its weights and letting go of them."""

    def __init__(self, offload: Offload, i: int, forward: Callable[..., Any]) -> None:
        self._offload = offload
        self._i = i
        self._forward = forward

    def __call__(self, *streams: Any, **more: Any) -> Any:
        with self._offload.turn(self._i):
            results = self._forward(*streams, **more)
            # what is still to be computed would hold on to the weights
            self._offload._nn.synchronize(
                *(x for x in (results if isinstance(results, tuple) else [results]) if x is not None)
            )
            return results
