"""Operations of PyTorch, and the leaves of `_torch_leaves`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import array_api_compat.torch as xp
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Embedding, Identity, Linear, Module, ModuleList, RMSNorm

from ltx_models.nn._torch_leaves import Conv1d, Conv2d, Conv3d, ConvTranspose1d, GroupNorm, followed
from ltx_models.nn._types import BackendName
from ltx_models.nn.queries import by_queries
from tilekit.backends.torch_pad import pad_constant

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "Embedding",
    "GroupNorm",
    "Identity",
    "Linear",
    "Module",
    "ModuleList",
    "RMSNorm",
    "xp",
]

name: BackendName = "torch"
float32 = torch.float32
_STORED = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U32": torch.uint32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def parameter(shape: Sequence[int], fill: float = 0.0) -> Tensor:
    """Make a parameter."""
    return torch.nn.Parameter(torch.full(tuple(shape), fill))


def buffer(module: Module, name: str, value: Tensor) -> None:
    """Register a persistent buffer."""
    module.register_buffer(name, value)


def dtype(name: str) -> torch.dtype:
    """Give the dtype of that name."""
    value = getattr(torch, name)
    assert isinstance(value, torch.dtype)
    return value


def is_array(x: object) -> bool:
    """Say whether `x` is a tensor."""
    return isinstance(x, Tensor)


def asarray(x: Any, like: Tensor | None = None) -> Tensor:
    """Make a tensor."""
    return torch.as_tensor(x) if like is None else torch.as_tensor(x, dtype=like.dtype, device=like.device)


def on_device(x: Tensor, like: Tensor) -> Tensor:
    """Move `x` to the device of `like`."""
    return x.to(like.device)


def cast(x: Tensor, dtype: torch.dtype, device: Any = None) -> Tensor:
    """Convert to a dtype."""
    return x.to(device=device, dtype=dtype)


def from_buffer(data: Any, dtype: str, shape: Sequence[int]) -> Tensor:
    """Make a tensor of raw bytes, without a copy."""
    return torch.from_numpy(data).view(_STORED[dtype]).reshape(tuple(shape))


def to_buffer(x: Tensor) -> Any:
    """Give the raw bytes, those of the tensor itself where it lies in order in host memory."""
    return x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def to_numpy(x: Tensor, wait: bool = True) -> Any:
    """Give a NumPy array."""
    if x.device.type != "cpu" and not wait:
        return None
    x = x.detach().cpu()
    return (x.float() if x.dtype in {torch.bfloat16, torch.float16} else x).numpy()


def expanded(x: Tensor, axis: int) -> bool:
    """Say whether the stride of an axis is 0."""
    return x.shape[axis] == 1 or x.stride(axis) == 0


def randn(shape: Sequence[int], like: Tensor) -> Tensor:
    """Draw from the standard normal distribution."""
    return torch.randn(tuple(shape), dtype=like.dtype, device=like.device)


def silu(x: Tensor) -> Tensor:
    """Compute x * sigmoid(x)."""
    return F.silu(x)


def silu_(x: Tensor) -> Tensor:
    """Compute x * sigmoid(x) in place, unless a gradient needs x."""
    return F.silu(x, inplace=not x.requires_grad)


def gelu_tanh(x: Tensor) -> Tensor:
    """Compute the tanh approximation of GELU."""
    return F.gelu(x, approximate="tanh")


def sigmoid(x: Tensor) -> Tensor:
    """Compute the logistic function."""
    return torch.sigmoid(x)


def leaky_relu(x: Tensor, slope: float) -> Tensor:
    """Compute max(x, slope * x)."""
    return F.leaky_relu(x, slope)


def leaky_relu_(x: Tensor, slope: float) -> Tensor:
    """Compute max(x, slope * x) in place, unless a gradient needs x."""
    return F.leaky_relu(x, slope, inplace=not x.requires_grad)


def snake_(x: Tensor, rate: Tensor, height: Tensor) -> Tensor:
    """Compute x + height * sin(rate * x)**2 in place, unless a gradient needs x."""
    if x.requires_grad or rate.requires_grad or height.requires_grad:
        return x + height * torch.sin(x * rate) ** 2
    wave = (x * rate).sin_()
    return x.addcmul_(wave.mul_(wave), height)


def copy(x: Tensor) -> Tensor:
    """Copy."""
    return x.clone()


def unfold(x: Tensor, size: int, step: int) -> Tensor:
    """Give the windows along axis 1, without a copy."""
    return x.unfold(1, size, step).permute(0, 1, 3, 2)


def all_finite(x: Tensor) -> bool:
    """Say whether no value is NaN or infinite."""
    return followed(x) or bool(torch.isfinite(x).all())


def multiply_add(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Compute x * y + z."""
    return torch.addcmul(z, x, y)


