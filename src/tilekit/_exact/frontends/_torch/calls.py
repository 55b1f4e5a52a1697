"""The calls of torch that a graph's operations make: hashable, with the arrays handed in when they run."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from tilekit._exact.boxes import Box, Shape, extent
from tilekit._exact.frontends._torch.aliases import CannotFollow
from tilekit._exact.kernels._torch_scratch import small_pieces

__all__ = [
    "Aten",
    "Attend",
    "Bits",
    "Distances",
    "Filled",
    "Half",
    "Linear",
    "Ramp",
    "RootMeanSquare",
    "Slot",
    "Strided",
    "TimesEach",
    "Triangle",
    "freeze",
    "operation",
]


@dataclass(frozen=True, slots=True)
class Slot:
    """Where an array is put among the arguments of a call."""

    index: int


@cache
def operation(name: str) -> Any:
    """Find an operation of torch by its full name, such as ``aten::add.Tensor``."""
    namespace, _, rest = name.partition("::")
    packet, _, overload = rest.partition(".")
    return getattr(getattr(getattr(torch.ops, namespace), packet), overload or "default")


@cache
def _exists(name: str) -> bool:
    """Whether torch has an operation of this name."""
    try:
        return operation(name) is not None
    except AttributeError:
        return False


def freeze(value: Any) -> Any:
    """Make a value hashable: lists become tuples."""
    if isinstance(value, torch.ScriptObject):
        message = "an operation takes an object whose values only C++ knows (packed weights of a quantised layer?)"
        raise CannotFollow(message)
    if isinstance(value, (list, tuple)):
        return tuple(freeze(item) for item in value)
    return value


def _filled(value: Any, arrays: Sequence[Tensor]) -> Any:
    if isinstance(value, Slot):
        return arrays[value.index]
    if isinstance(value, tuple):
        return [_filled(item, arrays) for item in value]
    return value


@dataclass(frozen=True, slots=True)
class Half:
    """The real or the imaginary part of complex numbers, in memory of its own: a view keeps both."""

    name: str

    def __call__(self, arrays: Sequence[Tensor]) -> Tensor:
        """Copy it."""
        half: Tensor = getattr(torch, self.name)(arrays[0])
        return half.clone()


@dataclass(frozen=True)
class Aten:
    """An operation of torch by its name, with its other arguments; `part` of what it gives, if that is several."""

    name: str
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...] = ()
    part: int | None = None

    @cached_property
    def _plain(self) -> bool:
        return self.args == tuple(Slot(i) for i in range(len(self.args))) and not self.kwargs

    def __call__(self, arrays: Sequence[Tensor]) -> Any:
        """Call it."""
        if self._plain:
            out = operation(self.name)(*arrays)
        else:
            args = [_filled(value, arrays) for value in self.args]
            out = operation(self.name)(*args, **{key: _filled(value, arrays) for key, value in self.kwargs})
        return out if self.part is None else out[self.part]

    def fresh(self) -> bool:
        """Whether what it gives shares no memory with what it is given."""
        return all(made.alias_info is None for made in operation(self.name)._schema.returns)

    def writing(self) -> "Aten | None":
        """Give the operation that writes the result to its first array, where torch has it."""
        name, dot, overload = self.name.partition(".")
        if self.part is not None or not self.args or self.args[0] != Slot(0) or not _exists(f"{name}_{dot}{overload}"):
            return None
        return Aten(f"{name}_{dot}{overload}", self.args, self.kwargs)

    def symmetric(self) -> bool:
        """Whether two arrays may change places."""
        return self._plain and self.name in {"aten::add.Tensor", "aten::mul.Tensor"}


@dataclass(frozen=True, slots=True)
class Filled:
    """One number everywhere."""

    one: ClassVar[bool] = True
    """Whether a box is one cell in memory."""
    even: ClassVar[bool] = True
    """Whether all boxes are alike."""
    value: Any
    dtype: torch.dtype
    device: torch.device

    def __call__(self, box: Box) -> Tensor:
        """Make a box: a single cell, seen in every place."""
        return torch.full((1,) * len(box), self.value, dtype=self.dtype, device=self.device).expand(extent(box))


@dataclass(frozen=True, slots=True)
class Ramp:
    """The numbers of ``torch.arange``."""

    start: Any
    step: Any
    dtype: torch.dtype
    device: torch.device

    def __call__(self, box: Box) -> Tensor:
        """Make some of them, each as the whole range has it."""
        ((first, stop),) = box
        return torch.arange(self.start, self.start + stop * self.step, self.step, dtype=self.dtype, device=self.device)[
            first:stop
        ]


@dataclass(frozen=True, slots=True)
class Triangle:
    """True on and below (`lower`) or on and above a diagonal of the last two axes."""

    lower: bool
    diagonal: int
    device: torch.device

    def __call__(self, box: Box) -> Tensor:
        """Make a box."""
        (first, last), columns = box[-2:]
        ends = torch.arange(first + self.diagonal, last + self.diagonal, device=self.device)[:, None]
        places = torch.arange(*columns, device=self.device)
        return (places <= ends if self.lower else places >= ends).expand(extent(box))


@dataclass(frozen=True, slots=True)
class Bits:
    """The same bits read as another dtype; where its cells are wider or narrower, those of the last axis change."""

    dtype: torch.dtype

    def __call__(self, arrays: Sequence[Tensor]) -> Tensor:
        """Read them."""
        x = arrays[0]
        return (x if x.element_size() == self.dtype.itemsize else x.contiguous()).view(self.dtype)


@dataclass(frozen=True, slots=True)
class Strided:
    """Cells by their places in memory, for which the array is laid there as it lay when the function was followed."""

    lies: tuple[int, ...]
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int

    def __call__(self, arrays: Sequence[Tensor]) -> Tensor:
        """Lay it, and take them."""
        x = arrays[0]
        if x.stride() != self.lies:
            x = torch.empty_strided(x.shape, self.lies, dtype=x.dtype, device=x.device).copy_(x)
        return x.as_strided(self.sizes, self.strides, x.storage_offset() + self.offset)


@dataclass(frozen=True, slots=True)
class Linear:
    """Rows times a matrix whose transpose is the weight of a linear layer, with a bias if there is one."""

    def __call__(self, arrays: Sequence[Tensor]) -> Tensor:
        """Multiply."""
        return F.linear(arrays[0], arrays[1].mT, *arrays[2:])


@dataclass(frozen=True, slots=True)
class Distances:
    """Distances of rows from rows, of which the second ones are given as columns."""

    call: Aten

    def __call__(self, arrays: Sequence[Tensor]) -> Any:
        """Measure them."""
        return self.call((arrays[0], arrays[1].mT))


@dataclass(frozen=True, slots=True)
class TimesEach:
    """One matrix times many, which are read as they lie: windows that overlap are not copied."""

    @property
    def plain(self) -> "Aten":
        """Torch's own call, which copies windows that overlap."""
        return Aten("aten::matmul.", (Slot(0), Slot(1)))

    def scratch(self, made: Shape, size: int) -> int:
        """Count what is taken beside the result: nothing."""
        del made, size
        return 0

    def __call__(self, arrays: Sequence[Tensor]) -> Tensor:
        """Multiply."""
        matrix, x = arrays
        made = x.new_empty((*x.shape[:-2], matrix.shape[0], x.shape[-1]))
        for at in product(*(range(n) for n in x.shape[:-3])):
            torch.bmm(matrix.expand(x.shape[-3], *matrix.shape), x[at], out=made[at])
        return made


