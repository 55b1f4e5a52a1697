"""
The errors of tilekit; each is a built-in error as well.

    TilekitError
    ├── PlanError       (ValueError)  a tiling that cannot be planned for this shape
    ├── InputError      (ValueError)  an array that must not be decoded, such as one with NaN
    ├── TileShapeError  (ValueError)  a tile that came back in another shape than the plan says
    ├── BackendError    (TypeError)   something that is no array, or an array of the wrong library or kind
    └── HaloError       (ValueError)  a function that has no finite reach, or a probe that could not see it
"""

__all__ = ["BackendError", "HaloError", "InputError", "PlanError", "TileShapeError", "TilekitError"]


class TilekitError(Exception):
    """Every error that tilekit raises on purpose."""


class PlanError(TilekitError, ValueError):
    """The tiling, the shape and the geometry do not fit together."""


class InputError(TilekitError, ValueError):
    """The input array must not be processed, for instance because it holds NaN."""


class TileShapeError(TilekitError, ValueError):
    """A tile came back in a shape that the plan does not allow."""


class BackendError(TilekitError, TypeError):
    """A value is no array, or an array of another library or kind than expected."""


class HaloError(TilekitError, ValueError):
    """The reach of a function could not be measured, or it has none."""
