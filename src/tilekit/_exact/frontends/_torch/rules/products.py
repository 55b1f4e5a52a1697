"""Convolutions, matrix products and attention."""

import math
from collections.abc import Sequence

from torch import Tensor

from tilekit._exact.frontends._torch.called import Called, Rule
from tilekit._exact.frontends._torch.calls import Aten, Attend, Distances, Linear, Slot, TimesEach
from tilekit._exact.ops import Attention, Conv, MatMul

__all__ = ["RULES"]


def _repeated(value: Sequence[int], n: int) -> tuple[int, ...]:
    return tuple(value) * n if len(value) == 1 else tuple(value)


def _convolution(c: Called) -> int:
    weight, bias = c["weight"], c["bias"]
    n = weight.ndim - 2
    stride, dilation = _repeated(c["stride"], n), _repeated(c["dilation"], n)
    padding = _repeated(c["padding"], n)
    transposed = c.name != "mkldnn_convolution" and c["transposed"]
    inputs = [c.node(x) for x in (c["input" if transposed is not None and c.name == "convolution" else "self"], weight)]
    inputs += [c.node(bias)] if bias is not None else []
    kernel = tuple(weight.shape[2:])
    spread = tuple((k - 1) * d for k, d in zip(kernel, dilation, strict=True))
    if transposed:
        more = _repeated(c["output_padding"], n)
        before = tuple(s - p for s, p in zip(spread, padding, strict=True))
        after = tuple(b + extra for b, extra in zip(before, more, strict=True))
        channels = weight.shape[0] // c["groups"]
    else:
        before = after = padding
        channels = weight.shape[1]
    ones = (1,) * n
    return c.add(
        Conv(
            axes=tuple(range(2, n + 2)),
            channel_axis=1,
            kernel=kernel,
            stride=ones if transposed else stride,
            before=before,
            after=after,
            dilation=dilation,
            input_dilation=stride if transposed else ones,
            groups=c["groups"],
            channels=int(channels),
            transposed=bool(transposed),
        ),
        inputs,
    )


def _matmul(c: Called, left: int, right: int) -> int:
    """Multiply; rows or matrices of many axes, which torch puts together for its call, stay apart."""
    apart = _apart(c, left, right)
    if apart is None:
        return c.add(MatMul(Aten("aten::matmul.", (Slot(0), Slot(1)))), (left, right))
    left, right = apart
    made = (*c.shape_of(left)[:-1], c.shape_of(right)[-1])
    return c.reshape(c.add(MatMul(Aten("aten::matmul.", (Slot(0), Slot(1)))), (left, right), made), c.shape)


def _apart(c: Called, left: int, right: int) -> tuple[int, int] | None:
    """Give two arrays before several axes of them became one; None where there are no such."""
    (*batch, rows, inner), columns = c.shape_of(left), c.shape_of(right)
    one = math.prod(columns[:-2]) == 1
    count = math.prod(batch) * (rows if one else 1)
    before = [c.merged(left), c.merged(right)]
    leads = [_lead(c.shape_of(index), count) for index in before]
    if len(leads[0]) < 2 or (before[0] == left and math.prod(batch) == count):
        return None
    if one:
        return c.reshape(before[0], (*leads[0], inner)), c.reshape(right, columns[-2:])
    if leads[0] != leads[1]:
        return None
    return c.reshape(before[0], (*leads[0], rows, inner)), c.reshape(before[1], (*leads[0], *columns[-2:]))


def _lead(shape: Sequence[int], count: int) -> tuple[int, ...]:
    """Give the first axes of a shape that hold so many cells, without those of one; nothing where no such do."""
    lead: list[int] = []
    for n in shape:
        if math.prod(lead) == count:
            break
        lead += [n] if n > 1 else []
    return tuple(lead) if math.prod(lead) == count else ()


def _mm(c: Called) -> int:
    return _matmul(c, c.node(c["self"]), c.node(c["mat2"]))


def _scaled(c: Called, product: int) -> int:
    """Give beta * self + alpha * product."""
    added = c.node(c["self"])
    if c["alpha"] != 1:
        product = c.cell("mul.Scalar", (product,), c["alpha"])
    if c["beta"] == 0:
        return product
    if c["beta"] != 1:
        added = c.cell("mul.Scalar", (added,), c["beta"])
    return c.cell("add.Tensor", (product, added))


