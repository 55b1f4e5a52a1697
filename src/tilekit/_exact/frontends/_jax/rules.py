"""Primitive by primitive: which kind of operation it is; what is not in the table is made as a whole."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from tilekit._exact.boxes import Shape
from tilekit._exact.frontends._jax.builder import Builder
from tilekit._exact.frontends._jax.calls import Ramp, bound
from tilekit._exact.frontends._jax.cells import dynamic_slice, dynamic_update_slice, gather, scatter
from tilekit._exact.frontends._jax.products import dot_general
from tilekit._exact.frontends.borders import concatenated
from tilekit._exact.ops import Along, Concat, Conv, Fill, Pad, Pool, Reduce, Slice, Whole

__all__ = ["POINTWISE", "Equation", "lower"]


@dataclass(frozen=True, slots=True)
class Equation:
    """One primitive of a program, and the arrays that it makes."""

    primitive: Any
    parameters: dict[str, Any]
    shapes: tuple[Shape, ...]
    dtypes: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the primitive."""
        return str(self.primitive.name)

    @property
    def shape(self) -> Shape:
        """Of the only result."""
        return self.shapes[0]

    @property
    def dtype(self) -> str:
        """Of the only result."""
        return self.dtypes[0]


Rule = Callable[[Builder, Equation, Sequence[int]], int | None]
"""Adds a node; None where the primitive is used in a way that is not understood."""


def lower(b: Builder, e: Equation, inputs: Sequence[int]) -> list[int]:
    """Add what a primitive does; give one node for each of its results."""
    if e.name in _SAME:
        return list(inputs)
    if e.name == "split":
        return _split(b, e, inputs)
    if e.name in POINTWISE:
        return [b.pointwise(bound(e.primitive, e.parameters, spread=True), inputs, e.shape, e.dtype)]
    rule = _RULES.get(e.name)
    made = rule(b, e, inputs) if rule is not None else None
    if made is not None:
        return [made]
    parts = range(len(e.shapes)) if e.primitive.multiple_results else [None]
    return [
        b.add(Whole(e.name, bound(e.primitive, e.parameters, part=part)), inputs, shape, dtype)
        for part, shape, dtype in zip(parts, e.shapes, e.dtypes, strict=True)
    ]


def _split(b: Builder, e: Equation, inputs: Sequence[int]) -> list[int]:
    axis, at, made = e.parameters["axis"], 0, []
    for shape, dtype in zip(e.shapes, e.dtypes, strict=True):
        starts = tuple(at if d == axis else 0 for d in range(len(shape)))
        made.append(b.add(Slice(starts, (1,) * len(shape)), inputs, shape, dtype))
        at += shape[axis]
    return made


def _convert(b: Builder, e: Equation, inputs: Sequence[int]) -> int | None:
    if b.nodes[inputs[0]].dtype == e.dtype:
        return inputs[0]
    return b.pointwise(bound(e.primitive, e.parameters, spread=True), inputs, e.shape, e.dtype)


def _reshape(b: Builder, e: Equation, inputs: Sequence[int]) -> int | None:
    return b.reshape(inputs[0], e.shape)


def _reordered(b: Builder, e: Equation, inputs: Sequence[int]) -> int | None:
    axes = e.parameters["dimensions"]
    return b.reshape(inputs[0] if axes is None else b.permute(inputs[0], [int(axis) for axis in axes]), e.shape)


def _tile(b: Builder, e: Equation, inputs: Sequence[int]) -> int | None:
    source = inputs[0]
    for axis, (n, times) in enumerate(zip(b.shape(source), e.parameters["reps"], strict=True)):
        source = b.take(source, axis, [*range(n)] * int(times))
    return source


def _broadcast(b: Builder, e: Equation, inputs: Sequence[int]) -> int | None:
    places = dict(zip(map(int, e.parameters["broadcast_dimensions"]), b.shape(inputs[0]), strict=True))
    return b.expand(b.reshape(inputs[0], [places.get(axis, 1) for axis in range(len(e.shape))]), e.shape)


def _transpose(b: Builder, e: Equation, inputs: Sequence[int]) -> int | None:
    return b.permute(inputs[0], [int(axis) for axis in e.parameters["permutation"]])


def _slice(b: Builder, e: Equation, inputs: Sequence[int]) -> int | None:
    steps = e.parameters["strides"] or (1,) * len(e.shape)
    if e.shape == b.shape(inputs[0]) and all(step == 1 for step in steps):
        return inputs[0]
    return b.add(Slice(tuple(e.parameters["start_indices"]), tuple(steps)), inputs, e.shape, e.dtype)


