"""A network said by hand, as `tilekit.exact` takes it."""

from collections.abc import Callable, Collection, Mapping, Sequence

from tilekit._errors import PlanError, TraceError
from tilekit._exact.boxes import full
from tilekit._exact.builder import GraphBuilder, Value
from tilekit._exact.frontends import Traced
from tilekit._exact.graph import Graph
from tilekit._exact.kernels import kernels_of
from tilekit._exact.kernels._jobs import Job
from tilekit._exact.ops import Constant, Input
from tilekit._exact.tally import Tally
from tilekit._exact.tasks import Task, build_tasks
from tilekit.backends import Array
from tilekit.backends.limits import Limits, limits_of

__all__ = ["GraphFunction", "evaluated"]


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


def _refuse(graph: Graph, wanted: Collection[int], limits: Limits) -> None:
    """Refuse to make some nodes whole where one of them is too large for the device."""
    if not limits.any:
        return
    tally = Tally(limits)
    for index in wanted:
        node = graph.nodes[index]
        if not isinstance(node.op, Constant | Input):
            shapes, whole = graph.shapes(node), full(node.shape)
            tally.made(node, Job(node.op, node.shape, shapes, whole, tuple(map(full, shapes)), node.dtype))
    if tally.over > 1:
        msg = f"statistics cannot be estimated: {tally.what}; take a smaller tile, or norm='exact'"
        raise PlanError(msg)


def evaluated(
    traced: Traced, x: Array, wanted: Collection[int], known: Mapping[int, Array] | None = None
) -> dict[int, Array]:
    """
    Give some nodes of a graph, made plainly, every array whole; what nothing reads any more goes.

    Nodes that are `known` are taken as they are given. What the device gets wrong is refused before anything runs.
    """
    graph, kernels, known = traced.graph, kernels_of(x), known or {}
    needed = set(wanted)
    for node in reversed(graph.nodes):
        if node.index in needed and node.index not in known:
            needed.update(node.inputs)
    _refuse(graph, {index for index in needed if index not in known}, limits_of(x))
    readers = {index: sum(user in needed and user not in known for user in graph.users[index]) for index in needed}
    there: dict[int, Array] = {graph.input: x, **known}
    with kernels.computing():
        for index in sorted(needed):
            node = graph.nodes[index]
            if index in known:
                continue
            if isinstance(node.op, Constant):
                there[index] = traced.constants(node.op.key)
            elif not isinstance(node.op, Input):
                shapes, whole = graph.shapes(node), full(node.shape)
                there[index] = kernels.run(
                    node, shapes, whole, tuple(full(shape) for shape in shapes), [there[i] for i in node.inputs]
                )
            for source in dict.fromkeys(node.inputs):
                readers[source] -= 1
                if not readers[source] and source not in wanted:
                    del there[source]
    return {index: kernels.handed(there[index]) for index in wanted}
