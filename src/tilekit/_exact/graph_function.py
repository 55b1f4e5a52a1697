"""A network said by hand, as `tilekit.exact` takes it."""

from collections.abc import Callable, Sequence

from tilekit._errors import TraceError
from tilekit._exact.builder import GraphBuilder, Value
from tilekit._exact.evaluate import evaluated
from tilekit._exact.frontends import Traced
from tilekit._exact.kernels import kernels_of
from tilekit._exact.tasks import Task, build_tasks
from tilekit.backends import Array

__all__ = ["GraphFunction"]


class GraphFunction:
    """
    A network said by hand, for `tilekit.exact`.

    Parameters
    ----------
    build : callable
        Of a `GraphBuilder` and the input (a `Value`, of any shape); gives the output, another `Value`. It is called
        once for each shape, and computes nothing.

    Examples
    --------
    >>> import numpy as np, tilekit
    >>> weight = np.random.default_rng(0).normal(size=(3, 4, 3, 3)).astype(np.float32)
    >>> def build(b, z):
    ...     z = b.upsample(z, 2, axes=(2, 3))
    ...     z = b.conv(z, weight, padding=1, name="conv")
    ...     return b.pointwise(np.tanh, z)
    >>> network = tilekit.GraphFunction(build)
    >>> decode = tilekit.exact(network)
    >>> z = np.random.default_rng(1).normal(size=(1, 4, 32, 32)).astype(np.float32)
    >>> bool(np.allclose(decode(z), network(z), atol=1e-5))
    True
    """

    def __init__(self, build: Callable[[GraphBuilder, Value], Value]) -> None:
        self.build = build

    @classmethod
    def from_tasks(
        cls, tasks: Sequence[Task], *, axes: Sequence[int] = (2, 3), channel_axis: int = 1
    ) -> "GraphFunction":
        """
        Take a list of tasks of `tilekit.norms`.

        Parameters
        ----------
        tasks : sequence of Task
            `Apply`, `Norm`, `Store`, `Shortcut`, `Add` and `Attention`, in order.
        axes : sequence of int
            The axes that may be cut; rows and columns of (B, C, H, W) by default.
        channel_axis : int
            Where the channels are.

        Returns
        -------
        GraphFunction
            The same network.

        Raises
        ------
        PlanError
            When it is called or planned, if a task does not fit what was stored before it.
        """
        return cls(lambda b, x: build_tasks(b, x, tasks, tuple(axes), channel_axis))

    def trace(self, x: Array) -> Traced:
        """Build the graph for arrays like `x`."""
        builder = GraphBuilder()
        source = builder.input(x.shape, kernels_of(x).dtype_name(x))
        output: object = self.build(builder, source)
        if not isinstance(output, Value):
            msg = f"build: gave {type(output).__name__}, expected the Value of the output"
            raise TraceError(msg)
        return builder.traced(source, output)

    def __call__(self, x: Array) -> Array:
        """Evaluate the network plainly, every array whole."""
        traced = self.trace(x)
        return evaluated(traced, x, {traced.graph.output})[traced.graph.output]