def _reverse(b: Builder, e: Equation, inputs: Sequence[int]) -> int | None:
    turned = {int(axis) for axis in e.parameters["dimensions"]}
    starts = tuple(n - 1 if axis in turned else 0 for axis, n in enumerate(e.shape))
    steps = tuple(-1 if axis in turned else 1 for axis in range(len(e.shape)))
    return b.add(Slice(starts, steps), inputs, e.shape, e.dtype)


def _concatenate(b: Builder, e: Equation, inputs: Sequence[int]) -> int | None:
    axis = int(e.parameters["dimension"])
    given = [index for index in inputs if b.shape(index)[axis]]
    if len(given) == 1:
        return given[0]
    bordered = concatenated(b, given, axis)
    return b.add(Concat(axis), given, e.shape, e.dtype) if bordered is None else bordered


def _pad(b: Builder, e: Equation, inputs: Sequence[int]) -> int | None:
    source = inputs[0]
    rows = e.parameters["padding_config"]
    for axis, (_, _, apart) in enumerate(rows):
        if apart:
            source = _stretched(b, source, inputs[1], axis, apart)
    return _padded(b, source, inputs[1], [low for low, _, _ in rows], [high for _, high, _ in rows])


def _padded(b: Builder, source: int, value: int, before: Sequence[int], after: Sequence[int]) -> int:
    if not any(before) and not any(after):
        return source
    shape = [n + low + high for n, low, high in zip(b.shape(source), before, after, strict=True)]
    number, dtype = b.number(value), b.nodes[source].dtype
    if number is None:
        return b.add(Pad(tuple(before), tuple(after)), (source, value), shape, dtype)
    return b.add(Pad(tuple(before), tuple(after), value=number), (source,), shape, dtype)