@dataclass(frozen=True)
class RootMeanSquare:
    """
    Each position over its root mean square, and times a weight if there is one; sums in float32 at least.

    On a processor, where torch makes a wide copy, a square and a wide result, in pieces, and without a square.
    """

    channels: int
    epsilon: float
    weighted: bool

    def __call__(self, arrays: Sequence[Tensor]) -> Tensor:
        """Normalise."""
        x, *weight = arrays
        if x.device.type != "cpu":
            return F.rms_norm(x, (self.channels,), weight[0] if weight else None, self.epsilon)
        made = torch.empty_like(x)
        count = small_pieces(x.numel(), max(x.shape[:-1]))
        axis = max((a for a, n in enumerate(x.shape[:-1]) if n >= count), key=made.stride)
        for part, out in zip(x.tensor_split(count, axis), made.tensor_split(count, axis), strict=True):
            self._into(out, part, *weight)
        return made

    def _into(self, out: Tensor, x: Tensor, weight: Tensor | None = None) -> None:
        narrow = x.element_size() < 4
        wide = x.float() if narrow else x
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = (norm * norm).div_(self.channels).add_(self.epsilon).rsqrt_()
        held = wide.mul_(scale) if narrow else torch.mul(wide, scale, out=out)
        if weight is not None:
            held.mul_(weight)
        if narrow:
            out.copy_(held)

    @property
    def plain(self) -> Aten:
        """Torch's own call."""
        weight = Slot(1) if self.weighted else None
        return Aten("aten::rms_norm.", (Slot(0), (self.channels,), weight, self.epsilon))

    def scratch(self, made: Shape, size: int) -> int:
        """Count the bytes beside what is made, in numbers of `size` bytes."""
        n, rows = math.prod(made), math.prod(made[:-1])
        count = small_pieces(n, max(made[:-1]))
        share = max(-(-m // count) / m for m in made[:-1] if m >= count)
        return int(share * (4 * n * (size < 4) + 2 * max(size, 4) * rows))


@dataclass(frozen=True, slots=True)
class Attend:
    """Scaled dot-product attention of some rows of the query."""

    causal: bool
    scale: float | None
    grouped: bool

    def __call__(self, arrays: Sequence[Tensor], rows: tuple[int, int]) -> Tensor:
        """Attend; a causal mask is made for these rows."""
        # fused kernels ask for channels that lie together, and without them every score is made
        query, key, value = (x if x.stride(-1) == 1 else x.contiguous() for x in arrays[:3])
        masks = arrays[3:]
        mask = masks[0] if masks else None
        if self.causal:
            seen = torch.arange(*rows, device=query.device)[:, None] >= torch.arange(key.shape[2], device=query.device)
            mask = seen if mask is None else mask.masked_fill(~seen, -torch.inf)
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=self.scale, enable_gqa=self.grouped
        )


Call = Callable[..., Any]
