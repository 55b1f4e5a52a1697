"""The weights of a trace: stand-ins while it is made, live arrays when it is used."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import Module

from tilekit._exact.frontends._torch.captured import Captured, Path, Place, dotted, resolve
from tilekit._exact.frontends._torch.offload import brought, bypasses, compute_dtype, hooked, moved
from tilekit._exact.frontends._torch.refusals import kind_of_weight, refuse
from tilekit._exact.frontends._torch.state import surely

__all__ = ["Literal", "Reader", "StandIns"]


@dataclass(frozen=True, slots=True)
class Literal:
    """The key of an array that the function made of plain numbers; its place among the literals of the trace."""

    index: int


class StandIns:
    """
    One fake tensor for each place in which the function finds a weight.

    Weights that are tied have one for each place, so that it is known through which of them they were read.
    """

    def __init__(
        self, captured: Captured, fake: FakeTensorMode, device: torch.device, remembered: Sequence[Tensor] = ()
    ) -> None:
        self.captured = captured
        self._hollow = {id(tensor) for tensor in remembered}
        self.odd: list[tuple[Place, str]] = []
        """Tensors that are no plain ones, and what they are; they stay where they are."""
        self.places: list[Place] = []
        self.tensors: list[Tensor] = []
        for place in captured.places:
            kind = kind_of_weight(place.tensor)
            if kind:
                self.odd.append((place, kind))
            elif _store(place) is not None:
                self.places.append(place)
                self.tensors.append(self._make(place, fake, device))

    def _make(self, place: Place, fake: FakeTensorMode, device: torch.device) -> Tensor:
        x = place.tensor.detach()
        dtype = compute_dtype(place.holder) if x.is_floating_point() else None
        away = x.device != device and isinstance(place.holder, Module) and moved(self.captured.function, place.path)
        if away or dtype is not None or id(place.tensor) in self._hollow:
            with fake:
                return torch.empty_strided(x.shape, x.stride(), dtype=dtype or x.dtype, device=device)
        return fake.from_tensor(x)

    @contextmanager
    def put(self, tensors: Sequence[Tensor]) -> Iterator[None]:
        """Let the function find these tensors; hooks that bring weights are passed by. The caller puts all back."""
        replaced: list[tuple[Any, str, Any]] = []

        def put_back() -> None:
            for holder, name, value in reversed(replaced):
                vars(holder)[name] = value

        try:
            for module in self.captured.modules:
                for holder, name, value in bypasses(module):
                    replaced.append((holder, name, vars(holder)[name]))
                    vars(holder)[name] = value
            for place, tensor in zip(self.places, tensors, strict=True):
                store = _store(place)
                assert store is not None  # only such places have a stand-in
                store[place.path[-1][1]] = tensor
            yield
        finally:
            surely(put_back)


def _store(place: Place) -> Any:
    """Give the dict or list in which a tensor can be replaced."""
    kind, key = place.path[-1] if place.path else ("", None)
    if kind in {"_parameters", "_buffers"}:
        return getattr(place.holder, kind)
    if kind == "attribute" and key in getattr(place.holder, "__dict__", ()):
        return vars(place.holder)
    return place.holder if kind == "item" and isinstance(place.holder, (list, dict)) else None


class Reader:
    """
    Looks a constant up in the function as it is now, and gives it on the device of the input.

    A weight is read anew each time; which module holds it is looked up once a call, since every step reads weights.

    Parameters
    ----------
    function : callable
        That was traced.
    literals : sequence of tensor
        The arrays that it made of plain numbers.
    device : torch.device
        Of the input.
    """

    def __init__(self, function: Any, literals: Sequence[Tensor], device: torch.device) -> None:
        self._function, self._literals, self._device = function, literals, device
        self._stores: dict[Path, Any] = {}

    def forget(self) -> None:
        """Look the modules up again: a call begins."""
        self._stores.clear()

    def __call__(self, key: Any) -> Tensor:
        """Give the array of a key."""
        if isinstance(key, Literal):
            return self._literals[key.index]
        try:
            store = self._stores.get(key)
            x = self._find(key) if store is None else store[key[-1][1]]
        except (LookupError, AttributeError, TypeError) as error:
            text = f"the weight {dotted(key)} is no longer there ({type(error).__name__}: {error})"
            raise refuse(self._function, text, "call it again, so that it is traced anew", error) from error
        return _checked(self._function, key, x, self._device)

    def _find(self, key: Path) -> Tensor:
        """Follow the path, and remember what holds the tensor if no hook brings it from elsewhere."""
        x: Tensor = resolve(self._function, key)
        if hooked(self._function, key):
            return brought(self._function, key, x)
        kind = key[-1][0] if key else ""
        if kind in {"_parameters", "_buffers"}:
            self._stores[key] = getattr(resolve(self._function, key[:-1]), kind)
        return x


def _checked(function: Any, key: Path, x: Tensor, device: torch.device) -> Tensor:
    kind = kind_of_weight(x)
    if kind:
        raise refuse(
            function,
            f"the weight {dotted(key)} is {kind}, whose values only its own operations know",
            "load the network without quantisation or sharding, or call the function plainly",
        )
    if x.device.type == "meta":
        raise refuse(
            function,
            f"the weight {dotted(key)} is on the meta device: its values are elsewhere",
            "load them, or remove the hooks that keep them (accelerate.hooks.remove_hook_from_module, recurse=True)",
        )
    return x.detach() if x.device == device else x.detach().to(device)