def rms_norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """Divide by the root mean square over the last axis."""
    if weight is None and x.dtype == torch.float32 and x.device.type == "cpu":
        # half the time of F.rms_norm there, which is not fused: no squared copy of x
        return x / _root_mean_square(x, eps)
    return F.rms_norm(x, x.shape[-1:], weight, eps)


def rms_norm_(x: Tensor, eps: float) -> Tensor:
    """Divide by the root mean square over the last axis, in place unless a gradient needs x."""
    if x.requires_grad or x.dtype != torch.float32:
        return rms_norm(x, None, eps)
    return x.div_(_root_mean_square(x, eps))


def _root_mean_square(x: Tensor, eps: float) -> Tensor:
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.sqrt(norm * norm / x.shape[-1] + eps)


def layer_norm(x: Tensor, eps: float) -> Tensor:
    """Normalise over the last axis."""
    return F.layer_norm(x, x.shape[-1:], eps=eps)


def matmul(x: Tensor, y: Tensor) -> Tensor:
    """Multiply matrices."""
    return x @ y


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attend; some queries at a time where all of them would take the device too long."""
    if torch.compiler.is_compiling():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    made: Tensor = by_queries(F.scaled_dot_product_attention, q, k, v, mask, lambda parts: torch.cat(parts, dim=2))
    return made


def pad(x: Tensor, widths: Sequence[tuple[int, int]], mode: str = "zeros") -> Tensor:
    """Pad the axes by (before, after) cells."""
    if mode == "zeros":
        return pad_constant(x, [n for pair in reversed(widths) for n in pair])
    if mode == "replicate" and x.ndim == 3 and not any((*widths[0], *widths[2])):
        return F.pad(x, (0, 0, *widths[1]), mode="replicate")  # one copy, and one operation for who follows
    for axis, (before, after) in enumerate(widths):
        if before or after:
            x = _pad_axis(x, axis, before, after, mode)
    return x


def repeat_ends_(x: Tensor, start: int, stop: int) -> Tensor:
    """Write the first and the last of some cells of axis 1 over those before and after, unless a gradient needs x."""
    if followed(x) or x.requires_grad:
        return pad(x[:, start:stop], ((0, 0), (start, x.shape[1] - stop), (0, 0)), "replicate")
    x[:, :start] = x[:, start : start + 1]
    x[:, stop:] = x[:, stop - 1 : stop]
    return x


def _pad_axis(x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    # torch pads the last axes of fixed ranks only; indices serve every rank, layout and mode
    n = x.shape[axis]
    i = torch.arange(-before, n + after, device=x.device)
    i = i.clamp(0, n - 1) if mode == "replicate" else (n - 1) - (i.abs() - (n - 1)).abs()
    return x.index_select(axis, i)


def concat(parts: Sequence[Tensor], reflect: bool = False, workspace: dict[str, Tensor] | None = None) -> Tensor:
    """Put parts of a clip after one another in a new tensor, with a mirrored cell around each frame."""
    if followed(parts[0]):  # a graph of few operations, which share no memory
        x = torch.cat(list(parts), dim=1)
        mirrored = F.pad(x.permute(0, 4, 1, 2, 3), (1, 1, 1, 1, 0, 0), mode="reflect") if reflect else None
        return x if mirrored is None else mirrored.permute(0, 2, 3, 4, 1)
    if any(part.requires_grad for part in parts):
        x = torch.cat(list(parts), dim=1)
        return pad(x, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)), "reflect") if reflect else x
    shape = list(parts[0].shape)
    shape[1] = sum(part.shape[1] for part in parts)
    if not reflect:
        if workspace is None:
            return torch.cat(list(parts), dim=1)
        return torch.cat(list(parts), dim=1, out=_take(workspace, shape, parts[0]))
    # one copy instead of two, and no second array of this size
    shape[2], shape[3] = shape[2] + 2, shape[3] + 2
    x = _take(workspace, shape, parts[0])
    begin = 0
    for part in parts:
        x[:, begin : begin + part.shape[1], 1:-1, 1:-1] = part
        begin += part.shape[1]
    x[:, :, 0], x[:, :, -1] = x[:, :, 2], x[:, :, -3]
    x[:, :, :, 0], x[:, :, :, -1] = x[:, :, :, 2], x[:, :, :, -3]
    return x


def _take(workspace: dict[str, Tensor] | None, shape: list[int], like: Tensor) -> Tensor:
    """Give memory of that shape: the workspace's, which grows to the largest that was asked for, or new."""
    if workspace is None:
        return like.new_empty(shape)
    count = prod(shape)
    if "memory" not in workspace or workspace["memory"].numel() < count:
        workspace.pop("memory", None)
        workspace["memory"] = like.new_empty(count)
    return workspace["memory"][:count].view(shape)


