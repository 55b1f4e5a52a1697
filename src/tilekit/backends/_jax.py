"""JAX: arrays cannot be written; every update gives a new one."""

import sys

from tilekit.backends._base import Array, Backend, Place, Region

__all__ = ["JaxBackend"]


class JaxBackend(Backend):
    """Arrays of ``jax``."""

    name = "jax"

    def obstacle(self, x: Array) -> str | None:
        """Say what keeps an array from being cut and blended: a trace, which has no numbers yet."""
        if isinstance(x, sys.modules["jax"].core.Tracer):
            return "a traced array of jax.jit, vmap or grad: it has no numbers yet; jit the function of a tile instead"
        return None

    def is_floating(self, x: Array) -> bool:
        """Whether the numbers are real floating-point ones."""
        numpy = sys.modules["jax"].numpy
        return bool(numpy.issubdtype(x.dtype, numpy.floating))

    def place(self, x: Array) -> Place:
        """Say where an array lives."""
        kind = getattr(x.device, "platform", "cpu")  # the device of an array in several parts is no single one
        return Place(self.name, "cuda" if kind == "gpu" else kind, str(sys.modules["jax"].__version__))

    def copy(self, x: Array) -> Array:
        """Give the array itself, which nobody can write into."""
        return x

    def synchronize(self, x: Array) -> None:
        """Wait until `x` is computed."""
        x.block_until_ready()

    def put(self, out: Array, region: Region, part: Array, source: Region) -> Array:
        """Give `out` with ``out[region] = part[source]``."""
        return out.at[region].set(part[source].astype(out.dtype))

    def blend(  # noqa: PLR0913, PLR0917
        self, out: Array, region: Region, part: Array, source: Region, weight: Array, base: Array | None
    ) -> Array:
        """Give `out` with ``out[region] = base + part[source] * weight``."""
        value = part[source].astype(weight.dtype) * weight
        if base is not None:
            value = (out[region] if base is out else base) + value
        return out.at[region].set(value.astype(out.dtype))