def _addmm(c: Called) -> int:
    left, right = (c["mat1"], c["mat2"]) if c.name in {"addmm", "_addmm_activation"} else (c["batch1"], c["batch2"])
    if c["alpha"] == 1 and c["beta"] == 1:
        call = Aten("aten::%s." % c.name, (Slot(2), Slot(0), Slot(1)))  # noqa: UP031  # a name, not a text
        return c.add(MatMul(call), (c.node(left), c.node(right), c.node(c["self"])))
    return _scaled(c, _matmul(c, c.node(left), c.node(right)))


def _vector(c: Called) -> int:
    """A matrix or a vector times a vector, as a product of matrices."""
    left, right = c["self"], c["vec" if c.name == "mv" else "tensor"]
    rows = left.shape[0] if left.ndim == 2 else 1
    a = c.reshape(c.node(left), (rows, left.shape[-1]))
    b = c.reshape(c.node(right), (right.shape[0], 1))
    product = c.add(MatMul(Aten("aten::matmul.", (Slot(0), Slot(1)))), (a, b), (rows, 1))
    return c.reshape(product, c.shape)


def _linear(c: Called) -> int:
    x, weight, bias = c["x"], c["weight"], c["bias"]
    right = c.permute(c.node(weight), (1, 0))
    inputs = [c.node(x), right] + ([c.node(bias)] if bias is not None else [])
    return c.add(MatMul(Linear()), inputs)


def _distances(c: Called) -> int:
    """Distances of rows of the first array from rows of the second."""
    call, inputs = c.call()
    if len(inputs) != 2 or call.args[:2] != (Slot(0), Slot(1)) or len(c.shape) < 2:
        return c.whole()
    n = len(c.shape_of(inputs[1]))
    columns = c.permute(inputs[1], (*range(n - 2), n - 1, n - 2))
    return c.add(MatMul(Distances(call)), (inputs[0], columns))


def _times_each(c: Called) -> int:
    return c.add(MatMul(TimesEach()), (c.node(c["matrix"]), c.node(c["x"])))


def _own_attention(c: Called) -> int:
    return _attention(c, [c["q"], c["k"], c["v"]], c["mask"], c["grouped"])


def _torch_attention(c: Called) -> int:
    """Attention as torch's own layers reach it; only what it attends to is asked for."""
    if c.part:
        return c.whole()
    names = [a.name for a in c.entry.op._schema.arguments]
    mask = next((c[name] for name in ("attn_mask", "attn_bias") if name in names), None)
    return _attention(c, [c["query"], c["key"], c["value"]], mask, grouped=False)


def _attention(c: Called, tensors: list[Tensor], mask: Tensor | None, grouped: bool) -> int:
    lead = c.shape[:-2]
    if mask is not None and (mask.ndim < 2 or (len(lead) > 2 and mask.ndim > 2)):
        return c.whole()
    causal = bool(c["causal" if c.name == "attention" else "is_causal"])
    if not grouped and any(tuple(x.shape[:-2]) != lead for x in tensors):
        tensors_ = [c.expand(c.node(x), (*lead, *x.shape[-2:])) for x in tensors]
    else:
        tensors_ = [c.node(x) for x in tensors]
    heads = [(math.prod(lead[:-1]), x.shape[-3]) if len(lead) > 1 else (lead[0], 1) for x in tensors]
    inputs = [c.reshape(node, (*both, *x.shape[-2:])) for node, both, x in zip(tensors_, heads, tensors, strict=True)]
    if mask is not None:
        given = c.node(mask)
        inputs.append(
            c.reshape(given, (mask.shape[0], 1, *mask.shape[1:])) if len(lead) == 1 and mask.ndim == 3 else given
        )
    made = (*heads[0], *c.shape[-2:])
    attended = c.add(Attention(causal, Attend(causal, c["scale"], grouped)), inputs, made)
    return c.reshape(attended, c.shape)


_VARIANTS = [f"_scaled_dot_product_{kind}_attention" for kind in ("flash", "efficient", "cudnn", "fused")]
_VARIANTS += ["_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_fused_attention_overrideable"]

RULES: dict[str, Rule] = {
    **dict.fromkeys(("convolution", "_convolution", "convolution_overrideable", "mkldnn_convolution"), _convolution),
    **dict.fromkeys(("mm", "bmm"), _mm),
    **dict.fromkeys(("addmm", "baddbmm"), _addmm),
    **dict.fromkeys(("mv", "dot"), _vector),
    "linear": _linear,
    **dict.fromkeys(("_euclidean_dist", "_cdist_forward"), _distances),
    "times_each": _times_each,
    "attention": _own_attention,
    **dict.fromkeys(_VARIANTS, _torch_attention),
}
