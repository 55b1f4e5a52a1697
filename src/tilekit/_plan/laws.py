"""
The law of an axis: how latents map to pixels, frames or samples, and back.

A law is declared, never measured from a result: 5 latents that give 33 frames are not a factor of 6.6.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from tilekit._errors import PlanError
from tilekit._plan.spans import Span, checked_integer, is_integer

__all__ = ["Causal", "Law", "Linear", "law_from_json"]


class Law(Protocol):
    """
    How the cells of an axis map between the two sides; write your own class if neither `Linear` nor `Causal` fits.

    ``factor`` is the number of pixel-side cells of one latent, ``causal`` whether spans read one latent of context and
    their rise starts from zero. Planning calls ``map``, ``length`` and ``cells``. It never calls ``unmap``, the
    inverse of ``map``, which is there for callers who start from spans in pixels.
    """

    @property
    def factor(self) -> int:
        """Pixel-side cells of one latent cell, in the middle of the axis."""

    @property
    def causal(self) -> bool:
        """Whether the first latent gives a single cell."""

    def map(self, span: Span, /) -> Span:
        """Give the pixel-side span of a span of latents."""

    def unmap(self, span: Span, /) -> Span:
        """Give the latent span of a pixel-side span."""

    def length(self, cells: int, /) -> int:
        """Give the pixel-side length of an axis of `cells` latents."""

    def cells(self, length: int, /) -> int:
        """Give the latents of an axis of pixel-side `length`; refuse a length off the grid."""


@dataclass(frozen=True, slots=True)
class Linear:
    """
    n latent cells are n * factor cells.

    Parameters
    ----------
    factor : int
        Pixel-side cells of one latent cell, at least 1.

    Raises
    ------
    PlanError
        If the factor is not a positive integer.

    Examples
    --------
    >>> Linear(32).map(Span(2, 5, 1, 0))
    Span(start=64, stop=160, left_ramp=32, right_ramp=0)
    """

    factor: int
    causal: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", _checked_factor(self.factor))

    def map(self, span: Span, /) -> Span:
        """Give the pixel-side span of a span of latents."""
        f = self.factor
        return Span(span.start * f, span.stop * f, span.left_ramp * f, span.right_ramp * f)

    def unmap(self, span: Span, /) -> Span:
        """Give the latent span of a pixel-side span; refuse one off the grid."""
        f = self.factor
        numbers = (span.start, span.stop, span.left_ramp, span.right_ramp)
        if any(n % f for n in numbers):
            msg = f"{span} does not lie on the grid of {self}: every number must be a multiple of {f}"
            raise PlanError(msg)
        return Span(*(n // f for n in numbers))

    def length(self, cells: int, /) -> int:
        """Give the pixel-side length of an axis of `cells` latents."""
        return cells * self.factor

    def cells(self, length: int, /) -> int:
        """Give the latents of an axis of pixel-side `length`; refuse a length off the grid."""
        if length % self.factor:
            msg = f"length must be a multiple of {self.factor}, got {length}"
            raise PlanError(msg)
        return length // self.factor


@dataclass(frozen=True, slots=True)
class Causal:
    """
    n latent cells are 1 + (n - 1) * factor cells: the first latent stands for one cell.

    A left ramp l > 0 becomes 1 + (l - 1) * factor, a right ramp r becomes r * factor, and the rise of a mask starts
    from 0, so that the single cell that a later span makes of its first latent has no weight.

    Parameters
    ----------
    factor : int
        Pixel-side cells of every latent but the first, at least 1.

    Raises
    ------
    PlanError
        If the factor is not a positive integer.

    Notes
    -----
    Source: Lightricks/LTX-2, ``map_temporal_slice``.

    Examples
    --------
    >>> Causal(8).map(Span(4, 9, 4, 0))
    Span(start=32, stop=65, left_ramp=25, right_ramp=0)
    >>> Causal(8).unmap(Span(32, 65, 25, 0))
    Span(start=4, stop=9, left_ramp=4, right_ramp=0)
    """

    factor: int
    causal: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", _checked_factor(self.factor))

    def map(self, span: Span, /) -> Span:
        """Give the pixel-side span of a span of latents."""
        f = self.factor
        left = 1 + (span.left_ramp - 1) * f if span.left_ramp else 0
        return Span(span.start * f, 1 + (span.stop - 1) * f, left, span.right_ramp * f)

    def unmap(self, span: Span, /) -> Span:
        """Give the latent span of a pixel-side span; refuse one off the grid."""
        f = self.factor
        left_off = span.left_ramp > 0 and (span.left_ramp - 1) % f
        if span.start % f or (span.stop - 1) % f or span.right_ramp % f or left_off:
            msg = f"{span} is off the grid of {self}: start and right ramp must be {f}k, stop and left ramp 1 + {f}k"
            raise PlanError(msg)
        left = 1 + (span.left_ramp - 1) // f if span.left_ramp else 0
        return Span(span.start // f, 1 + (span.stop - 1) // f, left, span.right_ramp // f)

    def length(self, cells: int, /) -> int:
        """Give the pixel-side length of an axis of `cells` latents."""
        return 1 + (cells - 1) * self.factor

    def cells(self, length: int, /) -> int:
        """Give the latents of an axis of pixel-side `length`; refuse a length off the grid."""
        if length < 1 or (length - 1) % self.factor:
            msg = f"length must be 1 + {self.factor}k, got {length}"
            raise PlanError(msg)
        return 1 + (length - 1) // self.factor


_LAWS: dict[str, type[Linear] | type[Causal]] = {"linear": Linear, "causal": Causal}


def law_to_json(law: Law) -> list[str | int]:
    """Name and factor of one of the two laws."""
    for name, kind in _LAWS.items():
        if type(law) is kind:
            return [name, law.factor]
    msg = f"only the laws {sorted(_LAWS)} can be written as JSON, got {law!r}"
    raise PlanError(msg)


def law_from_json(value: object) -> Law:
    """Inverse of `law_to_json`."""
    match value:
        case [str(name), int(factor)] if name in _LAWS:
            return _LAWS[name](factor)
    msg = f"a law is one of {sorted(_LAWS)} with a factor, got {value!r}"
    raise PlanError(msg)


def _checked_factor(factor: object) -> int:
    if not is_integer(factor) or checked_integer(factor) < 1:
        msg = f"the factor of an axis must be an integer of at least 1, got {factor!r}"
        raise PlanError(msg)
    return checked_integer(factor)
