"""Networks as graphs, without arrays: enough of each kind to plan."""

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from tilekit._exact.boxes import Shape
from tilekit._exact.graph import Graph, Node
from tilekit._exact.ops import (
    Attention,
    Concat,
    Constant,
    Conv,
    Input,
    Moments,
    Normalize,
    Op,
    Pad,
    Permute,
    Pointwise,
    Reduce,
    Resample,
    Reshape,
    Slice,
)
from tilekit._exact.simplify import needed


def _nothing(*_: Any) -> None:
    """Stand for a call of an array library; planning makes none."""


class Net:
    """Nodes one after the other; channels are axis 1, and axes from 2 on are space and time."""

    def __init__(self, shape: Shape, dtype: str = "float32") -> None:
        self.nodes: list[Node] = []
        self.dtype = dtype
        self.input = self.add(Input(), (), shape)

    def add(self, op: Op, inputs: Sequence[int], shape: Sequence[int]) -> int:
        self.nodes.append(Node(len(self.nodes), op, tuple(inputs), tuple(shape), self.dtype, f"n{len(self.nodes)}"))
        return len(self.nodes) - 1

    def graph(self, output: int) -> Graph:
        return needed(Graph(tuple(self.nodes), self.input, output))

    def shape(self, x: int) -> Shape:
        return self.nodes[x].shape

    def constant(self, *shape: int) -> int:
        return self.add(Constant(len(self.nodes)), (), shape)

    def conv(self, x: int, channels: int, kernel: int = 3, stride: int = 1, before: Shape | None = None) -> int:
        shape = self.shape(x)
        axes = tuple(range(2, len(shape)))
        weight = self.constant(channels, shape[1], *(kernel for _ in axes))
        before = before if before is not None else tuple((kernel - 1) // 2 for _ in axes)
        after = tuple(kernel - 1 - b for b in before)
        ones = tuple(1 for _ in axes)
        out = tuple((shape[a] + kernel - 1 - kernel) // stride + 1 for a in axes)
        op = Conv(
            axes, 1, tuple(kernel for _ in axes), tuple(stride for _ in axes), before, after, ones, ones, 1, shape[1]
        )
        return self.add(op, (x, weight), (shape[0], channels, *out))

    def causal(self, x: int, channels: int) -> int:
        """A convolution whose first axis looks back only, with the first frame repeated."""
        shape = self.shape(x)
        before = (2, *(0 for _ in shape[3:]))
        padded = self.add(
            Pad((0, 0, *before), (0,) * len(shape), "replicate"), (x,), (*shape[:2], shape[2] + 2, *shape[3:])
        )
        weight = self.constant(channels, shape[1], *(3 for _ in shape[2:]))
        axes = tuple(range(2, len(shape)))
        sides = (0, *(1 for _ in shape[3:]))
        ones = tuple(1 for _ in axes)
        op = Conv(axes, 1, tuple(3 for _ in axes), ones, sides, sides, ones, ones, 1, shape[1])
        return self.add(op, (padded, weight), (shape[0], channels, *shape[2:]))

    def silu(self, x: int) -> int:
        return self.add(Pointwise(_nothing), (x,), self.shape(x))

    def plus(self, *xs: int) -> int:
        return self.add(Pointwise(_nothing), xs, self.shape(xs[0]))

    def norm(self, x: int, groups: int = 4, batch_axes: tuple[int, ...] = (0,)) -> int:
        shape = self.shape(x)
        moments = self.add(Moments(groups, batch_axes, 1), (x,), (*(shape[a] for a in batch_axes), groups, 2))
        return self.add(Normalize(groups, 1e-6, batch_axes, 1, False, False), (x, moments), shape)

    def up(self, x: int, axes: Sequence[int] | None = None) -> int:
        shape = self.shape(x)
        axes = range(2, len(shape)) if axes is None else axes
        out = tuple(2 * n if a in axes else n for a, n in enumerate(shape))
        taps = tuple(tuple(((i // 2, 1.0),) for i in range(n)) if a in axes else None for a, n in enumerate(out))
        return self.add(Resample(taps), (x,), out)

    def halved(self, x: int) -> int:
        """Every other row and column."""
        shape = self.shape(x)
        steps = tuple(2 if axis > 2 else 1 for axis in range(len(shape)))
        out = tuple(n // step for n, step in zip(shape, steps, strict=True))
        return self.add(Slice((0,) * len(shape), steps), (x,), out)

    def attention(self, x: int) -> int:
        shape = self.shape(x)
        n = 1
        for m in shape[2:]:
            n *= m
        rows = []
        for _ in range(3):
            flat = self.add(Reshape(), (self.conv(x, shape[1], 1),), (shape[0], 1, shape[1], n))
            rows.append(self.add(Permute((0, 1, 3, 2)), (flat,), (shape[0], 1, n, shape[1])))
        out = self.add(Attention(False, _nothing), rows, (shape[0], 1, n, shape[1]))
        back = self.add(Permute((0, 1, 3, 2)), (out,), (shape[0], 1, shape[1], n))
        return self.plus(x, self.add(Reshape(), (back,), shape))

    def total(self, x: int, axes: tuple[int, ...]) -> int:
        shape = tuple(1 if a in axes else n for a, n in enumerate(self.shape(x)))
        return self.add(Reduce(axes, True, "sum", _nothing), (x,), shape)

    def part(self, x: int, axis: int, start: int, stop: int) -> int:
        shape = self.shape(x)
        starts = tuple(start if a == axis else 0 for a in range(len(shape)))
        out = tuple(stop - start if a == axis else n for a, n in enumerate(shape))
        return self.add(Slice(starts, tuple(1 for _ in shape)), (x,), out)

    def join(self, xs: Sequence[int], axis: int) -> int:
        shapes = [self.shape(x) for x in xs]
        out = tuple(sum(s[a] for s in shapes) if a == axis else n for a, n in enumerate(shapes[0]))
        return self.add(Concat(axis), xs, out)

    def block(self, x: int, channels: int, groups: int = 4) -> int:
        """A residual block with two group normalisations."""
        h = self.conv(self.silu(self.norm(x, groups)), channels)
        h = self.conv(self.silu(self.norm(h, groups)), channels)
        short = x if self.shape(x)[1] == channels else self.conv(x, channels, 1)
        return self.plus(short, h)


def image_decoder(height: int = 8, width: int = 8, channels: tuple[int, ...] = (16, 32, 32, 32)) -> Graph:
    """The decoder of Stable Diffusion's autoencoder, narrow: group norms, attention, three times twice as large."""
    net = Net((1, 4, height, width))
    x = net.conv(net.input, channels[-1])
    x = net.block(x, channels[-1])
    x = net.attention(x)
    x = net.block(x, channels[-1])
    for level, c in enumerate(reversed(channels)):
        for _ in range(3):
            x = net.block(x, c)
        if level < len(channels) - 1:
            x = net.conv(net.up(x), c)
    return net.graph(net.conv(net.silu(net.norm(x)), 3))


def image_encoder(height: int = 64, width: int = 64, channels: tuple[int, ...] = (16, 32, 32, 32)) -> Graph:
    """The encoder that goes with it."""
    net = Net((1, 3, height, width))
    x = net.conv(net.input, channels[0])
    for level, c in enumerate(channels):
        for _ in range(2):
            x = net.block(x, c)
        if level < len(channels) - 1:
            x = net.conv(x, c, 3, 2, (0, 0))
    x = net.block(x, channels[-1])
    x = net.attention(x)
    x = net.block(x, channels[-1])
    return net.graph(net.conv(net.silu(net.norm(x)), 8))


def video_decoder(frames: int = 3, height: int = 6, width: int = 8, channels: tuple[int, ...] = (8, 16, 16)) -> Graph:
    """Causal convolutions, no statistics over space: norms by position stand as cell by cell."""
    net = Net((1, 4, frames, height, width))
    x = net.causal(net.input, channels[-1])
    for level, c in enumerate(reversed(channels)):
        x = net.plus(net.causal(net.silu(x), net.shape(x)[1]), x)
        x = net.causal(x, c)
        if level < len(channels) - 1:
            x = net.up(x, (3, 4))
            n = net.shape(x)[2]
            rest = net.up(net.part(x, 2, 1, n), (2,))
            x = net.join((net.part(x, 2, 0, 1), rest), 2)
    return net.graph(net.causal(x, 3))


def cached_decoder(chunks: int = 3, height: int = 6, width: int = 8, channels: int = 8) -> Graph:
    """Frames one after the other with the last two inputs of each convolution handed on."""
    net = Net((1, 4, chunks, height, width))
    cache: dict[str, int] = {}
    parts = []
    for t in range(chunks):
        x = net.part(net.input, 2, t, t + 1)
        for name in ("a", "b", "c"):
            if name == "c":
                x = net.up(x, (3, 4))
            padded = net.join((cache[name], x), 2) if name in cache else x
            n = net.shape(padded)[2]
            h = net.causal(padded, channels)
            cache[name] = net.part(padded, 2, max(0, n - 2), n)
            m = net.shape(h)[2]
            x = net.silu(net.part(h, 2, m - 1, m))
        parts.append(x)
    return net.graph(net.join(parts, 2))


def chunked_decoder(chunks: int = 4, height: int = 8, width: int = 8, channels: int = 8) -> Graph:
    """The same with attention in each frame, zeros where no frame was handed on yet, and more frames at the end."""
    net = Net((1, 4, chunks, height, width))
    cache: dict[str, int] = {}
    parts = []
    for t in range(chunks):
        x = net.part(net.input, 2, t, t + 1)
        for name in ("a", "b", "c", "d"):
            if name in {"b", "d"}:
                x = net.up(x, (3, 4))
            if name == "c" and t:
                x = net.up(x, (2,))
            frames = net.shape(x)[2]
            padded = net.join((cache[name], x), 2) if name in cache else x
            n = net.shape(padded)[2]
            cache[name] = net.part(padded, 2, max(0, n - 2), n)
            missing = max(0, frames + 2 - n)
            if missing:
                wider = (*net.shape(padded)[:2], n + missing, *net.shape(padded)[3:])
                padded = net.add(Pad((0, 0, missing, 0, 0), (0,) * 5, "constant", 0.0), (padded,), wider)
            h = net.causal(padded, channels)
            m = net.shape(h)[2]
            x = net.silu(net.part(h, 2, m - frames, m))
            x = net.attention(x) if name == "a" else x
        parts.append(x)
    return net.graph(net.join(parts, 2))


def cached_encoder(chunks: int = 3, height: int = 24, width: int = 32, channels: int = 8) -> Graph:
    """The way back: attention in each coarse frame, and a convolution of one cell over all of them at the end."""
    net = Net((1, 3, chunks, height, width))
    cache: dict[str, int] = {}
    parts = []
    for t in range(chunks):
        x = net.part(net.input, 2, t, t + 1)
        for name in ("a", "b", "c", "d"):
            padded = net.join((cache[name], x), 2) if name in cache else x
            n = net.shape(padded)[2]
            h = net.causal(padded, channels)
            cache[name] = net.part(padded, 2, max(0, n - 2), n)
            m = net.shape(h)[2]
            x = net.silu(net.part(h, 2, m - 1, m))
            if name in {"b", "c"}:
                x = net.halved(x)
        parts.append(net.attention(x))
    return net.graph(net.conv(net.join(parts, 2), 4, 1))


def batched_decoder(batches: int = 3, height: int = 6, width: int = 8, channels: tuple[int, ...] = (8, 16)) -> Graph:
    """Eight frames at a time, with norms over all cells of these and the last two inputs of convolutions handed on."""
    net = Net((1, 4, 8 * batches, height, width))
    cache: dict[str, int] = {}

    def convolved(x: int, to: int, name: str) -> int:
        padded = net.join((cache[name], x), 2) if name in cache else x
        n, frames = net.shape(padded)[2], net.shape(x)[2]
        cache[name] = net.part(padded, 2, n - 2, n)
        return net.part(net.causal(padded, to), 2, n - frames, n)

    parts = []
    for batch in range(batches):
        x = convolved(net.part(net.input, 2, 8 * batch, 8 * batch + 8), channels[-1], "in")
        for level, c in enumerate(reversed(channels)):
            for block in range(2):
                h = convolved(net.silu(net.norm(x)), c, f"{level} {block} a")
                h = convolved(net.silu(net.norm(h)), c, f"{level} {block} b")
                x = net.plus(x if net.shape(x)[1] == c else net.conv(x, c, 1), h)
            x = net.up(x, (3, 4)) if level < len(channels) - 1 else x
        parts.append(convolved(net.silu(net.norm(x)), 3, "out"))
    return net.graph(net.join(parts, 2))


KINDS = ("block", "conv", "wide", "norm", "up", "down", "attention", "sum", "plus", "join")


@st.composite
def nets(draw: st.DrawFn) -> Graph:
    """Random networks of an image: residuals, norms, attention, larger and smaller, joined and cut."""
    net = Net((1, 4, draw(st.integers(5, 12)), draw(st.integers(5, 12))))
    held = [net.conv(net.input, 4)]
    for _ in range(draw(st.integers(2, 9))):
        x = draw(st.sampled_from(held[-2:]))
        other = draw(st.sampled_from([y for y in held if net.shape(y) == net.shape(x)]))
        held.append(_layer(draw, net, draw(st.sampled_from(KINDS)), x, other))
    return net.graph(net.conv(held[-1], 3))


def _layer(draw: st.DrawFn, net: Net, kind: str, x: int, other: int) -> int:
    layers: dict[str, Callable[[], int]] = {
        "block": lambda: net.block(x, draw(st.sampled_from((4, 8)))),
        "conv": lambda: net.conv(x, 4, draw(st.sampled_from((1, 3, 5)))),
        "wide": lambda: net.conv(x, 8),
        "norm": lambda: net.norm(x),
        "up": lambda: net.up(x),
        "down": lambda: net.conv(x, 4, 3, 2 if min(net.shape(x)[2:]) > 4 else 1),
        "attention": lambda: net.attention(x),
        "sum": lambda: net.plus(x, net.total(x, draw(st.sampled_from(((2, 3), (2,), (1,)))))),
        "plus": lambda: net.plus(x, other),
        "join": lambda: net.conv(net.join((x, other), 1), 4),
    }
    return layers[kind]()
