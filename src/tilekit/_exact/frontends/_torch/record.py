"""Record what a function does on tensors without memory: every operation that reaches torch's dispatcher."""

import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._ops import HigherOrderOperator
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    UnsupportedOperatorException,
)
from torch.nn import Module
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from tilekit._exact.frontends._torch.aliases import Aliases, CannotFollow, is_view, without_writing
from tilekit._exact.frontends._torch.remembered import Remembered
from tilekit._exact.kernels._torch_measured import quiet

__all__ = ["DEVICE", "Entry", "Recorder", "fake_world", "leaf_tensors", "mapped", "place_in_source", "uncompiled"]

aten = torch.ops.aten
DEVICE = torch.ops.prim.device.default
_HERE_ALONE = (
    CannotFollow,
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)
"""What goes wrong on tensors without numbers, and not in a plain call."""


@dataclass(slots=True)
class Entry:
    """One recorded operation; the tensors are fake, and known by identity."""

    op: Any
    args: Sequence[Any]
    kwargs: dict[str, Any]
    outputs: tuple[Any, ...]
    several: bool
    where: str
    shapes: tuple[tuple[int, ...], ...] = ()
    """Of the outputs as they were made: `transpose_` turns the tensor itself."""
    reads: tuple[Tensor, ...] = ()
    """The tensors among the arguments."""

    def __post_init__(self) -> None:
        self.shapes = tuple([tuple(x.shape) if isinstance(x, Tensor) else () for x in self.outputs])
        self.reads = (*leaf_tensors(self.args), *leaf_tensors(self.kwargs))


