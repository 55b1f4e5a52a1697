"""`exact`: a function whose result equals that of a plain call, in the memory there is."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from tilekit._errors import PlanError
from tilekit._exact.compilers import apart, each_apart, uncompiled
from tilekit._exact.frontends import refuse_changed
from tilekit._exact.inputs import check_input, checked_shape, example
from tilekit._exact.kernels import Kernels, kernels_of
from tilekit._exact.plan import ExactPlan, checked_plan
from tilekit._exact.planner import Offload, Planner
from tilekit._exact.program import Program, program_of
from tilekit._exact.run import Call, run, stream
from tilekit._exact.sources.call import Caller
from tilekit._exact.sources.parts import Asked, asked
from tilekit._exact.stages import plain
from tilekit._exact.strips.call import joined
from tilekit._exact.strips.group import Strips
from tilekit._exact.strips.run import run as run_strip
from tilekit._exact.strips.run import stream as stream_strip
from tilekit._exact.trace import is_stand_in, refuse_input
from tilekit._progress import Progress, checked_progress, progress_of
from tilekit.backends import Array, canary

__all__ = ["Exact", "exact"]

Function = Any  # checked to be callable


def exact(
    function: Function, memory_bytes: int | None = None, *, offload: Offload | None = None, progress: Progress = None
) -> "Exact":
    """
    Make a function take less memory and give the same: no tiles to blend, no seams.

    The function is followed once for each shape, to a graph of array operations. Each operation knows which box of its
    inputs makes a box of its output, so the result is made piece by piece, and what a step has made is kept as long as
    later steps read it. What is not understood runs whole: then the result is right as well, but less is saved.

    Parameters
    ----------
    function : callable
        Of one array, of any shape and layout, which gives one array (or an object that holds one, such as diffusers'
        ``DecoderOutput``): a module, a method (``vae.decode``) or a plain function of torch, MLX or JAX, or a
        `GraphFunction`. Its result must depend on its input and its weights alone. Weights are read when they are used.
    memory_bytes : int, optional
        Bytes that live arrays may take at the peak: the result included for a call, one block of it for a stream; the
        input and the weights are not. Left out: about half of a plain call, or as near to that as goes without making
        anything twice; what takes up to 16 MiB in all is not cut then, unless it is streamed. Where nothing takes less
        than a plain call, a function of torch is called as it is.
    offload : {"host", "disk"}, optional
        Where arrays may wait that later stages read, if the device is too small for them.
    progress : bool or callable, optional
        True for a bar, a callable for (finished steps, all steps). What it raises ends the call.

    Returns
    -------
    Exact
        Called like the function, with one array; gives an array of the shape and dtype that the function gives.

    Raises
    ------
    PlanError
        If `function` cannot be called, `memory_bytes` is not a positive integer, `offload` is no such place, or
        `progress` is neither a bool nor a callable. Where no plan meets the budget, the first call of a shape raises
        this, and names the least that one does.

    Examples
    --------
    >>> import torch, tilekit
    >>> decoder = torch.nn.Sequential(
    ...     torch.nn.Conv2d(4, 8, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(8, 3, 3)
    ... )
    >>> decode = tilekit.exact(decoder)
    >>> z = torch.randn(1, 4, 64, 64)
    >>> bool(torch.allclose(decode(z), decoder(z), atol=1e-5))
    True
    >>> decode.plan((1, 4, 64, 64)).work
    1.0
    """
    return Exact(function, memory_bytes, offload=offload, progress=progress)


class Exact(Planner):
    """
    A function, evaluated exactly in little memory. Made by `exact`.

    One object may be called from several threads: nothing of a call is kept in it but its plan. While a function of
    torch is followed, at the first call of each shape, its modules hold stand-ins for their weights: exact calls of
    other threads wait for that, but plain calls of the same modules must not be made beside it.

    Parameters
    ----------
    function : callable
        See `exact`.
    memory_bytes : int, optional
        See `exact`.
    offload : {"host", "disk"}, optional
        See `exact`.
    progress : bool or callable, optional
        See `exact`.
    """

    def __init__(
        self,
        function: Function,
        memory_bytes: int | None = None,
        *,
        offload: Offload | None = None,
        progress: Progress = None,
    ) -> None:
        super().__init__(function, memory_bytes, offload)
        self.progress = checked_progress(progress)

    @uncompiled
    def __call__(self, x: Array, *, plan: ExactPlan | None = None, strips: Strips | None = None) -> Any:
        """
        Evaluate the function.

        Parameters
        ----------
        x : array
            Its input: of any shape, at least one cell, without NaN and infinity. It is not written to.
        plan : ExactPlan, optional
            How; made by `plan`, here or elsewhere, for the same function, shape and dtype. Made anew where left out.
        strips : Strips, optional
            The ranks that make the result together, each within `memory_bytes`; all of them make this call.

        Returns
        -------
        array
            What the function gives, but for rounding, in the object that it gives it in. With `strips` the `Strip` of
            this rank; where they gather, the whole result on rank 0 and None on the others.

        Raises
        ------
        InputError
            If the input has no cells, or NaN or infinity in it, or if NaN comes out; the text names the layer.
        PlanError
            If no plan meets the budget, or the plan is for something else.
        RankError
            If another rank is gone.
        TraceError
            If the function cannot be followed.
        """
        return apart(self._evaluate)(x, plan, strips)

    @uncompiled
    def stream(  # noqa: PLR0913
        self,
        x: Array | Iterable[Array],
        *,
        plan: ExactPlan | None = None,
        strips: Strips | None = None,
        axis: int | None = None,
        lengths: range | None = None,
        rows: int | None = None,
    ) -> Iterator[tuple[int, Any]]:
        """
        Evaluate the function block by block; the result is never there as a whole.

        With `axis` the input may be a source that is read as it comes: parts that follow one another along that axis,
        of any number of rows each, from a file or another network, until they end. A part is asked for when a step
        needs its rows, and kept as long as they are read; so memory does not grow with the length. The function must do
        the same all along the axis. It is followed at two lengths, and that is proven of their graphs; what looks at
        the whole of an axis (attention, statistics) is refused.

        Parameters
        ----------
        x : array, or iterable of array
            Its input, or, with `axis`, the parts of it: alike in all but their length along that axis.
        plan : ExactPlan, optional
            How; made by ``plan(..., stream=True)``.
        strips : Strips, optional
            The ranks that make the result together; all of them take the same blocks.
        axis : int, optional
            The axis of the input along which parts follow one another, from 0 on; an array is one part. The plan is
            then for inputs of any length.
        lengths : range, optional
            The numbers of rows that the function takes, such as ``range(1, 10**9, 8)``; any by default. A source
            that ends at another is refused at its end.
        rows : int, optional
            Rows of the input that a step reads anew, 1 or more, where `axis` is given; chosen by the budget, or by the
            size of arrays, by default.

        Yields
        ------
        start : int
            The first row (frame) of the block, along the axis of the result that slides (`ExactPlan.axis`).
        block : array
            Rows of the result, in order, of its shape along all other axes; yours to change. With `strips` the `Strip`
            of this rank; where they gather, whole blocks on rank 0 and none on the others.

        Raises
        ------
        InputError, PlanError, RankError, TraceError
            As for a call; also where parts do not fit together, where a source ends at a length that the function does
            not take, and where the function does not do the same all along `axis`.

        Examples
        --------
        >>> import torch, tilekit
        >>> smooth = torch.nn.Sequential(
        ...     torch.nn.Conv1d(1, 4, 9, padding=4), torch.nn.Tanh(), torch.nn.Conv1d(4, 1, 9)
        ... )
        >>> sound = torch.randn(1, 1, 1000)
        >>> parts = (sound[:, :, k : k + 70] for k in range(0, 1000, 70))
        >>> stream = tilekit.exact(smooth).stream(parts, axis=2, rows=64)
        >>> blocks = [block for start, block in stream]
        >>> bool(torch.allclose(torch.cat(blocks, 2), smooth(sound), atol=1e-6))
        True
        """
        source = asked(x, axis, lengths, rows)
        yield from each_apart(self._blocks(x, source, plan, strips))

    def plan(self, x: Array | Sequence[int], *, like: Array | None = None, stream: bool = False) -> ExactPlan:
        """
        Say what a call will do and take, without doing it.

        Parameters
        ----------
        x : array or sequence of int
            The input, or its shape; the numbers in it are not read.
        like : array, optional
            Says the library, dtype and device of the input where only its shape is given. Left out: those of the
            weights of the function.
        stream : bool
            Plan `stream` instead of a call.

        Returns
        -------
        ExactPlan
            Prints as a table. It is kept, so that a call of this shape does not plan again.

        Raises
        ------
        PlanError
            If no plan meets the budget, or only a shape is given and the function has no weights to go by.
        TraceError
            If the function cannot be followed.
        """
        if not hasattr(x, "shape"):
            x = example(self.function, checked_shape(x), like)
        return self._plan(x, stream=stream).plan

    def __repr__(self) -> str:
        """Name the function and the budget."""
        name = getattr(self.function, "__qualname__", type(self.function).__qualname__)
        return f"<tilekit.exact of {name}, memory_bytes={self.memory_bytes}>"

    def _evaluate(self, x: Array, plan: ExactPlan | None, strips: Strips | None) -> Any:
        if is_stand_in(x):  # within another exact call: the plain one is meant
            return self.function(x)
        if strips is not None:
            self._checked(x)
            divided = self._divide(x, plan, strips, stream=False)
            with joined(divided, x, strips, stream=False) as held, self._told(held.program) as told:
                return run_strip(held, told)
        call = self._call(x, plan, stream=False)
        with self._told(call.program) as told:
            return run(call, told)

    def _blocks(
        self, x: Any, source: Asked | None, plan: ExactPlan | None, strips: Strips | None
    ) -> Generator[tuple[int, Any], None, None]:
        if source is not None:
            if plan is not None or strips is not None:
                msg = "stream: a source of parts takes no plan= and no strips=; give the whole input for these"
                raise PlanError(msg)
            refuse = partial(refuse_input, self.function)
            caller = Caller(self._follow, self.memory_bytes, self.progress, self, refuse)
            yield from self._sources.stream(x, source, caller)
            return
        if strips is not None:
            self._checked(x)
            divided = self._divide(x, plan, strips, stream=True)
            with joined(divided, x, strips, stream=True) as held, self._told(held.program) as tell:
                yield from stream_strip(held, divided.plans.axis, tell)
            return
        call = self._call(x, plan, stream=True)
        changed = call.watch(x)
        with self._told(call.program) as tell:
            for block in stream(call, call.axis if plan is None else plan.axis, tell):
                refuse_changed(changed)
                yield block

    def _call(self, x: Array, plan: ExactPlan | None, *, stream: bool) -> Call:
        kernels = self._checked(x)
        planned = self._plan(x, stream=stream)
        canary.check(x, planned.sizes)
        program, traced = planned.program, planned.traced
        if plan is not None and plan != planned.plan:
            program = program_of(checked_plan(plan, traced.graph, itself=traced.itself), plan.stages, anew=plan.anew)
        whole = partial(program_of, traced.graph, plain(traced.graph)) if (plan or planned.plan).itself else None
        return Call(program, kernels, x, traced.constants, planned.plan.axis, whole, traced.watch)

    def _checked(self, x: Array) -> Kernels:
        """Refuse an input that cannot be computed with; give what computes with it."""
        refuse_input(self.function, x)
        kernels = kernels_of(x)
        check_input(x, kernels)
        return kernels

    def _told(self, program: Program) -> AbstractContextManager[Callable[[int], object]]:
        return progress_of(self.progress, program.n_steps, "exact")