def _stretched(b: Builder, source: int, value: int, axis: int, apart: int) -> int:
    """Put cells of one value between those of an axis."""
    shape = b.shape(source)
    split = b.reshape(source, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
    none = [0] * (len(shape) + 1)
    wide = _padded(b, split, value, none, [apart if d == axis + 1 else 0 for d in range(len(none))])
    merged = b.reshape(wide, (*shape[:axis], shape[axis] * (apart + 1), *shape[axis + 1 :]))
    starts, steps = (0,) * len(shape), (1,) * len(shape)
    kept = tuple(n - apart if d == axis else n for d, n in enumerate(b.shape(merged)))
    return b.add(Slice(starts, steps), (merged,), kept, b.nodes[source].dtype)


def _convolution(b: Builder, e: Equation, inputs: Sequence[int]) -> int | None:
    p = e.parameters
    if p["batch_group_count"] != 1:
        return None
    lhs, rhs, out = p["dimension_numbers"]
    weight = b.permute(inputs[1], rhs)  # (out, in / groups, kernel)
    shape = b.shape(weight)
    op = Conv(
        axes=tuple(lhs[2:]),
        channel_axis=lhs[1],
        kernel=shape[2:],
        stride=tuple(p["window_strides"]),
        before=tuple(low for low, _ in p["padding"]),
        after=tuple(high for _, high in p["padding"]),
        dilation=tuple(p["rhs_dilation"]),
        input_dilation=tuple(p["lhs_dilation"]),
        groups=int(p["feature_group_count"]),
        channels=shape[1],
        precision=_precision(p["precision"]),
    )
    order = {axis: e.shape[place] for axis, place in zip(lhs, out, strict=True)}
    made = b.add(op, (inputs[0], weight), [order[axis] for axis in range(len(lhs))], e.dtype)
    source = dict(zip(out, lhs, strict=True))
    return b.permute(made, [source[axis] for axis in range(len(out))])


def _precision(given: Any) -> str:
    """Give the name of a precision; where the two operands have two, the higher."""
    rows = given if isinstance(given, (tuple, list)) else (given,)
    return max((str(row.name) for row in rows if row is not None), key=("DEFAULT", "HIGH", "HIGHEST").index, default="")


def _reduce(how: Any = None) -> Rule:
    def rule(b: Builder, e: Equation, inputs: Sequence[int]) -> int | None:
        axes = tuple(sorted(int(axis) for axis in e.parameters["axes"]))
        if not axes:
            return inputs[0]
        return b.add(Reduce(axes, False, how, bound(e.primitive, e.parameters)), inputs, e.shape, e.dtype)

    return rule


def _window(b: Builder, e: Equation, inputs: Sequence[int]) -> int | None:
    p = dict(e.parameters)
    if any(n != 1 for n in p["base_dilation"]):
        return None
    source = inputs[0]
    rows = p["padding"]
    if any(low or high for low, high in rows):
        value = b.add_known(_neutral(e.name, e.dtype))
        source = _padded(b, source, value, [low for low, _ in rows], [high for _, high in rows])
    p["padding"] = ((0, 0),) * len(rows)
    sizes = zip(p["window_dimensions"], p["window_strides"], strict=True)
    axes = tuple(axis for axis, (n, stride) in enumerate(sizes) if n > 1 or stride > 1)
    kernel, strides, dilation = (
        tuple(int(p[name][axis]) for axis in axes)
        for name in ("window_dimensions", "window_strides", "window_dilation")
    )
    if not axes:
        return source
    return b.add(Pool(axes, kernel, strides, dilation, bound(e.primitive, p)), (source,), e.shape, e.dtype)


def _neutral(name: str, dtype: str) -> Any:
    """Give the number that changes no sum, or no maximum."""
    kind: Any = jnp.dtype(dtype)
    if name == "reduce_window_sum":
        return np.zeros((), kind)
    if jnp.issubdtype(kind, jnp.floating):
        return np.asarray(-np.inf if name == "reduce_window_max" else np.inf, kind)
    if dtype == "bool":
        return np.asarray(name == "reduce_window_min")
    info = jnp.iinfo(kind)
    return np.asarray(info.min if name == "reduce_window_max" else info.max, kind)


def _along(parameter: str) -> Rule:
    def rule(b: Builder, e: Equation, inputs: Sequence[int]) -> int | None:
        if len(inputs) != 1 or len(e.shapes) != 1:
            return None
        part = 0 if e.primitive.multiple_results else None
        op = Along((int(e.parameters[parameter]),), bound(e.primitive, e.parameters, part=part))
        return b.add(op, inputs, e.shape, e.dtype)

    return rule


def _fft(b: Builder, e: Equation, inputs: Sequence[int]) -> int | None:
    rank = len(e.shape)
    axes = tuple(range(rank - len(e.parameters["fft_lengths"]), rank))
    return b.add(Along(axes, bound(e.primitive, e.parameters)), inputs, e.shape, e.dtype)


def _iota(b: Builder, e: Equation, inputs: Sequence[int]) -> int | None:
    axis, dtype = int(e.parameters["dimension"]), str(jnp.dtype(e.parameters["dtype"]))
    if inputs:
        return None
    ramp = b.add(Fill(Ramp(dtype)), (), (e.shape[axis],), dtype)
    return b.expand(b.reshape(ramp, [n if d == axis else 1 for d, n in enumerate(e.shape)]), e.shape)


_SAME = {
    "copy",
    "copy_p",
    "device_put",
    "mesh_cast",
    "name",
    "optimization_barrier",
    "sharding_constraint",
    "stop_gradient",
}
"""Primitives that give the arrays which they are given."""

_POINTWISE = """
abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp clz complex conj
cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt igamma igammac imag integer_pow is_finite le
lgamma log log1p logistic lt max min mul ne neg nextafter not or polygamma population_count pow real
reduce_precision regularized_incomplete_beta rem round rsqrt select_n shift_left shift_right_arithmetic
shift_right_logical sign sin sinh sqrt square sub tan tanh xor zeta
"""
POINTWISE = frozenset(_POINTWISE.split())
"""Primitives cell by cell."""

_RULES: dict[str, Rule] = {
    **dict.fromkeys(("argmax", "argmin", "reduce_and", "reduce_or", "reduce_prod", "reduce_xor"), _reduce()),
    **dict.fromkeys(("cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum"), _along("axis")),
    **dict.fromkeys(("expand_dims", "squeeze"), _reshape),
    **dict.fromkeys(("reduce_window_max", "reduce_window_min", "reduce_window_sum"), _window),
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "conv_general_dilated": _convolution,
    "convert_element_type": _convert,
    "dot_general": dot_general,
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update_slice,
    "fft": _fft,
    "gather": gather,
    "iota": _iota,
    "pad": _pad,
    "reduce_max": _reduce("max"),
    "reduce_min": _reduce("min"),
    "reduce_sum": _reduce("sum"),
    "reshape": _reordered,
    "rev": _reverse,
    "scatter": scatter,
    "slice": _slice,
    "sort": _along("dimension"),
    "tile": _tile,
    "transpose": _transpose,
}
