"""`exact`: a function whose result equals that of a plain call, in the memory there is."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import Any, Literal

from tilekit._errors import PlanError
from tilekit._exact.frontends import Traced
from tilekit._exact.goals import plain_work
from tilekit._exact.inputs import check_input, checked_budget, checked_shape, example
from tilekit._exact.kernels import Kernels, kernels_of
from tilekit._exact.plan import ExactPlan, checked_plan, plan_of
from tilekit._exact.program import Program, program_of
from tilekit._exact.run import Call, run, stream
from tilekit._exact.search import search
from tilekit._exact.sources.call import Caller, Plans, asked
from tilekit._exact.stages import plain
from tilekit._exact.strips.call import Divided, joined
from tilekit._exact.strips.choose import plans_of
from tilekit._exact.strips.group import Strips
from tilekit._exact.strips.run import run as run_strip
from tilekit._exact.strips.run import stream as stream_strip
from tilekit._exact.trace import is_stand_in, refuse_input, trace
from tilekit._exact.trials import Choice
from tilekit._progress import Progress, checked_progress, progress_of
from tilekit.backends import Array, canary
from tilekit.backends.canary import Sizes
from tilekit.backends.limits import limits_of

__all__ = ["Exact", "exact"]

Offload = Literal["host", "disk"]
SMALL = 1 << 24
"""Bytes of a plain call up to which nothing is cut without a budget: strips of so little pay for their calls."""
KEPT = 8
"""Plans that are kept, the newest; those of long clips take memory."""
Function = Any  # checked to be callable


@dataclass(frozen=True, slots=True)
class _Planned:
    """What is kept between calls; no array of a call is."""

    traced: Traced
    plan: ExactPlan
    program: Program
    sizes: Sizes
    """The largest arrays, for the canary."""


def exact(
    function: Function, memory_bytes: int | None = None, *, offload: Offload | None = None, progress: Progress = None
) -> "Exact":
    """
    Make a function exact in little memory: no seams, whatever the size.

    The function is followed once for each shape, to a graph of array operations. Each operation knows which box of its
    inputs makes a box of its output, so boxes of the result are pulled step by step, and what a step has made is kept
    as far as later ones need it. What is not understood runs whole: then the result is right as well, but less is
    saved.

    Parameters
    ----------
    function : callable
        Of one array, which gives one array (or an object that holds one, such as diffusers' ``DecoderOutput``): a
        module, a method (``vae.decode``) or a plain function of torch, MLX or JAX. It must be a function of its input
        and its weights alone. Weights are read when they are used.
    memory_bytes : int, optional
        What live arrays may take at the peak: the result included for a call, one block of it for a stream; the input
        and the weights are not. Left out: about half of a plain call, or as near to that as it can
        be without making anything twice; what takes up to 16 MiB in all is not cut then, unless it is streamed.
        Where nothing takes less than a plain call, a function of torch is called as it is.
    offload : {"host", "disk"}, optional
        Where arrays may wait that later stages read, if the device is too small for them.
    progress : bool or callable, optional
        True for a bar, a callable for (finished steps, all steps). What it raises ends the call.

    Returns
    -------
    Exact
        Called like the function.

    Raises
    ------
    PlanError
        If `memory_bytes` is not a positive integer, or `offload` is no such place. Where no plan meets the budget, the
        call raises this.

    Examples
    --------
    >>> import torch, tilekit
    >>> decoder = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(8, 3, 3))
    >>> decode = tilekit.exact(decoder)
    >>> z = torch.randn(1, 4, 64, 64)
    >>> bool(torch.allclose(decode(z), decoder(z), atol=1e-5))
    True
    >>> decode.plan((1, 4, 64, 64)).work
    1.0
    """
    return Exact(function, memory_bytes, offload=offload, progress=progress)


class Exact:
    """
    A function, evaluated exactly in little memory. Made by `exact`.

    One object may be called from several threads: nothing of a call is kept in it but its plan.

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
        if not callable(function):
            msg = f"function: expected something to call with an array, got {type(function).__name__}"
            raise PlanError(msg)
        self.function = function
        self.memory_bytes = checked_budget(memory_bytes)
        if offload not in {None, "host", "disk"}:
            msg = f"offload: got {offload!r}, expected 'host', 'disk' or None"
            raise PlanError(msg)
        self.offload = offload
        self.progress = checked_progress(progress)
        self._uncut = SMALL
        self._planned: dict[Any, _Planned] = {}
        self._divided: dict[Any, Divided] = {}
        self._sources = Plans.none()
        self._lock = Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Leave plans behind: those of a copy must read the weights of the copy."""
        return {**vars(self), "_planned": {}, "_divided": {}, "_sources": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the rest over, with a lock of its own."""
        vars(self).update(state, _sources=Plans.none(), _lock=Lock())

    def __call__(self, x: Array, *, plan: ExactPlan | None = None, strips: Strips | None = None) -> Any:
        """
        Evaluate the function.

        Parameters
        ----------
        x : array
            Its input.
        plan : ExactPlan, optional
            How; made by `plan`, here or elsewhere, for the same function and shape.
        strips : Strips, optional
            The ranks that make the result together, each within `memory_bytes`; all of them make this call.

        Returns
        -------
        array
            What the function gives, but for rounding. With `strips` the `Strip` of this rank; where they gather, the
            whole result on rank 0 and None on the others.

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
        if is_stand_in(x):  # within another exact call: the plain one is meant
            return self.function(x)
        if strips is not None:
            divided = self._divide(x, plan, strips, stream=False)
            with joined(divided, x, strips, stream=False) as held, self._told(held.program) as told:
                return run_strip(held, told)
        call = self._call(x, plan, stream=False)
        with self._told(call.program) as told:
            return run(call, told)

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
            Its input, or the parts of it.
        plan : ExactPlan, optional
            How; made by ``plan(..., stream=True)``.
        strips : Strips, optional
            The ranks that make the result together; all of them take the same blocks.
        axis : int, optional
            The axis of the input along which parts follow one another; an array is one part. The plan is then for
            inputs of any length.
        lengths : range, optional
            The numbers of rows that the function takes, such as ``range(1, 10**9, 8)``; any by default. A source
            that ends at another is refused at its end.
        rows : int, optional
            Rows of the input that a step reads anew, where `axis` is given; chosen by the budget, or by the size of
            arrays, by default.

        Yields
        ------
        start : int
            The first row (frame) of the block, along the axis of the plan.
        block : array
            Rows of the result, in order; yours to change. With `strips` the `Strip` of this rank; where they gather,
            whole blocks on rank 0 and none on the others.

        Raises
        ------
        InputError, PlanError, RankError, TraceError
            As for a call; also where parts do not fit together, where a source ends at a length that the function does
            not take, and where the function does not do the same all along `axis`.

        Examples
        --------
        >>> import torch, tilekit
        >>> smooth = torch.nn.Sequential(torch.nn.Conv1d(1, 4, 9, padding=4), torch.nn.Tanh(), torch.nn.Conv1d(4, 1, 9))
        >>> sound = torch.randn(1, 1, 1000)
        >>> parts = (sound[:, :, k : k + 70] for k in range(0, 1000, 70))
        >>> blocks = [block for start, block in tilekit.exact(smooth).stream(parts, axis=2, rows=64)]
        >>> bool(torch.allclose(torch.cat(blocks, 2), smooth(sound), atol=1e-6))
        True
        """
        source = asked(x, axis, lengths, rows)
        if source is not None:
            if plan is not None or strips is not None:
                msg = "stream: a source of parts takes no plan= and no strips=; give the whole input for these"
                raise PlanError(msg)
            refuse = partial(refuse_input, self.function)
            caller = Caller(self._follow, self.memory_bytes, self.progress, self, refuse)
            yield from self._sources.stream(x, source, caller)
            return
        if strips is not None:
            divided = self._divide(x, plan, strips, stream=True)
            with joined(divided, x, strips, stream=True) as held, self._told(held.program) as tell:
                yield from stream_strip(held, divided.plans.axis, tell)
            return
        call = self._call(x, plan, stream=True)
        with self._told(call.program) as tell:
            yield from stream(call, call.axis if plan is None else plan.axis, tell)

    def plan(self, x: Array | Sequence[int], *, like: Array | None = None, stream: bool = False) -> ExactPlan:
        """
        Say what a call will do and take, without doing it.

        Parameters
        ----------
        x : array or sequence of int
            The input, or its shape.
        like : array, optional
            Says the library, dtype and device of the input where only its shape is given. Left out: those of the
            weights of the function.
        stream : bool
            Plan `stream` instead of a call.

        Returns
        -------
        ExactPlan
            Prints as a table.

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

    def _call(self, x: Array, plan: ExactPlan | None, *, stream: bool) -> Call:
        kernels = kernels_of(x)
        refuse_input(self.function, x)
        check_input(x, kernels)
        planned = self._plan(x, stream=stream)
        canary.check(x, planned.sizes)
        program, traced = planned.program, planned.traced
        if plan is not None and plan != planned.plan:
            program = program_of(checked_plan(plan, traced.graph, itself=traced.itself), plan.stages, anew=plan.anew)
        apart = partial(program_of, traced.graph, plain(traced.graph)) if (plan or planned.plan).itself else None
        return Call(program, kernels, x, traced.constants, planned.plan.axis, apart)

    def _told(self, program: Program) -> AbstractContextManager[Callable[[int], object]]:
        return progress_of(self.progress, program.n_steps, "exact")

    def _divide(self, x: Array, plan: ExactPlan | None, strips: Strips, *, stream: bool) -> Divided:
        """Plan for ranks."""
        kernels = kernels_of(x)
        refuse_input(self.function, x)
        check_input(x, kernels)
        key = (
            *_key(x, kernels, stream=stream),
            strips.size,
            strips.grid,
            (plan.stages, plan.handed) if isinstance(plan, ExactPlan) else plan,
        )
        held = self._divided.get(key)
        if held is None or not held.traced.current():
            traced = self._traced(x, key[:-3])
            plans = plans_of(
                traced.graph if plan is None else checked_plan(plan, traced.graph),
                strips.size,
                self.memory_bytes,
                kernels.scratch,
                limits=limits_of(x),
                spill=self.offload,
                grid=strips.grid,
                stream=stream,
                stages=None if plan is None else plan.stages,
            )
            held = Divided(traced, plans)
            with self._lock:
                self._divided[key] = held
                while len(self._divided) > KEPT:
                    del self._divided[next(iter(self._divided))]
        return held

    def _plan(self, x: Array, *, stream: bool) -> _Planned:
        kernels = kernels_of(x)
        key = _key(x, kernels, stream=stream)
        planned = self._planned.get(key)
        if planned is None or not planned.traced.current():
            traced = self._traced(x, key)
            if planned is not None and planned.traced.graph == traced.graph:  # what changed around it has no effect
                planned = self._planned[key] = replace(planned, traced=traced)
                return planned
            if stream and not traced.graph.nodes[traced.graph.output].shape:
                msg = "stream: the function gives one number, which has no blocks; call it instead"
                raise PlanError(msg)
            if traced.unknown and self.memory_bytes is not None:
                msg = f"memory_bytes: no budget can be held: {traced.unknown}; leave memory_bytes out"
                raise PlanError(msg)
            choice = self._choose(traced, kernels, x, stream=stream)
            made = plan_of(traced.graph, choice, stream=stream, notes=traced.notes)
            checked_plan(made, traced.graph, choice.program.graph)
            planned = _Planned(traced, made, choice.program, _sizes(choice))
            with self._lock:
                self._planned[key] = planned
                while len(self._planned) > KEPT:
                    del self._planned[next(iter(self._planned))]
        return planned

    def _choose(self, traced: Traced, kernels: Kernels, x: Array, *, stream: bool) -> Choice:
        """Choose how a graph is evaluated."""
        return search(
            traced.graph,
            self.memory_bytes,
            kernels.scratch,
            plain_scratch=kernels.plain_scratch,
            stream=stream,
            spill=self.offload,
            limits=limits_of(x),
            small=self._uncut,
            itself=traced.itself if self._uncut and not limits_of(x).any else None,
        )

    def _follow(self, x: Array) -> Traced:
        return trace(self.function, x)

    def _traced(self, x: Array, key: tuple[Any, ...]) -> Traced:
        """Follow the function, or take what was found when the other kind of plan was made."""
        other = self._planned.get((*key[:-1], not key[-1]))
        return other.traced if other is not None and other.traced.current() else self._follow(x)


def _key(x: Array, kernels: Kernels, *, stream: bool) -> tuple[Any, ...]:
    return type(x), tuple(x.shape), str(x.dtype), str(kernels.device), limits_of(x), kernels.layout(x), stream


def _sizes(choice: Choice) -> Sizes:
    """Give the largest arrays of a plan, and its work; nothing on devices without limits."""
    counted = choice.counted
    return counted.sizes(int(plain_work(choice.program.graph) * choice.work)) if counted.largest else Sizes()
