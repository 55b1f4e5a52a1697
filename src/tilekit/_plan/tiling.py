"""A request: a tile size and an overlap for each named axis."""

from dataclasses import dataclass
from math import inf
from typing import Self

from tilekit._errors import PlanError
from tilekit._plan.cut import AxisTiling
from tilekit._plan.fit import fit
from tilekit._plan.forecast import Costs
from tilekit._plan.geometry import Geometry
from tilekit._plan.spans import checked_integer, is_integer

__all__ = ["Tiling"]


@dataclass(frozen=True, init=False, slots=True)
class Tiling:
    """
    Tile sizes and overlaps by the names of a geometry's axes.

    Parameters
    ----------
    uniform : bool
        Make all tiles of an axis the same size, no larger than asked, with overlaps no smaller: one shape only, so that
        every tile batches with every other.
    **axes : (size, overlap) or (size, overlap, min_size) or None
        In pixel-side units (pixels, frames, samples), whether one decodes or encodes: multiples of the axis' factor.
        A tile of n latents is written as n * factor also on a causal axis. A last tile shorter than `min_size` grows
        leftward. None, or a name left out, leaves that axis whole.

    Raises
    ------
    PlanError
        If a number is not an integer or out of range. Whether sizes lie on the grid, and names exist, is checked when a
        plan is made.

    Examples
    --------
    >>> Tiling(frames=(64, 24), height=(512, 64), width=(768, 64))
    Tiling(frames=(64, 24), height=(512, 64), width=(768, 64))
    >>> Tiling.by_count(width=(3, 2), uniform=True)
    Tiling.by_count(width=(3, 2), uniform=True)
    """

    axes: tuple[AxisTiling, ...]
    uniform: bool

    def __init__(self, *, uniform: bool = False, **axes: tuple[int, ...] | None) -> None:
        rows = []
        for name, numbers in axes.items():
            if numbers is not None:
                size, overlap, least = _checked(name, numbers, "size")
                if overlap >= size:
                    msg = f"{name}: overlap must be smaller than the tile size, got overlap={overlap} with size={size}"
                    raise PlanError(msg)
                rows.append(AxisTiling(name, size, None, overlap, least))
        _set(self, tuple(rows), uniform)

    @classmethod
    def by_count(cls, *, uniform: bool = False, **axes: tuple[int, ...] | None) -> Self:
        """
        Cut axes into a given number of tiles.

        Parameters
        ----------
        uniform : bool
            As for `Tiling`.
        **axes : (count, overlap) or (count, overlap, min_size) or None
            Number of tiles; overlap and minimum size in **latent** cells.

        Returns
        -------
        Tiling
            The tiling.

        Raises
        ------
        PlanError
            If a number is not an integer or out of range.
        """
        rows = []
        for name, numbers in axes.items():
            if numbers is not None:
                count, overlap, least = _checked(name, numbers, "count")
                rows.append(AxisTiling(name, None, count, overlap, least))
        return cls.from_axes(tuple(rows), uniform=uniform)

    @classmethod
    def from_axes(cls, axes: tuple[AxisTiling, ...], *, uniform: bool = False) -> Self:
        """Make a tiling of checked requests."""
        self = cls.__new__(cls)
        _set(self, axes, uniform)
        return self

    @classmethod
    def fit(  # noqa: PLR0913  a budget has this many facts
        cls,
        shape: tuple[int, ...],
        *,
        geometry: Geometry,
        memory_bytes: int,
        channels: int = 3,
        itemsize: int = 4,
        decoder_bytes_per_cell: int = 0,
        tile_batch_size: int = 1,
        overlap_cells: int = 2,
        streaming: bool = False,
        most_elements: int | None = None,
        decoder_elements_per_cell: int = 0,
        most_work: int | None = None,
        decoder_work_per_cell: int = 0,
    ) -> Self:
        """
        Choose the tiling with the least work whose expected peak memory fits a budget, for decoding.

        Parameters
        ----------
        shape : tuple of int
            Shape of the latents.
        geometry : Geometry
            Their axes.
        memory_bytes : int
            Budget for the engine and one call of the decoder together.
        channels, itemsize, tile_batch_size, streaming
            As for `Plan.peak_bytes`.
        decoder_bytes_per_cell : int
            Working memory of the decoder for each output cell of a call (pixel or sample), measured or estimated from
            the model; 0 leaves it out.
        overlap_cells : int
            Overlap of neighbours in latents, on every axis that is cut.
        most_elements : int, optional
            Most elements of an array of a tile, where a device gets larger ones wrong: see `tilekit.backends.limits`.
        decoder_elements_per_cell : int
            Elements of the largest array inside the decoder for each output cell of a call; 0 looks at its result
            alone.
        most_work : int, optional
            Most multiply-adds of one operation of the decoder, where a driver ends longer ones: the `work` of
            `tilekit.backends.limits`.
        decoder_work_per_cell : int
            Multiply-adds of the heaviest operation inside the decoder for each output cell of a call.

        Returns
        -------
        Tiling
            Of those that fit, the one with the least redundant work, then the fewest tiles; without axes if the whole
            array fits.

        Raises
        ------
        PlanError
            If not even the smallest tiles fit.

        Examples
        --------
        >>> from tilekit import LTX2_VIDEO
        >>> Tiling.fit((1, 128, 16, 34, 60), geometry=LTX2_VIDEO, memory_bytes=6 << 30, decoder_bytes_per_cell=60)
        Tiling(height=(576, 64), width=(544, 64))
        """
        costs = Costs(
            channels,
            itemsize,
            tile_batch_size,
            streaming,
            decoder_bytes_per_cell,
            decoder_elements_per_cell=checked_integer(decoder_elements_per_cell),
            decoder_work_per_cell=checked_integer(decoder_work_per_cell),
        )
        most = {
            "most_elements": inf if most_elements is None else checked_integer(most_elements),
            "most_work": inf if most_work is None else checked_integer(most_work),
        }
        axes = fit(shape, geometry, costs, memory_bytes=memory_bytes, overlap_cells=overlap_cells, **most)
        return cls.from_axes(axes)

    def __repr__(self) -> str:
        by_count = any(row.count is not None for row in self.axes)
        arguments = [f"{row.name}={_arguments(row)}" for row in self.axes] + ["uniform=True"] * self.uniform
        return f"Tiling{'.by_count' if by_count else ''}({', '.join(arguments)})"


