"""The weights of a trace: stand-ins while it is made, live arrays when it is used."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import Module

from tilekit._exact.frontends._torch.captured import Captured, Path, Place, dotted
from tilekit._exact.frontends._torch.offload import bypasses, compute_dtype, live, moved
from tilekit._exact.frontends._torch.refusals import kind_of_weight, refuse

__all__ = ["Literal", "StandIns", "reader"]


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
            for holder, name, value in reversed(replaced):
                vars(holder)[name] = value


def _store(place: Place) -> Any:
    """Give the dict or list in which a tensor can be replaced."""
    kind, key = place.path[-1] if place.path else ("", None)
    if kind in {"_parameters", "_buffers"}:
        return getattr(place.holder, kind)
    if kind == "attribute" and key in getattr(place.holder, "__dict__", ()):
        return vars(place.holder)
    return place.holder if kind == "item" and isinstance(place.holder, (list, dict)) else None


def reader(function: Any, literals: Sequence[Tensor], device: torch.device) -> Callable[[Any], Tensor]:
    """Give what looks a constant up: by path in the function as it is now, on the device of the input."""

    def read(key: Any) -> Tensor:
        if isinstance(key, Literal):
            return literals[key.index]
        try:
            x = live(function, key)
        except (LookupError, AttributeError, TypeError) as error:
            text = f"the weight {dotted(key)} is no longer there ({type(error).__name__}: {error})"
            raise refuse(function, text, "call it again, so that it is traced anew", error) from error
        return _checked(function, key, x, device)

    return read


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
