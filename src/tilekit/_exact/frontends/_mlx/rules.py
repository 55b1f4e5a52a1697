"""
Primitive by primitive: which kind of operation it is, and which call of MLX makes it.

The arguments are those of the C++ classes of MLX, in their order, which is not documented: a name that is not in the
table, or another number of arguments, is refused by name (`Unsupported`), and then the function is called as it is.
Read from 0.32.4.
"""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx

from tilekit._exact.frontends._mlx.builder import Builder
from tilekit._exact.frontends._mlx.calls import Mx, Ramp
from tilekit._exact.frontends._mlx.cells import (
    dynamic_slice,
    dynamic_slice_update,
    gather,
    gather_axis,
    masked,
    scatter,
    scatter_axis,
    slice_update,
    strided,
)
from tilekit._exact.frontends._mlx.record import Primitive, Unsupported
from tilekit._exact.frontends.borders import concatenated
from tilekit._exact.ops import Along, Concat, Conv, Fill, MatMul, Pad, Pool, Reduce, Slice, Whole

__all__ = ["lower"]

Rule = Callable[[Builder, Primitive, Sequence[int]], int]


def lower(builder: Builder, primitive: Primitive, inputs: Sequence[int]) -> list[int]:
    """Add what a primitive does; give one node for each of its outputs."""
    if primitive.name == "Split":
        return _split(builder, primitive, inputs)
    if primitive.name == "Depends":
        return list(inputs[: len(primitive.outputs)])
    if primitive.name in {"DivMod", "Quantize"} and len(primitive.outputs) > 1:
        return _several(builder, primitive, inputs)
    rule, counts = _RULES.get(primitive.name, (None, ()))
    if rule is None:
        raise Unsupported(primitive.name, "not known here")
    if len(primitive.arguments) not in counts:
        raise Unsupported(primitive.name, f"with {len(primitive.arguments)} arguments {primitive.arguments}")
    if len(primitive.outputs) != 1:
        raise Unsupported(primitive.name, f"with {len(primitive.outputs)} results")
    return [rule(builder, primitive, inputs)]


