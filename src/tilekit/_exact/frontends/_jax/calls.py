"""The calls of JAX that a graph's operations make: hashable, equal where they do the same, arrays handed in later."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tilekit._exact.boxes import Box
from tilekit._exact.kernels._jax_views import Pure, resolved

__all__ = ["Bound", "Product", "Ramp", "Rows", "bound"]


@dataclass(frozen=True, slots=True)
class Bound(Pure):
    """A primitive of JAX with its parameters."""

    name: str
    text: str
    """The parameters as text, by which calls are compared."""
    primitive: Any = field(compare=False, repr=False)
    parameters: Any = field(compare=False, repr=False)
    spread: bool = False
    """Whether arrays are broadcast first: primitives ask for equal shapes."""
    part: int | None = None
    """Which of several results is meant."""
    literals: tuple[tuple[int, str, bytes], ...] = ()
    """Numbers among the arguments: the place, the dtype, the bits."""

    def __call__(self, arrays: Sequence[Any]) -> Any:
        """Bind the primitive."""
        given = [resolved(x) for x in arrays]
        for place, dtype, bits in self.literals:
            given.insert(place, jnp.asarray(np.frombuffer(bits, jnp.dtype(dtype))[0]))
        if self.spread and len(given) > 1:
            shape = jnp.broadcast_shapes(*(x.shape for x in given))
            given = [jnp.broadcast_to(x, shape) for x in given]
        made = self.primitive.bind(*given, **self.parameters)
        return made if self.part is None else made[self.part]


def bound(primitive: Any, parameters: dict[str, Any], *, spread: bool = False, part: int | None = None) -> Bound:
    """Give the call of a primitive."""
    rows = [f"{key}={_text(value)}" for key, value in sorted(parameters.items())]
    return Bound(primitive.name, ", ".join(rows), primitive, dict(parameters), spread, part)


def _text(value: Any) -> str:
    """Describe a parameter so that what differs reads otherwise: a program in full, its constants by identity."""
    if isinstance(value, (tuple, list)):
        return f"({', '.join(_text(item) for item in value)})"
    consts = getattr(value, "consts", None)
    if consts is not None and hasattr(value, "jaxpr"):
        return f"{value.jaxpr} of {[id(const) for const in consts]}"
    return repr(value) if not hasattr(value, "eqns") else str(value)


@dataclass(frozen=True, slots=True)
class Product(Pure):
    """A product of matrices."""

    text: str
    """The precision as text."""
    precision: Any = field(compare=False, repr=False)
    dtype: str

    def __call__(self, arrays: Sequence[Any]) -> Any:
        """Multiply."""
        left, right = arrays
        precision = self.precision
        if isinstance(precision, lax.DotAlgorithmPreset) and jax.default_backend() == "cpu":
            precision = None  # a processor has one algorithm, and JAX refuses to be told of others
        return jnp.matmul(left, right, precision=precision, preferred_element_type=jnp.dtype(self.dtype))


@dataclass(frozen=True, slots=True)
class Rows(Pure):
    """Cells of one axis by indices; their axes come first."""

    axis: int
    mode: str

    def __call__(self, arrays: Sequence[Any]) -> Any:
        """Take them."""
        source, index = arrays
        made = jnp.take(source, index, axis=self.axis, mode=self.mode)
        lead = index.ndim
        order = [*range(self.axis, self.axis + lead), *range(self.axis), *range(self.axis + lead, made.ndim)]
        return lax.transpose(made, order)


@dataclass(frozen=True, slots=True)
class Ramp:
    """The numbers 0, 1, 2 and so on."""

    dtype: str

    def __call__(self, box: Box) -> jax.Array:
        """Make some of them."""
        ((first, last),) = box
        return jnp.asarray(np.arange(first, last), dtype=jnp.dtype(self.dtype))
