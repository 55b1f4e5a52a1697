"""
Networks as exact streams in time.

A convolution over time needs only its neighbours, so a network of them can be fed a clip in pieces: every convolution
keeps its last frames, starts with the replicated first frame, ends with the replicated last one, and a residual branch
waits as long as the convolution beside it. Nothing is computed twice, and the result equals the network run on the
whole clip. Running on the whole clip is the same code with one piece, which is first and last at once.

`Flow` is what one unit of a network (a convolution, a residual block) remembers between pieces. `Stage` pushes
pieces through a sequence of units depth first: what a unit gives is cut into pieces of at most the next unit's cap,
and each of them goes all the way to the end before the next is made. So neither an upsampling unit nor the end of a
clip, where every unit lets go of its look-ahead at once, puts more than the cap through any unit.

Time is axis 1 of every array here, (B, T, ...).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from ltx_models.nn._types import Array, Backend
from tilekit import DeviceError
from tilekit.backends import canary
from tilekit.backends.counted import within_limits
from tilekit.backends.flat import is_flat, said_flat, varies
from tilekit.backends.limits import limits_of

MIN_CAP = 3  # the least cap that lets a unit with two convolutions start and end within cap + 2 frames

UNBOUNDED = 1 << 30


@dataclass(slots=True)
class Flow:
    """
    The state of one unit within one pass over a clip.

    Attributes
    ----------
    nn : Backend
        The framework of the arrays.
    first, last : bool
        Whether the piece at hand begins the clip, and whether it ends it.
    context : object
        What the caller wants to reach the layers (modulation, noise); the same for every piece.
    window : object
        Where in the frame the arrays lie; None for all of it.
    scale : int
        Cells of the unit to one cell of the window.
    kept : dict
        Arrays kept until the next piece, by the identity of the layer that keeps them.
    """

    nn: Backend
    first: bool = True
    last: bool = True
    context: Any = None
    window: Any = None
    scale: int = 1
    kept: dict[Any, Array] = field(default_factory=dict)
    workspace: dict[str, Array] | None = None

    def extend(self, owner: object, x: Array, lead: int, trail: int, *, reflect: bool = False) -> Array:
        """
        Put before `x` what a window over time needs, and after it the replicated end of the clip.

        Parameters
        ----------
        owner : object
            The layer that asks.
        x : array, shape (B, T, ...)
            The piece.
        lead, trail : int
            Cells that the window reaches back and ahead.
        reflect : bool
            Whether to surround each frame with a mirrored cell; `x` is then (B, T, H, W, C).

        Returns
        -------
        array, shape (B, T', ...)
            A window of lead + 1 + trail cells fits T' - lead - trail times.
        """
        parts = [x[:, :1]] * lead if self.first else [self.kept[id(owner)]]
        parts = [*parts, x, *([x[:, -1:]] * trail if self.last else [])]
        if not self.last:
            self.keep(owner, parts, lead + trail)
        return self.nn.concat(parts, reflect, self.workspace)

    def held(self, owner: object) -> Array | None:
        """Give what a layer kept of the pieces before; None at the beginning of the clip."""
        return self.kept.get(id(owner))

    def late(self, held: Array | None, x: Array, late: int, frames: int) -> list[Array]:
        """
        Give the oldest cells of a branch beside convolutions that are late, without a second copy of what those kept.

        Parameters
        ----------
        held : array, shape (B, n, ...), optional
            The cells before `x`, as `held` gave them before the convolution kept others.
        x : array, shape (B, T, ...)
            The piece.
        late : int
            How many cells the convolutions are late, at most n.
        frames : int
            How many cells they gave for this piece.

        Returns
        -------
        list of array
            Parts that follow one another, of `frames` cells together.
        """
        parts = [x] if held is None or not late else [held[:, held.shape[1] - late :], x]
        return list(_cut(parts, frames))

    def keep(self, owner: object, parts: Sequence[Array], frames: int) -> None:
        """Keep a copy of the last cells until the next piece, so that the rest can be freed."""
        cells = [part[:, i : i + 1] for part in parts for i in range(part.shape[1])]
        if frames:
            self.kept[id(owner)] = self.nn.concat(cells[-frames:])
        else:
            self.kept.pop(id(owner), None)


def _cut(parts: Sequence[Array], frames: int) -> Iterator[Array]:
    """Yield the first `frames` cells of parts that follow one another."""
    for part in parts:
        take = min(frames, part.shape[1])
        frames -= take
        if take:
            yield part if take == part.shape[1] else part[:, :take]


@dataclass(frozen=True, slots=True)
class Unit:
    """
    One step of a network over time.

    Attributes
    ----------
    run : callable
        Maps (piece, flow) to a piece with the same or another number of cells.
    lag : int
        How many of its input cells the unit is late: it needs lag + 1 cells to begin.
    stride : int
        Input cells to one group: the first piece has 1 + k * stride cells, each further one a multiple of stride.
    cap : int
        The most cells that may go through at once.
    scale : int
        Cells of height or width to one cell of the window, where the arrays are tiles of a frame.
    """

    run: Callable[[Array, Flow], Array]
    lag: int = 0
    stride: int = 1
    cap: int = UNBOUNDED
    scale: int = 1


class Stage:
    """
    Units in sequence, for one pass over one clip.

    Parameters
    ----------
    nn : Backend
        The framework of the arrays.
    units : sequence of Unit
        The network.
    context : object
        Handed to every layer as ``flow.context``.
    window : object
        Where in the frame the arrays lie; handed on as ``flow.window``.
    workspace : dict, optional
        Memory that stages which take turns may share.
    """

    def __init__(
        self,
        nn: Backend,
        units: Sequence[Unit],
        context: object = None,
        window: object = None,
        workspace: dict[str, Array] | None = None,
    ) -> None:
        self.nn = nn
        self.units = units
        workspace = {} if workspace is None else workspace
        self.flows = [Flow(nn, context=context, window=window, scale=unit.scale, workspace=workspace) for unit in units]
        self.queues = [Queue(nn, unit) for unit in units]
        self._limited: bool | None = None  # until the first piece says which device it is
        self._like: Array = None

    def push(self, x: Array, *, last: bool, begin: int = 0) -> Iterator[tuple[Array, bool]]:
        """
        Put a piece in and take out what it completes.

        Parameters
        ----------
        x : array, shape (B, T, ...)
            The next cells of the clip; at least one.
        last : bool
            Whether the clip ends with them.
        begin : int
            The unit to begin with.

        Yields
        ------
        block : array, shape (B, T', ...)
            Finished cells, in order.
        last : bool
            Whether the clip ends with them.
        """
        if begin == len(self.units):
            out = [x]
            del x
            yield out.pop(), last
            return
        queue = self.queues[begin]
        queue.waiting.append(x)
        # no name may hold an array while later units run, or the caller looks at a block: each would keep a whole
        # activation alive
        del x
        while size := queue.ready(last):
            yield from self.push(self._step(begin, size, last), last=last and not queue.waiting, begin=begin + 1)

    def _step(self, index: int, size: int, last: bool) -> Array:
        unit, flow, queue = self.units[index], self.flows[index], self.queues[index]
        flow.first, queue.started = not queue.started, True
        pieces = [queue.take(size)]
        flow.last = last and not queue.waiting
        with self._guard(pieces[0]):
            out = unit.run(pieces.pop(), flow)
        self.nn.synchronize(out, *flow.kept.values())
        if flow.last:
            flow.kept.clear()
        return out

    def _guard(self, piece: Array) -> AbstractContextManager[None]:
        """End the stream at an array that the device gets wrong; nothing here holds the piece."""
        if self._limited is None and not self.nn.followed(piece):
            canary.check(piece)
            self._limited = limits_of(piece).any
            self._like = self.nn.copy(piece.reshape(-1)[:1]) if self._limited else None
        return within_limits(self._like, "a piece of the stream", CURE) if self._limited else nullcontext()


def run(stages: Sequence[Any], chunks: Iterable[Array]) -> Iterator[Array]:
    """
    Run a clip through stages that push one another.

    Parameters
    ----------
    stages : sequence of Stage or TiledStage
        What has ``push``.
    chunks : iterable of array, shape (B, T, ...)
        The clip, which ends where the iterable does.

    Yields
    ------
    array, shape (B, T', ...)
        Finished cells, in order. Nothing here holds them any longer.
    """
    held: list[Array] = []
    watch = _Watch()
    for chunk in chunks:
        if held:
            yield from watch.over(map(itemgetter(0), _through(stages, held, last=False)))
        watch.given(chunk)
        held.append(chunk)
        del chunk
    if held:
        yield from watch.over(map(itemgetter(0), _through(stages, held, last=True)))


class _Watch:
    """Refuses blocks that are one number everywhere, on devices that are known to give such; it holds no array."""

    def __init__(self) -> None:
        self._varied: list[bool] = []  # whether the last two chunks did; a block is made of them
        self._start = 0

    def given(self, chunk: Array) -> None:
        """Take note of a chunk."""
        if limits_of(chunk).any:
            self._varied = [*self._varied[-1:], varies(chunk)]

    def over(self, blocks: Iterator[Array]) -> Iterator[Array]:
        """Look at blocks on their way out."""
        return map(self._looked, blocks) if any(self._varied) else blocks

    def _looked(self, block: Array) -> Array:
        start, self._start = self._start, self._start + block.shape[1]
        if is_flat(block):
            raise DeviceError(said_flat(block, f"block {start} to {self._start - 1} of the stream is", CURE))
        return block


CURE = "give a smaller frames_per_chunk or memory_bytes, so that arrays are smaller, or use another device"


def _through(stages: Sequence[Any], held: list[Array], *, last: bool) -> Iterator[tuple[Array, bool]]:
    if len(stages) == 1:
        yield from stages[0].push(held.pop(), last=last)
        return
    for block, ends in stages[0].push(held.pop(), last=last):
        between = [block]
        del block
        yield from _through(stages[1:], between, last=ends)


class Queue:
    """Cells that wait before one unit, to be cut into pieces that it can take."""

    def __init__(self, nn: Backend, unit: Unit) -> None:
        self.nn, self.unit = nn, unit
        self.waiting: list[Array] = []
        self.started = False

    def ready(self, last: bool) -> int:
        """Choose the length of the next piece; 0 to wait for more."""
        n: int = sum(part.shape[1] for part in self.waiting)
        cap, lag, stride = self.unit.cap, self.unit.lag, self.unit.stride
        if last and n <= (cap - lag if self.started else cap):
            return n
        offset = 0 if self.started else 1 % stride
        take = min(n - 1 if last else n, cap)
        take -= (take - offset) % stride
        return take if take >= (1 if self.started else 1 + lag) else 0

    def take(self, size: int) -> Array:
        """Take the oldest cells out."""
        parts: list[Array] = []
        while size:
            part = self.waiting.pop(0)
            if part.shape[1] > size:
                self.waiting.insert(0, part[:, size:])
                part = part[:, :size]
            size -= part.shape[1]
            parts.append(part)
        return parts[0] if len(parts) == 1 else self.nn.concat(parts)
