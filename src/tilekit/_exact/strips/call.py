"""From a function that was followed to a call on several ranks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tilekit._errors import PlanError
from tilekit._exact.arrays import Call
from tilekit._exact.frontends import Traced
from tilekit._exact.kernels import Kernels, kernels_of
from tilekit._exact.strips.agree import agree, number_of
from tilekit._exact.strips.array_link import ArrayLink
from tilekit._exact.strips.choose import Plans, sizes_of
from tilekit._exact.strips.group import Strips
from tilekit._exact.strips.run import StripCall
from tilekit._exact.strips.transports import Transport
from tilekit.backends import Array, canary
from tilekit.backends.canary import Sizes
from tilekit.backends.limits import limits_of

__all__ = ["Divided", "joined"]


@dataclass(frozen=True, slots=True)
class Divided:
    """What is kept between calls on several ranks; no array of a call is."""

    traced: Traced
    plans: Plans
    sizes: dict[int, Sizes] = field(default_factory=dict)
    """The largest arrays of each rank that has asked its device, for the canary."""

    def asked(self, x: Array, rank: int, kernels: Kernels, *, stream: bool) -> None:
        """Ask the device of a rank for cases near the sizes of its part."""
        if rank not in self.sizes:
            self.sizes[rank] = sizes_of(self.plans, rank, kernels.scratch, limits_of(x), stream=stream)
        canary.check(x, self.sizes[rank])


def _refuse_far(transport: Transport, plans: Plans) -> None:
    """Refuse borders between ranks that cannot send to each other; all ranks come to the same."""
    for rank in range(transport.size):
        for index in plans.halos.exchanged:
            far = [other for other, _ in plans.halos.pieces(rank, index)[1] if not transport.reaches(rank, other)]
            if far:
                name = plans.program.graph.nodes[index].name or f"operation {index}"
                msg = (
                    f"strips: {name} is exchanged between ranks {far[0]} and {rank}, which are no neighbours in the "
                    f"ring; give grid=(1, {transport.size}), fewer ranks, or a group of another backend"
                )
                raise PlanError(msg)


@contextmanager
def joined(divided: Divided, x: Array, strips: Strips, *, stream: bool) -> Iterator[StripCall]:
    """
    Prepare the call of this rank, and see that the others make the same.

    Where it does not end well, the rank leaves the group, so that no other waits for it.
    """
    kernels, transport, plans = kernels_of(x), strips.transport, divided.plans
    link = ArrayLink(transport, kernels, x)
    graph = plans.program.graph
    _refuse_far(transport, plans)
    if strips.gather:
        plans.refuse_gathered(limits_of(x), stream=stream)
    text = f"{tuple(x.shape)} {x.dtype} {graph.fingerprint} {stream} {strips.gather} {plans.stages}"
    try:
        divided.asked(x, strips.rank, kernels, stream=stream)
        told = ("shape, dtype, network, plan or budget", number_of(text)), ("input", transport.digest(x))
        agree(transport, x, told)
        program = plans.of(strips.rank)
        call = Call(program, kernels, x, divided.traced.constants)
        yield StripCall(call, program, transport, link, strips.gather)
    except BaseException:
        strips.close()
        raise
    finally:
        strips.sent_bytes = link.sent_bytes