def _arguments(row: AxisTiling) -> tuple[int | None, ...]:
    first = row.size if row.count is None else row.count
    return (first, row.overlap) if row.min_size is None else (first, row.overlap, row.min_size)


def _set(tiling: Tiling, axes: tuple[AxisTiling, ...], uniform: bool) -> None:
    object.__setattr__(tiling, "axes", axes)
    object.__setattr__(tiling, "uniform", bool(uniform))


def _checked(name: str, numbers: object, first: str) -> tuple[int, int, int | None]:
    """Check the numbers of one axis; `first` names the first of them."""
    if not isinstance(numbers, tuple | list) or len(numbers) not in (2, 3):
        msg = f"{name}: give ({first}, overlap) or ({first}, overlap, min_size), got {numbers!r}"
        raise PlanError(msg)
    if not all(map(is_integer, numbers)):
        msg = f"{name}: {first} and overlap must be integers, got {numbers!r}"
        raise PlanError(msg)
    if numbers[0] < 1 or numbers[1] < 0 or (len(numbers) == 3 and numbers[2] < 1):
        msg = f"{name}: {first} (and min_size) must be at least 1 and overlap at least 0, got {tuple(numbers)}"
        raise PlanError(msg)
    first_number, overlap, *least = map(checked_integer, numbers)
    return first_number, overlap, least[0] if least else None
