"""Random graphs of the kinds of operation, as a decoder or an encoder might have them, and their plain evaluation."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tilekit._exact.boxes import Shape, full, within
from tilekit._exact.graph import Graph, Node
from tilekit._exact.kernels import Kernels
from tilekit._exact.ops import (
    Along,
    Concat,
    Constant,
    Conv,
    Expand,
    Fill,
    Input,
    MatMul,
    Moments,
    Normalize,
    Op,
    Pad,
    PadMode,
    Permute,
    Pointwise,
    Reduce,
    Resample,
    Reshape,
    Scatter,
    Slice,
    Take,
)

Draw = Callable[[st.SearchStrategy[Any]], Any]


class Builder:
    """Nodes one after the other; arrays are (batch, channels, rows, columns)."""

    def __init__(self, shape: Shape) -> None:
        self.nodes: list[Node] = []
        self.arrays: dict[Hashable, Any] = {}
        self.add(Input(), (), shape)

    def add(self, op: Op, inputs: tuple[int, ...], shape: Shape) -> int:
        self.nodes.append(Node(len(self.nodes), op, inputs, tuple(shape), "float32", f"node {len(self.nodes)}"))
        return len(self.nodes) - 1

    def constant(self, shape: Shape) -> int:
        index = self.add(Constant(len(self.nodes)), (), shape)
        rng = np.random.default_rng(index)
        self.arrays[index] = rng.uniform(-0.5, 0.5, shape).astype(np.float32)
        return index

    def shape(self, index: int) -> Shape:
        return self.nodes[index].shape

    def graph(self) -> Graph:
        return Graph(tuple(self.nodes), 0, len(self.nodes) - 1)


def _pointwise(b: Builder, draw: Draw, x: int) -> int:
    return b.add(Pointwise(lambda a: a[0] * 0.5 + 0.1), (x,), b.shape(x))


def _conv(b: Builder, draw: Draw, x: int) -> int:
    n, c, h, w = b.shape(x)
    out = draw(st.integers(1, 3))
    k, dilation, stride = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    before, after = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    spread = (k - 1) * dilation + 1
    if min(h, w) + before + after < spread:
        return x
    sizes = [(s + before + after - spread) // stride + 1 for s in (h, w)]
    weight, bias = b.constant((out, c, k, k)), b.constant((out,))
    op = Conv((2, 3), 1, (k, k), (stride,) * 2, (before,) * 2, (after,) * 2, (dilation,) * 2, (1, 1), 1, c)
    return b.add(op, (x, weight, bias), (n, out, *sizes))


def _up(b: Builder, draw: Draw, x: int) -> int:
    n, c, h, w = b.shape(x)
    if max(h, w) > 20:
        return x
    weight, k = b.constant((c, 2, 3, 3)), 3
    op = Conv((2, 3), 1, (k, k), (1, 1), (1, 1), (1, 1), (1, 1), (2, 2), 1, c, transposed=True)
    return b.add(op, (x, weight), (n, 2, 2 * h - 1, 2 * w - 1))


def _shuffle(b: Builder, draw: Draw, x: int) -> int:
    """Channels to rows and columns."""
    n, c, h, w = b.shape(x)
    if max(h, w) > 20:
        return x
    wide = b.add(Concat(1), (x,) * 4, (n, 4 * c, h, w))
    split = b.add(Reshape(), (wide,), (n, c, 2, 2, h, w))
    turned = b.add(Permute((0, 1, 4, 2, 5, 3)), (split,), (n, c, h, 2, w, 2))
    return b.add(Reshape(), (turned,), (n, c, 2 * h, 2 * w))


def _resample(b: Builder, draw: Draw, x: int) -> int:
    n, c, h, w = b.shape(x)
    if max(h, w) > 20:
        return x
    taps = tuple(((max(0, (i - 1) // 2), 0.25), (min(h - 1, (i + 1) // 2), 0.75)) for i in range(2 * h))
    nearest = tuple(((i // 2, 1.0),) for i in range(2 * w))
    return b.add(Resample((None, None, taps, nearest)), (x,), (n, c, 2 * h, 2 * w))


def _pad(b: Builder, draw: Draw, x: int) -> int:
    n, c, h, w = b.shape(x)
    modes: list[PadMode] = ["constant", "replicate", "reflect", "circular"]
    mode = draw(st.sampled_from(modes))
    top, left = draw(st.integers(0, min(2, h - 1))), draw(st.integers(0, min(2, w - 1)))
    return b.add(Pad((0, 0, top, 0), (0, 0, 0, left), mode), (x,), (n, c, h + top, w + left))


def _residual(b: Builder, draw: Draw, x: int) -> int:
    y = b.add(Pointwise(lambda a: np_sign(a[0])), (x,), b.shape(x))
    for _ in range(draw(st.integers(0, 2))):
        n, c, h, w = b.shape(y)
        weight = b.constant((c, c, 3, 3))
        op = Conv((2, 3), 1, (3, 3), (1, 1), (1, 1), (1, 1), (1, 1), (1, 1), 1, c)
        y = b.add(op, (y, weight), (n, c, h, w))
    return b.add(Pointwise(lambda a: a[0] + a[1]), (x, y), b.shape(x))


def np_sign(x: Any) -> Any:
    """Bend numbers, in the words that all libraries share."""
    return x * (x > 0)


def _cut(b: Builder, draw: Draw, x: int) -> int:
    shape = b.shape(x)
    starts, sizes = [0, 0], list(shape[:2])
    for n in shape[2:]:
        start = draw(st.integers(0, min(2, n - 1)))
        starts.append(start)
        sizes.append(draw(st.integers(max(1, n - start - 2), n - start)))
    return b.add(Slice(tuple(starts), (1,) * 4), (x,), tuple(sizes))


def _turn(b: Builder, draw: Draw, x: int) -> int:
    n, c, h, w = b.shape(x)
    return b.add(Slice((0, 0, h - 1, 0), (1, 1, -1, 1)), (x,), (n, c, h, w))


def _thin(b: Builder, draw: Draw, x: int) -> int:
    n, c, h, w = b.shape(x)
    return b.add(Slice((0, 0, 0, 0), (1, 1, 2, 1)), (x,), (n, c, -(-h // 2), w))


def _stack(b: Builder, draw: Draw, x: int) -> int:
    n, c, h, w = b.shape(x)
    y = b.add(Slice((0, 0, h // 2, 0), (1,) * 4), (x,), (n, c, h - h // 2, w))
    return b.add(Concat(2), (y, x), (n, c, 2 * h - h // 2, w)) if h < 20 else y


def _write(b: Builder, draw: Draw, x: int) -> int:
    n, c, h, w = b.shape(x)
    zeros = b.add(Fill(_zeros), (), (n, c, h + 2, w))
    return b.add(Scatter((0, 0, 1, 0)), (zeros, x), (n, c, h + 2, w))


def _zeros(box: Any) -> Any:
    return np.zeros([stop - start for start, stop in box], np.float32)


def _norm(b: Builder, draw: Draw, x: int) -> int:
    n, c, _, _ = b.shape(x)
    groups = draw(st.sampled_from([g for g in (1, 2, 3) if c % g == 0]))
    moments = b.add(Moments(groups, (0,), 1), (x,), (n, groups, 2))
    weight, bias = b.constant((c,)), b.constant((c,))
    return b.add(Normalize(groups, 1e-2, (0,), 1, True, True), (x, moments, weight, bias), b.shape(x))


def _soft(b: Builder, draw: Draw, x: int) -> int:
    axis = draw(st.integers(1, 3))
    index = (slice(None),) * axis + (slice(0, 1), ...)
    return b.add(Along((axis,), lambda a: a[0] - a[0][index]), (x,), b.shape(x))


def _mean(b: Builder, draw: Draw, x: int) -> int:
    n, c, h, w = b.shape(x)

    def call(arrays: Any) -> Any:
        x = arrays[0]  # or a part of it
        return sum((x[:, :, :, i : i + 1] for i in range(1, x.shape[3])), x[:, :, :, 0:1])

    total = b.add(Reduce((3,), True, "sum", call), (x,), (n, c, h, 1))
    wide = b.add(Expand(), (total,), (n, c, h, w))
    return b.add(Pointwise(lambda a: a[0] + a[1] * 0.1), (x, wide), (n, c, h, w))


def _columns(b: Builder, draw: Draw, x: int) -> int:
    n, c, h, w = b.shape(x)
    weight = b.constant((w, 3))
    return b.add(MatMul(lambda a: a[0] @ a[1]), (x, weight), (n, c, h, 3))


def _pick(b: Builder, draw: Draw, x: int) -> int:
    n, c, h, w = b.shape(x)
    rows = tuple(draw(st.lists(st.integers(0, h - 1), min_size=1, max_size=h + 2)))
    return b.add(Take(2, rows), (x,), (n, c, len(rows), w))


Layer = Callable[[Builder, Draw, int], int]
SLIDING: list[Layer] = [_pointwise, _conv, _conv, _up, _shuffle, _resample, _pad, _residual, _residual, _cut, _columns]
"""Rows of the output come from rows of the input in order."""
NORMED: list[Layer] = [_conv, _norm, _residual, _shuffle]
SHARED: list[Layer] = [
    _pointwise,
    _shuffle,
    _resample,
    _pad,
    _cut,
    _columns,
    _turn,
    _thin,
    _stack,
    _soft,
    _mean,
    _pick,
    _norm,
    _norm,
]
"""Without convolutions, whose weights not every library lays out alike."""
LAYERS = [*SLIDING, _turn, _thin, _stack, _write, _soft, _mean, _pick, _norm, _norm]


@st.composite
def graphs(draw: Draw, layers: Sequence[Layer] = LAYERS) -> Builder:
    b = Builder((draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(2, 9)), draw(st.integers(2, 6))))
    x = 0
    for layer in draw(st.lists(st.sampled_from(layers), min_size=1, max_size=8)):
        x = layer(b, draw, x)
    if x != len(b.nodes) - 1 or x == 0:
        b.add(Pointwise(lambda a: a[0] * 1.5), (x,), b.shape(x))
    return b


def evaluate(graph: Graph, kernels: Kernels, source: Any, constants: Callable[[Any], Any]) -> Any:
    """Compute every node whole."""
    there: dict[int, Any] = {graph.input: source}
    for node in graph.nodes:
        if isinstance(node.op, Constant):
            there[node.index] = constants(node.op.key)
        elif node.index != graph.input:
            shapes = graph.shapes(node)
            needs = node.op.need(full(node.shape), node.shape, shapes)
            cuts = [
                None if need is None else there[source][within(full(shape), need)]
                for source, need, shape in zip(node.inputs, needs, shapes, strict=True)
            ]
            there[node.index] = kernels.run(node, shapes, full(node.shape), needs, cuts)
    return there[graph.output]
