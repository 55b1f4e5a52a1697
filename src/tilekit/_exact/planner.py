"""How a function is evaluated: it is followed and planned where that is first asked for, and the newest plans stay."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from tilekit._errors import PlanError
from tilekit._exact.frontends import Traced
from tilekit._exact.goals import plain_work
from tilekit._exact.inputs import checked_budget
from tilekit._exact.kernels import Kernels, kernels_of
from tilekit._exact.newest import Newest
from tilekit._exact.plan import ExactPlan, checked_plan, plan_of
from tilekit._exact.program import Program
from tilekit._exact.search import search
from tilekit._exact.sources.call import Plans
from tilekit._exact.strips.call import Divided
from tilekit._exact.strips.choose import plans_of
from tilekit._exact.strips.group import Strips
from tilekit._exact.trace import trace
from tilekit._exact.trials import Choice
from tilekit.backends import Array
from tilekit.backends.canary import Sizes
from tilekit.backends.limits import limits_of

__all__ = ["Offload", "Planned", "Planner"]

Offload = Literal["host", "disk"]
SMALL = 1 << 24
"""Bytes of a plain call up to which nothing is cut without a budget: strips of so little pay for their calls."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What is kept between calls; no array of a call is."""

    traced: Traced
    plan: ExactPlan
    program: Program
    sizes: Sizes
    """The largest arrays, for the canary."""


class Planner:
    """
    A function, the memory that its calls may take, and the plans that were made for them.

    Parameters
    ----------
    function : callable
        See `exact`.
    memory_bytes : int or None
        See `exact`.
    offload : {"host", "disk"} or None
        See `exact`.
    """

    def __init__(self, function: Any, memory_bytes: int | None, offload: Offload | None) -> None:
        if not callable(function):
            msg = f"function: expected something to call with an array, got {type(function).__name__}"
            raise PlanError(msg)
        self.function = function
        self.memory_bytes = checked_budget(memory_bytes)
        if offload not in (None, "host", "disk"):  # what cannot be hashed is refused too
            msg = f"offload: got {offload!r}, expected 'host', 'disk' or None"
            raise PlanError(msg)
        self.offload = offload
        self._uncut = SMALL
        self._planned: Newest[Planned] = Newest()
        self._divided: Newest[Divided] = Newest()
        self._sources = Plans(Newest())

    def __getstate__(self) -> dict[str, Any]:
        """Leave plans behind: those of a copy must read the weights of the copy."""
        return {**vars(self), "_planned": Newest(), "_divided": Newest(), "_sources": Plans(Newest())}

    def _plan(self, x: Array, *, stream: bool) -> Planned:
        """Give the plan of a call or a stream; it is made where none that holds is kept."""
        kernels = kernels_of(x)
        key = _key(x, kernels, stream=stream)
        planned = self._planned.get(key)
        if planned is None or not planned.traced.current():
            traced = self._traced(x, key)
            if planned is not None and planned.traced.graph == traced.graph:  # what changed around it has no effect
                planned = replace(planned, traced=traced)
            else:
                planned = self._plan_anew(traced, kernels, x, stream=stream)
            self._planned.add(key, planned)
        return planned

    def _plan_anew(self, traced: Traced, kernels: Kernels, x: Array, *, stream: bool) -> Planned:
        if stream and not traced.graph.nodes[traced.graph.output].shape:
            msg = "stream: the function gives one number, which has no blocks; call it instead"
            raise PlanError(msg)
        if traced.unknown and self.memory_bytes is not None:
            msg = f"memory_bytes: no budget can be held: {traced.unknown}; leave memory_bytes out"
            raise PlanError(msg)
        choice = self._choose(traced, kernels, x, stream=stream)
        made = plan_of(traced.graph, choice, stream=stream, notes=traced.notes)
        checked_plan(made, traced.graph, choice.program.graph)
        return Planned(traced, made, choice.program, _sizes(choice))

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

    def _divide(self, x: Array, plan: ExactPlan | None, strips: Any, *, stream: bool) -> Divided:
        """Give the plans of all ranks."""
        if not isinstance(strips, Strips):
            msg = f"strips: got {type(strips).__name__}, expected tilekit.Strips"
            raise PlanError(msg)
        kernels = kernels_of(x)
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
            self._divided.add(key, held)
        return held

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