def _cellwise(call: Mx) -> Rule:
    def rule(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
        return b.pointwise(call, inputs, p.outputs[0].shape, p.outputs[0].dtype)

    return rule


def _as_type(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    out = p.outputs[0]
    if b.nodes[inputs[0]].dtype == out.dtype:
        return inputs[0]
    return b.pointwise(Mx("astype", (p.arguments[0],)), inputs, out.shape, out.dtype)


def _view(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    out = p.outputs[0]
    if out.shape != b.shape(inputs[0]):
        raise Unsupported(p.name, "another size of cells")
    return b.pointwise(Mx("view", (p.arguments[0],)), inputs, out.shape, out.dtype)


def _abs(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    out = p.outputs[0]
    if out.dtype != "complex64":
        return b.pointwise(Mx("abs"), inputs, out.shape, out.dtype)
    size = b.pointwise(Mx("abs"), inputs, out.shape, "float32")
    return b.pointwise(Mx("astype", (mx.complex64,)), (size,), out.shape, out.dtype)


def _equal(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    if p.arguments[0]:
        raise Unsupported(p.name, "where NaN equals NaN")
    return _cellwise(Mx("equal"))(b, p, inputs)


def _chosen(names: Sequence[str]) -> Rule:
    """Give the rule of a primitive whose argument is a number that stands for the function."""

    def rule(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
        return _cellwise(Mx(names[int(p.arguments[0])]))(b, p, inputs)

    return rule


def _same(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    return inputs[0]


def _reshape(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    return b.reshape(inputs[0], p.outputs[0].shape)


def _broadcast(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    return b.expand(inputs[0], p.outputs[0].shape)


def _transpose(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    return b.permute(inputs[0], p.arguments[0])


def _slice(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    starts, _, steps = p.arguments  # a stop may be negative: before the first cell
    out = p.outputs[0]
    if out.shape == b.shape(inputs[0]) and all(step == 1 for step in steps):
        return inputs[0]
    return b.add(Slice(tuple(starts), tuple(steps)), inputs, out.shape, out.dtype)


def _split(b: Builder, p: Primitive, inputs: Sequence[int]) -> list[int]:
    if len(p.arguments) != 2:
        raise Unsupported(p.name, f"with {len(p.arguments)} arguments")
    at, axis = p.arguments
    made = []
    for start, out in zip((0, *at), p.outputs, strict=True):
        starts = tuple(start if d == axis else 0 for d in range(len(out.shape)))
        made.append(b.add(Slice(starts, (1,) * len(out.shape)), inputs, out.shape, out.dtype))
    return made


def _several(b: Builder, p: Primitive, inputs: Sequence[int]) -> list[int]:
    if p.name == "DivMod" and not p.arguments:
        return [b.pointwise(Mx("divmod", part=i), inputs, out.shape, out.dtype) for i, out in enumerate(p.outputs)]
    if p.name == "Quantize" and len(p.arguments) == 4 and not p.arguments[3]:
        keywords = _quantized(p.arguments[:3])
        return [
            b.add(Whole("Quantize", Mx("quantize", (), keywords, part=i)), inputs, out.shape, out.dtype)
            for i, out in enumerate(p.outputs)
        ]
    raise Unsupported(p.name, f"with the arguments {p.arguments}")


def _concatenate(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    out, axis = p.outputs[0], int(p.arguments[0])
    if len(inputs) == 1:
        return inputs[0]
    bordered = concatenated(b, inputs, axis)
    return b.add(Concat(axis), inputs, out.shape, out.dtype) if bordered is None else bordered


def _pad(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    out = p.outputs[0]
    before, after = [0] * len(out.shape), [0] * len(out.shape)
    for axis, low, high in zip(*p.arguments, strict=True):
        before[axis], after[axis] = low, high
    value = b.number(inputs[1])
    if value is None:
        return b.add(Pad(tuple(before), tuple(after)), inputs, out.shape, out.dtype)
    return b.add(Pad(tuple(before), tuple(after), value=value), inputs[:1], out.shape, out.dtype)


def _convolution(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    stride, before, after, dilation, apart, groups, flip = p.arguments
    out, weight = p.outputs[0], b.shape(inputs[1])  # weight: (out, *kernel, in / groups)
    op = Conv(
        axes=tuple(range(1, len(out.shape) - 1)),
        channel_axis=len(out.shape) - 1,
        kernel=weight[1:-1],
        stride=tuple(stride),
        before=tuple(before),
        after=tuple(after),
        dilation=tuple(dilation),
        input_dilation=tuple(apart),
        groups=int(groups),
        channels=weight[-1],
        transposed=bool(flip),
    )
    return b.add(op, inputs, out.shape, out.dtype)


_REDUCTIONS = ("all", "any", "sum", "prod", "min", "max")
_MERGED = {"sum": "sum", "min": "min", "max": "max"}


def _reduce(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    out = p.outputs[0]
    axes, name = tuple(sorted(p.arguments[1])), _REDUCTIONS[int(p.arguments[0])]
    windows = b.windows.get(inputs[0])
    if windows is not None and windows.inner == axes and name in _MERGED:
        op: Any = Pool(windows.axes, windows.kernel, windows.stride, windows.dilation, windows.call(name))
        pooled = b.add(op, (windows.source,), windows.shape, out.dtype)
        return b.reshape(pooled, out.shape)
    call = Mx(name, (), (("axis", axes), ("keepdims", True)))
    op = Reduce(axes, True, _MERGED.get(name), call)  # type: ignore[arg-type]
    return b.add(op, inputs, out.shape, out.dtype)


def _arg_reduce(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    out, axis = p.outputs[0], int(p.arguments[1])
    call = Mx(("argmin", "argmax")[int(p.arguments[0])], (), (("axis", axis), ("keepdims", True)))
    return b.add(Reduce((axis,), True, None, call), inputs, out.shape, out.dtype)


def _log_sum_exp(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    out = p.outputs[0]
    call = Mx("logsumexp", (), (("axis", -1), ("keepdims", True)))
    return b.add(Reduce((len(out.shape) - 1,), True, None, call), inputs, out.shape, out.dtype)


def _along(b: Builder, p: Primitive, inputs: Sequence[int], axes: Sequence[int], call: Mx) -> int:
    out = p.outputs[0]
    return b.add(Along(tuple(axes), call), inputs, out.shape, out.dtype)


def _softmax(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    call = Mx("softmax", (), (("axis", -1), ("precise", bool(p.arguments[0]))))
    return _along(b, p, inputs, (len(p.outputs[0].shape) - 1,), call)


def _sort(name: str) -> Rule:
    def rule(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
        axis = int(p.arguments[-1])
        return _along(b, p, inputs, (axis,), Mx(name, tuple(int(n) for n in p.arguments[:-1]), (("axis", axis),)))

    return rule


def _scan(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    kind, axis, reverse, inclusive = p.arguments
    name = ("cummax", "cummin", "cumsum", "cumprod")[int(kind)]
    keywords = (("axis", int(axis)), ("reverse", bool(reverse)), ("inclusive", bool(inclusive)))
    return _along(b, p, inputs, (int(axis),), Mx(name, (), keywords))


def _fft(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    axes, inverse, real, other = p.arguments
    if other:
        raise Unsupported(p.name, f"with the arguments {p.arguments}")
    name = ("fft", "ifft", "rfft", "irfft")[2 * bool(real) + bool(inverse)] + "n"
    sizes = tuple((p.outputs[0].shape if name == "irfftn" else b.shape(inputs[0]))[axis] for axis in axes)
    return _along(b, p, inputs, tuple(axes), Mx(f"fft.{name}", (), (("s", sizes), ("axes", tuple(axes)))))


def _hadamard(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    last = len(p.outputs[0].shape) - 1
    return _along(b, p, inputs, (last,), Mx("hadamard_transform", (), (("scale", float(p.arguments[0])),)))


def _matmul(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    out = p.outputs[0]
    narrow = [_unexpanded_batch(b, index) for index in inputs[:2]]
    batches = mx.broadcast_shapes(*(b.shape(index)[:-2] for index in narrow))
    left, right = narrow if batches == out.shape[:-2] else inputs[:2]
    if p.name == "Matmul":
        return b.add(MatMul(Mx("matmul")), (left, right), out.shape, out.dtype)
    alpha, beta = (float(number) for number in p.arguments)
    call = Mx("addmm", (), (("alpha", alpha), ("beta", beta)), order=(2, 0, 1))
    return b.add(MatMul(call), (left, right, b.unexpanded(inputs[2])), out.shape, out.dtype)


def _unexpanded_batch(b: Builder, index: int) -> int:
    source = b.unexpanded(index)
    matrix = b.shape(source)[-2:]
    return source if len(matrix) == 2 and matrix == b.shape(index)[-2:] else index


def _quantized(arguments: Sequence[Any]) -> tuple[tuple[str, Any], ...]:
    group, bits, mode = arguments
    return (
        ("group_size", int(group)),
        ("bits", int(bits)),
        ("mode", ("affine", "mxfp4", "mxfp8", "nvfp4")[int(mode)]),
    )


def _quantized_matmul(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    call = Mx("quantized_matmul", (), (*_quantized(p.arguments[:3]), ("transpose", bool(p.arguments[3]))))
    if len(b.shape(inputs[1])) != 2:
        raise Unsupported(p.name, "with a batch of weights")
    return _along(b, p, inputs, (len(p.outputs[0].shape) - 1,), call)


def _arange(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
    out = p.outputs[0]
    start, stop, step = (float(number) for number in p.arguments)
    return b.add(Fill(Ramp(start, stop, step, out.dtype)), (), out.shape, out.dtype)


def _norm(name: str) -> Rule:
    def rule(b: Builder, p: Primitive, inputs: Sequence[int]) -> int:
        last = len(p.outputs[0].shape) - 1
        return _along(b, p, inputs, (last,), Mx(f"fast.{name}", (float(p.arguments[1]),)))

    return rule


_PLAIN = (
    "Add",
    "Ceil",
    "Conjugate",
    "Cos",
    "Cosh",
    "Divide",
    "Erf",
    "ErfInv",
    "Exp",
    "Expm1",
    "Floor",
    "Greater",
    "Imag",
    "Less",
    "Log1p",
    "LogAddExp",
    "Maximum",
    "Minimum",
    "Multiply",
    "Negative",
    "Power",
    "Real",
    "Remainder",
    "Round",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Square",
    "Subtract",
    "Tan",
    "Tanh",
)
_CELLWISE = {
    **{name: name.lower() for name in _PLAIN},
    **{f"Arc{name}": f"arc{name.lower()}" for name in ("Cos", "Cosh", "Sin", "Sinh", "Tan", "Tan2", "Tanh")},
    "BitwiseInvert": "bitwise_invert",
    "FloorDivide": "floor_divide",
    "GreaterEqual": "greater_equal",
    "LessEqual": "less_equal",
    "LogicalAnd": "logical_and",
    "LogicalNot": "logical_not",
    "LogicalOr": "logical_or",
    "NotEqual": "not_equal",
    "Select": "where",
}
_BITS = ("bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift")

_RULES: dict[str, tuple[Rule, tuple[int, ...]]] = {
    **{name: (_cellwise(Mx(call)), (0,)) for name, call in _CELLWISE.items()},
    **dict.fromkeys(("Copy", "Full", "StopGradient"), (_same, (0,))),
    "Abs": (_abs, (0,)),
    "AddMM": (_matmul, (2,)),
    "Arange": (_arange, (3,)),
    "ArgPartition": (_sort("argpartition"), (2,)),
    "ArgReduce": (_arg_reduce, (2,)),
    "ArgSort": (_sort("argsort"), (1,)),
    "AsStrided": (strided, (3,)),
    "AsType": (_as_type, (1,)),
    "BitwiseBinary": (_chosen(_BITS), (1,)),
    "Broadcast": (_broadcast, (1,)),
    "Concatenate": (_concatenate, (1,)),
    "Convolution": (_convolution, (7,)),
    "DynamicSlice": (dynamic_slice, (2,)),
    "DynamicSliceUpdate": (dynamic_slice_update, (1,)),
    "Equal": (_equal, (1,)),
    "ExpandDims": (_reshape, (1,)),
    "FFT": (_fft, (4,)),
    "Flatten": (_reshape, (2,)),
    "Gather": (gather, (2,)),
    "GatherAxis": (gather_axis, (1,)),
    "Hadamard": (_hadamard, (1,)),
    "LayerNorm": (_norm("layer_norm"), (2,)),
    "Log": (_chosen(("log2", "log10", "log")), (1,)),
    "LogSumExp": (_log_sum_exp, (0,)),
    "MaskedScatter": (masked, (0,)),
    "Matmul": (_matmul, (0,)),
    "Pad": (_pad, (3,)),
    "Partition": (_sort("partition"), (2,)),
    "QuantizedMatmul": (_quantized_matmul, (4,)),
    "RMSNorm": (_norm("rms_norm"), (2,)),
    "Reduce": (_reduce, (2,)),
    "Reshape": (_reshape, (1,)),
    "Scan": (_scan, (4,)),
    "Scatter": (scatter, (2,)),
    "ScatterAxis": (scatter_axis, (2,)),
    "Slice": (_slice, (3,)),
    "SliceUpdate": (slice_update, (4,)),
    "Softmax": (_softmax, (1,)),
    "Sort": (_sort("sort"), (1,)),
    "Sqrt": (_chosen(("sqrt", "rsqrt")), (1,)),
    "Squeeze": (_reshape, (1,)),
    "Transpose": (_transpose, (1,)),
    "Unflatten": (_reshape, (2,)),
    "View": (_view, (1,)),
}
