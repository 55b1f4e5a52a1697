"""What cannot be made exact, in words: where, what was found, what is allowed, what to do."""

import types
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from tilekit._errors import TraceError
from tilekit._exact.frontends._torch.record import place_in_source

__all__ = ["STATE", "check_input", "explain", "kind_of_weight", "refuse", "title"]

STATE = "keep the state outside of the call, or call the function plainly"

_PLAIN: set[type] = {Tensor, Parameter, torch.nn.Buffer} if hasattr(torch.nn, "Buffer") else {Tensor, Parameter}


def title(function: Any) -> str:
    """Name a function as its author would."""
    owner = getattr(function, "__self__", None)
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{type(owner).__qualname__}.{function.__name__}" if isinstance(function, types.MethodType) else str(name)


def refuse(function: Any, reason: str, remedy: str, cause: BaseException | None = None) -> TraceError:
    """Make the error; the caller raises it."""
    error = TraceError(f"{title(function)}: {reason}; {remedy}")
    error.__cause__ = cause
    return error


def check_input(function: Any, x: Any) -> None:
    """Refuse what is no plain tensor before anything is traced."""
    if not isinstance(x, Tensor):
        raise refuse(function, f"the input is of type {type(x).__name__}, not a torch.Tensor", "hand in a tensor")
    if _transformed(x):
        raise refuse(
            function,
            "the call stands inside a transform of torch.func (vmap, grad, jvp)",
            "transform the plain function, or call this one outside",
        )
    kind = kind_of_weight(x)
    if kind:
        raise refuse(function, f"the input is {kind}", "hand in a plain dense tensor")
    if x.device.type == "meta":
        raise refuse(function, "the input lies on the meta device, which holds no values", "hand in real numbers")
    if x.requires_grad and torch.is_grad_enabled():
        raise refuse(
            function,
            "the input requires a gradient, and tiles keep none",
            "call it under torch.no_grad(), or hand in x.detach()",
        )


def _transformed(x: Tensor) -> bool:
    functorch = torch._C._functorch
    return bool(functorch.peek_interpreter_stack() is not None or functorch.is_functorch_wrapped_tensor(x))


def kind_of_weight(x: Tensor) -> str:
    """Say what a tensor is where it is no plain one: a subclass, sparse, quantised; else nothing."""
    if type(x) not in _PLAIN:
        return f"a {type(x).__module__.partition('.')[0]} tensor of type {type(x).__name__}"
    if x.is_nested:
        return "nested: several tensors of several shapes"
    if x.is_quantized:
        return f"quantised ({x.dtype})"
    if x.layout != torch.strided:
        return f"not dense ({x.layout})"
    return ""


_KNOWN: dict[str, tuple[str, str]] = {
    "DataDependentOutputException": (
        "asks for the value of a tensor that depends on the input (`.item()`, `bool(...)`, `if tensor:`)",
        "take the branch out of the function, or decide it beforehand",
    ),
    "DynamicOutputShapeException": (
        "makes an array whose shape depends on values (nonzero, masks as indices, unique)",
        "make the shape depend on the input's shape alone",
    ),
    "LookAtMemoryError": (
        "asks for the memory of a tensor (`.numpy()`, `np.asarray`, `.data_ptr()`, `.untyped_storage()`, pickle), of "
        "which there is none while the function is followed",
        "stay with operations of torch",
    ),
    "LookAtTextError": (
        "makes text of a tensor that depends on the input (`print`, `str`, f-strings), which has no numbers while the "
        "function is followed",
        "take that out, or write its shape",
    ),
    "GuardOnDataDependentSymNode": (
        "asks for the value of a tensor that depends on the input (`.item()`, `bool(...)`, `if tensor:`)",
        "take the branch out of the function, or decide it beforehand",
    ),
}


def explain(function: Any, error: Exception) -> TraceError:
    """Turn what went wrong while tracing into a refusal."""
    where = place_in_source(error)
    known = _KNOWN.get(type(error).__name__)
    if known:
        return refuse(function, f"{where} {known[0]}", f"{known[1]}, or call the function plainly", error)
    text = str(error).strip().partition("\n")[0]
    return refuse(
        function,
        f"it cannot be followed without running it: {where}: {type(error).__name__}: {text}",
        "only torch operations on the input and on weights are allowed; see that the plain call works for this input, "
        "and call the function plainly where it must do otherwise",
        error,
    )
