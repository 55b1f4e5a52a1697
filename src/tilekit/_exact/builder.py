"""Networks that no front end can follow, said layer by layer: NumPy functions, ONNX sessions, calls of any kind."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from tilekit._errors import BackendError, TileShapeError, TraceError
from tilekit._exact.boxes import Shape
from tilekit._exact.chain import Told
from tilekit._exact.frontends import Traced
from tilekit._exact.graph import Graph, Node
from tilekit._exact.kernels import kernels_of
from tilekit._exact.ops import (
    Concat,
    Constant,
    Conv,
    Input,
    Local,
    Moments,
    Normalize,
    Op,
    Pad,
    PadMode,
    Pointwise,
    Reached,
    Resample,
    Whole,
)
from tilekit.backends import Array, backend_of

__all__ = ["GraphBuilder", "Value"]


@dataclass(frozen=True, slots=True)
class Value:
    """An array that will be there when the network runs."""

    index: int
    shape: Shape
    dtype: str


class GraphBuilder:
    """
    Say what a network does, one operation at a time. Made by `GraphFunction`, which hands it to your function.

    Every method takes values and gives one. Arrays are (batch, channels, ...) unless an axis says otherwise. What your
    own calls take for themselves, beside what they give, is in forecasts where `scratch` says it.
    """

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._arrays: dict[Hashable, Array] = {}

    def apply(  # noqa: PLR0913
        self,
        x: Value,
        call: Callable[[Array], Array],
        reach: Reached | Sequence[Reached],
        *,
        axes: Sequence[int],
        shape: Sequence[int],
        work: int = 0,
        scratch: Callable[..., int] | None = None,
        name: str = "",
    ) -> Value:
        """
        Run a layer that sees a window of its input: a convolution, a pooling, an ONNX session of some of them.

        Parameters
        ----------
        x : Value
            What it reads.
        call : callable
            Of one array; it pads as it would the whole, and may be called with any part along `axes`.
        reach : Reach or sequence of Reach
            Which cells it needs: `tilekit.norms.Convolution` or `tilekit.norms.Transposed`, one for all axes or one
            each.
        axes : sequence of int
            The axes that may be cut.
        shape : sequence of int
            Of the result.
        work : int
            Multiply-adds for one cell of the result, by which plans are compared.
        scratch : callable, optional
            Of the shape of each array that `call` is given: the bytes that it takes for itself, beside what it gives.
            Left out: none, so forecasts are too low by what it takes.
        name : str
            For tables and errors.

        Returns
        -------
        Value
            What the layer gives.
        """
        axes = _axes(x, axes, name or "apply")
        reaches = tuple(reach) if isinstance(reach, Sequence) else (reach,) * len(axes)
        if len(reaches) != len(axes):
            msg = f"{name or 'apply'}: {len(reaches)} reaches for {len(axes)} axes; give one for each, or one for all"
            raise TileShapeError(msg)
        return self._add(Local(tuple(axes), reaches, _told(_first(call), scratch), work), (x,), shape, name)

    def pointwise(
        self, call: Callable[..., Array], *inputs: Value, scratch: Callable[..., int] | None = None, name: str = ""
    ) -> Value:
        """
        Run a call cell by cell, on arrays that are broadcast to the shape of the largest.

        Parameters
        ----------
        call : callable
            Of as many arrays; it may be called with any part of them.
        *inputs : Value
            What it reads.
        scratch : callable, optional
            Of the shape of each array that `call` is given: the bytes that it takes for itself, beside what it gives.
            Left out: none, so forecasts are too low by what it takes.
        name : str
            For tables and errors.

        Returns
        -------
        Value
            What the call gives.
        """
        for value in inputs:
            self._check(value, name or "pointwise")
        shape = _broadcast(inputs, name or "pointwise")
        return self._add(Pointwise(_told(_spread(call), scratch)), inputs, shape, name)

    def whole(
        self,
        call: Callable[..., Array],
        *inputs: Value,
        shape: Sequence[int],
        scratch: Callable[..., int] | None = None,
        name: str = "",
    ) -> Value:
        """
        Run a call that sees everything, such as self-attention.

        Parameters
        ----------
        call : callable
            Of as many arrays.
        *inputs : Value
            What it reads, whole.
        shape : sequence of int
            Of the result.
        scratch : callable, optional
            Of the shape of each array that `call` is given: the bytes that it takes for itself, beside what it gives.
            Left out: none, so forecasts are too low by what it takes.
        name : str
            For tables and errors.

        Returns
        -------
        Value
            What the call gives.
        """
        return self._add(Whole(name or "call", _told(_spread(call), scratch)), inputs, shape, name)

    def conv(  # noqa: PLR0913
        self,
        x: Value,
        weight: Array,
        bias: Array | None = None,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        name: str = "",
    ) -> Value:
        """
        Convolve (batch, channels, ...) with zeros around.

        Parameters
        ----------
        x : Value
            What is convolved.
        weight : array, shape (channels of the output, channels of a group, kernel...)
            Read when it is used.
        bias : array, shape (channels of the output,), optional
            Is added.
        stride, padding, dilation, groups : int
            The same along every axis of the kernel.
        name : str
            For tables and errors.

        Returns
        -------
        Value
            The result.
        """
        label = name or "conv"
        out, share, *kernel = (int(n) for n in weight.shape)
        dims = len(kernel)
        _check_counts(label, stride=stride, dilation=dilation, groups=groups)
        if padding < 0:
            msg = f"{label}: padding {padding}, expected 0 or more; take cells off before, with a call"
            raise TileShapeError(msg)
        if backend_of(weight).name == "mlx":
            msg = f"{label}: MLX lays weights out in another way; give `exact` the MLX function itself, or use `apply`"
            raise BackendError(msg)
        if x.shape[1] != share * groups or dims != len(x.shape) - 2:
            msg = (
                f"{label}: a weight of shape {tuple(weight.shape)} in {groups} groups does not fit an array of shape "
                f"{x.shape}; expected (channels out, {x.shape[1]} / groups, {len(x.shape) - 2} sizes of the kernel)"
            )
            raise TileShapeError(msg)
        if out % groups or (bias is not None and tuple(bias.shape) != (out,)):
            given = "no bias" if bias is None else f"a bias of shape {tuple(bias.shape)}"
            msg = f"{label}: {out} channels out in {groups} groups with {given}; expected groups that divide, ({out},)"
            raise TileShapeError(msg)
        spans = ((k - 1) * dilation + 1 for k in kernel)
        cells = [(n + 2 * padding - span) // stride + 1 for n, span in zip(x.shape[2:], spans, strict=True)]
        op = Conv(
            tuple(range(2, 2 + dims)),
            1,
            tuple(kernel),
            (stride,) * dims,
            (padding,) * dims,
            (padding,) * dims,
            (dilation,) * dims,
            (1,) * dims,
            groups,
            share,
        )
        inputs = (
            x,
            *(self.constant(a, f"{name}.{n}") for a, n in ((weight, "weight"), (bias, "bias")) if a is not None),
        )
        return self._add(op, inputs, (x.shape[0], out, *cells), name)

    def group_norm(  # noqa: PLR0913
        self,
        x: Value,
        groups: int,
        weight: Array | None = None,
        bias: Array | None = None,
        *,
        eps: float = 1e-5,
        channel_axis: int = 1,
        name: str = "",
    ) -> Value:
        """Normalise groups of channels by mean and variance over everything but the batch, as one whole."""
        (channel_axis,) = _axes(x, (channel_axis,), name or "group_norm")
        channels = x.shape[channel_axis]
        _check_counts(name or "group_norm", groups=groups)
        if channels % groups or any(tuple(a.shape) != (channels,) for a in (weight, bias) if a is not None):
            given = [tuple(a.shape) for a in (weight, bias) if a is not None]
            msg = (
                f"{name or 'group_norm'}: {channels} channels in {groups} groups with weights of {given}; expected "
                f"groups that divide {channels}, and weights of shape ({channels},)"
            )
            raise TileShapeError(msg)
        moments = self._add(Moments(groups, (0,), channel_axis), (x,), (x.shape[0], groups, 2), name, "float32")
        op = Normalize(groups, eps, (0,), channel_axis, weight is not None, bias is not None)
        return self._add(op, (x, moments, *self._affine(weight, bias, name)), x.shape, name)

    def upsample(self, x: Value, factor: int, *, axes: Sequence[int], name: str = "") -> Value:
        """Repeat every cell along some axes."""
        axes = _axes(x, axes, name or "upsample")
        _check_counts(name or "upsample", factor=factor)
        taps = tuple(
            tuple(((i // factor, 1.0),) for i in range(n * factor)) if axis in axes else None
            for axis, n in enumerate(x.shape)
        )
        shape = [n * factor if axis in axes else n for axis, n in enumerate(x.shape)]
        return self._add(Resample(taps), (x,), shape, name)

    def pad(self, x: Value, widths: Sequence[tuple[int, int]], mode: PadMode = "constant", *, name: str = "") -> Value:
        """Add cells before and after each axis: zeros, copies of the border, a mirror image, or the other end."""
        label = name or "pad"
        if mode not in _MODES:
            msg = f"{label}: mode {mode!r}, expected one of {', '.join(_MODES)}"
            raise TileShapeError(msg)
        if len(widths) != len(x.shape) or any(n < 0 for pair in widths for n in pair):
            msg = f"{label}: widths {list(widths)} for shape {x.shape}, expected two counts, 0 or more, for each axis"
            raise TileShapeError(msg)
        most = {"reflect": 1, "circular": 0}.get(mode)
        if most is not None and any(max(pair) > n - most for pair, n in zip(widths, x.shape, strict=True)):
            msg = f"{label}: widths {list(widths)} are more than {mode} can give of shape {x.shape}"
            raise TileShapeError(msg)
        before, after = (tuple(side) for side in zip(*widths, strict=True))
        shape = [n + a + b for n, a, b in zip(x.shape, before, after, strict=True)]
        return self._add(Pad(before, after, mode), (x,), shape, name)

    def concat(self, values: Sequence[Value], axis: int, *, name: str = "") -> Value:
        """Put arrays one after the other."""
        if not values:
            msg = f"{name or 'concat'}: no values"
            raise TileShapeError(msg)
        (axis,) = _axes(values[0], (axis,), name or "concat")
        shape = list(values[0].shape)
        others = {(*value.shape[:axis], *value.shape[axis + 1 :]) for value in values}
        if len(others) > 1 or len({len(value.shape) for value in values}) > 1:
            msg = f"{name or 'concat'}: shapes {[v.shape for v in values]} differ in more than axis {axis}"
            raise TileShapeError(msg)
        shape[axis] = sum(value.shape[axis] for value in values)
        return self._add(Concat(axis), tuple(values), shape, name)

    def constant(self, array: Array, name: str = "") -> Value:
        """Name a weight; it is read when it is used."""
        index = len(self._nodes)
        self._arrays[index] = array
        return self._add(Constant(index), (), tuple(array.shape), name, kernels_of(array).dtype_name(array))

    def input(self, shape: Sequence[int], dtype: str) -> Value:
        """Name the input."""
        return self._add(Input(), (), shape, "input", dtype)

    def traced(self, source: Value, output: Value) -> Traced:
        """Give what a front end would."""
        self._check(output, "build")
        return Traced(Graph(tuple(self._nodes), source.index, output.index), lambda key: self._arrays[key])

    def _check(self, value: object, where: str) -> None:
        """Refuse what is no value of this network."""
        known = isinstance(value, Value) and value.index < len(self._nodes)
        if not known or self._nodes[value.index].shape != value.shape:  # type: ignore[attr-defined]  # it is a value
            what = "a value of another network" if isinstance(value, Value) else type(value).__name__
            msg = f"{where}: got {what}, expected a value of this one; name arrays with b.constant"
            raise TraceError(msg)

    def _affine(self, weight: Array | None, bias: Array | None, name: str) -> list[Value]:
        pairs = (("weight", weight), ("bias", bias))
        return [self.constant(array, f"{name}.{label}") for label, array in pairs if array is not None]

    def _add(self, op: Op, inputs: Sequence[Value], shape: Sequence[int], name: str, dtype: str | None = None) -> Value:
        index, sizes = len(self._nodes), tuple(int(n) for n in shape)
        for value in inputs:
            self._check(value, name or type(op).__name__)
        if any(n < 1 for n in sizes):
            msg = f"{name or type(op).__name__}: gives shape {sizes}, which has no cells; the input is too small for it"
            raise TileShapeError(msg)
        dtype = dtype or inputs[0].dtype
        self._nodes.append(Node(index, op, tuple(x.index for x in inputs), sizes, dtype, name))
        return Value(index, sizes, dtype)


_MODES = ("constant", "replicate", "reflect", "circular")


def _axes(x: Value, axes: Sequence[int], where: str) -> tuple[int, ...]:
    """Give axes counted from the first."""
    if any(not -len(x.shape) <= axis < len(x.shape) for axis in axes):
        msg = f"{where}: axes {tuple(axes)} for shape {x.shape}, expected {-len(x.shape)} to {len(x.shape) - 1}"
        raise TileShapeError(msg)
    return tuple(axis % len(x.shape) for axis in axes)


def _check_counts(where: str, **counts: int) -> None:
    for name, count in counts.items():
        if isinstance(count, bool) or not hasattr(count, "__index__") or count < 1:
            msg = f"{where}: {name} {count!r}, expected a whole number from 1 on"
            raise TileShapeError(msg)


def _broadcast(values: Sequence[Value], where: str) -> Shape:
    """Give the shape that arrays have together, as NumPy broadcasts them."""
    rank = max((len(value.shape) for value in values), default=0)
    rows = [(1,) * (rank - len(value.shape)) + tuple(value.shape) for value in values]
    sizes = [{n for n in column if n != 1} for column in zip(*rows, strict=True)]
    if not values or any(len(size) > 1 for size in sizes):
        msg = f"{where}: shapes {[value.shape for value in values]} cannot be broadcast together"
        raise TileShapeError(msg)
    return tuple(max(size, default=1) for size in sizes)


def _told(
    call: Callable[[Sequence[Array]], Array], scratch: Callable[..., int] | None
) -> Callable[[Sequence[Array]], Array]:
    return call if scratch is None else Told(call, scratch)


def _first(call: Callable[[Array], Array]) -> Callable[[Sequence[Array]], Array]:
    return lambda arrays: call(arrays[0])


def _spread(call: Callable[..., Array]) -> Callable[[Sequence[Array]], Array]:
    return lambda arrays: call(*arrays)
