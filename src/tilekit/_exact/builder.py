"""Networks that no front end can follow, said layer by layer: NumPy functions, ONNX sessions, calls of any kind."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from tilekit._errors import TileShapeError, TraceError
from tilekit._exact.boxes import Shape
from tilekit._exact.chain import Told
from tilekit._exact.frontends import Traced
from tilekit._exact.graph import Graph, Node
from tilekit._exact.kernels import kernels_of
from tilekit._exact.layer_checks import (
    axes_of,
    broadcast,
    check_convolution,
    check_counts,
    check_groups,
    check_padding,
    checked_joint,
)
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
from tilekit.backends import Array

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

    Every method takes values (arrays that will be there when the network runs) and gives one, with a `shape` and a
    `dtype`. Arrays are (batch, channels, ...) unless an axis says otherwise; axes are counted from the front or, below
    0, from the end. What your own calls take for themselves, beside what they give, is in forecasts where `scratch`
    says it. What does not fit is refused where it is said: with a `TileShapeError` for shapes, axes and counts, and a
    `TraceError` for a value of another network.

    Examples
    --------
    >>> import numpy as np, tilekit
    >>> def build(b, z):
    ...     return b.group_norm(b.upsample(z, 2, axes=(2, 3)), 2, name="norm")
    >>> smaller = tilekit.exact(tilekit.GraphFunction(build))
    >>> smaller(np.ones((1, 4, 8, 8), np.float32)).shape
    (1, 4, 16, 16)
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
            Of the shape of each array that `call` is given: the bytes that it takes for itself, none where left out.
        name : str
            For tables and errors.

        Returns
        -------
        Value
            What the layer gives.
        """
        axes = axes_of(name or "apply", x.shape, axes)
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
            Of the shape of each array that `call` is given: the bytes that it takes for itself, none where left out.
        name : str
            For tables and errors.

        Returns
        -------
        Value
            What the call gives.
        """
        for value in inputs:
            self._check(value, name or "pointwise")
        shape = broadcast(name or "pointwise", [value.shape for value in inputs])
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
            Of the shape of each array that `call` is given: the bytes that it takes for itself, none where left out.
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
        check_convolution(
            name or "conv", x.shape, weight, bias, groups=groups, padding=padding, stride=stride, dilation=dilation
        )
        out, share, *kernel = (int(n) for n in weight.shape)
        dims = len(kernel)
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
        return self._add(op, (x, *self._affine(weight, bias, name)), (x.shape[0], out, *cells), name)

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
        """
        Normalise groups of channels by mean and variance over everything but the batch, as one whole.

        Parameters
        ----------
        x : Value
            What is normalised.
        groups : int
            How many; they divide the channels.
        weight, bias : array, shape (channels,), optional
            What is multiplied with and added afterwards; read when they are used.
        eps : float
            Is added to the variance.
        channel_axis : int
            Where the channels are.
        name : str
            For tables and errors.

        Returns
        -------
        Value
            Of the shape of `x`.
        """
        (channel_axis,) = axes_of(name or "group_norm", x.shape, (channel_axis,))
        check_groups(name or "group_norm", x.shape[channel_axis], groups, weight, bias)
        moments = self._add(Moments(groups, (0,), channel_axis), (x,), (x.shape[0], groups, 2), name, "float32")
        op = Normalize(groups, eps, (0,), channel_axis, weight is not None, bias is not None)
        return self._add(op, (x, moments, *self._affine(weight, bias, name)), x.shape, name)

    def upsample(self, x: Value, factor: int, *, axes: Sequence[int], name: str = "") -> Value:
        """
        Repeat every cell along some axes (nearest neighbour).

        Parameters
        ----------
        x : Value
            What is enlarged.
        factor : int
            How often, 1 or more.
        axes : sequence of int
            Along which axes.
        name : str
            For tables and errors.

        Returns
        -------
        Value
            The larger array.
        """
        axes = axes_of(name or "upsample", x.shape, axes)
        check_counts(name or "upsample", factor=factor)
        taps = tuple(
            tuple(((i // factor, 1.0),) for i in range(n * factor)) if axis in axes else None
            for axis, n in enumerate(x.shape)
        )
        shape = [n * factor if axis in axes else n for axis, n in enumerate(x.shape)]
        return self._add(Resample(taps), (x,), shape, name)

    def pad(self, x: Value, widths: Sequence[tuple[int, int]], mode: PadMode = "constant", *, name: str = "") -> Value:
        """
        Add cells before and after each axis.

        Parameters
        ----------
        x : Value
            What is padded.
        widths : sequence of (int, int)
            Cells before and after, 0 or more, for each axis of `x`.
        mode : {"constant", "replicate", "reflect", "circular"}
            Zeros, copies of the border, a mirror image without the border, or the other end.
        name : str
            For tables and errors.

        Returns
        -------
        Value
            The larger array.
        """
        check_padding(name or "pad", x.shape, widths, mode)
        before, after = (tuple(side) for side in zip(*widths, strict=True))
        shape = [n + a + b for n, a, b in zip(x.shape, before, after, strict=True)]
        return self._add(Pad(before, after, mode), (x,), shape, name)

    def concat(self, values: Sequence[Value], axis: int, *, name: str = "") -> Value:
        """
        Put arrays one after the other.

        Parameters
        ----------
        values : sequence of Value
            Alike in all but their length along `axis`.
        axis : int
            Along which axis.
        name : str
            For tables and errors.
        """
        axis = checked_joint(name or "concat", [value.shape for value in values], axis)
        shape = list(values[0].shape)
        shape[axis] = sum(value.shape[axis] for value in values)
        return self._add(Concat(axis), tuple(values), shape, name)

    def constant(self, array: Array, name: str = "") -> Value:
        """Name a weight, an array of any shape; it is read when it is used."""
        index = len(self._nodes)
        self._arrays[index] = array
        return self._add(Constant(index), (), tuple(array.shape), name, kernels_of(array).dtype_name(array))

    def input(self, shape: Sequence[int], dtype: str) -> Value:
        """Name the input, once; `GraphFunction` does so."""
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


def _told(
    call: Callable[[Sequence[Array]], Array], scratch: Callable[..., int] | None
) -> Callable[[Sequence[Array]], Array]:
    return call if scratch is None else Told(call, scratch)


def _first(call: Callable[[Array], Array]) -> Callable[[Sequence[Array]], Array]:
    return lambda arrays: call(arrays[0])


def _spread(call: Callable[..., Array]) -> Callable[[Sequence[Array]], Array]:
    return lambda arrays: call(*arrays)
