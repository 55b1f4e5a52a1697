"""Functions of torch that a trace keeps as one operation, which would otherwise fall apart into many."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes

from tilekit._exact.frontends._torch.record import leaf_tensors, mapped
from tilekit._exact.kernels._torch_measured import taken

__all__ = ["Leaves", "LookAtMemoryError", "LookAtTextError", "beside"]

LATELY = 1 << 10
"""Calls of which it is remembered what they take."""
_LIBRARY = torch.library.Library("tilekit", "DEF")
_LIBRARY.define(
    "attention(Tensor q, Tensor k, Tensor v, Tensor? mask, bool causal, float? scale, bool grouped) -> Tensor"
)
_LIBRARY.define("linear(Tensor x, Tensor weight, Tensor? bias) -> Tensor")
_LIBRARY.define("times_each(Tensor matrix, Tensor x) -> Tensor")
_LIBRARY.define("root_mean_square(Tensor x, Tensor? weight, float eps) -> Tensor")
_LIBRARY.define(
    "recurrent(str name, Tensor x, Tensor[] state, Tensor[] weights, bool bias, int layers, bool both, bool first,"
    " Tensor? batches) -> Tensor[]"
)


def _attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float | None, grouped: bool
) -> Tensor:
    batch = torch.broadcast_shapes(q.shape[:-2], k.shape[:-2] if not grouped else q.shape[:-2])
    return q.new_empty((*batch, q.shape[-2], v.shape[-1]))


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def _times_each(matrix: Tensor, x: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:-2], matrix.shape[0], x.shape[-1]))


def _root_mean_square(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    return torch.empty_like(x)


def _run_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float | None, grouped: bool
) -> Tensor:
    attend: Any = torch.ops.aten.scaled_dot_product_attention
    made: Tensor = attend(q, k, v, mask, 0.0, causal, scale=scale, enable_gqa=grouped)
    return made


def _run_recurrent(
    name: str,
    x: Tensor,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    bias: bool,
    layers: int,
    both: bool,
    first: bool,
    batches: Tensor | None,
) -> list[Tensor]:
    function: Callable[..., Any] = getattr(torch, name)
    given: Any = list(state) if name == "lstm" else state[0]
    return list(function(x, given, list(weights), bias, layers, 0.0, False, both, first))


def _recurrent(
    name: str,
    x: Tensor,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    bias: bool,
    layers: int,
    both: bool,
    first: bool,
    batches: Tensor | None,
) -> list[Tensor]:
    width = state[0].shape[-1] * (2 if both else 1)
    rows = (x.shape[1], x.shape[0]) if first else x.shape[:-1]
    made = x.new_empty((*rows, width))
    return [made.transpose(0, 1) if first else made, *(torch.empty_like(given) for given in state)]


_SHAPES: dict[str, Callable[..., Any]] = {
    "attention": _attention,
    "linear": _linear,
    "times_each": _times_each,
    "root_mean_square": _root_mean_square,
    "recurrent": _recurrent,
}
for _name, _shape in _SHAPES.items():
    _LIBRARY.impl(_name, _shape, "Meta")
    torch.library.register_fake(f"tilekit::{_name}", _shape, lib=_LIBRARY)
_RUNS: dict[str, Callable[..., Any]] = {
    "attention": _run_attention,
    "linear": torch.ops.aten.linear,
    "root_mean_square": lambda x, weight, eps: torch.ops.aten.rms_norm(x, x.shape[-1:], weight, eps),
    "times_each": torch.ops.aten.matmul,
    "recurrent": _run_recurrent,
}
for _name, _runs in _RUNS.items():  # where numbers are asked for that do not depend on the input
    _LIBRARY.impl(_name, _runs, "CompositeExplicitAutograd")


_LOOKS = {Tensor.numpy, Tensor.__array__, Tensor.__dlpack__, Tensor.__reduce_ex__}
"""What hands the numbers to NumPy, another library or a file, past torch's dispatcher."""
_MEMORY = {Tensor.data_ptr, Tensor.untyped_storage, Tensor.storage, Tensor._typed_storage}
_TEXT = {Tensor.__repr__, Tensor.__format__}
_REPLACED = Tensor.data.__set__  # type: ignore[attr-defined]  # a property, whose type has no such name


class LookAtMemoryError(RuntimeError):
    """The function asks for the memory of a tensor that has none while it is followed."""


class LookAtTextError(RuntimeError):
    """The function makes text of a tensor that has no numbers while it is followed."""


_SEVERAL = {"attention", "times_each", "root_mean_square", "recurrent"}
"""Operations that may take memory beside their result."""
_lately: dict[Any, int] = {}


def beside(op: Any, args: Sequence[Any]) -> int:
    """Count the bytes that torch takes beside the result of one of our operations, which stands for several of its."""
    name = op._opname if op.namespace == "tilekit" else ""
    if name not in _SEVERAL:
        return 0
    tensors = leaf_tensors(args)
    given = tuple((tuple(x.shape), x.stride(), x.dtype) for x in tensors)
    device = tensors[0].device
    key = (name, given, device, str(mapped(lambda x: None, args)))
    if key not in _lately:
        if len(_lately) > LATELY:
            _lately.clear()
        places = {id(x): i for i, x in enumerate(tensors)}
        _lately[key] = taken(lambda arrays: _RUNS[name](*mapped(lambda x: arrays[places[id(x)]], args)), given, device)
    return _lately[key]