def leaf_tensors(value: Any) -> list[Tensor]:
    """Give the tensors of nested lists, tuples and dicts."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, (list, tuple)):
        return []
    found: list[Tensor] = []
    for item in value:
        if isinstance(item, Tensor):
            found.append(item)
        elif isinstance(item, (list, tuple, dict)):
            found += leaf_tensors(item)
    return found


class Recorder(TorchDispatchMode):
    """
    Notes operations in order.

    Parameters
    ----------
    numbers : callable
        Asked for what a tensor holds, where the function wants to know it; raises where that depends on the input.
    known : callable
        ``known(op, args, kwargs)`` gives the numbers that an operation makes where none of them depends on the input;
        else None.
    fake : FakeTensorMode
        Works out shapes.
    """

    supports_higher_order_operators = True
    """They come here, to be refused with their names."""

    def __init__(
        self,
        names: dict[Module, str],
        numbers: Callable[[Tensor], Tensor],
        known: Callable[[Any, Any, Any], Any],
        fake: FakeTensorMode,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types here
        self.entries: list[Entry] = []
        self.called: dict[Module, None] = {}
        self.turned = False
        """Whether a tensor was turned itself, as ``transpose_`` does, and has another shape than it was made with."""
        self.refused: Exception | None = None
        """What a plain call would not have raised; a function that catches it goes another way than that call."""
        self.names, self.numbers, self.known = names, numbers, known
        self._stack: list[str] = []
        self.aliases = Aliases(self._run)
        self._call = Remembered(fake).run

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Say no: the wrapper for it takes seconds to import, and nothing is compiled here."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Let the fake tensors compute shapes, and note the operation."""
        if func is DEVICE and type(args[0]) is FakeTensor:  # asked as often as all else
            return args[0].fake_device
        try:
            return self._noted(func, args, kwargs or {})
        except _HERE_ALONE as error:
            self.note_refused(error)
            raise

    def note_refused(self, error: Exception) -> None:
        """Remember the first error that a plain call would not have raised."""
        self.refused = self.refused or error

    def replace(self, x: Tensor, value: Tensor) -> None:
        """Follow ``x.data = value``."""
        try:
            self.aliases.replace(x, value)
        except CannotFollow as error:
            self.note_refused(error)
            raise

    def _noted(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if isinstance(func, HigherOrderOperator):
            message = f"torch.ops.higher_order.{func.name()} runs functions that are handed to it"
            raise CannotFollow(message)
        if func is aten._local_scalar_dense.default:
            return self._number(self.aliases.now(args[0]))
        if func is aten.equal.default:
            same = self._run(aten.eq.Tensor, mapped(self.aliases.now, args), {})
            return bool(self._number(self._run(aten.all.default, (same,), {})))
        if _is_composite(func):  # comes whole where all of its tensors were made in inference mode
            with self:
                return func.decompose(*args, **kwargs)
        meant = _MEANT.get(func)
        if meant is not None:
            func, args, kwargs = meant(*args, **kwargs)
        if func is aten.index.Tensor:
            args = (args[0], self._counted(args[1]))
        if func._schema.is_mutable:
            return self._write(func, args, kwargs)
        if not self.aliases.active:
            out = self._run(func, args, kwargs)
        else:
            out = self._run(func, mapped(self.aliases.now, args), mapped(self.aliases.now, kwargs))
        if is_view(func):
            self.aliases.note(func, args[0], args, kwargs, out)
        return out

    def _number(self, x: Tensor) -> Any:
        """Give the one number of a tensor."""
        with _disable_current_modes():
            return self.numbers(x).item()

    def _run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Make an operation that writes nothing."""
        try:
            out = self._call(func, args, kwargs)
        except DynamicOutputShapeException:
            found = self.known(func, args, kwargs)
            if found is None:
                raise
            return found
        several = isinstance(out, (list, tuple))
        outputs = tuple(out) if several else (out,)
        if any(isinstance(x, Tensor) for x in outputs):
            self.entries.append(Entry(func, args, kwargs, outputs, several, self._stack[-1] if self._stack else ""))
        return out

    def _counted(self, indices: Any) -> Any:
        """Give masks that are known as the numbers of their cells."""
        made: list[Any] = []
        for index in indices:
            masked = isinstance(index, Tensor) and index.dtype in {torch.bool, torch.uint8}
            found = self.known(aten.nonzero.default, (self.aliases.now(index),), {}) if masked else None
            if found is None:
                made.append(index)
            else:
                with _disable_current_modes():
                    made += found.unbind(1)
        return made

    def _write(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Compute what is written as a new tensor, and let the old one stand for it."""
        targets = _written(func, args, kwargs)
        pure = without_writing(func)
        several = len(targets) != 1 or not isinstance(targets[0][1], Tensor)
        if several or (pure is None and torch.Tag.nondeterministic_seeded not in func.tags):
            message = f"aten.{func._opname} writes in place"
            raise CannotFollow(message)
        name, target = targets[0]
        given = {key: value for key, value in kwargs.items() if key != name or name == "self"}
        if func._opname in _TURNS:
            self.turned = True
            self.aliases.turn(pure, target, args, given)
            func(*args, **kwargs)
            return target
        value = (
            self._drawn(func, target)
            if pure is None
            else self._run(pure, mapped(self.aliases.now, args), mapped(self.aliases.now, given))
        )
        if value.shape != target.shape:
            message = f"aten.{func._opname} changes the shape in place"
            raise CannotFollow(message)
        if value.dtype != target.dtype:
            value = self._run(aten._to_copy.default, (value,), {"dtype": target.dtype})
        self.aliases.write(target, value)
        return target

    def _drawn(self, func: Any, target: Tensor) -> Tensor:
        """Note that random numbers were written."""
        value = torch.empty_like(target)
        self.entries.append(Entry(func, (target,), {}, (value,), False, self._stack[-1] if self._stack else ""))
        return value

    @contextmanager
    def modules(self) -> Iterator[None]:
        """Follow which module is at work, for the names of nodes."""
        enter = torch.nn.modules.module.register_module_forward_pre_hook(self._enter)
        leave = torch.nn.modules.module.register_module_forward_hook(self._leave, always_call=True)
        try:
            yield
        finally:
            enter.remove()
            leave.remove()

    def _enter(self, module: Module, args: Any) -> None:
        self.called[module] = None
        self._stack.append(self.names.get(module) or (self._stack[-1] if self._stack else ""))

    def _leave(self, module: Module, args: Any, out: Any) -> None:
        if self._stack:
            self._stack.pop()


@cache
def _is_composite(func: Any) -> bool:
    """Whether torch takes an operation apart into others, on the way to its derivatives."""
    name, key = func.name(), "CompositeImplicitAutograd"
    return name.startswith("aten::") and bool(torch._C._dispatch_has_kernel_for_dispatch_key(name, key))


_TURNS = {"transpose_", "t_", "squeeze_", "unsqueeze_", "swapaxes_", "swapdims_"}


def _written(func: Any, args: Any, kwargs: Any) -> list[tuple[str, Any]]:
    """Give the arguments that an operation writes to, with their names."""
    found: list[tuple[str, Any]] = []
    for i, argument in enumerate(func._schema.arguments):
        value = args[i] if i < len(args) else kwargs.get(argument.name)
        if argument.alias_info is not None and argument.alias_info.is_write and value is not None:
            found.append((argument.name, value))
    return found


def mapped(change: Callable[[Tensor], Any], value: Any) -> Any:
    """Replace the tensors of nested lists, tuples and dicts."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (list, tuple)):
        return type(value)(mapped(change, item) for item in value)
    if isinstance(value, dict):
        return {key: mapped(change, item) for key, item in value.items()}
    return value


class _Eager:
    """What torch does with compiled functions, which is one for all threads: the last that leaves puts it back."""

    def __init__(self) -> None:
        self._lock, self._inside, self._stance = threading.Lock(), 0, ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._stance.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._stance.close()


_eager = _Eager()


def uncompiled() -> AbstractContextManager[object]:
    """Let compiled functions run as they are written."""
    # where torch._dynamo is not imported nothing is compiled; importing it takes seconds
    return _eager() if "torch._dynamo" in sys.modules else nullcontext()


@contextmanager
def _as_in_a_plain_call() -> Iterator[None]:
    """Let transformers, which leaves out looks at numbers for stand-ins, go the way of a plain call."""
    library = sys.modules.get("transformers.utils.import_utils")
    asked = getattr(library, "is_fake_tensor", None)
    if library is None or asked is None:
        yield
        return
    setattr(library, "is_fake_tensor", lambda x: False)  # noqa: B010  # mypy knows no attributes of modules
    try:
        yield
    finally:
        setattr(library, "is_fake_tensor", asked)  # noqa: B010


@contextmanager
def fake_world(recorder: Recorder, fake: FakeTensorMode, leaves: Any) -> Iterator[None]:
    """Enter what a trace needs: no memory, no gradients, and compiled functions run as they are written."""
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="Using `torch.compile.module.` when there are global hooks")
        stack.enter_context(uncompiled())
        stack.enter_context(quiet())
        stack.enter_context(_as_in_a_plain_call())
        stack.enter_context(fake)
        stack.enter_context(recorder)
        stack.enter_context(recorder.modules())
        stack.enter_context(leaves)
        yield


def place_in_source(error: BaseException) -> str:
    """Say where in the user's code an error arose: the last frame outside of torch and of this package."""
    frames = traceback.extract_tb(error.__traceback__)
    outside = [f for f in frames if "/torch/" not in f.filename and "/tilekit/_exact/" not in f.filename]
    if not outside:
        return "the function"
    return f"{outside[-1].filename}:{outside[-1].lineno}, in {outside[-1].name}"


_Asked = tuple[Any, tuple[Any, ...], dict[str, Any]]


def _convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: Any, stride: Any, dilation: Any, groups: int
) -> _Asked:
    """Give the operation of every device that one of oneDNN stands for; that does not know fake tensors."""
    return aten.convolution.default, (x, weight, bias, stride, padding, dilation, False, [0] * len(stride), groups), {}


def _conjugate(x: Tensor) -> _Asked:
    """Give the numbers in the place of a note that they are meant."""
    return aten._conj_physical.default, (x,), {}


def _negative(x: Tensor) -> _Asked:
    return aten.neg.default, (x,), {}


def _leaky(
    x: Tensor, noise: Tensor, lower: float = 0.125, upper: float = 1 / 3, training: bool = False, generator: Any = None
) -> _Asked:
    """Give what is drawn in training alone without the draw."""
    if training:
        return aten.rrelu_with_noise.default, (x, noise, lower, upper, training, generator), {}
    return aten.leaky_relu.default, (x, (lower + upper) / 2), {}


_MEANT: dict[Any, Callable[..., _Asked]] = {
    aten.mkldnn_convolution.default: _convolution,
    aten._conj.default: _conjugate,
    aten._neg_view.default: _negative,
    aten.rrelu_with_noise.default: _leaky,
}
"""Operations that stand for others."""
