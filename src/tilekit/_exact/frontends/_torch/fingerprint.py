"""Whether a function is still the one that was traced: its modules, their plain options, the state of autocast."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Module
from torch.nn.modules import module as _modules
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

from tilekit._exact.frontends._torch.captured import Captured, Path, children, of_class, own_children, resolve
from tilekit._exact.frontends._torch.surroundings import LONGEST, PLAIN, Surroundings, fact

__all__ = ["Fingerprint"]

_TABLES = (dict, OrderedDict, list)


Shared = dict[type, dict[Any, Any]]
"""What is known of the classes of modules, which many modules of a network have in common."""


def _facts(thing: Any, without: frozenset[Any], shared: Shared) -> dict[Any, Any]:
    if isinstance(thing, Module):
        return _facts_of_module(thing, without, shared)
    if isinstance(thing, (list, dict, tuple)) and not 0 < len(thing) <= LONGEST:
        return {}
    return {step: fact(value) for step, value in children(thing) if step[1] not in without}


def _facts_of_module(module: Module, without: frozenset[Any], shared: Shared) -> dict[Any, Any]:
    kind = type(module)
    if kind not in shared:
        shared[kind] = {step: fact(value) for step, value in of_class(kind)}
        shared[kind]["class", "forward"] = fact(getattr(kind, "forward", None))  # of torch's own classes too
    facts = {step: fact(value) for step, value in own_children(module)} | shared[kind]
    if without:
        facts = {step: fact for step, fact in facts.items() if step[1] not in without}
    facts["attribute", "training"] = module.training
    return facts


def _of_torch(device: torch.device) -> Any:
    """
    Give what decides what torch does with a function.

    Autocast and `torch.set_default_dtype`, the hooks of all modules, what stands in `torch.nn.functional`, where users
    put attention of their own, and what intercepts calls, such as ``with torch.device(...)``.
    """
    kind = device.type
    hooks = (_modules._global_forward_hooks, _modules._global_forward_pre_hooks)
    return (
        torch.is_autocast_enabled(kind),
        torch.get_autocast_dtype(kind),
        torch.get_default_dtype(),
        *(tuple(table.items()) for table in hooks),
        tuple(vars(F).values()),
        tuple(mode.device if type(mode) is DeviceContext else mode for mode in _get_current_function_mode_stack()),
    )


@dataclass(frozen=True, slots=True)
class _Row:
    """One thing that is compared."""

    parent: int
    """The row of what holds it."""
    step: Path
    """Leads from there to it; none for the function itself."""
    kind: type
    facts: dict[Any, Any]
    without: frozenset[Any]
    """What the function writes itself."""


class Fingerprint:
    """
    What the trace relied on beside the input's shape and dtype.

    Modules that the call ran or took weights from are compared, everything between them and the function, and what
    their code names of what lies around; the rest of a pipeline is not.
    """

    def __init__(
        self,
        captured: Captured,
        used: Iterable[Path],
        written: dict[int, frozenset[Any]],
        device: torch.device,
    ) -> None:
        self.function, self.device = captured.function, device
        self.torch = _of_torch(device)
        self.known: dict[Path, Tensor] = {}
        self._rows: list[_Row] = []
        shared: Shared = {}
        self._places: dict[Path, int] = {}
        for path in used:
            for i in range(len(path) + 1):
                self._add(path[:i], written, shared)
        self._around = Surroundings([resolve(self.function, path) for path in self._places], written)

    def _add(self, path: Path, written: dict[int, frozenset[Any]], shared: Shared) -> None:
        if path in self._places:
            return
        thing = resolve(self.function, path)
        if isinstance(thing, (Tensor, *PLAIN)):
            return
        without = written.get(id(thing), frozenset())
        self._places[path] = len(self._rows)
        parent = self._places[path[:-1]] if path else 0
        self._rows.append(_Row(parent, path[-1:], type(thing), _facts(thing, without, shared), without))

    def current(self, read: Callable[[Path], Tensor]) -> bool:
        """Whether all is as it was."""
        if _of_torch(self.device) != self.torch:
            return False
        try:
            return self._holds() and all(torch.equal(read(path), value) for path, value in self.known.items())
        except (LookupError, AttributeError, TypeError, ValueError):
            return False

    def _holds(self) -> bool:
        """Compare everything; what holds a thing comes before it."""
        things: list[Any] = []
        shared: Shared = {}
        for row in self._rows:
            thing = resolve(things[row.parent], row.step) if row.step else self.function
            if type(thing) is not row.kind:
                return False
            things.append(thing)
            if row.kind in _TABLES and not thing and not row.facts:  # such as the hooks of most modules
                continue
            if _facts(thing, row.without, shared) != row.facts:
                return False
        return self._around.hold(things)