class Leaves(TorchFunctionMode):
    """
    Hands what is kept whole to operations of our own; everything else goes its way.

    Parameters
    ----------
    numbers : callable
        Gives what a tensor without memory holds where a function asks for its memory; torch's own error where that
        depends on the input.
    refused : callable
        Told of a look at the memory of a tensor that is refused, which the function may catch.
    replaced : callable
        ``replaced(x, value)`` is told that a tensor shows the memory of another from now on: ``x.data = value``.
    """

    def __init__(
        self,
        numbers: Callable[[Tensor], Tensor],
        refused: Callable[[Exception], object],
        replaced: Callable[[Tensor, Tensor], object],
    ) -> None:
        super().__init__()
        self._numbers, self._refused, self._replaced = numbers, refused, replaced

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look a function up."""
        if function in _LOOKS or (function is Tensor.tolist and type(args[0]) is not FakeTensor):
            return self._shown(LookAtMemoryError(), function, args, kwargs)
        if function in _TEXT:
            return self._shown(LookAtTextError(), function, args, kwargs)
        if function in _MEMORY and type(args[0]) is FakeTensor:
            raise self._said(LookAtMemoryError())
        if function == _REPLACED:
            return self._replaced(*args)
        own = _OWN.get(function)
        if own is not None:
            made = own(*args, **(kwargs or {}))
            if made is not None:
                return made
        return function(*args, **(kwargs or {}))

    def _shown(self, error: Exception, function: Any, args: Any, kwargs: Any) -> Any:
        """Look at the numbers of a tensor that does not depend on the input."""
        try:
            held = self._numbers(args[0])
        except DataDependentOutputException as cause:
            raise self._said(error) from cause
        with _disable_current_modes():
            return function(held, *args[1:], **(kwargs or {}))

    def _said(self, error: Exception) -> Exception:
        """Say what is refused; the caller raises it."""
        self._refused(error)
        return error


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor | None:
    if dropout_p or query.ndim < 3 or not query.ndim == key.ndim == value.ndim or query.is_nested:
        return None
    dtype = _cast_to(query.device)
    if dtype is not None:
        query, key, value = (x.to(dtype) if x.is_floating_point() else x for x in (query, key, value))
        if attn_mask is not None and attn_mask.is_floating_point():
            attn_mask = attn_mask.to(dtype)
    made: Tensor = torch.ops.tilekit.attention(query, key, value, attn_mask, is_causal, scale, enable_gqa)
    return made


def _cast_to(device: torch.device) -> torch.dtype | None:
    """Give the dtype that autocast brings the inputs of a product to, where it is on."""
    kind = device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


def _project(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:  # torch's name
    if input.ndim < 2 or weight.ndim != 2 or input.shape[-1] != weight.shape[1]:
        return None
    dtype = _cast_to(input.device)
    if dtype is not None:
        input, weight = input.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    made: Tensor = torch.ops.tilekit.linear(input, weight, bias)
    return made


def _multiply(input: Tensor, other: Tensor) -> Tensor | None:  # torch's names
    """Keep one matrix times many; torch would merge the axes of these, of which one may slide."""
    if input.ndim != 2 or other.ndim < 3 or input.dtype != other.dtype or _cast_to(input.device) is not None:
        return None
    made: Tensor = torch.ops.tilekit.times_each(input, other)
    return made


_CHANNELS = 1 << 13
"""Cells up to which a norm over the last axis is taken for one of channels; a longer axis may be one that slides."""


def _norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor | None:
    if len(normalized_shape) != 1 or input.ndim < 2 or not normalized_shape[0] == input.shape[-1] <= _CHANNELS:
        return None
    if eps is None or not input.is_floating_point() or _cast_to(input.device) is not None:
        return None
    if weight is not None and weight.shape != input.shape[-1:]:
        return None
    made: Tensor = torch.ops.tilekit.root_mean_square(input, weight, eps)
    return made


def _one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor | None:  # torch's names
    """Compare with each number; torch looks at the numbers first, of which stand-ins have none."""
    if num_classes < 1 or tensor.dtype != torch.int64:
        return None
    return (tensor.unsqueeze(-1) == torch.arange(num_classes, device=tensor.device)).long()


def _copied(x: Tensor, memo: dict[int, Any]) -> Tensor:
    return memo.setdefault(id(x), x.detach().clone())  # type: ignore[no-any-return]  # a table of anything


def _recur(name: str) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        if isinstance(args[3], (list, tuple)):  # packed sequences
            return None
        x, state, weights, bias, layers, dropout, training, both, first = args
        if dropout and training:
            return None
        state = list(state) if isinstance(state, (list, tuple)) else [state]
        return tuple(torch.ops.tilekit.recurrent(name, x, state, list(weights), bias, layers, both, first, None))

    return run


_OWN: dict[Any, Callable[..., Any]] = {
    F.scaled_dot_product_attention: _attend,
    F.linear: _project,
    **dict.fromkeys((torch.matmul, Tensor.matmul, Tensor.__matmul__), _multiply),
    **dict.fromkeys((F.rms_norm, torch.rms_norm), _norm),
    F.one_hot: _one_hot,
    Tensor.__deepcopy__: _copied,
    **{getattr(torch, name): _recur(name) for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
    **{getattr(torch._VF, name): _recur(name) for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
}