def add_(x: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """Add parts that follow one another along axis 1, in place unless a gradient is wanted."""
    if x.requires_grad or any(part.requires_grad for part in parts):
        return x + (parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1))
    begin = 0
    for part in parts:
        x[:, begin : begin + part.shape[1]] += part
        begin += part.shape[1]
    return x


def to_fp8(x: Tensor) -> Tensor:
    """Round to 8-bit floats."""
    most = torch.finfo(torch.float8_e4m3fn).max
    return x.clamp(-most, most).to(torch.float8_e4m3fn)


def from_fp8(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert 8-bit floats."""
    return as_fp8(x).to(dtype)


def convert_rows(x: Tensor, rows: int, convert: Callable[[Tensor], Tensor]) -> Tensor:
    """Convert rows into memory that is taken first: taken last, it would leave holes behind it."""
    out = torch.empty(x.shape, dtype=convert(x[:1]).dtype, device=x.device)
    for begin in range(0, x.shape[0], rows):
        out[begin : begin + rows] = convert(x[begin : begin + rows])
    return out


def is_fp8(x: Tensor) -> bool:
    """Say whether `x` holds 8-bit floats."""
    return x.dtype in {torch.float8_e4m3fn, torch.uint8}


def as_fp8(x: Tensor) -> Tensor:
    """See bytes as 8-bit floats."""
    return x.view(torch.float8_e4m3fn) if x.dtype == torch.uint8 else x


def assign(module: Module, name: str, value: Tensor) -> None:
    """Replace a parameter or buffer."""
    if name in module._parameters:
        module._parameters[name] = torch.nn.Parameter(value, requires_grad=False)
    else:
        module._buffers[name] = value


def meta(x: Tensor) -> Tensor:
    """Make a tensor on the meta device."""
    return torch.empty_like(x, device="meta")


def widest(x: Tensor) -> torch.dtype:
    """Give float64, which Metal lacks."""
    return torch.float32 if x.device.type == "mps" else torch.float64


def async_eval(*arrays: Tensor) -> None:
    """Do nothing: tensors are computed when they are made."""


def synchronize(*arrays: Tensor) -> None:
    """Do nothing: tensors are computed when they are made."""


def weights(module: Module) -> dict[str, Tensor]:
    """Name every parameter and persistent buffer."""
    return dict(module.state_dict())


def shapes(module: Module) -> dict[str, tuple[int, ...]]:
    """Name the shape of every parameter and persistent buffer."""
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def build(make: Callable[[], Module]) -> Module:
    """Make a module on the meta device."""
    with torch.device("meta"):
        return make()


def load(module: Module, weights: Mapping[str, Tensor], device: Any = None, strict: bool = True) -> Module:
    """Give the module its weights."""
    module.load_state_dict(dict(weights), strict=strict, assign=True)
    for leaf in module.modules():
        if isinstance(
            leaf, (Conv1d, ConvTranspose1d)
        ):  # else every call would turn them: a third of a short one's time
            leaf.weight.data = leaf.weight.data.permute(0, 2, 1).contiguous().permute(0, 2, 1)
    return module.to(device).eval().requires_grad_(False)
